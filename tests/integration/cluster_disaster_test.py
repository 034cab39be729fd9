"""What happens to directories: lost, killed in the middle of being made or replaced, full of what a member cannot keep.
What was acknowledged is there afterwards, on all members."""

import shutil
import threading
import time

import cluster
import harness
import rpc

LOG_KEPT_BY_34 = 5000
V2_TEXT = "holds keys of the v2 API"


class Writing(threading.Thread):
    """Puts of keys that nobody else writes, at any member, one after the other."""

    def __init__(self, made, random):
        super().__init__(daemon=True)
        self.random, self.ports = random, [one.client_port for one in made.members]
        self.stopping = threading.Event()
        self.acknowledged = {}  # key -> revision
        self.start()

    def run(self):
        client, count = None, 0
        while not self.stopping.is_set():
            count += 1
            key = b"w/%06d" % count
            try:
                client = client or rpc.Client(self.random.choice(self.ports), timeout=4)
                self.acknowledged[key] = client.put(key, b"v")
            except (OSError, rpc.GrpcError):
                if client:
                    client.close()
                client = None
                self.stopping.wait(0.02)
        if client:
            client.close()

    def stop(self):
        self.stopping.set()
        self.join()


class Disasters(cluster.ClusterCase):
    def three(self, flags=(), kind="cairn"):
        return self.cluster([kind] * 3, flags=[*cluster.QUICK, *flags]).start()

    def fill(self, made, count, size):
        for at in range(0, count, 500):
            made.do(lambda client: client.put_many((b"f/%06d" % i, b"v" * size) for i in range(at, at + 500)))

    def check(self, made, writing):
        writing.stop()
        made.wait_healthy()
        made.check_equal()
        self.assertGreater(len(writing.acknowledged), 20)
        for one in made.running():
            with rpc.Client(one.client_port, timeout=30) as client:
                found = {kv.key: kv.mod for kv in client.all()}
            lost = [key for key, revision in writing.acknowledged.items() if found.get(key) != revision]
            self.assertEqual(lost, [], one.name)

    def fatal(self, member):
        self.assertIn(member.wait(60), (1, 2), member.log_tail())
        return member.log_lines()[-1]["error"]

    # Lost directories

    def test_who_has_served_does_not_join_again(self):
        """Its vote could take back what it has acknowledged."""
        made = self.three()
        self.fill(made, 500, 100)
        wiped = made.follower()
        made.kill(wiped)
        shutil.rmtree(wiped.data_dir)
        for state in ("existing", "new"):
            wiped.initial_state = state
            made.launch(wiped)
            self.assertEqual(self.fatal(wiped), f"member {wiped.id:x} has already been bootstrapped")
            self.assertFalse(wiped.data_dir.exists())
        made.remove(wiped)
        made.add("cairn")
        made.wait_healthy()
        made.check_equal()

    # Restored

    def restored(self, saved, name, count, *how):
        made = self.cluster(["cairn"] * count, name, flags=cluster.QUICK, token=name)
        for one in made.members:
            self.run_tool("etcdutl37", "snapshot", "restore", saved, "--name", one.name, "--data-dir", one.data_dir,
                          "--initial-cluster", one.initial_cluster, "--initial-cluster-token", name,
                          "--initial-advertise-peer-urls", one.peer_url, *how)
        return made.start()

    @harness.needs("etcdutl37", "etcdctl37", "etcd37")
    def test_who_joins_a_restored_cluster_has_what_was_restored(self):
        """It is in no log: the new member needs the db, whoever it is, and after restarts of the others too."""
        source = self.three()
        self.fill(source, 1000, 50)
        source.do(lambda client: 9 in client.leases() or client.lease_grant(9, 3000))
        source.do(lambda client: client.put(b"leased", b"v", lease=9))
        source.check_equal()
        saved = self.dir / "saved.db"
        self.ctl([source.follower()], "snapshot", "save", saved)
        kept = source.do(rpc.Client.all)
        source.stop()
        for count, kind, how in ((1, "cairn", ()), (3, "cairn", ("--bump-revision", "1000", "--mark-compacted")),
                                 (3, "etcd37", ())):
            with self.subTest(f"{count} and {kind}"):
                made = self.restored(saved, f"{count}-{kind}", count, *how)
                made.do(lambda client: client.put(b"after", b"v"))
                for one in made.members:
                    made.restart(one)
                made.wait_healthy()
                new = made.add(kind, learner=True)
                made.wait_equal()
                made.promote(new)
                made.check_equal()
                made.move_leader(new)
                found = made.do(rpc.Client.all, new)
                self.assertEqual([kv for kv in found if kv.key != b"after"], kept)
                self.assertEqual(made.do(rpc.Client.leases, new), [9])

    # Killed

    def test_a_member_is_killed_again_and_again_while_it_takes_in_a_snapshot(self):
        made = self.three(cluster.SHORTEST_LOG)
        random = self.random()
        self.fill(made, 5000, 2000)
        late = made.follower()
        index = late.status()["raft_index"]
        made.kill(late)
        made.release_log(index)
        writing = Writing(made, random)
        for _ in range(12):
            made.launch(late)
            time.sleep(random.uniform(0, 0.5))
            made.kill(late)
        made.start_one(late)
        self.check(made, writing)

    def test_a_member_is_killed_again_and_again_while_it_joins(self):
        made = self.three(cluster.SHORTEST_LOG)
        random = self.random()
        self.fill(made, 2000, 2000)
        writing = Writing(made, random)
        new = made.add("cairn", learner=True, start=False)
        for _ in range(12):
            made.launch(new)
            time.sleep(random.uniform(0, 0.5))
            made.kill(new)
        made.start_one(new)
        made.promote(new)
        self.check(made, writing)

    def test_all_lose_power_again_and_again(self):
        made = self.three(cluster.SHORTEST_LOG)
        random = self.random()
        writing = Writing(made, random)
        for _ in range(8):
            time.sleep(random.uniform(0.05, 0.5))
            for again in range(random.choice((1, 2))):
                if again:
                    time.sleep(random.uniform(0, 0.5))
                for one in made.members:
                    made.kill(one)
                for one in made.members:
                    made.launch(one)
            for one in made.members:
                one.wait_ready(cluster.PATIENCE_S)
            made.wait_healthy()
        self.check(made, writing)

    # What a member cannot keep

    def v2(self, member, method, body=None):
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        status, _, answer = member.http("/v2/keys/old", method, body, headers)
        self.assertIn(status, (200, 201), answer)

    def test_keys_of_the_v2_api_are_not_lost(self):
        """A member of Cairn that leads would send snapshots without them."""
        for way in ("log", "snapshot"):
            with self.subTest(way):
                harness.require("etcd34")
                made = self.cluster(["etcd34"] * 3, way, flags=[*cluster.QUICK, "--enable-v2", "--snapshot-count", "100"])
                made.start()
                self.v2(made.members[0], "PUT", "value=v")
                if way == "snapshot":
                    self.fill(made, LOG_KEPT_BY_34 + 1500, 10)
                new = made.add("cairn", learner=True, start=False)
                made.launch(new)
                for _ in range(2):
                    self.assertIn(V2_TEXT, self.fatal(new))
                    new.launch()
                self.assertIn(V2_TEXT, self.fatal(new))
                self.v2(made.members[0], "GET")


if __name__ == "__main__":
    harness.main()
