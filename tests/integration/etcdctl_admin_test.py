"""What operators ask of etcdctl: accounts, members, downgrades, mirrors, checks. Both clients beside etcd 3.7."""

import concurrent.futures
import json
import re
import time
import signal
import subprocess

import etcdctl
import etcdctl_admin_scripts as scripts
import etcdctl_scripts
import harness

# Leaf commands without a script, and why.
WITHOUT_SCRIPT = {
    "help": "asks nothing of a server",
    "migrate": "reads a directory of the v2 API",
    "snapshot restore": "reads a file: restore_test.py",
    "snapshot status": "reads a file: etcdctl_test.py",
}
# Flags without a script, and why: of all commands, or of one.
FLAGS_WITHOUT_SCRIPT = {
    "": {"--cert", "--key",  # tls_test.py
         "--debug",  # adds the client's log
         "--discovery-srv", "--discovery-srv-name", "--insecure-discovery",  # ask DNS, not a server
         "--endpoints",  # in each command
         "--help"},
    "defrag": {"--data-dir"},  # reads a directory
    "make-mirror": {"--dest-cacert", "--dest-cert", "--dest-key"},  # of etcdctl's own connection, as --cacert is
}
# What the functions below ask for.
CHECK = ["--auto-compact", "--auto-defrag", "--prefix", "/checked", "--load", "s"]
SAID_ELSEWHERE = [
    ["make-mirror", "--prefix", "--dest-prefix", "--no-dest-prefix", "--max-txn-ops", "--rev", "--dest-user", "--dest-password",
     "--dest-insecure-transport"],
    ["check", "perf", *CHECK], ["check", "datascale", *CHECK],
]
SHORT = {"-i": "--interactive", "-w": "--write-out", "-l": "--listen"}
# Servers that hash passwords quickly.
QUICK = ["--bcrypt-cost", "4"]


class Beside(etcdctl.Beside):
    """The tests; a class below names client and etcd."""

    def need_served(self, *methods):
        absent = etcdctl.unserved(*methods)
        if absent:
            self.skipTest("not served yet: " + ", ".join(absent))

    def outputs(self, kind, ports, commands, flags):
        server = self.server(kind, self.dir / kind, ports=ports, flags=flags).start()
        script = self.script(server)
        out = []
        for command in commands:
            command, given = command if isinstance(command, tuple) else (command, "")
            asked = [word.replace("DIR", str(self.dir)) for word in command]
            if command[:2] == ["member", "add"]:
                time.sleep(1)  # ids are made of the URLs and the second
            code, text, errors = script.run(asked, given)
            if code == 0:
                self.note(script, command, text)
            said = [script.named(etcdctl.normalised(part, server)) for part in (text, etcdctl.without_log(errors))]
            out.append((" ".join(command) + given, code, *(self.comparable(command, part) for part in said)))
        script.stop()
        self.assertEqual(server.stop(), -15)
        return out

    @staticmethod
    def note(script, command, text):
        """New ids."""
        if "lease" in command and "grant" in command:
            granted = re.search(r"^lease ([0-9a-f]+) granted", text)
            script.leases.append(granted[1] if granted else f"{json.loads(text)['ID']:016x}")
        elif "member" in command and "add" in command:
            script.name_member(text)

    @staticmethod
    def comparable(command, text):
        """Without random ids in an encoding or an order, and without times left."""
        text = re.sub(r"remaining\(\d+s\)", "remaining(_)", text)
        text = re.sub(r"/[0-9a-f]{12,16}\b", "/SESSION", text)  # the key of a lock
        if "member" in command and command[-2:] == ["-w", "protobuf"]:
            return len(text) > 0
        if re.search(r"MEMBER\d", text):  # members come in the order of their ids
            return sorted(re.findall(r'[^\s,="{}\[\]]+', text))
        return text

    def check_in_turn(self, commands, flags=()):
        """One after the other at the same addresses: so that members and clusters have the same ids."""
        ports = (harness.free_port(), harness.free_port())
        etcd, cairn = (self.outputs(kind, ports, commands, flags) for kind in (self.etcd, "cairn"))
        self.assert_same(etcd, cairn)

    def test_accounts_say_the_same(self):
        self.need_served("Auth/AuthEnable", "Auth/UserAdd", "Auth/RoleAdd")
        self.check_in_turn(scripts.AUTH, QUICK)

    def test_members_say_the_same(self):
        self.need_served("Cluster/MemberAdd of a member", "Cluster/MemberUpdate", "Cluster/MemberPromote", "Cluster/MemberRemove")
        self.check_in_turn(scripts.MEMBERS)

    def test_moves_say_the_same(self):
        self.need_served("Maintenance/MoveLeader")
        self.check_in_turn(scripts.MOVES)

    def test_downgrades_say_the_same(self):
        self.need_served("Maintenance/Downgrade")
        self.check_in_turn(scripts.DOWNGRADES)

    def test_what_needs_no_cluster_says_the_same(self):
        self.check_in_turn(scripts.ALONE)

    def by_environment(self, kind, ports):
        server = self.server(kind, self.dir / kind, ports=ports, flags=QUICK).start()
        script = self.script(server)
        out = []
        for variables, command in scripts.VARIABLES:
            code, text, errors = script.run_by_environment(variables, command)
            out.append((str(variables) + " ".join(command), code, etcdctl.normalised(text, server),
                        etcdctl.normalised(etcdctl.without_log(errors), server)))
        self.assertEqual(server.stop(), -15)
        return out

    def test_what_variables_ask_for_says_the_same(self):
        ports = (harness.free_port(), harness.free_port())
        self.assert_same(*(self.by_environment(kind, ports) for kind in (self.etcd, "cairn")))

    # Mirrors

    def mirrored(self, script, flags, before, after, awaited, as_root=False):
        """What a mirror has, once the `awaited` keys are there. It may ask for a password."""
        target = self.server(script.server.kind, self.dir / f"{script.server.kind}.{len(self.servers)}", flags=QUICK).start()
        mirror = self.script(target)
        root = ["--user", "root:pw"] if as_root else []
        for command in (["user", "add", "root:pw"], ["user", "grant-role", "root", "root"], ["auth", "enable"]) if as_root else ():
            mirror.run(command, check=True)
        for command in before:
            script.run(command, check=True)
        running = script.start(["make-mirror", *flags, target.endpoint])
        for i, command in enumerate(after):
            if i == 1:  # the mirror has caught up with what was there
                etcdctl.wait(lambda: mirror.run(["get", awaited[0], *root])[1])
            script.run(command, check=True)
        for key in awaited:
            etcdctl.wait(lambda: mirror.run(["get", key, *root])[1])
        code, text, errors = running.end(signal.SIGINT)
        self.assertEqual(target.http("/health")[0], 200)
        out = mirror.run(["get", "", "--prefix", *root])[1]
        target.stop()
        return (flags, code, text, errors, out)

    def mirrors(self, script):
        put = [["put", f"m{i}", f"{i}"] for i in range(4)]
        of_37 = [] if self.client == "etcdctl" else [
            ([["put", "z", "again"]], ["--prefix", "m", "--max-txn-ops", "2"], [["put", "m1", "x"], ["del", "m3", "n"], ["put", "m5", "end"]],
             ["m1", "m5"], False),  # one revision of several keys
            ([], ["--prefix", "m", "--dest-prefix", "m", "--rev", "4"], [["put", "m4", "x"], ["put", "m3", "end"]], ["m4", "m3"], False),
            ([], ["--prefix", "m", "--dest-user", "root", "--dest-password", "pw", "--dest-insecure-transport"],
             [["put", "m4", "x"], ["put", "m3", "end"]], ["m4", "m3"], True),
        ]
        return [
            self.mirrored(script, [], [["put", "z", "z"], *put], [["put", "m1", "new"], ["put", "m9", "9"], ["del", "m2"], ["put", "zz", "end"]],
                          ["m1", "m9", "zz"]),
            self.mirrored(script, ["--prefix", "m"], [], [["put", "m1", "newer"], ["put", "m8", "8"]], ["m1", "m8"]),
            self.mirrored(script, ["--prefix", "m", "--dest-prefix", "to/"], [], [["put", "m1", "newest"], ["put", "m7", "7"]], ["to/1", "to/7"]),
            self.mirrored(script, ["--prefix", "m", "--no-dest-prefix"], [], [["put", "m1", "last"], ["put", "m6", "6"]], ["1", "6"]),
            *(self.mirrored(script, flags, before, after, awaited, as_root) for before, flags, after, awaited, as_root in of_37),
        ]

    def test_mirrors_are_the_same(self):
        self.assert_same_of_both(self.mirrors)

    # Every command

    def below(self, words, begun=""):
        """How a command can go on, as the client tells a shell."""
        done = subprocess.run([str(harness.program(self.client)), "__complete", *words, begun], capture_output=True, text=True,
                              env={"PATH": "/usr/bin:/bin", "ETCDCTL_API": "3"}, check=True)
        return [line.split("\t")[0] for line in done.stdout.splitlines() if "\t" in line]

    def leaves(self):
        """The commands that have no subcommands."""
        leaves = []
        for first in self.below([]):
            seconds = self.below([first]) if first not in ("help", "completion") else []
            leaves += [f"{first} {second}" for second in seconds] or [first]
        return leaves

    @staticmethod
    def said():
        """All commands, as lists of words."""
        parts = (scripts.AUTH, scripts.MEMBERS, scripts.MOVES, scripts.DOWNGRADES, scripts.ALONE, etcdctl_scripts.COMMANDS,
                 etcdctl_scripts.LEASES, etcdctl_scripts.AUTH)
        return [*(list(command[0] if isinstance(command, tuple) else command) for part in parts for command in part),
                *(watch.command for watch in etcdctl_scripts.WATCHES), *(command for _, command in scripts.VARIABLES), *SAID_ELSEWHERE]

    def test_each_command_has_a_script(self):
        said = [" ".join(command) for command in self.said()]
        leaves = self.leaves()
        self.assertGreater(len(leaves), 30, leaves)
        unsaid = [leaf for leaf in leaves if leaf not in WITHOUT_SCRIPT
                  and not any(re.search(rf"(^| ){re.escape(leaf)}( |$)", command) for command in said)]
        self.assertEqual(unsaid, [])

    def test_each_flag_has_a_script(self):
        said, unsaid, count = self.said(), [], 0
        everywhere = set(self.below([], "--"))
        for leaf in [*(leaf for leaf in self.leaves() if leaf not in WITHOUT_SCRIPT), ""]:
            asked = [command for command in said if leaf in " ".join(command)]
            given = {SHORT.get(word.split("=")[0], word.split("=")[0]) for command in asked for word in command}
            flags = set(self.below(leaf.split(), "--")) - (everywhere if leaf else set())
            flags = {flag for flag in flags if flag.startswith("--")} - FLAGS_WITHOUT_SCRIPT[""] - FLAGS_WITHOUT_SCRIPT.get(leaf, set())
            count += len(flags)
            unsaid += [f"{leaf} {flag}" for flag in sorted(flags - given)]
        self.assertGreater(count, 40)
        self.assertEqual(unsaid, [])


@harness.needs("etcdctl", "etcdctl37", "etcd37")
class Checks(harness.Case):
    """Both clients at a time, as a check of the performance takes a minute."""

    # Whether this machine is quick enough is not asked here.
    SAID = re.compile(r"Throughput|Slowest request|Stddev|Approximate system memory used|Compact\w+ with revision|Defragment\w+|"
                      r"too many errors|ERROR|Error")

    def checks(self, client, server):
        server.dir_of_test = self.dir
        script = etcdctl.Script(client, server)
        out = []
        for check in ("perf", "datascale"):
            done = subprocess.run(script.arguments(["check", check, *CHECK]), capture_output=True, text=True,
                                  env=script.environment(), timeout=500, check=False)
            out.append((client, check, done.returncode in (0, 1), self.SAID.findall(done.stdout)))
        left = script.run(["get", "/checked", "--prefix", "--count-only", "-w", "fields"])[1]
        return [*out, '"Count" : 0' in left]

    def test_checks_run(self):
        clients = ("etcdctl", "etcdctl37")
        servers = [[self.server(kind, self.dir / f"{kind}.{client}").start() for kind in ("etcd37", "cairn")] for client in clients]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            told = [[pool.submit(self.checks, client, server) for server in pair] for client, pair in zip(clients, servers, strict=True)]
            for etcd, cairn in told:
                self.assertEqual(etcd.result(), cairn.result())
                self.assertIn("Throughput", etcd.result()[0][3])
                self.assertNotIn("too many errors", etcd.result()[0][3])


@harness.needs("etcdctl", "etcd37")
class Beside34(Beside):
    client, etcd = "etcdctl", "etcd37"


@harness.needs("etcdctl37", "etcd37")
class Beside37(Beside):
    client, etcd = "etcdctl37", "etcd37"


@harness.needs("etcdctl37", "etcd37")
class OverTls37(etcdctl.OverTls, Beside):
    """Who shows no name and no password has the name in the certificate."""

    client, etcd, common_name = "etcdctl37", "etcd37", "certified"
    # These ask no server, or mirror to one in clear, or take all that the client is told from the environment.
    test_each_command_has_a_script = test_each_flag_has_a_script = test_mirrors_are_the_same = None
    test_what_variables_ask_for_says_the_same = None


del Beside  # it is no test by itself


if __name__ == "__main__":
    harness.main()
