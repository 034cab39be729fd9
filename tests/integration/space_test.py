"""Space in the db: over restarts, given back to the disk, and between two processes that want one directory."""


import harness
import rpc

QUOTA = 24 << 20
VALUE = b"v" * 100_000


class Space(harness.Case):
    def start(self):
        flags = ["--quota-backend-bytes", str(QUOTA), "--backend-batch-interval", "20ms"]
        return self.server("cairn", flags=flags).start()

    @staticmethod
    def fill(client, bytes_max):
        count = 0
        while client.status()["in_use_bytes"] < bytes_max:
            client.put(b"k/%d" % (count % 40), VALUE)
            count += 1

    def test_what_was_free_before_a_restart_is_free_after_it(self):
        server = self.start()
        client = server.client()
        with self.assertRaises(rpc.GrpcError) as refused:
            self.fill(client, QUOTA)
        self.assertIn("database space exceeded", str(refused.exception))
        harness.until(lambda: client.alarm(0))
        client.delete(b"k/", b"k0")
        client.compact(client.revision(), physical=True)
        harness.until(lambda: client.status()["in_use_bytes"] < QUOTA // 4)
        client.alarm(2, client.status()["member_id"], 1)
        before = client.status()
        server.stop()
        for _ in range(4):
            server = self.start()
            client = server.client()
            after = client.status()
            self.assertLess(after["in_use_bytes"], before["in_use_bytes"] + 2 * len(VALUE))
            for i in range(5):
                client.put(b"again/%d" % i, VALUE)
            self.assertEqual(client.alarm(0), [])
            client.delete(b"again/", b"again0")
            client.compact(client.revision(), physical=True)
            server.kill()
        server = self.start()
        self.assertLessEqual(server.client().status()["db_bytes"], before["db_bytes"] + 4 * len(VALUE))

    def db(self):
        return self.dir / "data/member/snap/db"

    def fill_and_delete(self, client):
        """Makes a file of some 110 MB, of which hardly anything is in use in the end."""
        for i in range(110):
            client.put(b"big/%03d" % i, b"v" * (1 << 20))
        for i in range(500):
            client.put(b"small/%03d" % i, b"s" * 500)
        harness.until(lambda: self.db().stat().st_size > 100 << 20)
        client.delete(b"big/", b"big0")
        client.compact(client.revision(), physical=True)

    def gives_back(self, kind):
        """The file gets short by itself, shorter when asked to; whoever founded the directory goes on with it."""
        if kind:
            harness.require(kind)
            founder = self.server(kind).start()
            founder.client().put(b"founder", kind.encode())
            founder.stop()
        server = self.server("cairn").start()
        client = server.client()
        self.fill_and_delete(client)
        harness.until(lambda: self.db().stat().st_size < 80 << 20)
        client.defragment()
        before = client.status()
        self.assertLess(before["in_use_bytes"], 4 << 20)
        self.assertLess(self.db().stat().st_size, 8 << 20)
        self.assertLess(self.db().stat().st_blocks * 512, 8 << 20)
        self.assertLess(before["db_bytes"], 8 << 20)
        client.defragment()  # nothing to do
        kept = [client.get(b"small/%03d" % i).value for i in range(0, 500, 50)]
        server.stop()
        self.check_directory(self.dir / "data", mutate=200)
        if kind:
            server = self.server(kind).start()
            self.assertEqual(server.client().get(b"founder").value, kind.encode())
        else:
            server = self.server("cairn").start()
        found = [server.client().get(b"small/%03d" % i).value for i in range(0, 500, 50)]
        self.assertEqual(found, kept)
        server.stop()

    def test_a_file_that_is_hardly_in_use_gets_short(self):
        self.gives_back(None)

    def test_so_does_one_of_etcd_34_which_goes_on_with_it(self):
        self.gives_back("etcd34")

    def test_so_does_one_of_etcd_37_which_goes_on_with_it(self):
        self.gives_back("etcd37")

    def test_of_two_starts_at_once_one_serves_and_nothing_is_lost(self):
        for attempt in range(6):
            data = self.dir / f"data{attempt}"
            ports = [harness.free_port() for _ in range(4)]
            both = [self.server("cairn", data, ports=(ports[i], ports[2 + i])).launch() for i in range(2)]
            harness.until(lambda: any(server._is_ready() for server in both))
            serving = next(server for server in both if server._is_ready())
            other = both[1 - both.index(serving)]
            serving.client().put(b"k", b"%d" % attempt)
            self.assertIsNone(other.process.poll(), "it waits")
            serving.kill()
            # The other one was told to wait: now it is its turn, and it finds what was acknowledged.
            harness.until(other._is_ready)
            self.assertEqual(other.client().get(b"k").value, b"%d" % attempt)
            other.stop()
            self.check_directory(data)


if __name__ == "__main__":
    harness.main()
