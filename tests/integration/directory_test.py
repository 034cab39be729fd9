"""A data directory of etcd is one of Cairn, and back: nothing is lost, changed or added on the way.

etcd 3.4 and 3.7 fill a directory and stop, or are killed with much of it in the WAL alone; Cairn opens it in place,
writes, stops or is killed; the same etcd goes on; Cairn looks at the result. After each step all that can be asked is
compared, and the files are judged by our checker, by bbolt and by etcd's own WAL reader.
"""

import gzip
import json
import shutil
import threading
import time

import bolt
import harness
import rpc

# Nothing goes to the db until something forces it: all is in the WAL's tail when the process is killed.
LAZY = ["--backend-batch-interval", "1h", "--backend-batch-limit", "1000000"]
FOREIGN_MEMBER = 0x100  # alarms may name any member
NOSPACE = 1


class Filler:
    """Random requests of every kind. Knows nothing of what the answers should be: servers are compared."""

    def __init__(self, generator, client):
        self.random, self.client = generator, client

    def key(self):
        return b"k/%03d" % self.random.randrange(300)

    def value(self):
        size = self.random.choice((0, 1, 20, 200, 200, 3000))
        return bytes(self.random.randrange(256) for _ in range(min(size, 32))) * (max(size, 32) // 32)

    def operation(self, depth=0):
        kind = self.random.randrange(10)
        if kind < 5:
            return rpc.op_put(self.unused(), self.value())
        if kind < 8:
            return rpc.op_range(self.key(), b"k/999")
        if kind < 9 or depth > 0:
            return rpc.op_delete(b"gone/%d" % self.random.randrange(50), b"gone/9")
        return rpc.op_txn([rpc.compare_version(self.key(), 0)], [self.operation(1)], [self.operation(1)])

    def unused(self):
        # A transaction may put a key once.
        self.count = getattr(self, "count", 0) + 1
        return b"txn/%d" % (self.count % 400)

    def step(self):
        kind = self.random.randrange(20)
        if kind < 11:
            self.client.put(self.key(), self.value())
        elif kind < 13:
            self.client.put(b"gone/%d" % self.random.randrange(50), self.value())
        elif kind < 15:
            self.client.delete(self.key())
        elif kind < 16:
            low = self.random.randrange(290)
            self.client.delete(b"k/%03d" % low, b"k/%03d" % (low + self.random.randrange(1, 10)))
        else:
            compares = [rpc.compare_version(self.key(), self.random.randrange(2))]
            self.client.txn(compares, [self.operation() for _ in range(self.random.randrange(4))],
                            [self.operation() for _ in range(self.random.randrange(4))])

    def steps(self, count):
        for _ in range(count):
            self.step()

    def compact(self, back):
        revision = self.client.revision()
        self.client.compact(max(2, revision - back))

    def leases(self, base):
        """Grants some with keys, and revokes one of them."""
        for i in range(5):
            self.client.lease_grant(base + i, 3000 + i)
            for j in range(3):
                self.client.put(b"leased/%d/%d" % (base + i, j), b"x", lease=base + i)
        self.client.put(b"leased/%d/0" % base, b"moved", lease=base + 1)
        self.client.put(b"leased/%d/1" % base, b"free")
        self.client.lease_revoke(base + 4)

    def auth(self, tag):
        self.client.role_add(f"reader{tag}")
        self.client.role_grant(f"reader{tag}", 0, b"k/", b"k0")
        self.client.role_grant(f"reader{tag}", 2, b"own")
        self.client.role_grant(f"reader{tag}", 1, b"w", b"\0")
        self.client.user_add(f"alice{tag}", f"secret{tag}")
        self.client.user_add(f"nopw{tag}", "", no_password=True)
        self.client.user_grant(f"alice{tag}", f"reader{tag}")


def look(client, revisions):
    """What a client can see of a server, without what may differ between servers."""
    status = client.status()
    return {
        "cluster_id": status["cluster_id"], "member_id": status["member_id"], "revision": status["revision"],
        "members": client.members(), "alarms": client.alarm(0),
        "hashes": {revision: client.hash_kv(revision)[0] for revision in [0, *revisions]},
        "keys": client.all(),
        "older": {revision: client.all(revision) for revision in revisions[-2:]},
    }


def cluster_version(server):
    return json.loads(server.http("/version")[2])["etcdcluster"]


class DirectoryCase(harness.Case):
    def setUp(self):
        super().setUp()
        self.ports = (harness.free_port(), harness.free_port())
        self.data = self.dir / "data"

        self.flags = []  # of every server of the test

    def start(self, kind, flags=(), data=None):
        return self.server(kind, data or self.data, ports=self.ports, flags=[*self.flags, *flags]).start()

    def assert_same(self, before, after, what):
        for name, value in before.items():
            if value == after[name]:
                continue
            if name == "keys":
                value, other = ([kv.all() for kv in keys] for keys in (value, after[name]))
                only = [kv for kv in value if kv not in other][:5], [kv for kv in other if kv not in value][:5]
                self.fail(f"{what}: keys differ: only before {only[0]}, only after {only[1]}")
            self.assertEqual(value, after[name], f"{what}: {name}")

    def revisions(self, client, count=4):
        """Some revisions above the compacted one."""
        newest = client.revision()
        compacted = max(1, client.hash_kv()[1])
        step = max(1, (newest - compacted) // count)
        return list(range(compacted + 1, newest, step))[-count:] + [newest] * (newest > compacted)

    def fill(self, kind, generator, parts=()):
        """A directory that was stopped cleanly, with a bit of everything."""
        server = self.start(kind)
        filler = Filler(generator, server.client())
        filler.steps(150)
        filler.leases(1000)
        filler.auth(1)
        filler.client.alarm(1, FOREIGN_MEMBER + 1, NOSPACE)
        filler.client.alarm(2, FOREIGN_MEMBER + 1, NOSPACE)
        filler.compact(60)
        filler.steps(100)
        self.assertEqual(server.stop(), -15)
        if not parts:
            return
        self.db_of_before = (self.data / "member/snap/db").read_bytes()
        server = self.start(kind, LAZY)
        filler.client = server.client()
        filler.steps(100)
        if "tables" in parts:
            filler.leases(2000)
            filler.client.lease_revoke(1001)
            filler.auth(2)
        if "compact" in parts:
            filler.compact(30)
        filler.steps(60)
        return server, filler

    def kill_with_tail(self, server, parts):
        """Kills what fill() left running: the db is behind the log."""
        server.kill()
        if "compact" in parts:
            # etcd forces a commit for each compaction: the db is as it was just before.
            (self.data / "member/snap/db").write_bytes(self.db_of_before)
        if harness.missing("waldump"):
            return
        wal = json.loads(self.run_tool("waldump", self.data).stdout)
        applied = bolt.number(bolt.tables(self.data / "member/snap/db")["meta"], b"consistent_index")
        self.assertLess(applied + 100, wal["entries"]["last_index"])

    # The steps of a journey.

    def cairn_takes_over(self, before, revisions, version):
        cairn = self.start("cairn")
        client = cairn.client()
        self.assert_same(before, look(client, revisions), "opened by Cairn")
        self.assertEqual(cluster_version(cairn), version)
        return cairn, client

    def write_and_leave(self, cairn, client, generator, kill):
        """Writes as Cairn, ends it; returns what must be found, or with `kill` the acknowledged puts."""
        filler = Filler(generator, client)
        filler.steps(150)
        filler.compact(40)
        filler.steps(50)
        if not kill:
            revisions = self.revisions(client)
            seen = look(client, revisions)
            self.assertEqual(cairn.stop(), -15)
            return seen, revisions, {}
        acknowledged = {}
        end = threading.Event()

        def load():
            try:
                with rpc.Client(cairn.client_port) as own:
                    n = 0
                    while not end.is_set():
                        revision = own.put(b"load/%d" % n, b"v%d" % n)
                        acknowledged[b"load/%d" % n] = (revision, b"v%d" % n)
                        n += 1
            except (OSError, rpc.GrpcError):
                pass

        thread = threading.Thread(target=load)
        thread.start()
        time.sleep(generator.uniform(0.05, 2.5))  # some commits of the db, or none
        cairn.kill()
        end.set()
        thread.join()
        self.assertGreater(len(acknowledged), 0)
        return None, None, acknowledged

    def etcd_goes_on(self, kind, seen, revisions, acknowledged, version, generator):
        etcd = self.start(kind)
        client = etcd.client()
        if seen is not None:
            self.assert_same(seen, look(client, revisions), f"opened by {kind} again")
        for key, (revision, value) in acknowledged.items():
            found = client.get(key)
            self.assertIsNotNone(found, f"{key} was acknowledged at {revision}")
            self.assertEqual((found.mod, found.value), (revision, value))
        self.assertEqual(cluster_version(etcd), version)
        filler = Filler(generator, client)
        filler.steps(100)
        filler.compact(30)
        filler.steps(40)
        client.defragment()
        filler.steps(20)
        return etcd, client

    def journey(self, kind, parts=(), kill_cairn=False, mutate=1000):
        harness.require(kind)
        generator = self.random()
        left = self.fill(kind, generator, parts)
        if left is None:
            server = self.start(kind)
            filler = Filler(generator, server.client())
        else:
            server, filler = left
        revisions = self.revisions(filler.client)
        before = look(filler.client, revisions)
        version = cluster_version(server)
        if parts:
            self.kill_with_tail(server, parts)
        else:
            server.stop()

        cairn, client = self.cairn_takes_over(before, revisions, version)
        seen, revisions, acknowledged = self.write_and_leave(cairn, client, generator, kill_cairn)
        self.check_directory(self.data, mutate)
        self.check_schema(kind)

        etcd, client = self.etcd_goes_on(kind, seen, revisions, acknowledged, version, generator)
        revisions = self.revisions(client)
        before = look(client, revisions)
        etcd.kill()
        cairn, client = self.cairn_takes_over(before, revisions, version)
        client.put(b"the", b"end")
        self.assertEqual(cairn.stop(), -15)
        self.check_directory(self.data)

    def tables_as_etcd_makes_them(self, kind):
        """One directory with every kind of entry in its tail: what etcd replays and what Cairn replays is the same."""
        generator = self.random()
        server, filler = self.fill(kind, generator, ("tables", "compact"))
        client = filler.client
        client.alarm(1, FOREIGN_MEMBER + 2, NOSPACE)
        client.alarm(1, FOREIGN_MEMBER + 3, 2)  # CORRUPT
        client.alarm(2, FOREIGN_MEMBER + 3, 2)
        self.kill_with_tail(server, ("compact",))
        other = harness.copy_directory(self.data, self.dir / "by-etcd")
        cairn = self.start("cairn")
        self.assertEqual(cairn.client().alarm(0), [(FOREIGN_MEMBER + 2, NOSPACE)])
        with self.assertRaisesRegex(rpc.GrpcError, "database space exceeded"):
            cairn.client().put(b"a", b"b")
        self.assertEqual(cairn.stop(), -15)
        self.check_directory(self.data, mutate=300)
        ours = bolt.tables(self.data / "member/snap/db")
        self.assertEqual(set(ours["alarm"]), {b"\x08\x82\x02\x10\x01"})

        # Both are given to etcd, which reads Cairn's tables and replays the other's tail.
        alone = self.server(kind, other, ports=(harness.free_port(), self.ports[1])).start()
        looked = {}
        for name, one in (("etcd", alone), ("cairn", None)):
            if one is None:
                alone.stop()
                one = self.start(kind)
            client = one.client()
            seen = looked[name] = look(client, self.revisions(client))
            seen.pop("members")  # the addresses differ
            leases = client.call("Lease", "LeaseLeases")
            ids = sorted(rpc.first(rpc.dec(raw), 1) for raw in leases.get(2, []))
            seen["leases"] = []
            for number in ids:
                left = client.call("Lease", "LeaseTimeToLive", rpc.enc((1, number), (2, True)))
                seen["leases"].append((number, rpc.first(left, 4), sorted(left.get(5, []))))
            seen["users"] = {name: client.call("Auth", "UserGet", rpc.enc((1, name))).get(2)
                             for name in client.call("Auth", "UserList").get(2, [])}
            seen["roles"] = {name: client.call("Auth", "RoleGet", rpc.enc((1, name))).get(2)
                             for name in client.call("Auth", "RoleList").get(2, [])}
        self.assertEqual(looked["etcd"]["leases"], looked["cairn"]["leases"])
        self.assertEqual(len(looked["cairn"]["leases"]), 7)
        self.assert_same(looked["etcd"], looked["cairn"], "etcd's own replay and Cairn's")
        self.assertEqual(set(looked["cairn"]["users"]), {b"alice1", b"alice2", b"nopw1", b"nopw2"})
        one.client().alarm(2, FOREIGN_MEMBER + 2, NOSPACE)

        # The passwords that Cairn stored are those that were meant.
        client = one.client()
        client.user_add("root", "rootpw")
        client.role_add("root")
        client.user_grant("root", "root")
        client.auth_enable()
        self.assertTrue(client.authenticate("alice2", "secret2"))
        with self.assertRaises(rpc.GrpcError):
            client.authenticate("alice2", "secret1")
        one.kill()
        theirs = bolt.tables(other / "member/snap/db")
        for table in ("lease", "alarm", "authRoles", "cluster", "members_removed"):
            self.assertEqual(theirs[table], ours[table], table)

    def unfinished_compaction(self, kind, flags):
        """etcd is killed between a compaction's entry and its end: Cairn finishes it; and the other way round."""
        server = self.start(kind, flags)
        client = server.client()
        for _ in range(30):
            client.put_many((b"k%04d" % i, b"v" * 50) for i in range(300))
        before = client.all()
        client.compact(8000)
        revisions = [8000, 8001, 8500, client.revision()]
        hashes = [client.hash_kv(revision) for revision in revisions if revision > 8000]
        server.kill()
        meta = bolt.tables(self.data / "member/snap/db")["meta"]
        self.assertNotEqual(meta.get(b"finishedCompactRev"), meta[b"scheduledCompactRev"], "it was to be unfinished")
        cairn = self.start("cairn")
        client = cairn.client()
        self.assertEqual([client.hash_kv(revision) for revision in revisions if revision > 8000], hashes)
        self.assertEqual(client.all(), before)
        with self.assertRaisesRegex(rpc.GrpcError, "compacted"):
            client.range(b"k", revision=7999)
        cairn.wait_logged("finished scheduled compaction")
        self.assertEqual([client.hash_kv(revision) for revision in revisions if revision > 8000], hashes)
        self.assertEqual(cairn.stop(), -15)
        self.check_directory(self.data, mutate=300)
        tables = bolt.tables(self.data / "member/snap/db")
        self.assertEqual(tables["meta"][b"finishedCompactRev"], tables["meta"][b"scheduledCompactRev"])
        self.assertLess(len(tables["key"]), 1400)

        cairn.start()
        client = cairn.client()
        client.compact(8900)
        hashed = client.hash_kv()
        cairn.kill()  # the entry is durable, its work has hardly begun
        self.check_directory(self.data)
        etcd = self.start(kind)
        self.assertEqual(etcd.client().hash_kv(), hashed)
        self.assertEqual(etcd.client().all(), before)
        etcd.stop()
        self.check_directory(self.data, older_tree=False)

    def many_segments(self, kind):
        """Logs of several segments: etcd's, killed, and what Cairn added to them, killed."""
        value = self.random().randbytes(1 << 20)
        server = self.start(kind, LAZY)
        server.client().put_many((b"old/%02d" % i, value[i:] + value[:i]) for i in range(70))
        revisions = [10, 71]
        before = look(server.client(), revisions)
        server.kill()
        cairn = self.start("cairn")
        client = cairn.client()
        self.assert_same(before, look(client, revisions), "opened by Cairn")
        client.put_many((b"new/%02d" % i, value[-i:] + value[:-i]) for i in range(70))
        before = look(client, revisions)
        cairn.kill()
        self.check_directory(self.data)
        self.assertGreaterEqual(len(list((self.data / "member/wal").glob("0*.wal"))), 3)
        etcd = self.start(kind)
        self.assert_same(before, look(etcd.client(), revisions), f"opened by {kind} again")
        etcd.kill()
        cairn.start()
        self.assert_same(before, look(cairn.client(), revisions), "opened by Cairn again")

    def with_snap_files(self, kind):
        """Both write .snap files and name them in the log; both start from the other's."""
        self.flags = ["--snapshot-count", "60"]
        self.journey(kind, kill_cairn=True, mutate=0)
        names = {path.name for path in (self.data / "member/snap").glob("*.snap")}
        self.assertGreaterEqual(len(names), 3, names)

    def leases_end(self, kind):
        """A lease that one server granted ends while the other serves: after its whole time, and with its keys."""
        for first, second in ((kind, "cairn"), ("cairn", kind)):
            server = self.start(first)
            client = server.client()
            client.lease_grant(7, 3)
            client.lease_grant(8, 3000)
            client.put(b"leased", b"x", lease=7)
            client.put(b"stays", b"x", lease=8)
            server.kill()
            began = time.monotonic()  # a moment before it begins to count
            server = self.start(second)
            client = server.client()
            self.assertEqual(client.leases(), [7, 8])
            harness.until(lambda: not client.get(b"leased"))
            self.assertGreaterEqual(time.monotonic() - began, 3)
            self.assertEqual(client.lease_time_to_live(7)[0], -1)
            self.assertEqual(client.lease_time_to_live(8)[1:], (3000, [b"stays"]))
            client.lease_revoke(8)
            self.assertIsNone(client.get(b"stays"))
            self.assertEqual(server.stop(), -15)
            self.check_directory(self.data)

    def check_schema(self, kind):
        """What the version never wrote is not written for it."""
        meta = bolt.tables(self.data / "member/snap/db")["meta"]
        if kind == "etcd34":
            for key in (b"term", b"confState", b"storageVersion"):
                self.assertNotIn(key, meta)
        else:
            self.assertEqual(meta[b"storageVersion"], b"3.7.0")
            self.assertIn(b"confState", meta)
            self.assertGreater(bolt.number(meta, b"term"), 0)
        if harness.missing("waldump"):
            return
        wal = json.loads(self.run_tool("waldump", "--from", "oldest", self.data).stdout)
        if kind == "etcd34":
            self.assertNotIn("ClusterMemberAttrSet", json.dumps(wal["entries"]["types"]))


@harness.needs("etcd34")
class From34(DirectoryCase):
    def test_fields_that_etcd_does_not_take_stay_out_of_the_log(self):
        """As etcd 3.7 we pass over fields of another wire type; 3.4 refuses them, and panics if its log has one."""
        harness.require("etcd34")
        etcd = self.start("etcd34")
        etcd.client().put(b"a", b"1")
        etcd.stop()
        cairn = self.start("cairn")
        connection = cairn.client().connection
        for path, message in (
                ("KV/DeleteRange", b"\x0a\x01a\x1a\x01x"), ("KV/Put", b"\x0a\x01b\x12\x01v\x1a\x01x"),
                ("KV/Txn", b"\x08\x01\x12\x0b\x12\x09\x0a\x01c\x12\x01v\x1a\x01x"),
                ("KV/Compact", b"\x08\x02\x12\x01x"), ("Maintenance/Alarm", b"\x08\x00\x1a\x01x")):
            connection.unary("/etcdserverpb." + path, message)
        cairn.kill()
        client = self.start("etcd34").client()
        self.assertEqual([(kv.key, kv.value) for kv in client.all()], [(b"b", b"v"), (b"c", b"v")])
        self.assertEqual(client.hash_kv()[1], 2)

    def test_stopped_and_stopped(self):
        self.journey("etcd34")

    def test_killed_with_a_tail_and_cairn_killed(self):
        self.journey("etcd34", ("tail",), kill_cairn=True)

    def test_killed_with_tables_in_the_tail(self):
        self.journey("etcd34", ("tables", "compact"))

    def test_tables(self):
        self.tables_as_etcd_makes_them("etcd34")

    def test_many_segments(self):
        self.many_segments("etcd34")

    def test_snap_files(self):
        self.with_snap_files("etcd34")

    def test_leases_end(self):
        self.leases_end("etcd34")

    def test_unfinished_compaction(self):
        self.unfinished_compaction("etcd34", ["--experimental-compaction-batch-limit", "5"])


@harness.needs("etcd37")
class From37(DirectoryCase):
    def test_leases_end(self):
        self.leases_end("etcd37")

    def test_stopped_and_stopped(self):
        self.journey("etcd37")

    def test_killed_with_a_tail_and_cairn_killed(self):
        self.journey("etcd37", ("tail",), kill_cairn=True)

    def test_killed_with_tables_in_the_tail(self):
        self.journey("etcd37", ("tables", "compact"))

    def test_tables(self):
        self.tables_as_etcd_makes_them("etcd37")

    def test_many_segments(self):
        self.many_segments("etcd37")

    def test_snap_files(self):
        self.with_snap_files("etcd37")

    def test_unfinished_compaction(self):
        self.unfinished_compaction("etcd37", ["--compaction-batch-limit", "5", "--compaction-sleep-interval", "20ms"])


@harness.needs("etcd34", "etcdctl")
class Recorded(DirectoryCase):
    """What etcd 3.4.23 once left (tests/data): databases of snapshots, and directories of clusters that became one."""

    # file -> newest revision, {revision: HashKV}, compacted revision, as etcd 3.4.23 told them then
    SNAPSHOTS = {
        "basic": (52, {52: 1699119974, 20: 3378598244, 36: 234403474, 37: 1876332290, 38: 462792644, 39: 311140346,
                       45: 2089472987}, -1),
        "compacted": (52, {52: 3586648843, 39: 706203715, 45: 2403152683}, 38),
        "alarm": (7, {7: 1798934705}, -1),
        "tombstone-before-compact": (8, {8: 3225570257}, -1),
        "tombstone-after-compact": (8, {8: 3236739860}, 8),
        "cluster": (5605, {5605: 1989540214}, -1),
    }

    def restore(self, name):
        recorded = harness.ROOT / f"tests/data/etcd-3.4.23/snapshots/{name}.db"
        snapshot = self.dir / "snapshot.db"
        if recorded.exists():
            shutil.copyfile(recorded, snapshot)
        else:
            snapshot.write_bytes(gzip.decompress(recorded.with_suffix(".db.gz").read_bytes()))
        shutil.rmtree(self.data, ignore_errors=True)
        peer = f"http://127.0.0.1:{self.ports[1]}"
        self.run_tool("etcdctl", "snapshot", "restore", snapshot, "--data-dir", self.data, "--name", "m",
                      "--initial-cluster", f"m={peer}", "--initial-advertise-peer-urls", peer)

    def end_all(self):
        for server in self.servers:
            server.kill()

    def there_and_back(self):
        """Cairn's view of what etcd 3.4 sees; and etcd's again."""
        copy = self.dir / "by-etcd"
        shutil.rmtree(copy, ignore_errors=True)
        etcd = self.start("etcd34", data=harness.copy_directory(self.data, copy))
        client = etcd.client()
        revisions = self.revisions(client)
        before, version = look(client, revisions), cluster_version(etcd)
        etcd.stop()
        shutil.rmtree(copy)
        cairn = self.start("cairn")
        client = cairn.client()
        self.assert_same(before, look(client, revisions), "opened by Cairn")
        self.assertEqual(cluster_version(cairn), version)
        for member, kind in before["alarms"]:
            client.alarm(2, member, kind)
        if before["revision"] > client.hash_kv()[1]:
            client.compact(before["revision"])
        hashed = client.hash_kv()
        self.assertEqual(cairn.stop(), -15)
        self.check_directory(self.data, mutate=100)
        again = self.start("etcd34").client()
        self.assertEqual(again.hash_kv(), hashed)
        self.assertEqual(again.members(), before["members"])
        self.assertEqual([kv.all() for kv in again.all()], [kv.all() for kv in before["keys"]])
        self.servers[-1].stop()

    def test_snapshots(self):
        for name, (newest, hashes, compacted) in self.SNAPSHOTS.items():
            self.end_all()
            with self.subTest(name):
                self.restore(name)
                cairn = self.start("cairn")
                client = cairn.client()
                self.assertEqual(client.revision(), newest)
                for revision, expected in hashes.items():
                    self.assertEqual(client.hash_kv(revision), (expected, compacted), revision)
                cairn.kill()
                self.there_and_back()

    def test_members_of_clusters_that_were_made_one(self):
        """etcd's --force-new-cluster removes the others in the log; what it leaves is a directory of one member."""
        for name in ("datadir-restored", "datadir-joined"):
            self.end_all()
            with self.subTest(name):
                shutil.rmtree(self.data, ignore_errors=True)
                shutil.copytree(harness.ROOT / "tests/data/etcd-3.4.23" / name, self.data)
                packed = self.data / "member/snap/db.gz"
                packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
                packed.unlink()
                one = self.start("etcd34", ["--force-new-cluster"])
                one.client().put(b"alone", b"1")
                one.kill()
                self.there_and_back()


if __name__ == "__main__":
    harness.main()
