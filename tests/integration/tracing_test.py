"""Spans of requests: what a collector of OpenTelemetry is sent, beside etcd 3.7."""

import os
import socket

import collector
import harness
import rpc
from rpc import enc

SERVER, INTERNAL = 2, 1
PARENT = "b7ad6b7169203331"
# A batch leaves this soon, in milliseconds: etcd and Cairn read the same variable.
ENVIRONMENT = {"PATH": os.environ["PATH"], "OTEL_BSP_SCHEDULE_DELAY": "20"}


def trace_id(number):
    return f"{number + 1:032x}"


def traceparent(number, flags="01"):
    return ("traceparent", f"00-{trace_id(number)}-{PARENT}-{flags}")


def key_op(number, *fields):
    """A RequestOp: 1 range, 2 put, 3 delete, 4 txn."""
    return enc((number, [enc(*fields)]))


# Requests: (path, message), and what else start() takes. Each is a trace of its own.
KV, LEASE = "/etcdserverpb.KV/", "/etcdserverpb.Lease/"
UNARY = [
    (KV + "Put", enc((1, "a"), (2, "1"))),
    (KV + "Put", enc((1, "a"), (2, "1"), (3, 99))),  # no such lease
    (KV + "Put", enc((1, ""), (2, "1"))),
    (KV + "Put", enc((1, b"\xc3\xa9"), (2, b"\xff"))),
    (KV + "Range", enc((1, "a"))),
    (KV + "Range", enc((1, "a"), (2, "z"), (3, 5), (4, 1), (8, 1))),
    (KV + "Range", enc((1, "a"), (7, 1), (9, 1))),
    (KV + "Range", enc((1, "a"), (4, 1000))),  # a revision to come
    (KV + "Range", enc()),
    (KV + "Range", b"\x0a\x05a"),  # cut
    (KV + "DeleteRange", enc((1, "b"), (2, b"\0"))),
    (KV + "Txn", enc((1, [enc((3, "cmp"), (6, 1), (2, 2))]),
                     (2, [key_op(2, (1, "op"), (2, "v"), (3, 1234)), key_op(1, (1, "other"))]))),
    (KV + "Txn", enc((2, [key_op(2, (1, "op"), (2, "v"))]), (3, [key_op(3, (1, "op"))]))),
    (KV + "Txn", enc((2, [key_op(1, (1, "op"))]))),
    (KV + "Txn", enc((2, [key_op(4, (2, [key_op(2, (1, "deep"))]))]))),
    (KV + "Txn", enc()),
    (KV + "Compact", enc((1, 2))),
    (KV + "Compact", enc((1, 3), (2, 1))),
    (KV + "Compact", enc((1, 1000))),
    (KV + "RangeStream", enc((1, "a"), (2, "z"))),
    (LEASE + "LeaseGrant", enc((1, 600), (2, 77))),
    (LEASE + "LeaseGrant", enc((1, 600), (2, 77))),
    (LEASE + "LeaseTimeToLive", enc((1, 77))),
    (LEASE + "LeaseLeases", enc()),
    (LEASE + "LeaseRevoke", enc((1, 77))),
    (LEASE + "LeaseRevoke", enc((1, 77))),
    ("/etcdserverpb.Cluster/MemberList", enc()),
    ("/etcdserverpb.Maintenance/Status", enc()),
    ("/etcdserverpb.Auth/AuthStatus", enc()),
    ("/etcdserverpb.Auth/Authenticate", enc((1, "a"), (2, "b"))),
    ("/grpc.health.v1.Health/Check", enc()),
    ("/etcdserverpb.KV/Nothing", enc()),
    ("/nothing.Nothing/Nothing", enc()),
]
# What differs, and why.
ACCEPTED = {}


def tell(span, spans, port):
    """What two servers must agree on."""
    parent = next((each.name for each in spans if each.id == span.parent), None)
    attributes = dict(span.attributes)
    if attributes.get("server.port") == port:
        attributes["server.port"] = "its own"
    status = (span.status[0], span.status[1].replace("\xa0", " "))  # Go's texts of malformed messages vary
    return {"name": span.name, "kind": span.kind, "scope": span.scope, "state": span.state, "status": status,
            "flags": span.flags, "attributes": attributes,
            "parent": parent or {PARENT: "the caller", "": "none"}.get(span.parent, "unknown")}


class Tracing(harness.Case):
    def traced(self, kind, *flags, environment=None):
        """A server, and its collector."""
        taker = collector.Collector(port := harness.free_port())
        self.addCleanup(taker.close)
        server = self.server(kind, self.dir / f"data.{kind}", flags=[
            "--enable-distributed-tracing", "--distributed-tracing-address", f"127.0.0.1:{port}",
            "--distributed-tracing-service-name", "ours", "--distributed-tracing-instance-id", "m1", *flags])
        return server.start(environment=environment or ENVIRONMENT), taker

    def ask_all(self, connection, requests):
        outcomes = []
        for number, (path, message) in enumerate(requests):
            metadata = [traceparent(number), ("tracestate", "a=1,b=2"), ("hasleader", "true")]
            try:
                connection.finish(connection.start(path, message, metadata=metadata))
                outcomes.append(rpc.OK)
            except rpc.GrpcError as error:
                outcomes.append(error.code)
        return outcomes

    def spans_of_requests(self, kind):
        server, taker = self.traced(kind)
        with rpc.Connection(server.client_port) as connection:
            outcomes = self.ask_all(connection, UNARY)
        server.stop()  # sends the rest
        spans = taker.taken()
        told = []
        for number, (path, _) in enumerate(UNARY):
            mine = [each for each in spans if each.trace == trace_id(number)]
            for span in mine:
                self.assertLessEqual(span.start, span.end)
                self.assertEqual(span.resource["service.name"], "ours")
                self.assertEqual(span.resource["service.instance.id"], "m1")
            shown = [tell(each, mine, server.client_port) for each in mine]
            told.append((path, outcomes[number], sorted(shown, key=lambda each: each["name"])))
        return told

    @harness.needs("etcd37")
    def test_requests_beside_etcd(self):
        etcd, cairn = (self.spans_of_requests(kind) for kind in ("etcd37", "cairn"))
        differing = []
        for number, (one, other) in enumerate(zip(etcd, cairn)):
            if one != other and number not in ACCEPTED:
                differing.append(f"{UNARY[number]}\n  etcd  {one}\n  cairn {other}")
        self.assertEqual(differing, [], "\n".join(differing))
        self.assertGreater(sum(len(spans) for _, _, spans in cairn), len(UNARY))

    def streams(self, kind):
        """Spans of a stream of watches and one of renewals; of requests without a caller; of those not sampled."""
        server, taker = self.traced(kind, "--distributed-tracing-sampling-rate", "1000000")
        with rpc.Connection(server.client_port) as connection:
            connection.unary(LEASE + "LeaseGrant", enc((1, 600), (2, 77)), metadata=[traceparent(90, "00")])
            watch = connection.start("/etcdserverpb.Watch/Watch", end=False, metadata=[traceparent(1)])
            for create in ([(1, "a")], [(2, b"\0")], [(1, "a"), (2, "b"), (3, 1), (4, 1), (6, 1), (8, 1)]):
                connection.sock.sendall(rpc.frame(rpc.DATA, 0, watch.number,
                                                  rpc.grpc_message(enc((1, [enc(*create)])))))
            while len(watch.messages) < 3:
                connection.read_frame()
            connection.sock.sendall(rpc.frame(rpc.DATA, 0, watch.number,
                                              rpc.grpc_message(enc((2, [enc((1, 1))])))))
            while not any(rpc.dec(each).get(4) for each in watch.messages):
                connection.read_frame()
            connection.reset(watch)
            renewals = connection.start("/etcdserverpb.Lease/LeaseKeepAlive", enc((1, 77)), end=False,
                                        metadata=[traceparent(2)])
            connection.sock.sendall(rpc.frame(rpc.DATA, rpc.END_STREAM, renewals.number,
                                              rpc.grpc_message(enc((1, 78)))))
            connection.finish(renewals)
            connection.unary(KV + "Put", enc((1, "nobody's"), (2, "1")))
        server.stop()
        spans = taker.taken()
        self.assertEqual([each for each in spans if each.trace == trace_id(90)], [], "the caller said no")
        told = []
        for number in (1, 2):
            mine = [each for each in spans if each.trace == trace_id(number)]
            told.append(sorted((tell(each, mine, server.client_port) for each in mine), key=repr))
        nobodys = [each for each in spans if each.attributes.get("key") == "nobody's"]
        self.assertEqual(len(nobodys), 1)
        mine = [each for each in spans if each.trace == nobodys[0].trace]
        told.append(sorted((tell(each, mine, server.client_port) for each in mine), key=repr))
        return told

    @harness.needs("etcd37")
    def test_streams_beside_etcd(self):
        etcd, cairn = (self.streams(kind) for kind in ("etcd37", "cairn"))
        for one, other in zip(etcd, cairn):
            self.assertEqual(one, other)
        self.assertEqual([each["name"] for each in cairn[0]].count("watch"), 3)

    def test_a_lock_is_made_of_steps(self):
        server, taker = self.traced("cairn")
        with rpc.Connection(server.client_port) as connection:
            lease = rpc.first(rpc.dec(connection.unary(LEASE + "LeaseGrant", enc((1, 600)))), 2)
            connection.unary("/v3lockpb.Lock/Lock", enc((1, "l"), (2, lease)), metadata=[traceparent(0)])
        server.stop()
        own = [each for each in taker.taken() if each.name == "v3lockpb.Lock/Lock"]
        self.assertEqual(len(own), 1, "the grant had no caller that is sampled")
        steps = [each for each in taker.taken() if each.parent == own[0].id]
        self.assertIn("txn", [each.name for each in steps])
        self.assertEqual({each.kind for each in steps}, {INTERNAL})

    def test_json_is_traced_too(self):
        server, taker = self.traced("cairn", "--distributed-tracing-sampling-rate", "1000000")
        with socket.create_connection(("127.0.0.1", server.client_port), 60) as client:
            body = b'{"key":"YQ=="}'
            client.sendall(b"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                           b"Content-Length: %d\r\n\r\n" % len(body) + body)
            self.assertIn(b"200", client.makefile("rb").read())
        server.stop()
        names = sorted(each.name for each in taker.taken())
        self.assertEqual(names, ["etcdserverpb.KV/Range", "range"])

    def test_a_key_that_is_no_text_is_sent_as_bytes(self):
        server, taker = self.traced("cairn")
        with rpc.Connection(server.client_port) as connection:
            connection.unary(KV + "Put", enc((1, b"\xff"), (2, "1")), metadata=[traceparent(0)])
        server.stop()
        self.assertIn(b"\xff", [each.attributes.get("key") for each in taker.taken()])

    def test_off_and_unsampled_nothing_is_sent(self):
        server, taker = self.traced("cairn")
        with rpc.Connection(server.client_port) as connection:
            connection.unary(KV + "Put", enc((1, "a"), (2, "1")))
            connection.unary(KV + "Put", enc((1, "a"), (2, "1")), metadata=[traceparent(0, "00")])
        server.stop()
        self.assertEqual(taker.taken(), [])

    def test_a_collector_that_is_away_costs_nothing(self):
        server = self.server("cairn", flags=["--enable-distributed-tracing", "--distributed-tracing-address",
                                             f"127.0.0.1:{harness.free_port()}",
                                             "--distributed-tracing-sampling-rate", "1000000"])
        server.start(environment={**ENVIRONMENT, "OTEL_BSP_EXPORT_TIMEOUT": "50"})
        client = server.client()
        for _ in range(20):
            client.put_many([(b"k/%d" % i, b"x") for i in range(200)])
        server.wait_logged("spans are dropped until the collector takes them")
        harness.until(lambda: server.metric("cairn_tracing_spans_dropped_total") >= 8000, what="two spans of each put")
        self.assertEqual(server.log_text().count("spans are dropped until"), 1)
        server.stop()

    def test_the_collector_may_come_later(self):
        port = harness.free_port()
        server = self.server("cairn", flags=["--enable-distributed-tracing", "--distributed-tracing-address",
                                             f"dns:///localhost:{port}",
                                             "--distributed-tracing-sampling-rate", "1000000"])
        server.start(environment={**ENVIRONMENT, "OTEL_BSP_EXPORT_TIMEOUT": "50",
                                  "OTEL_RESOURCE_ATTRIBUTES": "host.name=here,service.name=not%20this"})
        server.client().put("a", "1")
        server.wait_logged("spans are dropped until the collector takes them")
        with collector.Collector(port) as taker:
            server.client().put("b", "1")
            server.wait_logged("spans reach the collector again")
            harness.until(lambda: any(each.attributes.get("key") == "b" for each in taker.taken()))
            self.assertEqual(taker.taken()[0].resource, {"service.name": "etcd", "host.name": "here"})
            server.stop()


class SlowRequests(harness.Case):
    """Lines of the log about requests that took long."""

    def lines(self, server, message):
        return [line for line in server.log_lines() if line["msg"] == message]

    def test_a_put_that_waits_for_the_disk(self):
        server = self.server("cairn").start(environment={**ENVIRONMENT,
                                                         "GOFAIL_FAILPOINTS": "raftBeforeSave=sleep(400)"})
        server.client().put("a", "secret")
        server.wait_logged("process raft request")
        line = self.lines(server, "trace")[-1]
        self.assertEqual(line["level"], "info")
        self.assertEqual(line["operation"], "put")
        self.assertRegex(line["detail"], r"^\{key:a; req_size:11; response_revision:2; \}$")
        self.assertEqual((len(line["steps"]), line["step_count"]), (1, 1))
        self.assertRegex(line["steps"][0], r"^'process raft request'  \(duration: [0-9.]+m?s\)$")
        self.assertEqual({"duration", "start", "end", "trace_id"} - set(line), set())
        line = self.lines(server, "request stats")[-1]
        self.assertEqual((line["level"], line["response type"]), ("warn", "/etcdserverpb.KV/Put"))
        self.assertNotIn("secret", server.log_text())

    def serve_many_keys(self, kind, *flags):
        """A server with these flags over enough keys that sorting them is no work for an io thread; etcd times any list.
        The keys come before, and few with etcd, which applies them again: a log that says much says only a part."""
        directory = self.dir / f"data.{kind}"
        server = self.server(kind, directory).start()
        client = server.client()
        client.put_many([(b"k/%05d" % k, b"x") for k in range(20000 if kind == "cairn" else 10)])
        server.stop()
        return self.server(kind, directory, flags=flags).start()

    @staticmethod
    def read_until_told(server):
        """What is built within a turn of its loop took no time: the order by value makes it work for others."""
        by_value, descending = 4, 2
        def told():
            server.client().range("k", "l", order=descending, target=by_value)
            return "read-only range " in server.log_text()
        harness.until(told, what=lambda: f"no slow read of {server.kind}:\n{server.log_tail()}")

    def test_a_read_beyond_the_limit(self):
        server = self.serve_many_keys("cairn", "--warning-apply-duration", "1ns")
        self.read_until_told(server)
        line = next(each for each in self.lines(server, "apply request took too long") if each["prefix"])
        self.assertEqual(line["level"], "warn")
        self.assertEqual(line["prefix"], "read-only range ")
        self.assertEqual(line["expected-duration"], "1ns")

    @harness.needs("etcd37")
    def test_the_fields_are_those_of_etcd(self):
        fields = {}
        for kind in ("etcd37", "cairn"):
            server = self.serve_many_keys(kind, "--warning-apply-duration", "1ns", "--warning-unary-request-duration",
                                          "1ns")
            self.read_until_told(server)
            for text in ("request stats", "enabled capabilities for version"):
                server.wait_logged(text)
            server.stop()
            told = fields[kind] = {}
            for message in ("apply request took too long", "request stats", "enabled capabilities for version"):
                found = self.lines(server, message)
                names = set().union(*(set(each) for each in found))
                told[message] = (found[-1]["level"], names - {"error", "caller"})
        self.assertEqual(fields["cairn"], fields["etcd37"])


if __name__ == "__main__":
    harness.main()
