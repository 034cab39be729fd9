"""Cairn and etcd take turns in one directory. Each is ended, mostly by SIGKILL, while it writes, deletes, compacts,
defragments and sends snapshots. After each turn the db is sound for bbolt as well and not shorter than its metas say, and
the next one finds what was acknowledged, now and in the past.

  turns_test.py --turns 100 --seed 7     by hand, for longer
"""

import hashlib
import http.client
import json
import os
import struct
import subprocess
import threading
import time

import harness
import rpc

KEYS = 1500
OPEN_MAX = 16
QUOTA = ["--quota-backend-bytes", str(8 << 30)]
# Where a commit stands still for ever instead of somewhere in the middle of a system call.
POINTS = ("beforeCommit", "beforeSyncDataPages", "beforeSyncMetaPage", "afterCommit", "compactBeforeCommitBatch",
          "compactAfterCommitBatch", "walBeforeSync", "walAfterSync")


def add_arguments(parser):
    parser.add_argument("--turns", type=int, default=5)


def key(number):
    return b"key/%05d" % number


def value(number, write):
    """`write`: (its number, its size); None: there is none."""
    if write is None:
        return None
    seed = hashlib.sha256(b"%d %d" % (number, write[0])).digest()
    return (seed * (write[1] // len(seed) + 1))[:write[1]]


class Known:
    """What the servers have said."""

    def __init__(self):
        self.sure = {}  # number -> the last write that was acknowledged
        self.unsure = {}  # number -> later ones, which may have happened
        self.past = []  # (revision, number, write)
        self.revision = 0
        self.compacted = 0  # asked for, at least
        self.writes = 0

    def may_be(self, number):
        return [self.sure.get(number), *self.unsure.get(number, [])]

    def verify(self, test, client, generator):
        """Decides what was unsure by what is there."""
        revision = client.revision()
        test.assertGreaterEqual(revision, self.revision, "acknowledged revisions are gone")
        found = {kv.key: kv.value for kv in client.all(page=50)}
        found.pop(b"founder", None)
        for number in range(KEYS):
            there = found.pop(key(number), None)
            options = [write for write in self.may_be(number) if value(number, write) == there]
            test.assertTrue(options, f"{key(number)} of {len(there or b'')} bytes, not one of {self.may_be(number)}")
            self.sure[number] = options[0]
        test.assertEqual(sorted(found), [], "nobody wrote these")
        self.unsure.clear()
        self.past = [one for one in self.past if self.compacted < one[0] <= revision][-300:]
        for at, number, write in generator.sample(self.past, min(10, len(self.past))):
            test.assertEqual(client.get(key(number), at).value, value(number, write), f"{key(number)} at {at}")
        self.revision = revision


class Load:
    """One connection's requests, until the server ends. A key has one write under way."""

    def __init__(self, server, known, generator):
        self.connection = rpc.Connection(server.client_port, timeout=200)
        self.known, self.generator = known, generator
        self.puts = []  # (stream, number, write)
        self.aside = []  # streams that nobody waits for
        self.busy = set()
        self.mostly_deletes = generator.random() < 0.3

    def go(self, seconds):
        """True: the server was still there in the end."""
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                self.step()
            self.wait(0)
            return True
        except (OSError, EOFError):
            return False
        finally:
            self.connection.close()

    def step(self):
        chance = self.generator.random()
        if chance < (0.1 if self.mostly_deletes else 0.01):
            self.delete()
        elif chance < 0.12:
            self.known.compacted = max(self.known.compacted, self.known.revision - self.generator.choice((0, 0, 50)))
            self.beside("KV/Compact", rpc.enc((1, self.known.compacted)))
        elif chance < 0.125:
            self.beside("Maintenance/Defragment", b"")
        elif chance < 0.13:
            self.beside("Maintenance/Snapshot", b"").keep = False
        else:
            self.put(self.generator.randrange(KEYS))

    def beside(self, method, message):
        self.aside = [stream for stream in self.aside if not stream.ended]
        self.aside.append(self.connection.start("/etcdserverpb." + method, message))
        return self.aside[-1]

    def put(self, number):
        if number in self.busy:
            return
        self.known.writes += 1
        size = self.generator.choice((100, 3000, 20_000, 60_000, 300_000))
        write = (self.known.writes, self.generator.randrange(size // 2, size))
        self.known.unsure.setdefault(number, []).append(write)
        self.busy.add(number)
        request = rpc.put_request(key(number), value(number, write), 0)
        self.puts.append((self.connection.start("/etcdserverpb.KV/Put", request), number, write))
        self.wait(OPEN_MAX)

    def delete(self):
        self.wait(0)
        first = self.generator.randrange(KEYS)
        numbers = range(first, min(KEYS, first + self.generator.randrange(1, KEYS // 2)))
        for number in numbers:
            self.known.unsure.setdefault(number, []).append(None)
        request = rpc.enc((1, key(numbers[0])), (2, key(numbers[-1] + 1)))
        revision = self.answer(self.connection.start("/etcdserverpb.KV/DeleteRange", request))
        for number in numbers:
            if revision is None:
                self.busy.add(number)
            elif number not in self.busy:
                self.settle(number, None)

    def wait(self, count):
        while len(self.puts) > count:
            stream, number, write = self.puts.pop(0)
            revision = self.answer(stream)
            if revision is None:
                continue  # it may come yet: the key is left alone
            self.busy.discard(number)
            self.settle(number, write)
            if self.generator.random() < 0.05:
                self.known.past.append((revision, number, write))

    def answer(self, stream):
        try:
            revision = rpc.revision_of(rpc.dec(self.connection.finish(stream)[0]))
        except rpc.GrpcError:
            return None
        self.known.revision = max(self.known.revision, revision)
        return revision

    def settle(self, number, write):
        self.known.sure[number] = write
        self.known.unsure.pop(number, None)


@harness.needs("cairn_check_db")
class Turns(harness.Case):
    def test_alone(self):
        self.take_turns(("cairn",))

    @harness.needs("etcd37", "boltcheck")
    def test_with_etcd_37(self):
        self.take_turns(("cairn", "cairn", "etcd37"))

    @harness.needs("etcd34", "boltcheck")
    def test_with_etcd_34(self):
        self.take_turns(("cairn", "cairn", "etcd34"))

    def take_turns(self, kinds):
        generator, known = self.random(), Known()
        self.ports = (harness.free_port(), harness.free_port())
        self.founder = kinds[-1]
        server = self.new_server(self.founder).start()
        server.client().put(b"founder", b"")
        server.stop()
        for _ in range(Turns.options.turns):
            self.take_turn(generator.choice(kinds), known, generator)
        self.ends_well(kinds, known, generator)
        print(f"turns_test: {kinds}: {known.writes} writes, revision {known.revision}", flush=True)

    def new_server(self, kind):
        return self.server(kind, ports=self.ports, flags=QUOTA)

    def take_turn(self, kind, known, generator):
        server = self.new_server(kind)
        fault_port = harness.free_port()
        point = generator.choice(POINTS) if kind == "cairn" and generator.random() < 0.4 else None
        environment = {"PATH": os.environ["PATH"]}
        if point is not None:
            environment["GOFAIL_HTTP"] = f"127.0.0.1:{fault_port}"
        server.start(environment=environment)
        known.verify(self, server.client(timeout=200), generator)
        seconds = generator.choice((generator.uniform(0.05, 0.5), generator.uniform(0.5, 3)))
        load = Load(server, known, generator)
        if generator.random() < 0.15:
            self.assertTrue(load.go(seconds), server.log_tail())
            server.stop()
        else:
            process = server.process
            end = threading.Timer(seconds, self.end, (process, point, fault_port))
            end.start()
            self.assertFalse(load.go(3600), server.log_tail())
            end.join()
            self.assertIn(process.wait(), (-9, 2 if point else -9), server.log_tail())
            server.kill()
        self.check_file(kind)

    def end(self, process, point, fault_port):
        try:
            if point is not None:
                connection = http.client.HTTPConnection("127.0.0.1", fault_port, timeout=60)
                connection.request("PUT", "/" + point, "panic")
                connection.getresponse()
                connection.close()
                process.wait(2)
        except subprocess.TimeoutExpired:
            pass  # the load does not reach the point
        finally:
            process.kill()

    def check_file(self, kind):
        db = self.dir / "data/member/snap/db"
        size = db.stat().st_size
        pages = db.read_bytes()[:8192]
        # Who was ended before a commit has left what etcd left, to whom the older tree is worth nothing.
        older_tree = kind == "cairn" and b"CIRNSEAL" in pages
        for at in (0, 4096):
            page_bytes = struct.unpack_from("<I", pages, at + 24)[0]
            high_water = struct.unpack_from("<Q", pages, at + 56)[0]
            self.assertLessEqual(high_water * page_bytes, size, "bbolt would read behind the end")
        self.check_directory(self.dir / "data", older_tree=older_tree)

    def ends_well(self, kinds, known, generator):
        """All but a little is deleted: the file gets short, and whoever founded the directory goes on with it."""
        server = self.new_server("cairn").start()
        client = server.client(timeout=200)
        known.verify(self, client, generator)
        client.delete(key(10), key(KEYS))
        known.sure.update((number, None) for number in range(10, KEYS))
        client.compact(client.revision(), physical=True)
        known.compacted = client.revision()
        client.defragment()
        in_use = client.status()["in_use_bytes"]
        hashed = client.hash_kv()[0]
        server.stop()
        self.assertLess((self.dir / "data/member/snap/db").stat().st_size, 3 * in_use + (4 << 20))
        self.check_directory(self.dir / "data", mutate=50)
        if not harness.missing("etcdutl37"):
            copy = harness.copy_directory(self.dir / "data/member/snap/db", self.dir / "copy.db")
            found = json.loads(self.run_tool("etcdutl37", "hashkv", "-w", "json", copy).stdout)
            self.assertEqual(found["hash"], hashed)
        server = self.new_server(self.founder).start()
        known.verify(self, server.client(timeout=200), generator)
        server.stop()

    def test_the_proof_sees_what_is_wrong(self):
        generator = self.random()
        self.ports = (harness.free_port(), harness.free_port())
        server = self.new_server("cairn").start()
        known = Known()
        self.assertTrue(Load(server, known, generator).go(0.5))
        client = server.client(timeout=200)
        known.verify(self, client, generator)
        number = next(number for number, write in known.sure.items() if write is not None)

        def refused(text):
            with self.assertRaisesRegex(AssertionError, text):
                known.verify(self, client, generator)

        kept, known.sure[number] = known.sure[number], None
        refused("not one of")
        known.sure[number] = (kept[0] + 1_000_000, kept[1])
        refused("not one of")
        known.sure[number] = kept
        known.revision += 1000
        refused("acknowledged revisions are gone")
        known.revision = client.revision()
        known.past = [(known.revision, number, (0, 5))]
        refused("at")
        client.put(b"key/nobody's", b"")
        known.past = []
        refused("nobody wrote these")


if __name__ == "__main__":
    harness.main(add_arguments)
