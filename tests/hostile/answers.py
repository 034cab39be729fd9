"""Questions that are short and whose answers are not, and calls that are odd."""

import time

import rpc
import wire
from arena import KEY_COUNT, Together, attack, carry_out, key, put_txns
from readers import LIST_KEYS, RANGE_PATH

BY_VALUE = rpc.enc((1, b"k/"), (2, b"k0"), (5, 1), (6, 4))


@attack("a Txn of 1.9 KB with 120 ranges, whose answer of 2.4 GB nobody can be sent: refused before it is made",
        data="values")
def txn_of_ranges(target):
    txn = rpc.txn_request([], [rpc.op_range(b"big/", b"big0")] * 120)
    client = target.client()
    with target.bystanders():
        code, text, seconds = target.status_of(lambda: client.call("KV", "Txn", txn))
        target.check(code > 0, f"{len(txn)} bytes asked, answered with {code} {text}")
        target.note(f"code {code}: {text}, in {seconds:.1f} s")


@attack("60 lists sorted by VALUE, opened and cancelled again and again: nobody waits for what nobody wants",
        data="keys")
def sorted_lists(target):
    with target.bystanders("get,put,page,dial"):
        pipe = wire.Wire(target.port, window=(1 << 31) - 1)
        for _ in range(3):
            numbers = []
            for _ in range(60):
                pipe.push(pipe.call(RANGE_PATH, BY_VALUE))
                numbers.append(pipe.next_number - 2)
            pipe.listen(0.1)
            pipe.push(b"".join(wire.reset(number) for number in numbers))
        target.note(pipe.end())
        pipe.close()


@attack("60 lists sorted by VALUE whose answers nobody takes", data="keys")
def sorted_lists_unread(target):
    with target.bystanders("get,put,page,dial"):
        pipe = wire.Wire(target.port, window=0)
        pipe.push(b"".join(pipe.call(RANGE_PATH, BY_VALUE) for _ in range(60)))
        pipe.listen(1)
        target.note(f"codes {dict(pipe.statuses)}, {pipe.end()}")
        pipe.close()


@attack("1500 lists asked for at once at a revision before 200,000 newer keys, each of which steps over these",
        data="keys")
def old_lists(target):
    client = target.client()
    revision = client.revision()
    carry_out(client, put_txns(range(KEY_COUNT, 2 * KEY_COUNT), b"a value of some 24 bytes"))
    message = rpc.enc((1, key(KEY_COUNT - 100)), (2, b"k0"), (4, revision))
    with target.bystanders("get,put,page,dial"):
        with wire.Wire(target.port, window=(1 << 31) - 1) as pipe:
            began = time.monotonic()
            pipe.push(wire.window_update(0, 1 << 30) + b"".join(pipe.call(RANGE_PATH, message) for _ in range(1500)))
            pipe.listen(20, lambda: sum(pipe.statuses.values()) >= 1500)
            target.note(f"codes {dict(pipe.statuses)} in {time.monotonic() - began:.1f} s")


@attack("a Txn with 120 equal compares by VALUE over all keys: evaluated once", data="keys")
def value_compares(target):
    compare = rpc.compare_value(b"k/", b"a value of some 24 bytes") + rpc.enc((64, b"k0"))
    client = target.client()
    with target.bystanders():
        code, text, seconds = target.status_of(
            lambda: client.txn([compare] * 120, [rpc.op_put(b"out", b"x")]))
        target.check(code == rpc.OK, f"answered with {code} {text}")
        target.note(f"{seconds:.1f} s")


@attack("a unary Put with five messages: the first one counts")
def five_messages(target):
    client = target.client()
    before = client.put(b"before", b"x")
    with target.bystanders("get,dial"):
        with wire.Wire(target.port) as pipe:
            number = pipe.number()
            fields = rpc.header_fields(rpc.request_fields("/etcdserverpb.KV/Put"))
            body = b"".join(rpc.grpc_message(rpc.put_request(b"five", b"%d" % i)) for i in range(5))
            pipe.push(rpc.frame(rpc.HEADERS, rpc.END_HEADERS, number, fields) +
                      rpc.frame(rpc.DATA, rpc.END_STREAM, number, body))
            pipe.listen(5, lambda: sum(pipe.statuses.values()) > 0)
            target.note(f"codes {dict(pipe.statuses)}")
        time.sleep(0.2)
        done = client.revision() - before
        target.check(done <= 1, f"carried out {done} times")
        found = client.get(b"five")
        target.check(found is None or found.value == b"0", f"message {found} counted")


@attack("RangeStream over 20,000 small keys and 60 values of 1 MB behind them: no message grows large")
def stream_sizes(target):
    client = target.client()
    carry_out(client, put_txns(range(20_000), b"a value of some 24 bytes"))
    carry_out(client, (("/etcdserverpb.KV/Put", rpc.put_request(b"k/x%02d" % i, b"v" * (1 << 20)))
                       for i in range(60)), window=4)
    with target.bystanders():
        call = client.connection.start("/etcdserverpb.KV/RangeStream", LIST_KEYS)
        sizes = []
        while not call.ended:
            client.connection.read_frame()
            if call.messages:
                sizes += [len(message) for message in call.messages]
                call.messages.clear()
        code, text = call.status()
        target.check(code == rpc.OK, f"ended with {code} {text}")
        largest = max(sizes, default=0)
        target.check(largest < 8 << 20, f"a message of {largest / 1e6:.1f} MB")
        target.note(f"{len(sizes)} messages, the largest has {largest / 1e6:.1f} MB")


@attack("an error text above 64 KB: the call ends")
def error_text(target):
    with target.bystanders():
        with rpc.Connection(target.port) as connection:
            call = connection.start("/etcdserverpb.KV/" + "\u00e9" * 25_000, b"")
            code, text, seconds = target.status_of(lambda: connection.finish(call, 5))
            target.check(code == rpc.UNIMPLEMENTED, f"answered with {code} {text[:80]} in {seconds:.1f} s")
            target.note(f"code {code}, a text of {len(text)} letters")


@attack("300 HashKV and 100 Snapshots asked for at once, then forgotten", data="keys")
def hashes(target):
    with target.bystanders("get,put,page,dial"):
        pipe = wire.Wire(target.port, window=1000)
        pipe.push(b"".join(pipe.call("/etcdserverpb.Maintenance/HashKV", b"") for _ in range(300)))
        pipe.push(b"".join(pipe.call("/etcdserverpb.Maintenance/Snapshot", b"") for _ in range(100)))
        pipe.listen(1)
        target.note(f"codes {dict(pipe.statuses)}, {pipe.end()}")
        pipe.close()


@attack("large Txns of 128 puts from 20 clients, for a second")
def large_txns(target):
    def load():
        with rpc.Client(target.port, timeout=60) as client:
            while time.monotonic() < deadline:
                carry_out(client, calls, window=16)

    calls = list(put_txns(range(12_800), b"a value of some 24 bytes"))
    with target.bystanders():
        deadline = time.monotonic() + 1
        together = Together()
        for _ in range(20):
            together.run(load)
        together.join()
