"""Clients that never stop asking, whatever becomes of the members, and record all of it.

Each is a thread with connections of its own. A client that is not answered in time, or loses its connection, goes to
another member; so does one now and then, to see what that one knows.
"""

import random
import threading
import time

import recording
import rpc

KEYS = [b"k/%d" % i for i in range(8)]
REVISIONS_BACK_MAX = 40


class Client(threading.Thread):
    """`addresses()` is [(member id, port)] of now."""

    def __init__(self, number, seed, history, addresses):
        super().__init__(daemon=True, name=f"client {number}")
        self.number, self.history, self.addresses = number, history, addresses
        self.random = random.Random(seed * 1000 + number)
        self.stopping = threading.Event()
        self.connection, self.member = None, 0
        self.revision = 1  # the newest that this client was told
        self.made = 0      # values and leases that were made: no two are alike
        self.leases = []
        self.failure = None

    def run(self):
        try:
            while not self.stopping.is_set():
                self.turn()
        except BaseException as error:  # the main thread raises it
            self.failure = error
        finally:
            self.disconnect()

    def disconnect(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def turn(self):
        if self.connection is None or self.random.random() < 0.005:
            self.disconnect()
            self.member, port = self.random.choice(self.addresses())
            try:
                self.connection = rpc.Connection(port, timeout=5)
            except OSError:
                self.stopping.wait(0.02)
                return
        try:
            self.revision = max(self.revision, recording.header_revision(self.ask(*self.choose())))
            if self.random.random() < 0.3:
                self.stopping.wait(self.random.uniform(0, 0.01))
        except rpc.GrpcError as error:
            if error.code in (rpc.UNAVAILABLE, rpc.DEADLINE_EXCEEDED, rpc.UNKNOWN):
                self.disconnect()
                self.stopping.wait(0.01)
        except OSError:
            self.disconnect()

    def ask(self, name, request):
        return self.history.call(self.number, self.member, self.connection, name, request,
                                 self.random.choice((1, 3, 10)))

    def value(self):
        self.made += 1
        return b"%d/%d" % (self.number, self.made)

    def choose(self):
        key, dice = self.random.choice(KEYS), self.random.random()
        if dice < 0.35:
            lease = self.random.choice(self.leases) if self.leases and self.random.random() < 0.2 else 0
            return "Put", rpc.put_request(key, self.value(), lease)
        if dice < 0.55:
            return "Range", rpc.enc((1, key))
        if dice < 0.60:
            return "Range", rpc.enc((1, key), (7, True))
        if dice < 0.65:
            back = self.revision - self.random.randrange(REVISIONS_BACK_MAX)
            return "Range", rpc.enc((1, b"k/"), (2, b"k0"), (4, max(1, back)))
        if dice < 0.70:
            return "Range", rpc.enc((1, b"k/"), (2, b"k0"))
        if dice < 0.76:
            return "DeleteRange", rpc.enc((1, key), (2, b"k0" if self.random.random() < 0.1 else None),
                                          (3, self.random.random() < 0.5))
        if dice < 0.80:
            self.made += 1
            lease = self.number << 32 | self.made
            self.leases = self.leases[-4:] + [lease]
            return "LeaseGrant", rpc.enc((1, 3600), (2, lease))
        if dice < 0.82 and self.leases:
            return "LeaseRevoke", rpc.enc((1, self.leases.pop(0)))
        return "Txn", self.transaction(key)

    def transaction(self, key):
        other = self.random.choice(KEYS)
        compare = rpc.compare_version(key, 0) if self.random.random() < 0.3 else \
            rpc.compare_value(key, b"%d/%d" % (self.number, self.made))
        success = [rpc.op_put(key, self.value()), rpc.op_range(other)]
        if other != key:
            success.append(rpc.op_put(other, self.value()))
        failure = [rpc.op_range(key)] if self.random.random() < 0.7 else [rpc.op_put(key, self.value())]
        return rpc.txn_request([compare], success, failure)

    def stop(self):
        self.stopping.set()


class Watcher(threading.Thread):
    """Watches all keys from revision 1. When its member goes or is silent it goes on at another one, behind the last
    revision that it has seen."""

    def __init__(self, number, seed, history, addresses):
        super().__init__(daemon=True, name=f"watcher {number}")
        self.number, self.history, self.addresses = number, history, addresses
        self.random = random.Random(seed * 1000 + number)
        self.stopping = threading.Event()
        self.seen = 0  # the last revision
        self.failure = None

    def run(self):
        last = None
        try:
            while not self.stopping.is_set():
                member, port = self.random.choice(self.addresses())
                try:
                    with rpc.Connection(port, timeout=5) as connection:
                        last = self.watch(connection, member, last)
                except (OSError, rpc.GrpcError):
                    self.stopping.wait(0.02)
        except BaseException as error:
            self.failure = error

    def watch(self, connection, member, resumes):
        """Until the connection or the watcher ends, or nothing new came for some seconds."""
        create = rpc.enc((1, b"\0"), (2, b"\0"), (3, self.seen + 1), (4, True))
        request = rpc.enc((1, create))
        stream = connection.start("/etcdserverpb.Watch/Watch", request, end=False)
        made = self.history.watch(self.number, member, create, resumes)
        new_at = time.monotonic()
        try:
            while not self.stopping.is_set() and not stream.ended and time.monotonic() - new_at < 3:
                try:
                    connection.read_frame(0.2)
                except TimeoutError:
                    continue
                while stream.messages:
                    message = stream.messages.pop(0)
                    made.responses.append((time.monotonic_ns(), message))
                    for _, _, revision in recording.events_of(message):
                        self.seen, new_at = revision, time.monotonic()
                    if rpc.first(rpc.dec(message), 4):
                        raise rpc.GrpcError(rpc.OUT_OF_RANGE, f"cancelled: {message!r}")
        except (OSError, rpc.GrpcError):
            pass
        return made.number

    def stop(self):
        self.stopping.set()
