"""The terms and pages of fault points beside gofail's own runtime: the same requests, the same answers.

Needs tests/oracles/gofail. cairn_failpoints is the same program over Cairn's code.
"""

import contextlib
import http.client
import itertools
import queue
import subprocess
import threading

import harness

NAMES = ["afterCommit", "beforeCommit", "mapError", "raftBeforeSave", "walAfterSync", "walBeforeSync"]
POINT = "walBeforeSync"

ACTIONS = ["off", "return", "print", "return()", "return(1)", "return(-7)", 'return("abc")', "return(`a b`)",
           "return(true)", "return(false)", "sleep(1)", 'sleep("1ms")', "sleep(true)", 'sleep("x")', "sleep()", "sleep"]
MODIFIERS = ["", "1*", "2*", "0*", "100.0%", "0.0%", "2*100.0%", "100.%2*", "3*2*"]
# What gofail makes of texts that are no terms, or odd ones.
ODD = ["", " ", "of", "offf", "off-", "off->", "off->off", "off->->off", "->off", "off -> off", "off;off", "OFF",
       "returning", "return(", "return)", "return(x)", "return(abcde)", "return(1", "return( 5)", "return( 5",
       "return(05)", "return(05", "return(+5)", "return(+5", "return(5", "return(5)6", "return(12->off", "return(1.5)",
       "return(99999999999999999999)", "return(9223372036854775807)", "return(-9223372036854775808)", 'return("a',
       'return("a"', 'return("a")b', 'return("a\\"b")', 'return("\\n")', 'return("\\n\\n\\n")', 'return("é")',
       'return("a\nb")', "return(`a\\nb`)", "return(`a\nb`)", "return('a')", 'return("")', "return(``)", "return(t)",
       "return(True)", "return(TRUE)", "return(tRue)", "return(False)", "return(f)", "return(falsy)", "return(tru)",
       "return(\n1)", "return(\r1)", "return(\t1)->off", 'return( "a")', 'return( "a"', "50%off", "50.0off", "50.0%",
       "50.0%%off", "1.5*off", "3", "3*", "3*4", "3**off", "1.5%off", "150.0%return(1)", "99999999999999999999*off",
       "1.%return(1)", "1..0%off", "01*return(1)", "00.0%return(1)->return(2)", "-1*off", "()", "(1)", "1*()",
       "panic(", "sleep(10s)", 'sleep("1h', 'sleep("-1s")', "sleep(-5)", "sleep(0)", 'sleep("0")', 'sleep("")', "off()",
       "off(1)", "off(1)->return(2)", "print(1)", "print->return(1)", "1*print->1*return(3)->off", "x" * 300,
       "1*return(1)->1*return(2)->1*return(3)", "1*off->return(1)", "1*return->return(1)", "return->off"]
# Accepted; at the point the process ends, or chance decides.
NOT_REACHED = {"3*", "50.0%", "()", "(1)", "1*()", "1.5%off", "1.%return(1)"}


class Runtime:
    """One of the two programs."""

    def __init__(self, path, arguments):
        self.port = harness.free_port()
        self.process = subprocess.Popen([str(path), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, preexec_fn=harness.die_with_parent,
                                        env={"GOFAIL_HTTP": f"127.0.0.1:{self.port}"})
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        assert self.line() == b"ready"

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip(b"\n"))
        self.lines.put(None)

    def line(self):
        return self.lines.get(timeout=60)

    def ask(self, method, path, body=None):
        """(status, the headers that say something, body); None: the connection ended without an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            headers = {name: answer.getheader(name) for name in ("Content-Type", "X-Content-Type-Options", "Allow")}
            return answer.status, headers, answer.read()
        except (http.client.HTTPException, ConnectionError):
            return None
        finally:
            connection.close()

    def reach(self, name, times):
        """What the point gets each time, and what the terms print."""
        self.process.stdin.write(f"{name} {times}\n".encode())
        self.process.stdin.flush()
        lines = []
        while True:
            line = self.line()
            if line == b"." or line is None:
                return lines
            lines.append(line)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


@harness.needs("gofail", "cairn_failpoints")
class Failpoints(harness.Case):
    def setUp(self):
        super().setUp()
        self.theirs = self.runtime("gofail", NAMES)
        self.ours = self.runtime("cairn_failpoints", [])

    def runtime(self, name, arguments):
        runtime = Runtime(harness.program(name), arguments)
        self.addCleanup(runtime.end)
        return runtime

    def both(self, method, path, body=None):
        """The answer that both give."""
        theirs = self.theirs.ask(method, path, body)
        ours = self.ours.ask(method, path, body)
        self.assertEqual(ours, theirs, (method, path, body))
        return ours

    def test_terms_mean_the_same(self):
        terms = [modifiers + action for modifiers, action in itertools.product(MODIFIERS, ACTIONS)]
        terms += ["->".join(pair) for pair in itertools.permutations(["1*return(1)", "off", "print", "2*sleep(1)"], 2)]
        terms += ODD
        self.assertGreater(len(terms), 200)
        panics = 0
        for text in terms:
            body = text.encode()
            theirs, ours = (runtime.ask("PUT", "/" + POINT, body) for runtime in (self.theirs, self.ours))
            if theirs is None or theirs[0] == 200:  # its handler has panicked
                panics += 1
                self.assertEqual(ours[0], 400, text)
                continue
            self.assertEqual(ours, theirs, text)
            self.both("GET", "/" + POINT)
            if ours[0] == 204 and text not in NOT_REACHED:
                for runtime in (self.theirs, self.ours):
                    runtime.reach(POINT, 0)  # passes over what was printed about terms that cannot be read
                self.assertEqual(self.ours.reach(POINT, 4), self.theirs.reach(POINT, 4), text)
                self.both("GET", f"/{POINT}/count")
            self.both("DELETE", "/" + POINT)
            self.assertIsNone(self.ours.process.poll(), text)
        self.assertLess(panics, 20)

    def test_pages_say_the_same(self):
        ours = self.ours.ask("GET", "/")
        listed = dict(line.split("=", 1) for line in ours[2].decode().splitlines())
        self.assertTrue(set(NAMES) <= set(listed), listed)
        self.assertEqual(self.theirs.ask("GET", "/")[:2], ours[:2])
        self.assertEqual(list(listed), sorted(listed))

        name = NAMES[0]
        for method, path, body in [
                ("GET", f"/{name}", None), ("GET", f"/{name}/count", None), ("DELETE", f"/{name}", None),
                ("GET", "/none", None), ("GET", "/none/count", None), ("DELETE", "/none", None),
                ("PUT", "/none", "off"), ("PUT", "/none", ""), ("PUT", "/", "off"), ("DELETE", "/", None),
                ("PUT", f"/{name}", 'sleep("1s")'), ("GET", f"/{name}", None), ("GET", f"/{name}/count", None),
                ("PUT", f"/{name}", "x"), ("GET", f"/{name}", None), ("GET", f"/{name}?a=b", None),
                ("GET", f"//{name}", None), ("GET", f"/{name}/", None), ("GET", "/count", None), ("GET", "//count", None),
                ("POST", f"/{name}", "off"), ("PATCH", "/", None), ("HEAD", "/", None), ("OPTIONS", f"/{name}", None),
                ("PUT", "/failpoints", f"{NAMES[1]}=off;{NAMES[2]}=return(1)"), ("GET", f"/{NAMES[2]}", None),
                ("PUT", "/FailPoints", f";{NAMES[1]}=return(2);;"), ("GET", f"/{NAMES[1]}", None),
                ("PUT", "/failpoints", "a=b=c"), ("PUT", "/failpoints", "a"), ("PUT", "/failpoints", ""),
                ("PUT", "/failpoints", "none=off"), ("PUT", "/failpoints", f"{NAMES[1]}=x"),
                ("PUT", "/failpoints", f'{NAMES[1]}=return("a;b")'), ("GET", "/failpoints", None),
                ("DELETE", f"/{name}", None), ("DELETE", f"/{name}", None), ("GET", f"/{name}", None)]:
            self.both(method, path, body)

    def test_a_panic_comes_behind_the_answer_that_sets_it(self):
        for runtime in (self.theirs, self.ours):
            stop = threading.Event()

            def reach(runtime=runtime, stop=stop):
                while not stop.is_set():
                    try:
                        runtime.process.stdin.write(f"{POINT} 1\n".encode())
                        runtime.process.stdin.flush()
                        if runtime.line() is None:
                            return
                    except BrokenPipeError:
                        return

            thread = threading.Thread(target=reach)
            thread.start()
            try:
                answer = runtime.ask("PUT", "/" + POINT, "panic")
                self.assertEqual(runtime.process.wait(60), 2)
            finally:
                stop.set()
                thread.join()
            self.assertIsNotNone(answer, "the process was gone before its answer")
            self.assertEqual(answer[0], 204)
            self.assertIn(b"panic: failpoint panic: {}\n", runtime.process.stderr.read())


if __name__ == "__main__":
    harness.main()
