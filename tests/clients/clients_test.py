"""Clients of other languages see in Cairn what they see in etcd 3.7: the etcd3 packages for Python and for Node, jetcd for
Java, and etcd-client for Rust.

They are installed by ./dev setup --full and run by ./dev test --full.
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

HERE = pathlib.Path(__file__).resolve().parent
BOTH = ("etcd37", "cairn")
INSTALLED = harness.ROOT / "build/clients"
PROGRAM_SECONDS_MAX = 280
SUITE_SECONDS_MAX = 560


class Clients(harness.Case):
    maxDiff = None

    def setUp(self):
        if os.environ.get("CAIRN_TEST_FULL", "0") == "0":
            raise unittest.SkipTest("clients of other languages are run by ./dev test --full")
        super().setUp()
        harness.require("etcd37")

    def need_installed(self, language):
        if not (INSTALLED / language / "installed").exists():
            raise unittest.SkipTest(f"not on this machine: build/clients/{language} (./dev setup --full)")

    def compare(self, program, parts, **environment):
        def run(server):
            return self.transcript(server, [*program, server.client_port, *parts], PROGRAM_SECONDS_MAX, environment)

        etcd, cairn = self.side_by_side(run, BOTH)
        self.assertEqual(etcd, cairn)
        self.assertEqual(etcd[-1], "## the end")


class Python(Clients):
    PARTS = ["single_keys", "ranges", "transactions", "compaction", "watches", "restart", "leases", "locks",
             "maintenance"]

    def test_it_sees_the_same(self):
        self.need_installed("python")
        self.compare([INSTALLED / "python/bin/python", HERE / "python/program.py"], self.PARTS,
                     PYTHONDONTWRITEBYTECODE="1")

    def test_its_own_tests(self):
        self.need_installed("python")
        harness.require("etcdctl")
        source = self.dir / "source"
        shutil.copytree(INSTALLED / "python/source", source)
        shutil.copy(HERE / "python/conftest.py", source / "tests")

        def run(server):
            environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "TEST_ETCD_VERSION": "v3.7.1",
                           "PYTHON_ETCD_HTTP_URL": f"http://{server.endpoint}"}
            done = subprocess.run([INSTALLED / "python/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider",
                                   "-W", "ignore", "tests"], cwd=source, env=environment, text=True, check=False,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SUITE_SECONDS_MAX)
            return done.returncode, done.stdout

        for name, (code, output) in zip(BOTH, self.side_by_side(run, BOTH), strict=True):
            print(name, output.splitlines()[-1], file=sys.stderr)
            self.assertEqual(code, 0, f"{name}: {output[-6000:]}")


class Node(Clients):
    PARTS = ["singleKeys", "ranges", "transactions", "namespaces", "watches", "restart", "leases", "locks", "stm",
             "elections", "maintenance"]

    def test_it_sees_the_same(self):
        self.need_installed("node")
        self.compare(["node", HERE / "node/program.js"], self.PARTS, NODE_PATH=str(INSTALLED / "node/node_modules"))


class Java(Clients):
    PARTS = ["single_keys", "ranges", "transactions", "watches", "leases", "locks", "elections", "maintenance", "accounts"]

    def test_it_sees_the_same(self):
        self.need_installed("java")
        self.compare(["java", "-cp", f"{INSTALLED / 'java/lib'}/*:{INSTALLED / 'java/classes'}", "Program"], self.PARTS)


class Rust(Clients):
    """The tests of the package itself. They ask port 2379, so each server has a network of its own."""

    LEFT_OUT = ["test_cluster", "test_move_leader"]  # they need several members

    def run_suite(self, kind):
        server = harness.Server(kind, self.dir / kind, ports=(2379, 2380))
        arguments = server.arguments()
        arguments[arguments.index("--name") - 1] = str(harness.program(kind).resolve())
        script = self.dir / f"{kind}.json"
        script.write_text(json.dumps({"server": arguments, "tests": [
            [str(INSTALLED / "rust" / name), "--include-ignored", "--test-threads", "1", *[word for one in self.LEFT_OUT for word in ("--skip", one)]]
            for name in ("client", "namespace")]}))
        done = subprocess.run([*isolation.own_network(), sys.executable, HERE / "rust/beside_server.py", script], text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SUITE_SECONDS_MAX)
        results = re.findall(r"^test (\S+)(?: - should panic)? \.\.\. (?:.*?)(ok|FAILED|ignored)$", done.stdout, re.M | re.S)
        return done.returncode, sorted(results), done.stdout

    def test_its_own_tests(self):
        self.need_installed("rust")
        if not isolation.own_network():
            raise unittest.SkipTest("no network namespaces here, and the tests ask port 2379")
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for kind, (code, results, output) in zip(BOTH, pool.map(self.run_suite, BOTH), strict=True):
                print(kind, len(results), "tests", file=sys.stderr)
                self.assertEqual(code, 0, f"{kind}: {output[-6000:]}")
                self.assertGreater(len(results), 20)


if __name__ == "__main__":
    harness.main()
