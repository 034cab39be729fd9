"""What an attack is, what it works with, and how its outcome is measured.

An attack is a function with a decorator. It prepares what it needs, then attacks inside `with target.bystanders():`.
It states what must be true with `target.check(condition, text)`, and what is only worth knowing with `target.note()`.
"""

import contextlib
import dataclasses
import json
import pathlib
import resource
import subprocess
import sys
import threading
import time

import harness
import rpc

HERE = pathlib.Path(__file__).resolve().parent
# The system ends a server that takes more than this, to protect the machine.
DATA_BYTES_MAX = 8 << 30
GIVE_BACK_SECONDS = 60.0
SETTLE_SECONDS = 0.2  # of bystanders before and after an attack


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What the bystanders of an attack on Cairn may see, on a loaded machine too."""

    worst_seconds: float = 2.0  # of any bystander
    memory_mb: float = 400.0  # anonymous, at its peak


@dataclasses.dataclass(frozen=True)
class Attack:
    run: object
    looks_for: str
    held: bool  # Cairn withstands it: the test runs it
    data: str | None
    flags: tuple
    limits: dict
    bounds: Bounds
    tls: bool  # the port takes TLS beside clear text

    @property
    def name(self):
        return self.run.__name__


ATTACKS = {}


def attack(looks_for, held=True, data=None, flags=(), limits=None, bounds=Bounds(), tls=False):
    """Registers the function as an attack. `data` is what the server holds at its start, see Datasets."""

    def register(function):
        made = Attack(function, looks_for, held, data, tuple(flags), dict(limits or {}), bounds, tls)
        ATTACKS[made.name] = made
        return function

    return register


# Data that several attacks use

KEY_COUNT = 200_000
VALUE_COUNT = 20
VALUE_BYTES = 1 << 20


def key(number):
    return b"k/%07d" % number


def put_txns(numbers, value):
    """Txns that put the keys of these numbers, 128 in each. Values have 24 bytes."""
    assert len(value) == 24
    before, behind = b"\x12\x27\x12\x25\x0a\x09", b"\x12\x18" + value  # lengths and fields of rpc.op_put()
    numbers = list(numbers)
    for at in range(0, len(numbers), 128):
        yield "/etcdserverpb.KV/Txn", b"".join(before + key(n) + behind for n in numbers[at:at + 128])


def carry_out(client, calls, window=64):
    for answer in client.pipeline(calls, window):
        if isinstance(answer, rpc.GrpcError):
            raise answer


def fill_keys(client):
    """k/0000000 to k/0199999, 24 bytes each."""
    carry_out(client, put_txns(range(KEY_COUNT), b"a value of some 24 bytes"))


def fill_values(client):
    """big/00 to big/19, 1 MB each."""
    carry_out(client, (("/etcdserverpb.KV/Put", rpc.put_request(b"big/%02d" % i, bytes([97 + i]) * VALUE_BYTES))
                       for i in range(VALUE_COUNT)), window=4)


class Datasets:
    """Data directories, each made once by Cairn. etcd takes them as they are."""

    FILLERS = {"keys": fill_keys, "values": fill_values}

    def __init__(self, directory):
        self.directory, self.made = directory, {}

    def copy_to(self, name, target):
        if name not in self.made:
            server = harness.Server("cairn", self.directory / name).start()
            try:
                self.FILLERS[name](server.client(timeout=120))
                server.stop()
            finally:
                server.kill()
            self.made[name] = server
        harness.copy_directory(self.made[name].data_dir, target)
        return self.made[name]


class ServerWithTls(harness.Server):
    """With a certificate of its own, on the port that takes clear text too."""

    def arguments(self):
        out = super().arguments()
        at = out.index("--listen-client-urls") + 1
        out[at] += "," + out[at].replace("http:", "https:")
        return [*out, "--auto-tls"]


class Target:
    """The attacked server, and what is seen of it."""

    def __init__(self, server):
        self.server = server
        self.port = server.client_port
        self.kind = server.kind
        self.complaints, self.notes = [], []
        self.late = []  # the complaints about time
        self.seen = {}  # what the bystanders report

    def client(self, **options):
        return self.server.client(**{"timeout": 60.0, **options})

    def check(self, condition, text):
        if not condition:
            self.complaints.append(text)
        return bool(condition)

    def note(self, text):
        self.notes.append(text)

    def status_of(self, call):
        """(code, message) of a call, with -1 for one that got no answer, and the seconds that it took."""
        began = time.monotonic()
        try:
            call()
            outcome = rpc.OK, ""
        except rpc.GrpcError as error:
            outcome = error.code, error.message
        except (OSError, ValueError) as error:
            outcome = -1, f"{type(error).__name__}: {error}"
        return *outcome, time.monotonic() - began

    @contextlib.contextmanager
    def bystanders(self, clients="get,put,dial", token=""):
        """Bystanders watch what happens inside."""
        process = subprocess.Popen(
            [sys.executable, str(HERE / "bystanders.py"), "--port", str(self.port),
             "--pid", str(self.server.process.pid), "--clients", clients, "--token", token],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=harness.die_with_parent)
        try:
            if process.stdout.readline() != "ready\n":
                raise AssertionError("bystanders did not begin")
            time.sleep(SETTLE_SECONDS)
            try:
                yield
                time.sleep(SETTLE_SECONDS)
            finally:
                self.seen = json.loads(process.communicate(timeout=30)[0])
        finally:
            process.kill()
            process.wait()

    def check_memory_is_given_back(self, mb_max):
        """Anonymous memory, once all that was held is gone: after ten seconds, or later on a loaded machine."""
        path = pathlib.Path(f"/proc/{self.server.process.pid}/status")
        deadline = time.monotonic() + GIVE_BACK_SECONDS
        while True:
            mb = int(path.read_text().partition("RssAnon:")[2].split(None, 1)[0]) >> 10
            if mb <= mb_max or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        self.check(mb <= mb_max, f"{mb} MB stay in memory")
        self.note(f"{mb} MB stay in memory")

    def alive(self):
        return self.server.process is not None and self.server.process.poll() is None

    def judge(self, bounds):
        """Adds to the complaints what the bystanders saw beyond the bounds."""
        code, text, _ = self.status_of(self._ask_again)
        if code != rpc.OK:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.server.process.wait(1)  # it may be about to end
        if not self.alive():
            self.complaints.insert(0, f"the server ended with {self.server.process.returncode}")
        else:
            self.check(code == rpc.OK, f"does not serve afterwards: {text}")
        for name, report in self.seen.items():
            if name == "memory":
                self.check(report["peak_kb"] <= bounds.memory_mb * 1024,
                           f"{report['peak_kb'] // 1024} MB of memory, {bounds.memory_mb:.0f} are allowed")
                continue
            late = f"a {name} took {report['worst']} s, {bounds.worst_seconds} are allowed"
            if not self.check(report["worst"] is not None and report["worst"] <= bounds.worst_seconds, late):
                self.late.append(late)
            self.check(not report["failed"], f"{report['failed']} {name}s failed: {report['failure']}")

    def _ask_again(self):
        with rpc.Client(self.port, timeout=10) as client:
            client.put(b"afterwards", b"x")
            client.range(b"afterwards")


class Together:
    """Threads of an attack; an exception in one is the attack's."""

    def __init__(self):
        self.threads, self.errors = [], []

    def run(self, function, *arguments):
        def body():
            try:
                function(*arguments)
            except BaseException as error:  # handed on by join()
                self.errors.append(error)

        thread = threading.Thread(target=body, daemon=True)
        self.threads.append(thread)
        thread.start()

    def join(self, seconds=60.0):
        deadline = time.monotonic() + seconds
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self.errors:
            raise self.errors[0]
        if any(thread.is_alive() for thread in self.threads):
            raise AssertionError(f"an attacker did not end in {seconds} s")


def carry_out_attack(one, kind, directory, datasets):
    """Runs one attack on one kind of server; returns its Target."""
    data_dir = directory / f"{one.name}.{kind}"
    if one.data is not None:
        source = datasets.copy_to(one.data, data_dir)
        ports = (harness.free_port(), source.peer_port)
    else:
        ports = None
    make = ServerWithTls if one.tls else harness.Server
    server = make(kind, data_dir, ports=ports, flags=one.flags,
                  limits={resource.RLIMIT_DATA: DATA_BYTES_MAX, **one.limits})
    try:
        target = Target(server.start())
        try:
            one.run(target)
        except (OSError, rpc.GrpcError, AssertionError) as error:
            target.complaints.append(f"the attack stopped: {type(error).__name__}: {error}")
        target.judge(one.bounds)
        return target
    finally:
        server.kill()
        subprocess.run(["rm", "-rf", str(data_dir)], check=False)
