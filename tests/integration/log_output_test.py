"""A log whose reader stands still, as a full disk below journald makes it: the member goes on, and ends."""

import fcntl
import json
import os
import signal
import subprocess
import threading
import time

import harness
import rpc

PIPE_BYTES = 4096
CALLS = 300  # each leaves a line; more than the pipe has room for


class LogOutput(harness.Case):
    def test_a_pipe_that_nobody_reads(self):
        server = self.server("cairn", flags=["--warning-unary-request-duration", "1ns"])
        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        server.process = subprocess.Popen(server.arguments(), stdin=subprocess.DEVNULL, stdout=writing, stderr=writing,
                                          preexec_fn=harness.die_with_parent)
        os.close(writing)
        said = []

        def read_until_serving():
            while "ready to serve client requests" not in b"".join(said).decode():
                said.append(os.read(reading, PIPE_BYTES))

        reader = threading.Thread(target=read_until_serving)
        reader.start()
        reader.join(60)
        self.assertFalse(reader.is_alive(), b"".join(said))
        began = time.monotonic()
        with rpc.Client(server.client_port) as client:
            for i in range(CALLS):
                client.call("KV", "Put", rpc.put_request(b"key", str(i).encode()))
        self.assertLess(time.monotonic() - began, 10)
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(30), -signal.SIGTERM)
        with os.fdopen(reading, "rb") as rest:  # what was in the pipe: whole lines but for the last
            lines = rest.read().splitlines()[1:-1]
        self.assertTrue(all(json.loads(line) for line in lines))
        server.process = None


if __name__ == "__main__":
    harness.main()
