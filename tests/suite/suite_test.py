"""etcd's own end-to-end tests with Cairn as the program "etcd".

tests/suite/build builds them. Each test of theirs is a process of its own, in a network of its own, as their ports are
fixed. tests/suite/not_yet lists those that are left out, and why. A test that fails is run once more by itself.

    suite_test.py [--only REGEX] [--server etcd37] [--listed] [Common] [EndToEnd] [ClientLibrary]

--server etcd37 runs them with etcd; --listed runs those that are listed as not yet, and says which of them pass now.
"""

import concurrent.futures
import fcntl
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))
import harness  # noqa: E402
import isolation  # noqa: E402

BUILT = harness.ROOT / "build/oracles/suite"
TEST_SECONDS_MAX = 240
AT_A_TIME = max(2, min(4, os.cpu_count() or 2))
OUTCOME = re.compile(r"^ *--- (PASS|FAIL|SKIP): (\S+)", re.M)


def not_yet():
    """Name of a test or subtest -> why it is left out: the heading above it."""
    out, why = {}, ""
    for line in (HERE / "not_yet").read_text().splitlines():
        if line.startswith("## "):
            why = line[3:]
        elif line and not line.startswith("#"):
            out[line] = why
    return out


class Built(harness.Case):
    """What tests/suite/build has built."""

    def setUp(self):
        if os.environ.get("CAIRN_TEST_FULL", "0") == "0":
            raise unittest.SkipTest("etcd's own tests are run by ./dev test --full")
        super().setUp()
        if not (BUILT / "built").exists():
            raise unittest.SkipTest("not on this machine: build/oracles/suite (./dev setup --full, with Go 1.26)")


class ClientLibrary(Built):
    """The examples of etcd's client library for Go, whose outputs are a part of them, and the tests of its package
    concurrency. They run against Cairn and against etcd."""

    # They want three members, or certificates at a fixed place.
    LEFT_OUT = ["ExampleCluster_memberList", "ExampleCluster_memberAdd", "ExampleCluster_memberAddAsLearner", "ExampleConfig_withTLS"]
    MIN = {"examples": 22, "concurrency": 10}

    def run_package(self, package, server):
        done = subprocess.run([BUILT / f"{package}.test", "-test.v", "-test.skip", "|".join(f"^{name}$" for name in self.LEFT_OUT)],
                              cwd=self.dir, text=True, errors="replace", check=False, timeout=TEST_SECONDS_MAX,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env={"PATH": os.environ["PATH"], "CAIRN_ENDPOINT": server.endpoint})
        return done.returncode, sorted(OUTCOME.findall(done.stdout)), done.stdout

    def check_package(self, package):
        harness.require("etcd37")

        def run(kind):
            server = self.server(kind, self.dir / kind, flags=["--watch-progress-notify-interval", "200ms", "--bcrypt-cost", "4"])
            return self.run_package(package, server.start())

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            (_, of_etcd, said), (code, outcomes, output) = pool.map(run, ("etcd37", "cairn"))
        print(f"{package}: {len(outcomes)} ran", file=sys.stderr)
        self.assertEqual(of_etcd, outcomes, f"{said[-3000:]}\n{output[-3000:]}")
        self.assertEqual(code, 0, output[-6000:])
        self.assertGreaterEqual([outcome for outcome, _ in outcomes].count("PASS"), self.MIN[package])

    def test_examples(self):
        self.check_package("examples")

    def test_concurrency(self):
        self.check_package("concurrency")


class Suite(Built):
    """One package of tests."""

    package = None
    only, server_kind, listed = None, "cairn", False

    def setUp(self):
        super().setUp()
        self.only, self.server_kind, self.listed = self.options.only, self.options.server, self.options.listed
        harness.require(self.server_kind, "etcdctl37", "etcdutl37")

    def programs(self):
        """A directory with the programs under the names that the tests expect."""
        out = self.dir / "bin"
        out.mkdir()
        for name, program in (("etcd", self.server_kind), ("etcdctl", "etcdctl37"), ("etcdutl", "etcdutl37")):
            (out / name).symlink_to(harness.program(program).resolve())
        return out

    def chosen(self, program, left_out):
        """Names of tests, and the pattern of subtests that are left out."""
        names = subprocess.run([program, "-test.list", self.only or "."], cwd=BUILT / "work", capture_output=True, text=True, check=True)
        names = [name for name in names.stdout.split() if name.startswith("Test")]
        if self.listed:
            return [name for name in left_out if name.split("/")[0] in names], ""
        subtests = [name for name in left_out if "/" in name]
        skip = "|".join("/".join("." if part == "*" else f"^{re.escape(part)}$" for part in name.split("/")) for name in subtests)
        return [name for name in names if name not in left_out], skip

    def run_one(self, program, programs, name, skip, isolated):
        """(ended well, its output)"""
        pattern = "/".join(f"^{re.escape(part)}$" for part in name.split("/"))
        with tempfile.TemporaryDirectory(dir=self.dir) as temporary, open("/tmp/.cairn-etcd-suite.lock", "w") as lock:
            if not isolated:
                fcntl.flock(lock, fcntl.LOCK_EX)
            command = [*isolated, program, "-test.v", "-test.run", pattern, *(["-test.skip", skip] if skip else []),
                       "-test.timeout", f"{TEST_SECONDS_MAX}s", "-bin-dir", programs, "-cert-dir", BUILT / "fixtures"]
            process = subprocess.Popen([*map(str, command)], cwd=BUILT / "work", text=True, errors="replace", start_new_session=True,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                       env={"PATH": os.environ["PATH"], "TMPDIR": temporary, "HOME": temporary},
                                       preexec_fn=harness.die_with_parent)
            try:
                output, _ = process.communicate(timeout=TEST_SECONDS_MAX + 30)
            except subprocess.TimeoutExpired:
                output = "it does not end"
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                process.wait()
            return process.returncode == 0, output

    def note(self, name, run, counts, failed):
        good, output = run
        outcomes = OUTCOME.findall(output)
        for outcome, _ in outcomes:
            counts[outcome] += 1
        if good:
            failed.pop(name, None)
        else:
            failed[name] = output
        said = ("passes" if good and any(outcome == "PASS" for outcome, _ in outcomes) else "does not pass") if self.listed else "ok" if good else "FAILED"
        print(said, name, *(one for outcome, one in outcomes if outcome == "FAIL"), file=sys.stderr)

    def test_all(self):
        program, programs, isolated = BUILT / f"{self.package}.test", self.programs(), isolation.own_network()
        left_out = not_yet()
        names, skip = self.chosen(program, left_out)
        counts, failed = {"PASS": 0, "FAIL": 0, "SKIP": 0}, {}
        with concurrent.futures.ThreadPoolExecutor(AT_A_TIME if isolated else 1) as pool:
            runs = {name: pool.submit(self.run_one, program, programs, name, skip, isolated) for name in names}
            for name, run in runs.items():
                self.note(name, run.result(), counts, failed)
        # Some of them wait for fixed times, which a loaded machine does not keep.
        for name in [] if self.listed else list(failed):
            self.note(name, self.run_one(program, programs, name, skip, isolated), counts, failed)
        print(f"{self.package}: {len(names)} of etcd's tests with {self.server_kind}: {counts['PASS']} passed with their subtests, "
              f"{counts['SKIP']} skipped by themselves; {len(left_out)} of both packages are not yet tried", file=sys.stderr)
        logs = os.environ.get("CAIRN_SUITE_LOGS")
        for name, output in failed.items():
            if logs:
                pathlib.Path(logs, f"{name}.log").write_text(output)
        if self.listed:
            return
        self.assertEqual(list(failed), [], "\n\n".join(f"{name}: {output[-3000:]}" for name, output in failed.items()))
        self.assertGreater(counts["PASS"], 0)


class Common(Suite):
    package = "common"


class EndToEnd(Suite):
    package = "e2e"


del Built, Suite  # they are no tests by themselves


if __name__ == "__main__":
    def add_arguments(parser):
        parser.add_argument("--only")
        parser.add_argument("--server", default="cairn")
        parser.add_argument("--listed", action="store_true")

    harness.main(add_arguments)
