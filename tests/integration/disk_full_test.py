"""A disk that fills up: puts are refused before it is full, deletes and compaction go on, nothing acknowledged is lost.

On a tmpfs of its own, so it needs to be root and to be allowed to mount; elsewhere it is skipped.
"""

import os
import pathlib
import subprocess
import threading
import time

import harness
import rpc

MEGABYTE = 1 << 20
NOSPACE = 1


class DiskFull(harness.Case):
    def setUp(self):
        super().setUp()
        self.disk = self.dir / "disk"
        self.disk.mkdir()

    def mount(self, megabytes):
        if os.geteuid() != 0:
            self.skipTest("needs to be root, to mount a tmpfs")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", str(self.disk)],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            self.skipTest("cannot mount a tmpfs: " + done.stderr.strip())
        self.addCleanup(subprocess.run, ["umount", "-l", str(self.disk)], check=False)
        # Servers go before the disk does: clean-ups run last first.
        self.addCleanup(lambda: [server.kill() for server in self.servers])

    def free(self):
        stat = os.statvfs(self.disk)
        return stat.f_bavail * stat.f_frsize

    def eat(self, name, leave):
        """Takes space from others' programs until `leave` bytes are free."""
        path = self.disk / name
        with open(path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(4096, self.free() - leave))
        return path

    def load(self, server, journal, seconds=60, writers=32, value=3000):
        done = subprocess.run([str(harness.program("cairn_verify_load")), "load", "--port", str(server.client_port),
                               "--journal", str(journal), "--seconds", str(seconds), "--writers", str(writers),
                               "--value", str(value)], capture_output=True, text=True, timeout=seconds + 60,
                              check=False)
        return done

    def verify(self, server, journal, value=3000):
        self.run_tool("cairn_verify_load", "verify", "--port", server.client_port, "--journal", journal,
                      "--value", value)

    def assert_refused(self, client):
        with self.assertRaises(rpc.GrpcError) as caught:
            client.put(b"x", b"y")
        self.assertEqual((caught.exception.code, caught.exception.message),
                         (rpc.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"))

    @harness.needs("cairn_verify_load", "cairn_check_db")
    def test_filled_by_its_own_puts(self):
        self.mount(260)
        cairn = self.server("cairn", self.disk / "data").start()
        journal = self.dir / "journal"
        loaded = self.load(cairn, journal)
        self.assertEqual(loaded.returncode, 3, "no space was said: " + loaded.stdout + loaded.stderr + cairn.log_tail())
        self.assertGreater(int(loaded.stdout.split()[-1]), 10_000)
        client = cairn.client()
        harness.until(lambda: client.alarm(0))
        self.assertEqual(client.alarm(0), [(client.status()["member_id"], NOSPACE)])
        self.assert_refused(client)
        with self.assertRaisesRegex(rpc.GrpcError, "space exceeded"):
            client.txn([], [rpc.op_put(b"x", b"y")])
        self.assertEqual(cairn.http("/health")[0], 503)
        self.assertGreater(self.free(), MEGABYTE, "stopped before the end")
        self.verify(cairn, journal)  # all reads go on

        # As it is, it ends and starts again.
        for end in (cairn.kill, cairn.stop):
            end()
            self.check_directory(cairn.data_dir)
            cairn.start()
            self.verify(cairn, journal)
        client = cairn.client()
        self.assert_refused(client)

        # The operator makes room: deletes, compaction. What becomes free in the file is room as well.
        before = client.revision()
        size = (cairn.data_dir / "member/snap/db").stat().st_size
        deleted = client.delete(b"own/", b"own0")
        self.assertGreater(deleted, 10_000)
        client.compact(before + 1, physical=True)
        harness.until(lambda: "there is space again" in cairn.log_text(), 60)
        client.alarm(2, client.status()["member_id"], NOSPACE)
        self.assertEqual(client.put(b"x", b"y"), before + 2)
        value = os.urandom(3000)
        client.pipeline((("/etcdserverpb.KV/Put", rpc.put_request(b"again/%d" % i, value)) for i in range(7000)),
                        window=100)
        time.sleep(2.5)
        self.assertEqual(client.alarm(0), [])
        self.assertEqual(cairn.http("/health")[0], 200)
        self.assertEqual(cairn.log_text().count("the reserved space is given up"), 0)  # once, before the last start
        self.assertEqual(cairn.stop(), -15)
        self.check_directory(cairn.data_dir)
        self.assertLess((cairn.data_dir / "member/snap/db").stat().st_size, size + 8 * MEGABYTE)

    @harness.needs("cairn_verify_load")
    def test_filled_by_others(self):
        self.mount(300)
        cairn = self.server("cairn", self.disk / "data").start()
        journal = self.dir / "journal"
        self.assertEqual(self.load(cairn, journal, seconds=0.5, value=100).returncode, 0)
        eaten = self.eat("others", 20 * MEGABYTE)
        client = cairn.client()
        harness.until(lambda: client.alarm(0))
        self.assert_refused(client)
        # Disarmed while there is still no room: raised again.
        client.alarm(2, client.status()["member_id"], NOSPACE)
        harness.until(lambda: client.alarm(0))
        # The very last byte is taken; deletes live on what was reserved and on what the log has allocated.
        rest = self.eat("the-rest", 0)
        revision = client.revision()
        for i in range(200):
            client.delete(b"own/%03d/" % (i % 32), b"own/%03d0" % (i % 32))
        client.compact(revision)
        self.assertGreater(client.revision(), revision)
        hashed = client.hash_kv()
        cairn.kill()
        cairn.start()
        client = cairn.client()
        self.assertEqual(client.hash_kv(), hashed)
        self.assert_refused(client)
        eaten.unlink()
        rest.unlink()
        harness.until(lambda: "there is space again" in cairn.log_text())
        client.alarm(2, client.status()["member_id"], NOSPACE)
        client.put(b"x", b"y")
        cairn.stop()
        self.check_directory(cairn.data_dir)

    @harness.needs("cairn_check_db")
    def test_a_delete_larger_than_the_room_is_refused(self):
        """Its tombstones would fill the db, and nothing could make room any more."""
        self.mount(400)
        cairn = self.server("cairn", self.disk / "data").start()
        client = cairn.client()
        self.eat("others", 150 * MEGABYTE)
        count = 0
        long = b"/" + 200 * b"x"
        while not client.alarm(0):
            client.pipeline((("/etcdserverpb.KV/Put", rpc.put_request(b"k/%07d" % i + long, b""))
                             for i in range(count, count + 10_000)), window=500)
            count += 10_000
            self.assertLess(count, 1_000_000)
        self.eat("more", 6 * MEGABYTE)  # and the reserve
        time.sleep(1.5)
        before = client.revision()
        for attempt in (lambda: client.delete(b"k/", b"k0"),
                        lambda: client.txn([], [rpc.op_delete(b"k/", b"k0")])):
            with self.assertRaises(rpc.GrpcError) as caught:
                attempt()
            self.assertEqual((caught.exception.code, caught.exception.message),
                             (rpc.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"))
        self.assertEqual(client.revision(), before)
        self.assertIn("delete in smaller pieces", cairn.log_text())
        # In pieces, with compactions between, all of it goes.
        def left():
            return rpc.first(client.range(b"k/", b"k0", count_only=True), 4)

        self.assertGreater(left(), 100_000)
        for piece in range(0, count, 3_000):
            if client.delete(b"k/%07d" % piece, b"k/%07d" % (piece + 3_000)) > 0:  # the last put was refused
                client.compact(client.revision(), physical=True)
        self.assertEqual(left(), 0)
        self.assertNotIn("it is tried again", cairn.log_text())
        hashed = client.hash_kv()
        cairn.kill()
        cairn.start()
        self.assertEqual(cairn.client().hash_kv(), hashed)
        self.assertEqual(cairn.stop(), -15)
        self.check_directory(cairn.data_dir)

    def test_no_room_for_another_segment(self):
        """The log goes on in the segment it has; once there is room it is cut as ever."""
        self.mount(400)
        cairn = self.server("cairn", self.disk / "data").start()
        client = cairn.client()
        value = os.urandom(1000)
        # Some space, but not for a segment of 64 MB; the rest is taken before a spare one can be made.
        eaten = self.eat("others", 60 * MEGABYTE)
        count = 0
        while count < 80_000:  # 80 MB of log; the keys are few, so the db stays small
            client.pipeline((("/etcdserverpb.KV/Put", rpc.put_request(b"k%d" % (i % 100), value))
                             for i in range(count, count + 2000)), window=200)
            count += 2000
            if count % 10_000 == 0:
                client.compact(client.revision() - 100)
            if client.alarm(0):
                break
        segments = sorted((cairn.data_dir / "member/wal").glob("*.wal"))
        eaten.unlink()
        time.sleep(2.5)
        for member, kind in client.alarm(0):
            client.alarm(2, member, kind)
        grown = [s.stat().st_size for s in segments]
        while len(list((cairn.data_dir / "member/wal").glob("*.wal"))) == len(segments):
            client.pipeline((("/etcdserverpb.KV/Put", rpc.put_request(b"k%d" % (i % 100), value))
                             for i in range(2000)), window=200)
            count += 2000
            self.assertLess(count, 300_000, grown)
        hashed, revision = client.hash_kv(), client.revision()
        cairn.kill()
        self.check_directory(cairn.data_dir)
        cairn.start()
        self.assertEqual((cairn.client().hash_kv(), cairn.client().revision()), (hashed, revision))
        if harness.missing("etcd37"):
            return
        cairn.kill()
        etcd = self.server("etcd37", cairn.data_dir, ports=(cairn.client_port, cairn.peer_port)).start()
        self.assertEqual(etcd.client().hash_kv()[0], hashed[0])

    def test_a_copy_with_holes_is_filled_up_before_the_disk_is(self):
        self.mount(220)
        founder = self.server("cairn").start()
        value = os.urandom(1000)
        puts = [("/etcdserverpb.KV/Put", rpc.put_request(b"k%d" % (i % 100), value)) for i in range(20_000)]
        founder.client().pipeline(puts, window=200)
        harness.until((founder.data_dir / "member/wal/0.tmp").exists)
        harness.until((founder.data_dir / "member/cairn/reserve").exists)
        hashed, revision = founder.client().hash_kv(), founder.client().revision()
        founder.stop()  # nothing is left for the db to take in
        data = harness.copy_directory(founder.data_dir, self.disk / "data")
        cairn = self.server("cairn", data, ports=(founder.client_port, founder.peer_port)).start()
        client = cairn.client()
        self.assertEqual((client.hash_kv(), client.revision()), (hashed, revision))
        while self.free() > MEGABYTE:  # the member may take some at the same time
            try:
                self.eat("others", 0)
            except OSError:
                time.sleep(0.05)
        client.pipeline(puts[:2000], window=200)  # the log goes on where its blocks were missing
        harness.until(lambda: client.alarm(0))
        self.assert_refused(client)
        for i in range(50):
            client.delete(b"k%d" % i)
        client.compact(client.revision())
        revision = client.revision()
        for end in (cairn.kill, cairn.stop):
            end()
            cairn.start()
            self.assertEqual(cairn.client().revision(), revision)

    def test_what_the_db_gives_back_is_taken_by_others(self):
        """Holes get no blocks any more. Deletes, compactions and commits go on with the free pages that have some."""
        self.mount(400)
        cairn = self.server("cairn", self.disk / "data")
        cairn.log_path = self.dir / "log"
        client = cairn.start().client()
        value = os.urandom(100_000)
        client.put_many((b"k/%04d" % i, value) for i in range(1060))
        client.delete(b"k/1000", b"k/9999")
        client.compact(client.revision(), physical=True)  # leaves some free pages
        stop = threading.Event()

        def take_all():
            number = 0
            while not stop.wait(0.005):
                try:
                    if self.free() > 0:
                        self.eat(f"others{number}", 0)
                        number += 1
                except OSError:
                    pass  # the member was faster

        others = threading.Thread(target=take_all)
        self.addCleanup(lambda: (stop.set(), others.join()))
        others.start()
        harness.until(lambda: client.alarm(0))
        for piece in range(0, 1000, 20):
            client.delete(b"k/%04d" % piece, b"k/%04d" % (piece + 18))
            if piece % 100 == 0:
                client.compact(client.revision())
        client.compact(client.revision())
        harness.until(lambda: client.status()["in_use_bytes"] < 20 * MEGABYTE)
        before = client.hash_kv(), client.revision()
        cairn.kill()
        client = cairn.start().client()
        self.assertEqual((client.hash_kv(), client.revision()), before)
        client.delete(b"k/", b"k0")
        client.compact(client.revision())
        harness.until(lambda: client.status()["in_use_bytes"] < 2 * MEGABYTE)
        stop.set()
        self.assertEqual(cairn.stop(), -15)
        self.check_directory(cairn.data_dir)

    def test_a_log_that_cannot_be_written_ends_the_process(self):
        self.mount(200)
        wal = self.disk / "wal"
        cairn = self.server("cairn", flags=["--wal-dir", str(wal)]).start()
        client = cairn.client()
        client.put(b"a", b"b")
        segment = next(pathlib.Path(wal).glob("*.wal"))
        self.eat("others", 0)
        # What the log had allocated is taken from it, which no guard can foresee.
        used = bytes(segment.read_bytes()).rstrip(b"\0")
        os.truncate(segment, (len(used) + 4095) // 4096 * 4096)
        self.eat("more", 0)
        member = client.status()["member_id"]
        with self.assertRaises((rpc.GrpcError, OSError)):
            for i in range(100):
                try:
                    client.put(b"a", os.urandom(100_000))
                except rpc.GrpcError as error:
                    if error.code != 8:
                        raise
                    client.alarm(2, member, NOSPACE)  # the guard has looked in between
        self.assertEqual(cairn.wait(), 2)
        self.assertIn("make room on that device", cairn.log_text())
        for name in ("others", "more"):
            (self.disk / name).unlink()
        cairn.start()
        self.assertEqual(cairn.client().get(b"a").version >= 1, True)


if __name__ == "__main__":
    harness.main()
