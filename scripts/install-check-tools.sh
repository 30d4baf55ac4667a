#!/usr/bin/env bash
# Puts the tools of scripts/check.sh under target/check-tools, where they disturb nobody: promtool out of Debian's
# `prometheus` package (unpacked, not installed, so that no daemon starts), schemathesis, shellcheck and duckdb from PyPI
# into an environment of their own. Does nothing when they are there.
# Playwright, which drives a browser, has an environment of its own: only who has the browser needs it.
#   scripts/install-check-tools.sh promtool|python-tools|browser-tools...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools=$PWD/target/check-tools
mkdir -p "$tools/bin"

install_promtool() {
    [[ -x $tools/bin/promtool ]] && return
    local installed
    if installed=$(type -P promtool); then
        ln -s "$installed" "$tools/bin/promtool"
        return
    fi
    if ! command -v apt-get >/dev/null; then
        echo "install-check-tools: put promtool 2.42 or newer on the PATH; it is part of Prometheus" >&2
        return 1
    fi
    local unpack=$tools/promtool.unpack
    rm -rf "$unpack" && mkdir "$unpack"
    (
        cd "$unpack"
        apt-cache show prometheus >/dev/null 2>&1 || as_root apt-get -qq update
        # The list may name a version that the archive has replaced since.
        apt-get -qq download prometheus || { as_root apt-get -qq update && apt-get -qq download prometheus; }
        dpkg-deb --extract prometheus_*.deb .
    )
    mv "$unpack/usr/bin/promtool" "$tools/bin/promtool"
    rm -rf "$unpack"
}

# An environment of this name with what this file lists.
install_environment() {
    local venv=$tools/$1 wanted=$2
    cmp -s "$wanted" "$venv/installed.txt" && return
    rm -rf "$venv"
    local python
    for python in python3 /usr/bin/python3; do
        "$python" -m venv "$venv" 2>/dev/null && break
    done
    if [[ ! -x $venv/bin/pip ]]; then
        rm -rf "$venv"
        as_root apt-get -qq update
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -y python3-venv
        /usr/bin/python3 -m venv "$venv"
    fi
    "$venv/bin/pip" --disable-pip-version-check --quiet install --requirement "$wanted"
    cp "$wanted" "$venv/installed.txt"
}

as_root() {
    if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

for tool in "$@"; do
    case $tool in
        promtool) install_promtool ;;
        python-tools) install_environment venv scripts/check-requirements.txt ;;
        browser-tools) install_environment browser scripts/browser-requirements.txt ;;
        *)
            echo "install-check-tools: unknown tool '$tool'" >&2
            exit 2
            ;;
    esac
done
