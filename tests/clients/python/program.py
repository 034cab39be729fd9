"""Goes through what the etcd3 package for Python offers, on one endpoint, and prints what came of it.

    program.py PORT PART...

The lines are the same for every server that behaves as etcd does. A line "@kill" or "@stop" asks whoever runs
the program to kill or to stop the server, to start it again, and to write a line when it serves.

With TLS_DIRECTORY (ca.crt, client.crt, client.key) all of it goes over TLS. With AS_ROOT auth is enabled first, and the
parts are gone through as root.
"""

import concurrent.futures
import os
import pathlib
import queue
import sys
import tempfile
import threading
import time

import etcd3
import etcd3.etcdrpc
import grpc

import accounts

PATIENCE_S = 60


def connect(**options):
    tls = {}
    if "TLS_DIRECTORY" in os.environ:
        directory = pathlib.Path(os.environ["TLS_DIRECTORY"])
        tls = {"ca_cert": directory / "ca.crt", "cert_cert": directory / "client.crt", "cert_key": directory / "client.key"}
    return etcd3.client(host="127.0.0.1", port=int(sys.argv[1]), timeout=PATIENCE_S, **tls, **options)


def say(*words, sep=" "):
    print(*words, sep=sep, flush=True)


def failure(call, *arguments, **options):
    """What a call fails with: the package's exception, and what the server said."""
    try:
        result = call(*arguments, **options)
        return list(result) if hasattr(result, "__next__") else result
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"
    except etcd3.Etcd3Exception as error:
        cause = error.__context__
        told = f"{cause.code().name}: {cause.details()}" if isinstance(cause, grpc.RpcError) else ""
        return " ".join(filter(None, [type(error).__name__, str(error), told]))


def kv_text(value, meta):
    if meta is None:
        return "nothing"
    return (f"{meta.key!r} = {value[:24]!r}, created {meta.create_revision}, modified {meta.mod_revision}, "
            f"version {meta.version}, leased {meta.lease_id != 0}")


def raw_text(kv):
    return (f"{kv.key!r} = {kv.value[:24]!r}, created {kv.create_revision}, modified {kv.mod_revision}, "
            f"version {kv.version}")


def single_keys(etcd):
    say("put", etcd.put("a", "1").header.revision)
    say("get", kv_text(*etcd.get("a")), kv_text(*etcd.get("a", serializable=True)), kv_text(*etcd.get("none")))
    answer = etcd.put(b"a", b"\x00\xff binary", prev_kv=True)
    say("put over", raw_text(answer.prev_kv), answer.header.revision)
    say("count", etcd.get_response("a").count, etcd.get_response("none").count)
    say("if not there", etcd.put_if_not_exists("a", "x"), etcd.put_if_not_exists("b", "1"))
    say("replace", etcd.replace("b", "0", "2"), etcd.replace("b", "1", "2"), kv_text(*etcd.get("b")))
    say("delete", etcd.delete("b"), etcd.delete("b"), etcd.delete("none", prev_kv=True))
    etcd.put("b", "3")
    answer = etcd.delete("b", prev_kv=True, return_response=True)
    say("delete", answer.deleted, raw_text(answer.prev_kvs[0]))
    say("no key", failure(etcd.put, "", "x"), failure(etcd.get, ""), failure(etcd.delete, ""))
    say("a lease that is not there", failure(etcd.put, "a", "x", lease=4711))
    say("a large value", failure(etcd.put, "large", "x" * 1_600_000))


def ranges(etcd):
    for i in range(6):
        etcd.put(f"k/{i}", f"v{9 - i}")
    for key in ("k/1", "k/1", "k/3", "kk", "l"):
        etcd.put(key, "again")
    for order in (None, "ascend", "descend"):
        for target in (None, "key", "version", "create", "mod", "value"):
            answer = etcd.get_prefix_response("k/", sort_order=order, sort_target=target)
            keys = [kv.key.decode() for kv in answer.kvs]
            # The order of equals is not promised.
            say("sorted", order, target, answer.count, sorted(keys) if target in ("version", "value") else keys)
    say("keys alone", [(value, meta.key) for value, meta in etcd.get_prefix("k/", keys_only=True)])
    say("range", [kv_text(*found) for found in etcd.get_range("k/1", "k/4")])
    say("range", [meta.key for _, meta in etcd.get_range("k/2", "\0", sort_order="descend", serializable=True)])
    say("empty ranges", list(etcd.get_range("z", "zz")), list(etcd.get_range("k/4", "k/1")))
    say("all", [meta.key for _, meta in etcd.get_all(sort_order="descend", sort_target="create")])
    say("all keys", len(list(etcd.get_all(keys_only=True))))
    say("delete a prefix", etcd.delete_prefix("k/").deleted, etcd.delete_prefix("k/").deleted,
        [meta.key for _, meta in etcd.get_prefix("k")])


def answers_text(answers):
    out = []
    for answer in answers:
        if isinstance(answer, list):
            out.append([kv_text(*found) for found in answer])
        else:
            kind = answer.WhichOneof("response")
            inner = getattr(answer, kind)
            out.append((kind, getattr(inner, "deleted", None), getattr(inner, "succeeded", None)))
    return out


def transactions(etcd):
    t = etcd.transactions
    etcd.put("t/a", "1")
    etcd.put("t/a", "5")
    modified = etcd.get("t/a")[1].mod_revision
    compares = {
        "value": [t.value("t/a") == "5", t.value("t/a") != "5", t.value("t/a") < "6", t.value("t/a") > "6"],
        "version": [t.version("t/a") == 2, t.version("t/a") > 2, t.version("t/none") == 0, t.version("t/a") != 0],
        "create": [t.create("t/a") == modified - 1, t.create("t/none") == 0, t.create("t/a") > modified],
        "mod": [t.mod("t/a") == modified, t.mod("t/a") < modified, t.mod("t/a") > 1, t.mod("t/a") != modified],
    }
    for name, several in compares.items():
        say("compare", name, [etcd.transaction([one], [t.get("t/a")], [])[0] for one in several])
    held, answers = etcd.transaction(
        compare=[t.value("t/a") == "5", t.version("t/none") == 0],
        success=[t.put("t/b", "1"), t.get("t/a"), t.delete("t/none"), t.put("t/a", "6", prev_kv=True),
                 t.get("t/", range_end="t0"), t.delete("t/z")],
        failure=[t.put("t/c", "1")])
    say("transaction", held, answers_text(answers))
    held, answers = etcd.transaction(compare=[t.value("t/a") == "5"], success=[t.put("t/c", "1")],
                                     failure=[t.get("t/a"), t.get("t/none")])
    say("transaction", held, answers_text(answers))
    inner = t.txn(compare=[t.value("t/a") == "6"], success=[t.put("t/inner", "yes")], failure=[t.put("t/inner", "no")])
    held, answers = etcd.transaction(compare=[], success=[inner, t.put("t/outer", "x")], failure=[])
    say("nested", held, answers_text(answers), kv_text(*etcd.get("t/inner")))
    say("one key twice", failure(etcd.transaction, [], [t.put("t/x", "1"), t.put("t/x", "2")], []))
    say("too many", failure(etcd.transaction, [], [t.put(f"t/{i}", "1") for i in range(129)], []))
    say("nothing", failure(etcd.transaction, [], [], []))


def compaction(etcd):
    for i in range(5):
        last = etcd.put("c", str(i)).header.revision
    say("compact", failure(etcd.compact, last - 1), failure(etcd.compact, last - 1), failure(etcd.compact, 1),
        failure(etcd.compact, last + 1000), failure(etcd.compact, last, physical=True))
    say("still there", kv_text(*etcd.get("c")))


class Taker:
    """Takes what a watch tells, in a thread of its own, as the package's iterators wait without a limit."""

    def __init__(self, iterator):
        self.told = queue.Queue()
        self.thread = threading.Thread(target=self.run, args=(iterator,), daemon=True)
        self.thread.start()

    def run(self, iterator):
        try:
            for event in iterator:
                self.told.put(event)
        except Exception as error:  # it is told, too
            self.told.put(f"{type(error).__name__} {getattr(error, 'compacted_revision', '')}")
        self.told.put("the end")

    def take(self, count):
        return [self.text(self.told.get(timeout=PATIENCE_S)) for _ in range(count)]

    @staticmethod
    def text(event):
        if isinstance(event, str):
            return event
        before = event.prev_value if event.prev_version else None
        return (f"{type(event).__name__} {event.key.decode()} = {event.value} at {event.mod_revision}, "
                f"version {event.version}, before {before}")


def watches(etcd):
    first = etcd.put("w/a", "0").header.revision
    events, cancel = etcd.watch("w/a")
    one = Taker(events)
    events, cancel_prefix = etcd.watch_prefix("w/", prev_kv=True)
    prefix = Taker(events)
    called = queue.Queue()
    watch_id = etcd.add_watch_callback("w/a", called.put)
    prefix_id = etcd.add_watch_prefix_callback("w/", called.put, progress_notify=True)
    etcd.put("w/a", "1")
    etcd.put("w/b", "1")
    etcd.transaction([], [etcd.transactions.put("w/a", "2"), etcd.transactions.put("w/c", "1"),
                          etcd.transactions.delete("w/b")], [])
    etcd.delete_prefix("w/")
    say("a key", *one.take(3), sep="\n  ")
    say("a prefix", *prefix.take(7), sep="\n  ")
    told = 0
    while told < 3 + 7:
        told += len(called.get(timeout=PATIENCE_S).events)
    say("called back", told)
    etcd.cancel_watch(watch_id)
    etcd.cancel_watch(prefix_id)
    cancel()
    say("cancelled", one.take(1))
    cancel()
    cancel_prefix()

    # Again from where it was, and of the past.
    say("again", *Taker(etcd.watch_prefix("w/", start_revision=first + 3, prev_kv=True)[0]).take(5), sep="\n  ")
    say("the past", *Taker(etcd.watch("w/a", start_revision=first)[0]).take(4), sep="\n  ")
    put = etcd.put("w/once", "x").header.revision
    say("once", Taker.text(etcd.watch_once("w/once", timeout=PATIENCE_S, start_revision=put)))
    say("never", failure(etcd.watch_prefix_once, "w/never", timeout=0.2))
    say("a range", *Taker(etcd.watch("w/a", range_end="w/c", start_revision=first + 1)[0]).take(5), sep="\n  ")

    many = [Taker(etcd.watch(f"many/{i}")[0]) for i in range(60)]
    for i in range(60):
        etcd.put(f"many/{i}", "x")
    say("many", sum(len(taker.take(1)) for taker in many))
    last = etcd.put("w/a", "kept").header.revision
    etcd.compact(last)
    say("compacted", Taker(etcd.watch("w/a", start_revision=first)[0]).take(2))
    say("not compacted", Taker(etcd.watch("w/a", start_revision=last)[0]).take(1))


def connected(call, *arguments, **options):
    """The result of a call that is tried until there is a connection."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return call(*arguments, **options)
        except etcd3.exceptions.ConnectionFailedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def restart(etcd):
    """The package does not go on by itself: the watch fails, and the user watches again from what was seen."""
    for how in ("@kill", "@stop"):
        taker = Taker(etcd.watch("r")[0])
        seen = etcd.put("r", "before").header.revision
        say("before", taker.take(1))
        say(how)
        sys.stdin.readline()
        say("after", taker.take(2))
        connected(etcd.put, "r", "after")
        say("again", Taker(connected(etcd.watch, "r", start_revision=seen + 1)[0]).take(1))


def leases(etcd):
    lease = etcd.lease(60)
    say("lease", lease.ttl, lease.granted_ttl, 0 < lease.remaining_ttl <= 60, lease.keys)
    etcd.put("l/b", "1", lease=lease)
    etcd.put("l/a", "1", lease=lease.id)
    etcd.transaction([], [etcd.transactions.put("l/c", "1", lease=lease)], [])
    say("keys", sorted(lease.keys), kv_text(*etcd.get("l/a")), etcd.get("l/a")[1].lease_id == lease.id)
    etcd.put("l/b", "without")
    say("one less", sorted(lease.keys))
    say("refresh", [answer.TTL for answer in lease.refresh()])
    taker = Taker(etcd.watch_prefix("l/", prev_kv=True)[0])
    lease.revoke()
    say("revoked", *taker.take(2), sep="\n  ")
    info = etcd.get_lease_info(lease.id)
    say("gone", info.TTL, info.grantedTTL, list(info.keys), [answer.TTL for answer in lease.refresh()],
        failure(lease.revoke), failure(etcd.put, "l/a", "x", lease=lease))
    named = etcd.lease(40, lease_id=4242)
    say("with an id", named.id, named.ttl, failure(etcd.lease, 40, lease_id=4242))
    named.revoke()
    say("odd times", failure(etcd.lease, 9_000_000_001))
    short = etcd.lease(6)
    etcd.put("l/short", "x", lease=short)
    say("ends by itself", *taker.take(2), sep="\n  ")
    say("ended", kv_text(*etcd.get("l/short")), short.remaining_ttl)


def locks(etcd):
    one, two = etcd.lock("x", ttl=60), etcd.lock("x", ttl=60)
    say("free", one.is_acquired(), one.acquire(), one.is_acquired(), two.is_acquired())
    say("taken", two.acquire(timeout=0), two.acquire(timeout=1), one.acquire(timeout=0))
    say("key", etcd.get(one.key)[1].version)
    one = etcd.lock("y", ttl=60)
    say("refreshed", one.acquire(), [answer.TTL for answer in one.refresh()])
    waiting = etcd.lock("y", ttl=60)
    got = queue.Queue()
    watchers = len(etcd.watcher._callbacks)
    threading.Thread(target=lambda: got.put(waiting.acquire(timeout=PATIENCE_S)), daemon=True).start()
    while len(etcd.watcher._callbacks) == watchers:  # it would not see a release that comes before
        time.sleep(0.01)
    say("released", one.release(), got.get(timeout=PATIENCE_S), waiting.is_acquired(), one.release())
    with etcd.lock("z", ttl=60) as held:
        say("held", held.is_acquired())
    say("given back", held.is_acquired())


def maintenance(etcd):
    status = etcd.status()
    members = list(etcd.members)
    say("status", status.version.split(".")[0], status.db_size > 0, status.leader.id == members[0].id,
        status.raft_index > 0, status.raft_term > 0)
    say("members", [(member.name, len(member.peer_urls), len(member.client_urls)) for member in members])
    say("defragment", etcd.defragment())
    hashed = failure(etcd.hash)  # here the package does not send its token
    say("hash", isinstance(hashed, int) or hashed)
    with tempfile.TemporaryFile() as file:
        say("snapshot", failure(etcd.snapshot, file), file.tell() % 512)
    say("alarms", [(alarm.alarm_type, alarm.member_id == 0) for alarm in etcd.create_alarm()], len(list(etcd.list_alarms())),
        failure(etcd.put, "full", "x"), etcd.delete("full"), len(etcd.disarm_alarm()), len(list(etcd.list_alarms())),
        etcd.put("full", "x").header.revision)


def members(etcd):
    def listed():
        return [(member.name, list(member.peer_urls), len(member.client_urls)) for member in etcd.members]

    own = next(iter(etcd.members))
    before = listed()
    say("update", failure(own.update, ["http://127.0.0.1:1"]) is None, listed()[0][1])
    say("update", failure(own.update, before[0][1]) is None, listed() == before)
    say("alarms", list(own.active_alarms))
    say("none of them", failure(etcd.update_member, 4711, ["http://127.0.0.1:1"]), failure(etcd.remove_member, 4711))


def stubs(etcd):
    """What grpcio offers beyond calls that wait: futures, deadlines, cancellation, metadata, compression."""
    rpc, options = etcd3.etcdrpc, {"timeout": PATIENCE_S, "metadata": etcd.metadata}
    answer, call = etcd.kvstub.Put.with_call(rpc.PutRequest(key=b"s/a", value=b"1"), **options)
    say("with call", answer.header.revision > 0, call.code().name, call.details(), call.trailing_metadata())
    say("no such key", failure(etcd.kvstub.Put, rpc.PutRequest(value=b"1"), **options))
    several = [etcd.kvstub.Put.future(rpc.PutRequest(key=b"s/%d" % i, value=b"x" * i), **options) for i in range(100)]
    revisions = [one.result().header.revision for one in several]
    say("at a time", len(set(revisions)), max(revisions) - min(revisions))
    got = etcd.kvstub.Range(rpc.RangeRequest(key=b"s/", range_end=b"s0", limit=7, count_only=False), **options)
    say("page", got.count, got.more, [kv.key for kv in got.kvs])
    packed = etcd.kvstub.Range(rpc.RangeRequest(key=b"s/1"), compression=grpc.Compression.Gzip, **options)
    say("compressed", packed.count)
    say("waits for it to be ready", etcd.kvstub.Range(rpc.RangeRequest(key=b"s/1"), wait_for_ready=True, **options).count)

    watcher = etcd3.etcdrpc.WatchStub(etcd.channel)
    asked = queue.Queue()
    stream = watcher.Watch(iter(asked.get, None), metadata=etcd.metadata)
    for _ in range(2):
        asked.put(rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"s/w", progress_notify=True)))
        created = next(stream)
        say("created", created.watch_id, created.created)
    etcd.kvstub.Put(rpc.PutRequest(key=b"s/w", value=b"seen"), **options)
    for told in sorted((next(stream), next(stream)), key=lambda one: one.watch_id):
        say("event", told.watch_id, [event.kv.value for event in told.events])
    asked.put(rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=1)))
    cancelled = next(stream)
    say("cancelled", cancelled.watch_id, cancelled.canceled)
    asked.put(None)
    etcd.kvstub.Put(rpc.PutRequest(key=b"s/w", value=b"more"), **options)
    say("it goes on without requests", [event.kv.value for event in next(stream).events])
    stream.cancel()
    say("the end", failure(lambda: next(stream)))
    held = watcher.Watch(iter(queue.Queue().get, None), metadata=etcd.metadata)
    held.cancel()
    say("given up", failure(lambda: next(held)))
    short = watcher.Watch(iter(queue.Queue().get, None), timeout=0.2, metadata=etcd.metadata)
    # At a deadline Go's server sometimes resets the stream before the client has seen that time is over.
    say("a deadline", failure(lambda: next(short)).split(":")[0] in ("DEADLINE_EXCEEDED", "CANCELLED"))

    lease = etcd.leasestub.LeaseGrant(rpc.LeaseGrantRequest(TTL=100), **options)
    renewed = list(etcd.leasestub.LeaseKeepAlive(iter([rpc.LeaseKeepAliveRequest(ID=lease.ID)] * 3), **options))
    say("renewed", [one.TTL for one in renewed])
    say("leases", [one.ID == lease.ID for one in etcd.leasestub.LeaseLeases(rpc.LeaseLeasesRequest(), **options).leases])
    etcd.leasestub.LeaseRevoke(rpc.LeaseRevokeRequest(ID=lease.ID), **options)
    hashed = etcd.maintenancestub.HashKV(rpc.HashKVRequest(), **options)
    say("hash", hashed.hash != 0, hashed.compact_revision)
    say("move", failure(etcd.maintenancestub.MoveLeader, rpc.MoveLeaderRequest(targetID=4711), **options))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda i: etcd.kvstub.Range(rpc.RangeRequest(key=b"s/%d" % i), **options).count, range(200)))
    say("threads", sum(counts))
    etcd.delete_prefix("s/")


PARTS = {part.__name__: part for part in (single_keys, ranges, transactions, compaction, watches, restart, leases, locks,
                                          maintenance, members, stubs)}


def main():
    parts = PARTS | {"accounts": lambda etcd: accounts.run(etcd, connect, say, failure)}
    as_root = "AS_ROOT" in os.environ
    credentials = {"user": "root", "password": "pw"} if as_root else {}
    if as_root:
        with connect() as etcd:
            accounts.enable(etcd)
    with connect(**credentials) as etcd:
        for name in sys.argv[2:]:
            say("##", name)
            parts[name](etcd)
    say("## the end")


if __name__ == "__main__":
    main()
