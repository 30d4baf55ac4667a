#!/usr/bin/env bash
# Measures four brokers beside their limits: many partitions created, a broker's idle processor time, every partition
# led again after a kill -9; then replicated produce beside a lone broker. Fails beyond the limits.
#   scripts/cluster-limits.sh [PARTITIONS]
# PUBG1_BINARY names another binary than target/release/pubg1. Ports are the base port 18000 and up, PUBG1_BASE_PORT
# names another. Nothing else should run on the machine.
set -euo pipefail
partitions=${1:-1000}
create_ms_max=30000
led_again_ms_max=3000
idle_percent_max=5
share_min_percent=25
base=18000
. "$(dirname "${BASH_SOURCE[0]}")/limits-lib.sh"

# Processor time of a process in hundredths of a second.
ticks() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$1/stat"; }

start_cluster 4 many
began=$(now_ms)
"$binary" --broker "$(url 0)" topic create many --partitions "$partitions" --replication-factor 3 >/dev/null
"$binary" --broker "$(url 0)" cluster wait --topic many --timeout 60s >/dev/null
verdict "$partitions partitions created, led and in sync" $(($(now_ms) - began)) ms "$create_ms_max"

pids=()
for n in 0 1 2 3; do pids+=("$(<"$directory/many/broker-$n/broker.pid")"); done
before=()
for pid in "${pids[@]}"; do before+=("$(ticks "$pid")"); done
timeout 10 tail --pid="$running" -f /dev/null || true
most=0
for n in 0 1 2 3; do
    used=$(($(ticks "${pids[$n]}") - before[n]))
    ((used <= most)) || most=$used
done
# Hundredths of a second in ten seconds are tenths of a percent of a core.
verdict "idle processor time of the busiest broker, of a core" $(((most + 5) / 10)) % "$idle_percent_max"

victim=$("$binary" --broker "$(url 0)" cluster controller -o json | python3 -c \
    'import json, sys; c = json.load(sys.stdin); print((c.get("controller", 0) + 1) % 4)')
survivor=$(url $(((victim + 1) % 4)))
kill -KILL "${pids[$victim]}"
began=$(now_ms)
until curl -fs "$survivor/cluster/health" | grep -q '"offline_partitions":0,' \
    && ! curl -fs "$survivor/topics/many/partitions" | grep -q "\"leader\":$victim,"; do
    kill -0 "$running"
done
verdict "every partition led again after a broker's death" $(($(now_ms) - began)) ms "$led_again_ms_max"
stop_cluster

python3 -c 'import sys; sys.stdout.write(("x" * 1023 + "\n") * 300000)' >"$directory/records"
rate() { # the best of three
    for _ in 1 2 3; do
        "$binary" --broker "$(url 0)" produce load "$directory/records" 2>&1 | sed -n 's/.* s (\([0-9]*\)\/s.*/\1/p'
    done | sort -n | tail -n 1
}
for flush in interval=50 quorum; do
    start_cluster 1 "one-$flush" --flush "$flush"
    "$binary" --broker "$(url 0)" topic create load --partitions 4 >/dev/null
    one=$(rate)
    stop_cluster
    start_cluster 3 "three-$flush" --flush "$flush"
    "$binary" --broker "$(url 0)" topic create load --partitions 4 --replication-factor 3 >/dev/null
    three=$(rate)
    stop_cluster
    share=$((100 * three / one))
    echo "log.flush = $flush: one broker $one records/s, three replicas on the same cores $three records/s: $share %"
    if [[ $flush != quorum ]] && ((share < share_min_percent)); then
        echo "that is less than $share_min_percent %"
        failed=1
    fi
done
exit "$failed"
