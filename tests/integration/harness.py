"""Servers, clients and yardsticks for the tests of real processes.

A test program calls main(): it takes the paths of the programs and hands the rest to unittest. What is missing on a
machine (etcd, the programs of tests/oracles, a library) skips the tests that need it, by name.
"""

import argparse
import concurrent.futures
import ctypes
import http.client
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import rpc

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = {
    "cairn": ROOT / "build/dev/src/cmd/cairn",
    "tools": ROOT / "build/dev/tests",
    "oracles": ROOT / "build/oracles",
    "etcd34": pathlib.Path("/usr/bin/etcd"),
    "etcdctl": pathlib.Path("/usr/bin/etcdctl"),
}
ETCD = {"etcd34": "etcd 3.4 (Debian's etcd-server)", "etcd35": "etcd 3.5 (tests/oracles/build etcd35)",
        "etcd36": "etcd 3.6 (tests/oracles/build etcd36)", "etcd37": "etcd 3.7 (tests/oracles/build etcd37)"}


SKIPPED = 77  # what CTest takes as "skipped"


def main(add_arguments=None):
    """Runs the tests of the calling program."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name, path in PROGRAMS.items():
        parser.add_argument(f"--{name}", type=pathlib.Path, default=path)
    parser.add_argument("--seed", type=lambda text: int(text, 0), default=None)
    if add_arguments is not None:
        add_arguments(parser)
    options, rest = parser.parse_known_args()
    for name in PROGRAMS:
        PROGRAMS[name] = getattr(options, name)
    if options.seed is not None:
        Case.seed = options.seed
    Case.options = options
    if not PROGRAMS["cairn"].exists():
        sys.exit(f"{PROGRAMS['cairn']} is missing: ./dev build cairn")
    result = unittest.main(module="__main__", argv=[sys.argv[0], *rest], verbosity=2, exit=False).result
    if result.testsRun > 0 and len(result.skipped) == result.testsRun:
        sys.exit(SKIPPED)
    sys.exit(not result.wasSuccessful())


def program(name):
    """The path of a program; "etcd37" and the other oracles stand beside each other, and so do our own tools."""
    if name in PROGRAMS:
        return PROGRAMS[name]
    if name.startswith("cairn_"):
        return PROGRAMS["tools"] / name
    return PROGRAMS["oracles"] / name


def missing(*names):
    return [ETCD.get(name, str(program(name))) for name in names if not program(name).exists()]


def needs(*names):
    """Skips a test, or all of a class, when one of the programs is not there."""

    def decorate(thing):
        if isinstance(thing, type):
            original = thing.setUp

            def set_up(self):
                require(*names)
                original(self)

            thing.setUp = set_up
            return thing

        def test(self):
            require(*names)
            thing(self)

        test.__name__, test.__doc__ = thing.__name__, thing.__doc__
        return test

    return decorate


def require(*names):
    absent = missing(*names)
    if absent:
        raise unittest.SkipTest("not on this machine: " + ", ".join(absent))
    if rpc.NGHTTP2 is None:
        raise unittest.SkipTest("not on this machine: libnghttp2.so.14")


_ports_given = {}  # -> the file descriptor that claims it


def claim_port(port):
    """Whether no test of any process has it, also while nobody listens there; until this process ends."""
    if port in _ports_given:
        return False
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0cairn-test-port-{port}")
    except OSError:
        claim.close()
        return False
    _ports_given[port] = claim.detach()
    return True


def free_port():
    """A port of the loopback outside of the range that the system gives to clients. Servers that are stopped and started
    again find it free: other tests are not given it."""
    low = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    chooser = random.SystemRandom()
    while True:
        port = chooser.randrange(min(15000, low - 5000), low - 1)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if claim_port(port):
            return port


def samples(page):
    """Of a page of metrics: series, with its labels as they are written -> value."""
    lines = [line.rsplit(" ", 1) for line in page.splitlines() if line and not line.startswith("#")]
    return {series: float(value) for series, value in lines}


def json_lines(text):
    """The fields of each line of a log; what else a program prints is left out."""
    return [json.loads(line) for line in text.splitlines() if line.startswith('{"level"')]


def why_ended(text):
    """What a server that does not start says of it at last: an error of its log, else the first words beside the log."""
    errors = [line["error"] for line in json_lines(text) if line.get("error") and line["level"] in ("warn", "fatal")]
    plain = next((line for line in text.splitlines() if line and not line.startswith("{")), "")
    return errors[-1] if errors else plain.removeprefix("panic: ")


def until(condition, seconds=90, what="not in time"):
    """Waits for it, and says what did not come in time. `what` may be a function, for what is known only then."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(what() if callable(what) else what)
        time.sleep(0.02)


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    # A shell has what it starts in the background ignore SIGINT, and so would all that is started by that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Server:
    """One member in a data directory. Several servers of different kinds may take the directory in turn."""

    def __init__(self, kind, data_dir, name="m", ports=None, flags=(), token="etcd-cluster", limits=None,
                 listen_peer_port=None):
        self.kind, self.data_dir, self.name = kind, pathlib.Path(data_dir), name
        self.limits = limits or {}  # resource.RLIMIT_... -> the most
        self.client_port, self.peer_port = ports or (free_port(), free_port())
        self.listen_peer_port = listen_peer_port or self.peer_port  # another one: members of the same ids at a time
        self.flags, self.token = list(flags), token
        self.peer_scheme = "http"
        self.initial_cluster = None  # a text for --initial-cluster, where it is not alone
        self.initial_state = None
        self.process = None
        self.clients = []
        self.log_path = self.data_dir.with_name(self.data_dir.name + f".{kind}.{time.monotonic_ns()}.log")

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.client_port}"

    @property
    def url(self):
        return f"http://{self.endpoint}"

    def arguments(self):
        client, peer = self.url, f"{self.peer_scheme}://127.0.0.1:{self.peer_port}"
        out = [str(program(self.kind)), "--name", self.name, "--data-dir", str(self.data_dir),
               "--listen-client-urls", client, "--advertise-client-urls", client,
               "--listen-peer-urls", f"{self.peer_scheme}://127.0.0.1:{self.listen_peer_port}", "--initial-advertise-peer-urls", peer,
               "--initial-cluster", self.initial_cluster or f"{self.name}={peer}",
               "--initial-cluster-token", self.token]
        if self.initial_state is not None:
            out += ["--initial-cluster-state", self.initial_state]
        if self.kind == "etcd34":
            out += ["--logger", "zap", "--log-outputs", "stderr"]
        return out + self.flags

    def launch(self, environment=None):
        """Starts the process; does not wait for it to serve."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.arguments(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=environment or {"PATH": os.environ["PATH"]},
                                            preexec_fn=self._prepare_process)
        return self

    def _prepare_process(self):
        die_with_parent()
        for limit, most in self.limits.items():
            resource.setrlimit(limit, (most, most))

    def start(self, seconds_max=90, environment=None):
        self.log_path.unlink(missing_ok=True)
        self.launch(environment)
        return self.wait_ready(seconds_max)

    def wait_ready(self, seconds_max=90):
        deadline = time.monotonic() + seconds_max
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"{self.kind} ended with {self.process.returncode}:\n{self.log_tail()}")
            if self._is_ready():
                return self
            time.sleep(0.02)
        self.kill()
        raise AssertionError(f"{self.kind} did not become ready:\n{self.log_tail()}")

    def wait_logged(self, text, times=1, seconds_max=90):
        """Until its log has said so."""
        deadline = time.monotonic() + seconds_max
        while self.log_text().count(text) < times:
            if self.process.poll() is not None:
                raise AssertionError(f"{self.kind} ended with {self.process.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"no {text!r} of {self.kind}:\n{self.log_tail()}")
            time.sleep(0.02)

    def _is_ready(self):
        if self.kind == "cairn" and "ready to serve client requests" not in self.log_text():
            return False
        try:  # 3.4 serves before it has decided on the cluster's version
            return "not_decided" not in self.http("/version")[2]
        except OSError:
            return False

    def client(self, **options):
        """A client that is closed when the server is stopped."""
        client = rpc.Client(self.client_port, **options)
        self.clients.append(client)
        return client

    def close_clients(self):
        for client in self.clients:
            client.close()
        self.clients = []

    def stop(self, seconds_max=60):
        """SIGTERM; returns what the process ended with."""
        if self.process is None:
            return None
        self.close_clients()
        self.process.send_signal(signal.SIGTERM)
        return self.wait(seconds_max)

    def running(self):
        return self.process is not None and self.process.poll() is None

    def pause(self):
        """SIGSTOP; returns when all of its threads stand still."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def wait(self, seconds_max=60):
        try:
            code = self.process.wait(seconds_max)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.kind} did not end in {seconds_max} s:\n{self.log_tail()}") from None
        self.process = None
        return code

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        self.close_clients()

    def log_text(self):
        try:
            return self.log_path.read_text(errors="replace")
        except OSError:
            return ""

    def log_lines(self):
        return json_lines(self.log_text())

    def log_tail(self, size=3000):
        return self.log_text()[-size:]

    def http_connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.client_port, timeout=60)

    def http(self, path, method="GET", body=None, headers=None):
        """(status, headers, body) of one HTTP/1.1 request."""
        connection = self.http_connection()
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()
        finally:
            connection.close()

    def samples(self):
        return samples(self.http("/metrics")[2])

    def metric(self, name, *labels):
        """The sum of its samples with these labels, as they are written."""
        return sum(value for series, value in self.samples().items()
                   if series.partition("{")[0] == name and all(label in series for label in labels))

    def thread_states(self):
        """S is asleep, T stopped."""
        return {path.read_text().rpartition(")")[2].split()[0]
                for path in pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/stat")}

    def memory_kb(self, field="VmRSS"):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1])
        raise AssertionError(f"no {field}")

    def anonymous_kb(self):
        """Resident memory that is not a mapped file, which the system may drop at will."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Anonymous:"):
                return int(line.split()[1])
        raise AssertionError("no Anonymous")


class Case(unittest.TestCase):
    """A temporary directory and servers that end with the test."""

    seed = None
    options = None
    failed_dirs = []

    def setUp(self):
        require()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="cairn-it-"))
        self.servers = []
        self.addCleanup(self._clean)

    def _clean(self):
        for server in self.servers:
            server.kill()
        if os.environ.get("CAIRN_KEEP"):
            print("kept:", self.dir, file=sys.stderr)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def random(self, salt=0):
        """A generator; its seed is printed, and --seed repeats it."""
        seed = Case.seed if Case.seed is not None else random.SystemRandom().randrange(1 << 32)
        print(f"{self.id()}: --seed {seed:#x}", file=sys.stderr)
        return random.Random(seed + salt)

    def server(self, kind, data_dir=None, **options):
        server = Server(kind, data_dir or self.dir / "data", **options)
        self.servers.append(server)
        return server

    # Yardsticks

    def side_by_side(self, run, kinds):
        """What a function of a running server returns for a server of each kind, in their order. They run beside each
        other, as each waits most of the time."""
        # An alarm that a test raises stays, however slow the machine is.
        flags = {"cairn": ["--nospace-auto-clear=false"]}
        servers = [self.server(kind, self.dir / kind, flags=flags.get(kind, ())).start() for kind in kinds]
        with concurrent.futures.ThreadPoolExecutor(len(servers)) as pool:
            return list(pool.map(run, servers))

    def check_alike(self, outcomes, patterns_of, accepted):
        """Of `outcomes`, (what was asked, etcd's, Cairn's), those that differ are among the accepted ones, as
        patterns_of(what was asked) says, and each accepted one is still a difference."""
        differing, used = [], set()
        for asked, etcd, cairn in outcomes:
            if etcd == cairn:
                continue
            pattern = next(patterns_of(asked), None)
            used.add(pattern)
            if pattern is None:
                differing.append(f"{asked[:200]!r}\n  etcd  {etcd}\n  cairn {cairn}")
        self.assertEqual(differing, [], "\n".join(differing))
        self.assertEqual(set(accepted) - used, set(), "accepted, and no difference any more")

    def run_tool(self, name, *arguments, check=True, timeout=120):
        done = subprocess.run([str(program(str(name))), *map(str, arguments)], capture_output=True, timeout=timeout,
                              text=True, check=False, stdin=subprocess.DEVNULL)
        if check:
            self.assertEqual(done.returncode, 0, f"{name} {arguments}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done

    def transcript(self, server, command, seconds_max, environment=None):
        """The lines that a program prints about a server. It has the server killed by a line "@kill" and stopped by a
        line "@stop", and started again; then it is told so by an empty line."""
        errors = server.data_dir.with_name(f"{server.kind}.errors")
        with open(errors, "wb") as stderr:
            process = subprocess.Popen([*map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=stderr, text=True, preexec_fn=die_with_parent,
                                       env={"PATH": os.environ["PATH"], **(environment or {})})
        limit = threading.Timer(seconds_max, process.kill)
        limit.start()
        lines = []
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if lines[-1] in ("@kill", "@stop"):
                server.kill() if lines[-1] == "@kill" else server.stop()
                server.start()
                process.stdin.write("\n")
                process.stdin.flush()
        code = process.wait()
        limit.cancel()
        process.stdin.close(), process.stdout.close()
        if code != 0:
            lines += [f"ended with {code}", *errors.read_text().splitlines()[-30:]]
        return lines

    def etcdctl(self, server, *arguments, check=True, timeout=120, env=None):
        done = subprocess.run([str(program("etcdctl")), "--endpoints", server.endpoint, *map(str, arguments)],
                              capture_output=True, timeout=timeout, text=True, check=False, stdin=subprocess.DEVNULL,
                              env={"PATH": os.environ["PATH"], "ETCDCTL_API": "3", **(env or {})})
        if check:
            self.assertEqual(done.returncode, 0, f"etcdctl {arguments}\n{done.stdout}\n{done.stderr}")
        return done

    def check_directory(self, data_dir, mutate=0, older_tree=True):
        """A stopped directory: the db by our own checker and by bbolt, the log by etcd's reader. Returns the report."""
        db = pathlib.Path(data_dir) / "member/snap/db"
        if program("cairn_check_db").exists():
            self.run_tool("cairn_check_db", *(["--older"] if older_tree else []), db)
        report = {}
        if not missing("waldump"):
            report["wal"] = json.loads(self.run_tool("waldump", data_dir).stdout)
        if not missing("boltcheck"):
            report["db"] = json.loads(self.run_tool("boltcheck", "check", db).stdout)
            if mutate:
                copy = self.dir / "mutated.db"
                shutil.copyfile(db, copy)
                self.run_tool("boltcheck", "mutate", copy, "--transactions", mutate, "--seed", mutate, timeout=300)
                copy.unlink()
        return report


def copy_directory(source, target):
    """As cp --sparse: the zeros of preallocated segments take no space."""
    subprocess.run(["cp", "-a", "--sparse=always", str(source), str(target)], check=True)
    return target


def fingerprint(directory):
    """Path -> (mode, size, content's hash) of everything below."""
    import hashlib
    out = {}
    for path in sorted(pathlib.Path(directory).rglob("*")):
        stat = path.lstat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        out[str(path.relative_to(directory))] = (oct(stat.st_mode), stat.st_size if path.is_file() else 0, digest)
    return out
