"""--force-new-cluster: the directory of one member of three, written by etcd, becomes a cluster of its own."""

import harness


class Forced(harness.Case):
    KIND = None  # of the cluster

    def cluster(self, count):
        """Running members of one cluster."""
        ports = [(harness.free_port(), harness.free_port()) for _ in range(count)]
        members = ",".join(f"m{i}=http://127.0.0.1:{peer}" for i, (_, peer) in enumerate(ports))
        servers = [self.server(self.KIND, self.dir / f"m{i}", name=f"m{i}", ports=pair,
                               flags=["--initial-cluster", members]) for i, pair in enumerate(ports)]
        for server in servers:
            server.launch()
        for server in servers:
            server.wait_ready()
        return servers

    def check_forced(self, count, kill):
        servers = self.cluster(count)
        client = servers[0].client()
        for i in range(50):
            client.put(b"k%d" % i, b"v%d" % i)
        client.delete(b"k7")
        self.assertEqual(len(client.members()), count)
        for server in servers:
            server.close_clients()
        for server in servers:
            server.kill() if kill else server.stop()
        last = servers[-1]  # whoever it was, the leader or not

        alone = self.server("cairn", last.data_dir, name=last.name, ports=(last.client_port, last.peer_port))
        if count > 1:
            alone.launch()  # a cluster of three needs the flag
            alone.wait_logged("failed to publish local member to cluster through raft")
            alone.stop()
        alone.flags = ["--force-new-cluster"]
        alone.start()
        self.assertIn('"msg":"forcing restart member"', alone.log_text())
        client = alone.client()
        self.assertEqual([name for _, name, *_ in client.members()], [last.name])
        # A follower that is killed may not know yet that the last entries are committed.
        known = client.all()
        self.assertGreaterEqual(len(known), 1 if kill else 49)
        for kv in known:
            self.assertEqual(kv.value, b"v" + kv.key[1:])
        client.put(b"after", b"force")
        status = client.status()
        alone.stop()

        alone.flags = []  # once is enough
        alone.start()
        client = alone.client()
        self.assertEqual(client.get(b"after").value, b"force")
        self.assertEqual(len(client.members()), 1)
        self.assertEqual(client.status()["cluster_id"], status["cluster_id"])
        alone.stop()
        self.check_directory(last.data_dir)

        back = self.server(self.KIND, last.data_dir, name=last.name, ports=(last.client_port, last.peer_port)).start()
        client = back.client()
        self.assertEqual(client.get(b"after").value, b"force")
        self.assertEqual(len(client.members()), 1)
        client.put(b"by", b"etcd")
        back.stop()
        again = self.server("cairn", last.data_dir, name=last.name, ports=(last.client_port, last.peer_port),
                            flags=["--force-new-cluster"]).start()
        self.assertEqual(again.client().get(b"by").value, b"etcd")
        again.stop()

    def check_like_etcd(self):
        """etcd's flag on a copy of the same directory leaves the same keys and the same member."""
        servers = self.cluster(3)
        client = servers[0].client()
        for i in range(20):
            client.put(b"k%d" % i, b"v")
        for server in servers:
            server.close_clients()
        for server in servers:
            server.kill()
        found = []
        for kind in (self.KIND, "cairn"):
            copy = self.dir / f"copy-{kind}"
            harness.copy_directory(servers[1].data_dir, copy)
            one = self.server(kind, copy, name="m1", ports=(servers[1].client_port, servers[1].peer_port),
                              flags=["--force-new-cluster"]).start()
            client = one.client()
            found.append((client.all(), client.members(), client.status()["cluster_id"]))
            one.stop()
        self.assertEqual(found[0], found[1])


@harness.needs("etcd37")
class From37(Forced):
    KIND = "etcd37"

    def test_one_of_three_stopped(self):
        self.check_forced(3, kill=False)

    def test_one_of_three_killed(self):
        self.check_forced(3, kill=True)

    def test_one_of_one(self):
        self.check_forced(1, kill=False)

    def test_the_result_is_etcds(self):
        self.check_like_etcd()


@harness.needs("etcd34")
class From34(Forced):
    KIND = "etcd34"

    def test_one_of_three_stopped(self):
        self.check_forced(3, kill=False)

    def test_one_of_three_killed(self):
        self.check_forced(3, kill=True)

    def test_the_result_is_etcds(self):
        self.check_like_etcd()


class Nothing(harness.Case):
    def test_without_a_directory_it_founds_one(self):
        server = self.server("cairn", flags=["--force-new-cluster"]).start()
        server.client().put(b"a", b"b")
        self.assertEqual(len(server.client().members()), 1)
        server.stop()


if __name__ == "__main__":
    harness.main()
