"""What etcdctl is asked to do by etcdctl_test.py."""

import dataclasses

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
    *[["get", "k", "--prefix", f"--{bound}-rev", "20", "-w", "json"]
      for bound in ("min-mod", "max-mod", "min-create", "max-create")],
    ["get", "k", "--prefix", "--min-mod-rev", "18", "--max-create-rev", "19", "--limit", "1", "-w", "fields"],
    *[["get", "k", "--prefix", "--stream", "-w", form] for form in ("simple", "json", "fields")],
    ["get", "k", "--prefix", "--stream", "--limit", "2", "-w", "json"], ["get", "none", "--stream", "-w", "json"],
    ["get", "k", "--prefix", "--stream", "--keys-only"], ["get", "a", "--stream", "--order", "DESCEND"],
    # txn
    (["txn", "-i"], TXN), (["txn", "--interactive", "-w", "json"], "\nget a\n\n\n"), (["txn"], TXN), (["txn"], TXN), (["txn", "-w", "json"], TXN), (["txn", "-w", "fields"], TXN),
    (["txn"], "\n\n\n"), (["txn"], '\nput x 1\nput x 2\n\n\n'), (["txn"], 'create("k1") != "0"\n\ndel k --prefix\n\n\n'),
    (["txn"], '\nget k --prefix\ndel k0\nput k9 back\n\n\n'), (["txn"], "nonsense\n\n\n\n"),
    (["txn"], "\n" + "".join(f"put many{i} x\n" for i in range(128)) + "\n\n"),
    (["txn"], "\n" + "".join(f"put many{i} x\n" for i in range(129)) + "\n\n"),
    # del
    ["del", "a"], ["del", "a"], ["del", "binary", "-w", "json"], ["del", "new", "--prev-kv"],
    ["del", "t", "--prev-kv", "-w", "json"], ["del", "k2", "k4", "--prev-kv", "-w", "fields"], ["del", "k", "--prefix"],
    *[["put", f"r{i}", "x"] for i in range(4)], ["del", "r1", "r3", "--range"], ["del", "r3", "--range"], ["del", "r", "s", "--range", "--prefix"],
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
    *[["member", "list", "--consistency", one] for one in ("l", "s", "x")],
    ["alarm", "list"], ["alarm", "disarm"],
    ["defrag"], ["defrag", "--cluster"], ["get", "left"], ["endpoint", "hashkv"],
]


@dataclasses.dataclass
class Watch:
    """A watch: how it is called (REV is the revision before all of these) and what happens while it watches."""

    command: list
    events: list = ()  # commands; of those in `unseen` it is told nothing
    lines: int = 0  # that come before it is interrupted
    typed: str = ""
    watchers: int = 1  # of it on the server; of one that is refused, 0
    ends: bool = False  # at the first event, by itself
    unseen: tuple = ()
    env: dict = dataclasses.field(default_factory=dict)
    needs37: bool = False


SHOW = ["--", "sh", "-c", "echo $ETCD_WATCH_REVISION $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE"]

WATCHES = [
    Watch(["watch", "a"], [("put", "a", "1"), ("put", "b", "x"), ("del", "a")], 6, unseen=("b",)),
    Watch(["watch", "a", "--prev-kv"], [("put", "a", "2"), ("put", "a", "3"), ("del", "a")], 13),
    Watch(["watch", "k", "--prefix"], [("put", "k1", "1"), ("put", "k2", "2"), ("put", "l", "3"), ("del", "k1")], 9,
          unseen=("l",)),
    Watch(["watch", "--prefix", ""], [("put", "k1", "1"), ("put", "z", "2")], 6),
    Watch(["watch", "k1", "k3"], [("put", "k1", "1"), ("put", "k2", "2"), ("put", "k3", "3")], 6, unseen=("k3",)),
    Watch(["watch", "k", "\\0"], [("put", "a", "1")], 0, unseen=("a",)),
    Watch(["watch", "a", "--hex"], [("put", "a", "hex")], 3),
    # Of the past: the lines are those of all events until then.
    Watch(["watch", "a", "--rev", "REV"], [("put", "a", "now")], 24),
    Watch(["watch", "k", "--prefix", "--rev", "REV", "--prev-kv"], [("put", "k9", "now")], 36),
    Watch(["watch", "k1", "--rev", "REV", "-w", "json"], [], 1),
    Watch(["watch", "k1", "--rev", "REV", "--prev-kv", "-w", "fields"], [], 50),
    Watch(["watch", "a", "--rev", "100000"]),
    # Other formats
    Watch(["watch", "a", "-w", "json"], [("put", "a", "in json"), ("del", "a")], 2),
    Watch(["watch", "a", "-w", "json", "--prev-kv"], [("put", "a", "x"), ("del", "a")], 2),
    Watch(["watch", "a", "-w", "fields"], [("put", "a", "x")], 11),
    Watch(["watch", "a", "-w", "table"], [("put", "a", "x")], ends=True),
    # Programs that it runs
    Watch(["watch", "a", *SHOW], [("put", "a", "run"), ("del", "a")], 8),
    Watch(["watch", "k", "--prefix", "--rev", "REV", *SHOW], [], 32),
    Watch(["watch", "a", "--", "sh", "-c", "exit 3"], [("put", "a", "run")], ends=True),
    Watch(["watch", "a", "--", "/no/such/program"], [("put", "a", "run")], ends=True),
    Watch(["watch", "a", "--"], watchers=0),
    # What is asked for comes from the environment, or twice.
    Watch(["watch"], [("put", "a", "1")], 3, env={"ETCDCTL_WATCH_KEY": "a"}),
    Watch(["watch", *SHOW], [("put", "k1", "1")], 4, env={"ETCDCTL_WATCH_KEY": "k1", "ETCDCTL_WATCH_RANGE_END": "k3"}),
    Watch(["watch"], env={"ETCDCTL_WATCH_RANGE_END": "k3"}, watchers=0),
    Watch(["watch", "a"], env={"ETCDCTL_WATCH_KEY": "a"}, watchers=0),
    Watch(["watch", "a", *SHOW], env={"ETCDCTL_WATCH_KEY": "a"}, watchers=0),
    # Typed ones
    Watch(["watch", "-i"], [("put", "a", "1"), ("put", "k5", "2")], 6, "watch a\nwatch k --prefix\n", 2),
    Watch(["watch", "-i"], [("put", "a", "1"), ("put", "k1", "2")], 9, "watch --prev-kv a\nwatch k1 -- echo run\n", 2),
    Watch(["watch", "-i"], [("put", "a", "2")], 3, "watch\n", env={"ETCDCTL_WATCH_KEY": "a"}),
    Watch(["watch", "-i"], [], 1, "watch none\nprogress\n\nnonsense\n"),
    Watch(["watch", "-i"], typed="watch --no-such-flag a\n", watchers=0),
    Watch(["watch", "-i"], typed="watch a --\n", watchers=0),
    # Refused
    Watch(["watch", "b", "a"], watchers=0),
    Watch(["watch"], watchers=0),
    Watch(["watch", "a", "b", "--prefix"], watchers=0),
    Watch(["watch", "a", "--rev", "x"], watchers=0),
    Watch(["watch", ""]),
    Watch(["watch", "a", "--progress-notify"], [("put", "a", "1")], 3, needs37=True),
]

# A header that etcd 3.4 leaves out; its client falls on that in one form.
NEEDS_37 = [["alarm", "list", "-w", "json"], ["alarm", "list", "-w", "fields"]]

# L1 is the first lease that was granted, and so on; @alarm raises NOSPACE; @ended waits until a lease has ended;
# @compact compacts all that can be.
LEASES = [
    ["lease", "grant", "1000"], ["lease", "grant", "500", "-w", "json"], ["lease", "grant", "800", "-w", "fields"],
    ["lease", "grant", "900", "-w", "table"], ["lease", "grant"], ["lease", "grant", "x"],
    ["lease", "grant", "1", "2"], ["lease", "grant", "9000000001"],
    ["lease"], ["lease", "nonsense"],
    # Keys of a lease
    ["put", "l1", "x", "--lease=L1"], ["put", "l2", "x", "--lease", "L1"], ["put", "l3", "x", "--lease=L2"],
    ["get", "l1", "-w", "json"], ["get", "l1", "-w", "fields"],
    ["put", "l2", "without"], ["put", "l3", "y", "--ignore-lease"], ["put", "l3", "--ignore-value", "--lease=L1"],
    ["put", "l3", "z", "--ignore-lease", "--lease=L1"], ["put", "none", "x", "--ignore-lease"],
    (["txn"], '\nput l4 x --lease=L1\nget l4\n\n\n'), (["txn"], '\nput l5 x --lease=7b\n\n\n'),
    (["txn"], '\nput l6 x --lease=L3\nput l7 x --lease=L1\n\n\n'),
    ["put", "moved", "x", "--lease=L1"], ["put", "moved", "y", "--lease=L2"], ["lease", "timetolive", "L2", "--keys"],
    ["put", "l1", "x", "--lease=xyz"], ["put", "l1", "x", "--lease=7b"], ["get", "l3", "-w", "json"],
    ["del", "l3", "--prev-kv", "-w", "json"],
    # What is told of a lease
    *[["lease", "timetolive", "L1", *keys, "-w", form] for keys in ([], ["--keys"])
      for form in ("simple", "json", "fields", "table")],
    ["lease", "timetolive", "L3", "--keys"], ["lease", "timetolive", "7b"], ["lease", "timetolive", "7b", "-w", "json"],
    ["lease", "timetolive", "0"], ["lease", "timetolive", "xyz"], ["lease", "timetolive"],
    *[["lease", "list", "-w", form] for form in ("simple", "json", "fields", "table")],
    *[["lease", "keep-alive", "--once", "L1", "-w", form] for form in ("simple", "json", "fields", "table")],
    ["lease", "keep-alive", "--once", "7b"], ["lease", "keep-alive", "--once", "xyz"], ["lease", "keep-alive", "7b"],
    ["lease", "keep-alive"],
    ["lease", "revoke", "L1"], ["lease", "revoke", "L1"], ["lease", "revoke", "L2", "-w", "json"],
    ["lease", "revoke", "L3", "-w", "fields"], ["lease", "revoke"], ["lease", "revoke", "xyz"], ["lease", "revoke", "0"],
    ["get", "l", "--prefix"], ["put", "l1", "x", "--lease=L1"], ["lease", "timetolive", "L1", "--keys"],
    ["lease", "list"],
    # The end of one
    ["lease", "grant", "2"], ["lease", "grant", "0"], ["lease", "grant", "--", "-1"],
    ["@ended", "L5"], ["@ended", "L6"], ["@ended", "L7"], ["lease", "timetolive", "L5"],
    ["lease", "keep-alive", "--once", "L5"], ["lease", "revoke", "L5"], ["lease", "list"],
    # Locks and elections that need nobody else
    ["lock", "m", "echo", "held"], ["lock", "m", "sh", "-c", "echo $ETCD_LOCK_REV; exit 7"], ["lock"],
    ["lock", "m", "/no/such/program"], ["lock", "--ttl", "3", "m", "true"], ["get", "m", "--prefix"],
    ["elect", "e"], ["elect", "-l", "e", "x"], ["elect"],
    # A full disk
    ["alarm", "list"], ["@alarm"], ["alarm", "list"], ["alarm", "list", "-w", "json"], ["alarm", "list", "-w", "fields"],
    ["alarm", "list", "-w", "table"], ["put", "full", "x"], ["lease", "grant", "100"], ["del", "l2"], (["txn"], "\nput full x\n\n\n"),
    ["get", "l2"], ["endpoint", "health"], ["lock", "m", "true"], ["compaction", "2", "--physical"],
    ["alarm", "disarm"], ["alarm", "disarm"], ["alarm", "list"], ["alarm", "list", "x"], ["alarm", "disarm", "x"],
    ["alarm"], ["alarm", "nonsense"], ["put", "full", "x"], ["endpoint", "health"],
    *[["compaction", *rest] for rest in (["9", "--physical"], ["9", "--physical"], ["x"], [], ["100000"],
                                         ["10", "--physical", "-w", "json"])],
    # Records name the leases of their keys, whose ids are random: without them the hashes are the same.
    ["@compact"], ["endpoint", "hashkv"],
]

# Users, roles, and who may do what. "@37" marks what only the client of 3.7 has.
ROOT, ALICE = ["--user", "root:rootpw"], ["--user", "alice:alicepw"]
AUTH = [
    ["user", "list"], ["role", "list"], ["@37", "auth", "status"], ["auth", "enable"],
    ["user", "add", "root:rootpw"], ["user", "add", "root:again"], ["user", "add", "alice:alicepw", "-w", "json"],
    ["user", "add", "nopw", "--no-password"], ["user", "add", ":x"], ["auth", "disable"],
    ["auth", "enable"], ["user", "grant-role", "root", "root"], ["user", "get", "root"],
    ["role", "add", "r"], ["role", "add", "r"], ["role", "add", "gone", "-w", "json"], ["role", "get", "r"],
    ["role", "grant-permission", "r", "read", "a"], ["role", "grant-permission", "r", "readwrite", "b", "d"],
    ["role", "grant-permission", "r", "write", "k/", "--prefix"], ["role", "grant-permission", "r", "read", "z", "--from-key"],
    ["role", "grant-permission", "r", "sideways", "a"], ["role", "grant-permission", "none", "read", "a"],
    ["role", "get", "r"], ["role", "get", "r", "-w", "json"], ["role", "get", "none"], ["role", "list"],
    ["role", "revoke-permission", "r", "z", "--from-key"], ["role", "revoke-permission", "r", "none"], ["role", "get", "r"],
    ["user", "grant-role", "alice", "r"], ["user", "grant-role", "alice", "none"], ["user", "grant-role", "none", "r"],
    ["user", "grant-role", "alice", "r"], ["user", "get", "alice"], ["user", "get", "alice", "--detail"],
    ["user", "get", "none"], ["user", "list", "-w", "json"],
    ["put", "a", "1"], ["put", "secret", "2"], ["get", "a", *ALICE],
    ["auth", "enable", "-w", "json"], ["auth", "enable", *ROOT], ["@37", "auth", "status", *ROOT],
    ["get", "a"], ["put", "a", "1"], ["get", "a", *ALICE], ["get", "secret", *ALICE], ["get", "a", "--user", "alice:wrong"],
    ["get", "a", "--user", "nobody:x"], ["get", "a", "--user", "nopw:x"], ["put", "a", "x", *ALICE],
    ["put", "b", "x", *ALICE], ["put", "c", "x", "--prev-kv", *ALICE], ["put", "k/1", "x", *ALICE],
    ["put", "k/1", "x", "--prev-kv", *ALICE], ["get", "b", "d", *ALICE], ["get", "b", "e", *ALICE],
    ["get", "", "--prefix", *ALICE], ["get", "", "--prefix", "--keys-only", *ROOT], ["del", "b", *ALICE],
    ["del", "k/", "--prefix", *ALICE], ["del", "k/", "--prefix", "--prev-kv", *ALICE],
    (["txn", *ALICE], '\nget a\nput b 1\n\n\n'), (["txn", *ALICE], '\nget a\n\nput secret 1\n\n'),
    (["txn", *ALICE], 'value("secret") = "2"\n\nget a\n\n\n'),
    ["lease", "grant", "1000"], ["lease", "list"], ["lease", "list", *ALICE], ["member", "list"], ["compaction", "2"],
    ["compaction", "2", *ALICE], ["compaction", "2", *ROOT], ["endpoint", "hashkv"], ["endpoint", "hashkv", *ALICE],
    ["alarm", "list", *ALICE], ["alarm", "disarm", *ALICE], ["user", "list", *ALICE], ["user", "get", "alice", *ALICE],
    ["user", "get", "root", *ALICE], ["role", "get", "r", *ALICE], ["role", "get", "gone", *ALICE],
    ["user", "add", "x:y", *ALICE], ["auth", "disable"], ["auth", "disable", *ALICE],
    ["user", "delete", "root", *ROOT], ["role", "delete", "root", *ROOT], ["user", "revoke-role", "root", "root", *ROOT],
    (["user", "passwd", "alice", "--interactive=false", *ROOT], "changed\n"), ["get", "a", *ALICE],
    ["get", "a", "--user", "alice:changed"], ["user", "revoke-role", "alice", "r", *ROOT],
    ["user", "revoke-role", "alice", "r", *ROOT], ["get", "a", "--user", "alice:changed"],
    ["role", "delete", "gone", *ROOT], ["role", "delete", "gone", *ROOT], ["user", "delete", "alice", *ROOT],
    ["user", "delete", "alice", *ROOT], ["user", "list", *ROOT], ["auth", "disable", *ROOT], ["auth", "disable"],
    ["get", "secret"], ["get", "secret", *ROOT], ["user", "delete", "root"], ["auth", "enable"], ["role", "list"],
]
