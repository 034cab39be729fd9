"""Locks that thousands wait for."""

import time

import rpc
import wire
from arena import attack, carry_out

GRANT, LOCK = "/etcdserverpb.Lease/LeaseGrant", "/v3lockpb.Lock/Lock"
WAITING = 5000
PIPES = 10
HANDED_ON = 100


def wait_for_count(client, count, seconds=120.0):
    """Until so many keys contend; how many there are then."""
    deadline = time.monotonic() + seconds
    while True:
        found = rpc.first(client.range(b"turn/", b"turn0", count_only=True), 4)
        if found == count or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


@attack(f"{WAITING} calls ask for one lock at once, and wait; it is handed on {HANDED_ON} times; then all of them are cut off")
def waiting_locks(target):
    client = target.client()
    carry_out(client, ((GRANT, rpc.enc((1, 3600), (2, number))) for number in range(1, WAITING + 2)), 200)
    client.connection.unary(LOCK, rpc.enc((1, "turn"), (2, 1)))
    pipes = [wire.Wire(target.port) for _ in range(PIPES)]

    with target.bystanders():
        for first, pipe in enumerate(pipes):
            pipe.push(b"".join(pipe.call(LOCK, rpc.enc((1, "turn"), (2, number + 2)))
                               for number in range(first, WAITING, PIPES)))
        found = wait_for_count(client, WAITING + 1)
        target.check(found == WAITING + 1, f"{found} keys, not {WAITING + 1}")
        began = time.monotonic()
        for _ in range(HANDED_ON):
            before = sum(pipe.statuses[rpc.OK] for pipe in pipes)
            first = client.call("KV", "Range", rpc.enc((1, b"turn/"), (2, b"turn0"), (3, 1), (5, 1), (6, 2)))
            client.delete(rpc.KeyValue(first[2][0]).key)
            while sum(pipe.statuses[rpc.OK] for pipe in pipes) == before and time.monotonic() < began + 60:
                for pipe in pipes:
                    pipe.listen(0.01, lambda: sum(one.statuses[rpc.OK] for one in pipes) > before)
        refused = sum(sum(pipe.statuses.values()) - pipe.statuses[rpc.OK] for pipe in pipes)
        target.check(refused == 0, f"{refused} are refused")
        target.note(f"handed on {HANDED_ON} times in {time.monotonic() - began:.1f} s")
        for pipe in pipes:
            pipe.close()
    # Those that held the lock keep their keys: the last one to get it.
    found = wait_for_count(client, 1)
    target.check(found == 1, f"{found} keys are left")
    target.check_memory_is_given_back(200)
