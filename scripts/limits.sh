#!/usr/bin/env bash
# Measures an idle broker with an empty log: time until it is ready, and resident memory. Fails above the limits.
#   scripts/limits.sh [RUNS]
# PUBG1_BINARY names another binary than target/release/pubg1. The slowest and the largest of all runs count.
set -euo pipefail
ready_ms_max=300
rss_kib_max=$((40 * 1024))
runs=${1:-5}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
binary=${PUBG1_BINARY:-$root/target/release/pubg1}
[[ -x $binary ]] || (cd "$root" && cargo build --locked --release)

directory=$(mktemp -d)
broker=
finish() {
    [[ -z $broker ]] || kill -KILL "$broker" 2>/dev/null || true
    rm -rf "$directory"
}
trap finish EXIT

now_ms() { local us=${EPOCHREALTIME/[.,]/}; echo "${us%???}"; }

slowest=0
largest=0
for ((run = 1; run <= runs; run++)); do
    began=$(now_ms)
    "$binary" broker --http 127.0.0.1:0 --data-dir "$directory/$run" >"$directory/$run.out" 2>"$directory/$run.log" &
    broker=$!
    url=
    until [[ -n $url ]]; do
        kill -0 "$broker" 2>/dev/null || { cat "$directory/$run.log" >&2; exit 1; }
        url=$(sed -n 's/^http=//p' "$directory/$run.out")
    done
    until curl -fs -o /dev/null "$url/readyz"; do
        kill -0 "$broker" 2>/dev/null || { cat "$directory/$run.log" >&2; exit 1; }
    done
    ready=$(($(now_ms) - began))
    # A few requests first: what every broker has served, and its worker threads have touched.
    for path in /health /metadata /topics /metrics /cluster; do curl -fs -o /dev/null "$url$path"; done
    rss=$(awk '/^VmRSS/ { print $2 }' "/proc/$broker/status")
    threads=$(awk '/^Threads/ { print $2 }' "/proc/$broker/status")
    echo "run $run: ready after $ready ms, $rss KiB resident, $threads threads"
    ((ready <= slowest)) || slowest=$ready
    ((rss <= largest)) || largest=$rss
    kill -TERM "$broker"
    wait "$broker"
    broker=
done
echo "slowest $slowest ms (limit $ready_ms_max), largest $largest KiB (limit $rss_kib_max)"
((slowest <= ready_ms_max && largest <= rss_kib_max))
