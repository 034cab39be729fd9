"""A gRPC client for tests, of the standard library and libnghttp2's header decompression alone.

Everything is synchronous and owned by one thread. Messages are written field by field: `enc((1, key), (2, value))`
makes one, `dec(bytes)` gives {field: [values]} back, varints as unsigned integers.
"""

import ctypes
import socket
import struct
import time

OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 0, 1, 2, 3, 4, 5
RESOURCE_EXHAUSTED, FAILED_PRECONDITION, OUT_OF_RANGE, UNIMPLEMENTED, UNAVAILABLE = 8, 9, 11, 12, 14

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4


def varint(number):
    number &= (1 << 64) - 1
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def enc(*fields):
    """A message of (number, value); zero, empty and None are left out, a list is repeated as it is."""
    out = bytearray()
    for number, value in fields:
        for one in value if isinstance(value, list) else [value]:
            if one is None or (not isinstance(value, list) and not one):
                continue
            if isinstance(one, (int, bool)):
                out += varint(number << 3) + varint(int(one))
            else:
                raw = one.encode() if isinstance(one, str) else bytes(one)
                out += varint(number << 3 | 2) + varint(len(raw)) + raw
    return bytes(out)


def read_varint(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def dec(data):
    out, at = {}, 0
    while at < len(data):
        tag, at = read_varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = read_varint(data, at)
        elif kind == 2:
            size, at = read_varint(data, at)
            value = bytes(data[at:at + size])
            at += size
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value = int.from_bytes(data[at:at + size], "little")
            at += size
        else:
            raise ValueError(f"wire type {kind}")
        out.setdefault(tag >> 3, []).append(value)
    return out


def first(message, number, default=0):
    return message.get(number, [default])[0]


def signed(number):
    return number - (1 << 64) if number >= 1 << 63 else number


class GrpcError(Exception):
    def __init__(self, code, message):
        super().__init__(f"code {code}: {message}")
        self.code, self.message = code, message


class _Field(ctypes.Structure):
    _fields_ = [("name", ctypes.POINTER(ctypes.c_uint8)), ("value", ctypes.POINTER(ctypes.c_uint8)),
                ("namelen", ctypes.c_size_t), ("valuelen", ctypes.c_size_t), ("flags", ctypes.c_uint8)]


def load_nghttp2():
    """The library, or None where it is not installed."""
    try:
        lib = ctypes.CDLL("libnghttp2.so.14")
    except OSError:
        return None
    lib.nghttp2_hd_inflate_hd2.restype = ctypes.c_ssize_t
    lib.nghttp2_hd_inflate_hd2.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Field), ctypes.POINTER(ctypes.c_int),
                                           ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
    lib.nghttp2_hd_inflate_end_headers.argtypes = [ctypes.c_void_p]
    lib.nghttp2_hd_inflate_del.argtypes = [ctypes.c_void_p]
    return lib


NGHTTP2 = load_nghttp2()


class Inflater:
    def __init__(self):
        self.handle = ctypes.c_void_p()
        NGHTTP2.nghttp2_hd_inflate_new(ctypes.byref(self.handle))

    def __del__(self):
        NGHTTP2.nghttp2_hd_inflate_del(self.handle)

    def inflate(self, block):
        fields, at = {}, 0
        while True:
            field, flags = _Field(), ctypes.c_int(0)
            rest = block[at:]
            n = NGHTTP2.nghttp2_hd_inflate_hd2(self.handle, ctypes.byref(field), ctypes.byref(flags), rest,
                                               len(rest), 1)
            if n < 0:
                raise ValueError(f"header block: nghttp2 error {n}")
            at += n
            if flags.value & 2:
                name = ctypes.string_at(field.name, field.namelen).decode()
                fields[name] = ctypes.string_at(field.value, field.valuelen).decode(errors="replace")
            if flags.value & 1:
                NGHTTP2.nghttp2_hd_inflate_end_headers(self.handle)
                return fields
            if n == 0 and not flags.value & 2:
                return fields


def header_fields(fields):
    """A header block of (name, value), nothing of it indexed or compressed."""
    out = bytearray()
    for name, value in fields:
        out.append(0)  # literal, not indexed, not compressed
        for text in (name.encode(), value.encode()):
            if len(text) < 127:
                out.append(len(text))
            else:
                out.append(127)
                out += varint(len(text) - 127)
            out += text
    return bytes(out)


def frame(kind, flags, number, payload=b""):
    """One HTTP/2 frame, of stream `number`."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", number) + payload


def header_frames(number, block, flags=0):
    """HEADERS, and as many CONTINUATION as the block needs."""
    out = frame(HEADERS, flags | (END_HEADERS if len(block) <= 16384 else 0), number, block[:16384])
    for at in range(16384, len(block), 16384):
        out += frame(CONTINUATION, END_HEADERS if at + 16384 >= len(block) else 0, number, block[at:at + 16384])
    return out


def grpc_message(message, compressed=False):
    """What gRPC puts in front of a message, and the message."""
    return bytes([compressed]) + struct.pack(">I", len(message)) + message


def request_fields(path, metadata=(), authority="127.0.0.1"):
    return [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", authority),
            ("content-type", "application/grpc"), ("te", "trailers"), *metadata]


class Stream:
    def __init__(self, number, path):
        self.number, self.path = number, path
        self.headers, self.trailers = None, None
        self.buffer = bytearray()
        self.messages = []
        self.body_bytes = 0
        self.ended = False
        self.reset = None
        self.window = 0  # what we may send, less the connection's initial window
        self.keep = True  # False: the body is counted only

    def take(self, data):
        self.body_bytes += len(data)
        if not self.keep:
            return
        self.buffer += data
        while len(self.buffer) >= 5:
            size = struct.unpack(">I", self.buffer[1:5])[0]
            if len(self.buffer) < 5 + size:
                break
            self.messages.append(bytes(self.buffer[5:5 + size]))
            del self.buffer[:5 + size]

    def status(self):
        """(code, message) once ended."""
        if self.reset is not None and "grpc-status" not in (self.trailers or self.headers or {}):
            return {8: CANCELLED, 7: UNAVAILABLE}.get(self.reset, 13), f"stream reset, code {self.reset}"
        fields = dict(self.headers or {})
        fields.update(self.trailers or {})
        if "grpc-status" not in fields:
            return UNKNOWN, f"no grpc-status in {fields}"
        return int(fields["grpc-status"]), _unescape(fields.get("grpc-message", ""))


def _unescape(text):
    raw, out = text.encode(), bytearray()
    while raw:
        if raw[:1] == b"%" and len(raw) >= 3:
            out.append(int(raw[1:3], 16))
            raw = raw[3:]
        else:
            out += raw[:1]
            raw = raw[1:]
    return out.decode(errors="replace")


class Connection:
    """One HTTP/2 connection, over TLS with the context `tls`. `stream_window` bytes of each answer may be under way
    unread; of all answers together `receive_bytes`, where it is given, and what the server's socket takes."""

    def __init__(self, port, stream_window=1 << 24, timeout=60.0, receive_bytes=None, tls=None):
        self.sock = socket.socket()
        if receive_bytes is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.sock.settimeout(timeout)
        try:
            self.sock.connect(("127.0.0.1", port))
        except OSError:
            self.sock.close()
            raise
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock)
        self.port = port
        self.timeout = timeout
        self.inflater = Inflater()
        self.streams = {}
        self.next_number = 1
        self.input = bytearray()
        self.fragments = b""
        self.goaway = None
        self.stream_window = stream_window
        self.send_window = 65535
        self.initial_window = 65535
        self.settings = {}  # the server's
        try:
            self.sock.sendall(PREFACE +
                              frame(SETTINGS, 0, 0, struct.pack(">HI", 4, stream_window)) +
                              frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", (1 << 30) - 65535)))
        except OSError:
            self.sock.close()
            raise

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def start(self, path, message=None, end=True, metadata=(), grpc_timeout=None, authority="127.0.0.1", fields=None):
        """Opens a call; with `message` sends it, with `end` closes our side. `fields` takes the place of all headers."""
        number = self.next_number
        self.next_number += 2
        fields = list(fields) if fields is not None else request_fields(path, metadata, authority)
        if grpc_timeout is not None:
            fields.append(("grpc-timeout", grpc_timeout))
        stream = self.streams[number] = Stream(number, path)
        out = header_frames(number, header_fields(fields))
        if message is None:
            self.sock.sendall(out + (frame(DATA, END_STREAM, number, b"") if end else b""))
            return stream
        body = grpc_message(message)
        while not stream.ended:
            left = min(self.send_window, self.initial_window + stream.window)
            if left <= 0:
                self.sock.sendall(out)
                out = b""
                self.read_frame()
                continue
            piece = body[:min(16384, left)]
            body = body[len(piece):]
            self.send_window -= len(piece)
            stream.window -= len(piece)
            out += frame(DATA, END_STREAM if end and not body else 0, number, piece)
            if not body:
                break
        self.sock.sendall(out)
        return stream

    def reset(self, stream, code=8):
        self.sock.sendall(frame(RST_STREAM, 0, stream.number, struct.pack(">I", code)))
        self.streams.pop(stream.number, None)

    def ping(self):
        self.sock.sendall(frame(PING, 0, 0, b"cairn..."))

    def read_frame(self, timeout=None):
        """Handles one frame and returns its type."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while len(self.input) < 9 or len(self.input) < 9 + int.from_bytes(self.input[:3], "big"):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("no frame in time")
            self.sock.settimeout(left)
            data = self.sock.recv(1 << 18)
            if not data:
                raise ConnectionError(f"connection closed, goaway {self.goaway}")
            self.input += data
        size = int.from_bytes(self.input[:3], "big")
        kind, flags = self.input[3], self.input[4]
        number = int.from_bytes(self.input[5:9], "big") & 0x7FFFFFFF
        payload = bytes(self.input[9:9 + size])
        del self.input[:9 + size]
        self._on_frame(kind, flags, number, payload)
        return kind

    def _on_frame(self, kind, flags, number, payload):
        stream = self.streams.get(number)
        if kind == DATA:
            out = b""
            if payload:
                out = frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", len(payload)))
            if stream:
                stream.take(payload)
                if flags & END_STREAM:
                    stream.ended = True
                elif payload:
                    out += frame(WINDOW_UPDATE, 0, number, struct.pack(">I", len(payload)))
            if out:
                self.sock.sendall(out)
        elif kind in (HEADERS, CONTINUATION):
            self.fragments += payload
            if kind == HEADERS:
                self.end_stream = flags & END_STREAM
            if flags & END_HEADERS:
                fields = self.inflater.inflate(self.fragments)
                self.fragments = b""
                if stream:
                    if stream.headers is None:
                        stream.headers = fields
                    else:
                        stream.trailers = fields
                    stream.ended = stream.ended or bool(self.end_stream)
        elif kind == RST_STREAM and stream:
            stream.reset = int.from_bytes(payload, "big")
            stream.ended = True
        elif kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                key, value = struct.unpack(">HI", payload[at:at + 6])
                self.settings[key] = value
                if key == 4:
                    self.initial_window = value
            self.sock.sendall(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self.sock.sendall(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self.goaway = (int.from_bytes(payload[4:8], "big"), payload[8:])
        elif kind == WINDOW_UPDATE and number == 0:
            self.send_window += int.from_bytes(payload, "big")
        elif kind == WINDOW_UPDATE and stream:
            stream.window += int.from_bytes(payload, "big")

    def finish(self, stream, timeout=None):
        """Reads until `stream` has ended; returns its messages, or raises GrpcError."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while not stream.ended:
            self.read_frame(max(0.0, deadline - time.monotonic()))
        self.streams.pop(stream.number, None)
        code, message = stream.status()
        if code != OK:
            raise GrpcError(code, message)
        return stream.messages

    def unary(self, path, message=b"", timeout=None, **how):
        messages = self.finish(self.start(path, message, **how), timeout)
        if len(messages) != 1:
            raise GrpcError(13, f"{len(messages)} answers")
        return messages[0]


class Client:
    """The calls of etcd's API that the tests need, over one connection."""

    def __init__(self, port, **options):
        self.connection = Connection(port, **options)
        self.metadata = ()  # of each call

    def close(self):
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def call(self, service, method, message=b"", **how):
        how.setdefault("metadata", self.metadata)
        return dec(self.connection.unary(f"/etcdserverpb.{service}/{method}", message, **how))

    # KV

    def put(self, key, value, lease=0, **how):
        return revision_of(self.call("KV", "Put", put_request(key, value, lease), **how))

    def delete(self, key, end=None):
        answer = self.call("KV", "DeleteRange", enc((1, key), (2, end)))
        return first(answer, 2)

    def txn(self, compares, success, failure=()):
        """Operations as made by op_put(), op_delete(), op_range(), op_txn()."""
        answer = self.call("KV", "Txn", txn_request(compares, success, failure))
        return bool(first(answer, 2))

    def compact(self, revision, physical=False):
        self.call("KV", "Compact", enc((1, revision), (2, physical)))

    def range(self, key, end=None, revision=0, limit=0, count_only=False, serializable=False, order=0, target=0, **how):
        return self.call("KV", "Range", enc((1, key), (2, end), (3, limit), (4, revision), (5, order), (6, target),
                                            (7, serializable), (9, count_only)), **how)

    def get(self, key, revision=0):
        kvs = self.range(key, revision=revision).get(2, [])
        return KeyValue(kvs[0]) if kvs else None

    def all(self, revision=0, page=1000, serializable=False):
        """Every key at one revision, as KeyValue."""
        out, key = [], b"\0"
        while True:
            answer = self.range(key, b"\0", revision, page, serializable=serializable)
            revision = revision or revision_of(answer)
            kvs = [KeyValue(raw) for raw in answer.get(2, [])]
            out += kvs
            if not first(answer, 3):
                return out
            key = kvs[-1].key + b"\0"

    def revision(self):
        return revision_of(self.range(b"\0", limit=1))

    def pipeline(self, calls, window=100):
        """Carries out (path, message) in order of sending, up to `window` at a time; returns answers or GrpcErrors."""
        out, open_calls = [], []
        for path, message in calls:
            open_calls.append(self.connection.start(path, message))
            if len(open_calls) >= window:
                out.append(self._end(open_calls.pop(0)))
        return out + [self._end(one) for one in open_calls]

    def _end(self, stream):
        try:
            return self.connection.finish(stream)[0]
        except GrpcError as error:
            return error

    def put_many(self, pairs):
        for answer in self.pipeline(("/etcdserverpb.KV/Put", put_request(key, value)) for key, value in pairs):
            if isinstance(answer, GrpcError):
                raise answer

    # Leases

    def lease_grant(self, number, seconds):
        return first(self.call("Lease", "LeaseGrant", enc((1, seconds), (2, number))), 3)

    def lease_revoke(self, number):
        self.call("Lease", "LeaseRevoke", enc((1, number)))

    def lease_keep_alive(self, number):
        """The TTL."""
        return first(self.call("Lease", "LeaseKeepAlive", enc((1, number))), 3)

    def lease_time_to_live(self, number):
        """(TTL, granted TTL, keys)"""
        answer = self.call("Lease", "LeaseTimeToLive", enc((1, number), (2, True)))
        return signed(first(answer, 3)), first(answer, 4), answer.get(5, [])

    def leases(self):
        """In the order of expiry."""
        return [signed(first(dec(raw), 1)) for raw in self.call("Lease", "LeaseLeases").get(2, [])]

    # Auth

    def user_add(self, name, password, no_password=False):
        options = enc((1, no_password))
        self.call("Auth", "UserAdd", enc((1, name), (2, password)) + (b"\x1a" + varint(len(options)) + options))

    def role_add(self, name):
        self.call("Auth", "RoleAdd", enc((1, name)))

    def role_grant(self, role, kind, key, end=None):
        self.call("Auth", "RoleGrantPermission", enc((1, role), (2, enc((1, kind), (2, key), (3, end)))))

    def user_grant(self, user, role):
        self.call("Auth", "UserGrantRole", enc((1, user), (2, role)))

    def auth_enable(self):
        self.call("Auth", "AuthEnable")

    def authenticate(self, user, password):
        return first(self.call("Auth", "Authenticate", enc((1, user), (2, password))), 2, b"")

    def login(self, user, password):
        """Further calls are made by this user."""
        self.metadata = ()
        self.metadata = (("token", self.authenticate(user, password).decode()),)
        return self

    # Maintenance and cluster

    def alarm(self, action, member=0, kind=0):
        answer = self.call("Maintenance", "Alarm", enc((1, action), (2, member), (3, kind)))
        return sorted((first(a, 1), first(a, 2)) for a in map(dec, answer.get(2, [])))

    def status(self):
        answer = self.call("Maintenance", "Status")
        header = dec(first(answer, 1, b""))
        return {"cluster_id": first(header, 1), "member_id": first(header, 2), "revision": first(header, 3),
                "term": first(header, 4), "version": first(answer, 2, b"").decode(), "db_bytes": first(answer, 3),
                "leader": first(answer, 4), "raft_index": first(answer, 5), "raft_term": first(answer, 6),
                "applied": first(answer, 7), "errors": [e.decode() for e in answer.get(8, [])],
                "in_use_bytes": first(answer, 9), "storage_version": first(answer, 11, b"").decode()}

    def hash_kv(self, revision=0):
        """(hash, compact revision)"""
        answer = self.call("Maintenance", "HashKV", enc((1, revision)))
        return first(answer, 2), signed(first(answer, 3))

    def defragment(self):
        self.call("Maintenance", "Defragment")

    def members(self):
        answer = self.call("Cluster", "MemberList")
        return sorted((first(m, 1), first(m, 2, b"").decode(), tuple(u.decode() for u in m.get(3, [])),
                       tuple(u.decode() for u in m.get(4, [])), bool(first(m, 5)))
                      for m in map(dec, answer.get(2, [])))


class KeyValue:
    __slots__ = ("key", "create", "mod", "version", "value", "lease")

    def __init__(self, raw):
        fields = dec(raw)
        self.key, self.value = first(fields, 1, b""), first(fields, 5, b"")
        self.create, self.mod, self.version = first(fields, 2), first(fields, 3), first(fields, 4)
        self.lease = signed(first(fields, 6))

    def all(self):
        return self.key, self.create, self.mod, self.version, self.value, self.lease

    def __eq__(self, other):
        return isinstance(other, KeyValue) and self.all() == other.all()

    def __repr__(self):
        return f"{self.key!r}@{self.create}/{self.mod}/{self.version}={self.value[:20]!r}"


def revision_of(answer):
    return first(dec(first(answer, 1, b"")), 3)


def put_request(key, value, lease=0):
    return enc((1, key), (2, value), (3, lease))


def txn_request(compares, success, failure=()):
    return enc((1, list(compares)), (2, list(success)), (3, list(failure)))


def compare_version(key, number):
    # result EQUAL and target VERSION are zeros; the operand is of a oneof and so is there when it is zero
    return enc((3, key)) + varint(4 << 3) + varint(number)


def compare_value(key, value):
    return enc((2, 3), (3, key)) + varint(7 << 3 | 2) + varint(len(value)) + bytes(value)


def op_range(key, end=None):
    return enc((1, [enc((1, key), (2, end))]))


def op_put(key, value, lease=0):
    return enc((2, [put_request(key, value, lease)]))


def op_delete(key, end=None):
    return enc((3, [enc((1, key), (2, end))]))


def op_txn(compares, success, failure=()):
    return enc((4, [txn_request(compares, success, failure)]))
