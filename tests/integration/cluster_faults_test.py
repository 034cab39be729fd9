"""Fault points of what members send each other, on three real members: one ends in the middle, and nothing is lost."""

import cluster
import harness
import rpc

# An installation's steps, in their order.
OF_SNAPSHOTS = ("raftBeforeSaveSnap", "raftBeforeWALSaveSnaphot", "raftAfterSaveSnap", "applyBeforeOpenSnapshot",
                "applyAfterOpenSnapshot", "raftBeforeApplySnap", "raftAfterApplySnap", "raftAfterWALRelease")
LEASE = 7


class OfCairn(cluster.ClusterCase):
    def three(self):
        return self.cluster(["cairn"] * 3, flags=[*cluster.QUICK, *cluster.SHORTEST_LOG], failpoints=True).start()

    def ends_at(self, point, member):
        self.assertEqual(member.wait(cluster.PATIENCE_S), 2, member.log_tail())
        self.assertIn(f"\n\nfailpoint {point}\n", member.log_text())

    def test_a_member_ends_at_each_step_of_a_leaders_snapshot(self):
        three = self.three()
        late = three.follower()
        for point in OF_SNAPSHOTS:
            with self.subTest(point):
                three.wait_equal()
                index = late.status()["raft_index"]
                three.stop_one(late)
                three.release_log(index)
                late.variables = {"GOFAIL_FAILPOINTS": f"{point}=panic"}
                three.launch(late)
                self.ends_at(point, late)
                late.variables = {}
                three.start_one(late)
                three.check_equal()
                left = lambda: [path.name for path in (late.data_dir / "member/snap").iterdir()
                                if path.name.startswith("tmp") or path.name.endswith(".snap.db")]
                harness.until(lambda: not left(), what=left)

    def test_a_leader_ends_while_others_ask_it_about_leases(self):
        three = self.three()
        three.do(lambda client: client.lease_grant(LEASE, 3600))
        for point, ask in (("beforeServeHTTPLeaseRenew", lambda client: client.lease_keep_alive(LEASE)),
                           ("beforeLookupWhenForwardLeaseTimeToLive", lambda client: client.lease_time_to_live(LEASE))):
            with self.subTest(point):
                leader, follower = three.wait_leader(), three.follower()
                leader.set_failpoint(point, "panic")
                try:
                    with rpc.Client(follower.client_port, timeout=60) as client:
                        ask(client)
                except (OSError, rpc.GrpcError):
                    pass  # it may have waited too long
                self.ends_at(point, leader)
                three.start_one(leader)
                three.wait_healthy()
                self.assertGreater(three.do(lambda client: client.lease_keep_alive(LEASE), follower), 0)

    def test_a_token_that_a_member_does_not_know_yet_is_waited_for(self):
        three = self.three()
        late, asked = three.follower(), three.wait_leader()
        root = asked.client()
        root.user_add("root", "r"), root.role_add("root"), root.user_grant("root", "root")
        root.auth_enable()
        root.login("root", "r")
        root.put(b"k", b"v")

        def read_as_root(client):
            client.metadata = root.metadata
            return client.get(b"k")

        harness.until(lambda: late.ask(read_as_root))
        late.set_failpoint("beforeApplyOneEntryNormal", "sleep(400)")
        for call in (lambda client: client.put(b"k", b"w"), lambda client: client.get(b"k"),
                     lambda client: client.range(b"k", serializable=True), lambda client: client.lease_keep_alive(LEASE)):
            root.login("root", "r")
            with rpc.Client(late.client_port, timeout=60) as client:
                client.metadata = root.metadata
                call(client)
        late.set_failpoint("beforeApplyOneEntryNormal", "off")
        with rpc.Client(late.client_port, timeout=60) as client:
            for wrong in ("abcdefghijklmnop.1", f"abcdefghijklmnop.{1 << 40}", "nonsense"):
                client.metadata = (("token", wrong),)
                with self.assertRaises(rpc.GrpcError) as refused:
                    client.put(b"k", b"w")
                self.assertEqual(refused.exception.message, "etcdserver: invalid auth token")

    def test_a_member_that_drops_what_it_reads_is_one_of_them_again(self):
        three = self.three()
        leader, deaf = three.wait_leader(), three.follower()
        deaf.set_failpoint("raftDropHeartbeat", "return")
        harness.until(lambda: (deaf.status() or {}).get("leader") == 0, cluster.PATIENCE_S)
        three.do(lambda client: client.put(b"a", b"1"), leader)
        self.assertIs(three.wait_leader(), leader)
        deaf.set_failpoint("raftDropHeartbeat", "off")
        three.wait_healthy()
        three.check_equal()


if __name__ == "__main__":
    harness.main()
