"""Servers whose clients come over TLS, and a client by hand, for the tests about TLS."""

import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import time

import harness
import pki

BOTH = ("etcd37", "cairn")
REJECTED = "rejected connection on client endpoint"
ANSWER_SECONDS_MAX = 60


class TlsServer(harness.Server):
    """A member whose clients come over TLS, if `scheme` says so."""

    scheme = "https"
    shown = None  # the pair that our own clients show

    @property
    def url(self):
        return f"{self.scheme}://{self.endpoint}"

    def client(self, **options):
        return super().client(tls=client_context(self.shown, "h2"), **options)

    def http_connection(self):
        return http.client.HTTPSConnection("127.0.0.1", self.client_port, timeout=ANSWER_SECONDS_MAX,
                                           context=client_context(self.shown, "http/1.1"))

    def _is_ready(self):
        said = self.log_text()
        return "ready to serve client requests" in said and re.search("serving client traffic (in)?secure", said)


def client_context(cert=None, *alpn):
    """Of a client that does not look at the server's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if cert is not None:
        context.load_cert_chain(cert.cert, cert.key)
    return context


def ask(address, cert=None, alpn=(), most=None, least=None, suites=None, request=b"GET /version HTTP/1.0\r\n\r\n",
        is_refused=False):
    """What a client over TLS sees: how they agreed and the answer's first line, or why not. `is_refused`: it sends no
    request, so that nothing but the server's alert can come back."""
    context = client_context(cert, *alpn)
    context.minimum_version = least or ssl.TLSVersion.TLSv1_2
    if most is not None:
        context.maximum_version = most
    if suites is not None:
        context.set_ciphers(suites)
    try:
        with socket.create_connection(address, ANSWER_SECONDS_MAX) as raw, context.wrap_socket(raw) as tls:
            agreed = (tls.version(), tls.selected_alpn_protocol(), tls.cipher()[0])
            if tls.selected_alpn_protocol() == "h2":
                request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
            if not is_refused:
                tls.sendall(request)
            answer = tls.recv(4096)
            if tls.selected_alpn_protocol() == "h2":
                return (*agreed, "SETTINGS" if answer[3:4] == b"\4" else answer)
            return (*agreed, answer.split(b"\r\n", 1)[0].decode())
    except ssl.SSLError as error:
        return ("refused", (error.reason or str(error)).upper().replace(" ", "_"))
    except (ConnectionResetError, BrokenPipeError):
        return ("closed",)


def in_clear(address, sent):
    with socket.create_connection(address, ANSWER_SECONDS_MAX) as connection:
        connection.sendall(sent)
        try:
            return connection.recv(4096)
        except ConnectionResetError:
            return b""


class Tls(harness.Case):
    def setUp(self):
        super().setUp()
        harness.require("etcd37")
        self.authority = pki.Authority(self.dir)
        self.server_pair = self.authority.issue("server", common_name="")
        self.client = self.authority.issue("alice")

    def flags(self, *more):
        return ["--cert-file", str(self.server_pair.cert), "--key-file", str(self.server_pair.key), *more]

    def with_client_auth(self, *more):
        return self.flags("--client-cert-auth", "--trusted-ca-file", str(self.authority.cert), *more)

    def launch(self, kind, flags, scheme="https", name="", shown=None):
        server = TlsServer(kind, self.dir / f"{kind}{name}", flags=flags)
        server.scheme, server.shown = scheme, shown
        self.servers.append(server)
        return server.launch()

    def make(self, kind, flags, **options):
        return self.launch(kind, flags, **options).wait_ready()

    def pair(self, flags, **options):
        """Both, started; `flags` may be a function of the kind."""
        servers = [self.launch(kind, flags(kind) if callable(flags) else flags, **options) for kind in BOTH]
        return [server.wait_ready() for server in servers]

    def ask_both(self, servers, **options):
        etcd, cairn = (ask(("127.0.0.1", server.client_port), **options) for server in servers)
        return etcd, cairn

    def check_same(self, servers, expected=None, **options):
        is_refused = expected is not None and expected not in ("200 OK", "SETTINGS")
        etcd, cairn = self.ask_both(servers, is_refused=is_refused, **options)
        self.assertEqual(etcd, cairn, options)
        if expected is not None:
            self.assertIn(expected, cairn[-1])

    def rejections(self, server, count):
        """The reasons of connections that were turned away, sorted, without what differs by nature. etcd tells of them in
        any order, as each handshake has a goroutine of its own."""
        server.wait_logged(REJECTED, times=count)
        out = []
        for line in server.log_text().splitlines():
            if REJECTED in line:
                fields = json.loads(line)
                self.assertEqual(fields["remote-addr"].split(":")[0], "127.0.0.1")
                self.assertIn("server-name", fields)
                out.append(re.sub(r"current time \S+ is after \S+", "current time is after", fields["error"]))
        return sorted(out)

    def ctl(self, server, *arguments, cert=None, check=True, user=None):
        flags = ["--endpoints", f"https://{server.endpoint}", "--cacert", str(self.authority.cert)]
        if cert is not None:
            flags += ["--cert", str(cert.cert), "--key", str(cert.key)]
        if user is not None:
            flags += ["--user", user]
        done = subprocess.run([str(harness.program("etcdctl")), *flags, *arguments], capture_output=True, text=True,
                              timeout=60, check=False, stdin=subprocess.DEVNULL,
                              env={"PATH": os.environ["PATH"], "ETCDCTL_API": "3"})
        if check:
            self.assertEqual(done.returncode, 0, f"{server.kind}: {arguments}\n{done.stdout}\n{done.stderr}")
        return done

    def wait_for(self, server, end, **options):
        """Until a client sees an answer that ends so: files are looked at once a second."""
        deadline = time.monotonic() + 60
        while (found := ask(("127.0.0.1", server.client_port), **options))[-1].find(end) < 0 or (end == "" and found[-1]):
            self.assertLess(time.monotonic(), deadline, f"{server.kind}: {found}")
            time.sleep(0.05)

    def shown_serial(self, server):
        context = client_context(self.client)
        with socket.create_connection(("127.0.0.1", server.client_port), ANSWER_SECONDS_MAX) as raw:
            with context.wrap_socket(raw) as tls:
                der = tls.getpeercert(binary_form=True)
        path = self.dir / "shown.der"
        path.write_bytes(der)
        done = subprocess.run(["openssl", "x509", "-inform", "DER", "-in", str(path), "-noout", "-serial"], check=True,
                              capture_output=True, text=True)
        return int(done.stdout.split("=")[1], 16)
