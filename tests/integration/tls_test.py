"""TLS for clients beside etcd 3.7: who gets in, with which protocol, what the others are told, and what the log says.

Each test starts both with the same flags and certificates, and asks both the same.
"""

import concurrent.futures
import shutil
import socket
import ssl
import subprocess
import time
import unittest

import harness
import pki
from tls_case import ANSWER_SECONDS_MAX, BOTH, Tls, TlsServer, ask, in_clear


class Handshakes(Tls):
    def test_protocols(self):
        servers = self.pair(self.flags())
        self.check_same(servers, "200 OK")
        self.check_same(servers, "200 OK", most=ssl.TLSVersion.TLSv1_2)
        self.check_same(servers, "SETTINGS", alpn=["h2"])
        self.check_same(servers, "SETTINGS", alpn=["http/1.1", "h2"])
        self.check_same(servers, "NO_APPLICATION_PROTOCOL", alpn=["foo"])
        self.check_same(servers, "PROTOCOL_VERSION", most=ssl.TLSVersion.TLSv1_1, least=ssl.TLSVersion.TLSv1_1,
                        suites="ALL:@SECLEVEL=0")
        self.check_same(servers, "HANDSHAKE_FAILURE", most=ssl.TLSVersion.TLSv1_2, suites="AES128-SHA:@SECLEVEL=0")
        # etcd agrees on nothing with a client that has HTTP/1.1 alone, and serves it all the same.
        for server in servers:
            self.assertIn("200 OK", ask(("127.0.0.1", server.client_port), alpn=["http/1.1"])[-1])
        for sent in (b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x80\x2e\1\0\2\0\0\0"):
            etcd, cairn = (in_clear(("127.0.0.1", server.client_port), sent) for server in servers)
            self.assertEqual(etcd, cairn, sent)
        etcd, cairn = (self.rejections(server, 6) for server in servers)
        self.assertEqual(etcd, cairn)
        self.assertEqual(cairn.count("tls: first record does not look like a TLS handshake"), 2)

    def test_suites_and_versions(self):
        rsa = self.authority.issue("rsa", kind="rsa")
        flags = ["--cert-file", str(rsa.cert), "--key-file", str(rsa.key), "--tls-max-version", "TLS1.2", "--cipher-suites",
                 "TLS_RSA_WITH_AES_128_CBC_SHA,TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"]
        servers = self.pair(flags)
        for suites in ("ALL", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256", "AES128-SHA",
                       "ECDHE-RSA-CHACHA20-POLY1305", "AES128-SHA:ECDHE-RSA-AES128-GCM-SHA256"):
            self.check_same(servers, suites=suites)
        for server in servers:
            server.stop()
        servers = self.pair(self.flags("--tls-min-version", "TLS1.3"), name="3")
        self.check_same(servers, "200 OK")
        self.check_same(servers, "PROTOCOL_VERSION", most=ssl.TLSVersion.TLSv1_2)

    def test_certificates_of_clients(self):
        servers = self.pair(self.with_client_auth())
        stranger = pki.Authority(self.dir, "stranger").issue("mallory")
        server_only = self.authority.issue("serveronly", usage="serverAuth")
        bare = self.authority.issue("bare", common_name="", names="", usage="")
        for most in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            self.check_same(servers, "200 OK", cert=self.client, most=most)
            self.check_same(servers, "200 OK", cert=bare, most=most)
            self.check_same(servers, "REQUIRED" if most == ssl.TLSVersion.TLSv1_3 else "HANDSHAKE_FAILURE", most=most)
            self.check_same(servers, "UNKNOWN_CA", cert=stranger, most=most)
            for server in servers:  # the alerts differ
                self.assertEqual(ask(("127.0.0.1", server.client_port), cert=server_only, most=most)[0], "refused")
        etcd, cairn = (self.rejections(server, 6) for server in servers)
        self.assertEqual(etcd, cairn)

    def test_allowed_hostnames(self):
        servers = self.pair(self.with_client_auth("--client-cert-allowed-hostname", "other,good.example"))
        good = self.authority.issue("good", names="DNS:*.example")
        self.check_same(servers, "200 OK", cert=good)
        self.check_same(servers, "BAD_CERTIFICATE", cert=self.client)
        etcd, cairn = (self.rejections(server, 1) for server in servers)
        self.assertEqual(etcd, cairn)
        self.assertEqual(cairn, ["client certificate authentication failed"])

    def test_revoked_certificates(self):
        revoked = self.dir / "revoked.crl"
        servers = self.pair(self.with_client_auth("--client-crl-file", str(revoked)))
        other = self.authority.issue("bob")
        outcome = {server.kind: ask(("127.0.0.1", server.client_port), cert=self.client) for server in servers}
        self.assertEqual({kind: found[-1] for kind, found in outcome.items()}, dict.fromkeys(BOTH, ""), "no list yet")
        self.authority.revoke([other], revoked)
        for server in servers:
            self.wait_for(server, "200 OK", cert=self.client)
            self.assertEqual(ask(("127.0.0.1", server.client_port), cert=other, is_refused=True)[-1], "")
        self.authority.revoke([other, self.client], revoked)
        for server in servers:
            self.wait_for(server, "", cert=self.client)
        for server in servers:
            reasons = self.rejections(server, 3)
            self.assertIn(f"open {revoked}: no such file or directory", reasons)
            self.assertIn(f"transport: certificate serial {other.serial:x} revoked", reasons)
            self.assertIn(f"transport: certificate serial {self.client.serial:x} revoked", reasons)
        # What cannot be read: etcd turns everybody away, Cairn keeps the list that it has.
        third = self.authority.issue("carol")
        revoked.write_text("no list")
        cairn = servers[1]
        deadline = time.monotonic() + 60
        while cairn.log_text().count("failed to read the list of revoked certificates") < 2:  # the first: there was none
            self.assertLess(time.monotonic(), deadline)
            self.assertIn("200 OK", ask(("127.0.0.1", cairn.client_port), cert=third)[-1])
            time.sleep(0.05)
        self.assertIn("200 OK", ask(("127.0.0.1", cairn.client_port), cert=third)[-1])
        self.assertEqual(ask(("127.0.0.1", cairn.client_port), cert=other, is_refused=True)[-1], "")

    def test_files_are_read_again(self):
        cert, key, authority = self.dir / "s.crt", self.dir / "s.key", self.dir / "s.ca"
        self.server_pair.put(cert, key)
        shutil.copyfile(self.authority.cert, authority)
        flags = ["--cert-file", str(cert), "--key-file", str(key), "--client-cert-auth", "--trusted-ca-file", str(authority)]
        cairn = self.make("cairn", flags)
        shown = lambda: self.shown_serial(cairn)  # noqa: E731
        self.assertEqual(shown(), self.server_pair.serial)
        cert.write_text("broken")
        deadline = time.monotonic() + 60
        while "failed to create peer certificate" not in cairn.log_text():
            self.assertLess(time.monotonic(), deadline)
            self.assertEqual(shown(), self.server_pair.serial)
            time.sleep(0.05)
        fresh = self.authority.issue("fresh")
        fresh.put(cert, key)
        deadline = time.monotonic() + 60
        while shown() != fresh.serial:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        other = pki.Authority(self.dir, "other")
        newcomer = other.issue("newcomer")
        self.assertEqual(ask(("127.0.0.1", cairn.client_port), cert=newcomer)[0], "refused")
        both = authority.with_name("s.ca.new")
        both.write_bytes(self.authority.cert.read_bytes() + other.cert.read_bytes())
        both.rename(authority)
        self.wait_for(cairn, "200 OK", cert=newcomer)
        self.wait_for(cairn, "200 OK", cert=self.client)


class Starts(Tls):
    """What ends a start, and with which words."""

    def outcome(self, kind, arguments, number):
        server = TlsServer(kind, self.dir / f"{kind}.{number}", flags=arguments)
        self.servers.append(server)
        server.launch()
        code = server.wait()
        lines = server.log_lines()
        errors = [line["error"] for line in lines if "error" in line]
        return code, (errors[-1] if errors else lines[-1]["msg"]).replace(str(server.client_port), "PORT")

    def test_refusals_are_etcds(self):
        cert, key = str(self.server_pair.cert), str(self.server_pair.key)
        other = self.authority.issue("other")
        odd = self.dir / "odd"
        odd.write_text("odd")
        both = ["--cert-file", cert, "--key-file", key]
        cases = [
            [],
            ["--cert-file", cert],
            ["--key-file", key],
            ["--cert-file", "/nowhere", "--key-file", key],
            ["--cert-file", cert, "--key-file", "/nowhere"],
            ["--cert-file", cert, "--key-file", str(other.key)],
            ["--cert-file", str(odd), "--key-file", key],
            ["--cert-file", cert, "--key-file", str(odd)],
            ["--cert-file", key, "--key-file", key],
            ["--cert-file", cert, "--key-file", cert],
            [*both, "--client-cert-file", cert],
            [*both, "--client-cert-file", cert, "--client-key-file", str(other.key)],
            [*both, "--trusted-ca-file", "/nowhere"],
            [*both, "--tls-min-version", "TLS1.1"],
            [*both, "--tls-max-version", "x"],
            [*both, "--tls-min-version", "TLS1.3", "--tls-max-version", "TLS1.2"],
            [*both, "--tls-min-version", "TLS1.3", "--cipher-suites", "TLS_AES_128_GCM_SHA256"],
            [*both, "--cipher-suites", "x"],
            [*both, "--cipher-suites", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"],
            ["--auto-tls", "--self-signed-cert-validity", "0"],
            ["--listen-metrics-urls", "https://127.0.0.1:0", "--listen-client-urls", "http://127.0.0.1:0",
             "--advertise-client-urls", "http://127.0.0.1:1"],
            [*both, "--listen-peer-urls", f"https://127.0.0.1:{harness.free_port()}"],
            [*both, "--listen-peer-urls", f"https://127.0.0.1:{harness.free_port()}", "--peer-cert-file", cert, "--peer-key-file", str(other.key)],
            [*both, "--peer-cert-file", cert],
            [*both, "--peer-trusted-ca-file", "/nowhere"],
        ]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            outcomes = list(pool.map(lambda each: [self.outcome(kind, each[1], each[0]) for kind in BOTH],
                                     enumerate(cases)))
        differing = [f"{case}\n  etcd  {etcd}\n  cairn {cairn}" for case, (etcd, cairn) in zip(cases, outcomes, strict=True)
                     if etcd != cairn]
        self.assertEqual(differing, [], "\n".join(differing))

    def test_kubeadms_manifest(self):
        """Its command line, as kubeadm writes it for a control plane of one."""
        peer = self.authority.issue("peer")
        metrics = harness.free_port()
        server = TlsServer("cairn", self.dir / "kubeadm", name="node")
        self.servers.append(server)
        url, peer_url = f"https://{server.endpoint}", f"https://127.0.0.1:{server.peer_port}"
        arguments = [
            f"--advertise-client-urls={url}", f"--cert-file={self.server_pair.cert}", "--client-cert-auth=true",
            f"--data-dir={server.data_dir}", "--feature-gates=InitialCorruptCheck=true",
            f"--initial-advertise-peer-urls={peer_url}", f"--initial-cluster=node={peer_url}",
            f"--key-file={self.server_pair.key}", f"--listen-client-urls={url}",
            f"--listen-metrics-urls=http://127.0.0.1:{metrics}", f"--listen-peer-urls={peer_url}", "--name=node",
            f"--peer-cert-file={peer.cert}", "--peer-client-cert-auth=true", f"--peer-key-file={peer.key}",
            f"--peer-trusted-ca-file={self.authority.cert}", "--snapshot-count=10000",
            f"--trusted-ca-file={self.authority.cert}", "--watch-progress-notify-interval=5s"]
        server.arguments = lambda: [str(harness.program("cairn")), *arguments]
        server.start()
        self.assertEqual(server.log_text().count("starting with peer TLS"), 1)
        harness.require("etcdctl")
        self.ctl(server, "put", "a", "b", cert=self.client)
        self.assertEqual(self.ctl(server, "get", "a", cert=self.client).stdout, "a\nb\n")
        with socket.create_connection(("127.0.0.1", metrics), 60) as connection:
            connection.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            self.assertIn(b"200 OK", connection.recv(100))

    def test_auto_tls(self):
        servers = self.pair(["--auto-tls", "--self-signed-cert-validity", "2"])
        self.check_same(servers, "200 OK")
        for server in servers:
            made = server.data_dir / "fixtures/client"
            self.assertEqual(sorted(path.name for path in made.iterdir()), ["cert.pem", "key.pem"])
            self.assertEqual((made / "key.pem").stat().st_mode & 0o777, 0o600)
            server.before = (made / "cert.pem").read_bytes()
        # Each takes the directory of the other, with its certificate.
        texts = []
        for server in servers:
            done = subprocess.run(["openssl", "x509", "-in", server.data_dir / "fixtures/client/cert.pem", "-noout",
                                   "-subject", "-issuer", "-ext", "subjectAltName,keyUsage,extendedKeyUsage,basicConstraints"],
                                  capture_output=True, text=True, check=True)
            texts.append(sorted(line.strip() for line in done.stdout.splitlines()))
            server.stop()
        self.assertEqual(*texts)
        servers[1].start()
        self.assertEqual((servers[1].data_dir / "fixtures/client/cert.pem").read_bytes(), servers[1].before)


class Listeners(Tls):
    def test_unix_sockets(self):
        def flags(kind):
            plain, secure = self.dir / f"{kind}.sock", self.dir / f"{kind}s.sock"
            urls = f"unix://{plain},unixs://{secure},https://127.0.0.1:{harness.free_port()}"
            return self.flags("--listen-client-urls", urls, "--advertise-client-urls", "http://127.0.0.1:1")

        servers = self.pair(flags)
        answers = []
        for server in servers:
            plain, secure = self.dir / f"{server.kind}.sock", self.dir / f"{server.kind}s.sock"
            both = []
            for path, scheme in ((plain, "http"), (secure, "https")):
                done = subprocess.run(["curl", "-sk", "--max-time", "60", "--unix-socket", path, f"{scheme}://x/version"],
                                      capture_output=True, text=True, check=False)
                both.append((done.returncode, done.stdout))
            answers.append(both)
            server.stop()
            both.append([path.exists() for path in (plain, secure)])
        self.assertEqual(*answers)
        self.assertEqual([code for code, _ in answers[0][:2]], [0, 0])

    def test_one_address_with_and_without_tls(self):
        port = harness.free_port()
        self.make("cairn", self.flags("--listen-client-urls", f"http://127.0.0.1:{port},https://127.0.0.1:{port}",
                                      "--advertise-client-urls", "http://127.0.0.1:1"))
        address = ("127.0.0.1", port)
        self.assertIn("200 OK", ask(address)[-1])
        self.assertIn(b"200 OK", in_clear(address, b"GET /version HTTP/1.0\r\nHost: x\r\n\r\n"))

    def test_metrics_over_tls(self):
        """A certificate that names addresses or hosts is only good there; clients of the other listeners are free."""
        ports = {kind: harness.free_port() for kind in BOTH}
        servers = self.pair(lambda kind: self.with_client_auth("--listen-metrics-urls", f"https://127.0.0.1:{ports[kind]}"))
        elsewhere = self.authority.issue("elsewhere", names="IP:10.1.2.3")
        nameless = self.authority.issue("nameless", names="")
        outcomes = []
        for server in servers:
            address = ("127.0.0.1", ports[server.kind])
            request = b"GET /health HTTP/1.0\r\n\r\n"
            outcomes.append([ask(address, cert=cert, request=request)[-1] for cert in (nameless, self.client, elsewhere)]
                            + [ask(address, cert=nameless, request=b"GET /version HTTP/1.0\r\n\r\n")[-1]])
            self.assertIn("200 OK", ask(("127.0.0.1", server.client_port), cert=elsewhere)[-1])
        self.assertEqual(*outcomes)
        self.assertIn("200 OK", outcomes[1][0])
        etcd, cairn = (self.rejections(server, 1) for server in servers)
        self.assertEqual(etcd, cairn)
        self.assertEqual(cairn, ["x509: certificate is valid for 10.1.2.3, not 127.0.0.1"])

    def test_hosts_and_origins(self):
        flags = self.flags("--host-whitelist", "good", "--cors", "http://a:1,http://b:2")

        def with_clear(kind):
            return [*flags, "--listen-client-http-urls", f"http://127.0.0.1:{self.clear[kind]}"]

        self.clear = {kind: harness.free_port() for kind in BOTH}
        servers = self.pair(with_clear)
        secure = self.pair(flags, name="s")
        for host in (b"good", b"bad"):
            answers = [in_clear(("127.0.0.1", self.clear[server.kind]), b"GET /version HTTP/1.0\r\nHost: " + host + b"\r\n\r\n")
                       for server in servers]
            self.assertEqual(*(answer.split(b"\r\n", 1)[0] for answer in answers))
            self.check_same(secure, "200 OK", request=b"GET /version HTTP/1.0\r\nHost: " + host + b"\r\n\r\n")
        for origin in (b"http://a:1", b"http://c:3", b""):
            heads = []
            for server in servers:
                answer = in_clear(("127.0.0.1", self.clear[server.kind]),
                                  b"OPTIONS /x HTTP/1.0\r\nHost: good\r\nOrigin: " + origin + b"\r\n\r\n")
                heads.append(sorted(line for line in answer.split(b"\r\n") if line.startswith((b"Access-", b"HTTP/"))))
            self.assertEqual(*heads, origin)

    def test_socket_reuse_port(self):
        port = harness.free_port()
        flags = ["--socket-reuse-port", "--socket-reuse-address", "--listen-client-urls", f"http://127.0.0.1:{port}",
                 "--advertise-client-urls", "http://127.0.0.1:1"]
        with socket.socket() as holder:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind(("127.0.0.1", port))
            holder.listen()
            self.make("cairn", flags, scheme="http")


class Clients(Tls):
    def test_curl_over_both_protocols(self):
        servers = self.pair(self.with_client_auth())
        if shutil.which("curl") is None:
            raise unittest.SkipTest("not on this machine: curl")
        outcomes = []
        for server in servers:
            seen = []
            for more in (["--http2"], ["--http1.1"], ["--no-alpn"], ["--tls-max", "1.2"]):
                done = subprocess.run(["curl", "-s", "--max-time", "60", *more, "--cacert", self.authority.cert, "--cert",
                                       self.client.cert, "--key", self.client.key, "-w", " %{http_version} %{http_code}",
                                       f"https://{server.endpoint}/version"], capture_output=True, text=True, check=False)
                seen.append((more, done.returncode, done.stdout))
            outcomes.append(seen)
        self.assertEqual(*outcomes)

    @harness.needs("etcdctl")
    def test_etcdctl(self):
        for server in self.pair(self.with_client_auth()):
            self.ctl(server, "put", "a", "b", cert=self.client)
            self.assertEqual(self.ctl(server, "get", "a", cert=self.client).stdout, "a\nb\n")
            self.assertNotEqual(self.ctl(server, "--command-timeout=2s", "get", "a", check=False).returncode, 0)

    @harness.needs("etcdctl")
    def test_the_certificates_name_is_the_users(self):
        root, bob = self.authority.issue("root"), self.authority.issue("bob")
        nameless = self.authority.issue("nameless", common_name="")  # somebody, though nobody's permissions are theirs
        outcomes = []
        for server in self.pair(self.with_client_auth()):
            ctl = lambda *arguments, server=server, **options: self.ctl(server, *arguments, **options)  # noqa: E731
            for name in ("root", "alice"):
                ctl("user", "add", f"{name}:{name}", cert=root)
            ctl("user", "grant-role", "root", "root", cert=root, check=False)
            ctl("role", "add", "r", cert=root)
            ctl("role", "grant-permission", "r", "readwrite", "a", cert=root)
            ctl("user", "grant-role", "alice", "r", cert=root)
            ctl("auth", "enable", cert=root)
            seen = []
            for arguments, cert, user in (
                    (["put", "a", "1"], self.client, None), (["put", "z", "1"], self.client, None),
                    (["put", "z", "1"], root, None), (["get", "a"], bob, None), (["put", "z", "2"], self.client, "root:root"),
                    (["user", "list"], self.client, None), (["user", "list"], root, None),
                    (["get", "a"], nameless, None), (["lease", "list"], nameless, None),
                    (["user", "list"], nameless, None), (["get", "a"], nameless, "alice:alice"),
                    (["get", "a"], self.client, "alice:wrong"), (["auth", "disable"], root, None)):
                done = ctl(*arguments, cert=cert, user=user, check=False)
                error = done.stderr.strip().splitlines()[-1:] or [""]
                seen.append((arguments, cert.cert.stem, user, done.returncode, done.stdout, error[0][-80:]))
            outcomes.append(seen)
        self.assertEqual(*outcomes)


if __name__ == "__main__":
    harness.main()
