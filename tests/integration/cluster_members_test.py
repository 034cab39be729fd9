"""Three members as an operator sees and changes them with etcdctl: listed, added, promoted, updated, removed, moved,
saved and restored."""

import json

import cluster
import harness
import rpc

UNAVAILABLE, FAILED_PRECONDITION, NOT_FOUND, INVALID_ARGUMENT = 14, 9, 5, 3


class Members(cluster.ThreeCase):
    def add(self, client, url, learner=False):
        return client.call("Cluster", "MemberAdd", rpc.enc((1, url), (2, learner)))

    def leading(self, three):
        """A client of the leader, which is asked first who leads."""
        return three.wait_leader().client()

    def test_etcdctl_sees_them_all(self):
        three = self.three()
        three.do(lambda client: client.put_many((b"k/%03d" % i, b"v") for i in range(100)))
        three.check_equal()
        for one in three.members:
            listed = self.ctl_json([one], "member", "list")
            self.assertEqual(sorted((m["ID"], m["name"], m["peerURLs"], m["clientURLs"], m.get("isLearner", False))
                                    for m in listed["members"]),
                             sorted((m.id, m.name, [m.peer_url], [m.url], False) for m in three.members))
        any_one = [three.members[0]]
        leader = three.wait_leader()
        statuses = {entry["Endpoint"]: entry["Status"] for entry in self.ctl_json(any_one, "endpoint", "status", "--cluster")}
        self.assertEqual(set(statuses), {one.url for one in three.members})
        for one in three.members:
            status = statuses[one.url]
            self.assertEqual((status["header"]["member_id"], status["leader"]), (one.id, leader.id))
            self.assertFalse(status.get("errors"))
        health = json.loads(self.ctl(any_one, "endpoint", "health", "--cluster", "-w", "json"))
        self.assertEqual({entry["endpoint"]: entry["health"] for entry in health}, {one.url: True for one in three.members})
        hashes = self.ctl_json(any_one, "endpoint", "hashkv", "--cluster")
        self.assertEqual(len(hashes), 3)
        self.assertEqual(len({entry["HashKV"]["hash"] for entry in hashes}), 1)

        target = three.follower()
        self.assertIn(f"Leadership transferred from {leader.id:x} to {target.id:x}",
                      self.ctl(three.members, "move-leader", f"{target.id:x}"))
        self.assertIs(three.wait_leader(), target)
        code, _, error = self.ctl([leader], "move-leader", f"{leader.id:x}", check=False)
        self.assertEqual(code, 128)
        self.assertIn("no leader endpoint given", error)
        self.assert_refused(FAILED_PRECONDITION, "etcdserver: not leader", leader.client().call, "Maintenance", "MoveLeader",
                            rpc.enc((1, leader.id)))
        self.assert_refused(FAILED_PRECONDITION, "etcdserver: bad leader transferee", target.client().call, "Maintenance",
                            "MoveLeader", rpc.enc((1, 4711)))

    def test_a_learner_joins_is_promoted_and_another_is_removed(self):
        three = self.three()
        three.do(lambda client: client.put_many((b"k/%03d" % i, b"v") for i in range(300)))
        learner = three.add(self.kind, learner=True, start=False)
        client = self.leading(three)
        # The limit of one learner, and one that has not caught up.
        self.assert_refused(FAILED_PRECONDITION, "etcdserver: too many learner members in cluster",
                            self.add, client, "http://127.0.0.1:9", True)
        self.assert_refused(FAILED_PRECONDITION,
                            "etcdserver: can only promote a learner member which is in sync with leader",
                            client.call, "Cluster", "MemberPromote", rpc.enc((1, learner.id)))
        listed = self.ctl_json(three.members[:1], "member", "list")["members"]
        self.assertEqual([(m.get("name", ""), m.get("clientURLs")) for m in listed if m.get("isLearner")], [("", None)])
        three.start_one(learner)
        three.check_equal()

        with rpc.Client(learner.client_port) as own:
            self.assertEqual(len(own.all(serializable=True)), 300)
            refused = "etcdserver: rpc not supported for learner"
            self.assert_refused(FAILED_PRECONDITION, refused, own.put, b"k", b"v")
            self.assert_refused(FAILED_PRECONDITION, refused, own.range, b"k")
            self.assert_refused(FAILED_PRECONDITION, refused, own.lease_grant, 0, 60)
            self.assertEqual(own.status()["member_id"], learner.id)
        voter = three.follower()
        self.assert_refused(FAILED_PRECONDITION, "etcdserver: can only promote a learner member", voter.client().call,
                            "Cluster", "MemberPromote", rpc.enc((1, voter.id)))
        # A follower hands the promotion on to the leader.
        def promote():
            with rpc.Client(voter.client_port) as asking:
                asking.call("Cluster", "MemberPromote", rpc.enc((1, learner.id)))

        harness.until(lambda: self.succeeds(promote), what="not promoted")
        learner.is_learner = False
        three.wait_healthy()
        three.do(lambda client: client.put(b"by-the-new-one", b"v"), learner)
        self.assertEqual(len(three.listed()), 4)

        # The old leader goes.
        leader = three.wait_leader()
        three.wait_healthy()
        self.remove(three, leader, [one for one in three.members if one is not leader])
        three.members.remove(leader)
        three.gone.append(leader)
        three.wait_healthy()
        three.do(lambda client: client.put(b"after", b"v"), learner)
        three.check_equal()
        self.assert_refused(NOT_FOUND, "etcdserver: member not found", self.leading(three).call, "Cluster", "MemberRemove",
                            rpc.enc((1, leader.id)))
        # It is refused for ever, in its own directory too.
        leader.launch()
        self.assert_ends_as_removed(leader)

    def succeeds(self, call):
        try:
            call()
            return True
        except rpc.GrpcError:
            return False

    def remove(self, three, member, ask):
        """Through etcdctl; its process ends by itself."""
        def removed():
            return self.ctl(ask, "member", "remove", f"{member.id:x}", check=False)[0] == 0 or member.id not in three.listed()

        harness.until(removed, what="not removed")
        self.assert_ends_as_removed(member)

    def assert_ends_as_removed(self, member):
        code = member.wait(60)
        self.assertIn("the member has been permanently removed from the cluster", member.log_text())
        self.assertEqual(code, 0)

    def test_urls_are_updated(self):
        three = self.three()
        member = three.follower()
        member.peer_port = member.listen_peer_port = harness.free_port()
        self.ctl([one for one in three.members if one is not member], "member", "update", f"{member.id:x}",
                 f"--peer-urls={member.peer_url}")
        harness.until(lambda: all(client_peers(one)[member.id] == (member.peer_url,) for one in three.members),
                      what="not all know it")
        three.stop_one(member)
        three.do(lambda client: client.put(b"while-away", b"v"))
        three.start_one(member)  # and is found at its new place
        three.wait_healthy()
        three.check_equal()
        # The others have kept it over a restart.
        for one in three.members:
            if one is not member:
                three.restart(one)
        three.wait_healthy()
        three.check_equal()
        client = self.leading(three)

        def refused():
            try:
                self.add(client, member.peer_url)
            except rpc.GrpcError as error:
                return error.message
            return "added"

        # As long as they are not connected for five seconds it is refused for that.
        harness.until(lambda: refused() != "etcdserver: unhealthy cluster")
        self.assertEqual(refused(), "etcdserver: Peer URLs already exists")

    def test_changes_that_would_lose_the_quorum_are_refused(self):
        three = self.three()
        victim = three.follower()
        leader = three.wait_leader()
        three.kill(victim)
        harness.until(lambda: leader.misses(victim))
        client = leader.client()
        self.assert_refused(UNAVAILABLE, "etcdserver: unhealthy cluster", self.add, client, "http://127.0.0.1:9")
        other = next(one for one in three.members if one is not victim and one is not leader)
        # Of a healthy one there would be one of two left.
        self.assert_refused(UNAVAILABLE, "etcdserver: unhealthy cluster", client.call, "Cluster", "MemberRemove",
                            rpc.enc((1, other.id)))
        three.remove(victim)  # the one that is away may go
        three.wait_healthy()
        new = three.add(self.kind)
        three.wait_healthy()
        three.check_equal()
        self.assertEqual(sorted(three.listed()), sorted(one.id for one in three.members))
        three.do(lambda asking: asking.put(b"k", b"v"), new)

    def test_one_that_never_started_counts_as_down(self):
        three = self.three()
        missing = three.add(self.kind, start=False)
        client = self.leading(three)

        def refused():
            try:
                self.add(client, "http://127.0.0.1:9")
            except rpc.GrpcError as error:
                return error.message
            return "added"

        # Four of which three run: a fifth is taken. Five of which three run: no sixth.
        def added():
            answer = refused()
            return answer == "added" or any("http://127.0.0.1:9" in peers for _, peers, _ in three.listed().values())

        harness.until(added, what="no fifth member")
        harness.until(lambda: refused() == "etcdserver: re-configuration failed due to not enough started members",
                      what=lambda: refused())
        for number, (_, peers, _) in three.listed().items():
            if "http://127.0.0.1:9" in peers or missing.peer_url in peers:
                self.ctl(three.running(), "member", "remove", f"{number:x}")
        three.members.remove(missing)
        three.wait_healthy()
        three.check_equal()

    def test_a_snapshot_of_a_follower_is_restored_as_a_cluster(self):
        if harness.missing("etcdutl37"):
            self.skipTest("not on this machine: etcdutl")
        three = self.three()
        three.do(lambda client: client.put_many((b"k/%03d" % i, b"v%d" % i) for i in range(500)))
        revision, _ = three.check_equal()
        saved = self.dir / "saved.db"
        self.ctl([three.follower()], "snapshot", "save", saved)
        told = json.loads(self.run_tool("etcdutl37", "snapshot", "status", saved, "-w", "json").stdout)
        self.assertEqual(told["revision"], revision)
        kept = three.do(rpc.Client.all)
        three.stop()
        again = self.cluster([self.kind] * 3, "again", flags=cluster.QUICK, token="again")
        for one in again.members:
            self.run_tool("etcdutl37", "snapshot", "restore", saved, "--name", one.name, "--data-dir", one.data_dir,
                          "--initial-cluster", one.initial_cluster, "--initial-cluster-token", "again",
                          "--initial-advertise-peer-urls", one.peer_url)
        again.start()
        self.assertEqual(again.do(rpc.Client.all), kept)
        again.do(lambda client: client.put(b"goes", b"on"))
        self.assertEqual(again.check_equal()[0], revision + 1)


def client_peers(member):
    with rpc.Client(member.client_port) as client:
        return {number: peers for number, _, peers, _, _ in client.members()}


class Of37(Members):
    kind = "etcd37"


class OfCairn(Members):
    kind = "cairn"

    def test_one_that_removes_itself_is_told_so(self):
        """It learns that its removal is committed before it is cut off."""
        three = self.three()
        for leads in (False, True):
            one = three.wait_leader() if leads else three.follower()
            said = []

            def answered():
                said[:] = [self.ctl([one], "member", "remove", f"{one.id:x}", check=False)]
                return "unhealthy cluster" not in said[0][2]  # until connections have lasted for five seconds

            harness.until(answered)
            self.assertEqual(said[0][0], 0, said)
            self.assert_ends_as_removed(one)
            line = [line for line in one.log_lines() if line["msg"] == "removed member"][-1]
            self.assertEqual((line["removed-remote-peer-id"], line["removed-remote-peer-urls"], line["removed-remote-peer-is-learner"]),
                             (f"{one.id:x}", [one.peer_url], False))
            three.members.remove(one)
            three.gone.append(one)
            three.wait_healthy()

    def test_urls_that_are_none_are_refused(self):
        """The next start of an etcd in one of these directories would panic."""
        three = self.three()
        for one in three.members:
            for urls in ([], [""], ["nonsense"], ["http://127.0.0.1"], ["http://127.0.0.1:1/x"]):
                self.assert_refused(INVALID_ARGUMENT, "etcdserver: given member URLs are invalid", one.client().call, "Cluster",
                                    "MemberUpdate", rpc.enc((1, one.id), (2, urls)))
            self.assert_refused(NOT_FOUND, "etcdserver: member not found", one.client().call, "Cluster", "MemberUpdate",
                                rpc.enc((1, 4711), (2, ["nonsense"])))
        self.assertEqual({peers for _, peers, _ in three.listed().values()}, {(one.peer_url,) for one in three.members})

    def test_reads_that_wait_are_no_pending_proposals(self):
        three = self.three()
        leader = three.wait_leader()
        for one in three.members:
            if one is not leader:
                one.pause()
        harness.until(lambda: leader.metric("etcd_server_has_leader") == 0)
        pending = lambda: leader.metric("etcd_server_proposals_pending")
        asking = leader.client(timeout=30).connection
        reads = [asking.start("/etcdserverpb.KV/Range", rpc.enc((1, b"k"))) for _ in range(5)]
        put = asking.start("/etcdserverpb.KV/Put", rpc.put_request(b"k", b"v"))
        harness.until(lambda: pending() == 1)
        for stream in [*reads, put]:
            with self.assertRaises(rpc.GrpcError) as caught:
                asking.finish(stream, timeout=30)
            self.assertEqual(caught.exception.message, "etcdserver: request timed out")
        harness.until(lambda: pending() == 0)
        self.assertEqual(leader.metric("etcd_server_proposals_failed_total"), 1)

    def test_each_loss_of_the_leader_is_told_and_counted(self):
        """Also if the same one leads again."""
        three = self.three()
        leader = three.wait_leader()
        others = [one for one in three.members if one is not leader]
        changes = lambda: leader.metric("etcd_server_leader_changes_seen_total")
        for again in range(1, 3):
            before = changes()
            for one in others:
                one.pause()
            harness.until(lambda: leader.metric("etcd_server_has_leader") == 0)
            self.assert_refused(UNAVAILABLE, "etcdserver: request timed out", leader.client().range, b"k")
            for one in others:
                one.resume()
            three.wait_healthy()
            self.assertGreater(changes(), before)
            self.assertGreaterEqual(leader.log_text().count(f"raft.node: {leader.id:x} lost leader {leader.id:x} at term"), 1)
            self.assertGreater(leader.log_text().count(f"raft.node: {leader.id:x} elected leader"), again)
            self.assertGreaterEqual(leader.metric("etcd_server_slow_read_indexes_total"), again)
            three.move_leader(leader)
        leader.wait_logged("timed out waiting for read index response")
        for name in ("etcd_server_proposals_failed_total", "etcd_server_read_indexes_failed_total"):
            self.assertEqual(leader.metric(name), 0, name)


if __name__ == "__main__":
    harness.main()
