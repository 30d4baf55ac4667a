#!/usr/bin/env bash
# Runs a command beside a broker of its own: a free port, temporary data, ended in order afterwards.
#   scripts/with-broker.sh COMMAND [ARGUMENT...]
# The command finds the broker's URL in PUBG1_BROKER, where `pubg1` looks for it too, and a directory that is removed
# at the end in PUBG1_TEST_DIR. PUBG1_TEST_BINARY names another binary than target/release/pubg1.
# The exit code is the command's, or 1 when the broker did not become ready or did not end cleanly.
set -euo pipefail
(($# > 0)) || { sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

binary=${PUBG1_TEST_BINARY:-$root/target/release/pubg1}
[[ -x $binary ]] || (cd "$root" && cargo build --locked --release)

PUBG1_TEST_DIR=$(mktemp -d)
broker=

# shellcheck disable=SC2317 # called by the trap
finish() {
    local code=$? watchdog ended=0
    if [[ -n $broker ]]; then
        kill -TERM "$broker" 2>/dev/null || true
        # A broker that does not drain is ended the hard way; then its exit code says so.
        { timeout 20 tail --pid="$broker" -f /dev/null || kill -KILL "$broker"; } >/dev/null 2>&1 &
        watchdog=$!
        wait "$broker" || ended=$?
        wait "$watchdog" 2>/dev/null || true
        if ((ended)); then
            echo "with-broker: the broker ended with code $ended" >&2
            ((code)) || code=1
        fi
    fi
    if ((code)); then
        echo "with-broker: the end of the broker's log:" >&2
        tail -n 40 "$PUBG1_TEST_DIR/broker.log" >&2 || true
    fi
    rm -rf "$PUBG1_TEST_DIR"
    exit "$code"
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

"$binary" broker --http 127.0.0.1:0 --data-dir "$PUBG1_TEST_DIR/data" \
    >"$PUBG1_TEST_DIR/address" 2>"$PUBG1_TEST_DIR/broker.log" &
broker=$!

# It says where it listens in one line, `http=URL`, and is ready when it has recovered its logs.
deadline=$((SECONDS + 30))
until PUBG1_BROKER=$(sed -n 's/^http=//p' "$PUBG1_TEST_DIR/address") && [[ -n $PUBG1_BROKER ]] &&
    curl -fs -o /dev/null --max-time 2 "$PUBG1_BROKER/readyz"; do
    if ! kill -0 "$broker" 2>/dev/null || ((SECONDS > deadline)); then
        echo "with-broker: the broker did not become ready" >&2
        exit 1
    fi
    sleep 0.1
done
export PUBG1_TEST_DIR PUBG1_BROKER

"$@"
