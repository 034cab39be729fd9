"""/debug/vars and /debug/pprof: what a tool that expects etcd's finds."""

import gzip
import http.client
import json
import shutil
import subprocess
import threading
import time

import harness


class Debug(harness.Case):
    def test_vars(self):
        server = self.server("cairn").start()
        status, headers, body = server.http("/debug/vars")
        self.assertEqual((status, headers["Content-Type"]), (200, "application/json; charset=utf-8"))
        told = json.loads(body)
        self.assertEqual(told["cmdline"], server.arguments())
        self.assertEqual(told["raft.status"]["raftState"], "StateLeader")
        self.assertGreater(told["memstats"]["Sys"], 0)
        self.assertEqual(server.http("/debug/vars", "POST")[0], 405)

    @harness.needs("etcd37")
    def test_vars_have_the_keys_of_etcd(self):
        etcd, cairn = self.side_by_side(lambda server: json.loads(server.http("/debug/vars")[2]), ("etcd37", "cairn"))
        self.assertLessEqual(set(etcd), set(cairn))
        self.assertEqual(set(etcd["raft.status"]), set(cairn["raft.status"]))

    def test_without_the_flag_there_are_no_profiles(self):
        server = self.server("cairn").start()
        for path in ("/debug/pprof/", "/debug/pprof/profile", "/debug/pprof/cmdline", "/debug/nothing"):
            self.assertEqual(server.http(path)[::2], (404, "404 page not found\n"), path)

    def test_profiles(self):
        server = self.server("cairn", flags=["--enable-pprof"]).start()
        server.wait_logged("pprof is enabled")
        self.assertEqual(server.http("/debug/pprof")[0], 307)
        self.assertIn("profile?seconds=30", server.http("/debug/pprof/")[2])
        self.assertEqual(server.http("/debug/pprof/cmdline")[2].split("\0"), server.arguments())
        self.assertEqual(server.http("/debug/pprof/symbol")[2], "num_symbols: 1\n")
        for name in ("heap", "goroutine", "nothing"):
            self.assertEqual(server.http(f"/debug/pprof/{name}")[0], 404)
        client = server.client()
        done = threading.Event()

        def load():
            while not done.is_set():
                client.put_many([(b"k/%d" % i, b"x" * 100) for i in range(200)])

        worker = threading.Thread(target=load)
        worker.start()
        try:
            profile = b""
            while not profile or b"cairn::" not in gzip.decompress(profile):  # somebody's name
                profile = self.profile(server, 2)
        finally:
            done.set()
            worker.join()
        self.assertTrue(profile.startswith(b"\x1f\x8b"))
        if shutil.which("go"):
            path = self.dir / "profile"
            path.write_bytes(profile)
            shown = subprocess.run(["go", "tool", "pprof", "-raw", str(path)], capture_output=True, text=True, timeout=300)
            self.assertIn("cairn::", shown.stdout, shown.stderr)
        # It serves as before, and another profile may be taken; two at a time may not.
        client.put(b"a", b"b")
        first = threading.Thread(target=self.profile, args=(server, 3))
        first.start()
        harness.until(lambda: self.answer(server, "/debug/pprof/profile?seconds=1")[0] == 500)
        first.join()

    @staticmethod
    def answer(server, path):
        connection = http.client.HTTPConnection("127.0.0.1", server.client_port, timeout=60)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def profile(self, server, seconds):
        for _ in range(100):
            status, body = self.answer(server, f"/debug/pprof/profile?seconds={seconds}")
            if status == 200:
                return body
            time.sleep(0.1)
        self.fail("no profile")


if __name__ == "__main__":
    harness.main()
