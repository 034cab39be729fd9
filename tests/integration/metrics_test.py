"""Every family of /metrics is written by somebody: a member that is kept busy shows none at 0 without a reason.

And beside etcd 3.7: what its page has, ours has, with the same types and labels.
"""

import collections
import json
import pathlib
import re
import time

import harness
import rpc

# Families that a busy lone member leaves at 0: what would write them.
CLUSTER = "only a member with peers writes it"
QUIET = {
    "etcd_debugging_mvcc_pending_events_total": "0 whenever nothing waits",
    "etcd_debugging_mvcc_slow_watcher_total": "nobody is slow here: WatchTest.AClientThatDoesNotReadIsCaughtUp",
    "etcd_server_heartbeat_send_failures_total": CLUSTER,
    "etcd_mvcc_db_open_read_transactions": "0 while no snapshot is read: test_a_snapshot_that_is_read_holds_a_view",
    "etcd_server_is_learner": CLUSTER,
    "etcd_server_learner_promote_successes": CLUSTER,
    "etcd_server_snapshot_apply_in_progress_total": CLUSTER,
    "etcd_server_slow_read_indexes_total": CLUSTER,
    "etcd_snap_db_fsync_duration_seconds": CLUSTER,
    "etcd_snap_db_save_total_duration_seconds": CLUSTER,
    "etcd_disk_defrag_inflight": "no defragmentation runs when the page is read",
    "etcd_debugging_store_expires_total": "the v2 store is not here",
    "etcd_debugging_store_watch_requests_total": "the v2 store is not here",
    "etcd_debugging_store_watchers": "the v2 store is not here",
    "etcd_debugging_disk_backend_commit_rebalance_duration_seconds": "pages are merged while a commit is planned",
    "etcd_server_read_indexes_failed_total": "a read waits for a stuck disk only: GatewayTest and ServicesTest",
    "etcd_server_slow_apply_total": "nothing is slow here: test_slow_applies_are_counted_and_logged",
    "etcd_server_proposals_failed_total": "the log refuses nothing here",
    "etcd_server_proposals_pending": "0 whenever nothing waits",
}
# Of etcd's page, and not of ours.
ETCDS_OWN = {
    r"go_(?!threads$).*": "Go's runtime",
    r"grpc_server_handling_seconds": "only with --metrics=extensive",
    r"etcd_debugging_store_(reads|writes)_total": "what etcd does in its v2 store, which is not here",
    r"etcd_grpc_proxy_.*": "a proxy's",
    r"etcd_network_(peer|active_peer|disconnected_peers|snapshot).*": CLUSTER,
}


def families(page):
    """name -> (type, {labels: value})"""
    types, samples = {}, collections.defaultdict(dict)
    for line in page.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            types[name] = kind
        elif line and not line.startswith("#"):
            series, value = line.rsplit(" ", 1)
            name, _, labels = series.partition("{")
            family = re.sub(r"_(bucket|sum|count)$", "", name)
            if types.get(family) != "histogram":
                family = name
            if family != name and not name.endswith("_count"):
                continue  # of a histogram its count says whether it was written
            samples[family][labels.rstrip("}")] = float(value)
    return {name: (kind, samples[name]) for name, kind in types.items()}


class Written(harness.Case):
    def start(self, *flags):
        return self.server("cairn", flags=flags).start()

    def page(self, server):
        return families(server.http("/metrics")[2])

    def keep_busy(self, server):
        """Every kind of request that is served, some that are refused, and what a member does by itself."""
        client = server.client()
        progress = rpc.enc((1, rpc.enc((1, b"none"), (4, True))))
        watch = client.connection.start("/etcdserverpb.Watch/Watch", progress, end=False)
        other = client.connection.start("/etcdserverpb.Watch/Watch", rpc.enc((1, rpc.enc((1, b"key0001")))), end=False)
        for i in range(300):
            client.put(b"key%04d" % (i % 100), b"v" * 1000)
        while len(watch.messages) < 2 or len(other.messages) < 2:  # created, and progress or events
            client.connection.read_frame()
        client.delete(b"key0001")
        client.txn([rpc.compare_version(b"none", 0)], [rpc.op_put(b"t", b"1"), rpc.op_range(b"t")])
        client.range(b"key", b"l")
        client.range(b"key", b"l", serializable=True)
        client.range(b"key", b"l", count_only=True)
        with self.assertRaises(rpc.GrpcError):
            client.range(b"a", revision=10**9)
        with self.assertRaises(rpc.GrpcError):
            client.put(b"", b"an empty key is refused")
        client.put(b"with a version", b"", metadata=[("client-api-version", "3.7")])
        client.call("Maintenance", "Hash")
        client.hash_kv()
        snapshot = client.connection.start("/etcdserverpb.Maintenance/Snapshot", b"")
        self.assertGreater(len(client.connection.finish(snapshot)), 1)
        client.status()
        client.members()
        client.alarm(0)
        client.lease_grant(7, 1)  # ends in two seconds
        client.lease_grant(8, 100)
        client.lease_keep_alive(8)
        client.lease_revoke(8)
        harness.until(lambda: not client.leases(), what="a lease does not end")
        client.compact(200, physical=True)
        client.defragment()
        for path in ("/health", "/livez", "/readyz", "/readyz?exclude=data_corruption"):
            self.assertEqual(server.http(path)[0], 200)
        # Full, and not healthy for it; refused by the quota.
        client.alarm(1, 1, 1)
        self.assertEqual(server.http("/health")[0], 503)
        with self.assertRaises(rpc.GrpcError):
            client.put(b"a", b"b")

    def test_every_family_is_written_by_a_busy_run(self):
        server = self.start("--snapshot-count", "50", "--backend-batch-limit", "20", "--warning-apply-duration", "1h",
                            "--watch-progress-notify-interval", "100ms")
        self.keep_busy(server)
        self.page(server)  # which counts what is scraped
        page = self.page(server)
        silent = {name for name, (_, samples) in page.items() if not any(samples.values())}
        self.assertEqual(silent - set(QUIET), set(), "never written: write it where the work happens")
        self.assertEqual(set(QUIET) - silent, set(), "written, so it needs no reason any more")

    def test_slow_applies_are_counted_and_logged(self):
        server = self.start("--warning-apply-duration", "1ns")
        server.client().put(b"a", b"b")
        self.assertGreater(self.page(server)["etcd_server_slow_apply_total"][1][""], 0)
        line = next(line for line in server.log_text().splitlines() if "apply request took too long" in line)
        self.assertEqual(json.loads(line)["expected-duration"], "1ns")

    def test_the_threads_are_counted(self):
        server = self.start()
        threads = len(list(pathlib.Path(f"/proc/{server.process.pid}/task").iterdir()))
        self.assertGreater(threads, 3)
        self.assertGreater(self.page(server)["go_threads"][1][""], 3)

    def test_a_snapshot_that_is_read_holds_a_view(self):
        server = self.start()
        server.client().put(b"a", b"b" * 1_000_000)
        with rpc.Connection(server.client_port, stream_window=1000) as connection:
            call = connection.start("/etcdserverpb.Maintenance/Snapshot", b"")
            connection.streams.pop(call.number)  # its window is not opened again: it does not end
            harness.until(lambda: self.page(server)["etcd_mvcc_db_open_read_transactions"][1][""] == 1)

    def shape(self, page):
        """name -> (type, names of labels), of what both programs should have"""
        return {name: (kind, sorted({label for text in samples for label in re.findall(r'(\w+)="', text)}))
                for name, (kind, samples) in page.items()
                if not any(re.fullmatch(pattern, name) for pattern in ETCDS_OWN)}

    @harness.needs("etcd37")
    def test_etcds_families_are_there_with_their_types_and_labels(self):
        shapes = {}
        for kind in ("etcd37", "cairn"):
            server = self.server(kind, self.dir / kind, flags=["--snapshot-count", "50", "--watch-progress-notify-interval", "100ms"]).start()
            self.keep_busy(server)
            shapes[kind] = self.shape(self.page(server))
            server.stop()
        self.assertEqual({name: shapes["cairn"].get(name) for name in shapes["etcd37"]}, shapes["etcd37"])


@harness.needs("etcd37")
class Extensive(harness.Case):
    def test_durations_of_calls(self):
        """--metrics=extensive: the series, their bounds, and one more for a put."""
        found = {}
        for kind in ("etcd37", "cairn"):
            server = self.server(kind, self.dir / kind, flags=["--metrics", "extensive"]).start()
            server.client().put(b"a", b"b")

            def lines():
                page = server.http("/metrics")[2].splitlines()
                return [line for line in page if line.startswith("grpc_server_handling_seconds")]

            put = 'grpc_server_handling_seconds_count{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1'
            harness.until(lambda: put in lines())
            found[kind] = sorted(line.rsplit(" ", 1)[0] for line in lines())
            server.stop()
        self.assertEqual(set(found["etcd37"]) - set(found["cairn"]), set())

    def test_not_otherwise(self):
        self.assertNotIn("grpc_server_handling_seconds", self.server("cairn").start().http("/metrics")[2])


# Series whose values differ between two members that were asked the same, and why.
DIFFERENT = {
    r"(go|process|os_fd|cairn)_.*": "the process",
    r"promhttp_.*": "the scrapes themselves",
    r".*_(sum|bucket)": "how long it took",
    r"etcd_(disk|snap|debugging_disk|debugging_snap)_.*": "batches, commits and snapshots are others here",
    r"etcd_mvcc_db_.*|etcd_debugging_mvcc_db_compaction_last": "the file and the time",
    r"etcd_network_client_grpc_.*": "headers and frames",
    r"etcd_debugging_store_.*": "the v2 store is not here",
    r"etcd_server_(id|go_version)": "what each is",
    r"etcd_grpc_proxy_.*": "a proxy's",
    r"etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds_count": "a pass takes other steps here",
    r"etcd_server_client_requests_total": "counts requests that cannot be read, too",
}


@harness.needs("etcd37")
class SameLoad(harness.Case):
    """One scripted load on both: it adds the same to every number that does not depend on time or on files."""

    maxDiff = None

    def load(self, server):
        client = server.client()
        put = rpc.op_put
        for i in range(20):
            client.put(b"key%02d" % i, b"v" * i)
        client.call("KV", "Put", rpc.enc((1, b"key00"), (2, b"again"), (4, 1)))  # prev_kv
        self.refused(client.put, b"", b"an empty key")
        self.refused(client.call, "KV", "Put", rpc.enc((1, b"none"), (5, 1)))  # ignore_value
        client.delete(b"key01")
        client.delete(b"key01")
        client.delete(b"key02", b"key05")
        client.call("KV", "DeleteRange", rpc.enc((1, b"key06"), (3, 1)))
        client.range(b"key", b"l")
        client.range(b"key", b"l", serializable=True)
        client.range(b"key", b"l", count_only=True)
        client.range(b"key10")
        self.refused(client.range, b"key", revision=10**9)
        self.refused(client.range, b"")
        too_new = rpc.enc((1, [rpc.enc((1, b"t"), (4, 10**9))]))
        holds, fails = rpc.compare_version(b"none", 0), rpc.compare_version(b"none", 7)
        client.txn([holds], [put(b"t", b"1"), rpc.op_range(b"t")])
        client.txn([holds, fails, holds], [put(b"t", b"2")], [put(b"t", b"3")])
        client.txn([], [put(b"t", b"4"), put(b"u", b"5"), rpc.op_delete(b"key", b"key09")])
        client.txn([holds, holds], [rpc.op_range(b"t"), rpc.op_range(b"u")])
        client.txn([holds], [rpc.op_range(b"t")])
        client.txn([], [rpc.op_range(b"t")])
        client.txn([], [])
        self.refused(client.txn, [holds], [too_new])
        self.refused(client.txn, [holds], [too_new, put(b"x", b"")])
        self.refused(client.txn, [], [put(b"twice", b""), put(b"twice", b"")])
        for method in ("Range", "Put", "DeleteRange", "Txn", "Compact"):
            self.refused(client.call, "KV", method, b"\xff")
        self.refused(client.call, "KV", "NoSuch", b"")
        self.refused(client.put, b"large", b"x" * 1_600_000)
        self.refused(client.put, b"larger", b"x" * 3_000_000)
        client.compact(10)
        self.refused(client.compact, 5)
        self.refused(client.compact, 10**9)
        client.status()
        client.members()
        client.hash_kv()
        client.alarm(0)
        for path in ("/health", "/health?serializable=true", "/livez", "/readyz", "/readyz?exclude=linearizable_read"):
            self.assertEqual(server.http(path)[0], 200)

    def refused(self, call, *arguments, **named):
        with self.assertRaises(rpc.GrpcError):
            call(*arguments, **named)

    def numbers(self, page):
        out = {}
        for series, value in harness.samples(page).items():
            name = series.partition("{")[0]
            series = re.sub(r'(server_id|Local|Remote)="[0-9a-f]+"', r'\1="?"', series)
            if not any(re.fullmatch(pattern, name) for pattern in DIFFERENT):
                out[series] = value
        return out

    def test_the_numbers_are_the_same(self):
        found = {}
        for kind in ("etcd37", "cairn"):
            server = self.server(kind, self.dir / kind).start()
            before = self.numbers(server.http("/metrics")[2])
            self.load(server)
            time.sleep(0.3)  # what is counted after an answer has been sent
            page = server.http("/metrics")[2]
            after = self.numbers(page)
            found[kind] = {series: after[series] - before.get(series, 0) for series in after}, re.findall(r'^\w+_bucket{.*le="[^"]*"', page, re.M)
            server.stop()
        (theirs, their_bounds), (ours, our_bounds) = found["etcd37"], found["cairn"]
        self.assertGreater(len(theirs), 300)
        # A series that was never counted need not be there.
        differing = [f"{series}: etcd {theirs.get(series, 0)}, cairn {ours.get(series, 0)}"
                     for series in sorted({*theirs, *ours}) if theirs.get(series, 0) != ours.get(series, 0)]
        self.assertEqual(differing, [])
        # Buckets have the same bounds, written alike. What the member itself proposes at its start is not timed here.
        skip = re.compile(r'(go|etcd_network_peer)_|.*type="Cluster')
        self.assertEqual({b for b in their_bounds if not skip.match(b)} - set(our_bounds), set())


if __name__ == "__main__":
    harness.main()
