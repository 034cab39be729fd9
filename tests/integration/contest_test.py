"""Locks and elections, as etcd's services of these names tell of them: each case runs beside etcd 3.7."""

import threading

import harness
import rpc

LOCK, ELECTION = "/v3lockpb.Lock/", "/v3electionpb.Election/"


class Script:
    """Calls in order, and what came of each. Ids of members and terms are the servers' own, and left out."""

    def __init__(self, case, server):
        self.case, self.server, self.client, self.told = case, server, server.client(), []

    def tell(self, what, outcome):
        self.told.append((what, outcome))

    # What waits is asked for on a connection of its own.
    def start(self, path, message, **how):
        connection = rpc.Connection(self.server.client_port)
        return connection, connection.start(path, message, **how)

    def end(self, what, call):
        connection, stream = call
        try:
            self.tell(what, [readable(answer) for answer in connection.finish(stream)])
        except rpc.GrpcError as error:
            # Go's protobuf library writes one of two kinds of space, as it likes.
            self.tell(what, (error.code, error.message.replace("\xa0", " ")))
        connection.close()

    # A call whose deadline passes. etcd's server ends it with a status, or with a reset where its timer is first.
    def end_late(self, call):
        connection, stream = call
        with self.case.assertRaises(rpc.GrpcError) as ended:
            connection.finish(stream)
        error = ended.exception
        self.case.assertIn((error.code, error.message), [(4, "context deadline exceeded"), (1, "stream reset, code 8")])
        connection.close()

    def call(self, what, path, message, **how):
        self.end(what, self.start(path, message, **how))

    def keys(self, prefix):
        kvs = self.client.range(prefix, prefix[:-1] + bytes([prefix[-1] + 1])).get(2, [])
        return [rpc.KeyValue(raw).key for raw in kvs]

    def wait_for_keys(self, prefix, *keys):
        harness.until(lambda: self.keys(prefix) == list(keys),
                      what=lambda: f"{self.server.kind}: {self.keys(prefix)}, not {keys}")

    def wait_for_watchers(self, count):
        there = lambda: self.server.metric("etcd_debugging_mvcc_watcher_total")
        harness.until(lambda: there() == count, what=lambda: f"not {count} watchers: {there()}")

    # A call waits once it watches, which is a little after its key is there. One that ends before leaves its key.
    def wait_until_waiting(self, prefix, *keys, observers=0):
        self.wait_for_keys(prefix, *keys)
        self.wait_for_watchers(len(keys) - 1 + observers)

    def grant(self, *leases, seconds=10_000):
        for lease in leases:
            self.client.lease_grant(lease, seconds)


def readable(answer):
    """A response of either service, without what is the server's own."""
    message = rpc.dec(answer)
    header = rpc.dec(message.pop(1)[0])
    fields = {number: values[0] for number, values in sorted(message.items())}
    present = sorted(number for number in header if number != 3)
    return {"header": present, "revision": rpc.first(header, 3), **fields}


def lock(name, lease=0):
    return rpc.enc((1, name), (2, lease))


def campaign(name, lease, value):
    return rpc.enc((1, name), (2, lease), (3, value))


def leader(name, key, revision, lease):
    return rpc.enc((1, name), (2, key), (3, revision), (4, lease))


@harness.needs("etcd37")
class BesideEtcd(harness.Case):
    maxDiff = None

    def alike(self, case):
        def run(server):
            script = Script(self, server)
            case(script)
            return script.told

        etcd, cairn = self.side_by_side(run, ["etcd37", "cairn"])
        self.assertEqual(etcd, cairn)
        self.assertTrue(etcd)

    def test_a_lock_goes_from_one_to_the_next(self):
        def case(script):
            script.grant(1, 2, 3)
            script.call("free", LOCK + "Lock", lock("m", 1))
            script.call("again", LOCK + "Lock", lock("m", 1))
            second = script.start(LOCK + "Lock", lock("m", 2))
            script.wait_until_waiting(b"m/", b"m/1", b"m/2")
            third = script.start(LOCK + "Lock", lock("m", 3))
            script.wait_until_waiting(b"m/", b"m/1", b"m/2", b"m/3")
            script.call("unlock", LOCK + "Unlock", rpc.enc((1, "m/1")))
            script.end("second", second)
            script.call("unlock", LOCK + "Unlock", rpc.enc((1, "m/2")))
            script.end("third", third)
            script.tell("keys", script.keys(b"m/"))

        self.alike(case)

    def test_a_key_that_goes_while_it_waits(self):
        def case(script):
            script.grant(1, 2, 3)
            script.call("first", LOCK + "Lock", lock("m", 1))
            second = script.start(LOCK + "Lock", lock("m", 2))
            script.wait_until_waiting(b"m/", b"m/1", b"m/2")
            third = script.start(LOCK + "Lock", lock("m", 3))
            script.wait_until_waiting(b"m/", b"m/1", b"m/2", b"m/3")
            script.client.lease_revoke(2)
            script.client.lease_revoke(1)
            script.end("second", second)
            script.end("third", third)

        self.alike(case)

    def test_a_lease_that_ends_lets_the_next_one_in(self):
        def case(script):
            script.grant(1, seconds=2)
            script.grant(2)
            script.call("first", LOCK + "Lock", lock("m", 1))
            script.call("second", LOCK + "Lock", lock("m", 2))
            script.tell("keys", script.keys(b"m/"))

        self.alike(case)

    def test_who_gives_up_waiting_leaves_no_key(self):
        def case(script):
            script.grant(1, 2, 3)
            script.call("first", LOCK + "Lock", lock("m", 1))
            connection, stream = script.start(LOCK + "Lock", lock("m", 2))
            script.wait_until_waiting(b"m/", b"m/1", b"m/2")
            connection.reset(stream)
            script.wait_for_keys(b"m/", b"m/1")
            script.wait_for_watchers(0)
            connection.close()
            late = script.start(LOCK + "Lock", lock("m", 3), grpc_timeout="10S")
            script.wait_until_waiting(b"m/", b"m/1", b"m/3")
            script.end_late(late)
            script.wait_for_keys(b"m/", b"m/1")
            script.tell("revision", script.client.revision())

        self.alike(case)

    def test_a_lock_without_a_lease_is_given_one(self):
        def case(script):
            connection, stream = script.start(LOCK + "Lock", lock("m"))
            key = rpc.first(rpc.dec(connection.finish(stream)[0]), 2)
            lease = int(key.removeprefix(b"m/"), 16)
            left, granted, keys = script.client.lease_time_to_live(lease)
            script.tell("lease", (granted, 0 < left <= 60, keys == [key]))
            connection.close()

        self.alike(case)

    def test_refusals(self):
        def case(script):
            for lease in (77, -1, -1 << 63):
                script.call(f"no lease {lease}", LOCK + "Lock", lock("m", lease))
                script.call(f"no lease {lease}", ELECTION + "Campaign", campaign("e", lease, "v"))
            script.call("nothing locked", LOCK + "Unlock", rpc.enc((1, "m/1")))
            script.call("no key", LOCK + "Unlock", b"")
            script.call("no leader", ELECTION + "Leader", rpc.enc((1, "e")))
            for method in ("Proclaim", "Resign"):
                script.call("no leader key", ELECTION + method, b"")
                script.call("an empty one", ELECTION + method, rpc.enc((1, [b""])))
                script.call("another one", ELECTION + method, rpc.enc((1, leader("e", "e/1", 5, 1)), (2, "v")))
            for path in (LOCK + "Lock", LOCK + "Unlock", *(ELECTION + m for m in (
                    "Campaign", "Proclaim", "Leader", "Observe", "Resign"))):
                script.call(path, path, b"\xff")

        self.alike(case)

    def test_an_election(self):
        def case(script):
            script.grant(0xA, 0xB)
            script.call("first", ELECTION + "Campaign", campaign("e", 0xA, "one"))
            second = script.start(ELECTION + "Campaign", campaign("e", 0xB, "two"))
            script.wait_until_waiting(b"e/", b"e/a", b"e/b")
            script.call("leader", ELECTION + "Leader", rpc.enc((1, "e")))
            first = leader("e", "e/a", 2, 0xA)
            script.call("proclaim", ELECTION + "Proclaim", rpc.enc((1, first), (2, "more")))
            script.call("campaign again", ELECTION + "Campaign", campaign("e", 0xA, "most"))
            script.call("leader", ELECTION + "Leader", rpc.enc((1, "e")))
            wrong = leader("e", "e/a", 3, 0xA)
            script.call("proclaim as another", ELECTION + "Proclaim", rpc.enc((1, wrong), (2, "x")))
            script.call("resign as another", ELECTION + "Resign", rpc.enc((1, wrong)))
            other_lease = leader("e", "e/a", 2, 0xC)
            script.call("proclaim without the lease", ELECTION + "Proclaim", rpc.enc((1, other_lease), (2, "x")))
            script.call("resign", ELECTION + "Resign", rpc.enc((1, first)))
            script.end("second", second)
            script.call("leader", ELECTION + "Leader", rpc.enc((1, "e")))

        self.alike(case)

    def test_who_gives_up_campaigning_leaves_no_key(self):
        def case(script):
            script.grant(1, 2)
            script.call("first", ELECTION + "Campaign", campaign("e", 1, "one"))
            connection, stream = script.start(ELECTION + "Campaign", campaign("e", 2, "two"))
            script.wait_until_waiting(b"e/", b"e/1", b"e/2")
            connection.reset(stream)
            script.wait_for_keys(b"e/", b"e/1")
            connection.close()

        self.alike(case)

    def test_an_observer(self):
        def case(script):
            script.grant(1, 2, 3)
            connection, stream = script.start(ELECTION + "Observe", rpc.enc((1, "e")))
            seen = 0

            def told(what):
                nonlocal seen
                while len(stream.messages) <= seen:
                    connection.read_frame()
                script.tell(what, readable(stream.messages[seen]))
                seen += 1

            script.call("first", ELECTION + "Campaign", campaign("e", 1, "one"))
            told("a first leader")
            second = script.start(ELECTION + "Campaign", campaign("e", 2, "two"))
            script.wait_until_waiting(b"e/", b"e/1", b"e/2", observers=1)
            for value in ("more", "most"):
                script.call(value, ELECTION + "Proclaim", rpc.enc((1, leader("e", "e/1", 2, 1)), (2, value)))
                told(value)
            script.call("resign", ELECTION + "Resign", rpc.enc((1, leader("e", "e/1", 2, 1))))
            script.end("second", second)
            told("the next leader")
            script.client.lease_revoke(2)
            script.call("third", ELECTION + "Campaign", campaign("e", 3, "three"))
            told("the one after")
            connection.close()
            late, stream = script.start(ELECTION + "Observe", rpc.enc((1, "e")))
            while not stream.messages:
                late.read_frame()
            script.tell("late", readable(stream.messages[0]))
            late.close()

        self.alike(case)

    def test_many_take_turns(self):
        """Each holder adds one to a number that it reads and writes in two calls."""
        def case(script):
            def worker(number):
                with rpc.Client(script.server.client_port, timeout=120) as client:
                    for turn in range(5):
                        lease = 100 * number + turn + 1
                        client.lease_grant(lease, 10_000)
                        client.connection.unary(LOCK + "Lock", lock("turns", lease))
                        value = client.get("count")
                        client.put("count", str(int(value.value if value else 0) + 1))
                        client.connection.unary(LOCK + "Unlock", rpc.enc((1, f"turns/{lease:x}")))

            threads = [threading.Thread(target=worker, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            script.tell("count", script.client.get("count").value)
            script.tell("keys", script.keys(b"turns/"))

        self.alike(case)


if __name__ == "__main__":
    harness.main()
