"""etcdctl 3.4 and 3.7 beside Cairn and beside their own etcd: commands, and what of their outputs may differ."""

import os
import re
import signal
import subprocess
import threading
import time

import harness
import pki
import tls_case

UNSERVED = harness.ROOT / "tests/compat/unserved"

PATIENCE_S = 60

# What two servers may say differently, although they have the same addresses and so the same ids.
VARYING = [
    (r'"(raft_term|raftTerm|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse)":\d+', r'"\1":_'),
    (r'"(RaftTerm|RaftIndex|RaftAppliedIndex|DBSize|DBSizeInUse)" : \d+', r'"\1" : _'),
    (r'"(version|Version)"( ?: ?)"3\.[\d.]+"', r'"\1"\2"_"'),
    (r'(took = |took |│ |"Took" : )[\d.]+[mµ]?s', r"\1_"),
    (r"[\d.]+ [kM]B\b", "_ B"),  # sizes, and what of them is in use; a quota is in GB
    (r"\b\d+%", "_%"),
    (r"(true, false|true │ false)(( │|,) )\d+\2\d+\2\d+", r"\1\2_"),
    (r"(?m)^[┌├└][─┬┼┴]+[┐┤┘]$", "---"),
    (r'"took":"[\d.]+[mµ]?s"', '"took":"_"'),
]
# What servers at different addresses may say differently, too, and what is left of a lease.
VARYING_APART = [
    (r'"(cluster_id|member_id|memberID)":\d+', r'"\1":_'),
    (r'"(ClusterID|MemberID)" : \d+', r'"\1" : _'),
    (r"memberID:\d+", "memberID:_"),
    (r"remaining\(\d+s\)", "remaining(_)"),
    (r'"ttl":[1-9]\d*,', '"ttl":_,'),
    (r'"TTL" : [1-9]\d*', '"TTL" : _'),
    (r"(?m)^(\| LEASE\d+ \| +\d+ \|) +\d+ \|", r"\1 _ |"),
]
# endpoint, ID, version, size, leader, learner, term, index, applied, errors
STATUS_LINE = re.compile(r"^(\S+, \w+), [\d.]+, [\d.]+ \wB, (\w+, \w+), \d+, \d+, \d+, (.*)$", re.M)
STATUS_ROW = re.compile(r"^\| +(127\S+) \| (\w+) \| +\S+ \| +[\d.]+ \wB \| +(\w+) \| +(\w+) \|[\d |]+\|([^|]*)\|$", re.M)
HEALTH_ROW = re.compile(r"^\| (127\S+) \| +(\w+) \| +\S+ \|([^|]*)\|$", re.M)
RULER = re.compile(r"^[+-]+$", re.M)


def normalised(text, server):
    text = re.sub(r" +", " ", text.replace(str(server.dir_of_test), "DIR"))
    text = STATUS_LINE.sub(r"\1, _, \2, _, \3", text)
    text = STATUS_ROW.sub(r"| \1 | \2 | \3 | \4 |\5|", text)
    text = HEALTH_ROW.sub(r"| \1 | \2 |\3|", text)
    for pattern, replacement in VARYING:
        text = re.sub(pattern, replacement, text)
    return RULER.sub("+-+", text)


def without_log(errors):
    """The log lines of the client are about its connection and about files."""
    return "".join(re.sub(r'^\{"level":"(warn|info)".*', "", line) for line in errors.splitlines(True))


def unserved(*methods):
    """Those of the methods ("Auth/UserAdd") that Cairn does not serve yet."""
    listed = {line.strip() for line in UNSERVED.read_text().splitlines()}
    return [method for method in methods if method in listed or method.split("/")[0] + "/*" in listed]


class Script:
    """Commands for one server. Leases get names in the order of their being granted, and members that are added, too."""

    def __init__(self, client, server):
        self.client, self.server = client, server
        self.flags = []  # of each command
        self.leases, self.members = [], []
        self.running = []  # ended by the test, or at its end
        self.rpc = server.client()

    def environment(self, more=()):
        return {"PATH": os.environ["PATH"], "ETCDCTL_API": "3", **dict(more)}

    def run_by_environment(self, variables, command):
        """Flags from variables, the endpoint's too."""
        environment = self.environment({"ETCDCTL_ENDPOINTS": self.server.endpoint, **variables})
        done = subprocess.run([str(harness.program(self.client)), *command], input=b"", capture_output=True, timeout=PATIENCE_S,
                              check=False, env=environment)
        return done.returncode, done.stdout.decode(errors="backslashreplace"), done.stderr.decode(errors="backslashreplace")

    def arguments(self, command):
        return [str(harness.program(self.client)), "--endpoints", self.server.endpoint, *self.flags, *map(self.with_ids, command)]

    def with_ids(self, text):
        text = re.sub(r"\bL(\d)\b", lambda found: self.leases[int(found[1]) - 1], text)
        return re.sub(r"\bM(\d)\b", lambda found: self.members[int(found[1]) - 1], text)

    def run(self, command, given="", check=False):
        done = subprocess.run(self.arguments(command), input=self.with_ids(given).encode(), capture_output=True, timeout=PATIENCE_S,
                              check=check, env=self.environment())
        return done.returncode, *(text.decode(errors="backslashreplace") for text in (done.stdout, done.stderr))

    def name_leases(self):
        """Those that are new."""
        listed = self.run(["lease", "list"])[1].split()[3:]
        self.leases += [lease for lease in listed if lease not in self.leases]

    def name_member(self, added):
        """The one that a command has said it added."""
        found = re.search(r"^Member +([0-9a-f]+) added", added)
        if found:
            self.members.append(found[1])
        found = re.search(r'"member":\{"ID":(\d+)', added)
        if found:
            self.members.append(f"{int(found[1]):016x}")

    def named(self, text):
        """Text with names for ids that are chosen at random."""
        for name, ids in (("LEASE", self.leases), ("MEMBER", self.members)):
            for number, one in enumerate(ids, 1):
                text = text.replace(one, f"{name}{number}").replace(str(int(one, 16)), f"{name}{number}")
        return text

    def apart(self, text):
        """Text without what differs between servers at different addresses."""
        text = normalised(text, self.server).replace(self.server.endpoint, "ENDPOINT")
        text = self.named(text.replace(f"127.0.0.1:{self.server.peer_port}", "PEER"))
        for pattern, replacement in VARYING_APART:
            text = re.sub(pattern, replacement, text)
        return text

    def start(self, command, env=()):
        process = subprocess.Popen(self.arguments(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, env=self.environment(env),
                                   preexec_fn=harness.die_with_parent)
        self.running.append(Output(process))
        return self.running[-1]

    def stop(self):
        for output in self.running:
            if output.process.returncode is None:
                output.end(signal.SIGKILL)


class Output:
    """A process that goes on, and what it has said."""

    def __init__(self, process):
        self.process = process
        self.text, self.errors = bytearray(), bytearray()
        self.readers = [threading.Thread(target=self.read, args=(process.stdout, self.text)),
                        threading.Thread(target=self.read, args=(process.stderr, self.errors))]
        for reader in self.readers:
            reader.start()

    @staticmethod
    def read(stream, text):
        for piece in iter(stream.read1, b""):
            text.extend(piece)

    def type(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def lines(self):
        return self.text.count(b"\n")

    def wait_for_lines(self, count):
        wait(lambda: self.lines() >= count or self.process.poll() is not None)

    def end(self, by=None):
        """What it has said, once it has ended: (exit code, output, errors)."""
        if by is not None:
            self.process.send_signal(by)
        try:
            self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            for reader in self.readers:
                reader.join()
            for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
                stream.close()
        return self.process.returncode, self.text.decode(), without_log(self.errors.decode())


def wait(done):
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > deadline:
            raise AssertionError("what is waited for does not come")
        time.sleep(0.01)


class Beside(harness.Case):
    """What the tests of a client share; it names client and etcd."""

    maxDiff = None
    client = etcd = None

    def script(self, server):
        server.dir_of_test = self.dir
        script = Script(self.client, server)
        self.addCleanup(script.stop)
        return script

    def assert_same_of_both(self, run):
        """A function of a script returns the same for etcd and for Cairn."""
        self.assert_same(*self.side_by_side(lambda server: run(self.script(server)), (self.etcd, "cairn")))

    def assert_same(self, etcd, cairn):
        for expected, found in zip(etcd, cairn, strict=True):
            with self.subTest(expected[0]):
                self.assertEqual(expected, found)


class OverTls:
    """In front of a class of tests: the same over TLS, where a client's certificate has the name of a user."""

    common_name = "root"

    def setUp(self):
        super().setUp()
        self.authority = pki.Authority(self.dir, "pki")
        self.server_pair, self.shown = self.authority.issue("server"), self.authority.issue(self.common_name)

    def server(self, kind, data_dir=None, flags=(), **options):
        flags = [*flags, "--cert-file", str(self.server_pair.cert), "--key-file", str(self.server_pair.key), "--client-cert-auth",
                 "--trusted-ca-file", str(self.authority.cert)]
        server = tls_case.TlsServer(kind, data_dir or self.dir / "data", flags=flags, **options)
        server.shown = self.shown
        self.servers.append(server)
        return server

    def script(self, server):
        script = super().script(server)
        script.flags = ["--cacert", str(self.authority.cert), "--cert", str(self.shown.cert), "--key", str(self.shown.key)]
        return script
