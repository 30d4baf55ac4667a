#!/usr/bin/env bash
# The tests of the log under AddressSanitizer: a slice that outlives its map, or a write beside it,
# ends the run. Needs a nightly toolchain.
#   scripts/asan.sh [TEST NAME...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The target is named so that build scripts and macros are built without the sanitizer.
export RUSTFLAGS=-Zsanitizer=address
exec cargo +nightly test --locked -p pubg1-storage --lib --target x86_64-unknown-linux-gnu \
    --target-dir target/asan -- "$@"
