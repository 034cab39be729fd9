"""cairn_proxy (tests/robustness/proxy.cc) as an object: faults on the links between members, and from clients."""

import http.client
import itertools
import subprocess
import threading
import time

import harness


def answer_seconds(port, peer_url=None, more_bytes=0, seconds_max=5):
    """How long a member takes to answer a request of so many bytes more that comes through a proxy's port; None: not in
    time, or never. `peer_url`: of the member in whose name it is asked, none for a client."""
    headers = {"X-PeerURLs": peer_url} if peer_url else {}
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds_max)
    try:
        connection.request("GET", "/version", headers=headers | {"X-More": "x" * more_bytes})
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return time.monotonic() - began


class Proxy:
    """A process; ends with close() or with the thread that made it. A link is the bytes from `a` to `b`."""

    def __init__(self):
        harness.require("cairn_proxy")
        self.process = subprocess.Popen([str(harness.program("cairn_proxy"))], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, preexec_fn=harness.die_with_parent)
        self.lock = threading.Lock()
        self.names = []

    def close(self):
        self.process.kill()
        self.process.communicate()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def tell(self, *words):
        with self.lock:
            self.process.stdin.write(" ".join(map(str, words)) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline().strip()
        if not answer.startswith("ok"):
            raise AssertionError(f"cairn_proxy: {words}: {answer or 'it has ended'}")
        return answer

    # Ends

    def add(self, name, listen_port, target_port, dialler=""):
        """`dialler`: the name of all who connect (clients). Otherwise members, who say who they are."""
        self.tell("add", name, listen_port, target_port, dialler)
        if not dialler:
            self.names.append(name)

    def remove(self, name):
        self.tell("remove", name)
        self.names = [one for one in self.names if one != name]

    def refuse(self, name):
        self.tell("refuse", name)

    def accept(self, name):
        self.tell("accept", name)

    # Links

    def hold(self, a, b):
        """A cable that is out, one way: what is sent waits, and nothing is heard of new connections."""
        self.tell("hold", a, b)

    def drop(self, a, b):
        """As hold(), and what was sent is lost: heal() resets the connections that it was lost from."""
        self.tell("drop", a, b)

    def delay(self, a, b, milliseconds, jitter=0):
        self.tell("delay", a, b, milliseconds, jitter)

    def rate(self, a, b, bytes_per_second):
        self.tell("rate", a, b, bytes_per_second)

    def reset(self, a, b):
        """Connections end for both."""
        self.tell("reset", a, b)

    def vanish(self, a, b):
        """Connections end for b; a is not told: they are half open."""
        self.tell("vanish", a, b)

    def heal(self, a, b):
        self.tell("pass", a, b)
        self.tell("delay", a, b, 0)
        self.tell("rate", a, b, 0)

    # Several at a time

    def partition(self, *groups, how="drop"):
        """Members of different groups do not hear each other."""
        for one, other in itertools.permutations(groups, 2):
            for a, b in itertools.product(one, other):
                self.tell(how, a, b)

    def isolate(self, name, how="drop"):
        self.partition([name], [one for one in self.names if one != name], how=how)

    def heal_all(self):
        for a, b in itertools.permutations(self.names, 2):
            self.heal(a, b)

    def bytes_sent(self):
        """(a, b) -> bytes so far."""
        pairs = [one.rsplit(":", 1) for one in self.tell("stats").split()[1:]]
        return {tuple(names.split(">")): int(count) for names, count in pairs}
