"""Raw HTTP/1 requests to etcd 3.7 and to Cairn: the same status lines, headers and bodies, byte for byte.

Each request goes out on a connection of its own, with an ordinary request behind it that closes the connection. So an
answer shows how far the server read, and whether it kept the connection.
"""

import concurrent.futures
import itertools
import re
import socket

import harness

SENTINEL = b"GET /version HTTP/1.1\r\nHost: sentinel\r\nConnection: close\r\n\r\n"

# Request -> why another answer is accepted. A regular expression over the request's bytes.
ACCEPTED = {
    rb"^HEAD (//|/\./|/a/\.\./)version": "a redirect tells that its body is empty",
    rb"^PRI ": "the first bytes choose the protocol, and these begin HTTP/2",
    rb"^(GET|OPTIONS) \* ": "Go's library answers these by itself",
    rb"^(GET|OPTIONS) (http://(x |x\?|x:y|a%20b|\[::1/)|x:80)": "of an absolute form only the path is read",
    rb"\r\n(X|X Y|Host) ?: [ya]\r\n|\nX Y: z": "a wrong header name is not named",
    rb"HTTP/1\.0\r\n.*Connection: close\r\nConnection: keep-alive": "the last one counts",
    rb"^POST .*Expect: (x, )?100-[cC]": "the body is read, and so it is asked for, before the answer",
    rb"Content-Length: 2,2\r\n": "equal lengths are one",
    rb"Transfer-Encoding: chunked\r\n\r\n": "the body is read before the answer",
    rb"Transfer-Encoding: chunked\r\nContent-Length: 2": "two readers could find two ends: refused",
    rb"^GET /x{10000} ": "etcd's multiplexer reads no longer lines",
}


def request(line=b"GET /version HTTP/1.1", headers=(b"Host: x",), end=b"\r\n", body=b""):
    return line + end + b"".join(header + end for header in headers) + end + body


def requests():
    """A few hundred, in the order of what they try."""
    host = b"Host: x"
    methods = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"BREW", b"get", b"G@T",
               b"G(T", b"", b"CONNECT", b"PRI")
    paths = (b"/version", b"/health", b"/livez", b"/readyz", b"/nothing", b"/", b"//version", b"/./version",
             b"/a/../version", b"/version/", b"/health?serializable=true", b"/livez?verbose", b"/readyz?exclude=nothing",
             b"/livez/serializable_read", b"/livez/nothing")
    for method, path in itertools.product(methods, paths):
        yield request(method + b" " + path + b" HTTP/1.1")
    for path in (b"*", b"version", b"", b"/%76ersion", b"/%", b"/%zz", b"/version%20", b"/version?%zz", b"/version#x",
                 b"http://x/version", b"http://x", b"http://x?y", b"http:///version", b"https://y/version", b"//x/version",
                 b"http://x:y/version", b"x:80", b"/version?a;b", b"/ver\xc3\xa9", b"/ver\x01", b"/ver\x7f", b"/a b",
                 b"ftp://x/version", b"HTTP://x/version", b"http://a%20b/version", b"http://[::1]/version",
                 b"http://[::1/version", b"?x", b"/?x", b"/version?", b"/metrics/", b"/v2/keys", b"/debug/vars/x"):
        for method in (b"GET", b"OPTIONS"):
            yield request(method + b" " + path + b" HTTP/1.1")
    for version in (b"HTTP/1.0", b"HTTP/1.1", b"HTTP/1.2", b"HTTP/1.9", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/2", b"HTTP/1",
                    b"HTTP/1.10", b"http/1.1", b"HTTP/01.1", b"HTTP/1.", b"HTTP/a.b", b"HTTPS/1.1", b"", b"HTTP/3.0",
                    b"HTTP/1.1 ", b" HTTP/1.1", b"HTTP/1.1 x"):
        yield request(b"GET /version " + version)
        yield request(b"GET /version " + version, (host, b"Connection: keep-alive"))
        yield request(b"GET /version " + version, ())
    yield request(b"GET /version")
    yield request(b"GET")
    yield request(b"")
    yield request(b" GET /version HTTP/1.1")
    yield request(b"GET  /version HTTP/1.1")
    yield request(b"GET\t/version\tHTTP/1.1")
    for end in (b"\n", b"\r", b"\n\r", b"\r\r\n"):
        yield request(end=end)
        yield request(headers=(host, b"X-More: y"), end=end)
        yield end + request()
        yield end * 3 + request()
        yield b"GET /version HTTP/1.1" + end + b"Host: x\r\n\r\n"
        yield b"GET /version HTTP/1.1\r\nHost: x" + end + b"\r\n"
        yield b"GET /version HTTP/1.1\r\nHost: x\r\n" + end
    for hosts in ((), (b"Host:",), (b"Host: ",), (b"Host: a", b"Host: b"), (b"Host: a", b"Host: a"), (b"HOST: a",),
                  (b"Host: a b",), (b"Host: a/b",), (b"Host: a@b",), (b"Host: [::1]:80",), (b"Host: \xc3\xa9",),
                  (b"Host: a,b",), (b"Host: a?b",), (b"Host: a#b",), (b"Host: a\\b",), (b"Host: a:b:c",), (b"Host: \"a\"",),
                  (b"Host: a\x01",), (b"Host: %41",), (b"Host : a",), (b" Host: a",), (b"Host: <a>",)):
        yield request(headers=hosts)
        yield request(b"GET /version HTTP/1.0", hosts)
    for header in (b"X: y", b"X:y", b"X : y", b"X", b":", b": y", b"X Y: z", b"X\t: y", b"X:\ty\t", b"X:   y   ", b"X: a\x00b",
                   b"X: a\x01b", b"X: a\x7fb", b"X: a\tb", b"X: \xff", b"X\xc3\xa9: y", b"X@: y", b"X(: y", b"X_: y", b"X!: y",
                   b"X: y\r\n folded", b"X: y\r\n\tfolded", b" X: y", b"X: y\r\n ", b"X:", b"\"X\": y", b"X/: y",
                   b"Connection: close", b"Connection: Close", b"Connection: keep-alive", b"Connection: keep-alive, close",
                   b"Connection: close\r\nConnection: keep-alive", b"Connection: upgrade\r\nUpgrade: h2c",
                   b"Connection: Upgrade\r\nUpgrade: websocket", b"Connection:", b"Connection: x",
                   b"Expect: 100-continue", b"Expect: 100-Continue", b"Expect: 200-ok", b"Expect:", b"Expect: x, 100-continue",
                   b"Origin: http://y", b"Range: bytes=0-3", b"Accept-Encoding: gzip", b"If-None-Match: *", b"Trailer: X",
                   b"Content-Type: application/grpc", b"Access-Control-Request-Method: GET",
                   b"Content-Type: application/grpc\r\nTE: trailers", b"X-HTTP-Method-Override: DELETE"):
        yield request(headers=(host, header))
        yield request(b"POST /version HTTP/1.1", (host, header, b"Content-Length: 2"), body=b"{}")
        yield request(b"GET /version HTTP/1.0", (host, header))
    for value in (b"0", b"2", b"02", b"+2", b"-2", b"-0", b"2 ", b"2,2", b"2, 3", b"", b"x", b"0x2", b"2.0", b"2\r\nContent-Length: 2",
                  b"2\r\nContent-Length: 3", b"99999999999999999999", b"9223372036854775807", b"2;x", b"0\r\nContent-Length: 0"):
        for method in (b"GET", b"POST"):
            if value == b"9223372036854775807":
                continue  # both wait for the rest
            yield request(method + b" /version HTTP/1.1", (host, b"Content-Length: " + value), body=b"{}")
    chunks = (b"0\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n", b"2;x=y\r\n{}\r\n0\r\n\r\n", b"02\r\n{}\r\n0\r\n\r\n", b"2\n{}\n0\n\n",
              b"x\r\n{}\r\n0\r\n\r\n", b"-2\r\n{}\r\n0\r\n\r\n", b"0x2\r\n{}\r\n0\r\n\r\n", b"2\r\n{}0\r\n\r\n", b"2 \r\n{}\r\n0\r\n\r\n",
              b"\r\n", b"2\r\n{}\r\n0\r\nX: y\r\n\r\n", b"2\r\n{}\r\n0\r\nbad\r\n\r\n", b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
              b"2;\r\n{}\r\n0\r\n\r\n", b"00000000000000002\r\n{}\r\n0\r\n\r\n", b"2\r\n{}x\r\n0\r\n\r\n", b"2\r\n{}\r\r0\r\n\r\n")
    for method, chunk in itertools.product((b"GET", b"POST"), chunks):
        yield request(method + b" /version HTTP/1.1", (host, b"Transfer-Encoding: chunked"), body=chunk)
    for coding in (b"Chunked", b"CHUNKED", b" chunked ", b"identity", b"gzip", b"gzip, chunked", b"chunked, chunked", b"x", b"",
                   b"chunked\r\nTransfer-Encoding: chunked", b"chunked\r\nContent-Length: 2", b"chunked;x", b"\"chunked\"",
                   b"\x0bchunked", b"chunked\r\nTransfer-Encoding: identity", b"chunked\r\nContent-Length: x"):
        yield request(b"POST /version HTTP/1.1", (host, b"Transfer-Encoding: " + coding), body=b"2\r\n{}\r\n0\r\n\r\n")
    yield request(b"POST /version HTTP/1.0", (host, b"Transfer-Encoding: chunked"), body=b"0\r\n\r\n")
    yield request(headers=(host, b"X: " + b"y" * 60_000))
    yield request(headers=(host, b"X: " + b"y" * 2_000_000))
    yield request(headers=(host, *(b"X%d: y" % i for i in range(500))))
    yield request(b"GET /" + b"x" * 10_000 + b" HTTP/1.1")
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    yield b"\x00" * 30
    yield b"\xff" * 30


def exchange(port, sent, timeout):
    """What comes until the server closes. A timeout stands at the end, if it does not."""
    out = b""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        try:
            connection.sendall(sent + SENTINEL)
        except OSError:
            pass
        try:
            while piece := connection.recv(65536):
                out += piece
        except TimeoutError:
            out += b"HTTP/0.0 000 the server waits"
        except OSError:
            pass  # a reset: what is unread at the server's end
    return out


def answers(text):
    """[(status line, sorted headers, body)]"""
    out = []
    for answer in re.split(rb"(?=HTTP/\d\.\d \d\d\d )", text)[1:]:
        head, _, body = answer.partition(b"\r\n\r\n")
        status, *headers = head.split(b"\r\n")
        headers = sorted(header for header in headers if not header.startswith(b"Date: "))
        out.append((status, headers, body))
    return out if out or not text else [(text[:80], [], b"")]


@harness.needs("etcd37")
class BesideEtcd(harness.Case):
    def test_requests_are_answered_alike(self):
        servers = [self.server(kind, self.dir / kind).start() for kind in ("etcd37", "cairn")]
        asked = list(dict.fromkeys(requests()))
        self.assertGreater(len(asked), 500)

        def ask(sent):
            return [answers(exchange(server.client_port, sent, 3)) for server in servers]

        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            found = list(pool.map(ask, asked))
        self.check_alike(((sent, *pair) for sent, pair in zip(asked, found, strict=True)),
                         lambda sent: (one for one in ACCEPTED if re.search(one, sent, re.S)), ACCEPTED)

    def test_hosts_that_are_not_listed_are_refused_alike(self):
        flags = ["--host-whitelist=x,127.0.0.1,::1"]
        servers = [self.server(kind, self.dir / kind, flags=flags).start() for kind in ("etcd37", "cairn")]
        for host in (b"x", b"x:1", b"y", b"X", b"", b"[::1]:80", b"[::1]", b"127.0.0.1:2379", b"x:y:z"):
            for line in (b"GET /version HTTP/1.1", b"OPTIONS /v3/kv/put HTTP/1.1", b"GET /nothing HTTP/1.1"):
                sent = request(line, headers=(b"Host: " + host, b"Connection: close"))
                etcds, cairns = (answers(exchange(server.client_port, sent, 3)) for server in servers)
                self.assertEqual(cairns, etcds, (host, line))


if __name__ == "__main__":
    harness.main()
