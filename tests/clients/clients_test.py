"""Clients of other languages see in Cairn what they see in etcd 3.7: the etcd3 packages for Python and for Node, jetcd for
Java, and etcd-client for Rust.

Those for Python and for Node are installed and run by every ./dev test, the others by ./dev test --full.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
import harness  # noqa: E402
import isolation  # noqa: E402
import pki  # noqa: E402
import tls_case  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
BOTH = ("etcd37", "cairn")
NO_AUTO_CLEAR = {"cairn": ["--nospace-auto-clear=false"]}  # an alarm that a test raises stays
INSTALLED = harness.ROOT / "build/clients"
PROGRAM_SECONDS_MAX = 280
SUITE_SECONDS_MAX = 560


def without_restart(parts):
    """For a client with a name: a simple token does not outlive its server, and the packages' watches keep theirs."""
    return [part for part in parts if part != "restart"]


class Clients(harness.Case):
    """What is the same for all: `language` is the folder in build/clients."""

    maxDiff = None
    language = None
    full = False  # whether only ./dev test --full runs them

    def setUp(self):
        if self.full and os.environ.get("CAIRN_TEST_FULL", "0") == "0":
            raise unittest.SkipTest("run by ./dev test --full")
        super().setUp()
        harness.require("etcd37")
        if not (INSTALLED / self.language / "installed").exists():
            skipped = INSTALLED / f"{self.language}.skipped"
            why = skipped.read_text().strip() if skipped.exists() else "tests/clients/install has not run"
            raise unittest.SkipTest(f"not on this machine: build/clients/{self.language}: {why}")

    def transcripts(self, servers, command, parts, **environment):
        """What the client says of etcd and of Cairn: the same, to its end."""

        def run(server):
            return self.transcript(server, [*command, server.client_port, *parts], PROGRAM_SECONDS_MAX, environment)

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            etcd, cairn = pool.map(run, servers)
        self.assertEqual(etcd, cairn)
        self.assertEqual(etcd[-1], "## the end", etcd[-30:])

    def compare(self, command, parts, **environment):
        servers = [self.server(kind, self.dir / kind, flags=NO_AUTO_CLEAR.get(kind, ())).start() for kind in BOTH]
        self.transcripts(servers, command, parts, **environment)

    def servers_over_tls(self):
        """They ask for the client's certificate, which is in the directory that comes with them."""
        authority = pki.Authority(self.dir)
        own = authority.issue("server")
        authority.issue("client")
        flags = ["--cert-file", str(own.cert), "--key-file", str(own.key), "--trusted-ca-file", str(authority.cert),
                 "--client-cert-auth", "--bcrypt-cost", "4"]
        servers = []
        for kind in BOTH:
            server = tls_case.TlsServer(kind, self.dir / kind, flags=[*flags, *NO_AUTO_CLEAR.get(kind, ())])
            self.servers.append(server)
            servers.append(server.start())
        return servers, str(authority.dir)

    def compare_over_tls(self, command, parts, **environment):
        """With a certificate of the client: what users may do, then the parts as root."""
        servers, environment["TLS_DIRECTORY"] = self.servers_over_tls()
        self.transcripts(servers, command, ["accounts"], **environment)
        self.transcripts(servers, command, parts, AS_ROOT="1", **environment)


class Python(Clients):
    language = "python"
    PARTS = ["single_keys", "ranges", "transactions", "compaction", "watches", "restart", "leases", "locks",
             "maintenance", "members", "stubs"]
    COMMAND = [INSTALLED / "python/bin/python", HERE / "python/program.py"]

    def test_it_sees_the_same(self):
        self.compare(self.COMMAND, [*self.PARTS, "accounts"], PYTHONDONTWRITEBYTECODE="1")

    def test_it_sees_the_same_over_tls_as_root(self):
        self.compare_over_tls(self.COMMAND, without_restart(self.PARTS), PYTHONDONTWRITEBYTECODE="1")


class PythonsOwn(Clients):
    language = "python"
    SHARES = 4  # at a time, each beside a server of its own
    TESTS_MIN = 70

    def test_its_own_tests(self):
        harness.require("etcdctl")
        source = self.dir / "source"
        shutil.copytree(INSTALLED / "python/source", source)
        shutil.copy(HERE / "python/conftest.py", source / "tests")

        def run(kind, share, when="first"):
            server = self.server(kind, self.dir / f"{kind}.{share}.{when}").start()
            environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "TEST_ETCD_VERSION": "v3.7.1",
                           "PYTHON_ETCD_HTTP_URL": f"http://{server.endpoint}", "SHARE": f"{share}/{self.SHARES}"}
            done = subprocess.run([INSTALLED / "python/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider",
                                   "-W", "ignore", "tests"], cwd=source, env=environment, text=True, check=False,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SUITE_SECONDS_MAX)
            server.stop()
            return done.returncode, done.stdout

        with concurrent.futures.ThreadPoolExecutor(2 * self.SHARES) as pool:
            running = {kind: [pool.submit(run, kind, share) for share in range(self.SHARES)] for kind in BOTH}
        for kind, shares in running.items():
            passed = 0
            for share, (code, output) in enumerate(one.result() for one in shares):
                if code != 0:  # they sleep for fixed times, which a loaded machine does not keep
                    print(f"{kind}: share {share} once more, by itself:\n{output[-3000:]}", file=sys.stderr)
                    code, output = run(kind, share, "again")
                self.assertEqual(code, 0, f"{kind}: {output[-6000:]}")
                passed += int(re.search(r"(\d+) passed", output)[1])
            self.assertGreaterEqual(passed, self.TESTS_MIN, kind)


class Node(Clients):
    language = "node"
    PARTS = ["singleKeys", "ranges", "transactions", "namespaces", "watches", "restart", "leases", "locks", "stm",
             "elections", "maintenance", "calls"]
    COMMAND = ["node", HERE / "node/program.js"]
    MODULES = str(INSTALLED / "node/node_modules")

    def test_it_sees_the_same(self):
        self.compare(self.COMMAND, [*self.PARTS, "accounts"], NODE_PATH=self.MODULES)

    def test_it_sees_the_same_over_tls_as_root(self):
        self.compare_over_tls(self.COMMAND, without_restart(self.PARTS), NODE_PATH=self.MODULES)


class Java(Clients):
    language, full = "java", True
    PARTS = ["single_keys", "ranges", "transactions", "watches", "leases", "locks", "elections", "maintenance", "accounts"]

    COMMAND = ["java", "-cp", f"{INSTALLED / 'java/lib'}/*:{INSTALLED / 'java/classes'}", "Program"]

    def test_it_sees_the_same(self):
        self.compare(self.COMMAND, self.PARTS)

    def test_it_sees_the_same_over_tls(self):
        servers, directory = self.servers_over_tls()
        self.transcripts(servers, self.COMMAND, self.PARTS, TLS_DIRECTORY=directory)


class Rust(Clients):
    """The tests of the package itself. They ask port 2379, so each server has a network of its own."""

    language, full = "rust", True
    LEFT_OUT = ["test_cluster", "test_move_leader"]  # they need several members

    def run_suite(self, kind):
        server = harness.Server(kind, self.dir / kind, ports=(2379, 2380), flags=["--auth-token-ttl", "2", "--bcrypt-cost", "4"])
        arguments = server.arguments()
        arguments[arguments.index("--name") - 1] = str(harness.program(kind).resolve())
        script = self.dir / f"{kind}.json"
        etcdctl = str(harness.program("etcdctl37").resolve())
        script.write_text(json.dumps({"server": arguments, "before": [  # as its continuous integration has it
            [etcdctl, "user", "add", "root", "--new-user-password", "rootpwd"], [etcdctl, "user", "grant-role", "root", "root"],
        ], "tests": [
            [str(INSTALLED / "rust" / name), "--include-ignored", "--test-threads", "1", *[word for one in self.LEFT_OUT for word in ("--skip", one)]]
            for name in ("client", "namespace")]}))
        done = subprocess.run([*isolation.own_network(), sys.executable, HERE / "rust/beside_server.py", script], text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SUITE_SECONDS_MAX)
        results = re.findall(r"^test (\S+)(?: - should panic)? \.\.\. (?:.*?)(ok|FAILED|ignored)$", done.stdout, re.M | re.S)
        return done.returncode, sorted(results), done.stdout

    def test_its_own_tests(self):
        harness.require("etcdctl37")
        if not isolation.own_network():
            raise unittest.SkipTest("no network namespaces here, and the tests ask port 2379")
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for kind, (code, results, output) in zip(BOTH, pool.map(self.run_suite, BOTH), strict=True):
                print(kind, len(results), "tests", file=sys.stderr)
                self.assertEqual(code, 0, f"{kind}: {output[-6000:]}")
                self.assertGreater(len(results), 20)


if __name__ == "__main__":
    harness.main()
