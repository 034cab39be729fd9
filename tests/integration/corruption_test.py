"""What a member does about the correctness of its data: hashes of compactions, checks, and what it says meanwhile."""

import re
import time

import harness
import rpc


@harness.needs("etcd37")
class CompactionHashes(harness.Case):
    maxDiff = None

    def test_the_newest_ten_are_told_as_by_etcd(self):
        """With the compacted revision of before; older revisions are compacted."""
        def run(server):
            client = server.client()
            seen, compacted = [], []

            def ask(revision):
                try:
                    return client.hash_kv(revision)
                except rpc.GrpcError as error:
                    return error.code, error.message

            for round_ in range(14):
                for i in range(30):
                    client.put(b"k/%02d" % (i * (round_ + 3) % 40), b"%d" % (round_ * i))
                client.delete(b"k/%02d" % (round_ * 7 % 40))
                client.delete(b"k/1", b"k/2")
                if round_ % 4 == 3:  # no key is left, and the last deletion is what is compacted at
                    client.delete(b"\0", b"\0")
                revision = client.revision() - (0 if round_ % 4 == 3 else round_ % 3)
                client.compact(revision, physical=True)
                compacted.append(revision)
                seen.append([ask(one) for one in (revision, revision + 1, 0)])
            client.put(b"k", b"v")
            seen.append([ask(one) for one in compacted])
            return compacted, seen

        cairn, etcd = self.side_by_side(run, ("cairn", "etcd37"))
        self.assertEqual(cairn, etcd)
        last = cairn[1][-1]
        self.assertEqual([len(str(one[1])) < 10 for one in last], [False] * 4 + [True] * 10)

    def test_the_log_tells_them(self):
        server = self.server("cairn").start()
        client = server.client()
        for i in range(20):
            client.put(b"k", b"%d" % i)
        client.compact(10, physical=True)
        told = client.hash_kv(10)
        self.assertEqual(told[1], -1)
        server.wait_logged("storing new hash")
        server.wait_logged("finished scheduled compaction")
        for line in server.log_text().splitlines():
            if "storing new hash" in line or "finished scheduled compaction" in line:
                self.assertIn(f'"hash":{told[0]},', line)
        self.assertIn('"number-of-keys-compacted":8,', server.log_text())


class Checks(harness.Case):
    def test_a_lone_member_checks_what_it_can(self):
        gates = "InitialCorruptCheck=true,CompactHashCheck=true"
        flags = ["--corrupt-check-time", "300ms", "--compact-hash-check-time", "300ms", "--feature-gates", gates]
        server = self.server("cairn", flags=flags).start()
        client = server.client()
        for line in ("starting initial corruption check", "initial corruption checking passed; no corruption",
                     "enabled corruption checking"):
            server.wait_logged(line)
        server.wait_logged("finished peer corruption check", times=2)
        server.wait_logged("starting compact hash check", times=2)
        for i in range(10):
            client.put(b"k", b"%d" % i)
        client.compact(5, physical=True)
        server.wait_logged('"number-of-hashes-checked":1')
        server.wait_logged("finished peer corruption check", times=server.log_text().count("finished peer") + 2)
        self.assertEqual(client.alarm(0), [])
        server.stop()
        again = self.server("cairn", flags=flags).start()  # over a directory with data
        again.wait_logged("initial corruption checking passed; no corruption")

    def test_without_the_flags_nothing_is_checked(self):
        server = self.server("cairn").start()
        server.client().put(b"k", b"v")
        server.stop()
        self.assertFalse(re.search("corruption check|compact hash check", server.log_text()))


class StopServing(harness.Case):
    """--feature-gates=StopGRPCServiceOnDefrag=true: whoever asks for the health is told while a Defragment runs."""

    SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"

    def run_defragment(self, flags):
        # The defragmentation takes three seconds.
        server = self.server("cairn", flags=flags)
        server.start(environment={"PATH": "/usr/bin:/bin", "GOFAIL_FAILPOINTS": 'defragBeforeCopy=1*sleep(3000)'})
        client = server.client()
        for i in range(100):
            client.put(b"k/%d" % i, b"x" * 1000)
        client.delete(b"k/", b"k0")
        client.compact(client.revision(), physical=True)
        watcher = rpc.Connection(server.client_port)
        stream = watcher.start("/grpc.health.v1.Health/Watch", b"")
        asker = rpc.Connection(server.client_port)
        maker = rpc.Connection(server.client_port)
        call = maker.start("/etcdserverpb.Maintenance/Defragment", b"")
        seen = set()
        deadline = time.monotonic() + 60
        while not call.ended and time.monotonic() < deadline:
            answer = asker.unary("/grpc.health.v1.Health/Check", b"")
            seen.add(answer)
            client.put(b"meanwhile", b"x")  # it serves all the same
            try:
                maker.read_frame(timeout=0.05)
            except TimeoutError:
                pass
        self.assertTrue(call.ended)
        self.assertEqual(asker.unary("/grpc.health.v1.Health/Check", b""), self.SERVING)
        while len(stream.messages) < (3 if flags else 1):
            watcher.read_frame()
        told = list(stream.messages)
        for connection in (watcher, asker, maker):
            connection.close()
        return seen, told

    def test_with_the_gate(self):
        seen, told = self.run_defragment(["--feature-gates", "StopGRPCServiceOnDefrag=true"])
        self.assertIn(self.NOT_SERVING, seen)
        self.assertEqual(told, [self.SERVING, self.NOT_SERVING, self.SERVING])

    def test_without_the_gate(self):
        seen, told = self.run_defragment([])
        self.assertEqual(seen, {self.SERVING})
        self.assertEqual(told, [self.SERVING])


if __name__ == "__main__":
    harness.main()
