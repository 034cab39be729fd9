"""What clients of a cluster asked, were told and saw, as lines of JSON: one operation or one watch each.

The shape is that of sim/history/record_json.h: requests and responses are etcd's messages in base64. Times are nanoseconds of
CLOCK_MONOTONIC.
"""

import base64
import collections
import json
import threading
import time

import harness
import rpc

PATHS = {"Range": "/etcdserverpb.KV/Range", "Put": "/etcdserverpb.KV/Put", "DeleteRange": "/etcdserverpb.KV/DeleteRange",
         "Txn": "/etcdserverpb.KV/Txn", "Compact": "/etcdserverpb.KV/Compact",
         "LeaseGrant": "/etcdserverpb.Lease/LeaseGrant", "LeaseRevoke": "/etcdserverpb.Lease/LeaseRevoke"}


def text_of(raw):
    return base64.b64encode(raw).decode()


class Operation:
    """One call of one client."""

    __slots__ = ("client", "member", "rpc", "request", "call_ns", "return_ns", "code", "response", "error")

    def __init__(self, client, member, name, request):
        self.client, self.member, self.rpc, self.request = client, member, name, request
        self.call_ns, self.return_ns = time.monotonic_ns(), None
        self.code, self.response, self.error = None, None, None  # no code: no answer

    def line(self):
        out = {"client": self.client, "member": self.member, "rpc": self.rpc, "request": text_of(self.request),
               "call": self.call_ns}
        if self.return_ns is not None:
            out["return"] = self.return_ns
        if self.response is not None:
            out["response"] = text_of(self.response)
        elif self.code is not None:
            out["code"], out["error"] = self.code, self.error
        return {"operation": out}


class Watch:
    """One watcher from its creation to its end."""

    def __init__(self, number, client, member, request, resumes):
        self.number, self.client, self.member, self.request, self.resumes = number, client, member, request, resumes
        self.call_ns = time.monotonic_ns()
        self.responses = []

    def line(self):
        out = {"client": self.client, "member": self.member, "call": self.call_ns, "request": text_of(self.request),
               "responses": [{"time": at, "response": text_of(raw)} for at, raw in self.responses]}
        if self.resumes is not None:
            out["resumes"] = self.resumes
        return {"watch": out}


class History:
    """Everything; any thread."""

    def __init__(self):
        self.lock = threading.Lock()
        self.operations, self.watches = [], []

    def call(self, client, member, connection, name, request, timeout):
        """Asks and records. The response's bytes, or GrpcError; OSError where the outcome is not known."""
        operation = Operation(client, member, name, request)
        with self.lock:
            self.operations.append(operation)
        try:
            response = connection.unary(PATHS[name], request, timeout=timeout)
        except rpc.GrpcError as error:
            operation.return_ns = time.monotonic_ns()
            operation.code, operation.error = error.code, error.message
            raise
        operation.return_ns = time.monotonic_ns()
        operation.code, operation.response = rpc.OK, response
        return response

    def watch(self, client, member, request, resumes):
        with self.lock:
            made = Watch(len(self.watches), client, member, request, resumes)
            self.watches.append(made)
        return made

    def write(self, path):
        with open(path, "w") as file:
            for one in self.watches + self.operations:
                file.write(json.dumps(one.line(), separators=(",", ":")) + "\n")

    def summary(self):
        """How many operations ended how."""
        return collections.Counter(f"{one.rpc} " + ("unknown" if one.code is None else "ok" if one.code == rpc.OK else
                                                    f"code {one.code}") for one in self.operations)


def header_revision(response):
    return rpc.first(rpc.dec(rpc.first(rpc.dec(response), 1, b"")), 3)


def events_of(response):
    """(type, key, mod revision) of the events of a watch response."""
    for raw in rpc.dec(response).get(11, []):
        event = rpc.dec(raw)
        kv = rpc.KeyValue(rpc.first(event, 2, b""))
        yield rpc.first(event, 1), kv.key, kv.mod


def contradictions(history):
    """What is plainly wrong, without a model: watches that tell different events for one revision, or gaps; a write
    that was acknowledged at a revision at which nobody saw it. The judge (cairn_check_history) sees far more."""
    seen, out = {}, []
    for watch in history.watches:
        told = collections.defaultdict(list)
        for _, raw in watch.responses:
            for kind, key, revision in events_of(raw):
                told[revision].append((kind, key))
        revisions = list(told)
        start = rpc.first(rpc.dec(watch.request), 3)
        if revisions != sorted(revisions) or (revisions and revisions != list(range(max(2, start), revisions[-1] + 1))):
            out.append(f"watch {watch.number} at {watch.member:x} from {start}: not one revision after the other")
        for revision, events in told.items():
            if seen.setdefault(revision, events) != events:
                out.append(f"revision {revision}: watch {watch.number} saw {events}, another {seen[revision]}")
    for one in history.operations:
        if one.code == rpc.OK and one.rpc == "Put":
            key = rpc.first(rpc.dec(one.request), 1, b"")
            if (0, key) not in seen.get(header_revision(one.response), []):
                out.append(f"put of {key} by client {one.client} was acknowledged and is not in "
                           f"{header_revision(one.response)}: {seen.get(header_revision(one.response))}")
    return out


def check(case, history, path):
    """Fails the test where the history is wrong. It is written to `path` and judged where the judge is built."""
    history.write(path)
    case.assertEqual(contradictions(history)[:5], [])
    judge = harness.PROGRAMS["tools"].parent / "sim/history/cairn_check_history"
    if not judge.exists():
        print(f"not judged: there is no {judge}", flush=True)
        return
    print(case.run_tool(judge, path, timeout=600).stdout.strip(), flush=True)
