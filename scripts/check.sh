#!/usr/bin/env bash
# What continuous integration checks: all steps, or the ones named.
#   scripts/check.sh [STEP...]     scripts/check.sh --list
# It changes no tracked file. What it downloads or writes goes under target/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools=$PWD/target/check-tools

step_fmt() { cargo fmt --all -- --check; }

# The clients of other systems are features that nothing else here compiles; librdkafka in C is left out.
step_clippy() {
    cargo clippy --locked --workspace --all-targets -- -D warnings
    cargo clippy --locked --package pubg1-bench --features nats,rabbitmq,redis --all-targets -- -D warnings
}

# Private items are documented too, so links to them lead somewhere.
step_doc() {
    RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" \
        cargo doc --locked --workspace --no-deps --document-private-items
}

# The crate's own tests, tidy among them.
step_test() { cargo test --locked --workspace; }

step_build() { cargo build --locked --release; }

# What README and docs tell to type works, and prints what they say.
step_documents() { scripts/run-documents; }

# README's first command. It fails when a record is lost.
step_demo() { cargo run --locked --release -- demo; }

step_scripts() {
    scripts/install-check-tools.sh python-tools
    local scripts
    # Some have no ending: they are commands.
    mapfile -t scripts < <(grep -lE '^#!/usr/bin/env bash|^# shellcheck shell=bash' scripts/*)
    "$tools/venv/bin/shellcheck" --external-sources --source-path=SCRIPTDIR .ci/run "${scripts[@]}"
    # The systems that scripts/compare measures are not here; what it makes of its measurements is.
    python3 -B -m unittest discover --start-directory scripts --pattern '*_test.py'
}

step_rules() {
    scripts/install-check-tools.sh promtool
    "$tools/bin/promtool" check config metrics/dashboards/prometheus.yml
    "$tools/bin/promtool" check rules metrics/dashboards/alerts.yml
    "$tools/bin/promtool" test rules metrics/dashboards/alerts.test.yml
}

# The exposition of a broker that has served something, as Prometheus' own checker sees it.
step_metrics() {
    scripts/install-check-tools.sh promtool
    # shellcheck disable=SC2016 # expanded by the inner shell
    scripts/with-broker.sh bash -euo pipefail -c '
        curl -fsS -o /dev/null -H "content-type: application/json" \
            -d "{\"partition\":0,\"key\":\"k\",\"value\":1}" "$PUBG1_BROKER/publish"
        curl -fsS -o /dev/null "$PUBG1_BROKER/consume?partition=0&offset=0"
        curl -fsS "$PUBG1_BROKER/metrics" >"$PUBG1_TEST_DIR/metrics.txt"
        grep -q "^pubg1_requests_total{api=\"publish\",code=\"200\"} 1$" "$PUBG1_TEST_DIR/metrics.txt"
        "$0" check metrics <"$PUBG1_TEST_DIR/metrics.txt"
        echo "$(grep -vc "^#" "$PUBG1_TEST_DIR/metrics.txt") series pass promtool check metrics"

        # kafka_exporter names two gauges as only parts of histograms should be named; nothing else may be found.
        curl -fsS -o /dev/null -H "content-type: application/json" \
            -d "{\"partition\":0,\"group_id\":\"g\",\"offset\":1}" "$PUBG1_BROKER/commit_offset"
        curl -fsS "$PUBG1_BROKER/metrics/kafka" >"$PUBG1_TEST_DIR/kafka.txt"
        grep -q "^kafka_consumergroup_lag_sum{consumergroup=\"g\",topic=\"pubg1\"} 0$" "$PUBG1_TEST_DIR/kafka.txt"
        found=$("$0" check metrics <"$PUBG1_TEST_DIR/kafka.txt" 2>&1 || true)
        said="non-histogram and non-summary metrics should not have \"_sum\" suffix"
        wanted=$(printf "%s $said\n" kafka_consumergroup_current_offset_sum kafka_consumergroup_lag_sum)
        diff <(echo "$wanted") <(echo "$found")
        echo "$(grep -vc "^#" "$PUBG1_TEST_DIR/kafka.txt") series of /metrics/kafka pass it, but for names with _sum"
    ' "$tools/bin/promtool"
}

# Requests made from the API's own description; the seed makes a failure repeatable.
step_api() {
    scripts/install-check-tools.sh python-tools
    # shellcheck disable=SC2016 # expanded by the inner shell
    scripts/with-broker.sh bash -euo pipefail -c '
        exec "$0" --config-file scripts/api-check.toml run "$PUBG1_BROKER/openapi.json" --url "$PUBG1_BROKER"
    ' "$tools/venv/bin/schemathesis"
}

# Window queries over the demo's flights and over NEXMark's events, row by row beside DuckDB.
step_streams() {
    scripts/install-check-tools.sh python-tools
    # A binary that lies there may be of another state of the sources.
    [[ -n ${PUBG1_TEST_BINARY:-} ]] || step_build
    "$tools/venv/bin/python" scripts/streams-vs-duckdb
    [[ -n ${PUBG1_TEST_NEXMARK:-} ]] || cargo build --locked --release --package pubg1-nexmark
    "$tools/venv/bin/python" scripts/nexmark-vs-duckdb --events 100000
}

# Reports in a browser: no error, no request, every plot there, no word over another one.
step_browser() {
    if [[ -z $(type -P chromium chromium-browser google-chrome) ]]; then
        echo "browser: SKIPPED: Chromium is not installed (Debian: apt-get install chromium), so no report was looked at"
        return
    fi
    scripts/install-check-tools.sh browser-tools
    [[ -n ${PUBG1_TEST_BINARY:-} ]] || step_build
    local binary=${PUBG1_TEST_BINARY:-target/release/pubg1} made=$PWD/target/report-samples name
    rm -rf "$made"
    cargo run --locked --quiet --package pubg1-bench --example sample-reports -- "$made"
    for name in drill repeated-drill ramp; do
        "$binary" report "$made/$name.json" --html "$made/$name.html" >/dev/null
    done
    "$binary" report "$made"/{one,other,third}.json --html "$made/compared.html" >/dev/null
    "$tools/browser/bin/python" scripts/report-in-browser "$made"/*.html "$made"/*.svg --screenshots "$made/screenshots"
}

# Every panel of every dashboard in a real Prometheus, beside a cluster that loses a broker.
step_dashboards() {
    [[ -n ${PUBG1_TEST_BINARY:-} ]] || step_build
    scripts/dashboards-in-prometheus
}

# What deploy/ says, and its brokers without containers.
step_deploy() {
    scripts/install-check-tools.sh promtool python-tools
    [[ -n ${PUBG1_TEST_BINARY:-} ]] || step_build
    "$tools/venv/bin/python" scripts/check-deploy
}

# The same as in the image: a static binary in an empty root directory. Not among the usual steps: it links twice.
step_static() {
    if ((EUID != 0)); then
        echo "static: NOT RUN: an empty root directory needs root" >&2
        return 1
    fi
    scripts/install-check-tools.sh promtool python-tools
    # Only the last link differs; it takes the place of the other binary for a moment.
    cargo rustc --locked --release --bin pubg1 -- -C target-feature=+crt-static
    cp target/release/pubg1 "$tools/pubg1-static"
    "$tools/venv/bin/python" scripts/check-deploy --static "$tools/pubg1-static"
    step_build
}

# Advisories need cargo-deny and its database, which take longer to install than all of the rest to run.
step_deny() {
    if cargo deny --version >/dev/null 2>&1; then
        cargo deny --locked check
    else
        echo "cargo-deny is not installed: advisories are not checked (licences and bans are, by tests/tidy.rs)"
    fi
}

steps=(fmt scripts rules clippy doc test build documents metrics api streams browser demo dashboards deploy deny)

if [[ ${1:-} == --list ]]; then
    printf '%s\n' "${steps[@]}"
    exit 0
fi
(($# == 0)) || steps=("$@")

began=$SECONDS
for step in "${steps[@]}"; do
    if ! declare -F "step_$step" >/dev/null; then
        echo "check.sh: there is no step '$step'; scripts/check.sh --list names them" >&2
        exit 2
    fi
    echo "== $step"
    step_began=$SECONDS
    # Not in a condition, where bash would go on after an error inside of the step.
    trap 'echo "== $step FAILED after $((SECONDS - step_began)) s" >&2' EXIT
    "step_$step"
    trap - EXIT
    echo "== $step ok ($((SECONDS - step_began)) s)"
done
echo "== all ${#steps[@]} steps ok ($((SECONDS - began)) s)"
