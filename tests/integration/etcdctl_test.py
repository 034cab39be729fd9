"""etcdctl 3.4.23 cannot tell Cairn from its own etcd: the same commands, the same outputs and exit codes."""

import os
import re
import signal
import subprocess
import threading
import time

import harness

# What two servers may say differently, although they have the same addresses and so the same ids.
VARYING = [
    (r'"(raft_term|raftTerm|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse)":\d+', r'"\1":_'),
    (r'"(RaftTerm|RaftIndex|RaftAppliedIndex|DBSize)" : \d+', r'"\1" : _'),
    (r'"(version|Version)"( ?: ?)"3\.[\d.]+"', r'"\1"\2"_"'),
    (r"took = [\d.]+[mµ]?s", "took = _"),
    (r'"took":"[\d.]+[mµ]?s"', '"took":"_"'),
]
# endpoint, ID, version, size, leader, learner, term, index, applied, errors
STATUS_LINE = re.compile(r"^(\S+, \w+), [\d.]+, [\d.]+ \wB, (\w+, \w+), \d+, \d+, \d+, (.*)$", re.M)
STATUS_ROW = re.compile(r"^\| +(127\S+) \| (\w+) \| +\S+ \| +[\d.]+ \wB \| +(\w+) \| +(\w+) \|[\d |]+\|([^|]*)\|$", re.M)
HEALTH_ROW = re.compile(r"^\| (127\S+) \| +(\w+) \| +\S+ \|([^|]*)\|$", re.M)
# In hundreds of seconds: a busy machine takes its time.
REMAINING = re.compile(r'(remaining\(|"ttl":|"TTL" : )(\d+)')
GRANTED = re.compile(r'lease (\w+) granted|"ID":(\d+),"TTL"|"ID" : (\d+)')
RULER = re.compile(r"^[+-]+$", re.M)

TXN = 'value("a") = "1"\nmod("a") > "1"\nver("none") = "0"\n\nput a 2\nget a\nput t x\n\nget none\n\n'

COMMANDS = [
    # put
    ["put", "a", "1"],
    ["put", "a", "1", "--prev-kv"],
    ["put", "new", "1", "--prev-kv", "-w", "json"],
    ["put", "a", "", "-w", "fields"],
    ["put", "a", "--ignore-value"],
    ["put", "a", "1", "--ignore-lease", "-w", "json"],
    ["put", "none", "--ignore-value"],
    ["put", "a", "--ignore-value", "--prev-kv", "-w", "fields"],
    ["put", "binary", "\x01\x7f é", "-w", "json"],
    ["put", "", "x"],
    ["put", "leased", "x", "--lease=7b"],
    ["put", "a", "1", "-w", "table"],
    ["put", "a", "1", "-w", "protobuf"],
    ["put"],
    *[["put", f"k{i}", f"v{9 - i}"] for i in range(6)],
    ["put", "k1", "again"], ["put", "k1", "and again"], ["put", "k3", "again"],
    # get
    ["get", "a"], ["get", "a", "-w", "json"], ["get", "a", "-w", "fields"], ["get", "a", "--hex"],
    ["get", "a", "-w", "json", "--hex"], ["get", "a", "-w", "protobuf"], ["get", "a", "-w", "table"],
    ["get", "none"], ["get", "none", "-w", "json"], ["get", "binary", "-w", "fields"], ["get", ""], ["get"],
    ["get", "k", "--prefix"], ["get", "k1", "k4"], ["get", "k1", "k4", "-w", "json"], ["get", "k4", "k1"],
    ["get", "k3", "--from-key"], ["get", "", "--from-key", "-w", "json"], ["get", "", "--prefix", "--keys-only"],
    ["get", "k", "--prefix", "--keys-only", "-w", "json"], ["get", "k", "--prefix", "--print-value-only"],
    ["get", "k", "--prefix", "--count-only", "-w", "json"], ["get", "k", "--prefix", "--count-only", "-w", "fields"],
    ["get", "k", "--prefix", "--limit", "2"], ["get", "k", "--prefix", "--limit", "2", "-w", "json"],
    *[["get", "k", "--prefix", "--order", order, "--sort-by", by, "-w", "json"]
      for order in ("ASCEND", "DESCEND") for by in ("CREATE", "KEY", "MODIFY", "VALUE", "VERSION")],
    ["get", "k", "--prefix", "--sort-by", "VALUE", "--limit", "3"], ["get", "k", "--prefix", "--order", "DESCEND"],
    ["get", "k", "--prefix", "--order", "SIDEWAYS"], ["get", "k", "--prefix", "--sort-by", "TASTE"],
    ["get", "a", "--rev", "2"], ["get", "k", "--prefix", "--rev", "16", "-w", "json"], ["get", "a", "--rev", "1000"],
    ["get", "a", "--consistency", "s", "-w", "json"], ["get", "a", "--consistency", "l"],
    ["get", "a", "--consistency", "x"], ["get", "a", "--prefix", "--from-key"], ["get", "a", "b", "c"],
    # txn
    (["txn"], TXN), (["txn"], TXN), (["txn", "-w", "json"], TXN), (["txn", "-w", "fields"], TXN),
    (["txn"], "\n\n\n"), (["txn"], '\nput x 1\nput x 2\n\n\n'), (["txn"], 'create("k1") != "0"\n\ndel k --prefix\n\n\n'),
    (["txn"], '\nget k --prefix\ndel k0\nput k9 back\n\n\n'), (["txn"], "nonsense\n\n\n\n"),
    (["txn"], "\n" + "".join(f"put many{i} x\n" for i in range(128)) + "\n\n"),
    (["txn"], "\n" + "".join(f"put many{i} x\n" for i in range(129)) + "\n\n"),
    # del
    ["del", "a"], ["del", "a"], ["del", "binary", "-w", "json"], ["del", "new", "--prev-kv"],
    ["del", "t", "--prev-kv", "-w", "json"], ["del", "k2", "k4", "--prev-kv", "-w", "fields"], ["del", "k", "--prefix"],
    ["del", "many9", "--from-key", "--prev-kv"], ["del", ""], ["del"], ["put", "left", "over"],
    # the cluster
    *[["endpoint", "hashkv", "-w", form] for form in ("simple", "json", "fields", "table")],
    ["endpoint", "hashkv", "--rev", "7"], ["endpoint", "hashkv", "--rev", "100000"],
    # compaction
    ["compaction", "10"], ["compaction", "10"], ["compaction", "9"], ["compaction", "100000"], ["compaction", "x"],
    ["compaction", "12", "--physical"], ["compaction", "13", "-w", "json"], ["compaction"],
    ["get", "a", "--rev", "8"], ["get", "a", "--rev", "13", "-w", "json"], ["get", "k", "--prefix", "--rev", "20"],
    ["endpoint", "hashkv"], ["endpoint", "hashkv", "--rev", "20"], ["endpoint", "hashkv", "--rev", "5"],
    *[["endpoint", "status", "-w", form] for form in ("simple", "json", "fields", "table")],
    *[["endpoint", "health", "-w", form] for form in ("simple", "json", "table")],
    *[["endpoint", "status", "--cluster", "-w", form] for form in ("json",)],
    *[["member", "list", "-w", form] for form in ("simple", "json", "fields", "table")],
    ["member", "list", "--hex", "-w", "json"],
    ["alarm", "list"], ["alarm", "disarm"],
    # leases; {0} is the first that was granted, {1} the second
    ["lease", "list"], ["lease", "list", "-w", "json"],
    ["lease", "grant", "600"], ["lease", "grant", "1", "-w", "json"], ["lease", "grant", "700", "-w", "fields"],
    ["lease", "grant", "9000000001"], ["lease", "grant"], ["lease", "grant", "x"],
    ["lease", "list"], ["lease", "list", "-w", "json"],
    ["put", "l2", "x", "--lease={0}"], ["put", "l1", "x", "--lease={0}", "-w", "json"],
    ["get", "l1", "-w", "fields"], ["put", "l1", "y", "--ignore-lease"], ["get", "l1", "-w", "json"],
    *[["lease", "timetolive", "{0}", "--keys", "-w", form] for form in ("json", "fields")],
    ["lease", "timetolive", "{0}"], ["lease", "timetolive", "123"], ["lease", "timetolive", "123", "-w", "json"],
    ["put", "l2", "z", "--lease={2}"], ["put", "l3", "x", "--lease={2}"], ["put", "l3", "x"],
    ["lease", "timetolive", "{2}", "--keys"], ["lease", "timetolive", "{0}", "--keys"],
    ["lease", "keep-alive", "{0}", "--once"], ["lease", "keep-alive", "{0}", "--once", "-w", "json"],
    ["lease", "keep-alive", "123", "--once"], ["lease", "keep-alive", "123"],
    (["txn"], '\nput l4 x --lease={2}\nput l5 x --lease={0}\n\n\n'), (["txn"], '\nput l6 x --lease=123\n\n\n'),
    ["lease", "revoke", "{2}"], ["get", "l", "--prefix", "-w", "json"], ["lease", "revoke", "{2}"],
    ["lease", "revoke", "{0}", "-w", "json"], ["get", "l", "--prefix", "-w", "json"], ["lease", "revoke", "x"],
]

# How it is called (REV is the first revision of all of these), what is typed, what happens while it watches, and how
# many lines come before the watch is ended.
WATCHES = [
    (["watch", "a"], "", [("put", "a", "1"), ("put", "b", "x"), ("del", "a")], 5),
    (["watch", "a", "--prev-kv"], "", [("put", "a", "2"), ("put", "a", "3"), ("del", "a")], 12),
    (["watch", "k", "--prefix"], "", [("put", "k1", "1"), ("put", "k2", "2"), ("put", "l", "3"), ("del", "k1")], 8),
    (["watch", "k1", "k3"], "", [("put", "k1", "1"), ("put", "k2", "2"), ("put", "k3", "3")], 6),
    (["watch", "k", "--from-key"], "", [("put", "a", "1"), ("put", "z", "2")], 3),
    (["watch", "a", "--rev", "REV"], "", [("put", "a", "now")], 18),
    (["watch", "k", "--prefix", "--rev", "REV", "--prev-kv"], "", [("put", "k9", "now")], 30),
    (["watch", "a", "--rev", "REV", "-w", "json"], "", [], 1),
    (["watch", "a", "--rev", "REV", "--prev-kv", "-w", "fields"], "", [], 20),
    (["watch", "a", "-w", "json"], "", [("put", "a", "in json")], 1),
    (["watch", "a", "-w", "json", "--prev-kv"], "", [("del", "a")], 1),
    (["watch", "a", "--", "sh", "-c", "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE"], "",
     [("put", "a", "run"), ("del", "a")], 7),
    (["watch", "-i"], "watch a\nwatch k --prefix\n", [("put", "a", "1"), ("put", "k5", "2")], 6),
    (["watch", "-i"], "watch none\nprogress\nnonsense\n", [], 1),
    (["watch", "b", "a"], "", [], 1),
    (["watch"], "", [], 1),
]


def with_lease_keys_sorted(text):
    """etcd names the keys of a lease in the order of a Go map."""
    def sort_by(separator):
        return lambda found: separator.join(sorted(found[0].split(separator)))
    text = re.sub(r'(?<="keys":\[)[^]]+', sort_by(","), text)
    text = re.sub(r"(?<=attached keys\(\[)[^]]+", sort_by(" "), text)
    return re.sub(r'("Key" : .*\n){2,}', lambda found: "".join(sorted(found[0].splitlines(True))), text)


def normalised(text, server):
    for number, lease in enumerate(server.leases):
        text = re.sub(rf"\b0*{lease.lstrip('0')}\b|\b{int(lease, 16)}\b", f"LEASE{number}", text)
    text = with_lease_keys_sorted(text)
    text = REMAINING.sub(lambda found: f"{found[1]}{int(found[2]) // 100}xx", text)
    text = text.replace(str(server.dir_of_test), "DIR")
    for pattern, replacement in VARYING:
        text = re.sub(pattern, replacement, text)
    text = STATUS_LINE.sub(r"\1, _, \2, _, \3", text)
    text = STATUS_ROW.sub(r"| \1 | \2 | \3 | \4 |\5|", text)
    text = HEALTH_ROW.sub(r"| \1 | \2 |\3|", text)
    return RULER.sub("+-+", re.sub(r" +", " ", text))


@harness.needs("etcdctl", "etcd34")
class BesideEtcd(harness.Case):
    maxDiff = None

    def outputs(self, kind, ports):
        server = self.server(kind, self.dir / kind, ports=ports).start()
        server.dir_of_test = self.dir
        server.leases = []
        out = []
        for command in COMMANDS:
            command, given = command if isinstance(command, tuple) else (command, "")
            said = " ".join(command)
            if "{" in said + given:
                command = [word.format(*server.leases) for word in command]
                given = given.format(*server.leases)
            done = subprocess.run([str(harness.program("etcdctl")), "--endpoints", server.endpoint, *command],
                                  input=given.encode(), capture_output=True, timeout=60, check=False,
                                  env={"PATH": os.environ["PATH"], "ETCDCTL_API": "3"})
            if command[:2] == ["lease", "grant"] and done.returncode == 0:
                granted = GRANTED.search(done.stdout.decode())
                server.leases.append(granted[1] or f"{int(granted[2] or granted[3]):x}")
            texts = [normalised(text.decode(errors="backslashreplace"), server)
                     for text in (done.stdout, done.stderr)]
            # The log lines of the client are about its connection.
            texts[1] = "".join(re.sub(r'^\{"level":"warn".*', "", line) for line in texts[1].splitlines(True))
            out.append((said, done.returncode, *texts))
        # Records name the leases of their keys, whose ids are random: the hashes are the same without them.
        revision = int(re.search(r'"revision":(\d+)', self.etcdctl(server, "put", "left", "over", "-w", "json").stdout)[1])
        self.etcdctl(server, "compaction", str(revision), "--physical")
        # With the scheme, which this client then also sends as :authority.
        for command in (["get", "left"], ["endpoint", "status"], ["endpoint", "hashkv"], ["endpoint", "health"]):
            done = self.etcdctl(server, "--endpoints", f"http://{server.endpoint}", *command)
            out.append((" ".join(command), normalised(done.stdout, server)))
        first = server.client().revision() + 1
        for command, *rest in WATCHES:
            out.append(self.watched(server, [str(first) if word == "REV" else word for word in command], *rest))
        compaction = server.client().revision()
        self.etcdctl(server, "compaction", compaction)
        out.append(self.watched(server, ["watch", "a", "--rev", "2"], "", [], 1))
        snapshot = self.dir / f"{kind}.snapshot"
        self.etcdctl(server, "snapshot", "save", snapshot)
        status = self.etcdctl(server, "snapshot", "status", snapshot, "-w", "fields").stdout
        out.append(("snapshot status", re.search(r'"Revision" : (\d+)', status)[1]))
        self.assertEqual(server.stop(), -15)
        return out

    def watched(self, server, command, typed, events, lines):
        """What a watch says while keys change, until so many lines have come, or it has ended, or nothing comes."""
        process = subprocess.Popen([str(harness.program("etcdctl")), "--endpoints", server.endpoint, *command],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env={"PATH": os.environ["PATH"], "ETCDCTL_API": "3"})
        process.stdin.write(typed.encode())
        process.stdin.flush()
        wanted = typed.count("watch") or 1
        self.wait(lambda: process.poll() is not None or self.watcher_count(server) >= wanted)
        text = bytearray()

        def read():
            for piece in iter(lambda: process.stdout.read1(), b""):
                text.extend(piece)

        reader = threading.Thread(target=read)
        reader.start()
        for event in events:
            before = len(text)
            self.etcdctl(server, *event)
            self.wait(lambda: len(text) > before, 0.5)  # so that each is a response of its own
        self.wait(lambda: process.poll() is not None or text.count(b"\n") >= lines, 2)
        time.sleep(0.1)  # a line too many would come
        process.send_signal(signal.SIGINT)
        process.wait(10)
        reader.join()
        errors = process.stderr.read().decode()
        process.stdin.close(), process.stdout.close(), process.stderr.close()
        self.wait(lambda: self.watcher_count(server) == 0)
        return (" ".join(command), normalised(text.decode(), server), errors)

    def watcher_count(self, server):
        _, _, page = server.http("/metrics")
        return int(re.search(r"^etcd_debugging_mvcc_watcher_total (\d+)", page, re.M)[1])

    def wait(self, done, seconds=5):
        deadline = time.monotonic() + seconds
        while not done() and time.monotonic() < deadline:
            time.sleep(0.01)

    def test_each_command_says_the_same(self):
        ports = (harness.free_port(), harness.free_port())
        etcd, cairn = (self.outputs(kind, ports) for kind in ("etcd34", "cairn"))
        for expected, found in zip(etcd, cairn, strict=True):
            with self.subTest(expected[0]):
                self.assertEqual(expected, found)


if __name__ == "__main__":
    harness.main()
