#!/usr/bin/env bash
# Measures four brokers that coordinate many groups beside their limits: the processor time that the heartbeats of all
# members cost a broker, and how soon the groups of a coordinator that was killed are served again; then how long a
# broker takes to load 100,000 committed offsets. Fails beyond the limits.
#   scripts/group-limits.sh [GROUPS [MEMBERS]]
# PUBG1_BINARY names another binary than target/release/pubg1. Ports are the base port 18400 and up, PUBG1_BASE_PORT
# names another. Nothing else should run on the machine.
set -euo pipefail
groups=${1:-1000}
members=${2:-4}
heartbeat_percent_max=10
served_again_ms_max=3000
load_ms_max=1000
base=18400
. "$(dirname "${BASH_SOURCE[0]}")/limits-lib.sh"

start_cluster 4 data
"$binary" --broker "$(url 0)" topic create beats --partitions 4 --replication-factor 3 >/dev/null
"$binary" --broker "$(url 0)" cluster wait --topic beats >/dev/null

brokers=()
for n in 0 1 2 3; do brokers+=("$(url "$n")=$(<"$directory/data/broker-$n/broker.pid")"); done
measured=$(python3 "$root/scripts/group-members.py" "$groups" "$members" 20 "${brokers[@]}")
field() { python3 -c "import json, sys; m = json.loads(sys.argv[1]); print($1)" "$measured"; }
echo "$groups groups of $members members joined in $(field 'm["joined_ms"]') ms"
echo "$(field 'm["heartbeats_per_second"]') heartbeats/s; a broker, in percent of a core: $(field 'm["beating_percent"]')," \
    "without them $(field 'm["silent_percent"]')"
cost=$(field 'round(max(b - s for b, s in zip(m["beating_percent"], m["silent_percent"])))')
verdict "heartbeats of all members, the busiest broker, of a core" "$cost" % "$heartbeat_percent_max"

group() { "$binary" --broker "$(url "$1")" -o json group describe "$2"; }
victim=$(group 0 g0 | python3 -c 'import json, sys; print(json.load(sys.stdin)["coordinator"])')
survivor=$(((victim + 1) % 4))
kill -KILL "$(<"$directory/data/broker-$victim/broker.pid")"
began=$(now_ms)
until group "$survivor" g0 2>/dev/null | grep -q '"state": "Stable"'; do kill -0 "$running"; done
verdict "a group served again after its coordinator's death" $(($(now_ms) - began)) ms "$served_again_ms_max"
left=$(group "$survivor" g0 | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["members"]))')
((left == members)) || { echo "the group has $left members, not $members"; failed=1; }
stop_cluster

start_broker() {
    rm -f "$directory/one/http.addr"
    "$binary" broker --http "127.0.0.1:$base" --data-dir "$directory/one" >/dev/null 2>"$directory/one.log" &
    running=$!
    until [[ -f $directory/one/http.addr ]] && curl -fs "$(url 0)/readyz" >/dev/null; do kill -0 "$running"; done
}
groups=1000 partitions=100
start_broker
"$binary" --broker "$(url 0)" topic create wide --partitions "$partitions" >/dev/null
# All of these names belong to one partition of the offsets topic, which is read at once.
mapfile -t names < <(python3 - "$groups" <<'PYTHON'
import itertools, sys
def java_hash(name):
    value = 0
    for byte in name.encode():
        value = (31 * value + byte) & 0xffffffff
    return value - (1 << 32) if value >> 31 else value
names = (f"o{n}" for n in itertools.count())
print(*itertools.islice((name for name in names if abs(java_hash(name)) % 16 == 0), int(sys.argv[1])), sep="\n")
PYTHON
)
python3 -c 'import json, sys; print(json.dumps({"offsets": [{"topic": "wide", "partition": p, "offset": 0} for p in range(int(sys.argv[1]))]}))' \
    "$partitions" >"$directory/offsets.json"
for name in "${names[@]}"; do
    curl -fsS --retry 20 "$(url 0)/groups/$name/commits" -H 'content-type: application/json' -d "@$directory/offsets.json"
done
kill -KILL "$running"
wait "$running" 2>/dev/null || true
start_broker
count=0
for name in "${names[@]}"; do
    until curl -fs "$(url 0)/groups/$name/offsets" >"$directory/read.json"; do kill -0 "$running"; done
    count=$((count + $(python3 -c 'import json, sys; print(len(json.load(sys.stdin)["offsets"]))' <"$directory/read.json")))
done
((count == groups * partitions)) || { echo "$count offsets are there of $((groups * partitions))"; failed=1; }
# Of all partitions of the offsets topic together, waiting until each may be read included: one alone took no longer.
load_ms=$(curl -fs "$(url 0)/metrics" | awk '/^pubg1_group_load_duration_seconds_sum/ { printf "%.0f", $NF * 1000 }')
verdict "$count committed offsets of one partition are read, with all else, in" "$load_ms" ms "$load_ms_max"
exit "$failed"
