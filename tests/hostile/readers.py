"""Clients that ask for much and take nothing, little, or very slowly."""

import time

import rpc
import wire
from arena import KEY_COUNT, attack, carry_out, put_txns

LIST_KEYS = rpc.enc((1, b"k/"), (2, b"k0"))
LIST_VALUES = rpc.enc((1, b"big/"), (2, b"big0"))
RANGE_PATH = "/etcdserverpb.KV/Range"


def ask(port, calls, window=0, receive_bytes=None, each=1):
    """One connection a call, with `window` bytes of each answer allowed to come."""
    pipes = []
    for path, message in calls:
        pipe = wire.Wire(port, window=window, receive_bytes=receive_bytes)
        pipe.push(b"".join(pipe.call(path, message) for _ in range(each)))
        pipes.append(pipe)
    return pipes


def hold(target, pipes, seconds):
    """Reads what comes, that is nothing but frames of control; then says how the calls ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for pipe in pipes:
            pipe.listen(0)
        time.sleep(0.02)
    statuses, resets = {}, {}
    for pipe in pipes:
        for counts, sums in ((pipe.statuses, statuses), (pipe.resets, resets)):
            for name, count in counts.items():
                sums[name] = sums.get(name, 0) + count
    if statuses:
        target.note("ended with " + ", ".join(f"code {code}: {n}" for code, n in sorted(statuses.items())))
    if resets:
        target.note("reset with " + ", ".join(f"{name}: {n}" for name, n in sorted(resets.items())))
    ended = [pipe.end() for pipe in pipes if pipe.ended is not None]
    if ended:
        target.note(f"{len(ended)} connections closed: {ended[0]}")
    for pipe in pipes:
        pipe.close()


@attack("40 Txns with answers of 40 MB each and a window of 0: what is built and not taken is bounded",
        data="values")
def windows_of_zero(target):
    txn = rpc.txn_request([], [rpc.op_range(b"big/", b"big0")] * 2)
    with target.bystanders():
        hold(target, ask(target.port, [("/etcdserverpb.KV/Txn", txn)] * 40), 1.2)


@attack("10 connections with 5000 gets of 14 KB each and a window of 0: when they are gone their memory is given back")
def unread_gets(target):
    client = target.client()
    client.put(b"some", b"v" * 14_000)
    with target.bystanders():
        hold(target, ask(target.port, [(RANGE_PATH, rpc.enc((1, b"some")))] * 10, each=5000), 1.2)
    if target.kind == "cairn":
        target.check_memory_is_given_back(50)


@attack("60 lists of 20 MB whose readers stop after some bytes", data="values")
def stopped_readers(target):
    with target.bystanders():
        hold(target, ask(target.port, [(RANGE_PATH, LIST_VALUES)] * 60, window=1000), 1.2)


@attack("20 connections whose windows are wide open and whose sockets nobody reads: 40 lists of 20 MB on each",
        data="values")
def unread_sockets(target):
    with target.bystanders():
        pipes = []
        for _ in range(20):
            pipe = wire.Wire(target.port, window=(1 << 31) - 1, receive_bytes=4096)
            out = b"".join(pipe.call(RANGE_PATH, LIST_VALUES) for _ in range(40))
            pipe.push(wire.window_update(0, 1 << 30) + out, read=False)
            pipes.append(pipe)
        time.sleep(1.2)
        for pipe in pipes:
            pipe.close()


@attack("50 lists that are read by the byte while all keys change: what they hold of the old index is "
        "bounded", data="keys")
def slow_lists(target):
    client = target.client()
    slow = []
    # One key of each leaf: the whole index is made anew behind each list.
    spread = range(0, KEY_COUNT, 16)
    with target.bystanders("get,put,dial,page"):
        for _ in range(50):
            slow += [(pipe, 1) for pipe in ask(target.port, [(RANGE_PATH, LIST_KEYS)], window=1)]
            carry_out(client, put_txns(spread, b"another value of 24 byte"))
        for pipe, number in slow:
            pipe.push(wire.window_update(number, 1), 1.0)
        hold(target, [pipe for pipe, _ in slow], 0.2)


@attack("gets beside a list of 20 MB on one connection: they do not wait for its end", data="values")
def one_connection(target):
    with target.bystanders():
        # A small buffer: what the system holds of the list has left the server before the get is asked.
        with rpc.Connection(target.port, timeout=60, receive_bytes=1 << 17) as connection:
            most = 0
            for _ in range(5):
                long_list = connection.start(RANGE_PATH, LIST_VALUES)
                long_list.keep = False
                while long_list.body_bytes < 1 << 20:
                    connection.read_frame()
                before = long_list.body_bytes
                connection.finish(connection.start(RANGE_PATH, rpc.enc((1, b"big/00"), (9, True))))
                most = max(most, long_list.body_bytes - before)
                while not long_list.ended:
                    connection.read_frame()
            target.check(most < 8 << 20, f"{most / 1e6:.1f} MB of the list came before a get's answer")
            target.note(f"at most {most / 1e6:.1f} MB came first")


@attack("a snapshot that nobody reads, and a compaction of half of a file three quarters full: no false NOSPACE",
        flags=["--quota-backend-bytes", str(64 << 20)])
def snapshot_and_compaction(target):
    client = target.client()
    value = b"v" * 1024

    # Kept and superseded records in turn: a pass leaves each page half full.
    def calls():
        for i in range(22_000):
            yield "/etcdserverpb.KV/Put", rpc.put_request(b"kept/%06d" % i, value)
            yield "/etcdserverpb.KV/Put", rpc.put_request(b"changed", value)

    carry_out(client, calls(), window=500)
    status = client.status()
    with target.bystanders():
        reader = ask(target.port, [("/etcdserverpb.Maintenance/Snapshot", b"")], window=100_000)
        reader[0].listen(5, lambda: reader[0].body_bytes >= 90_000)
        client.compact(client.revision())
        deadline, count, refusal = time.monotonic() + 4, 0, None
        while time.monotonic() < deadline and refusal is None:
            code, text, _ = target.status_of(lambda: client.put(b"changed", value))
            count += 1
            if code != rpc.OK:
                refusal = text
            time.sleep(0.02)
        after = client.status()
        target.check(refusal is None, f"put {count} was refused: {refusal}")
        target.note(f"in use {status['in_use_bytes'] >> 20} MB before, {after['in_use_bytes'] >> 20} MB after; "
                    f"file {after['db_bytes'] >> 20} MB")
        reader[0].close()
