"""What etcdctl is asked to do by etcdctl_admin_test.py: accounts, members, downgrades, and what needs no server."""

FORMATS = ("simple", "json", "fields", "table", "protobuf")

ROOT = ["--user", "root:pw"]
ANN = ["--user", "ann:secret"]
BOB = ["--user", "bob", "--password", "b"]
NOBODY = ["--user", "nobody:pw"]


def in_each_format(*command):
    return [[*command, "-w", form] for form in FORMATS]


# A command may come with what is typed. Most are asked for by somebody with rights and by somebody without.
AUTH = [
    *in_each_format("auth", "status"), ["auth"], ["auth", "status", "x"], ["auth", "enable"], ["auth", "disable"],
    # Users
    ["user"], ["user", "add"], ["user", "add", "a", "b"], *in_each_format("user", "list"),
    ["user", "add", "root:pw"], ["user", "add", "ann:secret", "-w", "json"], ["user", "add", "ann:other"],
    ["user", "add", "bob", "--new-user-password", "b"], ["user", "add", "bob", "--no-password"],
    ["user", "add", "certified", "--no-password", "-w", "fields"],
    (["user", "add", "typed", "--interactive=false"], "typed one\n"), ["user", "add", ":x"], ["user", "add", "x:"],
    (["user", "add", "", "--interactive=false"], "x\n"), ["user", "add", "b:c:d", "-w", "table"],
    ["user", "add", "dörte:ä", "-w", "protobuf"],
    *in_each_format("user", "list"), *in_each_format("user", "get", "ann"), ["user", "get"], ["user", "get", "none"],
    ["user", "get", "ann", "--detail"], ["user", "list", "x"],
    # Roles
    ["role"], ["role", "add"], *in_each_format("role", "list"), ["role", "add", "reader"], ["role", "add", "reader"],
    ["role", "add", "root"], ["role", "add", "writer", "-w", "json"], ["role", "add", "all", "-w", "fields"],
    ["role", "add", ""], ["role", "add", "gone", "-w", "table"], ["role", "list", "x"],
    *in_each_format("role", "list"),
    ["role", "grant-permission"], ["role", "grant-permission", "reader", "read"],
    ["role", "grant-permission", "reader", "taste", "k"], ["role", "grant-permission", "none", "read", "k"],
    ["role", "grant-permission", "reader", "read", "a", "-w", "json"],
    ["role", "grant-permission", "reader", "read", "k", "--prefix", "-w", "fields"],
    ["role", "grant-permission", "reader", "read", "", "--prefix", "--from-key"],
    ["role", "grant-permission", "reader", "READWRITE", "b", "d"], ["role", "grant-permission", "reader", "read", "b", "c"],
    ["role", "grant-permission", "reader", "read", "d", "b"], ["role", "grant-permission", "reader", "read", "z", "z"],
    ["role", "grant-permission", "writer", "write", "w", "--from-key", "-w", "table"],
    ["role", "grant-permission", "writer", "write", "a"], ["role", "grant-permission", "writer", "readwrite", "a"],
    ["role", "grant-permission", "all", "readwrite", "--prefix", "", "-w", "protobuf"],
    ["role", "grant-permission", "gone", "read", "\x01", "é"], ["role", "grant-permission", "root", "read", "a"],
    *in_each_format("role", "get", "reader"), *in_each_format("role", "get", "writer"), ["role", "get", "all"],
    ["role", "get", "gone"], ["role", "get", "root"], ["role", "get", "none"], ["role", "get"], ["role", "get", "all", "-w", "json"],
    ["role", "revoke-permission"], ["role", "revoke-permission", "reader"], ["role", "revoke-permission", "reader", "none"],
    ["role", "revoke-permission", "none", "a"], ["role", "revoke-permission", "reader", "b", "c"],
    ["role", "revoke-permission", "reader", "b", "d", "-w", "json"],
    ["role", "revoke-permission", "reader", "k", "--prefix", "-w", "fields"], ["role", "get", "reader"],
    ["role", "grant-permission", "reader", "read", "k", "--prefix"],
    ["user", "grant-role"], ["user", "grant-role", "ann"], ["user", "grant-role", "ann", "none"],
    ["user", "grant-role", "none", "reader"], ["user", "grant-role", "ann", "reader", "-w", "json"],
    ["user", "grant-role", "ann", "reader"], ["user", "grant-role", "ann", "writer", "-w", "fields"],
    ["user", "grant-role", "bob", "all", "-w", "table"], ["user", "grant-role", "bob", "gone", "-w", "protobuf"],
    *in_each_format("user", "get", "ann"), ["user", "get", "bob", "--detail"], ["user", "get", "ann", "--detail", "-w", "json"],
    ["user", "revoke-role"], ["user", "revoke-role", "ann", "all"], ["user", "revoke-role", "none", "all"],
    ["user", "revoke-role", "bob", "none"], ["user", "revoke-role", "bob", "gone", "-w", "json"],
    ["user", "passwd"], ["user", "passwd", "none"], (["user", "passwd", "none", "--interactive=false"], "x\n"),
    (["user", "passwd", "ann", "--interactive=false"], "secret\n"), (["user", "passwd", "typed", "--interactive=false", "-w", "json"], "t\n"),
    # Credentials before it is on
    ["put", "a", "1"], ["put", "k1", "1"], [*ANN, "get", "a"], [*NOBODY, "get", "a"], ["--user", "ann:wrong", "get", "a"],
    ["auth", "enable"], ["user", "grant-role", "root", "root"], ["user", "grant-role", "root", "root"], ["auth", "status", "-w", "json"],
    ["auth", "enable", "x"], ["auth", "enable"], ["auth", "enable"],
    # Now it is.
    *[[*who, *command]
      for command in (
          ["get", "a"], ["get", "k", "--prefix"], ["get", "k1", "--rev", "2"], ["get", "", "--prefix", "--keys-only"], ["get", "a", "c"],
          ["put", "a", "2"], ["put", "w1", "2", "--prev-kv"], ["put", "x1", "2"], ["put", "a", "--ignore-value"], ["del", "w1"],
          ["del", "a", "--prev-kv"], ["del", "k", "--prefix"], ["put", "a", "back"], ["put", "k1", "back"],
          ["endpoint", "health"], ["endpoint", "hashkv"], ["alarm", "list"], ["alarm", "disarm"], ["defrag"],
          ["snapshot", "save", "DIR/snapshot"], ["lease", "list"], ["lease", "grant", "x"], ["lease", "revoke", "7b"],
          ["lease", "timetolive", "7b"], ["lease", "keep-alive", "--once", "7b"],
          ["user", "list"], ["user", "get", "ann"], ["user", "get", "bob"], ["user", "add", "new:new"], ["user", "delete", "new"],
          ["user", "grant-role", "ann", "all"], ["user", "revoke-role", "ann", "all"], ["role", "list"],
          ["role", "get", "reader"], ["role", "get", "all"], ["role", "get", "gone"], ["role", "add", "new"],
          ["role", "grant-permission", "new", "read", "a"], ["role", "revoke-permission", "new", "a"], ["role", "delete", "new"],
          ["auth", "status"], ["member", "list"], ["compaction", "3"],
      )
      for who in ([], ANN, ROOT)],
    [*BOB, "put", "anything", "1"], [*BOB, "get", "", "--prefix", "--keys-only"], [*BOB, "user", "get", "bob"],
    [*BOB, "user", "list"], [*BOB, "endpoint", "hashkv"], [*NOBODY, "get", "a"], ["--user", "ann:wrong", "get", "a"],
    ["--user", "ann:", "get", "a"], ["--user", "certified:x", "get", "a"], ["--user", "root", "--password", "pw", "get", "a"],
    ["--user", ":x", "get", "a"], ["--password", "pw", "get", "a"], ["--user", "b:c:d", "get", "a"], ["--user", "dörte:ä", "get", "a"],
    ["--user", "b", "--password", "c:d", "get", "a"],
    *[([*who, "txn"], text)
      for text in ('value("a") = "back"\n\nget k1\nput w2 x\n\nput x9 y\n\n', '\nget zzz\n\n\n', 'value("zzz") = "1"\n\nget a\n\n\n',
                   '\nput a 1\n\ndel zzz\n\n')
      for who in ([], ANN, BOB, ROOT)],
    [*ANN, "watch", "zzz"], ["watch", "a"], [*ANN, "watch", "k", "--rev", "1"],
    # Leases of keys that not all may touch
    [*ROOT, "lease", "grant", "1000"], [*ROOT, "put", "zzz", "x", "--lease=L1"], [*ANN, "lease", "timetolive", "L1"],
    [*ANN, "lease", "timetolive", "L1", "--keys"], [*ANN, "put", "w3", "x", "--lease=L1"], ["lease", "timetolive", "L1"],
    [*ANN, "lease", "keep-alive", "--once", "L1"], [*ANN, "lease", "revoke", "L1"], [*ANN, "lease", "list"],
    [*BOB, "lease", "timetolive", "L1", "--keys"], [*BOB, "lease", "revoke", "L1"], [*ROOT, "get", "zzz"],
    [*ANN, "lease", "grant", "500", "-w", "json"], [*ANN, "lease", "revoke", "L2"],
    # Locks and elections keep their keys below a name.
    [*BOB, "lock", "m", "echo", "held"], [*ANN, "lock", "zzz", "echo", "held"], ["lock", "m", "true"], [*BOB, "lock", "--ttl", "5", "m", "true"],
    # Root keeps what it has while this is on.
    [*ROOT, "user", "delete", "root"], [*ROOT, "user", "revoke-role", "root", "root"], [*ROOT, "role", "delete", "root"],
    [*ROOT, "user", "get", "root"], (["--user", "root:pw", "user", "passwd", "root", "--interactive=false"], "new\n"),
    [*ROOT, "get", "a"], (["--user", "root:new", "user", "passwd", "root", "--interactive=false"], "pw\n"), [*ROOT, "get", "a"],
    (["--user", "ann:secret", "user", "passwd", "ann", "--interactive=false"], "mine\n"),
    # Roles and users go.
    [*ROOT, "role", "delete"], [*ROOT, "role", "delete", "none"], [*ROOT, "role", "delete", "writer", "-w", "json"],
    [*ROOT, "user", "get", "ann"], [*ANN, "put", "w1", "x"], [*ANN, "get", "k1"], [*ROOT, "user", "revoke-role", "ann", "reader"],
    [*ANN, "get", "k1"], [*ROOT, "user", "delete"], [*ROOT, "user", "delete", "none"], [*ROOT, "user", "delete", "ann", "-w", "json"],
    [*ANN, "get", "k1"], *[[*ROOT, *command] for command in in_each_format("auth", "status")],
    [*ROOT, "endpoint", "status", "-w", "json"], ["endpoint", "status"],
    [*ANN, "auth", "disable"], ["auth", "disable"], [*ROOT, "auth", "disable", "x"], [*ROOT, "auth", "disable"], [*ROOT, "auth", "disable"],
    ["get", "a"], ["user", "list"], ["role", "list"], ["user", "delete", "root"], ["role", "delete", "root", "-w", "fields"], ["role", "delete", "all", "-w", "table"],
    ["user", "delete", "bob", "-w", "fields"], ["user", "delete", "typed", "-w", "table"], ["auth", "enable"], ["auth", "status"],
]

# M1 is the learner that is added. With a voting member that does not exist one member would have no majority.
MEMBERS = [
    ["member"], ["member", "add"], ["member", "add", "new"], ["member", "add", "new", "--peer-urls", "nonsense"],
    ["member", "add", "new", "--peer-urls=http://127.0.0.1:1", "--learner"], *in_each_format("member", "list"),
    ["member", "add", "again", "--peer-urls=http://127.0.0.1:1", "--learner"],
    ["member", "add", "again", "--peer-urls=http://127.0.0.1:2", "--learner"],
    ["member", "promote"], ["member", "promote", "M1"], ["member", "promote", "7b"], ["member", "promote", "xyz"],
    ["member", "update"], ["member", "update", "M1"], ["member", "update", "7b", "--peer-urls=http://127.0.0.1:3"],
    ["member", "update", "M1", "--peer-urls=http://127.0.0.1:3,http://127.0.0.1:4"], ["member", "list"],
    ["member", "update", "M1", "--peer-urls=http://127.0.0.1:5", "-w", "json"], ["move-leader", "M1"], ["put", "a", "1"],
    ["member", "remove"], ["member", "remove", "7b"], ["member", "remove", "xyz"], ["member", "remove", "M1"],
    ["member", "remove", "M1"], ["member", "list"], ["get", "a"],
    ["member", "add", "other", "--peer-urls=http://127.0.0.1:6", "--learner", "-w", "json"],
]

MOVES = [["move-leader"], ["move-leader", "7b"], ["move-leader", "xyz"], ["move-leader", "0"], ["move-leader", "7b", "8c"]]

# None is enabled: within four seconds the cluster's version would follow. members_test.py has that.
DOWNGRADES = [
    ["downgrade"], ["downgrade", "validate"], ["downgrade", "enable"], ["downgrade", "cancel"],
    *[["downgrade", "validate", version] for version in ("3.6", "3.6.0", "3.7", "3.8", "3.5", "2.9", "x", "", "-1.0")],
    ["downgrade", "validate", "3.6", "-w", "json"], ["downgrade", "enable", "3.5"], ["downgrade", "enable", "x"], ["downgrade", "enable", "3.7"],
    ["put", "a", "1"], ["downgrade", "cancel"], ["downgrade", "cancel", "-w", "json"], ["downgrade", "validate", "3.6", "-w", "fields"],
    ["downgrade", "nonsense"], ["get", "a"],
]

# The client's own business, and how it finds a server.
ALONE = [
    ["version"], ["version", "-w", "json"], ["completion", "bash"], ["completion", "zsh"], ["completion", "fish"], ["completion", "powershell"],
    ["completion"], ["completion", "tcsh"], ["help"], ["help", "get"], ["options"], ["nonsense"], [], ["--help"], ["get", "--no-such-flag"],
    ["snapshot"], ["snapshot", "save"], ["snapshot", "save", "/no/such/directory/file"],
    ["check"], ["check", "nonsense"], ["check", "perf", "--load", "x"], ["check", "datascale", "--load", "x"],
    ["make-mirror"], ["make-mirror", "a", "b"],
    ["--command-timeout", "30s", "put", "a", "1"], ["--dial-timeout", "30s", "get", "a"], ["--keepalive-time", "11s", "get", "a"],
    ["--keepalive-timeout", "7s", "get", "a"],
    ["--hex", "get", "a"], ["--write-out", "json", "get", "a"], ["-w", "nonsense", "get", "a"],
    ["--insecure-transport", "get", "a"], ["--insecure-skip-tls-verify", "get", "a"], ["--cacert", "/no/such/file", "get", "a"],
    ["defrag", "-w", "json"], ["defrag", "-w", "table"], ["alarm", "list", "-w", "table"],
    ["endpoint"], ["endpoint", "health", "--cluster"], ["endpoint", "status", "--cluster"], ["endpoint", "hashkv", "--cluster"],
    ["endpoint", "health", "-w", "fields"], ["endpoint", "nonsense"],
]

# Flags from the environment; the endpoints come from there, too.
VARIABLES = [
    ({}, ["put", "a", "1"]), ({"ETCDCTL_WRITE_OUT": "json"}, ["get", "a"]),
    ({"ETCDCTL_HEX": "true"}, ["get", "a"]), ({"ETCDCTL_DIAL_TIMEOUT": "30s", "ETCDCTL_COMMAND_TIMEOUT": "30s"}, ["get", "a"]),
    ({"ETCDCTL_DIAL_TIMEOUT": "x"}, ["get", "a"]), ({"ETCDCTL_CACERT": "/no/such/file"}, ["get", "a"]),
    ({"ETCDCTL_INSECURE_TRANSPORT": "true", "ETCDCTL_KEEPALIVE_TIME": "11s", "ETCDCTL_KEEPALIVE_TIMEOUT": "7s"}, ["get", "a"]),
    ({}, ["user", "add", "root:pw"]), ({}, ["user", "grant-role", "root", "root"]), ({}, ["auth", "enable"]), ({}, ["get", "a"]),
    ({"ETCDCTL_USER": "root:pw"}, ["get", "a"]), ({"ETCDCTL_USER": "root", "ETCDCTL_PASSWORD": "pw"}, ["get", "a"]),
    ({"ETCDCTL_USER": "root", "ETCDCTL_PASSWORD": "other"}, ["get", "a"]), ({"ETCDCTL_PASSWORD": "pw"}, ["get", "a"]),
    ({"ETCDCTL_USER": "root:pw", "ETCDCTL_WRITE_OUT": "table"}, ["endpoint", "hashkv"]), ({"ETCDCTL_USER": "root:pw"}, ["auth", "disable"]),
]
