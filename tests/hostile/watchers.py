"""Watchers: very many, some that come and go, some that never read."""

import time

import rpc
import wire
from arena import attack
from readers import hold

PATH = "/etcdserverpb.Watch/Watch"
CREATE, CANCEL, PROGRESS = 1, 2, 3


def create(key, end=b"", start=0, number=0, progress=False, prev=False):
    return rpc.enc((CREATE, rpc.enc((1, key), (2, end), (3, start), (4, progress), (6, prev), (7, number))))


def cancel(number):
    return rpc.enc((CANCEL, [rpc.enc((1, number))]))


def request(pipe, number, message):
    return rpc.frame(rpc.DATA, 0, number, rpc.grpc_message(message))


def stream(port, messages, window=None, **options):
    """A connection with one stream of these requests; none of its responses need be read."""
    pipe = wire.Wire(port, window=window, **options)
    number = pipe.next_number
    messages = list(messages)
    out = pipe.call(PATH, messages[0], end=False)
    out += b"".join(request(pipe, number, message) for message in messages[1:])
    pipe.push(out)
    return pipe, number


@attack("10,000 watchers of one key that stop reading, while it changes: their events are in memory once")
def stopped_watchers(target):
    client = target.client()
    pipes = [stream(target.port, [create(b"hot", prev=True)] * 100, window=0)[0] for _ in range(100)]
    with target.bystanders():
        for i in range(300):
            client.put(b"hot", b"%d" % i * 2000)
        hold(target, pipes, 0.5)


@attack("10,000 watchers of different prefixes on one stream, each of which gets every event, unread")
def wide_stream(target):
    client = target.client()
    creates = [create(b"w", b"x%05d" % i) for i in range(10_000)]
    pipe, _ = stream(target.port, creates, window=0)
    with target.bystanders():
        for i in range(100):
            client.put(b"w%d" % i, b"v" * 1000)
        hold(target, [pipe], 0.5)


@attack("watchers that come and go, 200,000 of them, some in the future, some in the past")
def coming_and_going(target):
    client = target.client()
    for i in range(50):
        client.put(b"some", b"%d" % i)
    with target.bystanders():
        for _ in range(20):
            messages = []
            for number in range(1, 5001):
                start = (0, 2, 1 << 40)[number % 3]
                messages += [create(b"some%d" % number, start=start, number=number), cancel(number)]
            pipe, _ = stream(target.port, messages, window=(1 << 31) - 1)
            pipe.push(wire.window_update(0, 1 << 30))
            pipe.listen(5, lambda pipe=pipe: pipe.body_bytes >= 10_000 * 30)
            target.check(pipe.ended is None, f"a connection ended: {pipe.end()}")
            pipe.close()
    _, _, page = target.server.http("/metrics")
    target.check("\netcd_debugging_mvcc_watcher_total 0\n" in page, "watchers are left over")


@attack("a stream of progress requests and cancels that reads no answer")
def unread_answers(target):
    with target.bystanders():
        pipe, number = stream(target.port, [create(b"a", progress=True)], window=0)
        burst = b"".join(request(pipe, number, rpc.enc((PROGRESS, [b""]))) for _ in range(2000))
        for _ in range(20):
            if pipe.connection_window < len(burst) or pipe.ended:
                break
            pipe.push(burst, 0.2)
        hold(target, [pipe], 0.5)


@attack("streams closed on one side, reset and dropped while their watchers get events")
def half_closed(target):
    client = target.client()
    with target.bystanders():
        for round_number in range(40):
            pipes = []
            for i in range(10):
                pipe, number = stream(target.port, [create(b"h", b"i", start=1)] * 20)
                if i % 3 == 0:
                    pipe.push(rpc.frame(rpc.DATA, rpc.END_STREAM, number, b""))
                elif i % 3 == 1:
                    pipe.push(wire.reset(number))
                pipes.append(pipe)
            client.put(b"h%d" % round_number, b"v" * 100)
            for i, pipe in enumerate(pipes):
                pipe.close(abort=i % 2 == 0)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and "\netcd_debugging_mvcc_watcher_total 0\n" not in target.server.http("/metrics")[2]:
        time.sleep(0.05)
    target.check("\netcd_debugging_mvcc_watcher_total 0\n" in target.server.http("/metrics")[2], "watchers are left over")


@attack("20 connections that begin 50 watchers each at revision 1 of 100,000: what they read is shared")
def history_for_all(target):
    client = target.client()
    for answer in client.pipeline((("/etcdserverpb.KV/Put", rpc.put_request(b"p%d" % (i % 100), b"v" * 100))
                                   for i in range(100_000)), window=500):
        if isinstance(answer, rpc.GrpcError):
            raise answer
    with target.bystanders():
        pipes = []
        for i in range(20):
            pipe, _ = stream(target.port, [create(b"p", b"q", start=1)] * 50, window=(1 << 31) - 1)
            pipe.push(wire.window_update(0, 1 << 30))
            pipes.append(pipe)
        hold(target, pipes, 2)
