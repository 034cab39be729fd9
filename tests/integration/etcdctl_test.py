"""etcdctl 3.4 and 3.7 cannot tell Cairn from their own etcd: the same commands, the same outputs and exit codes."""

import re
import signal
import time

import etcdctl
import harness
from etcdctl_scripts import AUTH, COMMANDS, LEASES, NEEDS_37, WATCHES

LEASE_ID = re.compile(r"\b[0-9a-f]{15,16}\b")


class Beside(etcdctl.Beside):
    """The tests; a class below names client and etcd."""

    def outputs(self, kind, ports):
        server = self.server(kind, self.dir / kind, ports=ports).start()
        script = self.script(server)
        out = []
        for command in COMMANDS:
            command, given = command if isinstance(command, tuple) else (command, "")
            code, text, errors = script.run(command, given)
            out.append((" ".join(command), code, etcdctl.normalised(text, server), etcdctl.normalised(etcdctl.without_log(errors), server)))
        # With the scheme, which the client of 3.4 then also sends as :authority.
        for command in (["get", "left"], ["endpoint", "status"], ["endpoint", "hashkv"], ["endpoint", "health"]):
            code, text, _ = script.run(["--endpoints", server.url, *command])
            out.append((" ".join(command), code, sorted(etcdctl.normalised(text, server).splitlines())))
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
        etcdctl.wait(lambda: output.process.poll() is not None or (watch.watchers and self.watchers(server) >= watch.watchers))
        for event in watch.events:
            before = output.lines()
            script.run(event, check=True)
            if event[1] not in watch.unseen:  # so that each is a response of its own
                etcdctl.wait(lambda: output.lines() > before or output.process.poll() is not None)
        goes_on = watch.watchers and not watch.ends
        if goes_on:
            output.wait_for_lines(watch.lines)
            time.sleep(0.1)  # a line too many would come
        code, text, errors = output.end(signal.SIGINT if goes_on else None)
        etcdctl.wait(lambda: self.watchers(server) == 0)
        return (" ".join(watch.command), watch.env, code, script.apart(text), script.apart(errors))

    def watchers(self, server):
        return server.metric("etcd_debugging_mvcc_watcher_total")

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
        etcdctl.wait(lambda: self.watchers(script.server) == 1)
        output.process.stdin.close()
        out.append(("watch that is typed, and ends", *output.end()))
        return out

    def test_watches_say_the_same(self):
        self.assert_same_of_both(self.watch_all)

    # Users and roles

    def run_auth(self, script):
        out = []
        for command in AUTH:
            command, given = command if isinstance(command, tuple) else (command, "")
            if command[0] == "@37" and self.client == "etcdctl":
                continue
            command = command[1:] if command[0] == "@37" else command
            code, text, errors = script.run(command, given)
            out.append((" ".join(command), code, LEASE_ID.sub("_", script.apart(text)),
                        script.apart(etcdctl.without_log(errors))))
        return out

    @harness.needs("etcd37")
    def test_users_and_roles_say_the_same(self):
        """With either client beside etcd 3.7: 3.4 asks for fewer permissions."""
        self.assert_same(*self.side_by_side(lambda server: self.run_auth(self.script(server)), ("etcd37", "cairn")))

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
                etcdctl.wait(lambda: "already expired" in script.run(["lease", "timetolive", command[1]])[1])
            else:
                code, text, errors = script.run(command, given)
                if command[:2] == ["lease", "grant"]:
                    script.name_leases()
                out.append((" ".join(command), code, self.sorted_keys(script.apart(text)),
                            script.apart(etcdctl.without_log(errors))))
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
        etcdctl.wait(lambda: self.keys(script, "mutex") == 2)
        out.append(("lock: the second one waits", waiting.lines()))
        told("lock", held, signal.SIGINT)
        told("lock: it gets it", waiting)
        out.append(("lock: keys left", self.keys(script, "mutex")))

        observer = script.start(["elect", "-l", "boss"])
        leader = script.start(["elect", "boss", "one"])
        leader.wait_for_lines(2)
        next_one = script.start(["elect", "boss", "two"])
        etcdctl.wait(lambda: self.keys(script, "boss") == 2)
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


@harness.needs("etcdctl37", "etcd37")
class OverTls37(etcdctl.OverTls, Beside):
    client, etcd = "etcdctl37", "etcd37"


del Beside  # it is no test by itself


if __name__ == "__main__":
    harness.main()
