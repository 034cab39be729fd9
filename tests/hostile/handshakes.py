"""TLS: handshakes by the thousand, and such that do not end.

The port takes clear text too, so that the bystanders are the same as everywhere; newcomers wait where handshakes are made.
"""

import os
import socket
import ssl
import time

import wire
from arena import Bounds, Together, attack
from connections import close_all, connect_many, newcomer_is_served

FLOOD_SECONDS = 2.0
# A ClientHello's record begins so, and promises 512 bytes.
HALF_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)


def client_context(most=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if most is not None:
        context.maximum_version = most
    return context


def is_served_over_tls(target):
    try:
        with socket.create_connection(("127.0.0.1", target.port), 20) as raw:
            with client_context().wrap_socket(raw) as tls:
                tls.sendall(b"GET /version HTTP/1.0\r\nHost: x\r\n\r\n")
                return b" 200 " in tls.recv(100)
    except OSError:
        return False


@attack("whole handshakes as fast as four threads make them, for two seconds: keys' arithmetic must not keep others waiting",
        tls=True)
def tls_handshakes(target):
    counts = [0] * 4

    def flood(number):
        context, deadline = client_context(), time.monotonic() + FLOOD_SECONDS
        while time.monotonic() < deadline:
            with socket.create_connection(("127.0.0.1", target.port), 20) as raw:
                with context.wrap_socket(raw):
                    counts[number] += 1

    with target.bystanders():
        together = Together()
        for number in range(len(counts)):
            together.run(flood, number)
        together.join()
        target.note(f"{sum(counts)} handshakes")
    target.check(is_served_over_tls(target), "a newcomer over TLS is not served afterwards")


@attack("3000 handshakes that stop in the middle: a third before their first byte, a third in the first record, a third after "
        "the server's answer", tls=True, bounds=Bounds(worst_seconds=5.0, memory_mb=300))
def tls_half_handshakes(target):
    with target.bystanders():
        idle = connect_many(target.port, 1000) + connect_many(target.port, 1000, HALF_HELLO)
        waiting = []
        context = client_context()
        for pipe in connect_many(target.port, 1000):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            try:
                context.wrap_bio(incoming, outgoing).do_handshake()
            except ssl.SSLWantReadError:
                pipe.push(outgoing.read(), 1.0)
            waiting.append(pipe)
        target.check(newcomer_is_served(target), "a newcomer is not served beside them")
        target.check(is_served_over_tls(target), "a newcomer over TLS is not served beside them")
        target.note(f"{len(idle) + len(waiting)} connections made")
        close_all(idle + waiting)


@attack("a thousand connections with random bytes behind the head of a handshake's record", tls=True)
def tls_garbage(target):
    with target.bystanders():
        for number in range(1000):
            pipe = wire.Pipe(target.port)
            length = 1 + number * 16
            pipe.push(b"\x16\x03\x01" + length.to_bytes(2, "big") + b"\x01" + os.urandom(min(length, 2000)), 1.0)
            pipe.close(abort=number % 2 == 0)
    target.check(is_served_over_tls(target), "a newcomer over TLS is not served afterwards")
