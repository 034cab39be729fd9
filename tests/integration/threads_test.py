"""A server built with ThreadSanitizer under everything that its threads do at once; each report is a failure.

Load of cairn_loadgen, cancelled calls, connections that come and go, snapshots, hashes, metrics, compactions; starts
over what an earlier life left; a stop at rest and one in the middle.
"""

import json
import pathlib
import subprocess
import threading
import time

import harness
import rpc

KEYS = 2000
STORE = ["--connections", "4", "--streams", "8", "--order", "random", "--keys", str(KEYS), "--value-size", "300"]
LISTS = ["--connections", "2", "--streams", "2"]
LOADS = {
    "put": ["put", "--requests", "6000", *STORE],
    "get": ["get", "--requests", "6000", *STORE],
    "serializable get": ["get", "--requests", "6000", "--serializable", *STORE],
    "txn that puts": ["txn", "--requests", "3000", *STORE],
    "txn that gets": ["txn", "--branch", "get", "--requests", "2000", *STORE],
    "list": ["list", "--requests", "60", *LISTS],
    "range": ["range", "--limit", "100", "--requests", "200", *LISTS],
    "count": ["count", "--requests", "200", *LISTS],
    "pages": ["pages", "--limit", "300", "--requests", "15", *LISTS],
}
FLAGS = ["--backend-batch-interval", "20ms", "--snapshot-count", "2000", "--io-threads", "3"]


def add_arguments(parser):
    parser.add_argument("--loadgen", type=pathlib.Path,
                        default=harness.ROOT / "build/tsan/bench/cairn_loadgen")


class Restless(threading.Thread):
    """Does one thing again and again until it is stopped; what it raises is kept."""

    def __init__(self, port, act):
        super().__init__(daemon=True)
        self.port, self.act = port, act
        self.stopped = threading.Event()
        self.rounds, self.error = 0, None

    def run(self):
        try:
            while not self.stopped.is_set():
                with rpc.Client(self.port) as client:
                    for _ in range(5):
                        self.act(client)
                self.rounds += 1
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def finish(self):
        self.stopped.set()
        self.join()


def cancel(client):
    """Each call is under way when it is given up: answers in pieces, hashes of the store, puts, lists to be sorted."""
    calls = [("KV/Range", rpc.enc((1, b"/bench/"), (2, b"/bench0"))), ("Maintenance/HashKV", b""),
             ("Maintenance/Snapshot", b""), ("KV/Put", rpc.put_request(b"cancelled", b"x" * 100)),
             ("KV/Range", rpc.enc((1, b"/bench/"), (2, b"/bench0"), (5, 1), (6, 4)))]
    streams = [client.connection.start("/etcdserverpb." + path, message) for path, message in calls]
    client.get(b"cancelled")
    for stream in streams:
        client.connection.reset(stream)


def maintain(client):
    client.hash_kv()
    client.status()
    client.connection.finish(client.connection.start("/etcdserverpb.Maintenance/Snapshot", b""))
    client.alarm(0)


def compact(client):
    client.put(b"compacted", b"x")
    client.delete(b"compacted")
    client.compact(client.revision() - 50, physical=client.revision() % 2 == 0)
    time.sleep(0.05)


class Threads(harness.Case):
    def setUp(self):
        super().setUp()
        self.assertIn(b"__tsan_init", harness.program("cairn").read_bytes(), "not built with ThreadSanitizer")
        self.reports = self.dir / "report"

    def start(self):
        options = f"log_path={self.reports} halt_on_error=0 second_deadlock_stack=1 history_size=4"
        server = self.server("cairn", flags=FLAGS)
        return server.start(seconds_max=120, environment={"TSAN_OPTIONS": options})

    def load(self, server, name, *more):
        return subprocess.Popen([self.options.loadgen, *LOADS[name], "--endpoint", server.endpoint, *more],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                preexec_fn=harness.die_with_parent)

    def load_to_its_end(self, server, *names):
        loads = {name: self.load(server, name) for name in names}
        for name, load in loads.items():
            out = load.communicate(timeout=200)[0]
            figures = json.loads(out) if out.startswith("{") else self.fail(f"{name}: {out}")
            self.assertGreater(figures["ops"], 0, name)
            # A compaction may take the revision of pages away while they are read.
            if name != "pages":
                self.assertEqual(figures["errors"], {}, name)

    def until_busy(self, server):
        """Until some hundred writes have been carried out."""
        with server.client() as client:
            end = client.revision() + 500
            while client.revision() < end:
                time.sleep(0.01)

    def check(self, server):
        found = [path.read_text(errors="replace") for path in self.dir.glob("report*")]
        self.assertEqual(found, [], "\n".join(found))
        self.assertNotIn("ThreadSanitizer", server.log_text())

    def test_a_server_under_load_has_no_data_race(self):
        server = self.start()
        self.load_to_its_end(server, "put")
        restless = [Restless(server.client_port, act) for act in (cancel, maintain, compact)]
        for one in restless:
            one.start()
        self.load_to_its_end(server, *LOADS)
        for one in restless:
            one.finish()
            self.assertIsNone(one.error)
            self.assertGreater(one.rounds, 0)
        for path in ("/metrics", "/health", "/readyz", "/version"):
            self.assertEqual(server.http(path)[0], 200)
        server.stop(60)
        self.check(server)

        # Over the checkpoint and the log of that life; stopped in the middle of work.
        server = self.start()
        self.load_to_its_end(server, "get", "list")
        loads = [self.load(server, name, "--requests", "1000000") for name in ("put", "get", "list", "txn that puts")]
        self.until_busy(server)
        server.stop(60)
        for load in loads:
            load.communicate(timeout=60)
        self.check(server)

        # What a kill leaves is found again.
        server = self.start()
        loads = [self.load(server, name, "--requests", "1000000") for name in ("put", "txn that puts")]
        self.until_busy(server)
        server.kill()
        for load in loads:
            load.communicate(timeout=60)
        server = self.start()
        self.load_to_its_end(server, "get", "count")
        server.stop(60)
        self.check(server)


if __name__ == "__main__":
    harness.main(add_arguments)
