"""What three members do beside serving: those that were away catch up, by log and by snapshot, alarms go round, and
defragmentation, compaction and checks disturb nobody."""

import time

import cluster
import cluster_clients_test
import harness
import rpc

NOSPACE, CORRUPT = 1, 2
GET, DEACTIVATE = 0, 2


class Duties(cluster.ThreeCase):
    def put(self, three, count, prefix, member=None):
        three.do(lambda client: client.put_many((b"%s/%05d" % (prefix, i), b"v" * 100) for i in range(count)), member)

    # Catching up

    def test_by_log(self):
        three = self.three()
        for away in (three.follower(), three.wait_leader()):
            three.kill(away)
            three.wait_leader(other_than=away)
            self.put(three, 1000, b"away")
            three.start_one(away)
            three.wait_healthy()
            three.check_equal()
            self.assertEqual(three.snapshots_sent(), 0)

    def test_by_snapshot(self):
        three = self.three(cluster.SHORT_LOG)
        away = three.follower()
        leader = three.wait_leader()
        leader.client().lease_grant(9, 3000)
        leader.client().put(b"leased", b"v", lease=9)
        three.kill(away)
        time.sleep(cluster.SILENT_S)
        for i in range(3):
            self.put(three, 400, b"away/%d" % i)
        three.do(lambda client: client.compact(client.revision() - 100))
        three.launch(away)
        away.wait_ready()
        self.put(three, 5, b"meanwhile")  # an etcd learns from the next entry that it is there
        three.wait_healthy()
        three.check_equal()
        self.assertGreater(sum(one.snapshots_sent(f'To="{away.id:x}"') for one in three.members), 0)
        # It has all of the state: leases, and what it applies from now on.
        with rpc.Client(away.client_port) as client:
            self.assertEqual(client.leases(), [9])
            self.assertEqual(client.lease_keep_alive(9), 3000)
            client.lease_revoke(9)
            self.assertIsNone(client.get(b"leased"))
        three.move_leader(away)
        self.put(three, 100, b"led", away)
        three.check_equal()
        three.restart(away)  # and it starts from what it took in
        three.wait_healthy()
        three.check_equal()

    def test_by_snapshot_under_its_watchers(self):
        """They stay, and miss nothing."""
        three = self.three(cluster.SHORT_LOG)
        away = three.follower()
        watching = cluster_clients_test.Watching(away)
        self.put(three, 10, b"before")
        harness.until(lambda: len(watching.events) == 10)
        away.pause()
        leader = three.wait_leader()
        rounds = 0

        def behind():
            """Until the others have given up what it lacks: what lies in sockets and queues is not enough."""
            nonlocal rounds
            rounds += 1
            three.do(lambda client: client.put_many((b"away/%d/%03d" % (rounds, i), b"v" * 20_000) for i in range(200)))
            return rounds >= 10

        harness.until(behind)
        away.resume()
        self.put(three, 10, b"after")
        three.wait_healthy()
        revision, _ = three.check_equal()
        harness.until(lambda: watching.events[-1][0] == revision, what=lambda: f"{watching.events[-1]} of {revision}")
        watching.stop()
        self.assertEqual([number for number, _ in watching.events], list(range(2, revision + 1)))

    def test_a_new_member_by_snapshot_while_others_write(self):
        three = self.three(cluster.SHORT_LOG)
        self.put(three, 2000, b"k")
        putting = [cluster_clients_test.Putting(one, i) for i, one in enumerate(three.members)]
        new = three.add(self.kind, learner=True)
        three.promote(new)
        for one in putting:
            one.stop()
            self.assertEqual(one.refused, [])
        three.wait_healthy()
        three.check_equal()

    # Alarms

    def test_space_of_one_is_space_of_all(self):
        three = self.three(["--quota-backend-bytes", str(64 << 20)],
                           flags_of=lambda name: ["--quota-backend-bytes", str(2 << 20)] if name == "m2" else [])
        small = three["m2"]
        if three.wait_leader() is small:
            three.move_leader(three["m1"])
        client = small.client()

        def full():
            try:
                client.put(b"k", b"v" * 100_000)
            except rpc.GrpcError as error:
                self.assertEqual((error.code, error.message), (8, "etcdserver: mvcc: database space exceeded"))
                return True
            return False

        harness.until(full)
        for one in three.members:
            harness.until(lambda: one.client().alarm(GET) == [(small.id, NOSPACE)])
            self.assert_refused(8, "etcdserver: mvcc: database space exceeded", one.client().put, b"k", b"v")
            self.assertEqual(one.client().get(b"k").value, b"v" * 100_000)
            self.assertRegex(" ".join(one.status()["errors"]), f"memberID:{small.id} +alarm:NOSPACE")
        self.assertEqual(self.ctl([three["m1"]], "alarm", "list").strip(), f"memberID:{small.id} alarm:NOSPACE")
        # Room is made, and the alarm taken back.
        client.delete(b"k")
        client.compact(client.revision(), physical=True)
        three.check_equal()
        for one in three.members:
            self.ctl([one], "defrag")
        self.ctl([three["m3"]], "alarm", "disarm")
        for one in three.members:
            harness.until(lambda: not one.client().alarm(GET))
            one.client().put(b"k", b"v")
        three.check_equal()

    def test_a_follower_is_defragmented_while_others_write(self):
        three = self.three()
        self.put(three, 3000, b"k")
        three.do(lambda client: client.compact(client.revision(), physical=True))
        putting = [cluster_clients_test.Putting(one, i) for i, one in enumerate(three.members)]
        follower = three.follower()
        self.ctl([follower], "defrag")
        self.ctl(three.members[:1], "defrag", "--cluster")
        enough = [len(one.acknowledged) + 20 for one in putting]
        harness.until(lambda: all(len(one.acknowledged) >= n for one, n in zip(putting, enough)))
        for one in putting:
            one.stop()
            self.assertEqual(one.refused, [])
        three.check_equal()

    def test_the_one_that_differs_is_named(self):
        """A db that was changed behind its member's back is found by the leader, and all refuse to go on with it."""
        three = self.three(["--corrupt-check-time", "2s"])
        self.put(three, 20, b"k")
        three.check_equal()
        victim = three.follower()
        three.stop_one(victim)
        self.corrupt(victim)
        three.start_one(victim)
        corrupt = lambda client: (victim.id, CORRUPT) in client.alarm(GET)
        harness.until(lambda: all(one.ask(corrupt) for one in three.running()), what=three.describe)
        for one in three.running():
            self.assert_refused(15, "etcdserver: corrupt cluster", one.client().put, b"k", b"v")

    def corrupt(self, member):
        if harness.missing("boltcheck"):
            self.skipTest("not on this machine: boltcheck")
        db = member.data_dir / "member/snap/db"
        bytes_of = db.read_bytes()
        self.assertIn(b"k/00007", bytes_of)
        at = 0
        changed = bytearray(bytes_of)
        while (at := bytes_of.find(b"k/00007", at)) >= 0:  # the value of its record
            value = bytes_of.find(b"v" * 100, at, at + 200)
            if value >= 0:
                changed[value] = ord("w")
            at += 1
        self.assertNotEqual(bytes(changed), bytes_of)
        db.write_bytes(bytes(changed))

    # What only the leader does

    def test_leases_expire_under_each_leader(self):
        three = self.three()
        for number in range(1, 4):
            three.do(lambda client: number in client.leases() or client.lease_grant(number, 3))
            three.do(lambda client: client.put(b"leased/%d" % number, b"v", lease=number))
            leader = three.wait_leader()
            three.move_leader(next(one for one in three.members if one is not leader))
            harness.until(lambda: not three.do(lambda client: client.range(b"leased/", b"leased0").get(2)))
        three.check_equal()

    def test_history_is_compacted_on_all(self):
        three = self.three(["--auto-compaction-mode", "revision", "--auto-compaction-retention", "1"])
        self.put(three, 100, b"k")
        follower = three.follower()
        with rpc.Client(follower.client_port) as client:
            client.compact(50, physical=True)
            for one in three.members:
                self.assert_refused(11, "etcdserver: mvcc: required revision has been compacted", one.client().range, b"k",
                                    revision=49)
        three.check_equal()


class Of37(Duties):
    kind = "etcd37"


class OfCairn(Duties):
    kind = "cairn"

    def test_the_one_that_differs_does_not_start_and_the_others_do(self):
        """Although all start at a time, and each compares its data with that of all."""
        three = self.three(["--feature-gates", "InitialCorruptCheck=true"])
        self.put(three, 20, b"k")
        three.check_equal()
        victim = three.follower()
        three.stop()
        self.corrupt(victim)
        for one in three.members:
            three.launch(one)
        self.assertEqual(victim.wait(60), 1)
        self.assertIn(f"{victim.id:x} found data inconsistency with peers", victim.log_text())

        def serve():
            for one in three.members:
                if one is not victim and not one.running():
                    three.launch(one)  # it has seen the other one alone
            return len([one for one in three.running() if one.ask(lambda client: client.range(b"k"))]) == 2

        harness.until(serve, what=three.describe)
        three.check_equal()


if __name__ == "__main__":
    harness.main()
