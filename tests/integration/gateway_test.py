#!/usr/bin/env python3
"""The API as JSON, byte for byte beside etcd's: every path, bodies good and bad, streams, metadata.

What two servers cannot have in common is left out: ids, terms, sizes. etcd's JSON has a space behind each comma or none,
and one of two kinds of space behind "proto:", as its build has it.
"""

import base64
import http.client
import json
import os
import re
import shutil
import socket
import struct
import subprocess

import harness

OWN = ("cluster_id", "member_id", "raft_term", "raftTerm", "raftIndex", "raftAppliedIndex", "dbSize", "dbSizeInUse",
       "leader", "memberID", "dbSizeQuota", "storageVersion")
OWN_VALUE = re.compile(r'"(%s)":("\d*"|"[^"]*")' % "|".join(OWN))
HEADERS = ("content-type", "grpc-metadata-content-type", "www-authenticate", "location", "access-control-allow-origin",
           "access-control-allow-methods", "access-control-allow-headers")


def compact(text):
    """Without the space behind each comma that is not in a text."""
    out, in_text, escaped, after_comma = [], False, False, False
    for c in text:
        if after_comma and c == " ":
            after_comma = False
            continue
        after_comma = c == "," and not in_text
        if escaped:
            escaped = False
        elif c == "\\":
            escaped = in_text
        elif c == '"':
            in_text = not in_text
        out.append(c)
    return "".join(out)


def readable(body):
    return OWN_VALUE.sub(r'"\1":"own"', compact(body.decode("utf-8", "backslashreplace")).replace("\xa0", " "))


def b64(text):
    return base64.b64encode(text.encode()).decode()


class Asker:
    """Requests one after the other on a connection, and what came of each."""

    def __init__(self, server):
        self.server, self.told = server, []
        self.connection = http.client.HTTPConnection("127.0.0.1", server.client_port, timeout=60)

    def ask(self, path, body="", method="POST", headers=None):
        self.connection.request(method, path, body.encode("utf-8", "surrogateescape") if isinstance(body, str) else body,
                                headers or {})
        answer = self.connection.getresponse()
        found = {name: answer.headers.get(name) for name in HEADERS if answer.headers.get(name) is not None}
        text = readable(answer.read())
        self.told.append(((method, path, body[:100]), answer.status, found, text))
        return answer.status, text

    def tell(self, what):
        self.told.append(what)

    # So many lines of a stream that stays open.
    def lines(self, path, body, count):
        self.lines_with("", path, body, count)

    def lines_with(self, token, path, body, count):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.client_port, timeout=60)
        connection.request("POST", path, body, {"Authorization": token} if token else {})
        answer = connection.getresponse()
        self.told.append(((path, body), answer.status, [readable(answer.readline()) for _ in range(count)]))
        connection.close()


class WebSocket:
    """A client by hand, so that it can be a bad one."""

    def __init__(self, asker, path, headers=(), method="GET", version="13", key=None):
        self.asker, self.got = asker, b""
        self.socket = self.connect(asker.server.client_port)
        key = base64.b64encode(os.urandom(16)).decode() if key is None else key
        lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket",
                 f"Sec-WebSocket-Version: {version}", f"Sec-WebSocket-Key: {key}", *headers, "", ""]
        self.socket.sendall("\r\n".join(lines).encode())
        while b"\r\n\r\n" not in self.got:
            self.read()
        head, self.got = self.got.split(b"\r\n\r\n", 1)
        names = ("HTTP", "Sec-WebSocket-Protocol", "Sec-Websocket-Version", "Upgrade", "Connection", "Content-Type")
        asker.tell((path, headers, [line for line in head.decode().split("\r\n") if line.startswith(names)]))

    def connect(self, port):
        return socket.create_connection(("127.0.0.1", port), timeout=60)

    def read(self):
        try:
            piece = self.socket.recv(65536)
        except ConnectionError:
            piece = b""
        self.got += piece
        return bool(piece)

    def say(self, payload, first=0x81, mask=b"\1\2\3\4"):
        payload = payload.encode() if isinstance(payload, str) else payload
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)) if mask else payload
        length = bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + struct.pack(">H", len(payload))
        self.socket.sendall(bytes([first, length[0] | (0x80 if mask else 0)]) + length[1:] + mask + masked)

    # So many frames, or those until the server closes.
    def hear(self, count):
        for _ in range(count):
            while True:
                size = 2
                if len(self.got) >= 4:
                    told = self.got[1]
                    size = 4 + struct.unpack(">H", self.got[2:4])[0] if told == 126 else 2 + told
                if len(self.got) >= size and len(self.got) > 1 and (len(self.got) >= 4 or self.got[1] <= 2):
                    break
                if not self.read():
                    self.asker.tell("closed")
                    return
            start = 4 if self.got[1] == 126 else 2
            self.asker.tell((hex(self.got[0]), readable(self.got[start:size])))
            self.got = self.got[size:]

    def close(self):
        self.socket.close()


@harness.needs("etcd37")
class BesideEtcd(harness.Case):
    maxDiff = None

    def alike(self, case):
        def run(server):
            asker = Asker(server)
            case(asker)
            asker.connection.close()
            return asker.told

        etcd, cairn = self.side_by_side(run, ["etcd37", "cairn"])
        self.assertEqual(len(etcd), len(cairn))
        differing = [f"{a[0]}\n  etcd  {a[1:]}\n  cairn {b[1:]}" for a, b in zip(etcd, cairn) if a != b]
        self.assertEqual(differing, [], "\n".join(differing))

    def test_calls_and_their_answers(self):
        def case(asker):
            put = lambda key, value, **more: asker.ask("/v3/kv/put", json.dumps({"key": b64(key), "value": b64(value), **more}))
            put("a", "1")
            put("a", "2", prev_kv=True)
            put("b", "3", prevKv=True)
            asker.ask("/v3/lease/grant", '{"TTL":"1000","ID":"77"}')
            put("c", "4", lease=77)
            put("c", "4", lease="78")
            for body in ({"key": "YQ=="}, {"key": "YQ==", "range_end": "eg=="}, {"key": "YQ", "rangeEnd": "eg", "limit": 2},
                         {"key": "YQ==", "range_end": "eg==", "count_only": True},
                         {"key": "YQ==", "range_end": "eg==", "keys_only": True, "sort_order": "DESCEND"},
                         {"key": "YQ==", "range_end": "eg==", "sortOrder": 1, "sortTarget": "MOD"},
                         {"key": "YQ==", "revision": "2"}, {"key": "YQ==", "revision": "99"}, {"key": "AA==", "range_end": "AA=="}):
                asker.ask("/v3/kv/range", json.dumps(body))
                asker.ask("/v3beta/kv/range", json.dumps(body))
            asker.ask("/v3/kv/txn", json.dumps({
                "compare": [{"key": "YQ==", "target": "VERSION", "version": "2", "result": "EQUAL"},
                            {"key": "enp6", "target": "CREATE", "create_revision": 0}],
                "success": [{"requestRange": {"key": "YQ=="}}, {"request_put": {"key": "ZA==", "value": "NQ=="}},
                            {"request_delete_range": {"key": "Yg==", "prev_kv": True}},
                            {"request_txn": {"failure": [{"request_range": {"key": "YQ=="}}]}}]}))
            asker.ask("/v3/kv/txn", '{"compare":[{"key":"YQ==","version":"9"}],"failure":[{"request_range":{"key":"YQ=="}}]}')
            asker.ask("/v3/kv/deleterange", '{"key":"YQ==","prev_kv":true}')
            asker.ask("/v3/kv/deleterange", '{"key":"YQ=="}')
            asker.ask("/v3/kv/compaction", '{"revision":"3"}')
            asker.ask("/v3/kv/compaction", '{"revision":"3"}')
            asker.ask("/v3/kv/range", '{"key":"YQ==","revision":1}')
            for path in ("/v3/lease/timetolive", "/v3/kv/lease/timetolive"):
                asker.ask(path, '{"ID":"5"}')
            for path in ("/v3/lease/leases", "/v3/kv/lease/leases"):
                asker.ask(path, "{}")
            asker.ask("/v3/lease/revoke", '{"ID":"77"}')
            asker.ask("/v3/kv/lease/revoke", '{"ID":"77"}')
            asker.ask("/v3/maintenance/status")
            asker.ask("/v3/maintenance/alarm", '{"action":"GET"}')
            asker.ask("/v3/maintenance/alarm", '{"action":"ACTIVATE","alarm":"NOSPACE","memberID":"1"}')
            asker.ask("/v3/maintenance/alarm", '{}')
            asker.ask("/v3/maintenance/alarm", '{"action":"DEACTIVATE","alarm":1,"memberID":1}')
            asker.ask("/v3/maintenance/hashkv", '{"revision":"4"}')
            asker.ask("/v3/maintenance/defragment", "{}")
            asker.ask("/v3/election/leader", '{"name":"ZQ=="}')
            asker.ask("/v3/lock/lock", '{"name":"bA==","lease":"99"}')
            asker.ask("/v3/lock/unlock", '{"key":"bA=="}')
            asker.ask("/v3/lease/grant", '{"TTL":1000,"ID":88}')
            asker.ask("/v3/lock/lock", '{"name":"bA==","lease":"88"}')
            asker.ask("/v3/election/campaign", '{"name":"ZQ==","lease":"88","value":"dg=="}')
            asker.ask("/v3/election/leader", '{"name":"ZQ=="}')
            asker.ask("/v3/election/resign", "{}")
        self.alike(case)

    def test_requests_that_are_none(self):
        bodies = [
            "", " ", "{", "[]", "null", "1", '"text"', "tru", "-", "1.", "{}x", '{"key":1}', '{"key":"not base64!"}',
            '{"key":"YQ"}', '{"key":"YQ==","x":1}', '{"key":"YQ==","limit":"5"}', '{"key":"YQ==","limit":5.5}',
            '{"key":"YQ==","limit":"x"}', '{"key":"YQ==","limit":1e1}', '{"key":"YQ==","limit":"1e1"}',
            '{"key":"YQ==","limit":" 1"}', '{"key":"YQ==","limit":9223372036854775808}',
            '{"key":"YQ==","limit":1e400}', '{"key":"YQ==","limit":0e400}', '{"key":"YQ==","limit":"-0"}',
            '{"key":"YQ==","sort_order":"UP"}', '{"key":"YQ==","sort_order":7}', '{"key":"YQ==","sort_order":99999999999}',
            '{"key":"YQ==","sort_order":"1"}', '{"key":"YQ==","sort_order":null}', '{"key":"YQ==","sort_order":true}',
            '{"key":"YQ==","keys_only":"true"}', '{"key":"YQ==","keys_only":1}', '{"key":null}',
            '{"key":"YQ=="}{"key":"YQ=="}', '{"key":"YQ==","key":"Yg=="}', '{"range_end":"","rangeEnd":""}',
            '{"key":"_-8="}', '{"key":"/+8="}', '{"key":"_+8="}', '{"key":"YQ=\\n="}', '{"key":"Y\\r\\nQ=="}', '{"key":"Y==="}',
            '{"key":"YR=="}', '{"\\u006bey":"YQ=="}', '{"key":"\\ud83d\\ude00"}', '{"key":"\\ud83d"}',
            '{"key":"\\ud83dxxxxxx"}', '{"key":"\\ud83d\\u0041aaaa"}', '{"key":"\\udc00\\udc00"}', '{"key":"\\x"}',
            '{"key":"\\u00g0"}', '{"key":"a\nb"}', '{"key":"a\x01b"}', '{"key" "YQ=="}', '{"key":"YQ==",}', "{key:1}",
            "{'key':1}", '{"key":[}', '{"key":["YQ=="]}', '{"key":{"a":1}}', '{"x":[1,{"y":[null]}],"key":5}', "[1 2]", "[1,]",
            "\x00", "\x7f", b"\xff", b'{"key":"\xff"}', b'{"x":"\xff"}', b'{"\xff":1}', '{"\u00e9\u20ac\U0001f600":1,"key":5}',
            '\ufeff{}', '{\n\n  "key": 5\n}', '\n\n{"key":5}', '{"[ext]":1,"@type":"x","key":5}',
            '{"a":' + "[" * 9999 + "]" * 9999 + "}", '{"a":' + "[" * 10000 + "]" * 10000 + "}", "[" * 20000,
            '{"key":"' + "A" * 3000000 + '"}', '{"key":"' + "A" * 3001 + '"}', " " * 100000 + "{}",
        ]
        txns = [
            '{"success":{}}', '{"success":[null]}', '{"success":[1]}', '{"success":[{}]}', '{"success":[[]]}',
            '{"success":[{"request_put":{},"request_range":{}}]}', '{"success":[{"request_put":null,"requestRange":{"key":"YQ=="}}]}',
            '{"success":[{"request_put":{},"request_put":{}}]}', '{"compare":[{"target":"VALUE","key":"YQ==","value":"YQ=="}]}',
            '{"compare":[{"version":"1","create_revision":"1"}]}', '{"compare":[{"version":"x"}]}', '{"compare":"x"}',
            '{"success":[{"request_txn":' * 20 + "{}" + "}]}" * 20,
        ]

        def case(asker):
            for body in bodies:
                asker.ask("/v3/kv/range", body)
            for body in txns:
                asker.ask("/v3/kv/txn", body)
            for body in ('{"ID":"x"}', '{"ID":18446744073709551616}', '{"TTL":1e2,"ID":"4e1"}', '{"TTL":true}'):
                asker.ask("/v3/lease/grant", body)
            asker.ask("/v3/maintenance/hashkv", '{"revision":"x"}')
            asker.ask("/v3/maintenance/snapshot", "x")
            asker.ask("/v3/election/observe", "[]")
            asker.ask("/v3/cluster/member/add", '{"peerURLs":[1]}')
            asker.ask("/v3/cluster/member/add", '{"peerURLs":"x"}')
            asker.ask("/v3/kv/put", json.dumps({"key": "YQ==", "value": "A" * 2000004}))
            asker.ask("/v3/kv/put", json.dumps({"key": "YQ==", "value": "A" * 4000000}))
        self.alike(case)

    def test_paths_methods_and_headers(self):
        def case(asker):
            for path in ("/v3", "/v3/", "/v3/kv", "/v3/kv/", "/v3/kv/nothing", "/v3/kv/range/", "/v3/KV/range", "/v3/kv/r%61nge",
                         "/v3/kv%2Frange", "/v3//kv/range", "/v3/kv/../kv/range", "/v3/kv/./range", "/v3/kv/range?a=b", "/v3?a=b",
                         "/v3beta", "/v3beta/", "/v3beta/kv/range", "/v3beta//kv/range", "/v3alpha/kv/range", "/v3x", "/v4/kv/range",
                         "/v3/kv/rangestream", "/v3/kv/range:x", "/v3/kv/:range"):
                asker.ask(path, '{"key":"YQ=="}')
                asker.ask(path, method="GET")
            for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY"):
                for path in ("/v3/kv/range", "/v3/kv/nothing", "/v3/watch"):
                    asker.ask(path, "{}", method=method)
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            for kind in ("", "text/plain", "application/json", "application/json; charset=utf-8", "application/grpc", "x;;", "*"):
                asker.ask("/v3/kv/range", '{"key":"YQ=="}', headers={"Content-Type": kind, "Accept": kind})
            for value in ("GET", "PUT", "post", "POST", ""):
                asker.ask("/v3/kv/range", '{"key":"YQ=="}', headers={**form, "X-HTTP-Method-Override": value})
                asker.ask("/v3/kv/range", '{"key":"YQ=="}', headers={"X-HTTP-Method-Override": value})
            for timeout in ("1x", "x", "", "10S", "1H", "-1S", "0S", "+5S", "1.5S", "99999999999999999999S", "n", "1n", "\xff"):
                asker.ask("/v3/kv/range", '{"key":"YQ=="}', headers={"Grpc-Timeout": timeout})
            for headers in ({"Authorization": "nobody"}, {"Grpc-Metadata-Token": "nobody"}, {"Grpc-Metadata-hasleader": "true"},
                            {"Grpc-Metadata-Client-Api-Version": "\xff"}, {"Origin": "http://elsewhere"}, {"Host": "elsewhere"}):
                asker.ask("/v3/kv/range", '{"key":"YQ=="}', headers=headers)
        self.alike(case)

    def test_auth(self):
        def case(asker):
            asker.ask("/v3/auth/status")
            asker.ask("/v3/auth/enable")
            asker.ask("/v3/auth/authenticate", '{"name":"root","password":"x"}')
            asker.ask("/v3/auth/user/add", '{"name":"root","password":"p"}')
            asker.ask("/v3/auth/user/add", '{"name":"<&>","password":"p"}')
            asker.ask("/v3/auth/role/add", '{"name":"root"}')
            asker.ask("/v3/auth/role/add", '{"name":"r"}')
            asker.ask("/v3/auth/role/grant", '{"name":"r","perm":{"permType":"READWRITE","key":"YQ==","range_end":"Yg=="}}')
            asker.ask("/v3/auth/role/grant", '{"name":"r","perm":{"permType":"NOTHING","key":"eg=="}}')
            asker.ask("/v3/auth/role/get", '{"role":"r"}')
            asker.ask("/v3/auth/user/grant", '{"user":"root","role":"root"}')
            asker.ask("/v3/auth/user/grant", '{"user":"<&>","role":"r"}')
            asker.ask("/v3/auth/enable")
            asker.ask("/v3/kv/range", '{"key":"YQ=="}')
            asker.ask("/v3/lease/keepalive", '{"ID":"1"}')
            asker.ask("/v3/maintenance/snapshot", "{}")
            asker.ask("/v3/auth/authenticate", '{"name":"root","password":"wrong"}')
            tokens = []
            for name in ("root", "<&>"):
                asker.connection.request("POST", "/v3/auth/authenticate", json.dumps({"name": name, "password": "p"}))
                tokens.append(json.loads(asker.connection.getresponse().read())["token"])
            for token in (*tokens, "nobody.1", "", "Bearer x"):
                for prefix in ("", "Bearer ", "bearer "):
                    headers = {"Authorization": prefix + token}
                    asker.ask("/v3/kv/put", '{"key":"YQ==","value":"Yg=="}', headers=headers)
                    asker.ask("/v3/kv/put", '{"key":"eg=="}', headers=headers)
                    asker.ask("/v3/auth/user/list", headers=headers)
                asker.ask("/v3/kv/range", '{"key":"YQ=="}', headers={"Grpc-Metadata-Token": token})
            for token in tokens:
                asker.lines_with(token, "/v3/watch", '{"create_request":{"key":"YQ==","start_revision":"2"}}', 2)
                asker.lines_with(token, "/v3/watch", '{"create_request":{"key":"eg=="}}', 1)
            asker.ask("/v3/auth/disable", headers={"Authorization": tokens[1]})
            asker.ask("/v3/auth/disable", headers={"Authorization": tokens[0]})
        self.alike(case)

    def test_streams(self):
        def case(asker):
            for key, value in ("a", "1"), ("a", "<&>\u2028"), ("b", "3"):
                asker.ask("/v3/kv/put", json.dumps({"key": b64(key), "value": b64(value)}))
            for body in ('{"ID":"77"}', '{"ID":"77"}{"ID":78}', '{"ID":"77"}\n\n{"ID":78}\n', "", " ", '{"ID":"x"}', '{"ID":1}x{"ID":2}',
                         '{"ID":1}[]', '{"ID":1} 5', '{"ID":1}{"ID":2', "x"):
                asker.ask("/v3/lease/keepalive", body)
            asker.lines("/v3/watch", '{"create_request":{"key":"YQ==","start_revision":"1"}}', 2)
            asker.lines("/v3/watch", '{"create_request":{"key":"YQ==","rangeEnd":"eg==","start_revision":"1","watch_id":"7","prev_kv":true}}', 2)
            asker.lines("/v3/watch", '{"create_request":{"key":"YQ==","start_revision":1,"filters":["NOPUT"]}}{"cancel_request":{"watch_id":0}}', 2)
            asker.lines("/v3/watch", '{"create_request":{"key":"YQ==","watch_id":5}}{"create_request":{"key":"YQ==","watch_id":5}}', 2)
            asker.ask("/v3/kv/compaction", '{"revision":"4"}')
            asker.lines("/v3/watch", '{"create_request":{"key":"YQ==","start_revision":"1"}}', 2)
            status, _ = asker.ask("/v3/lease/grant", '{"TTL":1000,"ID":88}')
            asker.ask("/v3/election/campaign", '{"name":"ZQ==","lease":"88","value":"dg=="}')
            asker.lines("/v3/election/observe", '{"name":"ZQ=="}', 1)
        self.alike(case)


    def test_websockets(self):
        def case(asker):
            watch = WebSocket(asker, "/v3/watch")
            watch.say('{"create_request":{"key":"YQ==","watch_id":"1"}}')
            watch.hear(1)
            asker.ask("/v3/kv/put", '{"key":"YQ==","value":"PCY+"}')
            watch.hear(1)
            watch.say('{"create_request":{"key":"Yg==","watch_id":2}} {"cancel_request":{"watch_id":"1"}}')
            watch.hear(2)
            watch.say('{"cancel_', 0x01)
            watch.say("are you there?", 0x89)
            watch.hear(1)
            watch.say('request":{"watch_id":', 0x00)
            watch.say("2}}", 0x80)
            watch.hear(1)
            watch.say(b"\x03\xe8bye", 0x88)
            watch.hear(2)
            watch.close()
            for first, payload, mask in ((0x81, "x", b""), (0xc1, "x", b"1234"), (0x83, "x", b"1234"), (0x80, "x", b"1234"),
                                         (0x09, "x", b"1234"), (0x89, "x" * 126, b"1234"), (0x88, b"\x03\xee", b"1234"),
                                         (0x88, b"\x03\xe8\xff", b"1234"), (0x88, b"", b"1234"), (0x88, b"\x0b\xb8", b"1234")):
                bad = WebSocket(asker, "/v3/watch")
                bad.say(payload, first, mask)
                bad.hear(2)
                bad.close()
            renewals = WebSocket(asker, "/v3/lease/keepalive", ["Sec-WebSocket-Protocol: Bearer, nobody"])
            renewals.say('{"ID":"5"}')
            renewals.hear(1)
            renewals.say('{"ID":6}{"ID":', 0x82)
            renewals.hear(1)
            renewals.say("7}")
            renewals.hear(1)
            renewals.say("x")  # the requests end there, and with them the renewals
            renewals.hear(1)
            renewals.close()
            for path in ("/v3/nothing", "/v3/"):
                nothing = WebSocket(asker, path)
                nothing.hear(2)
                nothing.close()
            bad = WebSocket(asker, "/v3/kv/range", ["Sec-WebSocket-Protocol: other"])
            bad.say("x")
            bad.hear(2)
            bad.close()
            for changes in ({"method": "POST"}, {"version": "12"}, {"key": "short"}, {"key": "dGhlIHNhbXBsZSBub25jZQ"}):
                WebSocket(asker, "/v3/watch", **changes).close()
        self.alike(case)


class Cairn(harness.Case):
    def test_a_snapshot_is_the_db(self):
        server = self.server("cairn").start()
        asker = Asker(server)
        for number in range(50):
            asker.ask("/v3/kv/put", json.dumps({"key": b64(f"k{number}"), "value": b64("v" * 10000)}))
        asker.connection.request("POST", "/v3/maintenance/snapshot", "{}")
        lines = asker.connection.getresponse().read().splitlines()
        asker.connection.close()
        results = [json.loads(line)["result"] for line in lines]
        blob = b"".join(base64.b64decode(result.get("blob", "")) for result in results)
        self.assertGreater(len(blob), 500_000)
        self.assertEqual(len(blob) % 512, 32, "pages and a digest")
        self.assertIn("version", results[0])

    def test_without_it(self):
        server = self.server("cairn", flags=["--enable-grpc-gateway=false"]).start()
        asker = Asker(server)
        self.assertEqual(asker.ask("/v3/kv/range", '{"key":"YQ=="}'), (404, "404 page not found\n"))
        self.assertEqual(asker.ask("/v3", method="GET"), (404, "404 page not found\n"))
        asker.connection.close()

    def test_over_http_2(self):
        server = self.server("cairn").start()
        if shutil.which("curl") is None:
            self.skipTest("not on this machine: curl")
        got = subprocess.run(["curl", "-s", "-m", "60", "--http2-prior-knowledge", "-d", '{"key":"YQ=="}',
                              f"http://127.0.0.1:{server.client_port}/v3/kv/range"], capture_output=True, check=True)
        self.assertIn(b'"raft_term":', got.stdout)


if __name__ == "__main__":
    harness.main()
