"""Leases, alarms and streams byte by byte: Cairn and etcd 3.7 have the same ids, so nothing of an answer may differ.

Nothing here waits for a while and compares what has come: how many messages each stream gets follows from what was
asked (Model), and they are waited for.
"""

import re
import time

import harness
import rpc

KV, LEASE, WATCH = "/etcdserverpb.KV/", "/etcdserverpb.Lease/", "/etcdserverpb.Watch/Watch"
KEEP_ALIVE, ALARM = LEASE + "LeaseKeepAlive", "/etcdserverpb.Maintenance/Alarm"
KINDS = ("etcd37", "cairn")
PATIENCE_S = 60
MESSAGE_BYTES_MAX = 1_572_864 + 512 * 1024  # from here on a response is cut into fragments


def create(*fields):
    return rpc.enc((1, [rpc.enc(*fields)]))


def cancel(number):
    return rpc.enc((2, [rpc.enc((1, number))]))


PROGRESS = b"\x1a\x00"


@harness.needs("etcd37")
class Twins(harness.Case):
    """A member of each, with one peer URL and so with the same ids."""

    maxDiff = None

    def start(self, *flags):
        peer = harness.free_port()
        self.members = {}
        for kind in KINDS:
            ports = harness.free_port(), peer
            self.members[kind] = self.server(kind, self.dir / kind, ports=ports, flags=flags,
                                             listen_peer_port=harness.free_port()).start()
        self.connections = {kind: self.connect(kind) for kind in KINDS}

    def connect(self, kind):
        connection = rpc.Connection(self.members[kind].client_port, stream_window=1 << 26)
        self.addCleanup(connection.close)
        return connection

    # Unary calls

    def answer(self, kind, path, message):
        call = self.connections[kind].start(path, message)
        try:
            self.connections[kind].finish(call, PATIENCE_S)
        except rpc.GrpcError:
            pass
        return call.messages, call.status()

    def ask(self, path, message=b"", part=lambda messages: messages):
        """Both are asked the same; what they say is the same, or `part` of it."""
        said = {kind: self.answer(kind, path, message) for kind in KINDS}
        (theirs, their_status), (ours, our_status) = said["etcd37"], said["cairn"]
        self.assertEqual((part(theirs), their_status), (part(ours), our_status), f"{path} {message.hex()}")
        return theirs[0] if theirs else b""

    # Streams

    def open(self, path):
        return {kind: self.connections[kind].start(path, None, end=False) for kind in KINDS}

    def send(self, streams, message):
        for kind in KINDS:
            number, body = streams[kind].number, rpc.grpc_message(message)
            self.connections[kind].sock.sendall(rpc.frame(rpc.DATA, 0, number, body))

    def read_until(self, done, said):
        deadline = time.monotonic() + PATIENCE_S
        for kind in KINDS:
            while not done(kind):
                self.assertLess(time.monotonic(), deadline, f"{kind}: {said(kind)}")
                try:
                    self.connections[kind].read_frame(1)
                except TimeoutError:
                    pass

    def wait_for(self, streams, count):
        self.read_until(lambda kind: len(streams[kind].messages) >= count,
                        lambda kind: [message[:100] for message in streams[kind].messages])
        return {kind: streams[kind].messages for kind in KINDS}


class Requests(Twins):
    def left(self, messages):
        """A time to live without the seconds that are left, and with its keys in order."""
        fields = rpc.dec(messages[0])
        fields[5] = sorted(fields.get(5, []))
        if rpc.signed(rpc.first(fields, 3)) > 0:
            fields[3] = ["some"]
        return fields

    def test_leases(self):
        self.start()
        for seconds in (0, -1, 1, 2, 3, -(1 << 63), 9_000_000_000, 9_000_000_001, (1 << 63) - 1):
            for number in (1001, -7, -(1 << 63), (1 << 63) - 1):
                request = rpc.enc((1, seconds), (2, number))
                name = rpc.enc((1, number))
                self.ask(LEASE + "LeaseGrant", request)
                self.ask(LEASE + "LeaseGrant", request)
                self.ask(LEASE + "LeaseLeases")
                self.ask(LEASE + "LeaseRevoke", name)
                self.ask(LEASE + "LeaseRevoke", name)
                self.ask(LEASE + "LeaseTimeToLive", name)
                self.ask(KEEP_ALIVE, name)
        for path in ("LeaseRevoke", "LeaseTimeToLive", "LeaseKeepAlive", "LeaseLeases"):
            self.ask(LEASE + path)
        for number in (1, 2):
            self.ask(LEASE + "LeaseGrant", rpc.enc((1, 1000 * number), (2, number)))
        for key, number in ((b"a", 1), (b"b", 1), (b"a", 2), (b"c", 2), (b"c", 0), (b"d", -1), (b"e", 1)):
            self.ask(KV + "Put", rpc.enc((1, key), (2, b"v"), (3, number), (4, 1)))
        put = rpc.op_put
        for then in ([put(b"a", b"1", 1), rpc.op_delete(b"b"), put(b"f", b"1", 2)],
                     [put(b"y", b"1"), put(b"z", b"1", 9)], [put(b"e", b"1", 2), put(b"f", b"1")]):
            self.ask(KV + "Txn", rpc.txn_request([], then))
        for number in (1, 2, 3):
            self.ask(LEASE + "LeaseTimeToLive", rpc.enc((1, number), (2, 1)), self.left)
        for number in (2, 1):
            self.ask(LEASE + "LeaseRevoke", rpc.enc((1, number)))
            self.ask(KV + "Range", rpc.enc((1, b"\0"), (2, b"\0")))

    def test_the_least_time_of_a_lease(self):
        """It follows from the ticks of an election: 7 s, though one and a half election timeouts are 7.5 s."""
        self.start("--heartbeat-interval", "1000", "--election-timeout", "5000")
        self.ask(LEASE + "LeaseGrant", rpc.enc((1, 1), (2, 5)))

    def alarms(self, messages):
        fields = rpc.dec(messages[0])
        return rpc.first(fields, 1, b""), sorted(fields.get(2, []))

    def without_spaces(self, messages):
        """The alarms of a Status: Go's library puts one space or two between fields."""
        return sorted(re.sub(rb" +", b" ", text) for text in rpc.dec(messages[0]).get(8, []))

    def series(self, kind):
        page = self.members[kind].http("/metrics")[2]
        return sorted(re.findall(r"^etcd_debugging_server_alarms(\{.*\}) 1$", page, re.M))

    def test_alarms(self):
        """Also of types that have no name."""
        self.start()
        for action, member, kind in ((0, 0, 0), (1, 0, 1), (0, 5, 2), (1, 7, 7), (1, 7, 0), (1, 8, -1), (0, 9, 7),
                                     (2, 0, 1), (2, 0, 1), (2, 7, 0), (1, 7, 2), (1, 9, 1), (2, 7, 2), (0, 0, 0)):
            request = rpc.enc((1, action), (2, member), (3, kind))
            self.ask(ALARM, request, self.alarms)
            self.ask("/etcdserverpb.Maintenance/Status", b"", self.without_spaces)
            txn = rpc.txn_request([], [rpc.op_put(b"q", b"")])
            for path, message in (("KV/Put", rpc.enc((1, b"q"))), ("KV/Put", b""), ("KV/Txn", txn),
                                  ("KV/DeleteRange", rpc.enc((1, b"q"))), ("KV/Compact", rpc.enc((1, 1 << 40))),
                                  ("Lease/LeaseGrant", rpc.enc((1, 9_000_000_001), (2, 1))),
                                  ("Lease/LeaseRevoke", rpc.enc((1, 1)))):
                self.ask("/etcdserverpb." + path, message)
            if action != 0:
                self.assertEqual(self.series("etcd37"), self.series("cairn"))
        self.ask(ALARM, rpc.enc((1, 2), (2, 9), (3, 1)), self.alarms)
        for excluded in ("7", "-1", "7&exclude=-1", "UNKNOWN", "NOSPACE"):
            told = [self.members[kind].http(f"/health?exclude={excluded}")[::2] for kind in KINDS]
            self.assertEqual(*told, excluded)
        # In the other's directory an alarm is taken back.
        directories = [self.members[kind].data_dir for kind in KINDS]
        for kind, directory in zip(KINDS, reversed(directories)):
            self.members[kind].stop()
            self.members[kind].data_dir = directory
        for kind in KINDS:
            self.members[kind].start()
        self.connections = {kind: self.connect(kind) for kind in KINDS}
        for member, kind in ((7, 7), (8, -1)):
            self.ask(ALARM, rpc.enc((1, 2), (2, member), (3, kind)), self.alarms)
        for kind in KINDS:
            self.members[kind].stop()
            self.members[kind].start()
        self.connections = {kind: self.connect(kind) for kind in KINDS}
        self.assertEqual(self.alarms([self.ask(ALARM)])[1], [])


class Model:
    """How many messages a stream of watchers gets, though not which."""

    def __init__(self):
        self.history = [(0, b"", False)]  # (revision, key, is a delete), in order
        self.keys = set()
        self.revision, self.compacted = 1, -1

    def change(self, put, delete):
        """What a transaction of puts and of single deletes changes: [(key, is a delete)]."""
        changes = [(key, False) for key in put] + [(key, True) for key in delete if key in self.keys]
        if changes:
            self.revision += 1
            self.history += [(self.revision, *change) for change in changes]
        self.keys = (self.keys | set(put)) - set(delete)
        return changes


class Watcher:
    def __init__(self, key, end, start, filters):
        self.low, self.end = key or b"\0", end
        self.start, self.filters = start, filters

    def is_empty(self):
        return self.end not in (b"", b"\0") and self.low >= self.end

    def wants(self, key, is_delete):
        if (1 if is_delete else 0) in self.filters:
            return False
        if not self.end:
            return key == self.low
        return key >= self.low and (self.end == b"\0" or key < self.end)


class Watches(Twins):
    KEYS = [b"a", b"ab", b"b", b"\0", b"\xff", b"c", b"\0\0", b"aa"]
    STREAMS = 16

    def is_history(self, revision, key, is_delete):
        """Whether the event is still told to who begins in the past: a delete goes with the compaction above it."""
        model = self.model
        if revision > model.compacted or not model.compacted > 0:
            return True
        later = [event for event in model.history if event[1] == key and revision < event[0] <= model.compacted]
        return not later and (not is_delete or revision == model.compacted)

    def expected_of_create(self, watchers, watcher, number):
        """(messages, the id): what comes of a create request, its events included."""
        model = self.model
        if watcher.start < 0 or watcher.is_empty() or (number != 0 and number in watchers):
            return 1, None
        if number == 0:
            number = self.next_ids.get(id(watchers), 0)
            while number in watchers:
                number += 1
            self.next_ids[id(watchers)] = number + 1
        watchers[number] = watcher
        if watcher.start == 0 or watcher.start > model.revision:
            return 1, number
        if watcher.start < model.compacted:
            watcher.start = 1 << 62  # it only keeps its id
            return 2, number
        told = any(event[0] >= watcher.start and watcher.wants(*event[1:]) and self.is_history(*event)
                   for event in model.history[1:])
        return 1 + told, number

    def random_create(self, random):
        model = self.model
        key = random.choice([*self.KEYS, b""])
        end = random.choice([b"", b"", b"\0", random.choice(self.KEYS)])
        start = random.choice([0, 0, 0, -1, 1, random.randint(max(1, model.revision - 8), model.revision + 4),
                               model.revision, model.revision + 1, *(max(1, model.compacted + i) for i in (-1, 0, 1))])
        number = random.choice([0, 0, 0, 0, random.randint(-2, 6), (1 << 63) - 1])
        filters = random.choices([0, 1, 2, 300], k=random.choice([0, 0, 0, 1, 2]))
        fields = [(1, key), (2, end), (3, start), (7, number), (4, random.random() < .2), (6, random.random() < .5),
                  (8, random.random() < .3)]
        packed = b"".join(map(rpc.varint, filters))
        body = rpc.enc(*fields) + (b"\x2a" + rpc.varint(len(packed)) + packed if filters else b"")
        return b"\x0a" + rpc.varint(len(body)) + body, Watcher(key, end, start, filters), number

    def settle(self):
        """Until etcd has looked at all watchers that begin in the past: it sends to them in one go, and this one has
        something to be sent."""
        streams = self.open(WATCH)
        self.send(streams, create((1, b"\0"), (2, b"\0"), (3, self.model.revision)))
        self.wait_for(streams, 2)
        for kind in KINDS:
            self.connections[kind].reset(streams[kind])

    def check(self):
        for streams, want in zip(self.streams, self.want):
            self.wait_for(streams, want)
        for number, (streams, want) in enumerate(zip(self.streams, self.want)):
            theirs, ours = (sorted(m.hex() for m in streams[kind].messages[self.seen[number]:]) for kind in KINDS)
            self.assertEqual(theirs, ours, f"stream {number}: {self.said[number]}")
            self.assertEqual(len(streams["etcd37"].messages), want, f"stream {number}: {self.said[number]}")
            self.seen[number] = want

    def begin_streams(self):
        self.streams = [self.open(WATCH) for _ in range(self.STREAMS)]
        self.watchers = [{} for _ in range(self.STREAMS)]
        self.want, self.seen = [0] * self.STREAMS, [0] * self.STREAMS
        self.said = [[] for _ in range(self.STREAMS)]
        self.next_ids = {}

    def ask_streams(self, random):
        for i, (streams, watchers) in enumerate(zip(self.streams, self.watchers)):
            kind = random.random()
            if kind < .6:
                request, watcher, number = self.random_create(random)
                messages, _ = self.expected_of_create(watchers, watcher, number)
                self.want[i] += messages
            elif kind < .75:
                number = random.randint(-2, 8)
                request = cancel(number) if number else b"\x12\x00"
                self.want[i] += number in watchers
                watchers.pop(number, None)
            elif kind < .8:
                request = random.choice([b"", b"\x7a\x01x", b"\x12\x00" if 0 not in watchers else b""])
            else:
                continue
            self.said[i].append(request.hex())
            self.send(streams, request)

    def change_keys(self, random):
        keys = random.sample(self.KEYS, 3)
        deletes = [key for key in keys[2:] if random.random() < .7]
        self.change(keys[:random.randint(0, 2)] if deletes else keys[:2], deletes)

    def change(self, puts, deletes):
        changes = self.model.change(puts, deletes)
        operations = [rpc.op_put(key, b"at %d" % self.model.revision) for key in puts]
        self.ask(KV + "Txn", rpc.txn_request([], operations + [rpc.op_delete(key) for key in deletes]))
        for i, watchers in enumerate(self.watchers):
            begun = [watcher for watcher in watchers.values() if watcher.start <= self.model.revision]
            self.want[i] += sum(any(watcher.wants(*change) for change in changes) for watcher in begun)

    def test_random_streams(self):
        self.start()
        random = self.random()
        self.model = Model()
        self.begin_streams()
        self.change([b"a"], [])
        for step in range(60):
            if step % 20 == 19:
                for streams in self.streams:
                    for kind in KINDS:
                        self.connections[kind].reset(streams[kind])
                self.begin_streams()
            if random.random() < .6:
                self.ask_streams(random)
                self.settle()
            elif step > 4 and random.random() < .2:
                # What is compacted already is refused, by both.
                self.model.compacted = random.randint(max(1, self.model.compacted), self.model.revision)
                self.ask(KV + "Compact", rpc.enc((1, self.model.compacted), (2, 1)))
            else:
                self.change_keys(random)
            self.check()

    # Progress and fragments

    def test_progress_is_asked_for(self):
        self.start()
        self.ask(KV + "Put", rpc.enc((1, b"a")))
        streams = self.open(WATCH)
        for message, count in ((PROGRESS, 0), (create((1, b"a")), 1), (PROGRESS, 2), (create((1, b"b"), (3, 4)), 3),
                               (PROGRESS, 3), (b"\x12\x00", 4), (cancel(1), 5), (PROGRESS, 5), (create((1, b"c")), 6),
                               (PROGRESS, 7)):
            self.send(streams, message)
            self.wait_for(streams, count)
        theirs, ours = (streams[kind].messages for kind in KINDS)
        self.assertEqual(theirs, ours)

    def cut(self, sizes):
        """One transaction replaces values of `sizes`: (the length of the response, in how many fragments it comes)."""
        self.ask(KV + "DeleteRange", rpc.enc((1, b"f"), (2, b"g")))
        values = rpc.txn_request([], [rpc.op_put(b"f%03d" % i, b"x" * size) for i, size in enumerate(sizes)])
        self.ask(KV + "Txn", values)
        whole, parts = self.open(WATCH), self.open(WATCH)
        self.send(whole, create((1, b"f"), (2, b"g"), (6, 1)))
        self.send(parts, create((1, b"f"), (2, b"g"), (6, 1), (8, 1)))
        self.wait_for(whole, 1), self.wait_for(parts, 1)
        self.ask(KV + "Txn", values)
        length = len(self.wait_for(whole, 2)["etcd37"][1])

        def has_last(kind):
            return len(parts[kind].messages) > 1 and not rpc.first(rpc.dec(parts[kind].messages[-1]), 7)

        self.read_until(has_last, lambda kind: [len(m) for m in parts[kind].messages])
        for streams in (whole, parts):
            theirs, ours = (streams[kind].messages for kind in KINDS)
            self.assertEqual([len(m) for m in theirs], [len(m) for m in ours])
            self.assertTrue(theirs == ours, "the same lengths, other bytes")
        out = length, len(parts["etcd37"].messages) - 1
        for streams in (whole, parts):
            for kind in KINDS:
                self.connections[kind].reset(streams[kind])
        return out

    def test_fragments_begin_at_the_same_byte(self):
        self.start()
        self.assertEqual(self.cut([100] * 100)[1], 1)
        self.assertEqual(self.cut([1_400_000])[1], 1, "one event is not cut")
        self.assertEqual(self.cut([1, 1, 1_400_000, 1, 1])[1], 3)
        self.assertGreater(self.cut([15_000] * 100)[1], 1)
        size = 520_000
        length, _ = self.cut([size, size])
        size += (MESSAGE_BYTES_MAX - length) // 4
        found = {self.cut([size, size + more]) for more in range(-3, 4)}
        self.assertEqual({parts for _, parts in found}, {1, 2})
        for length, parts in found:
            self.assertEqual(parts, 1 if length < MESSAGE_BYTES_MAX else 2, length)


class Ends(Twins):
    """What ends a stream, and what does not."""

    def both(self, path, messages, ends, half_close=False, **how):
        out = {}
        for kind in KINDS:
            connection = self.connections[kind]
            stream = connection.start(path, None, end=False, **how)
            for message in messages:
                connection.sock.sendall(rpc.frame(rpc.DATA, 0, stream.number, rpc.grpc_message(message)))
            if half_close:
                connection.sock.sendall(rpc.frame(rpc.DATA, rpc.END_STREAM, stream.number, b""))
            deadline = time.monotonic() + PATIENCE_S
            while not (stream.ended if ends is True else len(stream.messages) >= ends):
                self.assertLess(time.monotonic(), deadline, f"{kind}: {messages}")
                try:
                    connection.read_frame(1)
                except TimeoutError:
                    pass
            self.assertEqual(stream.ended, ends is True, f"{kind}: {messages}")
            # Go's library has one space or another behind "proto:".
            status = [str(part).replace("\xa0", " ") for part in stream.status()] if stream.ended else None
            out[kind] = stream.messages, status
            if not stream.ended:
                connection.reset(stream)
        self.assertEqual(out["etcd37"], out["cairn"], messages)

    def test_watch(self):
        self.start()
        a = create((1, b"a"))
        self.both(WATCH, [a], 1, half_close=True)
        self.both(WATCH, [b"", b"\x7a\x01x", b"\x12\x00", PROGRESS, a], 1)
        self.both(WATCH, [b"\x0a\x00", b"\x12\x00", PROGRESS], 2)
        self.both(WATCH, [a + create((2, b"c"))], 1)
        self.both(WATCH, [create((1, b"a"), (2, b"a")), create((1, b"b"), (2, b"a")), create((3, -1))], 3)
        self.both(WATCH, [create((1, b"a"), (7, -1)), create((1, b"a"), (7, -1)), cancel(-1)], 3)
        self.both(WATCH, [b"\x0a\xff"], True)
        self.both(WATCH, [a], 1, metadata=[("hasleader", "true"), ("client-api-version", "3.7")])

    def test_keep_alive(self):
        self.start()
        self.ask(LEASE + "LeaseGrant", rpc.enc((1, 100), (2, 9)))
        kept, unknown = rpc.enc((1, 9)), rpc.enc((1, 8))
        self.both(KEEP_ALIVE, [kept, unknown, b"", kept], 4)
        self.both(KEEP_ALIVE, [kept, unknown, b"", b"\x0a\x01a", b"\x08\x08\x08\x09"], True, half_close=True)
        self.both(KEEP_ALIVE, [], True, half_close=True)
        self.both(KEEP_ALIVE, [kept, b"\x08", kept], True)
        self.both(KEEP_ALIVE, [kept, b"\x08"], True, half_close=True)


if __name__ == "__main__":
    harness.main()
