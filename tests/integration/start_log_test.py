"""What is said of a start and a stop, beside etcd 3.7: each line of etcd's log comes from Cairn too, with its fields, or is
in NOT_SAID with the reason. docs/compatibility.md has the same list in words."""

import re

import harness

# Beginnings of lines -> why Cairn does not say them.
NOT_SAID = {
    "Running http and grpc server on single port": "it costs nothing here",
    "Opening db file": "bbolt's", "Opening bbolt db": "bbolt's",
    "opened backend db": "parts of a start that has other parts here",
    "restore consistentIndex": "the same", "bootstrapping cluster": "the same", "bootstrapping storage": "the same",
    "bootstrapping raft": "the same", "constructed a snapshot from WAL record": "the same",
    "Skipping snapshot backend": "the same", "recovered v3 backend": "the same",
    "Bootstrapping WAL from snapshot": "the same", "Constructed a new raft snapshot from v3 state": "the same",
    "ignore already added member": "the same",
    "ID switched to configuration": "raft's", "ID became follower": "raft's", "newRaft": "raft's",
    "ID is starting a new election": "a lone voter elects itself in one step",
    "ID became pre-candidate": "the same", "ID became candidate": "the same", "ID received Msg": "the same",
    "ID has received": "the same",
    "started as single-node; fast-forwarding election ticks": "there is no timeout to wait for",
    "started to purge file": "files are released when they are not needed any more",
    "serving peer traffic": "there are no peers", "cmux::serve": "the same", "stopping serving peer traffic": "the same",
    "stopped serving peer traffic": "the same",
    "setting up initial cluster version using v3 API": "the first version comes with the first entries",
    "cluster version is updated": "the same", "cluster version differs from storage version.": "a new db is of 3.7 at once",
    "updated storage version": "the same", "updated cluster version": "entries of the db are not applied again",
    "setting up serving from embedded etcd failed.": "errors of etcd's own closing",
    "stopping insecure grpc server due to error": "the same", "stopped insecure grpc server due to error": "the same",
    "server has stopped; stopping": "etcd's goroutines",
}
# Fields that say more of etcd's parts than of the member.
FIELDS_NOT_SAID = {
    "published local member to cluster through raft": {"publish-timeout"},
    "starting an etcd server": {"data-dir", "wal-dir", "local-address", "discovery-token", "discovery-endpoints",
                                "discovery-dial-timeout", "discovery-request-timeout", "discovery-keepalive-time",
                                "discovery-keepalive-timeout", "discovery-insecure-transport",
                                "discovery-insecure-skip-tls-verify", "discovery-cert", "discovery-key",
                                "discovery-cacert", "discovery-user"},
}
VARYING = {"level", "ts", "caller", "msg", "stacktrace", "took", "logger", "go-version", "git-sha"}


def lines_of(text):
    """{message, ids replaced: (level, fields)}, the first of each. An id has no zeros in front."""
    out = {}
    for fields in harness.json_lines(text):
        message = re.sub(r"\b[0-9a-f]{9,16}\b", "ID", fields["msg"])
        out.setdefault(message, (fields["level"], {k: v for k, v in fields.items() if k not in VARYING}))
    return out


@harness.needs("etcd37")
class StartLog(harness.Case):
    maxDiff = None

    def life(self, server):
        server.start()
        server.wait_logged("serving client traffic insecurely; this is strongly discouraged!")
        server.wait_logged("successfully notified init daemon")
        server.wait_logged("enabled capabilities for version")
        server.stop()
        return lines_of(server.log_text().replace(str(harness.program(server.kind)), "PROGRAM"))

    def test_each_line_of_etcd(self):
        ports = harness.free_port(), harness.free_port()
        lives = {}
        for kind in ("etcd37", "cairn"):
            server = self.server(kind, self.dir / "data", ports=ports)
            lives[kind] = [self.life(server), self.life(server)]
            server.data_dir.rename(self.dir / kind)
        used = set()
        for theirs, ours in zip(lives["etcd37"], lives["cairn"], strict=True):
            for message, (level, fields) in theirs.items():
                not_said = next((beginning for beginning in NOT_SAID if message.startswith(beginning)), None)
                if not_said is not None:
                    used.add(not_said)
                    self.assertNotIn(message, ours)
                    continue
                self.assertIn(message, ours)
                self.assertEqual(ours[message][0], level, message)
                wanted = {k: v for k, v in fields.items() if k not in FIELDS_NOT_SAID.get(message, ())}
                self.assertEqual({k: ours[message][1].get(k) for k in wanted}, wanted, message)
        self.assertEqual(set(NOT_SAID) - used, set(), "etcd does not say it")

    def test_what_was_decided(self):
        """The lines that suites wait for, in etcd's order."""
        server = self.server("cairn").start()
        server.stop()
        messages = [re.sub(r"\b[0-9a-f]{9,16}\b", "ID", line["msg"]) for line in server.log_lines()]
        wanted = ["Running: ", "Initialize and start etcd server", "configuring peer listeners",
                  "starting local member", "starting etcd server", "now serving peer/client/metrics",
                  "ID became leader at term 2", "raft.node: ID elected leader ID at term 2",
                  "published local member to cluster through raft", "ready to serve client requests",
                  "received signal; shutting down", "closing etcd server", "closed etcd server"]
        self.assertEqual([message for message in messages if message in wanted], wanted)


if __name__ == "__main__":
    harness.main()
