"""Many connections, and connections on which nothing gets on."""

import collections
import resource
import socket
import time

import rpc
import wire
from arena import Bounds, Together, attack, carry_out


def connect_many(port, count, hello=b"", seconds=10.0):
    """Up to `count` connections, each having sent `hello`. What is not taken in time is left out."""
    out, deadline = [], time.monotonic() + seconds
    while len(out) < count and time.monotonic() < deadline:
        try:
            pipe = wire.Pipe(port, timeout=1.0)
        except OSError:
            break
        if hello:
            pipe.push(hello, 1.0)
        out.append(pipe)
    return out


def close_all(pipes):
    for pipe in pipes:
        pipe.close()


def newcomer_is_served(target, seconds=10.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with rpc.Client(target.port, timeout=2.0) as client:
                client.range(b"x")
                return True
        except OSError:
            time.sleep(0.05)
    return False


@attack("256 descriptors, 300 idle connections, then puts that need new WAL segments: the member must keep descriptors "
        "for its own files", limits={resource.RLIMIT_NOFILE: 256})
def descriptors(target):
    client = target.client()
    client.put(b"before", b"x")
    with target.bystanders("get,put"):
        idle = connect_many(target.port, 300, rpc.PREFACE + rpc.frame(rpc.SETTINGS, 0, 0))
        value = b"v" * (1 << 20)
        try:
            carry_out(client, (("/etcdserverpb.KV/Put", rpc.put_request(b"big", value)) for _ in range(150)), window=4)
        finally:
            gone = sum(pipe.listen(0).ended is not None for pipe in idle)
            close_all(idle)
        target.note(f"{len(idle)} connections made, {gone} of them closed by the server")
    target.check(newcomer_is_served(target), "a newcomer is not served after the attackers left")


@attack("3000 idle connections, a third without a byte, a third in the middle of a preface")
def idle_connections(target):
    with target.bystanders():
        idle = connect_many(target.port, 1000) + connect_many(target.port, 1000, b"PRI * HT")
        idle += connect_many(target.port, 1000, rpc.PREFACE + rpc.frame(rpc.SETTINGS, 0, 0))
        time.sleep(0.5)
        target.note(f"{len(idle)} connections made")
        close_all(idle)


@attack("connections made and reset as fast as possible, for a second")
def connect_flood(target):
    with target.bystanders():
        count, deadline = 0, time.monotonic() + 1
        while time.monotonic() < deadline:
            pipe = wire.Pipe(target.port)
            pipe.push(rpc.PREFACE if count % 2 else b"GET /", 1.0)
            pipe.close(abort=True)
            count += 1
        target.note(f"{count} connections")


@attack("slow loris: 300 requests whose headers come byte by byte")
def slow_loris(target):
    with target.bystanders():
        slow = connect_many(target.port, 300, b"GET /health HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            for pipe in slow:
                pipe.push(b"x", 1.0)
            time.sleep(0.05)
        gone = sum(pipe.listen(0).ended is not None for pipe in slow)
        target.note(f"{gone} of {len(slow)} closed by the server")
        close_all(slow)


@attack("80 HTTP/1 bodies of 14 MB each that never end")
def half_bodies(target):
    head = b"POST /v3/kv/put HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 15000000\r\n\r\n"
    body = b'{"key": "' + b"a" * 14_000_000
    with target.bystanders():
        half = [wire.Text(target.port) for _ in range(80)]
        sent = 0
        for pipe in half:
            sent += pipe.push(head + body, 2.0)
        time.sleep(0.5)
        gone = sum(pipe.listen(0).ended is not None for pipe in half)
        target.note(f"{sent >> 20} MB taken, {gone} of {len(half)} closed by the server")
        close_all(half)


@attack("40 connections with 16 gRPC messages each of which the last bytes never come: as much as the windows allow, "
        "600 MB where these are 1 MB and 16 MB")
def half_messages(target):
    with target.bystanders():
        half, sent = [], 0
        for _ in range(40):
            pipe = wire.Wire(target.port)
            pipe.listen(0.1, lambda pipe=pipe: pipe.frames[rpc.WINDOW_UPDATE] > 0)
            half.append(pipe)
            room = pipe.connection_window
            for _ in range(16):
                number = pipe.number()
                out = rpc.frame(rpc.HEADERS, rpc.END_HEADERS, number,
                                rpc.header_fields(rpc.request_fields("/etcdserverpb.KV/Put")))
                most = min(room, pipe.stream_window, 1_400_000)
                room -= most
                body = (b"\0" + (1_500_000).to_bytes(4, "big") + b"x" * most)[:most]
                out += b"".join(rpc.frame(rpc.DATA, 0, number, body[at:at + 16384]) for at in range(0, most, 16384))
                sent += pipe.push(out, 0.3)
        time.sleep(0.5)
        resets = sum((pipe.listen(0).resets for pipe in half), collections.Counter())
        ends = {pipe.end() for pipe in half}
        target.note(f"{sent >> 20} MB taken; resets {dict(resets)}; {', '.join(sorted(ends))}")
        close_all(half)


# 350 MB are to be received and logged: what is looked at is that none is refused, rather than when or at what cost.
@attack("250 clients put 1.4 MB each at the same moment: none is refused",
        bounds=Bounds(worst_seconds=10.0, memory_mb=1000.0))
def big_puts(target):
    with target.bystanders():
        clients = [rpc.Connection(target.port, timeout=60) for _ in range(250)]
        message = rpc.put_request(b"big", b"v" * 1_400_000)
        calls = [None] * len(clients)

        def begin(first, last):
            for i in range(first, last):
                calls[i] = clients[i].start("/etcdserverpb.KV/Put", message)

        together = Together()
        for first in range(0, 250, 25):
            together.run(begin, first, first + 25)
        together.join()
        refused = {}
        for connection, call in zip(clients, calls):
            code, text, _ = target.status_of(lambda connection=connection, call=call: connection.finish(call))
            if code != rpc.OK:
                refused[text] = refused.get(text, 0) + 1
            connection.close()
        target.check(not refused, f"refused: {refused}")


@attack("connections that are reset while their answers of 20 MB are under way, again and again", data="values")
def vanishing_readers(target):
    request = rpc.enc((1, b"big/"), (2, b"big0"))
    with target.bystanders():
        deadline, count = time.monotonic() + 1, 0
        while time.monotonic() < deadline:
            pipes = []
            for _ in range(25):
                pipe = wire.Wire(target.port, window=(1 << 31) - 1)
                pipe.push(wire.window_update(0, 1 << 30) + pipe.call("/etcdserverpb.KV/Range", request), 1.0)
                pipes.append(pipe)
            for pipe in pipes:
                pipe.listen(0.02, lambda pipe=pipe: pipe.body_bytes > 0)
                pipe.close(abort=True)
            count += len(pipes)
        target.note(f"{count} readers")
