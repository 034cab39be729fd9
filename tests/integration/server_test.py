"""The server as a user and an operator meet it: etcdctl, HTTP, signals, files, slow and vanishing clients."""

import json
import os
import stat
import subprocess
import time

import harness
import rpc

MEGABYTE = 1 << 20


@harness.needs("etcdctl")
class Etcdctl(harness.Case):
    """With etcd's own command line."""

    def setUp(self):
        super().setUp()
        self.cairn = self.server("cairn").start()

    def ctl(self, *arguments, **how):
        return self.etcdctl(self.cairn, *arguments, **how).stdout

    def test_keys(self):
        self.assertEqual(self.ctl("put", "greeting", "hello"), "OK\n")
        self.assertEqual(self.ctl("get", "greeting"), "greeting\nhello\n")
        for i in range(5):
            self.ctl("put", f"k{i}", f"v{i}")
        self.assertEqual(self.ctl("get", "k", "--prefix", "--keys-only").split(), [f"k{i}" for i in range(5)])
        self.assertEqual(self.ctl("get", "k1", "k3", "--print-value-only"), "v1\nv2\n")
        self.assertEqual(self.ctl("get", "k", "--prefix", "--order=DESCEND", "--sort-by=KEY", "--limit=2",
                                  "--print-value-only"), "v4\nv3\n")
        self.assertEqual(self.ctl("put", "k0", "new", "--prev-kv"), "OK\nk0\nv0\n")
        self.assertEqual(self.ctl("get", "k0", "--rev=3", "--print-value-only"), "v0\n")
        self.assertEqual(self.ctl("del", "k1", "--prev-kv"), "1\nk1\nv1\n")
        self.assertEqual(self.ctl("del", "k", "--prefix"), "4\n")
        self.assertEqual(self.ctl("get", "k", "--prefix"), "")
        refused = self.etcdctl(self.cairn, "put", "x", "y", "--lease=7b", check=False)
        self.assertIn("requested lease not found", refused.stderr)

    def test_txn(self):
        self.ctl("put", "a", "1")
        for value, expected in (("1", "SUCCESS"), ("1", "FAILURE")):
            done = subprocess.run([str(harness.program("etcdctl")), "--endpoints", self.cairn.endpoint, "txn"],
                                  input=f'value("a") = "{value}"\n\nput a 2\nget a\n\nget a\n\n', text=True,
                                  capture_output=True, timeout=30, check=True)
            self.assertIn(expected, done.stdout)
        self.assertEqual(self.ctl("get", "a", "--print-value-only"), "2\n")

    def test_compaction(self):
        for i in range(10):
            self.ctl("put", "a", f"{i}")
        self.assertEqual(self.ctl("compaction", "8"), "compacted revision 8\n")
        self.assertEqual(self.ctl("compaction", "9", "--physical"), "compacted revision 9\n")
        self.assertIn("compacted", self.etcdctl(self.cairn, "get", "a", "--rev=7", check=False).stderr)
        self.assertIn("compacted", self.etcdctl(self.cairn, "compaction", "8", check=False).stderr)
        self.assertIn("future", self.etcdctl(self.cairn, "get", "a", "--rev=99", check=False).stderr)
        self.assertEqual(self.ctl("get", "a", "--rev=9", "--print-value-only"), "7\n")

    def test_endpoint_and_members(self):
        self.ctl("put", "a", "b")
        status = json.loads(self.ctl("endpoint", "status", "-w", "json"))[0]["Status"]
        self.assertEqual(status["version"], "3.7.1")
        self.assertEqual(status["header"]["revision"], 2)
        self.assertEqual(status["leader"], status["header"]["member_id"])
        self.assertGreater(status["dbSize"], 0)
        self.assertIn("is healthy", self.etcdctl(self.cairn, "endpoint", "health").stderr)
        hashed = json.loads(self.ctl("endpoint", "hashkv", "-w", "json"))[0]["HashKV"]
        self.assertEqual(hashed["compact_revision"], -1)
        member = json.loads(self.ctl("member", "list", "-w", "json"))["members"][0]
        self.assertEqual(member["name"], "m")
        self.assertEqual(member["clientURLs"], [f"http://{self.cairn.endpoint}"])
        self.assertEqual(member["peerURLs"], [f"http://127.0.0.1:{self.cairn.peer_port}"])
        self.assertEqual(member["ID"], status["header"]["member_id"])

    def test_snapshot(self):
        client = self.cairn.client()
        client.put_many((b"k/%05d" % i, b"v" * 1000) for i in range(3000))
        hashed = client.hash_kv()
        path = self.dir / "snapshot.db"
        self.ctl("snapshot", "save", path)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        status = json.loads(self.ctl("snapshot", "status", path, "-w", "json"))
        self.assertEqual(status["revision"], 3001)
        self.assertGreaterEqual(status["totalKey"], 3000)
        restored = self.dir / "restored"
        peer = harness.free_port()
        flags = ["--data-dir", restored, "--name", "m", "--initial-cluster", f"m=http://127.0.0.1:{peer}",
                 "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}"]
        self.ctl("snapshot", "restore", path, *flags)
        self.restored(restored, ("cairn", "etcd34"), peer, hashed, 3002)

    @harness.needs("etcdutl37", "etcd37")
    def test_snapshot_by_the_tools_of_37(self):
        client = self.cairn.client()
        client.put_many((b"k/%05d" % i, b"v" * 1000) for i in range(300))
        client.compact(100)
        hashed = client.hash_kv()
        path, restored, peer = self.dir / "snapshot.db", self.dir / "restored", harness.free_port()
        self.ctl("snapshot", "save", path)
        status = json.loads(self.run_tool("etcdutl37", "snapshot", "status", path, "-w", "json").stdout)
        self.assertEqual((status["revision"], status["totalKey"], status["version"]), (301, 300, "3.7.0"))
        self.run_tool("etcdutl37", "snapshot", "restore", path, "--data-dir", restored, "--name", "m",
                      "--initial-cluster", f"m=http://127.0.0.1:{peer}",
                      "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}")
        self.restored(restored, ("cairn", "etcd37"), peer, hashed, 302)

    def restored(self, directory, kinds, peer, hashed, next_revision):
        """Each kind of server starts on a copy of what was restored."""
        for kind in kinds:
            if harness.missing(kind):
                continue
            copy = harness.copy_directory(directory, self.dir / f"for-{kind}")
            taker = self.server(kind, copy, ports=(harness.free_port(), peer)).start()
            there = taker.client()
            self.assertEqual(there.hash_kv(), hashed, kind)
            self.assertEqual(there.put(b"more", b"1"), next_revision)
            members = there.members()
            self.assertEqual([m[1:3] for m in members], [("m", (f"http://127.0.0.1:{peer}",))])
            taker.stop()
            self.check_directory(copy, older_tree=kind == "cairn")
            if kind == "cairn":  # what the tables say now is right by itself
                taker.start()
                self.assertEqual(taker.client().members(), members)
                taker.stop()


class Http(harness.Case):
    def test_what_probes_ask_for(self):
        cairn = self.server("cairn").start()
        cairn.client().put(b"a", b"b")
        status, _, body = cairn.http("/health")
        self.assertEqual((status, json.loads(body)), (200, {"health": "true", "reason": ""}))
        self.assertEqual(json.loads(cairn.http("/version")[2]),
                         {"etcdserver": "3.7.1", "etcdcluster": "3.7.0", "storage": "3.7.0"})
        for path in ("/livez", "/readyz", "/readyz/linearizable_read"):
            self.assertEqual(cairn.http(path)[::2], (200, "ok\n"), path)
        self.assertIn("[+]serializable_read ok", cairn.http("/readyz?verbose")[2])
        status, headers, body = cairn.http("/metrics")
        self.assertEqual(status, 200)
        self.assertIn("text/plain", headers["Content-Type"])
        values = harness.samples(body)
        self.assertEqual(values["etcd_server_has_leader"], 1)
        self.assertEqual(values["etcd_debugging_mvcc_current_revision"], 2)
        self.assertGreater(values["process_resident_memory_bytes"], 1e6)
        for part in ("index", "write_buffers", "raft_log"):
            self.assertGreater(values['cairn_memory_bytes{part="%s"}' % part], 0, part)
        self.assertEqual(cairn.http("/nowhere")[0], 404)
        self.assertEqual(cairn.http("/health", "POST")[0], 405)

    def test_health_names_the_alarm(self):
        cairn = self.server("cairn").start()
        client = cairn.client()
        client.alarm(1, 77, 1)
        self.assertEqual(cairn.http("/health")[0], 503)
        self.assertEqual(json.loads(cairn.http("/health")[2])["reason"], "ALARM NOSPACE")
        self.assertEqual(cairn.http("/health?exclude=NOSPACE")[0], 200)
        with self.assertRaisesRegex(rpc.GrpcError, "database space exceeded"):
            client.put(b"a", b"b")
        client.alarm(2, 77, 1)
        self.assertEqual(cairn.http("/health")[0], 200)
        client.put(b"a", b"b")


class Operator(harness.Case):
    def test_version_and_help(self):
        done = subprocess.run([str(harness.program("cairn")), "--version"], capture_output=True, text=True, timeout=90,
                              check=True)
        self.assertEqual(done.stdout.splitlines()[0], "etcd Version: 3.7.1")
        self.assertIn("cairn Version: ", done.stdout)
        done = subprocess.run([str(harness.program("cairn")), "--help"], capture_output=True, text=True, timeout=90,
                              check=True)
        self.assertIn("--data-dir", done.stdout)

    def test_signals_end_it_cleanly(self):
        for number in (15, 2):
            cairn = self.server("cairn", self.dir / f"data{number}").start()
            cairn.client().put(b"a", b"b" * 1000)
            cairn.close_clients()
            began = time.monotonic()
            cairn.process.send_signal(number)
            self.assertEqual(cairn.wait(), -number)  # 143 and 130 to a shell
            self.assertLess(time.monotonic() - began, 30)
            self.assertIn("closed etcd server", cairn.log_text())
            self.check_directory(cairn.data_dir)

    def test_a_signal_ends_a_start_that_lasts(self):
        cairn = self.server("cairn", flags=["--backend-batch-interval", "1h", "--backend-batch-limit", "100000000"])
        client = cairn.start().client()
        client.pipeline((("/etcdserverpb.KV/Put", rpc.put_request(b"k/%06d" % i, b"")) for i in range(100_000)), 500)
        # Each looks at all keys, when it is applied again, too.
        slow = rpc.txn_request([rpc.compare_version(b"k/", 1) + rpc.enc((64, b"k0"))], [rpc.op_put(b"n", b"")])
        began = time.monotonic()
        count = 0
        while time.monotonic() < began + 4:
            client.pipeline((("/etcdserverpb.KV/Txn", slow) for _ in range(10)), 10)
            count += 10
        self.assertEqual(client.get(b"n").version, count)
        revision, hashed = client.revision(), client.hash_kv()
        cairn.kill()
        cairn.launch()
        cairn.wait_logged("starting an etcd server", times=2)
        time.sleep(0.5)
        began = time.monotonic()
        self.assertEqual(cairn.stop(), -15)
        stopped_within = time.monotonic() - began
        self.assertIn("before the start was finished", cairn.log_text())
        self.assertEqual(cairn.log_text().count("ready to serve"), 1, "the first time")
        began = time.monotonic()
        cairn.start()
        self.assertLess(stopped_within, max(1.0, 0.5 * (time.monotonic() - began)))
        self.assertEqual((cairn.client().revision(), cairn.client().hash_kv()), (revision, hashed))
        cairn.stop()
        self.check_directory(cairn.data_dir)

    def test_a_stop_answers_or_refuses_what_is_open(self):
        cairn = self.server("cairn").start()
        with rpc.Client(cairn.client_port) as client:
            calls = [client.connection.start("/etcdserverpb.KV/Put", rpc.put_request(b"%d" % i, b"v"))
                     for i in range(200)]
            cairn.process.send_signal(15)
            acknowledged = []
            for i, call in enumerate(calls):
                try:
                    client.connection.finish(call, timeout=60)
                    acknowledged.append(i)
                except (rpc.GrpcError, OSError):
                    pass
        self.assertEqual(cairn.wait(), -15)
        cairn.start()
        client = cairn.client()
        for i in acknowledged:
            self.assertIsNotNone(client.get(b"%d" % i), i)

    def test_log_lines_that_tools_wait_for(self):
        cairn = self.server("cairn").start()
        lines = [json.loads(line) for line in cairn.log_text().splitlines()]
        messages = [line["msg"] for line in lines]
        self.assertIn("ready to serve client requests", messages)
        self.assertIn("published local member to cluster through raft", messages)
        for line in lines:
            self.assertGreaterEqual(set(line), {"level", "ts", "caller", "msg"})

    def test_flags_that_protect_are_refused_by_name(self):
        for flag in ("--discovery-srv=example.org", "--discovery-srv-name=x"):
            with self.subTest(flag):
                cairn = self.server("cairn", flags=[flag])
                cairn.launch()
                code = cairn.wait()
                self.assertIn(code, (1, 2))
                self.assertIn(flag.split("=")[0].lstrip("-"), cairn.log_text())
                self.assertFalse(cairn.data_dir.exists())

    def test_an_unknown_flag_is_a_usage_error(self):
        cairn = self.server("cairn", flags=["--no-such-flag"])
        cairn.launch()
        self.assertEqual(cairn.wait(), 2)
        self.assertIn("flag provided but not defined: -no-such-flag", cairn.log_text())

    def test_a_member_that_finds_no_cluster_writes_nothing(self):
        for flags in (["--initial-cluster-state", "existing"],
                      ["--initial-cluster", "other=http://127.0.0.1:1"]):
            with self.subTest(flags):
                cairn = self.server("cairn", flags=flags)
                cairn.launch()
                self.assertEqual(cairn.wait(), 1)
                self.assertFalse((cairn.data_dir / "member").exists(), cairn.log_tail())

    def test_one_of_several_waits_for_a_majority(self):
        cairn = self.server("cairn")
        peer = f"http://127.0.0.1:{cairn.peer_port}"
        cairn.flags = ["--initial-cluster", f"m={peer},n=http://127.0.0.1:{harness.free_port()}"]
        cairn.launch()
        harness.until(lambda: "added remote peer" in cairn.log_text(), 60, cairn.log_tail)
        with self.assertRaises((OSError, rpc.GrpcError)), rpc.Client(cairn.client_port, timeout=2) as client:
            client.range(b"a", serializable=True)
        harness.until(lambda: "failed to publish local member to cluster through raft" in cairn.log_text(), 60,
                      cairn.log_tail)
        self.assertTrue(cairn.running())
        cairn.process.terminate()
        cairn.wait()
        self.assertIn("received signal", cairn.log_text())

    def test_an_initial_cluster_is_ignored_where_there_is_data(self):
        cairn = self.server("cairn").start()
        cairn.client().put(b"a", b"b")
        cairn.stop()
        peer = f"http://127.0.0.1:{cairn.peer_port}"
        for flags in (["--initial-cluster", f"m={peer},n=http://127.0.0.1:2,o=http://127.0.0.1:3"],
                      ["--initial-cluster", "other=http://127.0.0.1:1"],
                      ["--initial-cluster-state", "existing"]):
            with self.subTest(flags):
                cairn.flags = flags
                cairn.start()
                self.assertEqual(cairn.client().get(b"a").value, b"b")
                self.assertEqual(len(cairn.client().members()), 1)
                cairn.stop()

    def test_the_environment_counts(self):
        cairn = self.server("cairn", flags=["--log-level", "warn"])
        cairn.flags = []
        environment = {"PATH": os.environ["PATH"], "ETCD_DATA_DIR": str(self.dir / "from-env"), "ETCD_NAME": "env",
                       "ETCD_LISTEN_CLIENT_URLS": f"http://{cairn.endpoint}",
                       "ETCD_ADVERTISE_CLIENT_URLS": f"http://{cairn.endpoint}",
                       "ETCD_LISTEN_PEER_URLS": f"http://127.0.0.1:{cairn.peer_port}",
                       "ETCD_INITIAL_ADVERTISE_PEER_URLS": f"http://127.0.0.1:{cairn.peer_port}",
                       "ETCD_INITIAL_CLUSTER": f"env=http://127.0.0.1:{cairn.peer_port}"}
        cairn.arguments = lambda: [str(harness.program("cairn"))]
        cairn.start(environment=environment)
        self.assertEqual(cairn.client().members()[0][1], "env")
        self.assertTrue((self.dir / "from-env/member/snap/db").exists())

    def test_permissions(self):
        cairn = self.server("cairn", flags=["--wal-dir", f"{self.dir}/wal/", "--data-dir", f"{self.dir}/data//"])
        cairn.data_dir = self.dir / "data"
        cairn.start()
        cairn.client().put(b"a", b"b")
        cairn.stop()
        self.assertFalse((cairn.data_dir / "member/wal").exists())
        for root in (cairn.data_dir, self.dir / "wal"):
            for path in [root, *root.rglob("*")]:
                mode = stat.S_IMODE(path.stat().st_mode)
                self.assertEqual(oct(mode), oct(0o700 if path.is_dir() else 0o600), path)
        cairn.start()
        self.assertEqual(cairn.client().get(b"a").value, b"b")

    def test_restarts_keep_everything(self):
        cairn = self.server("cairn", flags=["--snapshot-count", "50", "--backend-batch-limit", "20"])
        expected, revision = {}, 1
        for round_number in range(4):
            cairn.start()
            client = cairn.client()
            self.assertEqual(client.revision(), revision)
            self.assertEqual({kv.key: kv.value for kv in client.all()}, expected)
            hashed = client.hash_kv()
            for i in range(100):
                key, value = b"k%d" % (i % 37), b"%d.%d" % (round_number, i)
                client.put(key, value)
                expected[key] = value
            client.delete(b"k3")
            expected.pop(b"k3")
            revision += 101
            self.assertNotEqual(client.hash_kv(), hashed)
            if round_number % 2 == 0:
                cairn.kill()
            else:
                cairn.stop()
            self.check_directory(cairn.data_dir)
        self.assertTrue(list((cairn.data_dir / "member/snap").glob("*.snap")), "--snapshot-count is heeded")

    def test_a_new_address_is_published(self):
        cairn = self.server("cairn").start()
        cairn.client().put(b"a", b"b")
        cairn.stop()
        moved = self.server("cairn", ports=(harness.free_port(), cairn.peer_port), name="renamed").start()
        self.assertEqual(moved.client().members()[0][1:4:2], ("renamed", (f"http://{moved.endpoint}",)))


class Pages(harness.Case):
    """Lists that are read page by page at one revision, while everything changes."""

    def test_pages_are_of_one_revision_and_hold_no_compaction_up(self):
        cairn = self.server("cairn").start()
        client = cairn.client()
        keys = [b"k%05d" % i for i in range(6000)]
        client.put_many((key, b"old") for key in keys)
        first = client.range(b"k", b"l", limit=1000)
        revision = client.revision()
        found = [rpc.KeyValue(raw) for raw in first[2]]
        number = 0
        while len(found) < len(keys):
            client.put_many((keys[(i * 7) % len(keys)], b"new") for i in range(number, number + 700))
            client.delete(keys[number % len(keys)])
            client.put(b"k%05d+" % number, b"born later")
            number += 700
            page = client.range(found[-1].key + b"\0", b"l", revision=revision, limit=1000)
            self.assertEqual(rpc.first(page, 4), len(keys) - len(found))
            found += [rpc.KeyValue(raw) for raw in page[2]]
        self.assertEqual([kv.key for kv in found], keys)
        self.assertEqual({kv.value for kv in found}, {b"old"})
        began = time.monotonic()
        client.compact(revision + 1, physical=True)
        self.assertLess(time.monotonic() - began, 60, "the roots of the list were in the way")
        with self.assertRaises(rpc.GrpcError) as caught:
            client.range(b"k", b"l", revision=revision, limit=1000)
        self.assertEqual(caught.exception.message, "etcdserver: mvcc: required revision has been compacted")


class Clients(harness.Case):
    """Clients that ask for what is not there, ask for too much, stop reading, or leave."""

    def setUp(self):
        super().setUp()
        self.cairn = self.server("cairn").start()

    def refused(self, path, message=b"", **how):
        with rpc.Connection(self.cairn.client_port) as connection:
            with self.assertRaises(rpc.GrpcError) as caught:
                connection.unary(path, message, **how)
        return caught.exception.code, caught.exception.message

    def test_what_is_not_there(self):
        self.assertEqual(self.refused("/etcdserverpb.KV/Nothing"),
                         (rpc.UNIMPLEMENTED, "unknown method Nothing for service etcdserverpb.KV"))
        self.assertEqual(self.refused("/no.Service/Nothing"), (rpc.UNIMPLEMENTED, "unknown service no.Service"))
        self.assertEqual(self.refused("/nothing")[0], rpc.UNIMPLEMENTED)

    def test_messages_that_are_none(self):
        code, _ = self.refused("/etcdserverpb.KV/Put", b"\xff\xff\xff")
        self.assertEqual(code, 13)
        self.assertEqual(self.refused("/etcdserverpb.KV/Put", rpc.put_request(b"", b"x")),
                         (rpc.INVALID_ARGUMENT, "etcdserver: key is not provided"))
        code, text = self.refused("/etcdserverpb.KV/Put", rpc.put_request(b"k", b"x" * (1536 * 1024)))
        self.assertEqual((code, text), (rpc.INVALID_ARGUMENT, "etcdserver: request is too large"))
        code, text = self.refused("/etcdserverpb.KV/Put", rpc.put_request(b"k", b"x" * (3 << 20)))
        self.assertEqual(code, rpc.RESOURCE_EXHAUSTED, text)
        self.assertEqual(self.cairn.client().revision(), 1)

    def fill(self, megabytes):
        client = self.cairn.client()
        value = os.urandom(MEGABYTE)
        client.pipeline((("/etcdserverpb.KV/Put", rpc.put_request(b"big/%04d" % i, value[i:] + value[:i]))
                         for i in range(megabytes)), window=4)
        self.assertEqual(client.revision(), megabytes + 1)
        return value

    def settled_kb(self):
        """Anonymous memory once it stands still."""
        seen = [self.cairn.anonymous_kb()]
        for _ in range(40):
            time.sleep(0.1)
            seen.append(self.cairn.anonymous_kb())
            if len(seen) > 8 and max(seen[-8:]) - min(seen[-8:]) < 64:
                break
        return seen[-1]

    def test_a_long_list_to_a_slow_reader(self):
        megabytes = 200
        value = self.fill(megabytes)
        self.cairn.stop()  # the buffers of the load go with it
        self.cairn.start()
        with rpc.Connection(self.cairn.client_port, timeout=60) as connection:
            connection.unary("/etcdserverpb.KV/Range", rpc.enc((1, b"big/0000")))
            before = self.settled_kb()
            call = connection.start("/etcdserverpb.KV/Range", rpc.enc((1, b"big/"), (2, b"big0")))
            while call.body_bytes < 5 * MEGABYTE:
                connection.read_frame()
            stalled = self.settled_kb() - before  # we do not read; the system's socket buffers are full
            self.assertLess(stalled, 4096, "kilobytes for a reader that stopped")
            other = rpc.Client(self.cairn.client_port)
            other.put(b"others", b"go on")
            other.close()
            most = 0
            while not call.ended:
                connection.read_frame()
                if call.body_bytes % (8 * MEGABYTE) < 16384:
                    most = max(most, self.cairn.anonymous_kb() - before)
            self.assertLess(most, 4096, "kilobytes while it reads on")
            answer = rpc.dec(connection.finish(call)[0])
        self.assertEqual(rpc.first(answer, 4), megabytes)
        kvs = [rpc.KeyValue(raw) for raw in answer[2]]
        for i, kv in enumerate(kvs):
            self.assertEqual((kv.key, kv.mod), (b"big/%04d" % i, i + 2))
            self.assertTrue(kv.value == value[i:] + value[:i], kv.key)
        self.assertEqual(len(kvs), megabytes)

    def test_many_readers_that_stop_and_leave(self):
        self.fill(40)
        before = self.settled_kb()
        after = []
        for _ in range(4):
            connections = [rpc.Connection(self.cairn.client_port, stream_window=65535) for _ in range(50)]
            for connection in connections:
                self.addCleanup(connection.close)
                connection.start("/etcdserverpb.KV/Range", rpc.enc((1, b"big/"), (2, b"big0")))
            time.sleep(1)
            # Each holds the value that it is in the middle of, 1 MB, and what is queued for the socket.
            self.assertLess(self.settled_kb() - before, 50 * (1024 + 384), "kilobytes for 50 readers that stopped")
            for connection in connections:
                connection.close()
            self.cairn.client().put(b"a", b"b")
            after.append(self.settled_kb())
        self.assertLess(max(after[2:]) - min(after[:2]), 16 * 1024, f"kilobytes that stay behind: {after}")
        self.cairn.client().compact(30, physical=True)  # nobody holds an old revision any more

    def test_cancelled_calls_are_forgotten(self):
        self.fill(20)
        with rpc.Connection(self.cairn.client_port, stream_window=65535) as connection:
            for i in range(500):
                call = connection.start("/etcdserverpb.KV/Range", rpc.enc((1, b"big/"), (2, b"big0")))
                if i % 2:
                    while call.headers is None:
                        connection.read_frame()
                connection.reset(call)
                if i % 5 == 0:
                    put = connection.start("/etcdserverpb.KV/Put", rpc.put_request(b"c", b"%d" % i))
                    connection.reset(put)  # may or may not happen
            connection.unary("/etcdserverpb.KV/Range", rpc.enc((1, b"c")))
            snapshot = connection.start("/etcdserverpb.Maintenance/Snapshot", b"")
            while snapshot.body_bytes < 1000:
                connection.read_frame()
            connection.reset(snapshot)
            connection.unary("/etcdserverpb.KV/Put", rpc.put_request(b"d", b""))

    def test_deadlines(self):
        self.fill(20)
        code, text = self.refused("/etcdserverpb.KV/Put", rpc.put_request(b"a", b"b"), grpc_timeout="1n")
        self.assertEqual(code, rpc.DEADLINE_EXCEEDED, text)
        with rpc.Connection(self.cairn.client_port, stream_window=65535) as connection:
            began = time.monotonic()
            call = connection.start("/etcdserverpb.Maintenance/Snapshot", b"", grpc_timeout="300m")
            call.keep = False
            while call.headers is None:
                connection.read_frame()
            time.sleep(0.6)  # nothing is read: the server ends it by its own clock
            with self.assertRaises(rpc.GrpcError) as caught:
                connection.finish(call)
            self.assertIn(caught.exception.code, (rpc.DEADLINE_EXCEEDED, rpc.CANCELLED))
            self.assertLess(time.monotonic() - began, 30)
            self.assertEqual(len(connection.unary("/etcdserverpb.KV/Put", rpc.put_request(b"x", b"y"),
                                                  grpc_timeout="60S")) > 0, True)

    def test_connections_that_talk_nonsense(self):
        import socket
        for hello in (b"\0" * 100, b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", b"GET " + b"x" * 100_000, b"\x16\x03\x01\x02",
                      b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 200):
            with socket.create_connection(("127.0.0.1", self.cairn.client_port), timeout=20) as sock:
                sock.settimeout(20)
                try:
                    sock.sendall(hello)
                    sock.shutdown(socket.SHUT_WR)
                    while sock.recv(65536):
                        pass
                except ConnectionError:
                    pass
        self.cairn.client().put(b"a", b"b")

    def test_many_connections(self):
        connections = [rpc.Connection(self.cairn.client_port) for _ in range(300)]
        for i, connection in enumerate(connections):
            connection.unary("/etcdserverpb.KV/Put", rpc.put_request(b"%d" % i, b"x"))
        self.assertEqual(self.cairn.client().revision(), 301)
        for connection in connections:
            connection.close()


if __name__ == "__main__":
    harness.main()
