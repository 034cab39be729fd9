"""HTTP/1: what never ends, and what comes all at once."""

import time

import wire
from arena import attack

MANY_BYTES = 300 << 20


def endless(target, head, piece, what):
    """Sends `piece` again and again behind `head` until the server has had enough of it, or MANY_BYTES."""
    with target.bystanders():
        with wire.Text(target.port) as pipe:
            pipe.push(head)
            block = piece * max(1, (1 << 20) // len(piece))
            sent, deadline = 0, time.monotonic() + 4
            while pipe.ended is None and sent < MANY_BYTES and time.monotonic() < deadline:
                sent += pipe.push(block, 1.0)
            pipe.listen(0.3)
            target.note(f"{sent >> 20} MB of {what} sent; {pipe.end()}")


@attack("54 KB of `GET /metrics` in one write: others get their turns")
def pipelining(target):
    request = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
    count = 54_000 // len(request)
    with target.bystanders():
        with wire.Text(target.port) as pipe:
            began = time.monotonic()
            pipe.push(request * count)
            pipe.listen(20, lambda: pipe.statuses["200"] >= count)
            target.check(pipe.statuses["200"] == count, f"{pipe.statuses} of {count} answers, {pipe.end()}")
            target.note(f"{count} answers, {pipe.bytes_in >> 20} MB, in {time.monotonic() - began:.1f} s")


@attack("20 connections that pipeline `GET /metrics` and read nothing: the server stops reading them")
def pipelining_unread(target):
    request = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
    with target.bystanders():
        pipes = [wire.Text(target.port, receive_bytes=4096) for _ in range(20)]
        sent = 0
        for _ in range(4):
            for pipe in pipes:
                sent += pipe.push(request * 1500, 0.05, read=False)
        target.note(f"{sent // len(request)} requests taken")
        for pipe in pipes:
            pipe.close()


@attack("an endless chunk extension")
def chunk_extension(target):
    endless(target, b"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"a",
            "one chunk's extension")


@attack("many chunks with long extensions")
def chunk_extensions(target):
    endless(target, b"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1;" + b"a" * 2000 + b"\r\nx\r\n", "chunks of one byte")


@attack("endless trailers behind a chunked body")
def trailers(target):
    endless(target, b"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
            b"X-Trailer: " + b"a" * 1000 + b"\r\n", "trailers")


@attack("endless headers")
def headers(target):
    endless(target, b"GET /health HTTP/1.1\r\n", b"X-Header: " + b"a" * 1000 + b"\r\n", "headers")


@attack("an endless request line")
def request_line(target):
    endless(target, b"GET /", b"a", "a request line")


@attack("an endless body, in chunks of one byte each")
def one_byte_chunks(target):
    endless(target, b"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n{\r\n",
            "chunks of one byte")
