"""Pages of plain HTTP: that are large, that take long, and that nobody reads."""

import http.client
import socket

import arena
import rpc
import wire
from arena import attack

PAGES = 1000  # of a connection


@attack(f"`/metrics` asked for {5 * PAGES} times over HTTP/2 with a window of 0: what is whole and not taken is bounded")
def unread_metrics(target):
    fields = rpc.header_fields([(":method", "GET"), (":scheme", "http"), (":path", "/metrics"), (":authority", "a")])
    with target.bystanders():
        pipes = [wire.Wire(target.port, window=0) for _ in range(5)]
        for pipe in pipes:
            pipe.push(b"".join(rpc.frame(rpc.HEADERS, rpc.END_HEADERS | rpc.END_STREAM, pipe.number(), fields)
                               for _ in range(PAGES)))
        for pipe in pipes:
            pipe.listen(20, lambda: pipe.frames[rpc.HEADERS] >= PAGES)
            target.check(pipe.frames[rpc.HEADERS] == PAGES, f"{pipe.frames[rpc.HEADERS]} answers, {pipe.end()}")
        for pipe in pipes:
            pipe.close()
    target.check_memory_is_given_back(150)


def get(target, path):
    client = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)
    try:
        client.request("GET", path)
        answer = client.getresponse()
        return answer.status, answer.read()
    finally:
        client.close()


@attack("names of 2000 addresses asked for, again and again: the program's file is read for them", flags=("--enable-pprof",))
def symbols(target):
    with target.bystanders():
        together = arena.Together()
        for _ in range(4):
            together.run(lambda: [get(target, "/debug/pprof/symbol?" + "+".join(hex(0x400000 + 64 * i) for i in range(2000)))
                                  for _ in range(3)])
        together.join()


@attack("a profile of a thousand years whose client leaves: the next one gets its own", flags=("--enable-pprof",))
def left_profile(target):
    with target.bystanders():
        with socket.create_connection(("127.0.0.1", target.port)) as client:
            while True:
                client.sendall(b"GET /debug/pprof/profile?seconds=31536000000 HTTP/1.1\r\nHost: a\r\n\r\n")
                if get(target, "/debug/pprof/profile?seconds=1")[0] == 500:
                    break  # it has begun
        arena.harness.until(lambda: get(target, "/debug/pprof/profile?seconds=1")[0] == 200)
