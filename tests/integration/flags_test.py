"""Flags and environment: what has an effect has it, and what is wrong is told as etcd tells it."""

import contextlib
import ctypes
import json
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import time

import bolt
import every_flag
import harness
import rpc


class Effects(harness.Case):
    """One test a flag, or a few that belong together. The rest have theirs in server_test.py and directory_test.py."""

    def start(self, *flags):
        return self.server("cairn", flags=flags).start()

    def refused(self, call, *arguments):
        with self.assertRaises(rpc.GrpcError) as caught:
            call(*arguments)
        return caught.exception.code, caught.exception.message

    def test_name_and_token(self):
        first, second = self.start("--initial-cluster-token", "one"), None
        ports = (first.client_port, first.peer_port)
        ids = first.client().status()
        first.stop()
        second = self.server("cairn", self.dir / "second", ports=ports, token="two", name="other").start()
        self.assertEqual(second.client().members()[0][1], "other")
        self.assertNotEqual(second.client().status()["cluster_id"], ids["cluster_id"])

    def test_quota_backend_bytes(self):
        client = self.start("--quota-backend-bytes", str(4 << 20)).client()
        refused = None
        for i in range(60):
            try:
                client.put(b"k%d" % i, b"v" * 200_000)
            except rpc.GrpcError as error:
                refused = refused or (error.code, error.message, i)
        self.assertEqual(refused[:2], (rpc.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"))
        self.assertTrue(10 < refused[2] < 30, refused)
        self.assertEqual([kind for _, kind in client.alarm(0)], [1])
        client.delete(b"k0", b"l")  # deletes go on

    def test_quota_below_zero_is_none(self):
        client = self.start("--quota-backend-bytes=-1").client()
        client.put(b"a", b"b" * 1_000_000)
        self.assertEqual(client.alarm(0), [])

    def test_max_txn_ops(self):
        client = self.start("--max-txn-ops", "3").client()
        self.assertTrue(client.txn([], [rpc.op_put(b"%d" % i, b"") for i in range(3)]))
        self.assertEqual(self.refused(client.txn, [], [rpc.op_put(b"%d" % i, b"") for i in range(4)]),
                         (rpc.INVALID_ARGUMENT, "etcdserver: too many operations in txn request"))
        self.assertEqual(self.refused(client.txn, [], [], [rpc.op_put(b"%d" % i, b"") for i in range(4)])[0],
                         rpc.INVALID_ARGUMENT)
        self.assertEqual(self.refused(client.txn, [rpc.compare_version(b"%d" % i, 0) for i in range(4)], [])[0],
                         rpc.INVALID_ARGUMENT)

    def test_watch_progress_notify_interval(self):
        server = self.start("--watch-progress-notify-interval", "1ms")
        self.assertIn("adjusting watch progress notify interval to minimum period", server.log_text())
        client = server.client()
        create = rpc.enc((1, rpc.enc((1, b"a"), (4, True))))
        client.put(b"b", b"")
        stream = client.connection.start("/etcdserverpb.Watch/Watch", create, end=False)
        while len(stream.messages) < 3:
            client.connection.read_frame()
        for message in stream.messages[1:3]:
            progress = rpc.dec(message)
            self.assertEqual(set(progress), {1})  # a header and nothing else
            self.assertEqual(rpc.first(rpc.dec(rpc.first(progress, 1)), 3), 2)

    def test_max_request_bytes(self):
        client = self.start("--max-request-bytes", "10000").client()
        client.put(b"a", b"b" * 9_900)
        self.assertEqual(self.refused(client.put, b"a", b"b" * 10_000),
                         (rpc.INVALID_ARGUMENT, "etcdserver: request is too large"))
        self.assertEqual(self.refused(client.put, b"a", b"b" * (10_000 + 512 * 1024)),
                         (rpc.RESOURCE_EXHAUSTED,
                          f"grpc: received message larger than max ({10_000 + 512 * 1024 + 7} vs. {10_000 + 512 * 1024})"))

    def test_max_request_bytes_without_a_limit(self):
        for limit in (2**32 - 1, 2**33):
            cairn = self.start("--max-request-bytes", str(limit))
            cairn.client().put(b"a", b"b" * 3_000_000)
            self.assertEqual(len(cairn.client().get(b"a").value), 3_000_000)
            cairn.stop()

    def test_max_concurrent_streams(self):
        for flags, expected in ((["--max-concurrent-streams", "7"], 7), ([], None)):
            cairn = self.start(*flags)
            with rpc.Connection(cairn.client_port) as connection:
                connection.unary("/etcdserverpb.KV/Put", rpc.put_request(b"a", b"b"))
                self.assertEqual(connection.settings.get(3), expected)
            cairn.stop()

    def test_in_memory(self):
        cairn = self.start("--in-memory")
        self.assertIn("ALL DATA IS LOST", cairn.log_text())
        client = cairn.client()
        for i in range(300):  # more than a segment of the log
            client.put(b"k%d" % (i % 50), b"v" * 20_000 + b"%d" % i)
        client.compact(client.revision(), physical=True)
        client.defragment()
        self.assertEqual(len(client.all()), 50)
        self.assertTrue(client.get(b"k49").value.endswith(b"v299"))
        self.assertLess(client.status()["db_bytes"], 10_000_000, "50 values are left")
        self.assertFalse(cairn.data_dir.exists())
        files = [os.readlink(fd) for fd in pathlib.Path(f"/proc/{cairn.process.pid}/fd").iterdir() if fd.exists()
                 or fd.is_symlink()]
        self.assertTrue(any(name.startswith("/memfd:db") for name in files), files)
        cairn.stop()
        again = self.start("--in-memory")
        self.assertEqual(again.client().all(), [])
        self.assertFalse(again.data_dir.exists())

    def test_in_memory_the_log_is_short(self):
        """Its entries are memory, however few and large they are."""
        cairn = self.start("--in-memory")
        client = cairn.client()

        def log_bytes():
            out = 0
            for fd in pathlib.Path(f"/proc/{cairn.process.pid}/fd").iterdir():
                try:
                    if os.readlink(fd).startswith("/memfd:") and not os.readlink(fd).startswith("/memfd:db"):
                        out += fd.stat().st_blocks * 512
                except FileNotFoundError:
                    pass  # just closed
            return out

        most = 0
        for _ in range(20):
            client.put_many((b"k%d" % i, b"v" * 1_000_000) for i in range(15))
            client.compact(client.revision(), physical=True)
            most = max(most, log_bytes())
        self.assertLess(most, 200_000_000, "of 300 MB that were written")
        cairn.stop()

    def test_log_rotation(self):
        log = self.dir / "logs/cairn.log"
        log.parent.mkdir()
        log.write_text("x" * (1 << 20))  # full: the first line begins a new one
        cairn = self.start("--enable-log-rotation", f"--log-outputs=stderr,{log}",
                           '--log-rotation-config-json={"maxsize":1,"compress":true}')
        cairn.client().put(b"a", b"b")
        cairn.stop()
        self.assertIn('"msg":"closed etcd server"', log.read_text())
        self.assertNotIn("xxx", log.read_text())
        deadline = time.monotonic() + 60
        while True:
            names = [path.name for path in log.parent.iterdir() if path != log]
            if len(names) == 1 and re.fullmatch(r"cairn-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}\.log(\.gz)?", names[0]):
                break
            self.assertLess(time.monotonic(), deadline, names)
            time.sleep(0.05)

    def test_the_init_system_is_told(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as init:
            init.bind(str(self.dir / "init"))
            init.settimeout(120)
            cairn = self.server("cairn").start(environment={"NOTIFY_SOCKET": str(self.dir / "init")})
            self.assertEqual(init.recv(100), b"READY=1")
            cairn.wait_logged('"msg":"successfully notified init daemon"')
            cairn.stop()
            self.assertEqual(init.recv(100), b"STOPPING=1")

    def test_the_log_has_the_zone_of_the_machine(self):
        cairn = self.server("cairn").start(environment={"TZ": "XXX-5:30"})
        first = json.loads(cairn.log_text().splitlines()[0])
        self.assertRegex(first["ts"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+0530$")

    def test_io_threads(self):
        for count in (1, 3):
            cairn = self.start("--io-threads", str(count))
            names = [(task / "comm").read_text().strip()
                     for task in pathlib.Path(f"/proc/{cairn.process.pid}/task").iterdir()]
            self.assertEqual(sorted(name for name in names if name.startswith("cairn-io-")),
                             [f"cairn-io-{i}" for i in range(count)])
            cairn.stop()

    def ping(self, cairn, count, pause):
        """Pings beside an open call; False: the server has had enough."""
        with rpc.Connection(cairn.client_port, stream_window=1000) as connection:
            call = connection.start("/etcdserverpb.Maintenance/Snapshot", b"")
            connection.streams.pop(call.number)  # its window is not opened again: it does not end
            try:
                for _ in range(count):
                    connection.ping()
                    while connection.read_frame(5) != rpc.PING:
                        pass
                    time.sleep(pause)
            except ConnectionError:
                self.assertEqual(connection.goaway, (11, b"too_many_pings"))
                return False
            return True

    def test_grpc_keepalive_min_time(self):
        cairn = self.start()
        self.assertFalse(self.ping(cairn, 10, 0.1))
        cairn.stop()
        self.assertTrue(self.ping(self.start("--grpc-keepalive-min-time", "50ms"), 10, 0.1))

    def test_grpc_keepalive_interval_and_timeout(self):
        cairn = self.start("--grpc-keepalive-interval", "1s", "--grpc-keepalive-timeout", "5s")
        with rpc.Connection(cairn.client_port) as answers, rpc.Connection(cairn.client_port) as silent:
            silent.sock.settimeout(0.1)
            is_closed = False
            pings = 0
            until = time.monotonic() + 90
            while (not is_closed or pings < 2) and time.monotonic() < until:
                with contextlib.suppress(TimeoutError):
                    pings += answers.read_frame(0.2) == rpc.PING
                with contextlib.suppress(TimeoutError):  # what it is sent is not answered, and then comes the end
                    is_closed = is_closed or not silent.sock.recv(65536)
            self.assertGreaterEqual(pings, 2)
            self.assertTrue(is_closed)
            answers.unary("/etcdserverpb.KV/Put", rpc.put_request(b"a", b"b"))

    def get(self, port, path):
        server = harness.Server("cairn", self.dir, ports=(port, 0))
        return server.http(path)

    def test_listen_client_http_urls(self):
        port = harness.free_port()
        cairn = self.server("cairn", flags=["--listen-client-http-urls", f"http://127.0.0.1:{port}"]).launch()
        cairn.wait_logged("ready to serve client requests")
        self.assertEqual(self.get(port, "/health")[0], 200)
        cairn.client().put(b"a", b"b")
        with self.assertRaises((OSError, Exception)):
            cairn.http("/health")
        with self.assertRaises((OSError, rpc.GrpcError)):
            rpc.Client(port, timeout=3).put(b"a", b"b")

    def test_listen_metrics_urls(self):
        ports = [harness.free_port(), harness.free_port()]
        cairn = self.start("--listen-metrics-urls", ",".join(f"http://127.0.0.1:{port}" for port in ports))
        for port in ports:
            self.assertIn("etcd_server_has_leader 1", self.get(port, "/metrics")[2])
            for path in ("/health", "/livez", "/readyz"):
                self.assertEqual(self.get(port, path)[0], 200, path)
            self.assertEqual(self.get(port, "/version")[0], 404)
        self.assertEqual(cairn.http("/version")[0], 200)

    def test_listen_on_every_interface_and_several_addresses(self):
        ports = [harness.free_port() for _ in range(3)]
        urls = f"http://0.0.0.0:{ports[0]},http://127.0.0.1:{ports[1]},http://[::1]:{ports[2]}"
        cairn = self.server("cairn", ports=(ports[0], harness.free_port()),
                            flags=["--listen-client-urls", urls]).start()
        cairn.client().put(b"a", b"b")
        with rpc.Client(ports[1]) as other:
            self.assertEqual(other.get(b"a").value, b"b")
        with socket.create_connection(("::1", ports[2])) as third:
            third.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            self.assertIn(b"200", third.recv(1000))

    def test_default_advertised_host(self):
        """Who listens on every interface and advertises the default is reached at the machine's own address."""
        ports = [harness.free_port(), harness.free_port()]
        arguments = ["--name", "m", "--data-dir", str(self.dir / "data"),
                     "--listen-client-urls", f"http://0.0.0.0:{ports[0]}",
                     "--advertise-client-urls", "http://localhost:2379",
                     "--listen-peer-urls", f"http://0.0.0.0:{ports[1]}"]
        told = {}
        for kind in ("etcd37", "cairn"):
            if harness.missing(kind):
                continue
            server = self.server(kind, self.dir / "data", ports=tuple(ports))
            server.arguments = lambda kind=kind: [str(harness.program(kind)), *arguments]
            server.launch()
            server.wait_logged("host\"")
            line = next(line for line in server.log_text().splitlines() if "default host" in line)
            if "failed to detect" in line:
                raise harness.unittest.SkipTest("this machine has no default route")
            server.wait_logged("ready to serve client requests")
            told[kind] = json.loads(line)["msg"], json.loads(line)["host"], server.client().members()
            server.stop()
        message, host, members = told["cairn"]
        self.assertEqual(message, "detected default host for advertise")
        self.assertEqual(members[0][2:4], ((f"http://{host}:{ports[1]}",), (f"http://{host}:{ports[0]}",)))
        self.assertEqual(told.get("etcd37", told["cairn"]), told["cairn"])

    def test_log_level(self):
        cairn = self.server("cairn", flags=["--log-level", "error"]).launch()
        deadline = time.monotonic() + 90
        while True:
            try:
                self.assertEqual(cairn.http("/health")[0], 200)
                break
            except OSError:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.05)
        cairn.stop()
        self.assertEqual(cairn.log_text(), "")
        debug = self.server("cairn", self.dir / "debug", flags=["--log-level", "debug"]).start()
        self.assertNotIn('"level":"error"', debug.log_text())

    def test_log_format(self):
        lines = self.start("--log-format", "console").log_text().splitlines()
        for line in lines:
            self.assertRegex(line, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\t(INFO|WARN)\t[\w/]+\.(cc|h):\d+\t[^\t]+")

    def test_log_outputs(self):
        path = self.dir / "member.log"
        cairn = self.server("cairn", flags=["--log-outputs", f"{path},stderr"]).start()
        cairn.stop()
        self.assertEqual(path.read_text(), cairn.log_text())
        self.assertIn("closed etcd server", [json.loads(line)["msg"] for line in path.read_text().splitlines()])
        for line in path.read_text().splitlines():
            self.assertRegex(json.loads(line)["ts"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        cairn = self.server("cairn", flags=["--log-outputs", str(path)]).launch()
        harness.until(lambda: path.read_text().count("ready to serve client requests") == 2)  # what was there stays
        cairn.stop()

    def test_backend_batch_interval(self):
        cairn = self.start("--backend-batch-interval", "50ms")
        for number in range(30):  # a machine that is busy may need more than one
            key = b"key%d" % number
            cairn.client().put(key, b"value")
            time.sleep(0.5)  # left alone, a second
            if key in b"".join(bolt.tables(cairn.data_dir / "member/snap/db")["key"].values()):
                return
        self.fail("no commit after half a second")

    def files(self, cairn, kind):
        return sorted(path.name for path in (cairn.data_dir / "member" / kind).glob(f"*.{kind}"))

    def test_max_snapshots(self):
        for flags, most in ((["--max-snapshots", "2"], 2), ([], 5), (["--max-snapshots=0"], None)):
            cairn = self.server("cairn", self.dir / f"data{most}", flags=["--snapshot-count", "10", *flags]).start()
            saved = 0
            for i in range(1000):  # a snapshot needs two commits
                cairn.client().put_many((b"%d" % i, b"x") for _ in range(20))
                saved = cairn.log_text().count('"msg":"saved snapshot"')
                if saved > 6:
                    break
                time.sleep(0.2)
            self.assertGreater(saved, 6)
            cairn.stop()
            count = len(self.files(cairn, "snap"))
            self.assertEqual(count, most) if most else self.assertGreater(count, 6)

    def test_max_wals(self):
        """Files of the log that no start needs: 0 keeps all, a number so many in all; without the flag none."""
        often = ["--snapshot-count", "1", "--unsafe-no-fsync", "--backend-batch-interval", "20ms"]

        def start(*flags):
            cairn = self.server("cairn", flags=[*often, *flags]).start()
            return cairn, lambda: self.files(cairn, "wal")

        def until_left(cairn, files, count):
            def settle():
                cairn.client().put(b"k", b"v")
                return len(files()) == count
            harness.until(settle, 120, lambda: f"{files()}\n{cairn.log_tail()}")

        cairn, files = start("--max-wals=0")
        for _ in range(0, 280_000_000, 1_400_000):
            cairn.client().put(b"big", bytes(1_400_000))
        self.assertEqual(len(files()), 5)
        cairn.wait_logged('"msg":"saved snapshot"')
        cairn.stop()
        self.assertTrue(files()[0].startswith("0" * 16 + "-"), files())
        cairn, files = start("--max-wals=3")
        until_left(cairn, files, 3)
        for _ in range(5):
            cairn.client().put(b"k", b"v")
        self.assertEqual(len(files()), 3)
        cairn.stop()
        cairn, files = start()
        until_left(cairn, files, 1)
        self.assertEqual(len(cairn.client().get(b"big").value), 1_400_000)

    def locked_kb(self, cairn):
        status = pathlib.Path(f"/proc/{cairn.process.pid}/status").read_text()
        return int(re.search(r"^VmLck:\s+(\d+) kB", status, re.M)[1])

    def test_memory_mlock(self):
        cairn = self.server("cairn", flags=["--memory-mlock"]).launch()
        with contextlib.suppress(AssertionError):
            cairn.wait_ready()
        if "mlock error" in cairn.log_text():
            raise harness.unittest.SkipTest("this machine lets nobody lock memory")
        cairn.client().put(b"a", b"b")
        self.assertGreaterEqual(self.locked_kb(cairn), 16)
        cairn.stop()
        plain = self.server("cairn").start()
        self.assertEqual(self.locked_kb(plain), 0)

    def test_memory_mlock_that_is_not_allowed(self):
        """The reason is told in etcd's words."""
        def may_not_lock():
            harness.die_with_parent()
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
            ctypes.CDLL(None).prctl(24, 14, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_IPC_LOCK: for root, who else may

        for kind in ("cairn", "etcd37"):
            if harness.missing(kind):
                continue
            server = self.server(kind, self.dir / kind, flags=["--memory-mlock"])
            server._prepare_process = may_not_lock
            server.launch()
            self.assertNotEqual(server.wait(), 0)
            self.assertIn("mlock error: operation not permitted", server.log_text())

    def test_compaction_batch_limit_and_sleep_interval(self):
        """As etcd's own TestReproduce19406: 21 batches of one revision, and a pause behind each."""
        cairn = self.start("--compaction-batch-limit", "1", "--compaction-sleep-interval", "50ms")
        client = cairn.client()
        for i in range(21):
            client.put(b"%d" % i, b"x")
        client.compact(client.revision(), physical=True)

        def figure(name):
            return cairn.metric(f"etcd_debugging_mvcc_db_compaction_{name}")
        total, paused = (figure(f"{what}_duration_milliseconds_sum") for what in ("total", "pause"))
        self.assertGreaterEqual(total - paused, 21 * 50)
        self.assertGreaterEqual(figure("pause_duration_milliseconds_count"), 22)

    def test_unsafe_no_fsync(self):
        def syncs(*flags):
            cairn = self.server("cairn", self.dir / f"data{len(flags)}", flags=flags).start()
            cairn.client().put_many((b"%d" % i, b"x") for i in range(100))
            count = cairn.metric("etcd_disk_wal_fsync_duration_seconds_count")
            cairn.stop()
            return count, cairn
        self.assertGreater(syncs()[0], 0)
        self.assertIn("data is lost when the machine stops", syncs("--unsafe-no-fsync")[1].log_text())


class EveryFlag(harness.Case):
    """All flags of etcd 3.7.1 at once, at values that are not their defaults."""

    def serves_and_stops(self, kind, every, port):
        server = self.server(kind, every.data_dir, ports=(port, 0))
        server.log_path = every.data_dir.with_suffix(f".{time.monotonic_ns()}.log")
        server.arguments = lambda: [str(harness.program(kind)), *every.arguments()]
        server.launch()
        while "ready to serve client requests" not in server.log_text():
            if server.process.poll() is not None and "mlock error" in server.log_text():  # as this machine has it
                every.values.pop("memory-mlock")
                server.launch()
            self.assertIsNone(server.process.poll(), server.log_tail())
            time.sleep(0.02)
        client = server.client()
        client.put(b"a", b"b")
        self.assertEqual(client.get(b"a").value, b"b")
        client.compact(client.revision(), physical=True)
        self.assertEqual(server.stop(), -signal.SIGTERM)
        return server.log_text()

    def test_a_start_with_all_of_them(self):
        for kind in ("cairn", "etcd37"):
            if harness.missing(kind):
                continue
            ports = [harness.free_port() for _ in range(5)]
            every = every_flag.EveryFlag(self.dir / kind, ports)
            given = set(every.values)
            first = self.serves_and_stops(kind, every, ports[0])
            every.again()
            again = self.serves_and_stops(kind, every, ports[0])
            given |= set(every.values)
            self.assertEqual(given, set(every_flag.FLAGS) - every_flag.LEFT_OUT)
            self.assertIn("closed etcd server", every.log.read_text())
            for text in (first, again) if kind == "cairn" else ():
                self.assertNotIn("\terror\t", text.lower())
                self.assertNotIn("is not built yet", text)


class Environment(harness.Case):
    def run_with(self, arguments, environment):
        done = subprocess.run([str(harness.program("cairn")), *arguments], capture_output=True, text=True, timeout=90,
                              check=False, env={"PATH": os.environ["PATH"], **environment}, cwd=self.dir)
        return done.returncode, harness.json_lines(done.stderr)

    def test_the_same_setting_twice_is_refused(self):
        code, lines = self.run_with(["--name", "a"], {"ETCD_NAME": "b"})
        self.assertEqual(code, 1)
        self.assertEqual(lines[-1]["level"], "fatal")
        self.assertIn("conflicting environment variable is shadowed by corresponding command-line flag",
                      lines[-1]["msg"])
        self.assertEqual(lines[-1]["environment-variable"], "ETCD_NAME")
        self.assertEqual(list(self.dir.iterdir()), [])

    def test_what_is_not_known_is_named(self):
        _, lines = self.run_with(["--heartbeat-interval", "0"], {"ETCD_NO_SUCH": "1", "ETCD_VERSION": "9",
                                                                  "ETCD_ELECTION_TIMEOUT": "2000", "ETCD_NAME": ""})
        by_message = {line["msg"]: line for line in lines}
        self.assertEqual(by_message["unrecognized environment variable"]["environment-variable"], "ETCD_NO_SUCH")
        self.assertEqual(by_message["recognized and used environment variable"]["variable-value"], "2000")
        self.assertIn("cannot set special environment variable", by_message)

    def test_protection_from_the_environment_is_refused_too(self):
        code, lines = self.run_with([], {"ETCD_DISCOVERY_SRV": "example.org"})
        self.assertEqual(code, 1)
        self.assertIn("discovery-srv", lines[-1]["error"])


@harness.needs("etcd37")
class BesideEtcd(harness.Case):
    """Wrong command lines: the same exit code and the same reason."""

    CASES = [
        ["--no-such-flag"], ["-no-such-flag=1"], ["--name"], ["---name"], ["-=x"], ["positional"], ["--", "x"],
        ["--pre-vote=maybe"], ["--pre-vote", "false"], ["--heartbeat-interval", "ten"],
        ["--heartbeat-interval=-1"], ["--heartbeat-interval", "99999999999999999999"],
        ["--backend-batch-interval", "10"], ["--quota-backend-bytes", "1GB"], ["--max-concurrent-streams", "-1"],
        ["--initial-cluster-state", "old"], ["--listen-client-urls", "nonsense"],
        ["--listen-client-urls", "http://example.com:1", "--advertise-client-urls", "http://127.0.0.1:1"],
        ["--listen-client-urls", "http://127.0.0.1:1"], ["--listen-peer-urls", "ftp://127.0.0.1:1"],
        ["--listen-client-urls", "http://127.0.0.1:1/path", "--advertise-client-urls", "http://127.0.0.1:1"],
        ["--listen-client-urls", "http://127.0.0.1", "--advertise-client-urls", "http://127.0.0.1:1"],
        ["--heartbeat-interval", "300"], ["--election-timeout", "60000"], ["--heartbeat-interval", "0"],
        ["--log-level", "loud"], ["--log-outputs", "default,stderr"], ["--logger", "capnslog"],
        ["--log-format", "xml"], ["--auto-compaction-mode", "never"], ["--feature-gates", "NoSuch=true"],
        ["--feature-gates", "LeaseCheckpoint=perhaps"], ["--initial-cluster", "x=http://localhost:2380"],
        ["--initial-cluster", "default=http://localhost:2380,default=http://localhost:2380"],
        ["--initial-advertise-peer-urls", "http://localhost:9999"], ["--discovery-token", "x"],
        ["--compact-hash-check-time", "0s"], ["--discovery-fallback", "proxy"], ["--discovery-fallback", "wait"],
    ]

    def outcome(self, kind, arguments):
        """(exit code, what was wrong)"""
        arguments = [str(harness.program(kind)), "--data-dir", str(self.dir / "data"), *arguments]
        if "--listen-peer-urls" not in arguments:
            arguments[3:3] = ["--listen-peer-urls", f"http://127.0.0.1:{harness.free_port()}"]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=90, check=False, cwd=self.dir,
                              env={"PATH": os.environ["PATH"]})
        return done.returncode, harness.why_ended(done.stderr)

    def test_what_is_wrong_is_told_alike(self):
        for arguments in self.CASES:
            with self.subTest(" ".join(arguments)):
                self.assertEqual(self.outcome("etcd37", arguments), self.outcome("cairn", arguments))

    def test_a_taken_port(self):
        with socket.socket() as holder:
            port = harness.free_port()
            holder.bind(("127.0.0.1", port))
            holder.listen()
            url = f"http://127.0.0.1:{port}"
            for arguments in (["--listen-client-urls", url, "--advertise-client-urls", url],
                              ["--listen-peer-urls", url, "--initial-advertise-peer-urls", url,
                               "--initial-cluster", f"default={url}"]):
                self.assertEqual(self.outcome("cairn", arguments), self.outcome("etcd37", arguments))
            self.assertEqual(self.outcome("cairn", arguments),
                             (1, f"listen tcp 127.0.0.1:{port}: bind: address already in use"))
            self.assertFalse((self.dir / "data").exists())

    def test_others_who_could_read_the_directory(self):
        said = {}
        for kind in ("etcd37", "cairn"):
            directory = self.dir / "data"
            directory.mkdir(mode=0o755)
            server = self.server(kind, directory).start()
            line = next(line for line in server.log_text().splitlines() if "check file permission" in line)
            said[kind] = json.loads(line)["level"], json.loads(line)["error"]
            server.stop()
            harness.shutil.rmtree(directory)
        self.assertEqual(said["cairn"], said["etcd37"])


class Headers(harness.Case):
    """What clients send before their message."""

    GOOD = [(":method", "POST"), (":scheme", "http"), (":path", "/etcdserverpb.KV/Range"), (":authority", "x"),
            ("content-type", "application/grpc"), ("te", "trailers")]

    def outcome(self, port, fields):
        with rpc.Connection(port, timeout=5) as connection:
            try:
                connection.finish(connection.start("", rpc.enc((1, b"a")), fields=fields))
                return rpc.OK, ""
            except rpc.GrpcError as error:
                return error.code, error.message

    def test_odd_ones(self):
        servers = [self.server(kind, self.dir / kind).start() for kind in ("cairn", "etcd37")
                   if not harness.missing(kind)]

        def with_(name, value):
            return [(each, value if each == name else old) for each, old in self.GOOD]

        def without(name):
            return [pair for pair in self.GOOD if pair[0] != name]

        for what, fields, expected in (
                ("nothing odd", self.GOOD, rpc.OK),
                ("an endpoint as authority", with_(":authority", "http://127.0.0.1:2379"), rpc.OK),
                ("several endpoints as authority", with_(":authority", "etcd-endpoints://0xc0/127.0.0.1:2379"), rpc.OK),
                ("no authority", without(":authority"), rpc.OK),
                ("no te", without("te"), rpc.OK),
                ("no path", without(":path"), None),
                ("an empty path", with_(":path", ""), None),
                ("no method", without(":method"), None),
                ("GET", with_(":method", "GET"), None),
                ("capitals", [*self.GOOD, ("X-Upper", "1")], 13),
                ("a connection header", [*self.GOOD, ("connection", "close")], 13),
                ("a keep-alive header", [*self.GOOD, ("keep-alive", "1")], rpc.OK),
                ("an unknown pseudo header", [(":odd", "1"), *self.GOOD], 13),
                ("a line break", [*self.GOOD, ("x", "a\r\nb")], 13)):
            with self.subTest(what):
                found = [self.outcome(server.client_port, fields) for server in servers]
                if expected is not None:
                    self.assertEqual(found[0][0], expected, found)
                self.assertEqual(found[0][0], found[-1][0], found)
        servers[0].client().put(b"a", b"b")


class Directory(harness.Case):
    def test_a_directory_in_use_is_waited_for(self):
        first = self.server("cairn").start()
        first.client().put(b"a", b"b")
        second = self.server("cairn").launch()
        second.wait_logged("waiting for another process")
        self.assertIn(str(first.data_dir / "member/snap/db"), second.log_text())
        first.client().put(b"still", b"here")
        first.stop()
        second.wait_ready()
        self.assertEqual(second.client().revision(), 3)
        third = self.server("cairn").launch()
        third.wait_logged("db file is flocked by another process, or taking too long")
        third.process.send_signal(signal.SIGTERM)
        self.assertEqual(third.wait(), -15)
        second.client().put(b"c", b"d")

    @harness.needs("etcd34", "etcd37")
    def test_etcd_and_cairn_lock_each_other_out(self):
        for kind in ("etcd34", "etcd37"):
            with self.subTest(kind):
                directory = self.dir / kind
                etcd = self.server(kind, directory).start()
                cairn = self.server("cairn", directory, ports=(harness.free_port(), etcd.peer_port),
                                    listen_peer_port=harness.free_port()).launch()
                cairn.wait_logged("waiting for another process")
                etcd.client().put(b"a", b"b")
                etcd.stop()
                cairn.wait_ready()
                self.assertEqual(cairn.client().get(b"a").value, b"b")
                etcd.launch()
                time.sleep(1)
                with self.assertRaises((OSError, TimeoutError)):
                    rpc.Client(etcd.client_port, timeout=1).get(b"a")
                cairn.stop()
                etcd.wait_ready()
                self.assertEqual(etcd.client().get(b"a").value, b"b")
                etcd.stop()


if __name__ == "__main__":
    harness.main()
