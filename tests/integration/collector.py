"""A collector of OpenTelemetry for tests: takes spans over OTLP and gRPC in clear text, as ExportTraceServiceRequest.

It is an HTTP/2 server for clients that make one call after the other. Which method they call is not looked at.
"""

import socket
import struct
import threading

import rpc

HEAD = rpc.header_fields([(":status", "200"), ("content-type", "application/grpc")])
TRAILERS = rpc.header_fields([("grpc-status", "0")])


def value_of(message):
    value = rpc.dec(message)
    if 1 in value:
        return value[1][0].decode()
    if 2 in value:
        return bool(value[2][0])
    if 3 in value:
        return rpc.signed(value[3][0])
    return value.get(7, [None])[0]  # bytes


def attributes_of(messages):
    out = {}
    for one in map(rpc.dec, messages):
        out[one[1][0].decode()] = value_of(one[2][0])
    return out


class Span:
    def __init__(self, resource, scope, fields):
        self.resource, self.scope = resource, scope
        self.trace = rpc.first(fields, 1, b"").hex()
        self.id = rpc.first(fields, 2, b"").hex()
        self.state = rpc.first(fields, 3, b"").decode()
        self.parent = rpc.first(fields, 4, b"").hex()
        self.name = rpc.first(fields, 5, b"").decode()
        self.kind = rpc.first(fields, 6)
        self.start, self.end = rpc.first(fields, 7), rpc.first(fields, 8)
        self.attributes = attributes_of(fields.get(9, []))
        status = rpc.dec(rpc.first(fields, 15, b""))
        self.status = (rpc.first(status, 3), rpc.first(status, 2, b"").decode())
        self.flags = rpc.first(fields, 16)


def spans_of(request):
    for resource_spans in map(rpc.dec, rpc.dec(request).get(1, [])):
        resource = attributes_of(rpc.dec(rpc.first(resource_spans, 1, b"")).get(1, []))
        for scope_spans in map(rpc.dec, resource_spans.get(2, [])):
            scope = rpc.dec(rpc.first(scope_spans, 1, b""))
            named = tuple(rpc.first(scope, i, b"").decode() for i in (1, 2))
            for span in scope_spans.get(2, []):
                yield Span(resource, named, rpc.dec(span))


class Collector:
    def __init__(self, port):
        self.spans = []
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", port))
        self.sockets = [self.listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        for each in self.sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def taken(self):
        with self.lock:
            return list(self.spans)

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.sockets.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        try:
            stream = client.makefile("rb")
            stream.read(len(rpc.PREFACE))
            client.sendall(rpc.frame(rpc.SETTINGS, 0, 0))
            bodies = {}
            while head := stream.read(9):
                kind, flags, number = head[3], head[4], int.from_bytes(head[5:9], "big") & 0x7FFFFFFF
                payload = stream.read(int.from_bytes(head[:3], "big"))
                if kind == rpc.SETTINGS and not flags & rpc.ACK:
                    client.sendall(rpc.frame(rpc.SETTINGS, rpc.ACK, 0))
                elif kind == rpc.PING and not flags & rpc.ACK:
                    client.sendall(rpc.frame(rpc.PING, rpc.ACK, 0, payload))
                elif kind == rpc.DATA:
                    bodies[number] = bodies.get(number, b"") + payload
                    if payload:
                        size = struct.pack(">I", len(payload))
                        client.sendall(rpc.frame(rpc.WINDOW_UPDATE, 0, 0, size) +
                                       (b"" if flags & rpc.END_STREAM else rpc.frame(rpc.WINDOW_UPDATE, 0, number, size)))
                    if flags & rpc.END_STREAM:
                        with self.lock:
                            self.spans += spans_of(bodies.pop(number)[5:])
                        client.sendall(rpc.header_frames(number, HEAD) +
                                       rpc.frame(rpc.DATA, 0, number, rpc.grpc_message(b"")) +
                                       rpc.header_frames(number, TRAILERS, rpc.END_STREAM))
        except OSError:
            pass
