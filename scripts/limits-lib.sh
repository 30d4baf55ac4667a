# shellcheck shell=bash
# What the scripts share that measure a cluster beside limits: the binary, ports, a cluster that ends with the script,
# and the verdict. Sourced, with the first port in `base`; PUBG1_BASE_PORT names another, PUBG1_BINARY another binary
# than target/release/pubg1.
set -euo pipefail

base=${PUBG1_BASE_PORT:-$base}
# A broker refuses variables of this kind that it does not know.
unset PUBG1_BASE_PORT
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
binary=${PUBG1_BINARY:-$root/target/release/pubg1}
[[ -x $binary ]] || (cd "$root" && cargo build --locked --release)

directory=$(mktemp -d)
running=
# shellcheck disable=SC2317,SC2329 # called by the trap
finish() {
    if [[ -n $running ]]; then
        kill -TERM "$running" 2>/dev/null || true
        wait "$running" 2>/dev/null || true
    fi
    rm -rf "$directory"
}
trap finish EXIT

now_ms() { local us=${EPOCHREALTIME/[.,]/}; echo "${us%???}"; }
url() { echo "http://127.0.0.1:$((base + $1))"; }

start_cluster() { # BROKERS NAME ARGUMENT...
    local brokers=$1 name=$2
    shift 2
    "$binary" cluster --brokers "$brokers" --base-port "$base" --data-dir "$directory/$name" "$@" \
        >"$directory/$name.out" 2>&1 &
    running=$!
    until "$binary" --broker "$(url 0)" cluster wait --brokers "$brokers" --timeout 2s >/dev/null 2>&1; do
        kill -0 "$running" 2>/dev/null || { cat "$directory/$name.out" >&2; exit 1; }
    done
}

stop_cluster() {
    kill -TERM "$running"
    wait "$running" || true
    running=
}

failed=0
verdict() { # WHAT VALUE UNIT LIMIT
    local ok=ok
    # shellcheck disable=SC2034 # the scripts exit with it
    (($2 <= $4)) || { ok="above the limit" failed=1; }
    echo "$1: $2 $3 (limit $4): $ok"
}
