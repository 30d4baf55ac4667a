#!/usr/bin/env bash
# Runs README's quick start against the broker at PUBG1_BROKER and compares what it prints with what README says.
#   scripts/with-broker.sh scripts/run-quick-start.sh
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PATH=$root/target/release:$PATH
: "${PUBG1_BROKER:?run this through scripts/with-broker.sh}"

section=$(awk '/^## /{on = ($0 == "## Quick start")} /^```/{code = on && $0 == "```sh"; next} code' "$root/README.md")
# The broker is there already, and an event stream does not end by itself.
commands=$(sed -e '/^cargo build/d; /^pubg1 broker/d; /^#/d' -e "s#localhost:8000#${PUBG1_BROKER#http://}#g" \
    -e "s/^curl -sN.*/timeout 2 & || ((\$? == 124))/" <<<"$section")
[[ $commands == *publish* ]] || { echo "run-quick-start: README's quick start was not found" >&2; exit 1; }

output=$(bash -euo pipefail -c "$commands")
printf '%s\n' "$output"

while read -r expected; do
    if ! grep -qxF -- "$expected" <<<"$output"; then
        echo "run-quick-start: README promises this line, and it was not printed: $expected" >&2
        exit 1
    fi
done < <(sed -n 's/ *#= //p' <<<"$section")
