"""Watchers: very many, some that come and go, some that never read."""

import time

import rpc
import wire
from arena import Bounds, attack
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


def watchers(target):
    return target.server.metric("etcd_debugging_mvcc_watcher_total")


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


FIRST = create(b"first")


def send_creates(target, pipe, number, creates):
    """On a stream that open_wide() made; waits until all are answered."""
    body = b"".join(map(rpc.grpc_message, creates := list(creates)))
    enough = pipe.body_bytes + 30 * len(creates)  # less than the answers have
    pipe.push_body(number, body, sent=len(rpc.grpc_message(FIRST)))
    before = -1
    while pipe.body_bytes > before and pipe.ended is None and not pipe.resets:
        before = pipe.body_bytes
        pipe.listen(30 if before < enough else 1, lambda: pipe.body_bytes > before or pipe.resets)
    target.check(pipe.ended is None, f"the connection ended: {pipe.end()}")
    target.check(pipe.body_bytes >= enough, f"watchers without an answer; resets: {dict(pipe.resets)}")


def open_wide(target):
    pipe, number = stream(target.port, [FIRST], window=(1 << 31) - 1)
    pipe.push(wire.window_update(0, 1 << 30))
    return pipe, number


@attack("a stream of 150,000 watchers of different keys that ends at once")
def wide_end(target):
    with target.bystanders():
        pipe, number = open_wide(target)
        send_creates(target, pipe, number, (create(b"w%d" % i) for i in range(150_000)))
        pipe.close(abort=True)
        time.sleep(0.5)


@attack("150,000 ranges on one stream that all hold a key, which changes 20 times: the events go out in slices")
def wide_change(target):
    with rpc.Connection(target.port, timeout=60) as connection:
        pipe, number = open_wide(target)
        send_creates(target, pipe, number, (create(b"w", b"x%06d" % i) for i in range(150_000)))
        with target.bystanders():
            calls = [connection.start("/etcdserverpb.KV/Put", rpc.put_request(b"w", b"%d" % i)) for i in range(20)]
            worst = max(target.status_of(lambda call=call: connection.finish(call))[2] for call in calls)
            pipe.listen(1)
            target.note(f"the puts took {worst:.1f} s")
            pipe.close(abort=True)
            time.sleep(0.5)


def drawn(count, seed):
    """What base/random.h draws from a seed."""
    mask = (1 << 64) - 1
    for i in range(1, count + 1):
        z = (seed + i * 0x9E3779B97F4A7C15) & mask
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        yield z ^ z >> 31


@attack("20,000 intervals that make a list of a treap whose chance is known")
def prepared_intervals(target):
    priorities = list(drawn(20_000, seed=1))
    ranks = {priority: rank for rank, priority in enumerate(sorted(priorities))}
    with target.bystanders():
        pipe, number = open_wide(target)
        send_creates(target, pipe, number,
                     (create(b"%08d" % ranks[one], b"%08d" % (ranks[one] + 1)) for one in priorities))
        pipe.close(abort=True)


def colliding_keys(count):
    """Keys of 16 bytes that std::hash of libstdc++ (MurmurHash64A) takes to one number: its rounds can be undone."""
    mask, factor = (1 << 64) - 1, 0xC6A4A7935BD1E995
    inverse = pow(factor, -1, 1 << 64)
    begin = 0xC70F6907 ^ 16 * factor & mask
    for low in range(count):
        mixed = low * factor & mask
        mixed = (mixed ^ mixed >> 47) * factor & mask
        high = ((begin ^ mixed) * factor & mask) * inverse & mask
        high = (high ^ high >> 47) * inverse & mask
        yield low.to_bytes(8, "little") + high.to_bytes(8, "little")


@attack("20,000 watched keys that a hash known to all takes to one number")
def prepared_keys(target):
    with target.bystanders():
        pipe, number = open_wide(target)
        send_creates(target, pipe, number, (create(key) for key in colliding_keys(20_000)))
        pipe.close(abort=True)


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
    target.check(watchers(target) == 0, "watchers are left over")


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
    while time.monotonic() < deadline and watchers(target) > 0:
        time.sleep(0.05)
    target.check(watchers(target) == 0, "watchers are left over")


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


@attack("one deletion of 50,000 keys that concerns 4000 ranges on 4 streams, live and from the past: told a few at a time",
        data="keys", bounds=Bounds(memory_mb=280.0))
def long_revision(target):
    client = target.client()
    with target.bystanders():
        opened = [open_wide(target) for _ in range(4)]
        for pipe, number in opened[:2]:
            send_creates(target, pipe, number, (create(b"k/", b"k0%d" % i) for i in range(1000)))
        revision = rpc.revision_of(client.call("KV", "DeleteRange", rpc.enc((1, b"k/"), (2, b"k/0050000"))))
        for pipe, number in opened[2:]:
            pipe.push(b"".join(request(pipe, number, create(b"k/", b"k0%d" % i, start=revision)) for i in range(1000)))
        hold(target, [pipe for pipe, _ in opened], 3)


@attack("one Txn that writes over 20 values of 1 MB, which 40 ranges on 40 connections get with `prev_kv`", data="values")
def long_previous_values(target):
    client = target.client()
    with target.bystanders():
        pipes = [stream(target.port, [create(b"big/", b"big0%d" % i, prev=True)])[0] for i in range(40)]
        time.sleep(0.2)
        client.txn([], [rpc.op_put(b"big/%02d" % i, b"short") for i in range(20)])
        hold(target, pipes, 3)
