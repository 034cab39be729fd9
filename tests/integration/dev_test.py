"""The front door: what ./dev installs, builds and says, and the steps of the README as they stand there.

`dev` and `tools/setup` run in a folder of their own. Programs of the system that would change the machine or take
minutes are replaced by scripts that write down how they were called.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time
import urllib.request

import harness

# Packages named in the file "missing" are not there until apt-get installs them.
FAKES = {
    "dpkg-query": """for package in "$@"; do
  case $package in -*) continue ;; esac
  grep -qx "$package" missing || echo "installed $package"
done""",
    "apt-get": """case "$*" in *install*) : >missing ;; esac""",
    "sudo": '"$@"',
    "cmake": "",
    "ninja": "",
    "ctest": "echo '100% tests passed, 0 tests failed out of 3'",
}


class DevCase(harness.Case):
    def setUp(self):
        super().setUp()
        self.home = self.dir / "home"
        for name in ("dev", "tools/setup", "src/cmd/CMakeLists.txt"):
            target = self.home / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(harness.ROOT / name, target)
        for folder in ("src/mvcc", "sim", "bench"):
            (self.home / folder).mkdir()
        (self.home / "src/mvcc/txn_test.cc").write_text("TEST_F(TxnTest, Works) {}\n")
        for name in ("tests/oracles/build", "tests/clients/install"):
            self.make_program(self.home / name, "")
        for name, body in FAKES.items():
            self.make_program(self.home / "bin" / name, body)
        (self.home / "missing").write_text("")

    def make_program(self, path, body):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\necho \"{path.name} $*\" >>{self.home}/calls\ncd {self.home}\n{body}\n")
        path.chmod(0o755)

    def environment(self):
        return {"PATH": f"{self.home}/bin:{os.environ['PATH']}", "HOME": str(self.home)}

    def dev(self, *arguments, code=0, **environment):
        """Runs ./dev; returns what it printed and the programs it called."""
        (self.home / "calls").write_text("")
        done = subprocess.run(["./dev", *arguments], cwd=self.home, env=self.environment() | environment, text=True,
                              timeout=100, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        self.assertEqual(done.returncode, code, done.stdout)
        return done.stdout, (self.home / "calls").read_text().splitlines()


class Packages(DevCase):
    def test_a_library_that_is_missing_is_installed_though_cmake_is_there(self):
        for command in (["build", "cairn"], ["run", "--", "--version"]):
            with self.subTest(command):
                (self.home / "missing").write_text("libnghttp2-dev\n")
                self.make_program(self.home / "build/release/src/cmd/cairn", "")
                output, calls = self.dev(*command)
                self.assertIn("missing 1 of", output)
                names = [call.split()[0] for call in calls]
                installs = [call for call in calls if " install " in call]
                self.assertEqual(len(installs), 1, calls)
                self.assertTrue(installs[0].endswith("--no-install-recommends libnghttp2-dev"), installs)
                self.assertLess(names.index("apt-get"), names.index("cmake"))
                shutil.rmtree(self.home / "build")

    def test_nothing_is_installed_when_all_is_there(self):
        output, calls = self.dev("build", "cairn")
        self.assertEqual([call.split()[0] for call in calls], ["dpkg-query", "cmake", "ninja"])
        self.assertIn("-C build/dev cairn", calls[-1])

    def test_setup_ends_in_failure_when_something_stays_missing(self):
        self.make_program(self.home / "bin/apt-get", "")
        (self.home / "missing").write_text("cmake\n")
        output, _ = self.dev("build", code=1)
        self.assertIn("still missing: cmake", output)


class Commands(DevCase):
    def test_a_module_is_tested_by_its_name(self):
        _, calls = self.dev("test", "mvcc")
        self.assertTrue(calls[-2].endswith("-C build/dev cairn_mvcc_test"), calls)
        self.assertIn("--tests-regex ^cairn_mvcc_test$", calls[-1])

    def test_a_filter_builds_and_runs_what_it_names(self):
        program = self.home / "build/dev/src/mvcc/cairn_mvcc_test"
        self.make_program(program, "printf 'TxnTest.\\n  Works\\n'")
        self.make_program(self.home / "bin/ctest", f"""echo '{{"tests": [{{"command": ["{program}"]}}]}}'""")
        _, calls = self.dev("test", "TxnTest.*")
        self.assertIn("cairn_mvcc_test", next(call for call in calls if call.startswith("ninja")))
        self.assertEqual(calls[-1], "cairn_mvcc_test --gtest_filter=TxnTest.*")
        output, _ = self.dev("test", "NoSuchTest.*", code=1)
        self.assertIn("no unit test is called NoSuchTest.*", output)

    def test_each_sanitizer_has_its_stages(self):
        output, calls = self.dev("test")
        for stage in ("build of the unit tests (asan)", "unit tests (asan)", "build of the tests with threads (tsan)",
                      "tests with threads (tsan)"):
            self.assertRegex(output, rf"\n +[0-9]+ s  {re.escape(stage)}\n")
        for target in ("-C build/asan cairn_unit_tests", "-C build/tsan cairn_threaded_tests"):
            self.assertTrue(any(call.endswith(target) for call in calls), target)
        output, calls = self.dev("test", CAIRN_TEST_QUICK="1")
        self.assertIn("are left out", output)
        self.assertFalse([call for call in calls if "build/asan" in call or "build/tsan" in call], calls)

    def test_clients_of_other_languages_are_run_when_that_is_asked_for(self):
        self.make_program(self.home / "bin/ctest",
                          "echo full=$CAIRN_TEST_FULL >>calls; echo '100% tests passed, 0 tests failed out of 3'")
        output, calls = self.dev("test", CAIRN_TEST_QUICK="1")
        self.assertIn("./dev test --full alone runs them: clients_java, clients_rust, suite_clientv3, suite_common, suite_e2e", output)
        self.assertEqual([call for call in calls if call.startswith("install") or call == "full=1"], ["install python node"])
        output, calls = self.dev("test", "--full", CAIRN_TEST_QUICK="1")
        self.assertNotIn("./dev test --full alone", output)
        self.assertLess(calls.index("install "), calls.index("full=1"))
        _, calls = self.dev("test", "clients_node", "--full")
        self.assertIn("--tests-regex ^(cairn_)?clients_node(_test)?$", calls[-2])
        self.assertLess(calls.index("install "), calls.index("full=1"))
        self.make_program(self.home / "tests/clients/install", "exit 1")
        output, _ = self.dev("test", CAIRN_TEST_QUICK="1")
        self.assertIn("the tests of these clients are skipped, by name", output)
        output, _ = self.dev("test", "--full", code=1)
        self.assertIn("the clients of other languages could not be installed", output)

    def test_fuzzing_needs_no_clients(self):
        (self.home / "build/asan").mkdir(parents=True)
        (self.home / "build/asan/fuzzers").write_text("")
        _, calls = self.dev("fuzz", "1")
        self.assertIn("libclang-rt-19-dev", calls[0])  # what is looked for, and installed if it is missing
        self.assertFalse([call for call in calls if call.startswith("install")], calls)

    def test_a_fuzzer_that_fails_does_not_keep_the_others_from_running(self):
        programs = [self.home / f"build/asan/src/{name}_fuzz" for name in ("bolt", "wal", "config")]
        for program in programs:
            self.make_program(program, "echo 'Done 5 runs in 7 seconds' >&2; [[ $0 != *wal_fuzz ]] || exit 77")
        (self.home / "build/asan/fuzzers").write_text("".join(f"{program}\n" for program in programs))
        output, calls = self.dev("fuzz", "7", code=123)
        self.assertIn("wal_fuzz failed: the input is in build/corpus", output)
        for program in programs:
            self.assertTrue(any(call.startswith(f"{program.name} -max_total_time=7 ") for call in calls), calls)

    def test_clang_is_installed_for_what_it_compiles_only(self):
        for preset, wanted in (("asan", True), ("tsan", True), ("dev", False)):
            (self.home / "missing").write_text("clang-19\n")
            _, calls = self.dev("build", "cairn", CAIRN_PRESET=preset)
            self.assertEqual(any(call.endswith("--no-install-recommends clang-19") for call in calls), wanted, calls)


class Readme(DevCase):
    """The block at the top of the README: what is typed there, and what is printed then."""

    def steps(self):
        """command -> the lines under it"""
        block = re.search(r"^```\n(\$ .*?)^```$", (harness.ROOT / "README.md").read_text(), re.M | re.S)[1]
        steps = {}
        for line in block.splitlines():
            if line.startswith("$ "):
                command = line[2:]
                steps[command] = []
            else:
                steps[command].append(line)
        return steps

    def assert_printed(self, wanted, output):
        """Each wanted piece, in order; "..." stands for anything."""
        at = 0
        for piece in (piece for line in wanted for piece in line.split("...") if piece.strip()):
            found = output.find(piece.strip(), at)
            self.assertGreaterEqual(found, 0, f"{piece!r} is not printed after:\n{output[:at]}\nbut:\n{output[at:]}")
            at = found + len(piece.strip())

    def test_it_has_the_steps(self):
        self.assertEqual(list(self.steps()), ["./dev run", "./dev test"])

    @harness.needs("etcdctl")
    def test_dev_run(self):
        wanted = self.steps()["./dev run"]
        cairn = self.home / "build/release/src/cmd/cairn"
        cairn.parent.mkdir(parents=True)
        cairn.symlink_to(harness.program("cairn").resolve())
        server = self.server("cairn")  # never started: for its ports
        log = self.home / "log"
        flags = ["--listen-client-urls", f"http://{server.endpoint}", "--advertise-client-urls",
                 f"http://{server.endpoint}", "--listen-peer-urls", f"http://127.0.0.1:{server.peer_port}"]
        with open(log, "wb") as out:
            process = subprocess.Popen(["./dev", "run", "--", *flags], cwd=self.home, env=self.environment(),
                                       stdout=out, stderr=out, preexec_fn=harness.die_with_parent)
        try:
            self.wait_for(log, process, "ready to serve client requests")
            self.assert_printed(wanted, log.read_text())
            answers = {command: self.follow(command, server) for command in wanted if command.startswith("  ")}
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)
        self.assertTrue((self.home / "default.etcd/member/snap/db").exists())
        self.assertEqual(len(answers), 4)
        for command, answer in answers.items():
            expected = {"put": "OK\n", "get": "greeting\nhello\n", "curl": '{"health":"true","reason":""}'}
            for word, text in expected.items():
                if word in command.split():
                    self.assertEqual(answer, text, command)

    def follow(self, command, server):
        """What a line under "in another terminal" prints; the default address is this test's one."""
        command = command.replace("127.0.0.1:2379", server.endpoint)
        if command.split()[0] == "curl" and shutil.which("curl") is None:
            return urllib.request.urlopen(command.split()[-1]).read().decode()
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=90, check=False,
                              env={**self.environment(), "ETCDCTL_ENDPOINTS": server.endpoint})
        self.assertEqual(done.returncode, 0, f"{command}\n{done.stderr}")
        return done.stdout

    def wait_for(self, log, process, text):
        deadline = time.monotonic() + 90
        while text not in pathlib.Path(log).read_text():
            self.assertIsNone(process.poll(), log.read_text())
            self.assertLess(time.monotonic(), deadline, log.read_text())
            time.sleep(0.02)

    def test_dev_test(self):
        output, calls = self.dev("test")
        self.assert_printed(self.steps()["./dev test"], output)
        self.assertIn("all good", output)


class ThreeMembers(DevCase):
    """./dev cluster, from its first line to its last."""

    def setUp(self):
        super().setUp()
        self.server = self.home / "build/release/src/cmd/cairn"
        self.server.parent.mkdir(parents=True)
        self.server.symlink_to(harness.program("cairn").resolve())
        shutil.copy(harness.ROOT / "tools/cluster", self.home / "tools/cluster")
        (self.home / "cluster.etcd").mkdir()
        ports = {name: (harness.free_port(), harness.free_port()) for name in "abc"}
        (self.home / "cluster.etcd/ports.json").write_text(json.dumps(ports))

    def wait_for(self, text, count=1):
        deadline = time.monotonic() + 90
        while self.log.read_text().count(text) < count:
            self.assertIsNone(self.process.poll(), self.log.read_text())
            self.assertLess(time.monotonic(), deadline, self.log.read_text())
            time.sleep(0.02)
        return self.log.read_text()

    def test_it_says_who_leads_and_stops_them_all(self):
        self.log = self.home / "log"
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(["./dev", "cluster"], cwd=self.home, env=self.environment(),
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                            preexec_fn=harness.die_with_parent)
        try:
            output = self.wait_for("Ctrl-C stops them all")
            pids = dict(re.findall(r"^cluster: (\w)  \S+  pid (\d+)", output, re.M))
            self.assertEqual(list(pids), ["a", "b", "c"])
            leader = re.search(r"(\w) leads", output)[1]
            os.kill(int(pids[leader]), signal.SIGKILL)
            output = self.wait_for(" leads (term", 2)
            self.assertIn(f"{leader} has ended (SIGKILL)", output)
            self.assertNotEqual(re.findall(r"(\w) leads", output)[-1], leader)
        finally:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)
        self.assertIn("all have stopped", self.log.read_text())
        for pid in pids.values():
            self.assertFalse(pathlib.Path(f"/proc/{pid}").exists(), pid)


if __name__ == "__main__":
    harness.main()
