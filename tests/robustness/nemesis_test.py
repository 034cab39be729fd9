"""That faults without effect are told apart from those that have one."""

import pathlib
import sys
import types
import unittest
import unittest.mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import harness  # noqa: E402
import nemesis  # noqa: E402


class Proxy:
    """Counts what a member says; takes the faults of links, and does nothing."""

    said = 0

    def bytes_sent(self):
        self.said += 100
        return {("a", "b"): self.said, ("b", "a"): self.said}

    def __getattr__(self, name):
        return lambda *arguments: None


class Member:
    """One that hears what the proxy lets through."""

    disk = clock = None
    kind = "etcd37"

    def __init__(self, name, number, hears):
        self.name, self.id, self.hears, self.heard = name, number, hears, 0

    def metric(self, name, *labels):
        self.heard += self.hears
        return self.heard


@unittest.mock.patch("time.sleep", lambda seconds: None)
class Effects(unittest.TestCase):
    def nemesis(self, faults, hears=0, leader=0):
        members = [Member("a", 1, hears), Member("b", 2, hears)]
        cluster = types.SimpleNamespace(members=members, leader=lambda: members[leader] if leader is not None else None)
        return nemesis.Nemesis(cluster, Proxy(), 1, faults, [], [one.kind for one in members])

    def test_a_link_that_is_cut(self):
        one = self.nemesis(["isolate"])
        one.run(0.01)
        one.inflict("isolate")
        self.assertEqual(one.without_effect(), [])
        self.assertEqual(one.tried, one.effective)

    def test_a_link_that_goes_on_is_tried_again_and_named(self):
        one = self.nemesis(["isolate", "mute_leader"], hears=1)
        one.inflict("isolate")
        one.run(0)
        self.assertEqual(one.without_effect(), ["isolate"])
        self.assertEqual(one.report(), f"isolate 0 of {1 + nemesis.TRIES_MAX}")

    def test_nobody_leads(self):
        one = self.nemesis(["move", "kill_leader"], leader=None)
        for name in one.faults:
            one.inflict(name)
        self.assertEqual(one.without_effect(), ["kill_leader", "move"])

    def test_what_cannot_be_here_is_not_tried(self):
        one = self.nemesis(["full_disk", "set_clock", "kill"])
        self.assertEqual(one.faults, ["kill"])
        self.assertEqual(one.report(), "; left out: full_disk, set_clock")


if __name__ == "__main__":
    harness.main()
