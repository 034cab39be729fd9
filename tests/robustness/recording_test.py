"""That the look at a recorded history sees what is plainly wrong."""

import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import harness  # noqa: E402
import recording  # noqa: E402
import rpc  # noqa: E402


def header(revision):
    return rpc.enc((3, revision))


def seen(*events):
    """A watch response with puts of (key, revision)."""
    return rpc.enc((1, header(events[-1][1])), (11, [rpc.enc((2, rpc.enc((1, key), (3, revision))))
                                                    for key, revision in events]))


class Answers:
    """In place of a connection: what it answers."""

    def __init__(self, answer):
        self.answer = answer

    def unary(self, path, message, timeout):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Contradictions(unittest.TestCase):
    def setUp(self):
        self.history = recording.History()

    def put(self, key, answer):
        try:
            self.history.call(1, 7, Answers(answer), "Put", rpc.put_request(key, b"v"), 1)
        except (OSError, rpc.GrpcError):
            pass

    def watch(self, *responses, start=1):
        made = self.history.watch(1000, 7, rpc.enc((1, b"\0"), (2, b"\0"), (3, start)), None)
        made.responses = [(i, raw) for i, raw in enumerate(responses)]

    def found(self):
        return recording.contradictions(self.history)

    def test_none(self):
        self.put(b"a", rpc.enc((1, header(2))))
        self.put(b"b", TimeoutError("no frame in time"))
        self.put(b"c", rpc.GrpcError(rpc.UNAVAILABLE, "etcdserver: request timed out"))
        self.watch(seen((b"a", 2)), seen((b"b", 3), (b"c", 3), (b"d", 4)))
        self.watch(seen((b"b", 3), (b"c", 3)), start=3)
        self.watch()
        self.assertEqual(self.found(), [])

    def test_a_write_that_nobody_saw(self):
        self.put(b"a", rpc.enc((1, header(2))))
        self.watch(seen((b"other", 2)))
        self.assertIn("put of b'a' by client 1 was acknowledged and is not in 2", self.found()[0])

    def test_a_revision_left_out(self):
        self.watch(seen((b"a", 2)), seen((b"b", 4)))
        self.assertIn("not one revision after the other", self.found()[0])

    def test_a_revision_that_comes_again(self):
        self.watch(seen((b"a", 2), (b"b", 3)), seen((b"a", 2)))
        self.watch(seen((b"b", 3), (b"a", 2)))
        self.assertIn("not one revision after the other", self.found()[0])

    def test_two_truths(self):
        self.watch(seen((b"a", 2)))
        self.watch(seen((b"b", 2)))
        self.assertIn("revision 2", self.found()[0])

    def test_lines(self):
        self.put(b"a", rpc.enc((1, header(2))))
        self.put(b"b", TimeoutError("no frame in time"))
        self.put(b"c", rpc.GrpcError(rpc.UNAVAILABLE, "etcdserver: request timed out"))
        self.watch(seen((b"a", 2)))
        with tempfile.NamedTemporaryFile("r") as file:
            self.history.write(file.name)
            watch, *puts = [json.loads(line) for line in file]
        self.assertEqual(sorted(watch["watch"]), ["call", "client", "member", "request", "responses"])
        known = ["call", "client", "member", "request", "rpc"]
        self.assertEqual([sorted(set(line["operation"]) - set(known)) for line in puts],
                         [["response", "return"], [], ["code", "error", "return"]])


if __name__ == "__main__":
    harness.main()
