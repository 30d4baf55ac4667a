#!/usr/bin/env bash
# Runs a command beside a broker of its own: free ports, temporary data, ended afterwards.
#   scripts/with-broker.sh COMMAND [ARGUMENT...]
# The command finds PUBG1_URL and PUBG1_DIR (a directory that is removed). PUBG1_BINARY names another binary than
# target/release/pubg1. The exit code is the command's, or 1 when the broker did not end cleanly.
set -euo pipefail
(($# > 0)) || { sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

binary=${PUBG1_BINARY:-$root/target/release/pubg1}
[[ -x $binary ]] || (cd "$root" && cargo build --locked --release)

PUBG1_DIR=$(mktemp -d)
broker=
finish() {
    local code=$?
    if [[ -n $broker ]] && kill -TERM "$broker" 2>/dev/null; then
        # A broker that does not drain is ended the hard way, and that is a failure.
        timeout 20 tail --pid="$broker" -f /dev/null || kill -KILL "$broker" 2>/dev/null || true
    fi
    if [[ -n $broker ]] && ! wait "$broker"; then
        echo "with-broker: the broker did not end cleanly" >&2
        ((code)) || code=1
    fi
    if ((code)); then
        echo "with-broker: the end of the broker's log:" >&2
        tail -n 40 "$PUBG1_DIR/broker.log" >&2 || true
    fi
    rm -rf "$PUBG1_DIR"
    exit "$code"
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Two ports that are free together. Another process may take one before the broker does; then the broker says so.
read -r http rpc < <(python3 -c '
import socket
taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in taken))')

"$binary" broker --http "127.0.0.1:$http" --rpc "127.0.0.1:$rpc" --data-dir "$PUBG1_DIR/data" \
    >"$PUBG1_DIR/broker.log" 2>&1 &
broker=$!

export PUBG1_DIR PUBG1_URL=http://127.0.0.1:$http
# A broker that has died ends the wait at once.
deadline=$((SECONDS + 30))
until curl -fs -o /dev/null --max-time 2 "$PUBG1_URL/readyz"; do
    if ! kill -0 "$broker" 2>/dev/null || ((SECONDS > deadline)); then
        echo "with-broker: the broker did not become ready" >&2
        exit 1
    fi
    sleep 0.1
done

"$@"
