"""What etcdutl restores with a jump of the revision: Cairn and etcd 3.7 go on from it with the same hashes."""

import harness

JUMP = ("--bump-revision", "1000", "--mark-compacted")


def ways_on(client):
    """The hashes at each step of a life after the restore."""
    hashes = []

    def look(*revisions):
        hashes.append([client.hash_kv(revision) for revision in (0, *revisions)])

    now = client.revision()
    look(now)
    for i in range(20):
        client.put(b"k/%d" % (i % 7), b"after %d" % i)
    look(now, now + 5)
    client.delete(b"k/", b"k0")
    empty = client.revision()  # no key is alive: where etcd filters nothing, but for the key "" of the jump
    look(now, empty)
    # At a compaction's own revision etcd answers what its pass has reckoned, which no restart remembers.
    client.compact(empty - 3, physical=True)
    look(empty - 2, empty)
    client.put(b"k/first", b"1")
    client.compact(empty, physical=True)
    look(empty + 1)
    client.delete(b"k/first")
    client.compact(client.revision(), physical=True)
    client.put(b"k/last", b"1")
    look()
    return hashes


@harness.needs("etcd37", "etcdutl37")
class Restored(harness.Case):
    def restore(self, source, name, *how):
        target = self.dir / name
        peer = "http://127.0.0.1:2380"
        self.run_tool("etcdutl37", "snapshot", "restore", source / "member/snap/db", "--skip-hash-check",
                      "--data-dir", target, "--name", "m", "--initial-cluster", f"m={peer}",
                      "--initial-advertise-peer-urls", peer, *how)
        return target

    def compare(self, data):
        copy = harness.copy_directory(data, self.dir / (data.name + "-by-cairn"))
        seen = {}
        for kind, directory in (("etcd37", data), ("cairn", copy)):
            server = self.server(kind, directory).start()
            seen[kind] = ways_on(server.client())
            server.stop()
        self.assertEqual(seen["cairn"], seen["etcd37"])
        # And after a restart: from the files alone.
        for kind, directory in (("etcd37", copy), ("cairn", data)):
            server = self.server(kind, directory).start()
            seen[kind] = server.client().hash_kv()
            server.stop()
        self.assertEqual(seen["cairn"], seen["etcd37"])

    def test_a_jump_of_the_revision_counts_as_etcd_counts_it(self):
        source = self.server("etcd37", self.dir / "source").start()
        client = source.client()
        for i in range(30):
            client.put(b"k/%d" % (i % 9), b"%d" % i)
        client.delete(b"k/3")
        source.stop()
        once = self.restore(self.dir / "source", "once", *JUMP)
        twice = self.restore(once, "twice", *JUMP)  # the second jump takes the place of the first
        self.compare(once)
        self.compare(twice)

    def test_a_jump_where_no_key_is(self):
        source = self.server("etcd37", self.dir / "source").start()
        client = source.client()
        client.put(b"k", b"1")
        client.delete(b"k")
        source.stop()
        self.compare(self.restore(self.dir / "source", "once", *JUMP))

    @harness.needs("etcd34")
    def test_a_snapshot_of_34_that_etcd_37_restored(self):
        """etcd 3.7 goes on from it after Cairn: Cairn leaves no v2 requests in its log, at which 3.7 panics."""
        source = self.server("etcd34", self.dir / "source").start()
        source.client().put(b"k", b"1")
        source.stop()
        data = self.restore(self.dir / "source", "restored")
        for kind in ("cairn", "cairn", "etcd37", "cairn"):
            server = self.server(kind, data).start()  # each at another URL
            client = server.client()
            self.assertEqual(client.get(b"k").value, b"1")
            client.put(b"by", kind.encode())
            server.kill()


if __name__ == "__main__":
    harness.main()
