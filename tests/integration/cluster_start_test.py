"""How three members become a cluster, and how they are kept from becoming a wrong one: tokens, names, URLs, wiped
directories, certificates, and the one of three that is all that is left."""

import pathlib
import shutil

import cluster
import harness
import pki
import rpc


class Starts(cluster.ThreeCase):
    def fatal(self, member, code=1):
        """What its last line gives as the reason."""
        self.assertEqual(member.wait(60), code, member.log_tail())
        line = member.log_lines()[-1]
        self.assertEqual(line["level"], "fatal", line)
        return line["error"]

    def test_wrong_initial_clusters_are_refused(self):
        three = self.three(start=False)
        one, other, third = three.members
        text = one.initial_cluster
        for wrong, reason in (
                (text.replace(f"{one.name}=", "else="), f'couldn\'t find local name "{one.name}" in the initial cluster configuration'),
                (text.replace(str(one.peer_port), "1"),
                 f"--initial-cluster has {one.name}=http://127.0.0.1:1 but missing from --initial-advertise-peer-urls="
                 f"{one.peer_url} (resolved urls: \"{one.peer_url}\" != \"http://127.0.0.1:1\")"),
                (text.replace(str(other.peer_port), str(third.peer_port)),
                 "has duplicate url"),
        ):
            one.initial_cluster = wrong
            one.launch()
            self.assertIn(reason, self.fatal(one))
            shutil.rmtree(one.data_dir, ignore_errors=True)

    def test_who_waits_for_a_majority_answers_probes(self):
        """At --listen-metrics-urls, so that nobody who looks there kills it for waiting."""
        three = self.three(start=False)
        one = three.members[0]
        port = harness.free_port()
        one.flags = [*one.flags, "--listen-metrics-urls", f"http://127.0.0.1:{port}"]
        one.launch()
        probes = harness.Server(self.kind, self.dir, ports=(port, 0))

        def ask(path):
            try:
                status, _, body = probes.http(path)
                return status, body
            except OSError:
                return 0, ""

        harness.until(lambda: ask("/health")[0] == 503, what="it says that nobody leads")
        self.assertIn("RAFT NO LEADER", ask("/health")[1])
        self.assertEqual(ask("/livez")[0], 200)
        self.assertEqual(ask("/health?serializable=true")[0], 200)
        self.assertIn("etcd_server_has_leader 0", ask("/metrics")[1])
        for other in three.members[1:]:
            other.launch()
        three.wait_healthy()
        harness.until(lambda: ask("/health")[0] == 200, what="all is well")

    def test_the_first_leader_comes_before_the_election_timeout_is_over(self):
        """--initial-election-tick-advance: who reaches a majority does not wait for a whole one."""
        said = "initialized peer connections; fast-forwarding election ticks"
        for flag, times in (("true", 1), ("false", 0)):
            flags = ["--heartbeat-interval", "100", "--election-timeout", "2000", f"--initial-election-tick-advance={flag}"]
            three = self.cluster([self.kind] * 3, name=flag, flags=flags).start()
            self.assertEqual([one.log_text().count(said) for one in three.members], [times] * 3)
            three.close()

    def test_another_token_is_another_cluster(self):
        three = self.three(start=False)
        odd = three.members[2]
        odd.token = "another"
        for one in three.members:
            three.launch(one)
        pair = three.members[:2]
        three.members = pair
        try:
            three.wait_healthy()
            three.do(lambda client: client.put(b"k", b"v"))
            self.assertIsNone(odd.ask(lambda client: client.range(b"k"), timeout=1))  # it has no leader
            # Each end says so: who asked, and who was asked.
            odd.wait_logged("cluster ID mismatch")
            pair[0].wait_logged("cluster ID mismatch")
            with rpc.Client(pair[0].client_port) as client:
                self.assertEqual(sorted(name for _, name, _, urls, _ in client.members() if urls), ["m1", "m2"])
        finally:
            three.members = [*pair, odd]
        # Started again as it should have been, it takes part.
        odd.kill()
        shutil.rmtree(odd.data_dir)
        odd.token = three.token
        three.start()
        three.check_equal()

    def test_a_wiped_member_does_not_vote_again(self):
        three = self.three()
        wiped = three.follower()
        three.kill(wiped)
        shutil.rmtree(wiped.data_dir)
        three.launch(wiped)
        self.assertEqual(self.fatal(wiped), f"member {wiped.id:x} has already been bootstrapped")
        three.wait_healthy()

    def test_who_joins_must_know_the_cluster(self):
        three = self.three()
        new = three.add(self.kind, start=False)
        right = new.initial_cluster
        for wrong, reason in (
                (f"{new.name}={new.peer_url}",
                 "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs"),
                (right.replace(f",{three.members[0].name}={three.members[0].peer_url}", "").replace(
                    f"{three.members[0].name}={three.members[0].peer_url},", ""),
                 "error validating peerURLs"),
        ):
            new.initial_cluster = wrong
            new.launch()
            self.assertIn(reason, self.fatal(new))
            shutil.rmtree(new.data_dir, ignore_errors=True)
        new.initial_cluster = right
        three.start_one(new)
        three.wait_healthy()
        three.check_equal()

    def test_the_flags_of_a_start_do_not_matter_to_a_restart(self):
        three = self.three()
        three.do(lambda client: client.put(b"k", b"v"))
        for one in three.members:
            one.initial_cluster, one.initial_state, one.token = f"{one.name}={one.peer_url}", "existing", "whatever"
            three.restart(one)
        three.wait_healthy()
        self.assertEqual(three.do(lambda client: client.get(b"k")).value, b"v")
        self.assertEqual(len(three.listed()), 3)

    # TLS between members

    def peers_over_tls(self, flags_of):
        three = self.three(peer_scheme="https", flags_of=flags_of)
        three.do(lambda client: client.put_many((b"k/%03d" % i, b"v") for i in range(50)))
        leader = three.wait_leader()
        three.kill(leader)
        three.wait_leader(other_than=leader)
        three.do(lambda client: client.put(b"while-away", b"v"))
        three.start_one(leader)
        three.wait_healthy()
        three.check_equal()
        # What only the leader can answer goes through the followers, over TLS too.
        three.do(lambda client: 7 in client.leases() or client.lease_grant(7, 3000))
        for one in three.members:
            self.assertEqual(three.do(lambda client: client.lease_keep_alive(7), one), 3000)
        return three

    def test_certificates_of_peers(self):
        authority = pki.Authority(self.dir / "pki")
        pair = authority.issue("peer")
        flags = ["--peer-cert-file", str(pair.cert), "--peer-key-file", str(pair.key), "--peer-trusted-ca-file",
                 str(authority.cert), "--peer-client-cert-auth"]
        three = self.peers_over_tls(lambda name: flags)
        # One whom another authority vouches for is not heard.
        odd = three.follower()
        stranger = pki.Authority(self.dir / "pki", "stranger").issue("peer")
        three.stop_one(odd)
        proper, odd.flags = odd.flags, [str(stranger.cert) if flag == str(pair.cert) else
                                        str(stranger.key) if flag == str(pair.key) else flag for flag in odd.flags]
        odd.launch()
        leader = three.wait_leader(other_than=odd)
        leader.wait_logged("rejected connection")
        self.assertIsNone(odd.ask(lambda client: client.put(b"k", b"v"), timeout=1))
        harness.until(lambda: leader.misses(odd), what="it has no connection to the stranger")
        odd.kill()
        odd.flags = proper
        three.start_one(odd)
        three.wait_healthy()
        three.check_equal()

    def test_certificates_that_members_make_themselves(self):
        """What is said of the certificates of others is forgotten then."""
        others = ["--peer-client-cert-auth", "--peer-cert-allowed-hostname", "nobody"]
        three = self.peers_over_tls(lambda name: ["--peer-auto-tls", *others])
        for one in three.members:
            self.assertTrue((pathlib.Path(one.data_dir) / "fixtures/peer/cert.pem").exists())

    # One is left

    def test_one_of_three_goes_on_alone_and_takes_others_in(self):
        for end in ("kill", "stop"):
            with self.subTest(end):
                three = self.cluster([self.kind] * 3, end, flags=cluster.QUICK).start()
                three.do(lambda client: client.put_many((b"k/%03d" % i, b"v") for i in range(200)))
                three.check_equal()
                kept = three.do(rpc.Client.all)
                left, *lost = three.members
                for one in three.members:
                    three.kill(one) if end == "kill" else three.stop_one(one)
                three.gone += lost
                three.members = [left]
                flags, left.flags = left.flags, [*left.flags, "--force-new-cluster"]
                three.start_one(left)
                known = left.client().revision()
                kept = [kv for kv in kept if kv.mod <= known]
                if end == "stop":  # a member that is killed may not have known that the last entries are committed
                    self.assertEqual(len(kept), 200)
                self.assertEqual(left.client().all(), kept)
                self.assertEqual([name for _, name, *_ in left.client().members()], [left.name])
                left.flags = flags  # the flag is for one start
                three.restart(left)
                for _ in lost:
                    three.add(self.kind)
                    three.wait_healthy()
                three.do(lambda client: client.put(b"three", b"again"))
                three.check_equal()
                self.assertEqual(three.do(rpc.Client.all)[:len(kept)], kept)


class Of37(Starts):
    kind = "etcd37"


class OfCairn(Starts):
    kind = "cairn"


if __name__ == "__main__":
    harness.main()
