"""Corners of etcd's surface that are easily missed, as a member alone meets them (tests/README.md has the list)."""

import os
import pty
import re
import resource
import select
import signal
import time

import harness
import rpc

NOSPACE = 1


class Corners(harness.Case):
    def test_the_space_alarm_does_not_clear_itself_when_told_so(self):
        flags = ["--quota-backend-bytes", str(3 << 20), "--nospace-auto-clear=false"]
        cairn = self.server("cairn", flags=flags).start()
        client = cairn.client()

        def refused():
            try:
                client.put(b"more", b"x")
            except rpc.GrpcError as error:
                self.assertEqual(error.message, "etcdserver: mvcc: database space exceeded")
                return True
            return False

        for i in range(40):
            try:
                client.put(b"k%02d" % i, b"v" * 200_000)
            except rpc.GrpcError:
                break
        self.assertEqual(client.alarm(0), [(client.status()["member_id"], NOSPACE)])
        client.delete(b"k", b"l")
        client.compact(client.revision(), physical=True)
        self.assertTrue(refused(), "there is room again, and the alarm still stands")
        cairn.stop()
        cairn.start()
        client = cairn.client()
        self.assertTrue(refused(), "also after a restart")
        self.assertEqual(client.status()["errors"][0].split(" ")[0], "memberID:%d" % client.status()["member_id"])
        client.alarm(2, client.status()["member_id"], NOSPACE)
        self.assertFalse(refused())

    def test_the_space_alarm_clears_itself(self):
        cairn = self.server("cairn", flags=["--quota-backend-bytes", str(3 << 20)]).start()
        client = cairn.client()
        with self.assertRaisesRegex(rpc.GrpcError, "database space exceeded"):
            for i in range(40):
                client.put(b"k%02d" % i, b"v" * 200_000)
        harness.until(lambda: client.alarm(0))
        client.delete(b"k", b"l")
        client.compact(client.revision(), physical=True)
        member = client.status()["member_id"]
        harness.until(lambda: not client.alarm(0))
        self.assertIn("withdraws its NOSPACE alarm", cairn.log_text())
        client.put(b"more", b"x")
        self.assertEqual(cairn.http("/health")[0], 200)
        # Only its own.
        client.alarm(1, member + 1, NOSPACE)
        client.alarm(1, member, NOSPACE)
        harness.until(lambda: (member, NOSPACE) not in client.alarm(0))
        self.assertEqual(client.alarm(0), [(member + 1, NOSPACE)])

    def test_on_a_terminal_without_an_environment(self):
        """As etcd's own tests start it: a pty, no HOME, and exactly one line that says that it is ready."""
        cairn = self.server("cairn")
        child, terminal = pty.fork()
        if child == 0:
            os.execve(cairn.arguments()[0], cairn.arguments(), {})
        self.addCleanup(os.close, terminal)
        shown = b""
        deadline = time.monotonic() + 90
        ended, is_told = None, False
        while time.monotonic() < deadline and ended is None:
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    shown += os.read(terminal, 65536)
                except OSError:
                    ended = os.waitpid(child, 0)[1]
                    break
            if b"ready to serve client requests" in shown and not is_told:
                self.assertEqual(cairn.http("/health")[0], 200)
                os.write(terminal, b"\x03")
                is_told = True
        if ended is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        self.assertIsNotNone(ended, shown)
        self.assertEqual(os.WTERMSIG(ended), signal.SIGINT)
        self.assertEqual(shown.count(b"ready to serve client requests"), 1)
        self.assertIn(b"closed etcd server", shown)

    def test_signals_that_go_programs_pass_over_end_nothing(self):
        server = self.server("cairn").start()
        for name in ("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGIO", "SIGPWR", "SIGXCPU", "SIGWINCH", "SIGPIPE"):
            server.process.send_signal(getattr(signal, name))
        server.client().put(b"k", b"v")  # a signal that ended it would have come before
        server.client().put(b"k", b"v")
        server.stop()

    def test_a_second_signal_changes_nothing(self):
        cairn = self.server("cairn").start()
        client = cairn.client()
        client.put_many((b"%d" % i, b"v" * 1000) for i in range(2000))
        cairn.process.send_signal(signal.SIGTERM)
        while "received signal" not in cairn.log_text():
            time.sleep(0.001)
        for number in (signal.SIGINT, signal.SIGTERM):
            cairn.process.send_signal(number)
        self.assertEqual(cairn.wait(), -15)
        self.assertIn("closed etcd server", cairn.log_text())
        self.check_directory(cairn.data_dir)
        cairn.start()
        self.assertEqual(cairn.client().revision(), 2001)

    def test_a_limit_on_the_size_of_files_is_named(self):
        """`ulimit -f`: the system's signal would end the process without a word."""
        limits = {resource.RLIMIT_FSIZE: 1 << 20}
        cairn = self.server("cairn", limits=limits)
        cairn.launch()
        self.assertEqual(cairn.wait(), 1)
        self.assertIn("File too large", cairn.log_text())
        cairn.limits = {}
        cairn.start()
        cairn.client().put(b"k", b"v")
        self.assertEqual(cairn.stop(), -15)

        cairn.limits = limits
        cairn.start()
        with self.assertRaises((OSError, rpc.GrpcError)):
            cairn.client().put_many((b"%d" % i, b"v" * 100_000) for i in range(20))
        self.assertEqual(cairn.wait(), 2)
        self.assertRegex(cairn.log_text(), r"the member cannot go on.*/data/member/wal/0\S*\.wal: File too large")
        cairn.limits = {}
        cairn.start()
        self.assertEqual(cairn.client().get(b"k").value, b"v")

    def test_headers_name_the_member_and_its_term(self):
        cairn = self.server("cairn").start()
        client = cairn.client()
        status = client.status()
        for service, method, message in (("KV", "Range", rpc.enc((1, b"a"))), ("KV", "Put", rpc.put_request(b"a", b"b")),
                                         ("KV", "Txn", rpc.txn_request([], [rpc.op_put(b"c", b"")])),
                                         ("Maintenance", "HashKV", b""), ("Maintenance", "Alarm", b"")):
            header = rpc.dec(rpc.first(client.call(service, method, message), 1))
            self.assertEqual([rpc.first(header, n) for n in (1, 2, 4)],
                             [status["cluster_id"], status["member_id"], status["term"]], method)
        header = rpc.dec(rpc.first(client.call("Cluster", "MemberList"), 1))
        self.assertNotIn(3, header, "answers about the cluster have no revision")

    def test_an_acknowledged_write_does_not_need_the_file(self):
        """The answer does not wait for the db: the log alone has it."""
        cairn = self.server("cairn", flags=["--backend-batch-interval", "1h"]).start()
        for i in range(20):
            cairn.client().put(b"k%d" % i, b"v")
        cairn.kill()
        cairn.flags = []
        cairn.start()
        self.assertEqual(cairn.client().revision(), 21)


class Readme(harness.Case):
    def test_names_what_there_is(self):
        text = (harness.ROOT / "tests/README.md").read_text()
        names = re.findall(r"`([A-Z]\w+\.(?!py)\w+)`", text)
        self.assertGreater(len(names), 15)
        sources = "".join(path.read_text() for pattern in ("src/**/*_test.cc", "tests/integration/*_test.py")
                          for path in harness.ROOT.glob(pattern))
        for name in names:
            suite, test = name.split(".")
            pattern = rf"TEST(_F|_P)?\({suite}, {test}\)|class {suite}\b(?s:.)*def {test}\("
            self.assertTrue(re.search(pattern, sources), name)


if __name__ == "__main__":
    harness.main()
