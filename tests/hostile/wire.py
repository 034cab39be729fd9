"""Connections whose bytes are written by hand: what no well-behaved client would send, or would leave unread."""

import collections
import re
import select
import socket
import struct
import time

import rpc

PRIORITY = 2
ERROR_NAMES = ["NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT",
               "STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR",
               "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"]
READ_BYTES = 1 << 18
STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")


def error_name(code):
    return ERROR_NAMES[code] if code < len(ERROR_NAMES) else str(code)


class Pipe:
    """A socket that sends and reads at once. `read=False` leaves everything that comes where it is."""

    def __init__(self, port, receive_bytes=None, timeout=10.0):
        self.sock = socket.socket()
        if receive_bytes is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.sock.settimeout(timeout)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.ended = None  # how the server closed it
        self.bytes_in = 0

    def fileno(self):
        return self.sock.fileno()

    def close(self, abort=False):
        if abort:  # a reset instead of an end
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def take(self, data):
        self.bytes_in += len(data)

    def describe_end(self, how):
        return how

    def _ready(self, seconds, read, write):
        """(can be read, can be written) at the latest after so long."""
        poll = select.poll()  # unlike select() it takes any descriptor
        poll.register(self.sock, (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
        events = sum(event for _, event in poll.poll(seconds * 1000))
        broken = events & (select.POLLERR | select.POLLHUP)
        return read and events & (select.POLLIN | broken), write and events & (select.POLLOUT | broken)

    def _read_once(self):
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            self.ended = self.describe_end("reset")
            return
        if data:
            self.take(data)
        else:
            self.ended = self.describe_end("closed")

    def push(self, data, seconds=10.0, read=True):
        """Sends `data` until the server has taken it all, closes, or the time is over. How many bytes it took."""
        view, sent = memoryview(data), 0
        deadline = time.monotonic() + seconds
        while sent < len(view) and self.ended is None:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            readable, writable = self._ready(left, read, True)
            if readable:
                self._read_once()
            if writable and self.ended is None:
                try:
                    sent += self.sock.send(view[sent:sent + READ_BYTES])
                except BlockingIOError:
                    pass
                except ConnectionError:
                    self._last_words()
        return sent

    def _last_words(self):
        """The server has closed; what it said before is still to be read."""
        while self.ended is None:
            before = self.bytes_in
            self._read_once()
            if self.bytes_in == before and self.ended is None:
                self.ended = self.describe_end("reset")

    def listen(self, seconds, until=lambda: False):
        """Reads until `until()`, the server's end, or the time is over."""
        deadline = time.monotonic() + seconds
        while self.ended is None and not until():
            left = deadline - time.monotonic()
            if not self._ready(max(0.0, left), True, False)[0]:
                break
            self._read_once()
            if left <= 0:
                break
        return self

    def end(self):
        return self.ended or "open"


class Text(Pipe):
    """HTTP/1: counts answers by their status."""

    def __init__(self, port, **options):
        super().__init__(port, **options)
        self.statuses = collections.Counter()
        self.tail = b""

    def take(self, data):
        super().take(data)
        text = self.tail + data
        for found in STATUS_LINE.finditer(text):
            self.statuses[found[1].decode()] += 1
        self.tail = text[-12:]  # less than a whole one

    def describe_end(self, how):
        if not self.statuses:
            return how
        return f"{how} after {', '.join(sorted(self.statuses))}"


class Wire(Pipe):
    """HTTP/2: the preface is sent; each frame is the caller's."""

    def __init__(self, port, window=None, settings=(), **options):
        super().__init__(port, **options)
        self.input = bytearray()
        self.frames = collections.Counter()  # type, or (type, ACK)
        self.resets = collections.Counter()  # name of the error
        self.statuses = collections.Counter()  # grpc-status of calls that ended
        self.inflater = rpc.Inflater()
        self.body_bytes = 0
        self.goaway = None
        self.stream_window = self.connection_window = 65535  # what the server lets us send
        self.stream_updates = collections.Counter()  # what it has added for a stream, by its number
        self.next_number = 1
        pairs = list(settings) + ([(4, window)] if window is not None else [])
        self.push(rpc.PREFACE + rpc.frame(rpc.SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs)))
        # What the server says of its windows counts from our acknowledgement on.
        self.listen(1.0, lambda: self.frames[rpc.SETTINGS] > 0)
        self.push(rpc.frame(rpc.SETTINGS, rpc.ACK, 0))

    def take(self, data):
        super().take(data)
        self.input += data
        at = 0
        while len(self.input) - at >= 9:
            size = int.from_bytes(self.input[at:at + 3], "big")
            if len(self.input) - at < 9 + size:
                break
            number = int.from_bytes(self.input[at + 5:at + 9], "big")
            self._on_frame(self.input[at + 3], self.input[at + 4], number, bytes(self.input[at + 9:at + 9 + size]))
            at += 9 + size
        del self.input[:at]

    def _on_frame(self, kind, flags, number, payload):
        acknowledged = kind in (rpc.SETTINGS, rpc.PING) and flags & rpc.ACK
        self.frames[(kind, rpc.ACK) if acknowledged else kind] += 1
        if kind == rpc.DATA:
            self.body_bytes += len(payload)
        elif kind == rpc.RST_STREAM:
            self.resets[error_name(int.from_bytes(payload, "big"))] += 1
        elif kind == rpc.GOAWAY:
            self.goaway = f"GOAWAY {error_name(int.from_bytes(payload[4:8], 'big'))}"
            if payload[8:]:
                self.goaway += f" {payload[8:].decode(errors='replace')}"
        elif kind == rpc.SETTINGS:
            self.stream_window = dict(struct.iter_unpack(">HI", payload)).get(4, self.stream_window)
        elif kind == rpc.WINDOW_UPDATE and number == 0:
            self.connection_window += int.from_bytes(payload, "big")
        elif kind == rpc.WINDOW_UPDATE:
            self.stream_updates[number] += int.from_bytes(payload, "big")
        elif kind == rpc.HEADERS and flags & rpc.END_HEADERS:
            status = self.inflater.inflate(payload).get("grpc-status")
            if status is not None:
                self.statuses[int(status)] += 1

    def describe_end(self, how):
        return f"{how} after {self.goaway}" if self.goaway else how

    def end(self):
        return self.ended or (f"open, {self.goaway}" if self.goaway else "open")

    def push_body(self, number, body, sent=0, seconds=30.0):
        """Sends DATA as the server's windows allow. `sent`: what has gone before, on this stream alone. Ends early when
        the server resets a stream, closes, or gives no window for so long."""
        def room():
            return min(self.stream_window + self.stream_updates[number], self.connection_window) - sent

        while body and self.ended is None and not self.resets:
            if room() <= 0:
                self.listen(seconds, lambda: room() > 0 or self.resets)
            if room() <= 0:
                break
            piece, body = body[:min(room(), 16384)], body[min(room(), 16384):]
            self.push(rpc.frame(rpc.DATA, 0, number, piece))
            sent += len(piece)

    def number(self):
        self.next_number += 2
        return self.next_number - 2

    def call(self, path, message=b"", end=True, metadata=(), compressed=False):
        """The frames of a new call."""
        number = self.number()
        out = rpc.frame(rpc.HEADERS, rpc.END_HEADERS, number, rpc.header_fields(rpc.request_fields(path, metadata)))
        body = rpc.grpc_message(message, compressed)
        while len(body) > 16384:
            out += rpc.frame(rpc.DATA, 0, number, body[:16384])
            body = body[16384:]
        return out + rpc.frame(rpc.DATA, rpc.END_STREAM if end else 0, number, body)


def reset(number, code=8):
    return rpc.frame(rpc.RST_STREAM, 0, number, struct.pack(">I", code))


def window_update(number, more):
    return rpc.frame(rpc.WINDOW_UPDATE, 0, number, struct.pack(">I", more))
