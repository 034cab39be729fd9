"""Leases by the hundred thousand, renewals without end, and what happens when all run out at once."""

import time

import rpc
import wire
from arena import KEY_COUNT, Together, attack, carry_out

GRANT, KEEP_ALIVE = "/etcdserverpb.Lease/LeaseGrant", "/etcdserverpb.Lease/LeaseKeepAlive"
GRANTS = 60_000
LEASE_COUNT = 50_000
RUN_OUT_SECONDS = 20


def grants(numbers, seconds):
    return ((GRANT, rpc.enc((1, seconds), (2, number))) for number in numbers)


def lease_puts(numbers):
    return (("/etcdserverpb.KV/Put", rpc.put_request(b"leased/%d" % number, b"x", number)) for number in numbers)


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


@attack("1,000,000 renewals on 20 streams, whose answers are read, and 20 streams of which nothing is read")
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


@attack(f"{LEASE_COUNT} leases with a key each run out in one second")
def leases_run_out(target):
    client = target.client()
    began = time.monotonic()
    carry_out(client, grants(range(1, LEASE_COUNT + 1), RUN_OUT_SECONDS), 500)
    took = time.monotonic() - began
    carry_out(client, lease_puts(range(1, LEASE_COUNT + 1)), 500)
    target.check(len(client.leases()) == LEASE_COUNT or took > RUN_OUT_SECONDS, "leases ended early")
    time.sleep(max(0.0, RUN_OUT_SECONDS - (time.monotonic() - began) - 0.5))
    with target.bystanders():
        deadline = time.monotonic() + 60
        while client.leases() and time.monotonic() < deadline:
            time.sleep(0.2)
        target.note(f"gone after {time.monotonic() - began:.1f} s, granted in {took:.1f} s")
    target.check(not client.leases(), "leases are left")
    left = rpc.first(client.range(b"leased/", b"leased0", count_only=True), 4)
    target.check(left == 0, f"{left} keys are left")


@attack("one lease with 200,000 keys: asked for, listed, revoked", data="keys")
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
