"""Clients that want nothing but their answers while others attack, and a watch on the server's memory.

A process of its own, so that an attacker that is busy does not look like a server that is slow. It says "ready" once
each of its clients was served, goes on until its input ends, and then prints what it saw as JSON. Each client asks one
thing at a time, so many times a second. What a stall keeps from being asked counts as asked and late, as if the client
had not waited: otherwise a stall of two seconds would be one slow answer among hundreds of fast ones.

    python3 bystanders.py --port 2379 --pid 4711 --clients get,put,page,dial
"""

import argparse
import json
import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
import rpc  # noqa: E402

CALL_SECONDS_MAX = 20.0
LAST_SECONDS_MAX = 10.0  # for the answers that are due when it ends
MEMORY_PERIOD_SECONDS = 0.02
PAGE_KEYS = 1500


def get(client, _number):
    client.range(b"bystander/get")


def put(client, number):
    client.put(b"bystander/put", b"%d" % number)


def page(client, _number):
    """An ordinary list, as a controller reads it page by page."""
    client.range(b"k/", b"k0", limit=PAGE_KEYS)


def dial(client, _number):
    """A newcomer: connects, asks once, leaves."""
    with rpc.Client(client.connection.port, timeout=CALL_SECONDS_MAX) as newcomer:
        newcomer.metadata = client.metadata
        newcomer.range(b"bystander/get")


# name -> (question, seconds between two of them)
CLIENTS = {"get": (get, 0.01), "put": (put, 0.01), "page": (page, 0.05), "dial": (dial, 0.1)}


class Bystander(threading.Thread):
    def __init__(self, name, port, token, stop):
        super().__init__(daemon=True)
        self.question, self.period = CLIENTS[name]
        self.port, self.stop = port, stop
        self.metadata = (("token", token),) if token else ()
        self.served = threading.Event()
        self.seconds, self.failures = [], []
        self.began = None  # the question that has no answer yet

    def run(self):
        client, number = None, 0
        due = time.monotonic()
        while not self.stop.wait(max(0.0, due - time.monotonic())):
            self.began = began = time.monotonic()
            try:
                if client is None:
                    client = rpc.Client(self.port, timeout=CALL_SECONDS_MAX)
                    client.metadata = self.metadata
                number += 1
                self.question(client, number)
                self.served.set()
            except (OSError, rpc.GrpcError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                if client is not None and not isinstance(error, rpc.GrpcError):
                    client.close()
                    client = None
            self.note(time.monotonic() - began)
            self.began = None
            due = began + self.period

    def note(self, seconds):
        while seconds > 0:
            self.seconds.append(seconds)
            seconds -= self.period  # the next one would have been asked meanwhile

    def report(self):
        began = self.began
        if began is not None:
            self.note(time.monotonic() - began)
        seconds = sorted(self.seconds)

        def at(share):
            return seconds[min(len(seconds) - 1, int(len(seconds) * share))] if seconds else None

        return {"count": len(seconds), "p50": at(0.5), "p99": at(0.99), "worst": at(1.0), "failed": len(self.failures),
                "failure": self.failures[0] if self.failures else None, "unanswered": began is not None}


class MemoryWatch(threading.Thread):
    """The largest anonymous memory of a process, in KB."""

    def __init__(self, pid, stop):
        super().__init__(daemon=True)
        self.path, self.stop = pathlib.Path(f"/proc/{pid}/status"), stop
        self.first_kb = self.peak_kb = 0

    def run(self):
        while not self.stop.wait(MEMORY_PERIOD_SECONDS):
            try:
                text = self.path.read_text()
            except OSError:
                return  # it has ended
            at = text.find("RssAnon:")
            if at < 0:
                return
            now_kb = int(text[at + 8:].split(None, 1)[0])
            self.first_kb = self.first_kb or now_kb
            self.peak_kb = max(self.peak_kb, now_kb)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--clients", default="get,put")
    parser.add_argument("--token", default="")
    options = parser.parse_args()
    stop = threading.Event()
    clients = {name: Bystander(name, options.port, options.token, stop) for name in options.clients.split(",")}
    memory = MemoryWatch(options.pid, stop)
    for thread in (memory, *clients.values()):
        thread.start()
    for client in clients.values():
        client.served.wait(CALL_SECONDS_MAX)
    print("ready", flush=True)
    sys.stdin.read()
    stop.set()
    deadline = time.monotonic() + LAST_SECONDS_MAX
    for client in clients.values():  # one that still waits is reported with how long it has waited
        client.join(max(0.0, deadline - time.monotonic()))
    report = {name: client.report() for name, client in clients.items()}
    report["memory"] = {"first_kb": memory.first_kb, "peak_kb": memory.peak_kb}
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
