"""Watches of real clients: etcd's client library sees the same, and goes on over a restart."""

import signal
import threading
import time

import harness
import rpc

WATCH = "/etcdserverpb.Watch/Watch"


@harness.needs("watchclient", "etcd37")
class ClientLibrary(harness.Case):
    maxDiff = None

    def test_it_is_told_the_same_as_by_etcd(self):
        told = []
        for kind in ("etcd37", "cairn"):
            server = self.server(kind, self.dir / kind).start()
            told.append(self.run_tool("watchclient", server.endpoint).stdout.splitlines())
            server.stop()
        self.assertEqual(*told)
        self.assertNotIn("nothing came", told[0])


class Restarts(harness.Case):
    def events(self, server, start, seen):
        """Watches from `start` on until the connection ends; appends (revision, value) to `seen`."""
        try:
            with rpc.Connection(server.client_port, timeout=60) as connection:
                stream = connection.start(WATCH, rpc.enc((1, rpc.enc((1, b"k"), (3, start)))), end=False)
                taken = 0
                while not stream.ended:
                    connection.read_frame()
                    for message in stream.messages[taken:]:
                        for event in rpc.dec(message).get(11, []):
                            kv = rpc.dec(rpc.first(rpc.dec(event), 2))
                            seen.append((rpc.first(kv, 3), rpc.first(kv, 5)))
                    taken = len(stream.messages)
        except (ConnectionError, OSError, TimeoutError):
            pass

    def test_a_watcher_goes_on_after_kills(self):
        """Each acknowledged put is seen once and in order, over kills of the server, from the next revision on."""
        ports = (harness.free_port(), harness.free_port())
        seen, acknowledged = [], []
        for round_number in range(4):
            server = self.server("cairn", ports=ports).start()
            next_revision = seen[-1][0] + 1 if seen else 2
            reader = threading.Thread(target=self.events, args=(server, next_revision, seen))
            reader.start()
            client = server.client()
            for i in range(300):
                value = b"%d-%d" % (round_number, i)
                client.put(b"k", value)
                acknowledged.append(value)
            if round_number == 3:
                deadline = time.monotonic() + 60
                while (not seen or seen[-1][1] != acknowledged[-1]) and time.monotonic() < deadline:
                    time.sleep(0.01)
                began = time.monotonic()
                server.stop()
                self.assertLess(time.monotonic() - began, 30, "a stop waits for watch streams")
            else:
                server.process.send_signal(signal.SIGKILL)
                server.wait()
            reader.join()
        self.assertEqual([value for _, value in seen], acknowledged)
        self.assertEqual([revision for revision, _ in seen], list(range(2, 2 + len(acknowledged))))


if __name__ == "__main__":
    harness.main()
