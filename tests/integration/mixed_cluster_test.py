"""A guest in a cluster of etcd members: it joins as a learner, is promoted, follows, forwards, leads, sends and takes
snapshots, is killed and comes back; and a whole cluster is replaced by guests one by one under load.

The steps are the same for every pair of host and guest. Cairn is the guest that matters, with hosts of etcd 3.4 to 3.7;
the pairs of two versions of etcd show that the steps are right.
"""

import contextlib
import pathlib
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "robustness"))

import cluster
import clients  # noqa: E402
import harness
import recording  # noqa: E402
import rpc

FLAGS = [*cluster.QUICK, "--snapshot-count", "100"]
LOG_KEPT = 5000  # entries that etcd keeps behind a snapshot: who lacks more of them is sent one


class Steps(cluster.ClusterCase):
    host = guest = None

    def setUp(self):
        if self.host is None:
            self.skipTest("the steps alone")
        cluster.require(self.host, self.guest)
        super().setUp()
        self.keys = set()
        self.mixed = self.cluster([self.host] * 3, flags=FLAGS).start()

    def write(self, count=20):
        """Through each voter in turn; then all are equal."""
        for member in [one for one in self.mixed.running() if not one.is_learner]:
            pairs = [(b"k/%06d" % (len(self.keys) + i), member.name.encode()) for i in range(count)]
            self.keys.update(key for key, _ in pairs)
            self.mixed.do(lambda client: client.put_many(pairs), member)
        self.mixed.check_equal()
        for member in self.mixed.running():
            found = self.mixed.do(lambda client: client.all(serializable=member.is_learner), member)
            self.assertEqual({kv.key for kv in found if kv.key.startswith(b"k/")}, self.keys)

    @contextlib.contextmanager
    def trickle(self):
        """A put now and then. etcd 3.7 that has taken in a snapshot knows that it has applied it when the next entry
        comes; until then it refuses all requests, its own publication too, if the snapshot is above index 5000."""
        over = threading.Event()

        def put():
            while not over.wait(0.1):
                with contextlib.suppress(OSError, rpc.GrpcError), rpc.Client(port, timeout=5) as client:
                    client.put(b"trickle", b"")

        port = self.mixed.wait_leader().client_port
        thread = threading.Thread(target=put)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def join(self):
        with self.trickle():
            member = self.mixed.add(self.guest, learner=True)
        self.mixed.check_equal()
        self.write()
        self.mixed.promote(member)
        self.write()
        return member

    def test_it_follows_forwards_and_leads(self):
        guest = self.join()
        self.mixed.do(lambda client: 7 in client.leases() or client.lease_grant(7, 3000), guest)
        self.mixed.do(lambda client: client.put(b"leased", b"v", lease=7), guest)
        self.mixed.move_leader(guest)
        self.write()
        for member in self.mixed.members:
            self.assertEqual(self.mixed.do(lambda client: client.lease_keep_alive(7), member), 3000)
        self.mixed.do(lambda client: client.compact(client.revision() - 10))
        self.mixed.check_equal()
        host = next(one for one in self.mixed.members if one is not guest)
        self.mixed.restart(host)  # catches up from the guest's log
        self.write()
        self.mixed.move_leader(host)
        self.write()
        self.mixed.do(lambda client: client.lease_revoke(7) if 7 in client.leases() else None, guest)
        self.assertIsNone(self.mixed.do(lambda client: client.get(b"leased"), guest))
        self.mixed.check_equal()

    def test_it_sends_and_takes_snapshots(self):
        for _ in range(LOG_KEPT // 2000 + 1):
            self.write(700)  # more than the log keeps: who joins now is sent a snapshot
        guest = self.join()
        self.mixed.move_leader(guest)
        host = next(one for one in self.mixed.members if one is not guest)
        self.mixed.kill(host)
        for _ in range(LOG_KEPT // 2000 + 1):
            self.write(700)
        with self.trickle():
            self.mixed.start_one(host)  # taken in from the guest
        self.write()
        host = self.mixed.follower()
        self.mixed.move_leader(host)
        self.mixed.kill(guest)
        for _ in range(LOG_KEPT // 2000 + 1):
            self.write(700)
        with self.trickle():
            self.mixed.start_one(guest)  # taken in by the guest
        self.write()

    def test_it_is_killed_and_comes_back(self):
        guest = self.join()
        for leads in (False, True):
            if leads:
                self.mixed.move_leader(guest)
            self.mixed.kill(guest)
            self.mixed.wait_healthy()
            self.write()
            self.mixed.start_one(guest)
            self.mixed.wait_healthy()
            self.write()

    def test_all_delete_what_ends_with_a_lease_while_auth_is_on(self):
        """etcd 3.4 asks even root for a revision of the rules that is not old: those of 3.4 would keep the keys."""
        guest = self.join()
        with guest.client() as client:
            client.user_add(b"root", b"root")
            client.role_add(b"root")
            client.user_grant(b"root", b"root")
        for number, leader in enumerate((guest, self.mixed.members[0]), 1):
            self.mixed.move_leader(leader)
            with guest.client() as client:
                client.auth_enable()
                client.login(b"root", b"root")
                client.lease_grant(number, 1)
                client.put(b"ends", b"", lease=number)
                harness.until(lambda: client.get(b"ends") is None)
                client.call("Auth", "AuthDisable")
            self.write()

    def test_a_learner_whose_urls_change_stays_one(self):
        guest = self.join()
        learner = self.mixed.add(self.host, learner=True, start=False)
        self.mixed.members.remove(learner)
        url = f"http://127.0.0.1:{harness.free_port()}"
        update = lambda client: client.call("Cluster", "MemberUpdate", rpc.enc((1, learner.id), (2, url)))
        self.mixed.do(update, guest)
        for member in self.mixed.members:
            listed = lambda client: [(urls, is_learner) for number, _, urls, _, is_learner in client.members()
                                     if number == learner.id]
            harness.until(lambda: self.mixed.do(listed, member) == [((url,), True)],
                          what=lambda: f"{member.name} lists {self.mixed.do(listed, member)}")

    def replace_all(self, kind):
        for member in list(self.mixed.members):
            self.mixed.replace(member, kind)
        self.assertEqual({one.kind for one in self.mixed.members}, {kind})

    def test_all_are_replaced_under_load(self):
        """And back, where the host can follow the guest. No revision is lost: the watchers see them all."""
        history = recording.History()
        addresses = lambda: [(one.id, one.client_port) for one in self.mixed.members if not one.is_learner]
        asking = [clients.Client(i, 1, history, addresses) for i in range(1, 4)]
        watching = [clients.Watcher(1000, 1, history, addresses)]
        for one in asking + watching:
            one.start()
        self.replace_all(self.guest)
        if self.guest == "cairn":
            self.replace_all(self.host)
        self.mixed.wait_healthy()
        for one in asking:
            one.stop()
        for one in asking:
            one.join()
        revision, _ = self.mixed.check_equal()
        harness.until(lambda: watching[0].seen >= revision, what=lambda: f"saw {watching[0].seen} of {revision}")
        for one in watching:
            one.stop()
            one.join()
        for one in asking + watching:
            if one.failure is not None:
                raise one.failure
        recording.check(self, history, self.dir / "history.jsonl")


class Etcd35In34(Steps):
    host, guest = "etcd34", "etcd35"


class Etcd36In35(Steps):
    host, guest = "etcd35", "etcd36"


class Etcd37In36(Steps):
    host, guest = "etcd36", "etcd37"


class CairnIn34(Steps):
    host, guest = "etcd34", "cairn"


class CairnIn35(Steps):
    host, guest = "etcd35", "cairn"


class CairnIn36(Steps):
    host, guest = "etcd36", "cairn"


class CairnIn37(Steps):
    host, guest = "etcd37", "cairn"


if __name__ == "__main__":
    harness.main()
