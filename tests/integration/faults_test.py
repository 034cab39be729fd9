"""Fault points set from outside, on a real process: GOFAIL_HTTP, GOFAIL_FAILPOINTS.

The points are those that the server lists. A new one is reached by the load below, or needs an entry in AT_START or
a trigger.
"""

import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import subprocess
import time

import harness
import rpc

POINTS_PER_DIRECTORY = 12  # then a new one: what is proved grows with each
SECONDS_MAX = 200
VALUE_BYTES = 3000
AT_START = {"beforePublishing", "mapError", "mlockError", "raftBeforeFollowerSend"}
AT_FOUNDING = {"beforeApplyOneConfChange"}
# A member that is alone is sent nothing, and no snapshot.
OF_OTHERS = {"raftDropHeartbeat", "beforeServeHTTPLeaseRenew", "beforeLookupWhenForwardLeaseTimeToLive",
             "raftBeforeSaveSnap", "raftAfterSaveSnap", "raftBeforeApplySnap", "raftAfterApplySnap",
             "raftAfterWALRelease", "applyBeforeOpenSnapshot", "applyAfterOpenSnapshot"}
FLAGS = ["--snapshot-count", "100", "--backend-batch-interval", "50ms"]
LONG = 'sleep("3600s")'


class Case(harness.Case):
    def environment(self, terms=""):
        self.fault_port = harness.free_port()
        out = {"PATH": os.environ["PATH"], "GOFAIL_HTTP": f"127.0.0.1:{self.fault_port}"}
        return {**out, "GOFAIL_FAILPOINTS": terms} if terms else out

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.fault_port, timeout=60)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def set(self, point, terms):
        self.assertEqual(self.ask("PUT", "/" + point, terms), (204, ""))

    def points(self):
        status, lines = self.ask("GET", "/")
        self.assertEqual(status, 200)
        return [line.split("=")[0] for line in lines.splitlines()]

    def wait_reached(self, point):
        harness.until(lambda: self.ask("GET", f"/{point}/count") != (200, "0"), SECONDS_MAX, point)


@harness.needs("cairn_verify_load", "cairn_check_db")
class Panic(Case):
    def load(self, server, journal):
        return subprocess.Popen([str(harness.program("cairn_verify_load")), "load", "--port", str(server.client_port),
                                 "--journal", str(journal), "--seconds", "3600", "--writers", "8", "--value", str(VALUE_BYTES)],
                                stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
                                preexec_fn=harness.die_with_parent)

    def ends_by(self, point, server):
        self.assertEqual(server.wait(SECONDS_MAX), 2, point)
        server.close_clients()
        self.assertIn(f"panic: failpoint panic: {{}}\n\nfailpoint {point}\n", server.log_text())

    def trigger(self, point, server):
        """Until the process is gone."""
        deadline = time.monotonic() + SECONDS_MAX
        while server.process.poll() is None:
            self.assertLess(time.monotonic(), deadline, f"{point} is not reached:\n{server.log_tail()}")
            try:
                with rpc.Client(server.client_port, timeout=5) as client:
                    if point.startswith("compact"):
                        self.compacted = client.revision()
                        client.compact(self.compacted)
                    elif point.startswith("defrag"):
                        client.defragment()
                    elif point == "beforeCheckpointInLeaseRenew":
                        stream = client.connection.start("/etcdserverpb.Lease/LeaseKeepAlive", rpc.enc((1, 1)))
                        client.connection.finish(stream, 1)
                    elif point == "beforeRangeStreamChunk":
                        client.connection.unary("/etcdserverpb.KV/RangeStream", rpc.enc((1, b"\0"), (2, b"\0")))
                    elif point == "beforeSendWatchResponse":
                        create = rpc.enc((1, rpc.enc((1, b"\0"), (2, b"\0"), (3, 1))))
                        client.connection.finish(client.connection.start("/etcdserverpb.Watch/Watch", create), 1)
            except (OSError, EOFError, rpc.GrpcError):
                pass
            time.sleep(0.02)

    def dies_at(self, point, server, journal):
        """Ends at the point, on a running server."""
        self.compacted = 0
        size = journal.stat().st_size
        load = self.load(server, journal)
        try:
            harness.until(lambda: journal.stat().st_size > size + 2000, SECONDS_MAX, "the load does not begin")
            self.set(point, "panic")
            self.trigger(point, server)
            self.ends_by(point, server)
            load.wait(SECONDS_MAX)
            with open(journal, "a", encoding="ascii") as out:  # what verify does not ask for any more
                out.write(f"x 999 {self.compacted} {self.compacted} 0 0\n")
        finally:
            load.kill()
            load.wait()
        self.assertEqual(load.returncode, 2, "the load ends when the connection does")

    def test_at_each_point_nothing_acknowledged_is_lost(self):
        server = self.server("cairn", self.dir / "data", flags=FLAGS).start(environment=self.environment())
        points = [point for point in self.points() if point not in AT_FOUNDING | OF_OTHERS]
        self.assertGreater(len(points), 30)
        journal = self.dir / "journal"
        journal.touch()
        for number, point in enumerate(points):
            if number > 0 and number % POINTS_PER_DIRECTORY == 0:
                server.kill()
                server = self.server("cairn", self.dir / f"data{number}", flags=FLAGS)
                server.start(environment=self.environment())
                journal = self.dir / f"journal{number}"
                journal.touch()
            if point in AT_START:
                server.kill()
                server.log_path.unlink()
                server.launch({**self.environment(f"{point}=panic"), "ETCD_MEMORY_MLOCK": str(point == "mlockError").lower()})
                self.ends_by(point, server)
            else:
                self.dies_at(point, server, journal)
            self.check_directory(server.data_dir)
            server.start(environment=self.environment())
            self.run_tool("cairn_verify_load", "verify", "--port", server.client_port, "--journal", journal,
                          "--value", VALUE_BYTES)
        self.same_hash_by_etcd(server)

    def same_hash_by_etcd(self, server):
        """What is left at the end, hashed by etcd's own code."""
        with rpc.Client(server.client_port) as client:
            ours, _ = client.hash_kv()
        self.assertEqual(server.stop(), -15)
        if harness.missing("etcdutl37"):
            return
        done = self.run_tool("etcdutl37", "hashkv", "-w", "json", server.data_dir / "member/snap/db")
        self.assertEqual(json.loads(done.stdout)["hash"], ours)

    def test_a_compaction_that_is_cut_short(self):
        """As etcd's own tests of its issues 17780 and 19406."""
        server = self.server("cairn").start(environment=self.environment())
        client = server.client()
        for number in range(20):
            client.put(b"k%02d" % number, b"x")
        client.delete(b"k00")
        revision = client.revision()
        self.set("compactBeforeSetFinishedCompact", "panic")
        with self.assertRaises((OSError, rpc.GrpcError)):
            client.compact(revision, physical=True)
        self.ends_by("compactBeforeSetFinishedCompact", server)
        server.start()
        client = server.client()
        self.assertEqual(client.revision(), revision)
        self.assertEqual(client.hash_kv()[1], revision)
        create = rpc.enc((1, rpc.enc((1, b"k00"), (3, revision))))
        stream = client.connection.start("/etcdserverpb.Watch/Watch", create, end=False)
        deadline = time.monotonic() + SECONDS_MAX
        while len(stream.messages) < 2:
            client.connection.read_frame(deadline - time.monotonic())
        event = rpc.dec(rpc.first(rpc.dec(stream.messages[1]), 11, b""))
        self.assertEqual(rpc.first(event, 1), 1, "a delete")
        self.assertEqual(rpc.KeyValue(rpc.first(event, 2, b"")).mod, revision)

    def test_while_a_directory_is_founded(self):
        for number, point in enumerate(sorted(AT_FOUNDING | {"walBeforeSync", "raftBeforeSave", "mapError",
                                                            "beforePublishing", "beforeApplyOneEntryNormal"})):
            server = self.server("cairn", self.dir / f"data{number}")
            server.launch(self.environment(f"{point}=panic"))
            self.ends_by(point, server)
            server.start(environment=self.environment())
            self.assertEqual(server.client().put(b"key", b"value"), 2)
            self.assertEqual(server.stop(), -15)
            self.check_directory(server.data_dir)


class Stages(Case):
    """A sleep holds up one stage; the others go on."""

    def test_the_commit_of_the_db(self):
        server = self.server("cairn", flags=FLAGS).start(environment=self.environment())
        client = server.client(timeout=SECONDS_MAX)
        for point in ("beforeStartDBTxn", "beforeCommit", "beforeSyncDataPages"):
            self.set(point, LONG)
        client.put(b"a", b"")
        self.wait_reached("beforeStartDBTxn")
        for number in range(100):
            client.put(b"b%d" % number, b"")
        self.assertEqual(client.range(b"b", b"c", count_only=True)[4], [100])
        for path in ("/livez", "/readyz", "/health"):
            self.assertEqual(server.http(path)[0], 200, path)
        self.assertEqual(self.ask("GET", "/beforeCommit/count"), (200, "0"))

    def test_the_sync_of_the_log(self):
        server = self.server("cairn").start(environment=self.environment())
        client = server.client(timeout=SECONDS_MAX)
        client.put(b"a", b"old")
        self.set("walBeforeSync", "1*" + LONG)
        connection = rpc.Connection(server.client_port)
        self.addCleanup(connection.close)
        put = connection.start("/etcdserverpb.KV/Put", rpc.put_request(b"a", b"new", 0))
        self.wait_reached("walBeforeSync")
        self.assertEqual(rpc.KeyValue(client.range(b"a", serializable=True)[2][0]).value, b"old")
        self.assertEqual(server.http("/version")[0], 200)
        self.assertFalse(put.ended)
        # As an etcd whose log stands still: who asks for more than this member's memory hears of it after the timeout.
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            paths = ("/livez", "/health?serializable=true", "/readyz", "/health")
            answers = dict(zip(paths, pool.map(server.http, paths)))
        self.assertGreater(time.monotonic() - began, 5)
        self.assertEqual([answers[path][0] for path in paths], [200, 200, 503, 503])
        self.assertIn("[-]linearizable_read failed: etcdserver: request timed out\n", answers["/readyz"][2])
        self.assertIn("[+]serializable_read ok\n", answers["/readyz"][2])
        self.assertEqual(answers["/health"][2],
                         '{"health":"false","reason":"RANGE ERROR:context deadline exceeded"}\n')

    def test_a_set_point_is_unset_again(self):
        server = self.server("cairn").start(environment=self.environment("walBeforeSync=off"))
        client = server.client()
        client.put(b"a", b"")
        self.wait_reached("walBeforeSync")
        self.assertEqual(self.ask("DELETE", "/walBeforeSync"), (204, ""))
        self.assertEqual(self.ask("GET", "/walBeforeSync/count")[0], 500)
        self.assertEqual(server.stop(), -15)


class Return(Case):
    """return("text") makes the function fail in which the point stands."""

    def put(self, client, number):
        """False: refused for want of space."""
        try:
            client.put(b"%d" % number, b"x" * 10000)
        except rpc.GrpcError as error:
            self.assertEqual((error.code, error.message), (8, "etcdserver: mvcc: database space exceeded"))
            return False
        return True

    def test_no_space_for_the_db_is_tried_again(self):
        server = self.server("cairn", flags=FLAGS)
        server.start(environment=self.environment('lackOfDiskSpace=2*return("full up")'))
        client = server.client()
        for number in range(40):
            self.put(client, number)
        harness.until(lambda: self.ask("GET", "/lackOfDiskSpace/count") == (200, "2"), SECONDS_MAX, "lackOfDiskSpace")
        self.assertIn("full up", server.log_text())

        def goes_on():
            for member, kind in client.alarm(0):
                client.alarm(2, member, kind)
            return self.put(client, 0)

        harness.until(goes_on, SECONDS_MAX, "there is space again")
        self.assertEqual(server.stop(), -15)
        self.check_directory(server.data_dir)

    def test_a_meta_page_that_cannot_be_written_ends_the_member(self):
        server = self.server("cairn", flags=FLAGS).start(environment=self.environment())
        client = server.client()
        revision = client.put(b"a", b"1")
        self.set("beforeWriteMetaError", 'return("no meta page")')
        with contextlib.suppress(OSError, EOFError, rpc.GrpcError):  # its answer may come too late
            client.put(b"b", b"1")
        self.assertEqual(server.wait(SECONDS_MAX), 2)
        server.close_clients()
        self.assertIn("no meta page", server.log_text())
        self.check_directory(server.data_dir)
        server.start()
        self.assertEqual(server.client().get(b"a").mod, revision)

    def test_a_defragmentation_that_fails(self):
        """As etcd's own TestDefragNoSpace."""
        server = self.server("cairn").start(environment=self.environment())
        client = server.client()
        for point in ("defragOpenFileError", "defragdbFail"):
            self.set(point, 'return("no room for it")')
            with self.assertRaises(rpc.GrpcError) as caught:
                client.defragment()
            self.assertEqual((caught.exception.code, caught.exception.message), (2, "no room for it"))
            client.put(b"a", b"b")
            self.ask("DELETE", "/" + point)
        client.defragment()
        self.assertEqual(client.get(b"a").value, b"b")
        self.assertEqual(server.stop(), -15)

    def test_a_lease_that_is_revoked_while_it_is_renewed(self):
        """As etcd's own TestLeaseRevokeDuringRenew."""
        server = self.server("cairn").start(environment=self.environment())
        client = server.client()
        lease = 1234
        client.lease_grant(lease, 600)
        client.put(b"a", b"b", lease)
        self.set("beforeCheckpointInLeaseRenew", LONG)
        stream = client.connection.start("/etcdserverpb.Lease/LeaseKeepAlive", rpc.enc((1, lease)))
        self.wait_reached("beforeCheckpointInLeaseRenew")
        with rpc.Client(server.client_port) as other:  # nobody else waits for it
            other.lease_revoke(lease)
            self.assertIsNone(other.get(b"a"))
        self.assertEqual(stream.messages, [])
        server.kill()

    def test_a_renewal_that_was_held_up(self):
        server = self.server("cairn").start(environment=self.environment())
        client = server.client()
        lease = 1234
        client.lease_grant(lease, 600)
        self.set("beforeCheckpointInLeaseRenew", '2*sleep("1s")')
        self.assertEqual(client.lease_keep_alive(lease), 600)
        client.lease_revoke(lease)
        self.assertEqual(client.lease_keep_alive(lease), 0, "as for a lease that is not there")
        self.assertEqual(self.ask("GET", "/beforeCheckpointInLeaseRenew/count"), (200, "2"))

    def test_a_db_that_cannot_be_locked_in_memory_refuses_the_start(self):
        server = self.server("cairn", flags=["--memory-mlock"])
        server.launch(self.environment('mlockError=return("mlock error: no such luck")'))
        self.assertEqual(server.wait(SECONDS_MAX), 1)
        self.assertIn("mlock error: no such luck", server.log_text())

    def test_a_db_that_cannot_be_mapped_refuses_the_start(self):
        server = self.server("cairn")
        server.launch(self.environment('mapError=return("no address space")'))
        self.assertEqual(server.wait(SECONDS_MAX), 1)
        self.assertIn("no address space", server.log_text())


class Variables(Case):
    def refused(self, environment):
        server = self.server("cairn", self.dir / "refused")
        server.launch({"PATH": os.environ["PATH"], **environment})
        self.assertEqual(server.wait(SECONDS_MAX), 1)
        self.assertFalse(server.data_dir.exists())
        return server.log_text()

    def test_wrong_ones_refuse_the_start(self):
        self.assertEqual(self.refused({"GOFAIL_FAILPOINTS": "walBeforeSync"}),
                         'fail to parse failpoint: bad failpoint "walBeforeSync"\n')
        self.assertEqual(self.refused({"GOFAIL_FAILPOINTS": 'mapError=return("a=b")'}),
                         'fail to parse failpoint: bad failpoint "mapError=return(\\"a=b\\")"\n')
        server = self.server("cairn").start()
        self.assertIn("address already in use", self.refused({"GOFAIL_HTTP": server.endpoint}))
        self.refused({"GOFAIL_HTTP": "nonsense"})

    def test_unknown_names_and_terms_are_passed_over(self):
        server = self.server("cairn").start(environment=self.environment("none=panic;walBeforeSync=nonsense;afterCommit=off"))
        self.assertIn('failed to enable "walBeforeSync=nonsense"', server.log_text())
        self.assertEqual(self.ask("GET", "/afterCommit"), (200, "off\n"))
        self.assertEqual(self.ask("GET", "/walBeforeSync")[0], 404)

    def first_loops(self, server):
        """How many servers the process has: each has a loop 0."""
        tasks = pathlib.Path(f"/proc/{server.process.pid}/task").glob("*/comm")
        return [task.read_text().strip() for task in tasks].count("cairn-io-0")

    def test_without_them_nothing_listens(self):
        server = self.server("cairn").start(environment={"PATH": os.environ["PATH"], "GOFAIL_HTTP": ""})
        self.assertEqual(self.first_loops(server), 1)
        self.assertEqual(server.stop(), -15)
        server.start(environment=self.environment())
        self.assertEqual(self.first_loops(server), 2)


if __name__ == "__main__":
    harness.main()
