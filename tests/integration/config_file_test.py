"""Configuration files, each given to etcd 3.7 and to Cairn: both take it, or both refuse it with the same reason. And
every flag of etcd over the command line, its variable and a file has the same effect: the fields of the line "starting
an etcd server".

The client address is taken, so a start whose configuration is accepted ends there and nothing is written.
"""

import concurrent.futures
import json
import os
import re
import socket
import subprocess

import harness

TAKEN = "address already in use"

# Each is a file; the addresses are added before it.
YAML = [
    "", "name: 5", "name: [a]", "name: {a: b}", "name: true", "name: ~", "name: 'x'", "NAME: x", "Name: 3",
    "snapshot-count: -1", "snapshot-count: 1.5", "snapshot-count: x", "snapshot-count: 1e3", "snapshot-count: .5",
    "snapshot-count: 0x1_0", "snapshot-count: 0o17", "snapshot-count: 010", "snapshot-count: 0b11",
    "snapshot-count: 12:30", "snapshot-count: 2001-01-01", "snapshot-count: !!str 5", "snapshot-count: !!int \"5\"",
    "snapshot-count: !!float 5", "snapshot-count: 18446744073709551615", "snapshot-count: 18446744073709551616",
    "snapshot-count: -0", "snapshot-count: +5", "snapshot-count: 1e-3", "snapshot-count: 1e21", "max-wals: \"3\"",
    "max-learners: 1_0", "max-learners: 1e30", "max-learners: -1", "pre-vote: yes", "pre-vote: y", "pre-vote: On",
    "pre-vote: \"true\"", "pre-vote: 1", "quota-backend-bytes: 99999999999999999999", "quota-backend-bytes: -5",
    "max-concurrent-streams: 4294967296", "max-concurrent-streams: 4294967295", "corrupt-check-time: 10m",
    "backend-batch-interval: 5000000", "backend-batch-interval: 5.5", "grpc-keepalive-min-time: 1s",
    "host-whitelist: 4", "host-whitelist: a,b", "host-whitelist: ''", "cors: '*'", "cors: x y", "cors: ''",
    "client-transport-security: x", "client-transport-security: ~", "client-transport-security: {}",
    "client-transport-security: {client-cert-auth: 3}", "client-transport-security: {allowed-cn: x}",
    "client-transport-security: {x: y}", "peer-transport-security: ~", "peer-transport-security: [1]",
    "peer-transport-security: {cert-file: 1}", "peer-transport-security: {}", "log-outputs: stderr", "log-outputs: [1]",
    "log-outputs: []", "log-outputs: [stderr, stderr]", "log-outputs: [default, stderr]", "log-outputs: [stdout]",
    "socket-options: 3", "socket-options: {reuse-port: x}", "socket-options: {}",
    "discovery-config: {token: 3}", "discovery-config: {client: x}", "discovery-config: {client: {endpoints: x}}",
    "discovery-config: {client: {dial-timeout: x}}", "discovery-config: {client: {max-request-bytes: x}}",
    "discovery-config: {client: {secure: x}}", "discovery-config: {client: {secure: {cert: 3}}}",
    "discovery-config: {client: {auth: {username: 3}}}", "discovery-config: {token: x}", "listen-metrics-urls: [x]",
    "listen-metrics-urls: x", "listen-client-http-urls: http://x:1", "initial-advertise-peer-urls: x",
    "advertise-client-urls: x", "advertise-client-urls: http://:1", "listen-peer-urls: ''", "feature-gates: x=1",
    "feature-gates: {a: true}", "feature-gates: LeaseCheckpoint=true", "feature-gates: LeaseCheckpointPersist=true",
    "feature-gates: ''", "metrics: .inf", "metrics: -.Inf", "metrics: .nan", "metrics: extensive", "metrics: 012",
    "v2-deprecation: 3", "v2-deprecation: not-yet", "initial-cluster-state: foo", "initial-cluster-state: ''",
    "initial-cluster-state: existing", "auto-compaction-mode: ''", "auto-compaction-mode: x",
    "auto-compaction-retention: 5", "auto-compaction-retention: '5'", "logger: x", "log-level: loud", "log-level: DEBUG",
    "log-format: x", "log-format: console", "heartbeat-interval: 0", "election-timeout: 1", "election-timeout: 60000",
    "compact-hash-check-time: 0", "tls-min-version: x", "tls-min-version: ''", "enable-distributed-tracing: true",
    "experimental-nothing: 1", "unknown: {a: [1, {b: c}]}", "config-file: x", "data-dir: ''", "wal-dir: 5",
    "warning-unary-request-duration: 0", "self-signed-cert-validity: 0", "initial-cluster: m=http://x:1",
    "a: 1\na: 2\nmetrics: 2", "<<: {metrics: 3}", "<<: [{metrics: 3}, {name: x}]", "<<: [1]", "<<: 3",
    "b: &b {metrics: 3}\n<<: *b", "b: &b stdout\nlog-outputs: [*b]", "3: x\nmetrics: 1", "1.5: x\nmetrics: 1",
    "true: x\nmetrics: 1", "wal-dir: |\n  a b\n", "wal-dir: >-\n  a\n  b\n", "wal-dir: \"a\\tb\\u0041\"",
    "# comment\nwal-dir: x # and more", "wal-dir: x#y", "wal-dir: a: b", "max-wals: x\nname: 5", "socket-options: {}\nname: 5",
]
# Without the addresses before them.
WHOLE = [
    "[a]", "x", "5", "'x'", "\tx: 1", "a: [1", "a: b: c", "a: &a [*a]", "a: *x", "? [a]\n: b", "~: 3",
    "name: \x01", "name: x\n  y: z", "{\"name\": \"x\", \"snapshot-count\": \"x\"}", "{\"name\": 1,}",
    "{\"name\": [}", "@x: y", "%YAML 1.1\n---\nname: 4",
]
JSON_CASES = [{"name": "j"}, {"name": 3}, {"pre-vote": "x"}, {"max-txn-ops": 5, "log-outputs": ["stderr"]},
              {"warning-apply-duration": 1000000}, {"client-transport-security": {"auto-tls": "x"}}]

# What Cairn says where the features are missing that etcd would start with.
UNBUILT = re.compile(r"is not built yet")
# Errors of the YAML scanner: the library's words.
SCANNER = re.compile(r"error converting YAML to JSON: yaml: (?!map merge|cannot decode|control characters)")
ACCEPTED = {
    "max-learners: -1": "etcd says the same once it has bound the address",
    "~: 3": "the value is not shown",
}


class Outcomes(harness.Case):
    def outcome(self, kind, arguments=(), environment=None, addresses=True):
        """("taken" or what was wrong, the fields of "starting an etcd server")."""
        client = f"http://127.0.0.1:{self.port}"
        base = [f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
                "--listen-peer-urls=http://127.0.0.1:0"] if addresses else []
        try:
            done = subprocess.run([str(harness.program(kind)), *base, *arguments], capture_output=True, text=True,
                                  timeout=120, check=False, cwd=self.dir, stdin=subprocess.DEVNULL,
                                  env={"PATH": os.environ["PATH"], **(environment or {})})
        except subprocess.TimeoutExpired:
            return "runs", {}
        text = done.stdout + done.stderr
        fields = next((line for line in harness.json_lines(text) if line["msg"] == "starting an etcd server"), {})
        if TAKEN in text:
            return "taken", fields
        told = harness.why_ended(text)
        return f"{done.returncode}: " + ("the scanner's words" if SCANNER.search(told) else told), fields

    def hold_port(self):
        holder = socket.socket()
        self.addCleanup(holder.close)
        self.port = harness.free_port()
        holder.bind(("127.0.0.1", self.port))
        holder.listen()

    def file(self, text, suffix="yaml"):
        self.files = getattr(self, "files", 0) + 1
        path = self.dir / f"{self.files}.{suffix}"
        path.write_text(text)
        return path


@harness.needs("etcd37")
class BesideEtcd(Outcomes):
    def addresses(self):
        client = f"http://127.0.0.1:{self.port}"
        return {"listen-client-urls": client, "advertise-client-urls": client,
                "listen-peer-urls": "http://127.0.0.1:0"}

    def test_files_are_taken_and_refused_alike(self):
        self.hold_port()
        # With the addresses behind the case: a key that occurs twice counts as it is last.
        head = "".join(f"{key}: {value}\n" for key, value in self.addresses().items())
        asked = [(text, self.file("".join(line + "\n" for line in head.splitlines()
                                          if not text.lower().startswith(line.partition(":")[0] + ":")) + text + "\n"))
                 for text in YAML]
        asked += [(text, self.file(text)) for text in WHOLE]
        asked += [(json.dumps(one), self.file(json.dumps({**self.addresses(), **one}), "json")) for one in JSON_CASES]
        asked += [("no such file", self.dir / "nothing"), ("a directory", self.dir)]

        def outcomes(case):
            return [self.outcome(kind, [f"--config-file={case[1]}", "--name=unused"], addresses=False)[0]
                    for kind in ("etcd37", "cairn")]

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            found = list(pool.map(outcomes, asked))
        self.assertGreater(sum(etcd == "taken" for etcd, _ in found), 40)
        self.assertGreater(sum(etcd != "taken" for etcd, _ in found), 60)
        self.check_alike(((text, etcd, cairn) for (text, _), (etcd, cairn) in zip(asked, found, strict=True)
                          if etcd != "taken" or not UNBUILT.search(cairn)),
                         lambda text: (one for one in ACCEPTED if one == text), ACCEPTED)


# Flag -> a value other than the default, as the command line has it; the file's, where it is another.
VALUES = {
    "name": "n1", "data-dir": "d", "wal-dir": "w", "snapshot-count": "17", "snapshot-catchup-entries": "19",
    "max-snapshots": "7", "max-wals": "8", "heartbeat-interval": "50", "election-timeout": "2000",
    "initial-election-tick-advance": "false", "backend-batch-interval": ("7ms", 7_000_000),
    "backend-batch-limit": "9", "quota-backend-bytes": "12345678", "max-txn-ops": "11", "max-request-bytes": "1000",
    "max-concurrent-streams": "12", "initial-advertise-peer-urls": "http://127.0.0.1:13", "pre-vote": "false",
    "initial-cluster-token": "t", "strict-reconfig-check": "false", "auto-compaction-mode": "revision",
    "auto-compaction-retention": ("14", "14"), "host-whitelist": "a,b", "max-learners": "4",
    "compaction-batch-limit": "15", "compaction-sleep-interval": ("16ms", 16_000_000),
    "warning-apply-duration": ("1s", 1_000_000_000), "warning-unary-request-duration": ("2s", 2_000_000_000),
    "watch-progress-notify-interval": ("3s", 3_000_000_000), "bootstrap-defrag-threshold-megabytes": "18",
    "grpc-keepalive-min-time": ("4s", 4_000_000_000), "grpc-keepalive-interval": ("6s", 6_000_000_000),
    "grpc-keepalive-timeout": ("7s", 7_000_000_000), "metrics": "extensive", "unsafe-no-fsync": "true",
    "log-level": "debug", "log-outputs": ("stdout", ["stdout"]), "feature-gates": "LeaseCheckpoint=true",
    "enable-grpc-gateway": "false", "initial-cluster-state": "existing", "listen-metrics-urls": "http://127.0.0.1:0",
    "listen-client-http-urls": "http://127.0.0.1:0",
}
# The fields that both programs have, by etcd's name, where the same value is written alike.
COMPARED = """name data-dir snapshot-count max-wals max-snapshots heartbeat-interval election-timeout
initial-election-tick-advance quota-backend-bytes max-request-bytes max-concurrent-streams initial-advertise-peer-urls
pre-vote initial-cluster-token strict-reconfig-check auto-compaction-mode host-whitelist max-learners
snapshot-catchup-entries initial-cluster-state initial-cluster listen-metrics-urls advertise-client-urls""".split()


@harness.needs("etcd37")
class ThreeWays(Outcomes):
    """The command line, variables and a file say the same, to both programs."""

    def test_each_flag_has_the_same_effect(self):
        self.hold_port()
        client = f"http://127.0.0.1:{self.port}"
        addresses = {"listen-client-urls": client, "advertise-client-urls": client,
                     "listen-peer-urls": "http://127.0.0.1:0"}

        def fields(flag):
            value = VALUES[flag]
            text, in_file = value if isinstance(value, tuple) else (value, None)
            if in_file is None:
                in_file = json.loads(text) if re.fullmatch(r"[0-9]+|true|false", text) else text
            path = self.dir / f"{flag}.json"
            path.write_text(json.dumps({**addresses, flag: in_file}))
            variable = "ETCD_" + flag.upper().replace("-", "_")
            return [{kind: self.outcome(kind, arguments, environment, bare)
                     for kind in ("etcd37", "cairn")}
                    for arguments, environment, bare in (([f"--{flag}={text}"], None, True), ([], {variable: text}, True),
                                                         ([f"--config-file={path}"], None, False))]

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            found = dict(zip(VALUES, pool.map(fields, VALUES), strict=True))
        default = self.outcome("cairn")[1]
        for flag, ways in found.items():
            for way, outcomes in zip(("command line", "variable", "file"), ways, strict=True):
                with self.subTest(flag=flag, way=way):
                    self.assertEqual(outcomes["cairn"][0], "taken")
                    self.assertEqual(outcomes["etcd37"][0], "taken")
                    etcd, cairn = outcomes["etcd37"][1], outcomes["cairn"][1]
                    if flag != "log-level":
                        self.assertNotEqual(cairn.get(flag), default.get(flag))
                    self.assertEqual(cairn.get(flag), ways[0]["cairn"][1].get(flag))
                    for field in COMPARED:
                        if field in etcd and field in cairn:
                            self.assertEqual(str(cairn[field]), str(etcd[field]), field)


class Alone(Outcomes):
    def test_toml_is_told_by_the_name(self):
        self.hold_port()
        client = f"http://127.0.0.1:{self.port}"
        path = self.file(f"name = 'toml'\nlisten-client-urls = '{client}'\nbackend-batch-interval = '5ms'\n", "toml")
        outcome, fields = self.outcome("cairn", [f"--config-file={path}"], addresses=False)
        self.assertEqual((outcome, fields["name"], fields["backend-batch-interval"]), ("taken", "toml", "5ms"))

    def test_a_server_runs_from_a_file_alone(self):
        port, peer = harness.free_port(), harness.free_port()
        server = self.server("cairn")
        path = self.file(json.dumps({
            "name": "filed", "data-dir": str(server.data_dir), "listen-client-urls": f"http://127.0.0.1:{port}",
            "advertise-client-urls": f"http://127.0.0.1:{port}", "initial-cluster": f"filed=http://127.0.0.1:{peer}",
            "initial-advertise-peer-urls": f"http://127.0.0.1:{peer}", "listen-peer-urls": f"http://127.0.0.1:{peer}",
            "experimental-compaction-batch-limit": 77, "typo": 1}))
        server.ports = (port, peer)
        process = subprocess.Popen([str(harness.program("cairn")), f"--config-file={path}"], stderr=subprocess.PIPE,
                                   text=True, stdin=subprocess.DEVNULL, preexec_fn=harness.die_with_parent,
                                   env={"PATH": os.environ["PATH"], "ETCD_NAME": "other", "ETCD_TYPO": "1"})
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "ready to serve client requests" in line:
                break
        process.terminate()
        lines += process.stderr.readlines()
        process.wait()
        process.stderr.close()
        text = "".join(lines)
        self.assertEqual(process.returncode, -15, text)
        self.assertIn("loaded server configuration, other configuration command line flags", text)
        self.assertIn('"compaction-batch-limit":77', text)
        self.assertIn('"name":"filed"', text)
        self.assertIn('"keys":["typo"]', text)
        self.assertNotIn("unrecognized environment variable", text)


if __name__ == "__main__":
    harness.main()
