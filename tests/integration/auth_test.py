"""Who may do what: what etcd's advisories say must not be possible, beside etcd; tokens; directories with auth enabled.

What a test asks of Cairn it asks of etcd 3.7, too: an expectation that etcd does not meet would be an invention.
"""

import base64
import hashlib
import hmac
import json
import shutil
import subprocess
import tempfile
import threading
import time

import bolt
import harness
import rpc

READ, WRITE, READWRITE = 0, 1, 2
DENIED = (7, "etcdserver: permission denied")
NOBODY = (3, "etcdserver: user name is empty")
OLD = (3, "etcdserver: revision of auth store is old")
BAD_TOKEN = (16, "etcdserver: invalid auth token")
FAILED = (3, "etcdserver: authentication failed, invalid user ID or password")
NO_MGMT = (3, "etcdserver: invalid auth management")


def prev_kv_put(key, lease=0, prev_kv=True):
    return rpc.enc((1, key), (2, b"x"), (3, lease), (4, prev_kv))


def txn_of(success=(), failure=(), compares=()):
    return rpc.enc(*((1, one) for one in compares), *((2, one) for one in success), *((3, one) for one in failure))


def op(field, message):
    return rpc.enc((field, message))


class AuthCase(harness.Case):
    kinds = ("etcd37", "cairn")

    def with_auth(self, kind, flags=()):
        """A server with users root, alice (a/, read and write; b, read), and carol without anything."""
        directory = tempfile.mkdtemp(prefix=kind, dir=self.dir)
        server = self.server(kind, f"{directory}/data", flags=["--bcrypt-cost", "4", *flags]).start()
        self.fill(server.client())
        return server

    @staticmethod
    def fill(client):
        client.user_add("root", "rootpw")
        client.role_add("root")
        client.user_grant("root", "root")
        client.role_add("r")
        client.role_grant("r", READWRITE, b"a/", b"a0")
        client.role_grant("r", READ, b"b")
        for user in ("alice", "carol"):
            client.user_add(user, user + "pw")
        client.user_grant("alice", "r")
        client.put(b"a/1", b"own")
        client.put(b"b", b"seen")
        client.put(b"secret", b"hidden")
        client.auth_enable()

    def each(self, flags=()):
        for kind in self.kinds:
            if harness.missing(kind):
                continue
            with self.subTest(kind):
                server = self.with_auth(kind, flags)
                yield server
                server.kill()

    def user(self, server, name):
        return server.client().login(name, name + "pw")

    def refused(self, expected, call, *arguments, **how):
        with self.assertRaises(rpc.GrpcError) as caught:
            call(*arguments, **how)
        self.assertEqual((caught.exception.code, caught.exception.message), expected)

    def watched(self, client, key, end):
        """Why a watch was refused; "": it was not."""
        stream = client.connection.start("/etcdserverpb.Watch/Watch", rpc.enc((1, [rpc.enc((1, key), (2, end))])),
                                         end=False, metadata=client.metadata)
        while not stream.messages:
            client.connection.read_frame()
        answer = rpc.dec(stream.messages[0])
        client.connection.reset(stream)
        self.assertTrue(rpc.first(answer, 3))
        if not rpc.first(answer, 4):
            return ""
        self.assertEqual(rpc.signed(rpc.first(answer, 2)), -1)
        return rpc.first(answer, 6, b"").decode()


class Advisories(AuthCase):
    """etcd's security advisories about who may do what, each under its number."""

    def test_ghsa_rfx7_8w68_q57q_nested_transactions(self):
        """CVE-2026-33343: what stood in a nested transaction was not looked at."""
        for server in self.each():
            alice = self.user(server, "alice")
            read = op(1, rpc.enc((1, b"secret")))
            write = op(2, rpc.enc((1, b"secret"), (2, b"x")))
            delete = op(3, rpc.enc((1, b"secret")))
            for inner in (txn_of([read]), txn_of([], [read]), txn_of([write]), txn_of([], [write]), txn_of([delete]),
                          txn_of([op(4, txn_of([], [delete]))]), txn_of(compares=[rpc.enc((3, b"secret"))])):
                for outer in (txn_of([op(4, inner)]), txn_of([], [op(4, inner)]), txn_of([op(4, txn_of([op(4, inner)]))])):
                    self.refused(DENIED, alice.call, "KV", "Txn", outer)
            alice.call("KV", "Txn", txn_of([op(4, txn_of([op(2, rpc.enc((1, b"a/2"), (2, b"x")))]))]))
            root = self.user(server, "root")
            self.assertEqual(root.get(b"secret").value, b"hidden")

    def test_ghsa_x35m_3gp4_4fh5_prev_kv_and_leases_in_transactions(self):
        """CVE-2026-44283: a put in a transaction showed the value before it, and took any lease."""
        for server in self.each():
            root, alice = self.user(server, "root"), self.user(server, "alice")
            root.role_grant("r", WRITE, b"w")
            root.put(b"w", b"not to be read")
            root.lease_grant(7, 1000)
            root.put(b"secret", b"hidden", lease=7)
            alice.login("alice", "alicepw")
            alice.call("KV", "Put", prev_kv_put(b"w", prev_kv=False))
            self.refused(DENIED, alice.call, "KV", "Put", prev_kv_put(b"w"))
            self.refused(DENIED, alice.call, "KV", "Put", prev_kv_put(b"a/1", lease=7, prev_kv=False))
            for message in (prev_kv_put(b"w"), prev_kv_put(b"a/1", lease=7, prev_kv=False)):
                put = op(2, message)
                for txn in (txn_of([put]), txn_of([], [put]), txn_of([op(4, txn_of([put]))])):
                    self.refused(DENIED, alice.call, "KV", "Txn", txn)
            self.refused(DENIED, alice.call, "KV", "Txn", txn_of([op(3, rpc.enc((1, b"w"), (3, True)))]))
            self.refused(DENIED, alice.call, "KV", "DeleteRange", rpc.enc((1, b"w"), (3, True)))

    def test_ghsa_xg4h_6gfc_h4m8_watches_from_a_key_on(self):
        """A watch with an open end was checked as one of its first key."""
        for server in self.each():
            alice = self.user(server, "alice")
            self.assertEqual(self.watched(alice, b"b", None), "")
            self.assertEqual(self.watched(alice, b"a/", b"a0"), "")
            for key, end in ((b"b", b"\0"), (b"a/", b"\0"), (b"a/", b"a1"), (b"", None), (b"", b"\0"), (b"b", b"c")):
                self.assertEqual(self.watched(alice, key, end),
                                 "rpc error: code = PermissionDenied desc = etcdserver: permission denied", (key, end))

    def test_ghsa_q8m4_xhhv_38mg_calls_without_a_name(self):
        """CVE-2026-33413: MemberList, Alarm, the Lease calls and Compact asked for nobody's name."""
        for server in self.each():
            nobody, alice = server.client(), self.user(server, "alice")
            for service, method, message in (
                    ("Cluster", "MemberList", b""), ("Maintenance", "Alarm", b""), ("Maintenance", "Status", b""),
                    ("Maintenance", "Alarm", rpc.enc((1, 1), (2, 1), (3, 1))), ("Maintenance", "Hash", b""),
                    ("Maintenance", "HashKV", b""), ("Maintenance", "Snapshot", b""),
                    ("Lease", "LeaseGrant", rpc.enc((1, 100), (2, 9))), ("Lease", "LeaseRevoke", rpc.enc((1, 9))),
                    ("Lease", "LeaseKeepAlive", rpc.enc((1, 9))), ("Lease", "LeaseTimeToLive", rpc.enc((1, 9))),
                    ("Lease", "LeaseTimeToLive", rpc.enc((1, 9), (2, True))), ("Lease", "LeaseLeases", b""),
                    ("KV", "Compact", rpc.enc((1, 2))), ("KV", "Range", rpc.enc((1, b"a/1"))),
                    ("KV", "Put", rpc.enc((1, b"a/1"))), ("KV", "DeleteRange", rpc.enc((1, b"a/1"))),
                    ("Auth", "UserList", b""), ("Auth", "UserAdd", rpc.enc((1, "x"), (2, "y"))),
                    ("Auth", "AuthDisable", b""), ("Auth", "RoleGet", rpc.enc((1, "r")))):
                with self.subTest(f"{service}.{method}"):
                    self.refused(NOBODY, nobody.call, service, method, message)
            for service, method, message in (
                    ("Maintenance", "Alarm", rpc.enc((1, 1), (2, 1), (3, 1))), ("Maintenance", "Hash", b""),
                    ("Maintenance", "HashKV", b""), ("Maintenance", "Snapshot", b""), ("KV", "Compact", rpc.enc((1, 2))),
                    ("Auth", "UserList", b""), ("Auth", "RoleList", b""), ("Auth", "AuthDisable", b""),
                    ("Auth", "UserGet", rpc.enc((1, "carol"))), ("Auth", "RoleGet", rpc.enc((1, "other")))):
                with self.subTest(f"{service}.{method} by alice"):
                    self.refused(DENIED, alice.call, service, method, message)
            alice.call("Cluster", "MemberList")
            alice.call("Maintenance", "Status")
            alice.call("Maintenance", "Alarm")
            self.assertEqual(alice.call("Auth", "UserGet", rpc.enc((1, "alice"))).get(2), [b"r"])
            self.assertTrue(alice.call("Auth", "RoleGet", rpc.enc((1, "r"))).get(2))
            nobody.call("Auth", "AuthStatus")

    def test_cve_2023_32082_keys_of_a_lease(self):
        """GHSA-3p4g-rcw5-8298: LeaseTimeToLive named keys to those who may not read them."""
        for server in self.each():
            root, alice = self.user(server, "root"), self.user(server, "alice")
            root.lease_grant(7, 1000)
            root.put(b"a/7", b"x", lease=7)
            self.assertEqual(alice.lease_time_to_live(7)[2], [b"a/7"])
            self.assertEqual(alice.leases(), [7])
            root.put(b"secret", b"hidden", lease=7)
            self.refused(DENIED, alice.lease_time_to_live, 7)
            self.assertEqual(sorted(root.lease_time_to_live(7)[2]), [b"a/7", b"secret"])  # etcd has no order
            alice.call("Lease", "LeaseTimeToLive", rpc.enc((1, 7)))  # without the keys
            # etcd's later fixes: of the list, and of what ends or keeps the keys of others.
            self.refused(DENIED, alice.leases)
            self.refused(DENIED, alice.lease_revoke, 7)
            self.refused(DENIED, alice.lease_keep_alive, 7)
            self.refused(DENIED, alice.put, b"a/7", b"x", lease=7)
            self.assertEqual(root.lease_keep_alive(7), 1000)
            self.assertEqual(root.leases(), [7])
            root.delete(b"secret")
            self.assertEqual(alice.lease_keep_alive(7), 1000)
            alice.lease_revoke(7)

    def test_cve_2021_28235_passwords_in_the_log(self):
        """GHSA-gmph-wf7j-9gcm: neither the log that is printed nor the one that is kept shows a password."""
        server = self.with_auth("cairn", ["--log-level", "debug"])
        root = self.user(server, "root")
        root.user_add("dave", "unmistakable-password")
        root.call("Auth", "UserChangePassword", rpc.enc((1, "dave"), (2, "unmistakable-other")))
        server.client().authenticate("dave", "unmistakable-other")
        with self.assertRaises(rpc.GrpcError):
            server.client().authenticate("dave", "unmistakable-wrong")
        server.stop()
        self.assertNotIn("unmistakable", server.log_text())
        for path in server.data_dir.rglob("*"):
            if path.is_file():
                self.assertNotIn(b"unmistakable", path.read_bytes(), path)

    def test_cve_2018_16886_the_gateways_certificate(self):
        """GHSA-h6xx-pmxh-3wgp is about certificates: auth/tokens_test.cc. Without one, the gateway's mark says nothing."""
        for server in self.each():
            nobody = server.client()
            nobody.metadata = (("grpcgateway-accept", "application/json"),)
            self.refused(NOBODY, nobody.range, b"a/1")


class Fixes(AuthCase):
    """What etcd's changelogs say was mended, each under the number of the change."""

    def test_10907_a_role_without_a_name(self):
        """A role without a name ended the server."""
        for server in self.each():
            root = self.user(server, "root")
            self.refused((3, "etcdserver: role name is empty"), root.role_add, "")
            self.refused((3, "etcdserver: user name is empty"), root.user_add, "", "pw")

    def test_a_password_that_is_too_long_is_refused_before_it_is_known_who_calls(self):
        for server in self.each():
            for client in (server.client(), self.user(server, "carol"), self.user(server, "root")):
                for method in ("UserAdd", "UserChangePassword"):
                    self.refused((2, "bcrypt: password length exceeds 72 bytes"), client.call, "Auth", method,
                                 rpc.enc((1, "alice"), (2, "p" * 73)))

    def test_13086_a_grant_of_nothing(self):
        """A grant without a permission ended the server."""
        for server in self.each():
            root = self.user(server, "root")
            self.refused((3, "etcdserver: permission not given"), root.call, "Auth", "RoleGrantPermission", rpc.enc((1, "r")))

    def test_15619_permissions_of_no_keys(self):
        """A permission without a key was one of all keys."""
        for server in self.each():
            root, carol = self.user(server, "root"), self.user(server, "carol")
            root.role_add("none")
            for key, end in ((b"", b""), (b"", b"\0"), (b"b", b"a"), (b"b", b"b")):
                self.refused(NO_MGMT, root.role_grant, "none", READWRITE, key, end)
            root.user_grant("carol", "none")
            self.refused(DENIED, carol.range, b"b")
            self.refused(DENIED, carol.range, b"\0", b"\0")
            root.role_grant("none", READ, b"b", b"\0")
            self.assertEqual(carol.get(b"secret").value, b"hidden")

    def test_13205_13946_14409_after_a_restart(self):
        """A start with auth enabled ended the server, or knew no permissions, or ended no leases."""
        for kind in self.kinds:
            if harness.missing(kind):
                continue
            with self.subTest(kind):
                ports, data = (harness.free_port(), harness.free_port()), self.dir / kind
                server = self.server(kind, data, ports=ports, flags=["--bcrypt-cost", "4"]).start()
                self.fill(server.client())
                root = self.user(server, "root")
                root.lease_grant(7, 2)
                root.put(b"a/leased", b"x", lease=7)
                server.kill()
                server = self.server(kind, data, ports=ports, flags=["--bcrypt-cost", "4"]).start()
                alice = self.user(server, "alice")
                self.assertEqual(alice.get(b"b").value, b"seen")
                self.refused(DENIED, alice.range, b"secret")
                ends = time.monotonic() + 60
                while alice.range(b"a/leased").get(2) and time.monotonic() < ends:
                    time.sleep(0.1)
                self.assertEqual(alice.range(b"a/leased").get(2, []), [])
                server.kill()

    def test_14547_a_watch_with_a_token_that_is_over(self):
        """A watch that is made on an old stream, with the token of then."""
        for server in self.each():
            root, alice = self.user(server, "root"), self.user(server, "alice")
            self.assertEqual(self.watched(alice, b"b", None), "")
            root.call("Auth", "UserChangePassword", rpc.enc((1, "alice"), (2, "new")))
            self.assertEqual(self.watched(alice, b"b", None),
                             "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token")
            alice.metadata = ()
            self.assertEqual(self.watched(alice, b"b", None),
                             "rpc error: code = InvalidArgument desc = etcdserver: user name is empty")

    def test_15676_claims_that_are_missing(self):
        """A JWT without a name or a revision ended the server."""
        secret = b"a secret that both know"
        key = self.dir / "hs.key"
        key.write_bytes(secret)
        now = int(time.time())
        none = object()
        for server in self.each(["--auth-token", f"jwt,priv-key={key},sign-method=HS256,ttl=10m"]):
            root = self.user(server, "root")
            # The revision of now, which root's token has.
            middle = root.metadata[0][1].split(".")[1]
            revision = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))["revision"]
            good = {"username": "alice", "revision": revision, "exp": now + 600}
            for changed, reads, writes in (
                    ({}, None, None), ({"exp": none}, None, None), ({"exp": 0}, None, None),
                    ({"username": none}, BAD_TOKEN, BAD_TOKEN), ({"revision": none}, BAD_TOKEN, BAD_TOKEN),
                    ({"username": 1}, BAD_TOKEN, BAD_TOKEN), ({"revision": "1"}, BAD_TOKEN, BAD_TOKEN),
                    ({"username": None}, BAD_TOKEN, BAD_TOKEN), ({"revision": None}, BAD_TOKEN, BAD_TOKEN),
                    ({"exp": now - 5}, BAD_TOKEN, BAD_TOKEN), ({"exp": "soon"}, BAD_TOKEN, BAD_TOKEN),
                    ({"exp": None}, BAD_TOKEN, BAD_TOKEN), ({"nbf": now + 600}, BAD_TOKEN, BAD_TOKEN),
                    ({"nbf": now - 600, "iat": now + 600}, None, None), ({"username": "nobody"}, DENIED, DENIED),
                    ({"username": ""}, DENIED, DENIED), ({"revision": 0}, NOBODY, NOBODY),
                    ({"revision": revision - 1}, OLD, OLD), ({"revision": revision + 0.9}, None, None),
                    # A revision that has not been: a read finds that it is not the one of now.
                    ({"revision": revision + 1}, OLD, None), ({"revision": 2 ** 60}, OLD, None)):
                claims = {name: value for name, value in (good | changed).items() if value is not none}
                with self.subTest(claims=changed):
                    alice = server.client()
                    alice.metadata = (("token", self.signed(claims, secret)),)
                    for expected, call in ((reads, lambda: alice.range(b"b")), (writes, lambda: alice.put(b"a/1", b"x")),
                                           (reads, lambda: alice.call("KV", "Txn", txn_of([op(1, rpc.enc((1, b"b")))])))):
                        self.refused(expected, call) if expected else call()
            for header in ({"alg": "none", "typ": "JWT"}, {"alg": "HS512"}, {"typ": "JWT"}, {"alg": None}):
                alice.metadata = (("token", self.signed(good, secret, header)),)
                self.refused(BAD_TOKEN, alice.range, b"b")

    @staticmethod
    def signed(claims, secret, header=None):
        def part(data):
            return base64.urlsafe_b64encode(data).rstrip(b"=")

        header = {"alg": "HS256", "typ": "JWT"} if header is None else header
        text = part(json.dumps(header).encode()) + b"." + part(json.dumps(claims).encode())
        return (text + b"." + part(hmac.digest(secret, text, "sha256"))).decode()

    def test_21993_tokens_in_the_printed_log(self):
        """A JWT that could not be read was printed."""
        key = self.dir / "hs.key"
        key.write_bytes(b"a secret")
        for flag in ("simple", f"jwt,priv-key={key},sign-method=HS256"):
            server = self.with_auth("cairn", ["--auth-token", flag, "--log-level", "debug"])
            client = self.user(server, "alice")
            good = client.metadata[0][1]
            client.get(b"b")
            client.metadata = (("token", good + "forged"),)
            self.refused(BAD_TOKEN, client.range, b"b")
            server.stop()
            self.assertIn(hashlib.sha256(f"{good}forged".encode()).hexdigest()[:12], server.log_text())
            for part in good.split(".")[::2]:
                self.assertNotIn(part if len(part) > 8 else good, server.log_text())

    def test_ghsa_vjg6_93fv_qv64_who_tried_is_in_the_log(self):
        """Attempts with passwords of users that have none were not printed."""
        for server in self.each():
            self.user(server, "root").user_add("nopw", "", no_password=True)
            for user in ("alice", "nopw", "someone"):
                with self.assertRaises(rpc.GrpcError):
                    server.client().authenticate(user, "wrong")
            server.stop()
            for user in ("alice", "nopw", "someone"):
                self.assertTrue([line for line in server.log_text().splitlines()
                                 if "invalid authentication was requested" in line and user in line], user)


class Log(AuthCase):
    """What is done to users and roles, and tried, is in the log word for word as etcd has it."""

    LINES = ("added a user", "deleted a user", "cannot delete 'root' user", "changed a password of a user",
             "granted a role to a user", "ignored grant role request to a user", "revoked a role from a user",
             "'root' user cannot revoke 'root' role", "created a role", "deleted a role", "cannot delete 'root' role",
             "granted/updated a permission to a user", "revoked a permission on range", "enabled authentication",
             "authentication is already enabled; ignored auth enable request", "disabled authentication",
             "invalid password", "invalid authentication was requested", "invalid auth token")
    # What a line has besides its message and its fields, and what depends on the build or the machine.
    NOT_FIELDS = ("ts", "caller", "stacktrace")

    @harness.needs("etcd37")
    def test_lines(self):
        told = {}
        for server in self.each():
            root = self.user(server, "root")
            call = lambda method, *fields, by=root: by.call("Auth", method, rpc.enc(*fields))  # noqa: E731
            refused = lambda *arguments, **how: self.assertRaises(rpc.GrpcError, call, *arguments, **how)  # noqa: E731
            call("UserAdd", (1, "dave"), (2, "davepw"))
            call("RoleAdd", (1, "some"))
            for kind in (READ, WRITE, READWRITE, 9):
                call("RoleGrantPermission", (1, "some"), (2, rpc.enc((1, kind), (2, b"k\0\"\xc3\xa9"), (3, b"l"))))
            for role in ("some", "r", "some"):
                call("UserGrantRole", (1, "dave"), (2, role))
            call("UserChangePassword", (1, "dave"), (2, "other"))
            call("UserRevokeRole", (1, "dave"), (2, "r"))
            call("RoleRevokePermission", (1, "some"), (2, b"k\0\"\xc3\xa9"), (3, b"l"))
            call("UserDelete", (1, "dave"))
            call("RoleDelete", (1, "some"))
            refused("UserDelete", (1, "root"))
            refused("RoleDelete", (1, "root"))
            refused("UserRevokeRole", (1, "root"), (2, "root"))
            for name, password in (("alice", "wrong"), ("nobody", "x"), ("", "")):
                refused("Authenticate", (1, name), (2, password), by=server.client())
            stranger = server.client()
            stranger.metadata = (("authorization", "Bearer x.1"),)
            refused("AuthStatus", by=stranger)
            call("AuthEnable")
            call("AuthDisable")
            server.stop()
            told[server.kind] = [{name: value for name, value in line.items() if name not in self.NOT_FIELDS}
                                 for line in server.log_lines() if line["msg"] in self.LINES]
        self.assertEqual({line["msg"] for line in told["etcd37"]}, set(self.LINES))
        self.assertEqual(told["etcd37"], told["cairn"])


class Tokens(AuthCase):
    def test_what_is_no_token_is_refused(self):
        for server in self.each():
            good = self.user(server, "alice").metadata[0][1]
            letters, index = good.split(".")
            self.assertEqual(len(letters), 16)
            client = server.client()
            client.metadata = (("authorization", f"Bearer {good}"),)
            self.assertEqual(client.get(b"b").value, b"seen")
            for forged in ("", "x", ".", letters, f"{letters[:-1]}.{index}", f"{letters}.{int(index) - 1}",
                           f"{letters}.{index}.", f"{letters[:-1]}{'a' if letters[-1] != 'a' else 'b'}.{index}"):
                with self.subTest(forged):
                    client.metadata = (("token", forged),)
                    self.refused(BAD_TOKEN, client.range, b"b")
                    self.refused(BAD_TOKEN, client.put, b"a/1", b"x")
                    self.refused(BAD_TOKEN, client.call, "Auth", "AuthStatus")
                    self.refused(BAD_TOKEN, client.call, "Maintenance", "Status")
                    self.refused(BAD_TOKEN, client.lease_keep_alive, 5)

    def test_a_token_ends_with_the_password(self):
        for server in self.each():
            root, alice, carol = (self.user(server, name) for name in ("root", "alice", "carol"))
            root.call("Auth", "UserChangePassword", rpc.enc((1, "alice"), (2, "new")))
            self.refused(BAD_TOKEN, alice.range, b"b")
            self.refused(FAILED, alice.authenticate, "alice", "alicepw")
            alice.login("alice", "new")
            self.assertEqual(alice.get(b"b").value, b"seen")
            root.call("Auth", "UserDelete", rpc.enc((1, "carol")))
            self.refused(BAD_TOKEN, carol.range, b"b")
            root.call("Auth", "AuthDisable")
            server.client().call("Auth", "AuthEnable")
            self.refused(BAD_TOKEN, alice.range, b"b")

    def test_a_token_ends_when_it_is_not_used(self):
        for server in self.each(["--auth-token-ttl", "3"]):
            alice = self.user(server, "alice")
            ends = time.monotonic() + 60
            while time.monotonic() < ends:
                time.sleep(4.5)
                try:
                    alice.range(b"b")
                except rpc.GrpcError as error:
                    self.assertEqual((error.code, error.message), BAD_TOKEN)
                    break
            else:
                self.fail("it does not end")

    def test_wrong_passwords(self):
        for server in self.each():
            client = server.client()
            for user, password in (("alice", "x"), ("alice", ""), ("nobody", "x"), ("", ""), ("root", "alicepw")):
                self.refused(FAILED, client.authenticate, user, password)
            root = self.user(server, "root")
            root.user_add("nopw", "", no_password=True)
            self.refused((2, "auth: authentication failed, password was given for no password user"),
                         client.authenticate, "nopw", "x")

    def test_guard_rails(self):
        for server in self.each():
            root = self.user(server, "root")
            self.refused(NO_MGMT, root.call, "Auth", "UserDelete", rpc.enc((1, "root")))
            self.refused(NO_MGMT, root.call, "Auth", "RoleDelete", rpc.enc((1, "root")))
            self.refused(NO_MGMT, root.call, "Auth", "UserRevokeRole", rpc.enc((1, "root"), (2, "root")))

    def test_what_was_taken_away_is_gone(self):
        for server in self.each():
            root, alice = self.user(server, "root"), self.user(server, "alice")
            alice.put(b"a/1", b"1")
            root.call("Auth", "RoleRevokePermission", rpc.enc((1, "r"), (2, b"a/"), (3, b"a0")))
            self.refused(DENIED, alice.put, b"a/1", b"2")
            self.refused(DENIED, alice.range, b"a/1")
            self.assertEqual(alice.get(b"b").value, b"seen")
            root.call("Auth", "UserRevokeRole", rpc.enc((1, "alice"), (2, "r")))
            self.refused(DENIED, alice.range, b"b")
            root.user_grant("alice", "r")
            self.assertEqual(alice.get(b"b").value, b"seen")

    def test_a_watch_goes_on_without_the_permission(self):
        """As in etcd: who may watch is asked when the watch is made."""
        for server in self.each():
            root, alice = self.user(server, "root"), self.user(server, "alice")
            stream = alice.connection.start("/etcdserverpb.Watch/Watch", rpc.enc((1, [rpc.enc((1, b"b"))])), end=False,
                                            metadata=alice.metadata)
            while not stream.messages:
                alice.connection.read_frame()
            root.call("Auth", "UserRevokeRole", rpc.enc((1, "alice"), (2, "r")))
            self.refused(DENIED, self.user(server, "alice").range, b"b")
            root.put(b"b", b"afterwards")
            while len(stream.messages) < 2:
                alice.connection.read_frame()
            self.assertIn(b"afterwards", bytes(stream.messages[1]))

    def test_many_leases_end_while_auth_is_on(self):
        for server in self.each():
            root = self.user(server, "root")
            for number in range(1, 6):
                root.lease_grant(number, 2)
                root.put(b"leased/%d" % number, b"x", lease=number)
            ends = time.monotonic() + 60
            while root.range(b"leased/", b"leased0").get(2) and time.monotonic() < ends:
                time.sleep(0.1)
            self.assertEqual(root.leases(), [])

    def test_no_tokens_at_all(self):
        for server in self.each(["--auth-token", ""]):
            self.refused(FAILED, server.client().authenticate, "alice", "alicepw")
            self.refused(NOBODY, server.client().range, b"b")


class Jwt(AuthCase):
    METHODS = {"RS256": ("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
               "PS512": ("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
               "ES256": ("ecparam", "-genkey", "-noout", "-name", "prime256v1"),
               "ES512": ("ecparam", "-genkey", "-noout", "-name", "secp521r1"),
               "EdDSA": ("genpkey", "-algorithm", "ed25519"), "HS384": None}

    def setUp(self):
        super().setUp()
        if shutil.which("openssl") is None:
            self.skipTest("not on this machine: openssl")

    def flag(self, method, how):
        private, public = self.dir / f"{method}.key", self.dir / f"{method}.pub"
        if not private.exists():
            if how is None:
                private.write_text("a secret that both know")
            else:
                subprocess.run(["openssl", *how, "-out", private], check=True, capture_output=True)
                subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
        keys = f"priv-key={private}" + (f",pub-key={public}" if how else "")
        return f"jwt,{keys},sign-method={method},ttl=10m"

    @harness.needs("etcd37")
    def test_a_token_of_one_is_good_for_the_other(self):
        for method, how in self.METHODS.items():
            with self.subTest(method):
                flags = ["--auth-token", self.flag(method, how)]
                servers = [self.with_auth(kind, flags) for kind in self.kinds]
                clients = [self.user(server, "alice") for server in servers]
                clients[0].metadata, clients[1].metadata = clients[1].metadata, clients[0].metadata
                for client in clients:
                    self.assertEqual(client.get(b"b").value, b"seen")
                    self.refused(DENIED, client.range, b"secret")
                    client.put(b"a/1", b"x")
                    forged = client.metadata[0][1][:-6] + "AAAAAA"
                    client.metadata = (("token", forged),)
                    self.refused(BAD_TOKEN, client.range, b"b")
                for server in servers:
                    server.kill()

    def test_a_token_does_not_outlive_a_change(self):
        for server in self.each(["--auth-token", self.flag("ES256", self.METHODS["ES256"])]):
            root, alice = self.user(server, "root"), self.user(server, "alice")
            alice.get(b"b")
            root.user_add("dave", "davepw")
            self.refused(OLD, alice.range, b"b")
            self.refused(OLD, alice.put, b"a/1", b"x")
            root.role_add("more")  # as etcd: root's own calls go by who has the role now
            alice.login("alice", "alicepw")
            self.assertEqual(alice.get(b"b").value, b"seen")

    def test_keys_that_do_not_fit_refuse_the_start(self):
        self.flag("ES256", self.METHODS["ES256"]), self.flag("RS256", self.METHODS["RS256"])
        for text in ("jwt", "jwt,sign-method=RS256", "jwts", f"jwt,sign-method=ES256,priv-key={self.dir}/none",
                     f"jwt,sign-method=RS256,priv-key={self.dir}/ES256.key",
                     f"jwt,sign-method=none,priv-key={self.dir}/ES256.key"):
            with self.subTest(text):
                server = self.server("cairn", self.dir / "refused", flags=["--auth-token", text]).launch()
                self.assertEqual(server.wait(), 1, server.log_tail())
                self.assertFalse((self.dir / "refused/member").exists())


class Directories(AuthCase):
    """Auth stays as it is when the program changes."""

    def check(self, kind):
        ports = (harness.free_port(), harness.free_port())
        data = self.dir / "data"
        server = self.server(kind, data, ports=ports, flags=["--bcrypt-cost", "4"]).start()
        self.fill(server.client())
        server.stop()
        for turn in ("cairn", kind, "cairn"):
            server = self.server(turn, data, ports=ports, flags=["--bcrypt-cost", "4"]).start()
            self.refused(NOBODY, server.client().range, b"b")
            root, alice = self.user(server, "root"), self.user(server, "alice")
            self.assertEqual(alice.get(b"b").value, b"seen")
            self.refused(DENIED, alice.range, b"secret")
            self.refused(DENIED, alice.put, b"b", b"x")
            alice.put(b"a/1", turn.encode())
            name = f"{turn}{time.monotonic_ns()}"
            root.user_add(name, "pw")
            root.user_grant(name, "r")
            server.client().login(name, "pw").put(b"a/2", b"x")
            root.call("Auth", "UserDelete", rpc.enc((1, name)))
            server.kill()  # the next one reads the log, too
        server = self.server(kind, data, ports=ports).start()
        self.assertEqual(self.user(server, "root").call("Auth", "UserList").get(2), [b"alice", b"carol", b"root"])
        server.stop()
        self.check_directory(data)

    @harness.needs("etcd34")
    def test_34(self):
        self.check("etcd34")

    @harness.needs("etcd37")
    def test_37(self):
        self.check("etcd37")

    @harness.needs("etcd34")
    def test_what_a_killed_member_has_in_its_log_34_reads(self):
        """Hashes of passwords it does not know: it gave such users the empty password. A question of the status made it
        panic."""
        ports = (harness.free_port(), harness.free_port())
        flags = ["--backend-batch-interval", "1h", "--bcrypt-cost", "4"]
        data = self.dir / "data"
        server = self.server("etcd34", data, ports=ports, flags=flags).start()
        server.stop()
        server = self.server("cairn", data, ports=ports, flags=flags).start()
        client = server.client()
        self.fill(client)
        root = self.user(server, "root")
        root.call("Auth", "UserChangePassword", rpc.enc((1, "alice"), (2, "newpw")))
        self.assertEqual(rpc.first(client.call("Auth", "AuthStatus"), 2), 1)
        server.kill()
        for kind in ("etcd34", "cairn"):
            server = self.server(kind, data, ports=ports, flags=flags).start()
            for name, right, wrong in (("root", "rootpw", ""), ("alice", "newpw", "alicepw"), ("carol", "carolpw", "")):
                server.client().login(name, right)
                self.refused(FAILED, server.client().login, name, wrong)
            server.kill()

    def test_users_of_a_member_that_was_killed(self):
        """Enabled in the part of the log that the db does not have."""
        ports = (harness.free_port(), harness.free_port())
        flags = ["--backend-batch-interval", "1h", "--bcrypt-cost", "4"]
        server = self.server("cairn", self.dir / "data", ports=ports, flags=flags).start()
        self.fill(server.client())
        server.kill()
        self.assertNotEqual(bolt.tables(self.dir / "data/member/snap/db").get("auth", {}).get(b"authEnabled"), b"\1")
        server = self.server("cairn", self.dir / "data", ports=ports, flags=flags).start()
        self.refused(NOBODY, server.client().range, b"b")
        self.assertEqual(self.user(server, "alice").get(b"b").value, b"seen")


class WhileRequestsRun(AuthCase):
    """Auth goes on and off, and permissions come and go, while others read and write."""

    def test_on_and_off(self):
        server = self.with_auth("cairn")
        root = self.user(server, "root")
        stop = threading.Event()
        seen, failed = set(), []

        def login(client, name):
            try:
                client.login(name, name + "pw")
            except rpc.GrpcError as refused:
                if refused.message != "etcdserver: authentication is not enabled":
                    raise

        def work(name):
            client = server.client()
            try:
                login(client, name)
                number = 0
                while not stop.is_set():
                    number += 1
                    for call in (lambda: client.put(b"a/" + name.encode(), b"%d" % number), lambda: client.get(b"b"),
                                 lambda: client.get(b"secret")):
                        try:
                            call()
                            seen.add("done")
                        except rpc.GrpcError as error:
                            seen.add(error.message)
                            if (error.code, error.message) not in (DENIED, BAD_TOKEN, NOBODY, OLD):
                                raise
                            if error.message in (BAD_TOKEN[1], NOBODY[1]):
                                login(client, name)
            except Exception as error:  # told by the test
                failed.append(repr(error))

        threads = [threading.Thread(target=work, args=(name,)) for name in ("alice", "carol") for _ in range(2)]
        for thread in threads:
            thread.start()
        rounds, ends = 0, time.monotonic() + 120
        while (rounds < 15 or not {"done", DENIED[1]} <= seen) and not failed and time.monotonic() < ends:
            root.call("Auth", "UserRevokeRole", rpc.enc((1, "alice"), (2, "r")))
            root.user_grant("alice", "r")
            root.call("Auth", "AuthDisable")
            root.metadata = ()
            root.auth_enable()
            root.login("root", "rootpw")
            rounds += 1
            time.sleep(0.02)
        stop.set()
        for thread in threads:
            thread.join()
        self.assertEqual(failed, [])
        self.assertIn("done", seen)
        self.assertIn(DENIED[1], seen)
        carol = self.user(server, "carol")
        self.refused(DENIED, carol.range, b"b")
        self.assertEqual(self.user(server, "alice").get(b"b").value, b"seen")


if __name__ == "__main__":
    harness.main()
