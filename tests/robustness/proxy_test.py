"""The proxy that tests put between members: what it promises of bytes, and that real members live behind it."""

import itertools
import pathlib
import select
import signal
import socket
import struct
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import cluster  # noqa: E402
import harness  # noqa: E402
import proxy  # noqa: E402


class Receiver:
    """Takes one connection at a time."""

    def __init__(self, port):
        self.sock = socket.create_server(("127.0.0.1", port))
        self.sock.settimeout(60)

    def accept(self):
        connection, _ = self.sock.accept()
        connection.settimeout(60)
        return connection


def is_silent(connection, seconds=0.2):
    """Of a link that must not carry anything: more time would not change the answer of a right proxy."""
    return not select.select([connection], [], [], seconds)[0]


def exactly(connection, size):
    out = b""
    while len(out) < size:
        piece = connection.recv(size - len(out))
        if not piece:
            raise ConnectionError(f"ended after {len(out)} of {size} bytes")
        out += piece
    return out


class Bytes(unittest.TestCase):
    """From "a", who dials, to "b"; and back."""

    def setUp(self):
        self.proxy = proxy.Proxy()
        self.addCleanup(self.proxy.close)
        self.target, self.port = harness.free_port(), harness.free_port()
        self.receiver = Receiver(self.target)
        self.addCleanup(self.receiver.sock.close)
        self.proxy.add("b", self.port, self.target, "a")

    def pair(self):
        a = socket.create_connection(("127.0.0.1", self.port), 60)
        b = self.receiver.accept()
        for one in (a, b):
            self.addCleanup(one.close)
        return a, b

    def test_bytes_go_both_ways_and_ends_are_told(self):
        a, b = self.pair()
        sent = bytes(range(256)) * 40_000
        sender = threading.Thread(target=lambda: (a.sendall(sent), a.shutdown(socket.SHUT_WR)))
        sender.start()
        self.assertEqual(exactly(b, len(sent)), sent)
        self.assertEqual(b.recv(1), b"")
        sender.join()
        b.sendall(b"after the other side has ended")
        self.assertEqual(exactly(a, 30), b"after the other side has ended")
        b.close()
        self.assertEqual(a.recv(1), b"")
        self.assertEqual(self.proxy.bytes_sent()[("a", "b")], len(sent))

    def test_who_comes_while_the_proxy_begins_to_refuse_is_refused(self):
        process = self.proxy.process
        for verb in ("refuse", "remove"):
            process.send_signal(signal.SIGSTOP)
            process.stdin.write(f"{verb} b\n")
            process.stdin.flush()
            late = socket.socket()
            self.addCleanup(late.close)
            late.settimeout(60)
            late.connect(("127.0.0.1", self.port))
            process.send_signal(signal.SIGCONT)
            self.assertTrue(process.stdout.readline().startswith("ok"))
            self.assertRaises(ConnectionResetError, late.recv, 1)
            self.proxy.accept("b") if verb == "refuse" else self.proxy.add("b", self.port, self.target, "a")
        a, b = self.pair()
        a.sendall(b"it goes on")
        self.assertEqual(exactly(b, 10), b"it goes on")

    def test_a_link_that_is_held_goes_on_one_way(self):
        a, b = self.pair()
        self.proxy.hold("a", "b")
        a.sendall(b"one")
        b.sendall(b"other way")
        self.assertEqual(exactly(a, 9), b"other way")
        self.assertTrue(is_silent(b))
        late = socket.create_connection(("127.0.0.1", self.port), 60)  # taken, and the target hears nothing of it
        self.addCleanup(late.close)
        self.assertTrue(is_silent(self.receiver.sock))
        self.proxy.heal("a", "b")
        self.assertEqual(exactly(b, 3), b"one")
        late.sendall(b"late")
        second = self.receiver.accept()
        self.addCleanup(second.close)
        self.assertEqual(exactly(second, 4), b"late")

    def test_what_is_dropped_ends_the_connection_when_healed(self):
        a, b = self.pair()
        self.proxy.drop("a", "b")
        a.sendall(b"lost")
        harness.until(lambda: self.proxy.bytes_sent()[("a", "b")] == 4)
        self.assertTrue(is_silent(b))
        self.proxy.heal("a", "b")
        for one in (a, b):
            with self.assertRaises(ConnectionResetError):
                exactly(one, 1)

    def test_what_lost_nothing_lives_on(self):
        a, b = self.pair()
        self.proxy.drop("a", "b")
        self.proxy.heal("a", "b")
        a.sendall(b"x")
        self.assertEqual(exactly(b, 1), b"x")

    def test_delay_and_rate(self):
        a, b = self.pair()
        self.proxy.delay("a", "b", 300)
        began = time.monotonic()
        a.sendall(b"x")
        exactly(b, 1)
        self.assertGreaterEqual(time.monotonic() - began, 0.29)
        b.sendall(b"y")
        exactly(a, 1)
        self.proxy.heal("a", "b")
        self.proxy.rate("a", "b", 100_000)
        began = time.monotonic()
        a.sendall(bytes(50_000))
        exactly(b, 50_000)
        self.assertGreaterEqual(time.monotonic() - began, 0.45)

    def test_reset_and_half_open(self):
        a, b = self.pair()
        self.proxy.reset("a", "b")
        for one in (a, b):
            with self.assertRaises(ConnectionResetError):
                exactly(one, 1)
        a, b = self.pair()
        self.proxy.vanish("a", "b")
        with self.assertRaises(ConnectionResetError):
            exactly(b, 1)
        a.sendall(b"nobody reads this")
        self.assertTrue(is_silent(a))
        c, d = self.pair()  # a new one works
        c.sendall(b"x")
        self.assertEqual(exactly(d, 1), b"x")

    def test_a_reset_is_passed_on(self):
        a, b = self.pair()
        a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        a.close()
        with self.assertRaises(ConnectionResetError):
            exactly(b, 1)

    def test_refused(self):
        self.proxy.refuse("b")
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", self.port), 60)
        self.proxy.accept("b")
        self.pair()
        self.receiver.sock.close()
        with self.assertRaises(ConnectionResetError):  # a target that is gone, and nobody said so
            with socket.create_connection(("127.0.0.1", self.port), 60) as late:  # may be told already
                exactly(late, 1)

    def test_it_says_what_it_does_not_know(self):
        for words in (["nonsense"], ["add", "c", "70000", "1"], ["delay", "a", "b", "x"], ["refuse", "c"],
                      ["add", "b", "1", "1"]):
            with self.assertRaisesRegex(AssertionError, "error"):
                self.proxy.tell(*words)


class Members(cluster.ClusterCase):
    def setUp(self):
        super().setUp()
        cluster.require("etcd37")
        self.between = proxy.Proxy()
        self.addCleanup(self.between.close)

    def three(self):
        return self.cluster(["etcd37"] * 3, proxy=self.between,
                            flags=["--heartbeat-interval", "50", "--election-timeout", "500"]).start()

    def test_a_leader_that_is_cut_off(self):
        """Both ways, then only what it says: each time another leads, and afterwards all are equal."""
        three = self.three()
        for cut in ("both", "out"):
            three.do(lambda client: client.put(b"k", cut.encode()))
            leader = three.wait_leader()
            others = [one for one in three.members if one is not leader]
            for other in others:
                self.between.drop(leader.name, other.name)
                if cut == "both":
                    self.between.drop(other.name, leader.name)
            harness.until(lambda: three.leader() in others, what=three.describe)
            three.do(lambda client: client.put(b"while/cut", cut.encode()), others[0])
            self.between.heal_all()
            three.wait_healthy()
            three.check_equal()
        sent = self.between.bytes_sent()
        for a, b in itertools.permutations(three.members, 2):
            self.assertGreater(sent[(a.name, b.name)], 0)

    def test_one_link_alone_that_is_cut(self):
        """The follower behind it has no leader, although a third member hears both."""
        three = self.three()
        leader = three.wait_leader()
        cut, third = [one for one in three.members if one is not leader]
        self.between.partition([leader.name], [cut.name])
        harness.until(lambda: (cut.status() or {"leader": 1})["leader"] == 0 or three.leader() is not leader,
                      what=three.describe)
        three.do(lambda client: client.put(b"k", b"v"), third)
        self.between.heal_all()
        three.wait_healthy()
        three.check_equal()


if __name__ == "__main__":
    harness.main()
