"""Members, leadership and downgrades of a member that is alone: what clients get, and what the older etcd finds."""

import json

import harness
import rpc

VALIDATE, ENABLE, CANCEL = 0, 1, 2


def downgrade(client, action, version=""):
    return rpc.first(client.call("Maintenance", "Downgrade", rpc.enc((1, action), (2, version))), 2, b"").decode()


def downgrade_info(client):
    info = rpc.dec(rpc.first(client.call("Maintenance", "Status"), 13, b""))
    return bool(rpc.first(info, 1)), rpc.first(info, 2, b"").decode()


def versions(server):
    return {key: value for key, value in json.loads(server.http("/version")[2]).items() if key != "etcdserver"}


class Downgrade(harness.Case):
    """The server is told to make the directory one of 3.6, says so as etcd does, and the older etcd goes on with it."""

    def enable(self, server):
        client = server.client()
        for i in range(200):
            client.put(b"k/%03d" % i, b"value %d" % i)
        client.lease_grant(77, 3000)
        client.put(b"leased", b"x", lease=77)
        client.compact(100)
        self.assertEqual(versions(server), {"etcdcluster": "3.7.0", "storage": "3.7.0"})
        self.assertEqual(downgrade(client, VALIDATE, "3.6"), "3.7")
        self.assertEqual(downgrade(client, ENABLE, "3.6.0"), "3.7")
        self.assertEqual(downgrade_info(client), (True, "3.6.0"))
        harness.until(lambda: versions(server) == {"etcdcluster": "3.6.0", "storage": "3.6.0"})
        for line in ("updating cluster version using v3 API", "updated cluster version",
                     "Cluster version downgrade detected, forcing snapshot",
                     "cluster version differs from storage version.", "updated storage version",
                     "The server is ready to downgrade"):
            server.wait_logged(line)
        self.assertEqual(client.status()["storage_version"], "3.6.0")
        for action in (VALIDATE, ENABLE):
            with self.assertRaises(rpc.GrpcError) as refused:
                downgrade(client, action, "3.5.0")
            self.assertEqual((refused.exception.code, refused.exception.message),
                             (9, "etcdserver: cluster has a downgrade job in progress"))
        return client.all(), client.hash_kv()

    @harness.needs("etcd36")
    def test_etcd_36_takes_the_directory_and_gives_it_back(self):
        for how in ("stop", "kill"):
            with self.subTest(how):
                ports = (harness.free_port(), harness.free_port())
                data = self.dir / how
                server = self.server("cairn", data, ports=ports).start()
                before = self.enable(server)
                if how == "kill":  # once what it had to write is written
                    server.wait_logged("saved snapshot")
                getattr(server, how)()
                old = self.server("etcd36", data, ports=ports).start()
                client = old.client()
                self.assertEqual([kv.all() for kv in client.all()], [kv.all() for kv in before[0]])
                self.assertEqual(client.hash_kv(), before[1])
                client.put(b"by-36", b"x")
                self.assertEqual(versions(old), {"etcdcluster": "3.6.0", "storage": "3.6.0"})
                old.wait_logged("the cluster has been downgraded")  # it ends the job by itself
                harness.until(lambda: not downgrade_info(client)[0])
                old.stop()
                again = self.server("cairn", data, ports=ports).start()
                self.assertEqual(again.client().get(b"by-36").value, b"x")
                self.assertEqual(versions(again), {"etcdcluster": "3.6.0", "storage": "3.6.0"}, "it stays what it was")
                again.stop()

    @harness.needs("etcd37")
    def test_either_server_goes_on_with_a_downgrade_of_the_other(self):
        for first, second in (("cairn", "etcd37"), ("etcd37", "cairn")):
            with self.subTest(first):
                ports = (harness.free_port(), harness.free_port())
                data = self.dir / first
                server = self.server(first, data, ports=ports).start()
                before = self.enable(server)
                server.stop()
                other = self.server(second, data, ports=ports).start()
                client = other.client()
                self.assertEqual([kv.all() for kv in client.all()], [kv.all() for kv in before[0]])
                self.assertEqual(versions(other), {"etcdcluster": "3.6.0", "storage": "3.6.0"})
                self.assertEqual(downgrade_info(client), (True, "3.6.0"))
                # It is not wanted any more: the version rises again, in both.
                self.assertEqual(downgrade(client, CANCEL), "3.6")
                harness.until(lambda: versions(other) == {"etcdcluster": "3.7.0", "storage": "3.7.0"})
                self.assertEqual(downgrade_info(client), (False, ""))
                other.stop()


@harness.needs("etcd37")
class Members(harness.Case):
    """What clients get, step by step, beside etcd."""

    maxDiff = None

    def test_answers_are_etcds(self):
        def run(server):
            client = server.client()
            own = client.status()["member_id"]
            seen = []

            def call(service, method, message):
                try:
                    answer = client.call(service, method, message)
                except rpc.GrpcError as error:
                    return seen.append((method, error.code, error.message))
                header = rpc.dec(rpc.first(answer, 1, b""))
                members = [(rpc.first(m, 1) == own, m.get(3), m.get(5)) for m in map(rpc.dec, answer.get(2, []))
                           if service == "Cluster"]
                seen.append((method, bool(answer.get(1)), rpc.first(header, 3), rpc.first(header, 1) != 0, members))

            for number in (own, 0, 7, 1 << 63):
                call("Cluster", "MemberUpdate", rpc.enc((1, number), (2, ["http://127.0.0.1:9", "http://127.0.0.1:8"])))
                call("Cluster", "MemberRemove", rpc.enc((1, number)))
                call("Cluster", "MemberPromote", rpc.enc((1, number)))
                call("Maintenance", "MoveLeader", rpc.enc((1, number)))
                call("Cluster", "MemberList", b"")
            for urls in ([], ["http://127.0.0.1:8", "http://127.0.0.1:7"], ["http://127.0.0.1"], ["x y"]):
                call("Cluster", "MemberAdd", rpc.enc((1, urls)))
            return seen

        cairn, etcd = self.side_by_side(run, ("cairn", "etcd37"))
        self.assertEqual(cairn, etcd)

    def test_updated_urls_are_found_by_either_server_after_a_restart(self):
        ports = (harness.free_port(), harness.free_port())
        data = self.dir / "data"
        for number, kind in enumerate(("cairn", "etcd37", "cairn")):
            server = self.server(kind, data, ports=ports).start()
            client = server.client()
            if number > 0:
                self.assertEqual(client.members()[0][2], (f"http://127.0.0.1:{number}",))
            own = client.status()["member_id"]
            client.call("Cluster", "MemberUpdate", rpc.enc((1, own), (2, f"http://127.0.0.1:{number + 1}")))
            self.assertEqual(client.members()[0][2], (f"http://127.0.0.1:{number + 1}",))
            server.stop()


if __name__ == "__main__":
    harness.main()
