"""Connections over TLS from their first byte to their last: handshakes that do not end, keepalive, limits, the server's end.

Beside etcd 3.7 where it serves gRPC by itself, which over TLS it does with --listen-client-http-urls only; else gRPC comes
through Go's HTTP library, which has none of the keepalive flags.
"""

import contextlib
import os
import pathlib
import select
import signal
import socket
import ssl
import time

import harness
import rpc
from tls_case import Tls, client_context

# HTTP/2's error code, and gRPC's word for it.
TOO_MANY_PINGS = (11, b"too_many_pings")
SETTINGS_MAX_CONCURRENT_STREAMS = 3
PATIENCE_S = 90


class Life(Tls):
    def grpc_alone(self, *more):
        """Both, with gRPC on a listener of its own."""
        return self.pair(lambda _: self.flags("--listen-client-http-urls", f"https://127.0.0.1:{harness.free_port()}", *more))

    def connect(self, server, **options):
        connection = rpc.Connection(server.client_port, tls=client_context(None, "h2"), **options)
        self.addCleanup(connection.close)
        return connection


class Keepalive(Life):
    def ping(self, server, count, pause):
        """What a client gets that pings beside an open call: (pings answered, why it was sent away)."""
        connection = self.connect(server, stream_window=1000)
        connection.start("/etcdserverpb.Watch/Watch", rpc.enc((1, [rpc.enc((1, b"a"))])), end=False)
        answered = 0
        try:
            for _ in range(count):
                connection.ping()
                while connection.read_frame(PATIENCE_S) != rpc.PING:
                    pass
                answered += 1
                time.sleep(pause)
        except OSError:
            pass
        return answered == count, connection.goaway

    def test_pings_that_come_too_often(self):
        for server in self.grpc_alone():
            self.assertEqual(self.ping(server, 10, 0.1), (False, TOO_MANY_PINGS), server.kind)
        cairn = self.make("cairn", self.flags("--grpc-keepalive-min-time", "50ms"), name="often")
        self.assertEqual(self.ping(cairn, 10, 0.1), (True, None))
        cairn = self.make("cairn", self.flags(), name="shared")
        self.assertEqual(self.ping(cairn, 10, 0.1), (False, TOO_MANY_PINGS))

    def test_clients_that_are_dead(self):
        """Who does not answer the server's pings is closed; who answers stays."""
        for server in self.grpc_alone("--grpc-keepalive-interval", "1s", "--grpc-keepalive-timeout", "5s"):
            answers, dead = self.connect(server), self.connect(server)
            ends, pings, until = select.poll(), 0, time.monotonic() + PATIENCE_S
            ends.register(dead.sock, select.POLLRDHUP)
            while (not ends.poll(0) or pings < 2) and time.monotonic() < until:
                with contextlib.suppress(TimeoutError):
                    pings += answers.read_frame(0.2) == rpc.PING
            self.assertTrue(ends.poll(0), f"{server.kind}: the dead one stays")
            self.assertGreaterEqual(pings, 2, server.kind)
            answers.unary("/etcdserverpb.KV/Put", rpc.put_request(b"a", b"b"))


def client_hello():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        client_context(None, "h2").wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


class Handshakes(Life):
    def test_22141_handshakes_that_do_not_end(self):
        """Nothing, the beginning of a ClientHello, a ClientHello alone: each is closed, after ten seconds with etcd, too."""
        hello = client_hello()
        for server in self.pair(self.flags()):
            ends, held = select.poll(), []
            began = time.monotonic()
            for sent in (b"", hello[:20], hello):
                connection = socket.create_connection(("127.0.0.1", server.client_port), PATIENCE_S)
                self.addCleanup(connection.close)
                connection.sendall(sent)
                ends.register(connection, select.POLLRDHUP)
                held.append(connection)
            harness.until(lambda: len(ends.poll(0)) == 3, PATIENCE_S, f"{server.kind} keeps {ends.poll(0)} of {held}")  # noqa: B023
            self.assertGreater(time.monotonic() - began, 5, server.kind)

    def test_the_first_bytes_may_come_one_by_one(self):
        """A client as slow as that is still served."""
        for server in self.pair(self.flags()):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = client_context(None, "http/1.1").wrap_bio(incoming, outgoing)
            with socket.create_connection(("127.0.0.1", server.client_port), PATIENCE_S) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                answer = b""
                has_asked = False
                while b"200 OK" not in answer:
                    try:
                        if not has_asked:
                            tls.do_handshake()
                            tls.write(b"GET /version HTTP/1.0\r\n\r\n")
                            has_asked = True
                        answer += tls.read(4096)
                    except ssl.SSLWantReadError:
                        for byte in outgoing.read():
                            connection.sendall(bytes([byte]))
                        incoming.write(connection.recv(1))


class Limits(Life):
    def test_max_concurrent_streams(self):
        told = []
        for server in self.pair(self.flags("--max-concurrent-streams", "7")):
            connection = self.connect(server)
            connection.unary("/etcdserverpb.KV/Put", rpc.put_request(b"a", b"b"))
            told.append(connection.settings[SETTINGS_MAX_CONCURRENT_STREAMS])
        self.assertEqual(told, [7, 7])


class Ends(Life):
    def test_a_stop_says_goodbye(self):
        """GOAWAY without an error, open watches end, and TLS ends with its own farewell."""
        for server in self.grpc_alone():
            connection = self.connect(server)
            connection.unary("/etcdserverpb.KV/Put", rpc.put_request(b"a", b"b"))
            watch = connection.start("/etcdserverpb.Watch/Watch", rpc.enc((1, [rpc.enc((1, b"a"))])), end=False)
            while not watch.messages:
                connection.read_frame()
            server.process.send_signal(signal.SIGTERM)
            with self.assertRaises(ConnectionError, msg=server.kind):  # an end without the farewell is an ssl.SSLError
                while True:
                    connection.read_frame(PATIENCE_S)
            self.assertEqual(connection.goaway[0], 0, server.kind)
            self.assertEqual(server.wait(), -15, server.kind)

    def test_a_stop_answers_what_was_asked(self):
        """Each put that was sent before the stop is answered or refused, and what was answered is there afterwards."""
        cairn = self.make("cairn", self.flags())
        connection = self.connect(cairn)
        calls = [connection.start("/etcdserverpb.KV/Put", rpc.put_request(b"%d" % i, b"v")) for i in range(200)]
        cairn.process.send_signal(signal.SIGTERM)
        answered = []
        for i, call in enumerate(calls):
            try:
                connection.finish(call, timeout=PATIENCE_S)
                answered.append(i)
            except (rpc.GrpcError, OSError):
                pass
        self.assertEqual(cairn.wait(), -15)
        cairn.start()
        after = self.connect(cairn)
        for i in answered:
            found = rpc.dec(after.unary("/etcdserverpb.KV/Range", rpc.enc((1, b"%d" % i))))
            self.assertEqual(rpc.first(found, 4), 1, i)

    def test_who_leaves_in_the_middle_of_a_handshake_costs_nothing(self):
        """Hundreds that hang up after their first bytes: no socket stays."""
        cairn = self.make("cairn", self.flags())
        hello = client_hello()

        def sockets():
            count = 0
            for one in pathlib.Path(f"/proc/{cairn.process.pid}/fd").iterdir():
                with contextlib.suppress(OSError):  # closed meanwhile
                    count += os.readlink(one).startswith("socket:")
            return count

        before = sockets()
        for i in range(300):
            with socket.create_connection(("127.0.0.1", cairn.client_port), PATIENCE_S) as connection:
                connection.sendall(hello[:(i % 3) * len(hello) // 2])
        harness.until(lambda: sockets() <= before, what=lambda: f"{sockets()} sockets, {before} before")


if __name__ == "__main__":
    harness.main()
