"""Clusters of real members: what the harness of clusters promises, shown on etcd, so that what a test says of Cairn's
members is not the harness's own doing."""

import os

import cluster
import harness
import rpc


QUICK = ["--heartbeat-interval", "50", "--election-timeout", "500"]
# etcd 3.7 cannot read a request that 3.5 wrote for the old store. A snapshot must have left it behind.
OFTEN_SNAPSHOT = ["--snapshot-count", "5"]


class Harness(cluster.ClusterCase):
    """On three members of one kind."""

    def setUp(self):
        cluster.require("etcd37")
        super().setUp()

    def test_it_starts_kills_and_goes_on(self):
        three = self.cluster(["etcd37"] * 3).start()
        first = three.wait_leader()
        self.assertEqual(len(three.listed()), 3)
        for number, (name, _, _) in three.listed().items():
            self.assertEqual(three[name].id, number)

        three.do(lambda client: client.put_many((b"k/%03d" % i, b"before") for i in range(50)))
        revision, fingerprint = three.check_equal()
        self.assertGreaterEqual(revision, 51)

        three.kill(first)
        second = three.wait_leader(other_than=first)
        three.do(lambda client: client.put(b"while/away", b"1"))
        self.assertEqual(len(three.running()), 2)
        three.start_one(first)
        three.wait_healthy()
        after, other_fingerprint = three.check_equal()
        self.assertGreater(after, revision)
        self.assertNotEqual(fingerprint, other_fingerprint)

        third = next(one for one in three.members if one not in (first, second))
        three.move_leader(third)
        third.pause()
        self.assertIsNone(third.status(timeout=0.3))
        self.assertIsNot(three.wait_leader(other_than=third), third)
        third.resume()
        three.wait_healthy()
        three.check_equal()
        pids = [one.process.pid for one in three.members]
        self.assertEqual(three.stop(), [-15, -15, -15])
        for pid in pids:
            self.assertFalse(os.path.exists(f"/proc/{pid}"))

    def test_it_says_what_it_waited_for(self):
        three = self.cluster(["etcd37"] * 3, flags=QUICK).start()
        alone = three.members[0]
        for one in three.members[1:]:
            three.kill(one)
        harness.until(lambda: alone.status()["leader"] == 0)
        self.assertIsNone(three.leader())
        with self.assertRaisesRegex(AssertionError, "no leader in 1 s\nm1 etcd37 id [0-9a-f]+ runs .*\nm2 .* ended"):
            three.wait_leader(seconds=1)
        self.assertRegex(three.describe(log_bytes=500), r"m1 etcd37 .*\n  .*raft")

    def test_it_sees_what_differs(self):
        """Two clusters that were told different things, compared as if they were one."""
        one = self.cluster(["etcd37"], "one").start()
        other = self.cluster(["etcd37"], "other").start()
        for made, value in ((one, b"1"), (other, b"2")):
            made.do(lambda client, value=value: client.put(b"k", value))
        other.members[0].name = "other"
        one.members += other.members
        one.wait_equal = lambda: 2
        with self.assertRaisesRegex(AssertionError, "HashKV at revision 2 differs"):
            one.check_equal()


class Mixed(cluster.ClusterCase):
    def write(self, mixed, keys):
        """Through each member; the keys that must be there."""
        for member in mixed.running():
            for _ in range(5):
                keys.append(b"k/%d" % len(keys))
                mixed.do(lambda client: client.put(keys[-1], b"v"), member)

    def test_versions_one_after_the_other(self):
        """Members of 3.5 become members of 3.6 and of 3.7 one by one, as an operator does it."""
        cluster.require("etcd35", "etcd36", "etcd37")
        mixed = self.cluster(["etcd35"] * 3, flags=QUICK + OFTEN_SNAPSHOT).start()
        keys = []
        for kind in ("etcd36", "etcd37"):
            self.write(mixed, keys)
            for member in list(mixed.members):
                mixed.restart(member, kind)
                mixed.wait_healthy()
                self.write(mixed, keys)
                mixed.check_equal()
            # The cluster's version follows when the last one is new.
            harness.until(lambda: f'"etcdcluster":"3.{kind[-1]}.0"' in mixed.members[0].http("/version")[2])
        self.assertEqual({kv.key for kv in mixed.do(rpc.Client.all)}, set(keys))

    def test_members_of_another_kind_take_the_place(self):
        cluster.require("etcd36", "etcd37")
        mixed = self.cluster(["etcd36"] * 3, flags=QUICK).start()
        keys = []
        self.write(mixed, keys)
        mixed.do(lambda client: 7 in client.leases() or client.lease_grant(7, 3000))
        mixed.do(lambda client: client.put(b"leased", b"v", lease=7))
        new = mixed.replace(mixed.members[0], "etcd37")
        self.assertEqual([one.kind for one in mixed.members], ["etcd36", "etcd36", "etcd37"])
        self.assertEqual(sorted(mixed.listed()), sorted(one.id for one in mixed.members))
        mixed.check_equal()
        mixed.move_leader(new)
        self.write(mixed, keys)
        self.assertEqual(mixed.do(lambda client: client.get(b"leased")).lease, 7)
        mixed.check_equal()


if __name__ == "__main__":
    harness.main()
