"""Space in the db over restarts, beside a slow snapshot, and between two processes that want one directory."""

import time

import harness
import rpc

QUOTA = 24 << 20
VALUE = b"v" * 100_000


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("not in time")
        time.sleep(0.05)


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
        until(lambda: client.alarm(0))
        client.delete(b"k/", b"k0")
        client.compact(client.revision(), physical=True)
        until(lambda: client.status()["in_use_bytes"] < QUOTA // 4)
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

    def test_of_two_starts_at_once_one_serves_and_nothing_is_lost(self):
        for attempt in range(6):
            data = self.dir / f"data{attempt}"
            ports = [harness.free_port() for _ in range(4)]
            both = [self.server("cairn", data, ports=(ports[i], ports[2 + i])).launch() for i in range(2)]
            until(lambda: any(server._is_ready() for server in both))
            serving = next(server for server in both if server._is_ready())
            other = both[1 - both.index(serving)]
            serving.client().put(b"k", b"%d" % attempt)
            self.assertIsNone(other.process.poll(), "it waits")
            serving.kill()
            # The other one was told to wait: now it is its turn, and it finds what was acknowledged.
            until(other._is_ready)
            self.assertEqual(other.client().get(b"k").value, b"%d" % attempt)
            other.stop()
            self.check_directory(data)


if __name__ == "__main__":
    harness.main()
