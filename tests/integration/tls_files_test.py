"""Keys, certificates and lists of every kind beside etcd 3.7: what starts, what is refused and with which words, who is let
in; and files that are replaced while clients come and go.
"""

import concurrent.futures
import shutil
import socket
import ssl
import threading
import time

import harness
import pki
import rpc
from tls_case import ANSWER_SECONDS_MAX, BOTH, Tls, TlsServer, ask, client_context


class Kinds(Tls):
    """What a start makes of a key and a certificate."""

    def verified(self, server, authority, most=None):
        """What a client that trusts `authority` agrees on with the server, and who that is."""
        context = ssl.create_default_context(cafile=authority.cert)
        if most is not None:
            context.maximum_version = most
        try:
            with socket.create_connection(("127.0.0.1", server.client_port), ANSWER_SECONDS_MAX) as raw:
                with context.wrap_socket(raw, server_hostname="localhost") as tls:
                    subject = dict(field[0] for field in tls.getpeercert()["subject"])
                    return tls.version(), subject["commonName"]
        except ssl.SSLError as error:
            return error.reason

    def outcome(self, kind, pair, number, authority):
        """How a start ended, or what its clients see."""
        server = TlsServer(kind, self.dir / f"{kind}.{number}", flags=["--cert-file", str(pair.cert), "--key-file", str(pair.key)])
        self.servers.append(server)
        server.launch()
        harness.until(lambda: server.process.poll() is not None or server._is_ready(), what=server.log_tail)
        if server.process.poll() is not None:
            errors = [line["error"] for line in server.log_lines() if "error" in line]
            return server.wait(), errors[-1]
        seen = [self.verified(server, authority, most) for most in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)]
        server.stop()
        return seen

    def compare(self, cases, authority):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            outcomes = list(pool.map(lambda each: [self.outcome(kind, each[1][1], each[0], authority) for kind in BOTH],
                                     enumerate(cases)))
        differing = [f"{name}\n  etcd  {etcd}\n  cairn {cairn}" for (name, _), (etcd, cairn) in zip(cases, outcomes, strict=True)
                     if etcd != cairn]
        self.assertEqual(differing, [], "\n".join(differing))
        return {name: cairn for (name, _), (_, cairn) in zip(cases, outcomes, strict=True)}

    def in_form(self, pair, name, *command):
        """The same pair with its key in another form."""
        out = pki.Pair(self.authority.dir, name, pair.serial)
        shutil.copyfile(pair.cert, out.cert)
        pki.run(*command, "-in", pair.key, "-out", out.key)
        return out

    def test_keys_that_serve(self):
        pairs = {kind: self.authority.issue(kind.replace(":", ""), kind=kind)
                 for kind in ("ec", "secp384r1", "secp521r1", "rsa", "rsa:4096", "ed25519")}
        cases = list(pairs.items())
        cases.append(("SEC 1", self.in_form(pairs["ec"], "sec1", "ec")))
        cases.append(("PKCS 1", self.in_form(pairs["rsa"], "pkcs1", "rsa", "-traditional")))
        outcomes = self.compare(cases, self.authority)
        for name, seen in outcomes.items():
            self.assertEqual([version for version, _ in seen], ["TLSv1.2", "TLSv1.3"], name)

    def test_keys_that_do_not(self):
        ec, rsa = self.authority.issue("a"), self.authority.issue("b", kind="rsa")
        other = self.authority.issue("c")

        def mixed(cert, key):
            pair = pki.Pair(self.authority.dir, "mixed", 0)
            pair.cert, pair.key = cert, key
            return pair

        directory, empty = self.dir / "directory", self.dir / "empty"
        directory.mkdir()
        empty.write_text("")
        cut = self.dir / "cut"
        cut.write_bytes(rsa.cert.read_bytes()[:400])
        both_in_one = self.dir / "both"
        both_in_one.write_bytes(ec.key.read_bytes() + ec.cert.read_bytes())
        inside_out = self.dir / "inside"
        text = ec.cert.read_text().splitlines()
        inside_out.write_text("\n".join([text[0], "AAAA", *text[1:]]) + "\n")
        cases = [
            ("PKCS 8, encrypted", self.in_form(ec, "encrypted8", "pkcs8", "-topk8", "-passout", "pass:x")),
            ("PKCS 1, encrypted", self.in_form(rsa, "encrypted1", "rsa", "-traditional", "-aes128", "-passout", "pass:x")),
            ("SEC 1, encrypted", self.in_form(ec, "encryptedsec1", "ec", "-aes128", "-passout", "pass:x")),
            ("of another certificate", mixed(ec.cert, other.key)),
            ("of another kind", mixed(ec.cert, rsa.key)),
            ("of another kind, too", mixed(rsa.cert, ec.key)),
            ("Ed448", self.authority.issue("ed448", kind="ed448")),
            ("an odd curve", self.authority.issue("secp256k1", kind="secp256k1")),
            ("no key", mixed(ec.cert, self.dir / "none")),
            ("no certificate", mixed(self.dir / "none", ec.key)),
            ("empty", mixed(empty, ec.key)),
            ("empty key", mixed(ec.cert, empty)),
            ("cut", mixed(cut, rsa.key)),
            ("key and certificate in one file", mixed(both_in_one, both_in_one)),
            ("no DER", mixed(inside_out, ec.key)),
            ("a directory", mixed(directory, ec.key)),
            ("a directory as key", mixed(ec.cert, directory)),
        ]
        outcomes = self.compare(cases, self.authority)
        self.assertEqual(outcomes["PKCS 8, encrypted"], (1, "tls: failed to parse private key"))

    def test_chains_of_the_server(self):
        """Of an RSA authority, one of P-384 below it, and a server with Ed25519 and all that leads to it."""
        root = pki.Authority(self.dir, "root", kind="rsa")
        middle = pki.Authority(self.dir, "middle", kind="secp384r1", parent=root)
        leaf = middle.issue("leaf", kind="ed25519")
        whole = pki.Pair(middle.dir, "whole", leaf.serial)
        whole.cert.write_bytes(leaf.cert.read_bytes() + middle.cert.read_bytes())
        shutil.copyfile(leaf.key, whole.key)
        turned = pki.Pair(middle.dir, "turned", leaf.serial)
        turned.cert.write_bytes(middle.cert.read_bytes() + leaf.cert.read_bytes())
        shutil.copyfile(leaf.key, turned.key)
        over = middle.expired("over")
        outcomes = self.compare([("whole", whole), ("the leaf alone", leaf), ("turned around", turned), ("expired", over)], root)
        self.assertEqual(outcomes["whole"], [("TLSv1.2", "leaf"), ("TLSv1.3", "leaf")])
        self.assertEqual(outcomes["the leaf alone"], ["CERTIFICATE_VERIFY_FAILED"] * 2)
        self.assertEqual(outcomes["turned around"][0], 1)


class Chains(Tls):
    """Whose certificates are taken."""

    def test_chains_of_clients(self):
        root = pki.Authority(self.dir, "root", kind="rsa")
        middle = pki.Authority(self.dir, "middle", parent=root)
        leaf = middle.issue("leaf")
        whole = pki.Pair(middle.dir, "whole", leaf.serial)
        whole.cert.write_bytes(leaf.cert.read_bytes() + middle.cert.read_bytes())
        shutil.copyfile(leaf.key, whole.key)
        over, early = root.expired("over"), root.expired("early", "20400101000000Z", "20410101000000Z")
        shown = {"whole": whole, "leaf": leaf, "over": over, "early": early, "ed25519": root.issue("ed", kind="ed25519"),
                 "rsa": root.issue("rsa", kind="rsa"), "p521": root.issue("p521", kind="secp521r1"),
                 "the authority": root, "the middle one": middle, "its own": self.client}
        files = {"root": [root], "middle": [middle], "both": [middle, root], "none": []}
        for name, authorities in files.items():
            trusted = self.dir / f"{name}.trusted"
            trusted.write_bytes(b"".join(one.cert.read_bytes() for one in authorities))
            servers = self.pair(self.flags("--client-cert-auth", "--trusted-ca-file", str(trusted)), name=name)
            outcomes = []
            for server in servers:
                address = ("127.0.0.1", server.client_port)
                # Which alert a client gets is each library's own choice.
                outcomes.append({who: found if "200 OK" in found[-1] else "refused" for who, pair in shown.items()
                                 for found in [ask(address, cert=pair)]})
                server.stop()
            self.assertEqual(*outcomes, name)
            if name == "root":
                self.assertIn("200 OK", outcomes[1]["whole"][-1])
                self.assertEqual([outcomes[1][who] for who in ("leaf", "over", "early", "its own")], ["refused"] * 4)


class Renewals(Tls):
    def test_no_request_fails_while_files_are_replaced(self):
        """Clients come and go while certificate, key, authorities and the list of revoked ones are replaced."""
        cert, key = self.dir / "s.crt", self.dir / "s.key"
        authorities, revoked = self.dir / "s.ca", self.dir / "s.crl"
        self.server_pair.put(cert, key)
        shutil.copyfile(self.authority.cert, authorities)
        self.authority.revoke([], revoked)
        cairn = self.launch("cairn", ["--cert-file", str(cert), "--key-file", str(key), "--client-cert-auth", "--trusted-ca-file",
                                      str(authorities), "--client-crl-file", str(revoked)], shown=self.client).wait_ready()
        stop, failures, done = threading.Event(), [], []

        def come_and_go(number):
            context = client_context(self.client, "h2")
            try:
                while not stop.is_set():
                    with rpc.Client(cairn.client_port, tls=context) as client:
                        for _ in range(3):
                            client.put(b"%d" % number, b"v")
                    done.append(number)
            except Exception as error:  # whatever it is, it is told
                failures.append(repr(error))

        def stay():
            try:
                with rpc.Client(cairn.client_port, tls=client_context(self.client, "h2")) as client:
                    while not stop.is_set():
                        client.put(b"stays", b"v")
                        time.sleep(0.01)
            except Exception as error:
                failures.append(repr(error))

        threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(3)]
        threads.append(threading.Thread(target=stay))
        for thread in threads:
            thread.start()
        try:
            for number in range(4):
                fresh = self.authority.issue(f"fresh{number}", kind=("ec", "rsa", "ed25519", "secp384r1")[number])
                fresh.put(cert, key)
                harness.until(lambda: self.shown_serial(cairn) == fresh.serial or failures, what="no new certificate")  # noqa: B023
                newcomer = pki.Authority(self.dir, f"newcomer{number}")
                new = authorities.with_name("s.ca.new")
                new.write_bytes(authorities.read_bytes() + newcomer.cert.read_bytes())
                new.rename(authorities)
                guest = newcomer.issue("guest")
                self.wait_for(cairn, "200 OK", cert=guest)
                self.authority.revoke([self.authority.issue(f"gone{i}") for i in range(number)], revoked)
            seen = len(done)
            harness.until(lambda: len(done) > seen + 10 or failures, what="nobody comes any more")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(failures, [])


if __name__ == "__main__":
    harness.main()
