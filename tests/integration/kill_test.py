"""SIGKILL under load, many times over: what was acknowledged is there, once, at its revision, and nothing else is.

  kill_test.py --kills 200 --seed 7     by hand, for longer
"""

import shutil
import subprocess
import time

import harness

KILLS_PER_DIRECTORY = 20  # then a new one: what is proved grows with each


def add_arguments(parser):
    parser.add_argument("--kills", type=int, default=20)


@harness.needs("cairn_verify_load", "cairn_check_db")
class Kill(harness.Case):
    def load(self, server, journal, seconds, writers, compact=1):
        return subprocess.Popen([str(harness.program("cairn_verify_load")), "load", "--port", str(server.client_port),
                                 "--journal", str(journal), "--seconds", str(seconds), "--writers", str(writers),
                                 "--compact", str(compact)], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                text=True, preexec_fn=harness.die_with_parent)

    def verify(self, server, journal):
        return self.run_tool("cairn_verify_load", "verify", "--port", server.client_port, "--journal", journal)

    def test_nothing_acknowledged_is_lost(self):
        generator = self.random()
        acknowledged = 0
        for kill in range(Kill.options.kills):
            if kill % KILLS_PER_DIRECTORY == 0:
                data = self.dir / f"data{kill}"
                server, journal = self.server("cairn", data), self.dir / f"journal{kill}"
                if kill > 0:
                    shutil.rmtree(self.dir / f"data{kill - KILLS_PER_DIRECTORY}")
            server.start()
            load = self.load(server, journal, 60, generator.choice((1, 8, 64)))
            try:
                time.sleep(generator.uniform(0.05, 1.2))
                server.kill()
                output, _ = load.communicate(timeout=90)
            finally:
                load.kill()
                load.wait()
            self.assertEqual(load.returncode, 2, "the load ends when the connection does")
            # Nothing is printed when the server was killed before the load had connected.
            acknowledged += int((output.split() or ["0"])[-1])
            self.check_directory(server.data_dir, mutate=200 if kill % 10 == 9 else 0)
            server.start()
            self.verify(server, journal)
            # Ended in another way: what is verified here must hold at the next start as well.
            if generator.random() < 0.3:
                self.assertEqual(server.stop(), -15)
            else:
                server.kill()
        self.assertGreater(acknowledged, 10 * Kill.options.kills)
        print(f"kill_test: {Kill.options.kills} kills, {acknowledged} acknowledged operations", flush=True)

    def test_the_proof_sees_what_is_wrong(self):
        server = self.server("cairn").start()
        journal = self.dir / "journal"
        load = self.load(server, journal, 0.3, 8)
        load.communicate(timeout=90)
        self.verify(server, journal)
        lines = journal.read_text().splitlines()
        own = next(line.split() for line in lines if line[0] == "o" and line.split()[4] != "0")
        client = server.client()

        def refused(text):
            journal.write_text("\n".join(lines) + "\n" + text)
            done = self.run_tool("cairn_verify_load", "verify", "--port", server.client_port, "--journal", journal,
                                 check=False)
            self.assertEqual(done.returncode, 1, done.stdout)
            return done.stdout

        self.assertIn("lost: operation", refused(f"o 7 999999 0 {client.revision() + 1} 0\n"))
        self.assertIn("of two operations", refused(f"o 7 999999 0 {own[4]} 0\n"))
        self.assertIn("nobody wrote revision", refused(f"o {own[1]} {own[2]} 0 0 1\n"))
        client.put(b"own/000/00000000z", b"")
        self.assertIn("invented", refused(""))

    def test_killed_during_the_start(self):
        generator = self.random()
        server = self.server("cairn")
        journal = self.dir / "journal"
        server.start()
        load = self.load(server, journal, 60, 32)
        time.sleep(1.5)
        server.kill()
        load.communicate(timeout=90)
        for _ in range(min(10, Kill.options.kills)):
            server.launch()
            time.sleep(generator.uniform(0.0, 0.12))
            server.kill()
        self.check_directory(server.data_dir)
        server.start()
        self.verify(server, journal)

    def test_paused_server_goes_on(self):
        server = self.server("cairn").start()
        journal = self.dir / "journal"
        load = self.load(server, journal, 2, 32)
        for _ in range(3):
            time.sleep(0.2)
            server.process.send_signal(19)  # SIGSTOP
            time.sleep(0.3)
            server.process.send_signal(18)  # SIGCONT
        output, _ = load.communicate(timeout=90)
        self.assertEqual(load.returncode, 0, output)
        self.verify(server, journal)
        self.assertEqual(server.stop(), -15)
        self.check_directory(server.data_dir)


if __name__ == "__main__":
    harness.main(add_arguments)
