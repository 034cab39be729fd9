"""Chaos on real processes: members are killed, stopped, cut off and slowed while clients ask; what they were told is
recorded and judged. A kind of fault that was tried and never had an effect fails the run.

    tests/robustness/chaos.py --kinds etcd37,etcd37,etcd37 --seconds 600 --seed 7 --history build/chaos.jsonl

A run cannot be repeated exactly: the seed repeats what the clients and the nemesis choose, not when.
"""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import clients  # noqa: E402
import cluster  # noqa: E402
import disks  # noqa: E402
import harness  # noqa: E402
import nemesis  # noqa: E402
import proxy  # noqa: E402
import recording  # noqa: E402
import rpc  # noqa: E402

NEMESIS_CLIENT = 900  # its number in the history
WATCHER = 1000        # the first one's
DISK_MEGABYTES = 512  # of each member


def add_arguments(parser):
    parser.add_argument("--kinds", default="cairn,cairn,cairn", help="of the members; also of those that replace them")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--faults", help=f"some of {', '.join(nemesis.FAULTS)}")
    parser.add_argument("--log", choices=("short", "long"), help="short: who was away gets a snapshot (chosen by the seed)")
    parser.add_argument("--history", type=pathlib.Path, help="also writes the history there")


class Chaos(cluster.ClusterCase):
    def start(self, kinds, between, log):
        flags = [*cluster.QUICK, *(cluster.SHORT_LOG if log == "short" else [])]
        reason = disks.missing()
        if reason:
            print(f"chaos: disks are as they are: {reason}", flush=True)
        made = self.cluster(kinds, proxy=between, flags=flags, failpoints="cairn" in kinds, clocks=True,
                            disk_megabytes=0 if reason else DISK_MEGABYTES)
        made.start()
        return made

    def finish(self, made, watching, asking):
        """Until the watchers have seen the last revision; the state of all members is equal then."""
        for one in asking:
            one.stop()
        for one in asking:
            one.join()
        made.do(lambda client: self.history.call(NEMESIS_CLIENT, self.id_of(made, client), client.connection, "Put",
                                                 rpc.put_request(b"end", b""), 10))
        revision, _ = made.check_equal()
        harness.until(lambda: all(one.seen >= revision or one.failure for one in watching), 120,
                      lambda: f"watchers saw {[one.seen for one in watching]} of {revision}")
        for one in watching:
            one.stop()
        for one in watching:
            one.join()
        for one in asking + watching:
            if one.failure is not None:
                raise one.failure
        return revision

    def id_of(self, made, client):
        return next(one.id for one in made.members if one.client_port == client.connection.port)

    def test_what_clients_see_is_right(self):
        options = self.options
        kinds = options.kinds.split(",")
        cluster.require(*kinds)
        chooser = self.random()
        seed = chooser.randrange(1 << 32)
        between = proxy.Proxy()
        self.addCleanup(between.close)
        can_be_short = not {"etcd34", "etcd35"} & set(kinds)
        log = options.log or chooser.choice(("short", "long") if can_be_short else ("long",))
        made = self.start(kinds, between, log)
        self.history = recording.History()

        addresses = lambda: [(one.id, one.front_port) for one in made.members]
        asking = [clients.Client(i, seed, self.history, addresses) for i in range(1, options.clients + 1)]
        watching = [clients.Watcher(WATCHER + i, seed, self.history, addresses) for i in range(2)]
        faults = options.faults.split(",") if options.faults else \
            [name for name in nemesis.FAULTS if name not in nemesis.SLOW or options.seconds >= 60]
        hurting = nemesis.Nemesis(made, between, seed, faults, watching, kinds)

        def call(name, request):
            member, port = chooser.choice(addresses())
            try:
                with rpc.Connection(port, timeout=10) as connection:
                    self.history.call(NEMESIS_CLIENT, member, connection, name, request, 10)
                return True
            except (OSError, rpc.GrpcError):
                return False

        hurting.call = call
        for one in watching + asking:
            one.start()
        began = time.monotonic()
        hurting.run(options.seconds)
        hurting.heal()
        harness.until(lambda: sum(one.code == rpc.OK for one in list(self.history.operations)) > 100,
                      what="the clients were hardly answered")
        revision = self.finish(made, watching, asking)

        print(f"chaos: {time.monotonic() - began:.0f} s, {len(self.history.operations)} operations, {revision} revisions, "
              f"{len(self.history.watches)} watches, term {made.members[0].status()['raft_term']}, {log} log, "
              f"{made.snapshots_sent():.0f} snapshots sent by who runs\n"
              f"  faults that had an effect, of those tried: {hurting.report()}\n"
              f"  operations {dict(sorted(self.history.summary().items()))}",
              flush=True)
        recording.check(self, self.history, options.history or self.dir / "history.jsonl")
        self.assertEqual(hurting.without_effect(), [], "these faults were tried and never had an effect")


if __name__ == "__main__":
    harness.main(add_arguments)
