"""The API as JSON: bodies that are slow, deep, long or endless, answers that nobody reads, WebSockets."""

import base64
import os
import struct
import time

import wire
from arena import Together, attack

CONNECTIONS = 200
LARGE = 14 << 20  # a body may have 16 MB
LONG = 5 << 20  # a value 6 MB


def post(path, body, length=None):
    return (f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n"
            .encode() + body)


def ask(target, path, body, times=1, seconds=60.0):
    """The same request again and again, each when the one before is answered."""
    with wire.Text(target.port) as pipe:
        for done in range(times):
            pipe.push(post(path, body), seconds)
            pipe.listen(seconds, lambda: sum(pipe.statuses.values()) > done)
            if pipe.ended:
                break
        return dict(pipe.statuses)


def from_several(target, path, body, times):
    """What became of it on four connections at once."""
    outcomes = []
    with target.bystanders():
        together = Together()
        for _ in range(4):
            together.run(lambda: outcomes.append(ask(target, path, body, times)))
        together.join(120.0)
    target.note(f"statuses {outcomes[0]}")
    target.check(all(outcomes), "some connections got no answer")


@attack(f"{CONNECTIONS} JSON bodies that come a byte at a time")
def slow_json(target):
    with target.bystanders():
        pipes = [wire.Text(target.port) for _ in range(CONNECTIONS)]
        for pipe in pipes:
            pipe.push(post("/v3/kv/put", b"", 1 << 20))
        deadline = time.monotonic() + 4
        sent = 0
        while time.monotonic() < deadline:
            for pipe in pipes:
                sent += pipe.push(b'{"key":"' if sent < len(pipes) * 8 else b"A")
        target.note(f"{sent} bytes sent, {sum(pipe.ended is not None for pipe in pipes)} of {CONNECTIONS} closed")
        for pipe in pipes:
            pipe.close()


@attack("JSON of 14 MB that opens ever further, and such that is as deep as it may be")
def deep_json(target):
    from_several(target, "/v3/kv/range", b"[" * LARGE, 8)
    deep = b'{"a":' + b"[" * 9990 + b"]" * 9990 + b',"a":' + b'{"b":' * 4000 + b"1" + b"}" * 4000 + b"}"
    from_several(target, "/v3/kv/range", deep, 200)


@attack("JSON of 5 MB: fields that nobody knows, escapes, a transaction of very many requests")
def long_json(target):
    from_several(target, "/v3/kv/range", b'{"x":[' + b"1," * (LONG // 2) + b'1],"key":"YQ=="}', 8)
    from_several(target, "/v3/kv/range", b'{"key":"' + b"\\u0041" * (LONG // 6) + b'"}', 8)
    from_several(target, "/v3/kv/txn", b'{"success":[' + b"{}," * (LONG // 3) + b"{}]}", 8)


@attack("80 bodies of 14 MB that never end")
def half_json(target):
    with target.bystanders():
        pipes = [wire.Text(target.port) for _ in range(80)]
        sent = 0
        for pipe in pipes:
            sent += pipe.push(post("/v3/kv/put", b'{"key":"' + b"A" * LARGE, 16 << 20), 2.0)
        target.note(f"{sent >> 20} MB taken, {sum(pipe.ended is not None for pipe in pipes)} of {len(pipes)} closed")
        for pipe in pipes:
            pipe.close()
    target.check_memory_is_given_back(250)


@attack("lists of 20 MB as JSON, asked for on 30 connections, that nobody reads", data="values")
def unread_json(target):
    with target.bystanders():
        pipes = [wire.Text(target.port, receive_bytes=4096) for _ in range(30)]
        for pipe in pipes:
            pipe.push(post("/v3/kv/range", b'{"key":"AA==","range_end":"AA=="}'), read=False)
        time.sleep(4)
        for pipe in pipes:
            pipe.close()
    target.check_memory_is_given_back(250)


def websocket(target, path, **options):
    pipe = wire.Text(target.port, **options)
    key = base64.b64encode(os.urandom(16)).decode()
    pipe.push(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
              f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
    pipe.listen(10.0, lambda: pipe.statuses["101"] > 0)
    target.check(pipe.statuses["101"] == 1, f"no WebSocket: {pipe.statuses}, {pipe.end()}")
    return pipe


def frame(first, payload):
    """Masked with zeros, which is a mask as well."""
    head = bytes([first]) + (bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xff" + struct.pack(">Q", len(payload)))
    return head + b"\0\0\0\0" + payload


def endless_frames(target, path, pieces, what, **options):
    """Each piece on a connection of its own, again and again."""
    with target.bystanders():
        pipes = [websocket(target, path, **options) for _ in pieces]
        sent, deadline = 0, time.monotonic() + 4
        blocks = [piece * max(1, (1 << 18) // len(piece)) for piece in pieces]
        while time.monotonic() < deadline:
            for pipe, block in zip(pipes, blocks):
                sent += pipe.push(block, 0.2, read=not options)
        target.note(f"{sent >> 20} MB of {what}; {', '.join(sorted({pipe.end() for pipe in pipes}))}")
        for pipe in pipes:
            pipe.close()


@attack("WebSockets with endless messages, messages without a payload, spaces, and values that never end")
def websocket_frames(target):
    endless_frames(target, "/v3/watch", [frame(0x01, b" " * 1000)[:1014] + frame(0x80, b" " * 1000) * 20, frame(0x81, b""),
                                         frame(0x81, b" " * 100_000), frame(0x81, b"[" * 1000), frame(0x81, b'"' + b"a" * 1000),
                                         frame(0x81, b"{}")], "frames")


@attack("WebSockets that ping and read nothing")
def websocket_pings(target):
    endless_frames(target, "/v3/watch", [frame(0x89, b"p" * 125)] * 4, "pings", receive_bytes=4096)


@attack("300 WebSockets that watch, and read nothing of 200 large puts")
def websocket_watchers(target):
    client = target.client()
    with target.bystanders():
        pipes = [websocket(target, "/v3/watch", receive_bytes=4096) for _ in range(300)]
        for pipe in pipes:
            pipe.push(frame(0x81, b'{"create_request":{"key":"aw=="}}'), read=False)
        for _ in range(200):
            client.put(b"k", b"v" * 20_000)
        for pipe in pipes:
            pipe.close()
    target.check_memory_is_given_back(250)
