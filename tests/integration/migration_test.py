"""docs/migration.md, done word for word: an etcd cluster becomes Cairn's one by one, under load, and goes back."""

import re
import shlex
import sys
import pathlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "robustness"))

import clients  # noqa: E402
import cluster  # noqa: E402
import harness  # noqa: E402
import recording  # noqa: E402
import rpc  # noqa: E402

PAGE = harness.ROOT / "docs/migration.md"


def commands(heading):
    """(whether for each member, lines) of the first block of a chapter; "": of the page's beginning."""
    text = PAGE.read_text()
    chapter = text[text.index(f"## {heading}\n"):] if heading else text
    first, *lines = re.search(r"```sh\n(.*?)```", chapter, re.DOTALL)[1].splitlines()
    return first == "# for each member", lines


class Migration(cluster.ClusterCase):
    returning = False
    kind, guest = None, "cairn"

    def setUp(self):
        if self.kind is None:
            self.skipTest("the steps alone")
        cluster.require(self.kind, self.guest)
        if cluster.ctl_program() is None:
            self.skipTest("not on this machine: etcdctl")
        super().setUp()
        self.made = self.cluster([self.kind] * 3, flags=cluster.QUICK).start()
        self.history = recording.History()
        addresses = lambda: [(one.id, one.client_port) for one in self.made.members if not one.is_learner]
        self.asking = [clients.Client(i, 1, self.history, addresses) for i in range(1, 3)]
        self.watching = clients.Watcher(1000, 1, self.history, addresses)
        for one in [*self.asking, self.watching]:
            one.start()

    def finish(self):
        for one in self.asking:
            one.stop()
        for one in self.asking:
            one.join()
        self.made.wait_healthy()
        revision, _ = self.made.check_equal()
        self.assertGreater(revision, 100)
        harness.until(lambda: self.watching.seen >= revision, what=lambda: f"saw {self.watching.seen} of {revision}")
        self.watching.stop()
        self.watching.join()
        for one in [*self.asking, self.watching]:
            if one.failure is not None:
                raise one.failure
        recording.check(self, self.history, self.dir / "history.jsonl")

    # The commands

    def run_block(self, heading, kind):
        for_each, lines = commands(heading)
        leader = self.made.wait_leader()
        members = sorted(self.made.members, key=lambda one: one is leader) if for_each else [None]
        for member in members:
            for line in lines:
                self.run_line(line, member, kind)

    def run_line(self, line, member, kind):
        words = shlex.split(line)
        if words[:2] == ["systemctl", "stop"]:
            self.assertEqual(words[2], "cairn" if self.returning else "etcd")
            self.made.stop_one(member)
        elif words == ["systemctl", "start", "etcd" if self.returning else "cairn"]:
            member.kind = kind
            self.made.start_one(member)
        elif words[:3] == ["etcdctl", "member", "add"]:
            self.assertIn("--learner", words)
            self.new = self.made.add(kind, learner=True, start=False)
        elif words[0] == "cairn":
            self.assertEqual(words[1:], ["--name", "NAME", "--initial-cluster-state", "existing"])
            self.made.start_one(self.new)
        elif words == ["etcdctl", "member", "promote", "ID"]:
            self.made.promote(self.new)
        elif words == ["etcdctl", "member", "remove", "OLD"]:
            self.made.wait_healthy()
            self.made.remove(member)
        elif words == ["etcdctl", "endpoint", "health", "--cluster"]:
            harness.until(lambda: self.ctl(self.made.running(), *words[1:], check=False)[0] == 0, what=self.made.describe)
        elif words == ["etcdctl", "endpoint", "hashkv", "--cluster"]:
            harness.until(self.one_hash, what=self.made.describe)
        elif words[:3] == ["etcdctl", "snapshot", "save"]:
            self.ctl(self.made.running()[:1], "snapshot", "save", self.dir / words[3])
        else:
            self.fail(f"nobody knows how to do this: {line}")

    def one_hash(self):
        """Of one revision that all have, while clients write."""
        try:
            voters = [one for one in self.made.running() if not one.is_learner]
            revision = min(one.status()["revision"] for one in voters)
            return len({one.ask(lambda client: client.hash_kv(revision)[0]) for one in voters} - {None}) == 1
        except TypeError:  # one has no answer now
            return False

    def test_in_place_and_back(self):
        self.run_block("", None)
        self.run_block("In place", self.guest)
        self.assertEqual({one.kind for one in self.made.members}, {self.guest})
        # It stays a cluster of etcd's version, or that could not come back.
        self.assertIn(f'"etcdcluster":"3.{self.kind[-1]}.0"', self.made.members[0].http("/version")[2])
        self.returning = True
        self.run_block("Back", self.kind)
        self.assertEqual({one.kind for one in self.made.members}, {self.kind})
        self.finish()

    def test_with_new_members(self):
        self.run_block("With new members", self.guest)
        self.assertEqual({one.kind for one in self.made.members}, {self.guest})
        self.finish()


class From34(Migration):
    kind = "etcd34"


class From35(Migration):
    kind = "etcd35"


class From36(Migration):
    kind = "etcd36"


class From37(Migration):
    kind = "etcd37"


if __name__ == "__main__":
    harness.main()
