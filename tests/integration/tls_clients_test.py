"""Clients over TLS beside etcd 3.7: curl, a scrape as Prometheus makes it, nghttp and h2load, etcdctl 3.7, over the port
and over unix sockets; and what a certificate's name is worth where.
"""

import http.client
import json
import re
import shutil
import ssl
import struct
import subprocess
import unittest

import gateway_test
import harness
import pki
import rpc
from tls_case import BOTH, Tls, ask, client_context


def need(name):
    if shutil.which(name) is None:
        raise unittest.SkipTest(f"not on this machine: {name}")


class Tools(Tls):
    def run_tool(self, *command, seconds_max=60):
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=seconds_max,
                              stdin=subprocess.DEVNULL)

    def test_curl_puts_and_gets(self):
        """JSON over HTTP/2 and HTTP/1.1, with a certificate and without."""
        need("curl")
        outcomes = []
        for server in self.pair(self.with_client_auth()):
            seen = []
            for version in ("--http2", "--http1.1"):
                for pair in (self.client, None):
                    shown = ["--cert", pair.cert, "--key", pair.key] if pair else []
                    for path, body in (("kv/put", '{"key":"YQ==","value":"Yg=="}'), ("kv/range", '{"key":"YQ=="}'),
                                       ("kv/range", "nonsense"), ("kv/none", "{}")):
                        done = self.run_tool("curl", "-s", "--max-time", 60, version, "--cacert", self.authority.cert, *shown,
                                             "-w", " %{http_version} %{http_code}", "-d", body, f"{server.url}/v3/{path}")
                        text = gateway_test.readable(done.stdout.encode())
                        # Without a certificate: TLS 1.3's client has asked before it is refused, and sees one or the other.
                        seen.append((version, path, body, done.returncode, text) if pair else (version, path, done.returncode != 0))
            outcomes.append(seen)
        self.assertEqual(*outcomes)
        self.assertIn("2 200", outcomes[1][0][-1])
        self.assertEqual(outcomes[1][4][-1], True)

    def test_a_scrape_as_prometheus_makes_it(self):
        """Over HTTPS with a certificate, with and without a bearer's token, compressed or not."""
        headers = {"User-Agent": "Prometheus/3.1.0", "Accept-Encoding": "gzip", "X-Prometheus-Scrape-Timeout-Seconds": "10",
                   "Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"}
        metrics = {kind: harness.free_port() for kind in BOTH}
        servers = self.pair(lambda kind: self.with_client_auth("--listen-metrics-urls", f"https://127.0.0.1:{metrics[kind]}"))
        outcomes = []
        for server in servers:
            seen = []
            for port in (server.client_port, metrics[server.kind]):
                for more in ({}, {"Authorization": "Bearer nothing"}):
                    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=client_context(self.client))
                    connection.request("GET", "/metrics", headers=headers | more)
                    answer = connection.getresponse()
                    body = answer.read()
                    kind = answer.headers["Content-Type"].split("; ")[:2]
                    seen.append((answer.status, kind, len(body) > 1000))
                    connection.request("GET", "/metrics", headers=more)  # on the same connection
                    answer = connection.getresponse()
                    text = answer.read().decode()
                    states = re.findall(r"^etcd_server_(?:has_leader|is_learner) \d$", text, re.M)
                    seen.append((answer.status, answer.headers["Content-Encoding"], sorted(states)))
                    connection.close()
                self.assertEqual(ask(("127.0.0.1", port), is_refused=True)[0], "refused", "nobody without a certificate")
            outcomes.append(seen)
        self.assertEqual(*outcomes)
        self.assertEqual(outcomes[1][0][0], 200)

    def test_nghttp_and_h2load(self):
        need("nghttp")
        need("h2load")
        request = self.dir / "request"
        message = rpc.enc((1, b"a"))
        request.write_bytes(b"\0" + struct.pack(">I", len(message)) + message)
        outcomes = []
        for server in self.pair(self.flags()):
            seen = [self.run_tool("nghttp", f"{server.url}/health").stdout]
            done = self.run_tool("nghttp", "-nv", f"{server.url}/version", f"{server.url}/health")
            seen.append((done.returncode, len(re.findall(r":status: 200", done.stdout)), "The negotiated protocol: h2" in done.stdout))
            for more in (["-c", "10", "-m", "10"], ["-c", "50", "-m", "1", "--h1"]):
                done = self.run_tool("h2load", "-n", 500, *more, f"{server.url}/health")
                seen.append(re.findall(r"^requests: .*|^Application protocol: .*", done.stdout, re.M))
            done = self.run_tool("h2load", "-n", 500, "-c", 10, "-m", 10, "-d", request, "-H", "content-type: application/grpc",
                                 "-H", "te: trailers", f"{server.url}/etcdserverpb.KV/Range")
            seen.append(re.findall(r"^requests: .*|^status codes: .*", done.stdout, re.M))
            outcomes.append(seen)
        self.assertEqual(*outcomes)
        self.assertIn("500 succeeded, 0 failed", outcomes[1][-1][0])

    @harness.needs("etcdctl37")
    def test_etcdctls_flags(self):
        """Of 3.7: which authorities it trusts, what it shows, and what it says when that does not do."""
        stranger = pki.Authority(self.dir, "stranger")
        mallory = stranger.issue("mallory")
        over = self.authority.expired("over")
        shown = ["--cert", self.client.cert, "--key", self.client.key]
        ca = ["--cacert", self.authority.cert]
        asked = [
            [*ca, *shown], ["--insecure-skip-tls-verify", *shown], ["--insecure-skip-tls-verify", "--insecure-transport=false", *shown],
            [*ca, *shown, "--insecure-transport=false"], ca, ["--insecure-skip-tls-verify"], ["--cacert", stranger.cert, *shown],
            [*ca, "--cert", mallory.cert, "--key", mallory.key], [*ca, "--cert", over.cert, "--key", over.key],
            [*ca, "--cert", self.client.cert, "--key", mallory.key], [*ca, "--cert", self.client.cert],
        ]
        outcomes = []
        for server in self.pair(self.with_client_auth()):
            seen = []
            for flags in asked:
                brief = "2s" if len(seen) >= 12 else "60s"  # of what fails whatever its time
                for command in (["put", "a", "b"], ["get", "a"], ["endpoint", "health"]):
                    done = self.run_tool(harness.program("etcdctl37"), "--endpoints", server.url, "--command-timeout", brief,
                                         "--dial-timeout", brief, *flags, *command)
                    said = re.sub(r"took = [\d.µm]+s", "took", (done.stdout + done.stderr).replace(server.endpoint, "IT"))
                    seen.append((list(map(str, flags)), command, done.returncode,
                                 "OK" in said or "healthy: successfully" in said or "a\nb\n" in said))
            outcomes.append(seen)
        for etcd, cairn in zip(*outcomes, strict=True):
            self.assertEqual(etcd, cairn)
        self.assertEqual([good for *_, good in outcomes[1]], [True] * 12 + [False] * 21)

    def test_unix_sockets_with_certificates(self):
        paths = {kind: self.dir / f"{kind}.sock" for kind in BOTH}
        servers = self.pair(lambda kind: self.with_client_auth(
            "--listen-client-urls", f"unixs://{paths[kind]},https://127.0.0.1:{harness.free_port()}", "--advertise-client-urls",
            "https://127.0.0.1:1"))
        outcomes = []
        for server in servers:
            path, seen = paths[server.kind], []
            for pair in (self.client, None):
                shown = ["--cert", pair.cert, "--key", pair.key] if pair else []
                for version in ("--http2", "--http1.1"):
                    done = self.run_tool("curl", "-s", "--max-time", 60, version, "--cacert", self.authority.cert, *shown,
                                         "--unix-socket", path, "https://localhost/version")
                    seen.append((done.returncode == 0, done.stdout))
            outcomes.append(seen)
        self.assertEqual(*outcomes)
        self.assertEqual([good for good, _ in outcomes[1]], [True, True, False, False])


class SecureWebSocket(gateway_test.WebSocket):
    """The client by hand, over TLS."""

    cert = None

    def connect(self, port):
        return client_context(self.cert).wrap_socket(super().connect(port))


class Names(Tls):
    """The name in a certificate names a user over gRPC, and nobody over JSON."""

    def with_users(self, server, shown):
        """Auth is on; root and alice are users, and alice may read and write "a"."""
        with rpc.Client(server.client_port, tls=client_context(shown, "h2")) as client:
            for name in ("root", "alice"):
                client.user_add(name, name + "pw")
            client.role_add("root")
            client.user_grant("root", "root")
            client.role_add("r")
            client.role_grant("r", 2, b"a")
            client.user_grant("alice", "r")
            client.auth_enable()

    def json(self, server, shown, path, body, headers=None, method="POST"):
        connection = http.client.HTTPSConnection("127.0.0.1", server.client_port, timeout=60, context=client_context(shown))
        # With "Accept", as all clients but the barest send it: etcd's gateway marks the call of none else as its own.
        connection.request(method, path, body, {"Accept": "*/*"} | (headers or {}))
        answer = connection.getresponse()
        found = {name: answer.headers.get(name) for name in ("Content-Type", "X-Content-Type-Options", "Access-Control-Allow-Origin")}
        text = gateway_test.readable(answer.read())
        connection.close()
        return answer.status, found, text

    def token(self, server, shown):
        return json.loads(self.json(server, shown, "/v3/auth/authenticate", '{"name":"alice","password":"alicepw"}')[2])["token"]

    def test_cve_2018_16886_names_do_not_count_over_json(self):
        """GHSA-h6xx-pmxh-3wgp: through the gateway everybody had the name in the gateway's certificate. Since then a client
        with a name in its own is told that it does not count."""
        nameless = self.authority.issue("nameless", common_name="")
        root = self.authority.issue("root")
        get, put = ("/v3/kv/range", '{"key":"YQ=="}'), ("/v3/kv/put", '{"key":"YQ==","value":"Yg=="}')
        outcomes = []
        for server in self.pair(self.with_client_auth()):
            seen = [self.json(server, self.client, *get)]  # auth is not on yet
            self.with_users(server, nameless)
            token = {"Authorization": self.token(server, nameless)}
            for shown in (root, self.client, nameless):
                for headers in ({}, token):
                    for path, body in (get, put, ("/v3beta/kv/range", '{"key":"YQ=="}'), ("/v3/none", ""), ("/v3//kv/range", ""),
                                       ("/v3/auth/authenticate", '{"name":"alice","password":"alicepw"}')):
                        status, found, text = self.json(server, shown, path, body, headers)
                        seen.append((shown.cert.stem, path, status, found, re.sub(r'"token":"[^"]*"', "token", text)))
                for path in ("/version", "/health", "/metrics", "/v3"):
                    seen.append((shown.cert.stem, path, self.json(server, shown, path, None, method="GET")[0]))
                for method in ("OPTIONS", "GET", "PUT"):
                    seen.append((shown.cert.stem, method, self.json(server, shown, "/v3/kv/range", None, method=method)[:2]))
            # Over gRPC the name counts, unless the gateway's mark is there; a token counts for more than a name.
            for shown in (root, self.client, nameless):
                for metadata in ((), (("grpcgateway-accept", "*/*"),), (("token", token["Authorization"]),)):
                    with rpc.Client(server.client_port, tls=client_context(shown, "h2")) as client:
                        client.metadata = metadata
                        for key in (b"a", b"z"):
                            try:
                                client.put(key, b"v")
                                seen.append((shown.cert.stem, bool(metadata), key, "put"))
                            except rpc.GrpcError as error:
                                seen.append((shown.cert.stem, bool(metadata), key, error.code, error.message))
            outcomes.append(seen)
        for etcd, cairn in zip(*outcomes, strict=True):
            self.assertEqual(etcd, cairn)
        self.assertEqual([one[2] for one in outcomes[1] if one[0] == "root" and one[1] == "/v3/kv/range"], [400, 400])
        self.assertIn(("alice", False, b"a", "put"), outcomes[1])

    def test_cve_2018_16886_without_accept(self):
        """etcd 3.7.1 still lets a request without an "Accept" have the name in the server's own certificate. We do not."""
        boss = self.authority.issue("boss", common_name="root")
        nameless = self.authority.issue("nameless", common_name="")
        cairn = self.make("cairn", ["--cert-file", str(boss.cert), "--key-file", str(boss.key), "--client-cert-auth",
                                    "--trusted-ca-file", str(self.authority.cert)], shown=nameless)
        self.with_users(cairn, nameless)
        status, _, body = cairn.http("/v3/kv/put", "POST", '{"key":"YQ==","value":"Yg=="}')
        self.assertEqual((status, json.loads(body)["message"]), (400, "etcdserver: user name is empty"))

    def test_authorities_alone_name_nobody(self):
        """With --trusted-ca-file and without --client-cert-auth certificates are asked for, and their names mean nothing."""
        outcomes = []
        for server in self.pair(self.flags("--trusted-ca-file", str(self.authority.cert))):
            root = self.authority.issue("root")
            self.with_users(server, root)
            seen = [self.json(server, root, "/v3/kv/range", '{"key":"YQ=="}'),
                    self.json(server, root, "/v3/kv/range", '{"key":"YQ=="}', {"Authorization": self.token(server, root)})]
            with rpc.Client(server.client_port, tls=client_context(root, "h2")) as client:
                with self.assertRaises(rpc.GrpcError) as caught:
                    client.put(b"a", b"v")
                seen.append((caught.exception.code, caught.exception.message))
            outcomes.append(seen)
        self.assertEqual(*outcomes)

    def test_21929_tokens_in_a_websockets_protocol(self):
        """A browser cannot send "Authorization" with a WebSocket: the token comes as "Sec-WebSocket-Protocol: Bearer, TOKEN"."""
        nameless = self.authority.issue("nameless", common_name="")
        SecureWebSocket.cert = nameless
        outcomes = []
        for server in self.pair(self.with_client_auth()):
            self.with_users(server, nameless)
            token = self.token(server, nameless)
            told = []

            class Teller:
                tell = told.append

            Teller.server = server
            for protocol in (f"Bearer, {token}", f"Bearer {token}", f"bearer, {token}", "Bearer, nobody.1", token, "Bearer"):
                web = SecureWebSocket(Teller, "/v3/watch", [f"Sec-WebSocket-Protocol: {protocol}"])
                web.say('{"create_request":{"key":"YQ=="}}')
                web.hear(1)
                web.close()
            outcomes.append([json.loads(json.dumps(one).replace(token, "TOKEN")) for one in told])
        self.assertEqual(*outcomes)
        self.assertIn("created", json.dumps(outcomes[1][1]))

    def test_ghsa_3wh4_j44w_pg92_revoked_certificates_beside_http_of_its_own(self):
        """CVE-2026-59818: with --listen-client-http-urls the gRPC listener did not look at the list of revoked ones."""
        revoked = self.dir / "revoked.crl"
        gone = self.authority.issue("gone")
        self.authority.revoke([gone], revoked)
        urls = {kind: harness.free_port() for kind in BOTH}
        servers = self.pair(lambda kind: self.with_client_auth("--client-crl-file", str(revoked), "--listen-client-http-urls",
                                                               f"https://127.0.0.1:{urls[kind]}"))
        for server in servers:
            with rpc.Client(server.client_port, tls=client_context(self.client, "h2")) as client:
                client.put(b"a", b"b")
            with self.assertRaises((OSError, rpc.GrpcError), msg=server.kind):
                with rpc.Client(server.client_port, tls=client_context(gone, "h2")) as client:
                    client.put(b"a", b"b")
            address = ("127.0.0.1", urls[server.kind])
            self.assertIn("200 OK", ask(address, cert=self.client)[-1], server.kind)
            self.assertEqual(ask(address, cert=gone, is_refused=True)[-1], "", server.kind)

    def test_ghsa_5x4g_q5rc_36jp_weak_suites(self):
        """By default no suite with RC4 or 3DES, and none without an exchange of keys, is agreed on."""
        rsa = self.authority.issue("rsa", kind="rsa")
        servers = self.pair(["--cert-file", str(rsa.cert), "--key-file", str(rsa.key)])
        twelve = {"most": ssl.TLSVersion.TLSv1_2}
        for suites in ("AES128-SHA", "AES256-SHA", "AES128-GCM-SHA256", "AES256-GCM-SHA384", "ECDHE-RSA-AES128-SHA256",
                       "NULL-SHA256", "DHE-RSA-AES128-GCM-SHA256"):
            self.check_same(servers, "HANDSHAKE_FAILURE", suites=suites + ":@SECLEVEL=0", **twelve)
        self.check_same(servers, "200 OK", suites="ECDHE-RSA-AES128-GCM-SHA256", **twelve)


if __name__ == "__main__":
    harness.main()
