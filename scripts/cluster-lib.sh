# shellcheck shell=bash
# What the scripts share that disturb a cluster: finding its brokers, making sure that a process is one of them, and
# starting one again. Sourced, not run. Requires bash, python3 and curl.
set -euo pipefail

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
me=$(basename "$0")

fail() {
    echo "$me: $*" >&2
    exit 1
}

# The head of the calling script is its help: the comment below its first line.
help_text() {
    awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0"
    cat <<'TEXT'

Everywhere:
  --cluster-dir DIR   directory of the cluster, the --data-dir of `pubg1 cluster` [PUBG1_CLUSTER_DIR, else ./data]
  --data-dirs A,B,…   data directories of brokers that were started by hand
  -h, --help          this text
The program is the one that runs the brokers, or PUBG1_BINARY. Processes other than the brokers of these directories
are never touched. Exit codes: 0 done, 1 failed, 2 wrong arguments, 10 the cluster did not settle in time.
TEXT
}

wrong() {
    echo "$me: $*; --help says how it is used" >&2
    exit 2
}

cluster_dir=${PUBG1_CLUSTER_DIR:-data}
data_dirs=
arguments=()

# Takes the options that all scripts have; the rest is in `arguments`.
parse_common() {
    while (($# > 0)); do
        case $1 in
            -h | --help) help_text; exit 0 ;;
            --cluster-dir) cluster_dir=${2:?a directory}; shift 2 ;;
            --data-dirs) data_dirs=${2:?directories}; shift 2 ;;
            *) arguments+=("$1"); shift ;;
        esac
    done
}

is_number() { [[ $1 =~ ^[0-9]+$ ]]; }

# By the number of the broker: where its data are, where it serves, its log, its network namespace.
# shellcheck disable=SC2034 # the namespace is for cut-link
declare -A data_dir=() url=() log=() namespace=()
ids=()
# The network namespace from which clients reach the brokers; empty: this one.
client_namespace=
# The program of the brokers, as far as it is recorded.
recorded_program=

# Reads cluster.json, or the files that brokers leave in their data directories.
find_cluster() {
    local found id dir where_log where_url space
    found=$(python3 - "$cluster_dir" "$data_dirs" <<'PYTHON'
import glob, json, os, sys

cluster_dir, data_dirs = sys.argv[1:]


def text(path):
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def say(*fields):
    # A unit separator, because bash drops empty fields between tabs.
    print("\x1f".join(str(field) for field in fields))


state = os.path.join(cluster_dir, "cluster.json")
if not data_dirs and os.path.exists(state):
    with open(state) as file:
        cluster = json.load(file)
    say("client", cluster.get("client_namespace") or "")
    say("program", cluster["brokers"][0]["command"][0])
    for broker in cluster["brokers"]:
        say("broker", broker["id"], broker["data_dir"], broker["http"], broker["log"], broker.get("namespace") or "")
else:
    for directory in data_dirs.split(",") if data_dirs else sorted(glob.glob(os.path.join(cluster_dir, "broker-*"))):
        identity = text(os.path.join(directory, "broker.json"))
        if identity:
            number = json.loads(identity)["broker_id"]
            address = text(os.path.join(directory, "http.addr"))
            path = os.path.realpath(directory)
            say("broker", number, path, address, os.path.join(path, "broker.log"), "")
            command = text(os.path.join(directory, "broker.command"))
            if command:
                say("program", json.loads(command)["command"][0])
PYTHON
    ) || fail "cannot read what is in $cluster_dir"
    while IFS=$'\x1f' read -r kind id dir where_url where_log space; do
        case $kind in
            client) client_namespace=$id ;;
            program) recorded_program=$id ;;
            broker)
                ids+=("$id")
                # shellcheck disable=SC2034 # the namespace is for cut-link
                data_dir[$id]=$dir url[$id]=$where_url log[$id]=$where_log namespace[$id]=$space
                ;;
        esac
    done <<<"$found"
    ((${#ids[@]} > 0)) || fail "there is no cluster in $cluster_dir (see --help: PUBG1_CLUSTER_DIR, --data-dirs)"
}

# Whether this process is the broker of this data directory, however it was started: it runs `pubg1 broker`, and it
# holds the lock file of the directory open.
is_broker_of() {
    local pid=$1 dir=$2 words
    [[ -r /proc/$pid/cmdline ]] || return 1
    mapfile -d '' -t words <"/proc/$pid/cmdline" || return 1
    [[ ${words[1]:-} == broker ]] || return 1
    [[ $(basename "$(readlink "/proc/$pid/exe")" ' (deleted)') == pubg1* ]] || return 1
    find "/proc/$pid/fd" -maxdepth 1 -type l -printf '%l\n' 2>/dev/null | grep -xF -- "$dir/.lock" >/dev/null
}

# Prints the process of a broker; fails when it does not run.
pid_of() {
    local id=$1 pid
    pid=$(cat "${data_dir[$id]}/broker.pid" 2>/dev/null) || return 1
    is_number "$pid" && is_broker_of "$pid" "${data_dir[$id]}" && echo "$pid"
}

known() {
    is_number "$1" && [[ -n ${data_dir[$1]:-} ]] || fail "there is no broker $1; there are: ${ids[*]}"
}

require_pid() {
    known "$1"
    pid_of "$1" || fail "broker $1 does not run"
}

# The program of the brokers, so that client and server are of one kind.
find_program() {
    [[ -z ${PUBG1_BINARY:-} ]] || { echo "$PUBG1_BINARY"; return; }
    local id pid path
    for id in "${ids[@]}"; do
        pid=$(pid_of "$id") || continue
        path=$(readlink "/proc/$pid/exe")
        path=${path% (deleted)}
        [[ ! -x $path ]] || { echo "$path"; return; }
    done
    if [[ -x $recorded_program ]]; then echo "$recorded_program"; return; fi
    command -v pubg1 || echo "$scripts/../target/release/pubg1"
}

in_client_namespace() {
    if [[ -n $client_namespace ]]; then ip netns exec "$client_namespace" "$@"; else "$@"; fi
}

# URLs of the brokers that run, without the one that is named.
urls_without() {
    local id list=()
    for id in "${ids[@]}"; do
        [[ $id == "${1:-}" || -z ${url[$id]} ]] || ! pid_of "$id" >/dev/null || list+=("${url[$id]}")
    done
    local IFS=,
    echo "${list[*]}"
}

# pubg1 against the brokers that run, without the one that is named first (`-`: all of them).
ask_without() {
    local urls
    urls=$(urls_without "$1")
    [[ -n $urls ]] || fail "no broker of the cluster runs that could be asked"
    shift
    in_client_namespace "$program" --broker "$urls" "$@"
}

# A member of a JSON document: `field LIST.NAME`. Nothing for null.
field() {
    python3 -c '
import json, sys
value = json.load(sys.stdin)
for name in sys.argv[1].split("."):
    value = value[int(name)] if isinstance(value, list) else value[name]
print("" if value is None else value)' "$1"
}

# TOPIC and PARTITION from the arguments: `flights 0`, `flights/0`, or the first partition of the default topic.
partition_name() {
    local topic=${1:-pubg1} partition=${2:-0}
    if [[ $topic == */* ]]; then
        echo "$topic"
    else
        echo "$topic/$partition"
    fi
}

# Seconds, with a fraction or not, as milliseconds.
to_ms() {
    [[ $1 =~ ^[0-9]+([.][0-9]+)?$ ]] || wrong "$1 is no number of seconds"
    python3 -c 'import sys; print(round(float(sys.argv[1]) * 1000))' "$1"
}

now_ms() { date +%s%3N; }

# A broker that was started by hand is started again as it was; what was recorded in cluster.json stays true by itself.
remember() {
    local id=$1 pid=$2
    [[ -f $cluster_dir/cluster.json && -z $data_dirs ]] && return
    python3 - "$pid" "${data_dir[$id]}/broker.command" <<'PYTHON'
import json, os, sys

pid, path = sys.argv[1:]
with open(f"/proc/{pid}/cmdline", "rb") as file:
    words = [word.decode() for word in file.read().split(b"\0")[:-1]]
with open(f"/proc/{pid}/environ", "rb") as file:
    pairs = [pair.decode().split("=", 1) for pair in file.read().split(b"\0") if pair.startswith(b"PUBG1_")]
words[0] = os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
document = {"command": words, "working_directory": os.readlink(f"/proc/{pid}/cwd"), "environment": dict(pairs)}
with open(path + ".new", "w") as file:
    json.dump(document, file)
os.replace(path + ".new", path)
PYTHON
}

# Kills a broker and tells what the cluster does.
kill_and_watch() {
    local id=$1 pid
    pid=$(require_pid "$id")
    remember "$id" "$pid"
    echo "kill -9 $pid: broker $id at ${url[$id]}"
    local survivors
    survivors=$(urls_without "$id")
    if [[ -z $survivors ]]; then
        kill -KILL "$pid"
        echo "no other broker runs: nobody can take over"
        return
    fi
    in_client_namespace "$program" --broker "$survivors" cluster observe --without "$id" -- kill -KILL "$pid"
}

# Waits until a process has ended; fails after so many seconds.
wait_ended() {
    local pid=$1 dir=$2 deadline=$((SECONDS + $3))
    while is_broker_of "$pid" "$dir"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.02
    done
}

launcher_runs() {
    local pid words
    [[ -f $cluster_dir/cluster.json && -z $data_dirs ]] || return 1
    pid=$(field launcher_pid <"$cluster_dir/cluster.json" 2>/dev/null) && is_number "$pid" || return 1
    [[ -r /proc/$pid/cmdline ]] && mapfile -d '' -t words <"/proc/$pid/cmdline" || return 1
    [[ " ${words[*]} " == *" cluster "* && $(readlink "/proc/$pid/exe") == *pubg1* ]]
}

# Starts a broker that does not run. Its launcher does it, if there is one: then the broker ends with it as before.
start_broker() {
    local id=$1 began
    began=$(now_ms)
    if launcher_runs; then
        : >"$cluster_dir/start-$id"
        echo "broker $id: its launcher starts it again"
    else
        start_by_command "$id"
    fi
    wait_ready "$id" || fail "broker $id is not ready; its log: ${log[$id]}"
    echo "broker $id is ready after $(($(now_ms) - began)) ms, process $(pid_of "$id")"
}

# Waits until a broker runs and says that it is ready.
wait_ready() {
    local id=$1 deadline=$((SECONDS + 60))
    # With port 0 it has another address each time, and has written it before its process id.
    until pid_of "$id" >/dev/null && url[$id]=$(cat "${data_dir[$id]}/http.addr" 2>/dev/null) &&
        in_client_namespace curl -fs -o /dev/null --max-time 2 "${url[$id]}/readyz"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.02
    done
}

start_by_command() {
    local id=$1 record="$cluster_dir/cluster.json" words
    [[ -f $record && -z $data_dirs ]] || record=${data_dir[$id]}/broker.command
    [[ -f $record ]] || fail "how broker $id was started is not known: no $record"
    # The working directory, variables as NAME=VALUE for env, and the command; nothing that ties it to a launcher.
    mapfile -d '' -t words < <(python3 - "$record" "$id" <<'PYTHON'
import json, sys

record, number = sys.argv[1:]
with open(record) as file:
    document = json.load(file)
for broker in document.get("brokers", []):
    if broker["id"] == int(number):
        document = {**document, **broker}
words = [word for word in document["command"] if word != "--exit-with-stdin"]
variables = [f"{name}={value}" for name, value in document.get("environment", {}).items()]
space = document.get("namespace")
prefix = ["ip", "netns", "exec", space] if space else []
sys.stdout.write("".join(f"{word}\0" for word in [document["working_directory"], *prefix, "env", *variables, *words]))
PYTHON
    )
    ((${#words[@]} > 2)) || fail "cannot read $record"
    mkdir -p "${data_dir[$id]}"
    # Its own session: it outlives this script and the terminal.
    (cd "${words[0]}" && exec setsid nohup "${words[@]:1}" >>"${log[$id]}" 2>&1 </dev/null) &
    echo "broker $id is started: ${words[*]:1}"
}

# Finds the cluster and the program. Every script begins with this.
begin() {
    parse_common "$@"
    find_cluster
    program=$(find_program)
    [[ -x $program ]] || fail "there is no $program; PUBG1_BINARY names another one"
}
