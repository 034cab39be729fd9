"""What comes after idle time is not late: deadlines, timers and intervals after a pause.

A pause is one of three. "idle": nobody asks for anything. "stopped": SIGSTOP and, later, SIGCONT. "shifted": the
server's clocks jump (tests/time/shifted_clock.cc), so that minutes and hours can pass too. Each case prepares, then the
pause comes, then it looks: nothing that began after the pause may be taken as late, what lasted through it may end only
by a timer that it is under, and timers of before still fire.

Intervals of Cairn that are looked at: grpc-timeout, the request timeout (7 s), keepalive pings, pings that are too many,
headers and bodies of HTTP/1 (5 minutes), readers that take nothing (30 s), commits and looks at the disk (1 s), index
checkpoints, raft's ticks, the grace of a stop.
"""

import pathlib
import os
import signal
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
import harness  # noqa: E402
import rpc  # noqa: E402

PAUSE_SECONDS = 7.0  # idle or stopped; longer than the deadlines that follow it
SHIFT_SECONDS = 400.0  # longer than every timer but the keepalive's
SOON_SECONDS = 90.0  # for what takes a moment


class Timed(harness.Case):
    """A server whose clock can be shifted."""

    def setUp(self):
        super().setUp()
        self.library = harness.program("cairn_shifted_clock.so")
        if not self.library.exists():
            self.skipTest(f"{self.library} is missing")
        self.shifts = {}

    def timed_server(self, name, flags=()):
        server = self.server("cairn", self.dir / name, flags=flags)
        control = self.dir / f"{name}.clock"
        control.write_bytes(bytes(16))
        self.shifts[server] = 0.0
        server.start(environment={"PATH": os.environ["PATH"], "LD_PRELOAD": str(self.library),
                                  "CAIRN_SHIFTED_CLOCK": str(control)})
        server.control = control
        return server

    def set_control(self, server, free_bytes=0):
        with open(server.control, "r+b") as file:
            file.write(struct.pack("<qQ", int(self.shifts[server] * 1e9), free_bytes))

    def shift(self, server, seconds=SHIFT_SECONDS):
        """Lets time pass for a server that waits: one that idles was doing nothing when its idleness began."""
        harness.until(lambda: server.thread_states() == server.thread_states() == {"S"}, what="the server does not rest")
        self.shifts[server] += seconds
        self.set_control(server)

    def poke(self, server):
        """Wakes each io thread, so that timers that a shift made due are looked at."""
        for _ in range(8):
            server.http("/version")


# What comes after a pause


def put_in_time(test, server, client):
    began = time.monotonic()
    client.put(b"after", b"x", grpc_timeout="6S")
    test.assertLess(time.monotonic() - began, SOON_SECONDS)


def get_in_time(_test, _server, client):
    client.range(b"after", grpc_timeout="6S")


def connect(_test, server, _client):
    with rpc.Client(server.client_port) as newcomer:
        newcomer.put(b"after", b"x", grpc_timeout="6S")


def connect_slowly(test, server, _client):
    """The first bytes come a moment after the connection."""
    with socket.create_connection(("127.0.0.1", server.client_port), timeout=SOON_SECONDS) as sock:
        time.sleep(0.1)
        sock.sendall(b"GET /version HTTP/1.1\r\nHost: a\r\n")
        time.sleep(0.1)
        sock.sendall(b"Connection: close\r\n\r\n")
        test.assertIn(b"200 OK", sock.recv(100))


def ask_over_http(test, server, _client):
    test.assertEqual(server.http("/health")[0], 200)


def send_a_body_in_halves(test, server, _client):
    with socket.create_connection(("127.0.0.1", server.client_port), timeout=SOON_SECONDS) as sock:
        sock.sendall(b"POST /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\nab")
        time.sleep(0.2)
        sock.sendall(b"cd")
        test.assertIn(b" 404 ", sock.recv(100))


AFTERWARDS = [put_in_time, get_in_time, connect, connect_slowly, ask_over_http, send_a_body_in_halves]


class WhatComesNext(Timed):
    """The first thing after a pause, each on a server that nothing else has woken."""

    def check(self, pause, count=1):
        cases = []
        for what in AFTERWARDS:
            server = self.timed_server(what.__name__)
            client = server.client()
            client.put(b"before", b"x")
            cases.append((what, server, client, client.status()["term"]))
        for _ in range(count):
            pause([server for _, server, _, _ in cases])
            for what, server, client, term in cases:
                with self.subTest(what.__name__):
                    what(self, server, client)
                    client.put(b"then", b"y", grpc_timeout="60S")
                    self.assertEqual(client.status()["term"], term, "an election was held")
        for _, server, _, _ in cases:
            self.assertEqual(server.stop(), -signal.SIGTERM)

    def test_idle(self):
        self.check(lambda _: time.sleep(PAUSE_SECONDS))

    def test_stopped(self):
        def pause(servers):
            for server in servers:
                server.process.send_signal(signal.SIGSTOP)
            time.sleep(PAUSE_SECONDS)
            for server in servers:
                server.process.send_signal(signal.SIGCONT)

        self.check(pause)

    def test_shifted(self):
        def pause(servers):
            for server in servers:
                self.shift(server)

        self.check(pause, count=4)

    def test_asked_while_stopped(self):
        """A question that waited in the socket is as fresh as one that came later."""
        server = self.timed_server("asked")
        client = server.client()
        client.put(b"before", b"x")
        server.process.send_signal(signal.SIGSTOP)
        harness.until(lambda: server.thread_states() == {"T"})
        call = client.connection.start("/etcdserverpb.KV/Put", rpc.put_request(b"k", b"v"), grpc_timeout="6S")
        time.sleep(PAUSE_SECONDS)
        server.process.send_signal(signal.SIGCONT)
        client.connection.finish(call, SOON_SECONDS)


class Keepalive(Timed):
    FLAGS = ("--grpc-keepalive-interval=1s", "--grpc-keepalive-timeout=5s")

    def reader(self, connection):
        """Answers pings; ends when the connection does."""
        def read():
            try:
                while True:
                    connection.read_frame(60)
            except (OSError, ValueError):
                self.gone.set()

        self.gone = threading.Event()
        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread

    def test_who_answers_stays(self):
        """Pings of before a pause are answered by what waits in the socket."""
        server = self.timed_server("answers", self.FLAGS)
        connection = rpc.Connection(server.client_port)
        self.addCleanup(connection.close)
        self.reader(connection)
        time.sleep(0.5)
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(PAUSE_SECONDS)
        server.process.send_signal(signal.SIGCONT)
        for _ in range(5):
            self.shift(server, 100.0)
            self.poke(server)
            self.assertFalse(self.gone.wait(0.3), "a client that answers was closed")

    def test_who_is_silent_goes(self):
        server = self.timed_server("silent", self.FLAGS)
        connection = rpc.Connection(server.client_port)
        self.addCleanup(connection.close)
        connection.unary("/etcdserverpb.KV/Range", rpc.enc((1, b"x")))
        connection.sock.settimeout(SOON_SECONDS)
        while connection.sock.recv(4096):  # reads and answers nothing
            pass

    def test_pings_at_long_intervals_are_not_too_many(self):
        server = self.timed_server("pings")
        connection = rpc.Connection(server.client_port)
        self.addCleanup(connection.close)
        connection.start("/etcdserverpb.KV/Put", end=False)  # with a call, one ping in five seconds is allowed
        for _ in range(6):
            self.shift(server, 6.0)
            connection.ping()
            while connection.read_frame(SOON_SECONDS) != rpc.PING:
                pass
        self.assertIsNone(connection.goaway)


class TimersOfBefore(Timed):
    """What was begun before a pause ends by its own timer, and by no other."""

    def setUp(self):
        super().setUp()
        self.cairn = self.timed_server("m")

    def test_a_deadline_passes(self):
        with rpc.Connection(self.cairn.client_port) as connection:
            call = connection.start("/etcdserverpb.KV/Put", end=False, grpc_timeout="1M")
            other = connection.start("/etcdserverpb.KV/Put", end=False, grpc_timeout="1H")
            connection.unary("/etcdserverpb.KV/Range", rpc.enc((1, b"x")))  # both have been seen
            self.shift(self.cairn, 61.0)
            self.poke(self.cairn)
            with self.assertRaises(rpc.GrpcError) as caught:
                connection.finish(call, SOON_SECONDS)
            self.assertEqual(caught.exception.code, rpc.DEADLINE_EXCEEDED)
            self.assertFalse(other.ended)

    def test_half_headers_end(self):
        halves = []
        for begun in (b"", b"GET /vers", b"GET /version HTTP/1.1\r\nX-"):
            sock = socket.create_connection(("127.0.0.1", self.cairn.client_port), timeout=SOON_SECONDS)
            self.addCleanup(sock.close)
            sock.sendall(begun)
            halves.append(sock)
        self.poke(self.cairn)
        self.shift(self.cairn, 250.0)
        self.poke(self.cairn)
        for sock in halves:
            sock.setblocking(False)
            with self.assertRaises(BlockingIOError):
                sock.recv(1)
            sock.settimeout(SOON_SECONDS)
        self.shift(self.cairn, 60.0)
        self.poke(self.cairn)
        for sock in halves:
            while sock.recv(4096):  # closed, perhaps after 408
                pass

    def test_a_reader_that_takes_nothing_ends_and_a_slow_one_goes_on(self):
        client = self.cairn.client()
        for i in range(12):
            client.put(b"big/%02d" % i, b"v" * (1 << 20))
        request = rpc.enc((1, b"big/"), (2, b"big0"))
        slow = rpc.Connection(self.cairn.client_port, stream_window=65535)
        stopped = rpc.Connection(self.cairn.client_port, stream_window=65535)
        self.addCleanup(slow.close)
        self.addCleanup(stopped.close)
        calls = [one.start("/etcdserverpb.KV/Range", request) for one in (slow, stopped)]
        for call, connection in zip(calls, (slow, stopped)):
            while call.body_bytes < 65535:
                connection.read_frame()
        # A look comes each 7.5 seconds, and one that is late by as much says that the process stood still. The slow
        # reader takes something between them.
        for _ in range(12):
            self.take_for(slow, calls[0], 0.3)
            self.shift(self.cairn, 8.0)
            self.poke(self.cairn)
        self.assertFalse(calls[0].ended, calls[0].ended and calls[0].status())
        with self.assertRaises(rpc.GrpcError):
            stopped.finish(calls[1], SOON_SECONDS)
        self.assertIn("ending a call whose client does not take its answer", self.cairn.log_text())
        slow.finish(calls[0])

    def take_for(self, connection, call, seconds):
        deadline, before = time.monotonic() + seconds, call.body_bytes
        while (time.monotonic() < deadline or call.body_bytes == before) and not call.ended:
            connection.read_frame()
            time.sleep(0.02)


class Leases(Timed):
    """A lease ends at its time: not before, because of a pause, a jump or a restart, and not much later."""

    def setUp(self):
        super().setUp()
        self.cairn = self.timed_server("m")
        self.client = self.cairn.client()

    def gone(self, number):
        return self.client.lease_time_to_live(number)[0] == -1

    def stop_for(self, seconds):
        self.cairn.process.send_signal(signal.SIGSTOP)
        harness.until(lambda: self.cairn.thread_states() == {"T"})
        time.sleep(seconds)
        self.cairn.process.send_signal(signal.SIGCONT)

    def test_a_renewal_that_waited_in_the_socket_counts(self):
        self.client.lease_grant(7, 6)
        self.client.put(b"leased", b"x", lease=7)
        self.cairn.process.send_signal(signal.SIGSTOP)
        harness.until(lambda: self.cairn.thread_states() == {"T"})
        call = self.client.connection.start("/etcdserverpb.Lease/LeaseKeepAlive", rpc.enc((1, 7)))
        time.sleep(6 + PAUSE_SECONDS)
        self.cairn.process.send_signal(signal.SIGCONT)
        answer = rpc.dec(self.client.connection.finish(call, SOON_SECONDS)[0])
        self.assertEqual(rpc.first(answer, 3), 6)
        self.assertIsNotNone(self.client.get(b"leased"))
        harness.until(lambda: self.gone(7))
        self.assertIsNone(self.client.get(b"leased"))

    def test_a_lease_that_nobody_renews_ends_after_a_stop(self):
        self.client.lease_grant(7, 3)
        self.stop_for(3 + PAUSE_SECONDS)
        harness.until(lambda: self.gone(7))

    def test_a_jump_of_the_clocks_ends_what_is_over_and_nothing_else(self):
        self.client.lease_grant(7, 300)
        self.client.lease_grant(8, 3000)
        self.shift(self.cairn)
        harness.until(lambda: self.gone(7))
        left, granted, _ = self.client.lease_time_to_live(8)
        self.assertEqual(granted, 3000)
        self.assertLessEqual(left, 2600)
        self.assertGreaterEqual(left, 2600 - SOON_SECONDS)

    def test_not_early_over_restarts(self):
        self.client.lease_grant(7, 4)
        self.client.lease_grant(8, 2)
        for end in (self.cairn.kill, self.cairn.stop):
            time.sleep(2)
            end()
            began = time.monotonic()
            self.cairn.start()
        self.client = self.cairn.client()
        while not self.gone(8):
            self.assertLess(time.monotonic() - began, SOON_SECONDS)
        self.assertGreaterEqual(time.monotonic() - began, 2 + 1)  # an election timeout more
        while not self.gone(7):
            self.assertLess(time.monotonic() - began, SOON_SECONDS)
        self.assertGreaterEqual(time.monotonic() - began, 4 + 1)


class Intervals(Timed):
    """What a member does by itself goes on after a pause, and not during one."""

    COMMITS = "etcd_disk_backend_commit_duration_seconds_count"

    def setUp(self):
        super().setUp()
        self.cairn = self.timed_server("m")
        self.client = self.cairn.client()

    def commits(self):
        return self.cairn.metric(self.COMMITS)

    def settled_commits(self):
        """Once looks agree that are further apart than an interval."""
        seen = [-1.0]
        while len(seen) < 3 or len(set(seen[-3:])) > 1:
            time.sleep(1.5)
            seen.append(self.commits())
        return seen[-1]

    def test_commits(self):
        self.client.put(b"a", b"b")
        before = self.settled_commits()
        self.shift(self.cairn)
        self.poke(self.cairn)
        time.sleep(1.5)
        self.assertEqual(self.commits(), before, "a commit without a change")
        for _ in range(3):
            self.shift(self.cairn)
            before = self.commits()
            self.client.put(b"a", b"b")
            harness.until(lambda: self.commits() > before, what="no commit after a put")

    def test_checkpoints(self):
        folder = self.cairn.data_dir / "member/cairn"
        before = set(folder.iterdir())
        self.shift(self.cairn)
        self.client.pipeline((("/etcdserverpb.KV/Put", rpc.put_request(b"k%06d" % i, b"")) for i in range(55_000)), 500)
        harness.until(lambda: set(folder.iterdir()) - before, what="no index checkpoint after 55,000 puts")

    def test_looks_at_the_disk(self):
        self.shift(self.cairn)
        self.client.put(b"a", b"b")
        self.assertEqual(self.client.alarm(0), [])
        self.shift(self.cairn)
        self.set_control(self.cairn, free_bytes=1 << 20)
        harness.until(lambda: self.client.alarm(0), what="a disk that is nearly full was not seen")
        self.set_control(self.cairn)

    def test_raft_keeps_its_leader(self):
        before = self.client.status()
        for _ in range(5):
            self.shift(self.cairn, 3600.0)
            self.client.put(b"a", b"b", grpc_timeout="6S")
            after = self.client.status()
            self.assertEqual((after["term"], after["leader"]), (before["term"], before["leader"]))

    def test_a_restart_after_a_shift(self):
        self.client.put(b"a", b"b")
        self.shift(self.cairn)
        began = time.monotonic()
        self.assertEqual(self.cairn.stop(), -signal.SIGTERM)
        self.assertLess(time.monotonic() - began, SOON_SECONDS)
        self.assertIn("closed etcd server", self.cairn.log_text())


if __name__ == "__main__":
    harness.main()
