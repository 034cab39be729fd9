"""etcdctl 3.4 and 3.7 cannot tell Cairn from their own etcd: the same commands, the same outputs and exit codes."""

import os
import re
import signal
import subprocess
import threading
import time

import harness
from etcdctl_scripts import COMMANDS, LEASES, NEEDS_37, WATCHES

PATIENCE_S = 60

# What two servers may say differently, although they have the same addresses and so the same ids.
VARYING = [
    (r'"(raft_term|raftTerm|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse)":\d+', r'"\1":_'),
    (r'"(RaftTerm|RaftIndex|RaftAppliedIndex|DBSize|DBSizeInUse)" : \d+', r'"\1" : _'),
    (r'"(version|Version)"( ?: ?)"3\.[\d.]+"', r'"\1"\2"_"'),
    (r"(took = |took |│ )[\d.]+[mµ]?s", r"\1_"),
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
    """The log lines of the client are about its connection."""
    return "".join(re.sub(r'^\{"level":"warn".*', "", line) for line in errors.splitlines(True))


class Script:
    """Commands for one server. Leases get names in the order of their being granted."""

    def __init__(self, client, server):
        self.client, self.server = client, server
        self.leases = []
        self.running = []  # ended by the test, or at its end
        self.rpc = server.client()

    def environment(self, more=()):
        return {"PATH": os.environ["PATH"], "ETCDCTL_API": "3", **dict(more)}

    def arguments(self, command):
        return [str(harness.program(self.client)), "--endpoints", self.server.endpoint, *map(self.with_ids, command)]

    def with_ids(self, text):
        return re.sub(r"\bL(\d)\b", lambda found: self.leases[int(found[1]) - 1], text)

    def run(self, command, given="", check=False):
        done = subprocess.run(self.arguments(command), input=self.with_ids(given).encode(), capture_output=True, timeout=PATIENCE_S,
                              check=check, env=self.environment())
        return done.returncode, *(text.decode(errors="backslashreplace") for text in (done.stdout, done.stderr))

    def name_leases(self):
        """Those that are new."""
        listed = self.run(["lease", "list"])[1].split()[3:]
        self.leases += [lease for lease in listed if lease not in self.leases]

    def apart(self, text):
        """Text without what differs between servers at different addresses."""
        text = normalised(text, self.server).replace(self.server.endpoint, "ENDPOINT")
        for number, lease in enumerate(self.leases, 1):
            text = text.replace(lease, f"LEASE{number}").replace(str(int(lease, 16)), f"LEASE{number}")
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
    """The tests; a class below names client and etcd."""

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

    def outputs(self, kind, ports):
        server = self.server(kind, self.dir / kind, ports=ports).start()
        script = self.script(server)
        out = []
        for command in COMMANDS:
            command, given = command if isinstance(command, tuple) else (command, "")
            code, text, errors = script.run(command, given)
            out.append((" ".join(command), code, normalised(text, server), normalised(without_log(errors), server)))
        # With the scheme, which the client of 3.4 then also sends as :authority.
        for command in (["get", "left"], ["endpoint", "status"], ["endpoint", "hashkv"], ["endpoint", "health"]):
            code, text, _ = script.run(["--endpoints", f"http://{server.endpoint}", *command])
            out.append((" ".join(command), code, sorted(normalised(text, server).splitlines())))
        snapshot = self.dir / f"{kind}.snapshot"
        script.run(["snapshot", "save", str(snapshot)], check=True)
        if self.client == "etcdctl":  # that of 3.7 leaves snapshots to etcdutl
            status = script.run(["snapshot", "status", str(snapshot), "-w", "fields"])[1]
            out.append(("snapshot status", re.search(r'"Revision" : (\d+)', status)[1]))
        self.assertEqual(server.stop(), -15)
        return out

    def test_each_command_says_the_same(self):
        ports = (harness.free_port(), harness.free_port())
        etcd, cairn = (self.outputs(kind, ports) for kind in (self.etcd, "cairn"))
        self.assert_same(etcd, cairn)

    # Watches

    def watched(self, script, watch, first):
        server = script.server
        output = script.start([str(first) if word == "REV" else word for word in watch.command], watch.env)
        output.type(watch.typed)
        wait(lambda: output.process.poll() is not None or (watch.watchers and self.watchers(server) >= watch.watchers))
        for event in watch.events:
            before = output.lines()
            script.run(event, check=True)
            if event[1] not in watch.unseen:  # so that each is a response of its own
                wait(lambda: output.lines() > before or output.process.poll() is not None)
        goes_on = watch.watchers and not watch.ends
        if goes_on:
            output.wait_for_lines(watch.lines)
            time.sleep(0.1)  # a line too many would come
        code, text, errors = output.end(signal.SIGINT if goes_on else None)
        wait(lambda: self.watchers(server) == 0)
        return (" ".join(watch.command), watch.env, code, script.apart(text), script.apart(errors))

    def watchers(self, server):
        _, _, page = server.http("/metrics")
        return int(re.search(r"^etcd_debugging_mvcc_watcher_total (\d+)", page, re.M)[1])

    def watch_all(self, script):
        out = []
        for i in range(6):
            script.run(["put", f"k{i}", "x"])
        script.run(["put", "a", "x"])
        first = script.rpc.revision() + 1
        for watch in WATCHES:
            if self.client == "etcdctl37" or not watch.needs37:
                out.append(self.watched(script, watch, first))
        script.run(["compaction", str(script.rpc.revision())], check=True)
        output = script.start(["watch", "a", "--rev", "2"])
        out.append(("watch what is compacted", *output.end()))
        # Its end of input is the end of one that is typed.
        output = script.start(["watch", "-i"])
        output.type("watch a\n")
        wait(lambda: self.watchers(script.server) == 1)
        output.process.stdin.close()
        out.append(("watch that is typed, and ends", *output.end()))
        return out

    def test_watches_say_the_same(self):
        self.assert_same_of_both(self.watch_all)

    # Leases, locks, elections, alarms

    def run_leases(self, script):
        out = []
        for command in LEASES:
            command, given = command if isinstance(command, tuple) else (command, "")
            if self.client == "etcdctl" and command in NEEDS_37:
                continue
            if command[0] == "@alarm":
                script.rpc.alarm(1, script.rpc.status()["member_id"], 1)
            elif command[0] == "@compact":
                script.rpc.compact(script.rpc.revision(), physical=True)
            elif command[0] == "@ended":
                wait(lambda: "already expired" in script.run(["lease", "timetolive", command[1]])[1])
            else:
                code, text, errors = script.run(command, given)
                if command[:2] == ["lease", "grant"]:
                    script.name_leases()
                out.append((" ".join(command), code, self.sorted_keys(script.apart(text)),
                            script.apart(without_log(errors))))
        return out

    @staticmethod
    def sorted_keys(text):
        """The keys of a lease come in any order."""
        text = re.sub(r"attached keys\(\[(.*)\]\)", lambda found: f"keys({sorted(found[1].split())})", text)
        text = re.sub(r'("Key" : .*\n){2,}', lambda found: "".join(sorted(found[0].splitlines(True))), text)
        return re.sub(r'"keys":\[(.*?)\]', lambda found: f"keys({sorted(found[1].split(','))})", text)

    def test_leases_and_alarms_say_the_same(self):
        self.assert_same_of_both(self.run_leases)

    def hold_and_release(self, script):
        """Those that go on until they are interrupted: a lock, an election and its observer, a lease kept alive."""
        out = []

        def told(name, output, by=None):
            code, text, errors = output.end(by)
            lease = re.search(r"/([0-9a-f]+)\n", text)  # the lease of a session is a part of the key's name
            out.append((name, code, text.replace(lease[1], "LEASE") if lease else text, errors))

        held = script.start(["lock", "mutex"])
        held.wait_for_lines(2)
        waiting = script.start(["lock", "mutex", "echo", "got it"])
        wait(lambda: self.keys(script, "mutex") == 2)
        out.append(("lock: the second one waits", waiting.lines()))
        told("lock", held, signal.SIGINT)
        told("lock: it gets it", waiting)
        out.append(("lock: keys left", self.keys(script, "mutex")))

        observer = script.start(["elect", "-l", "boss"])
        leader = script.start(["elect", "boss", "one"])
        leader.wait_for_lines(2)
        next_one = script.start(["elect", "boss", "two"])
        wait(lambda: self.keys(script, "boss") == 2)
        observer.wait_for_lines(2)
        told("elect", leader, signal.SIGINT)
        next_one.wait_for_lines(2)
        observer.wait_for_lines(4)
        told("elect: the next one", next_one, signal.SIGTERM)
        _, text, _ = observer.end(signal.SIGINT)
        out.append(("elect -l", text.splitlines()[1::2]))
        out.append(("elect: keys left", self.keys(script, "boss")))

        script.run(["lease", "grant", "6"], check=True)
        script.name_leases()
        kept = script.start(["lease", "keep-alive", "L1"])
        kept.wait_for_lines(2)
        script.run(["lease", "revoke", "L1"], check=True)
        code, text, errors = kept.end()
        out.append(("lease keep-alive", code, sorted(set(script.apart(text).splitlines())), errors))
        return out

    def keys(self, script, prefix):
        return len(script.rpc.range(prefix.encode() + b"/", prefix.encode() + b"0").get(2, []))

    def test_locks_and_elections_say_the_same(self):
        self.assert_same_of_both(self.hold_and_release)


@harness.needs("etcdctl", "etcd34")
class Beside34(Beside):
    client, etcd = "etcdctl", "etcd34"


@harness.needs("etcdctl37", "etcd37")
class Beside37(Beside):
    client, etcd = "etcdctl37", "etcd37"


del Beside  # it is no test by itself


if __name__ == "__main__":
    harness.main()
