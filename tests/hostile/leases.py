"""Leases by the hundred thousand, renewals without end, and what happens when all run out at once."""

import math
import time

import rpc
import wire
from arena import KEY_COUNT, Bounds, Together, attack, carry_out

GRANT, KEEP_ALIVE = "/etcdserverpb.Lease/LeaseGrant", "/etcdserverpb.Lease/LeaseKeepAlive"
GRANTS = 60_000
LEASE_COUNT = 50_000
RUN_OUT_SECONDS = 20


def grants(numbers, seconds):
    return ((GRANT, rpc.enc((1, seconds), (2, number))) for number in numbers)


def lease_puts(numbers):
    """Transactions of 100 puts."""
    for first in range(numbers.start, numbers.stop, 100):
        puts = [rpc.op_put(b"leased/%d" % number, b"x", number)
                for number in range(first, min(first + 100, numbers.stop))]
        yield "/etcdserverpb.KV/Txn", rpc.txn_request([], puts)


@attack(f"{GRANTS} grants from 10 clients, as fast as they are answered")
def grant_storm(target):
    def grant(part):
        with rpc.Client(target.port, timeout=60) as client:
            carry_out(client, grants(range(part * GRANTS // 10 + 1, (part + 1) * GRANTS // 10 + 1), 3600), 200)

    with target.bystanders():
        together = Together()
        for part in range(10):
            together.run(grant, part)
        together.join()
    target.note(f"{len(target.client().leases())} leases")


@attack("1,000,000 renewals on 20 streams, whose answers are read, and 20 streams of which nothing is read",
        bounds=Bounds(memory_mb=100.0))
def keepalive_storm(target):
    client = target.client()
    carry_out(client, grants(range(1, 1001), 3600), 200)
    renewals = b"".join(rpc.grpc_message(rpc.enc((1, 1 + i % 1000))) for i in range(1000))

    def send(is_read):
        with wire.Wire(target.port, window=(1 << 31) - 1 if is_read else 0) as pipe:
            pipe.push(wire.window_update(0, 1 << 30) + pipe.call(KEEP_ALIVE, rpc.enc((1, 1)), end=False))
            number = pipe.next_number - 2
            for _ in range(50):
                room = pipe.connection_window
                for at in range(0, len(renewals), 16384):
                    part = renewals[at:at + 16384]
                    if is_read:
                        pipe.listen(5, lambda room=room: pipe.connection_window >= room)
                    pipe.push(rpc.frame(rpc.DATA, 0, number, part), seconds=5, read=is_read)
                if not is_read and pipe.ended:
                    break
            pipe.listen(1 if is_read else 0)

    with target.bystanders():
        together = Together()
        for i in range(40):
            together.run(send, i % 2 == 0)
        together.join()


@attack("20,000 streams of renewals that end as they begin: whose answers are read, are not read, or are cut off")
def half_closed_keepalives(target):
    client = target.client()
    carry_out(client, grants(range(1, 101), 3600), 100)
    renewals = b"".join(rpc.grpc_message(rpc.enc((1, 1 + i))) for i in range(10))
    answered = []

    def send(kind):
        with wire.Wire(target.port, window=0 if kind == "unread" else None) as pipe:
            pipe.push(wire.window_update(0, 1 << 30))
            for turn in range(20):
                for _ in range(50):
                    call = pipe.call(KEEP_ALIVE, rpc.enc((1, 1)), end=False)
                    number = pipe.next_number - 2
                    call += rpc.frame(rpc.DATA, rpc.END_STREAM, number, renewals)
                    call += wire.reset(number) if kind == "cut off" else b""
                    if pipe.push(call, seconds=10) < len(call):
                        return  # the server takes no more of one who reads nothing
                if kind == "read":
                    pipe.listen(60, lambda turn=turn: sum(pipe.statuses.values()) >= 50 * (turn + 1))
            if kind == "read":
                answered.append(pipe.statuses[0])

    with target.bystanders():
        together = Together()
        for i in range(20):
            together.run(send, ("read", "unread", "read", "cut off")[i % 4])
        together.join(120)
    target.check(answered == [1000] * 10, f"of 1000 streams ended well: {answered}")


def run_out(target, count, seconds):
    """Grants so that all end at about one moment, however long it takes to grant them."""
    client = target.client()
    end = time.monotonic() + seconds

    def all_of_them():
        for number in range(1, count + 1):
            left = math.ceil(max(2.0, end - time.monotonic()))
            yield GRANT, rpc.enc((1, left), (2, number))

    began = time.monotonic()
    carry_out(client, all_of_them(), 500)
    took = time.monotonic() - began
    for answer in client.pipeline(lease_puts(range(1, count + 1)), 50):
        late = isinstance(answer, rpc.GrpcError) and answer.code == rpc.NOT_FOUND and time.monotonic() > end
        if isinstance(answer, rpc.GrpcError) and not late:
            raise answer
    found = client.leases()
    target.check(time.monotonic() > end or len(found) == count, f"leases ended early: {len(found)} of {count} are left")
    time.sleep(max(0.0, end - time.monotonic() - 0.5))
    with target.bystanders():
        deadline = time.monotonic() + 120
        while client.leases() and time.monotonic() < deadline:
            time.sleep(0.2)
        target.note(f"gone {time.monotonic() - end:.1f} s after their time, granted in {took:.1f} s")
    target.check(not client.leases(), "leases are left")
    left = rpc.first(client.range(b"leased/", b"leased0", count_only=True), 4)
    target.check(left == 0, f"{left} keys are left")


@attack(f"{LEASE_COUNT} leases with a key each run out in one second")
def leases_run_out(target):
    run_out(target, LEASE_COUNT, RUN_OUT_SECONDS)


@attack("1,000,000 leases with a key each run out in one second", held=False, bounds=Bounds(memory_mb=1000.0))
def a_million_leases_run_out(target):
    run_out(target, 1_000_000, 360)


# All keys go in one entry of the log, and nothing else happens meanwhile: as long as the machine needs.
@attack("one lease with 200,000 keys: asked for, listed, revoked", data="keys", bounds=Bounds(worst_seconds=10.0))
def one_large_lease(target):
    client = target.client()
    client.lease_grant(7, 3600)
    puts = (("/etcdserverpb.KV/Put", rpc.put_request(b"k/%07d" % number, b"leased", 7)) for number in range(KEY_COUNT))
    carry_out(client, puts, 500)
    with target.bystanders():
        for _ in range(3):
            target.check(len(client.lease_time_to_live(7)[2]) == KEY_COUNT, "keys are missing")
        client.lease_revoke(7)
        target.check(client.lease_time_to_live(7)[0] == -1, "the lease is left")
