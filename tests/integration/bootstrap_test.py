"""What a start makes of a directory of several members: beside etcd's, with etcd's, and for etcd to go on with."""

import json
import subprocess

import cluster
import harness
import rpc

SCHEMA = {"etcd34": 0, "etcd37": 3}


class Bootstrap(cluster.ClusterCase):
    maxDiff = None

    def bootstrap(self, member, *flags, data_dir=None):
        """What cairn_bootstrap prints for this member: a dict, or the text of its error."""
        command = [str(harness.program("cairn_bootstrap")), "--token", member.token, *flags, member.name,
                   str(data_dir or member.data_dir), member.initial_cluster]
        done = subprocess.run(command, capture_output=True, text=True, timeout=cluster.PATIENCE_S, check=False)
        self.assertIn(done.returncode, (0, 1), done.stderr)
        return json.loads(done.stdout) if done.returncode == 0 else done.stdout.rstrip("\n")

    def etcds_error(self, member, state="existing"):
        """Why etcd does not start with the same."""
        member.initial_state = state
        member.launch()
        harness.until(lambda: not member.running())
        self.assertEqual(member.process.returncode, 1)
        errors = [line["error"] for line in member.log_lines() if line["msg"] == "discovery failed"]
        self.assertTrue(errors, member.log_tail())
        return errors[-1]  # earlier starts may be in it

    def members_of(self, some):
        return {number: (name, sorted(peers), learner) for number, (name, peers, learner) in some.listed().items()}

    def check_opens(self, kind):
        cluster.require(kind)
        three = self.cluster([kind] * 3, name=kind).start()
        three.do(lambda client: client.put(b"a", b"1"))
        members = self.members_of(three)
        three.stop()
        for one in three.members:
            for _ in range(2):  # nothing is lost by it
                found = self.bootstrap(one)
                self.assertIsInstance(found, dict, found)
                self.assertEqual(found["id"], one.id)
                self.assertEqual({m["id"]: (m["name"], m["peerURLs"], m.get("isLearner", False))
                                  for m in found["members"]}, members)
                self.assertEqual(found["schema"], SCHEMA[kind])
                self.assertEqual(found["remotes"], 0)
        three.start()  # etcd goes on with it
        self.assertEqual(three.do(lambda client: client.get(b"a")).value, b"1")

    def test_directories_of_34_open(self):
        self.check_opens("etcd34")

    def test_directories_of_37_open(self):
        self.check_opens("etcd37")

    def check_founds(self, kind):
        """Members that begin in directories of Cairn's making are one cluster with one that etcd has founded."""
        cluster.require(kind)
        three = self.cluster([kind] * 3, name=kind)
        for one in three.members[:2]:
            founded = self.bootstrap(one)
            self.assertIsInstance(founded, dict, founded)
            self.assertEqual((founded["last"], founded["applied"], founded["members"]), (3, 0, []))
        three.start()
        self.assertEqual(len(three.listed()), 3)
        three.do(lambda client: client.put(b"a", b"1"))
        three.check_equal()

    def test_what_it_founds_37_goes_on_with(self):
        self.check_founds("etcd37")

    def check_joins(self, kind):
        cluster.require(kind)
        two = self.cluster([kind] * 2, name=kind).start()
        two.do(lambda client: client.put(b"a", b"1"))
        third = two.add(kind, learner=True, start=False)
        for flags in (("--existing",), ()):  # once it has joined, flags count for nothing
            joined = self.bootstrap(third, *flags)
            self.assertIsInstance(joined, dict, joined)
            self.assertEqual(joined["id"], third.id)
            self.assertEqual((joined["last"], joined["applied"], joined["members"]), (0, 0, []))
            self.assertEqual(joined["schema"], SCHEMA[kind])
            self.assertEqual(joined["remotes"], 2 if flags else 0)
        two.start_one(third)  # etcd joins from there
        harness.until(lambda: two.listed()[third.id][0] == third.name)
        two.promote(third)
        two.do(lambda client: client.put(b"a", b"2"))  # 3.4 writes with it how far it has applied the log
        two.check_equal()
        two.stop()
        self.assertEqual({m["id"] for m in self.bootstrap(third)["members"]}, {one.id for one in two.members})

    def test_what_joins_34_etcd_goes_on_with(self):
        self.check_joins("etcd34")

    def check_opens_what_joined(self, kind):
        """At each moment of its life the directory of a member that joined opens, however little of its log the db has
        applied (3.4 writes the index of a change of members with the next put). What it lacks stands in the log."""
        cluster.require(kind)
        two = self.cluster([kind] * 2, name=kind).start()
        two.do(lambda client: client.put(b"a", b"1"))
        third = two.add(kind, learner=True)
        seen = [self.bootstrap_copy(third)]
        two.promote(third)
        seen.append(self.bootstrap_copy(third))
        two.do(lambda client: client.put(b"a", b"2"))
        two.wait_equal()
        seen.append(self.bootstrap_copy(third))
        two.stop()
        seen.append(self.bootstrap_copy(third))
        for found in seen:
            self.assertIsInstance(found, dict, found)
            self.assertEqual(found["id"], third.id)
        self.assertEqual({m["id"] for m in seen[-1]["members"]}, {one.id for one in two.members})
        self.assertEqual(seen[-1]["schema"], SCHEMA[kind])

    def bootstrap_copy(self, member):
        """Of a copy, made while the member is stopped."""
        runs = member.running()
        if runs:
            member.pause()
        copy = self.dir / "copy"
        harness.shutil.rmtree(copy, ignore_errors=True)
        harness.shutil.copytree(member.data_dir, copy)
        if runs:
            member.resume()
        return self.bootstrap(member, data_dir=copy)

    def test_directories_of_34_that_joined_open(self):
        self.check_opens_what_joined("etcd34")

    def test_directories_of_37_that_joined_open(self):
        self.check_opens_what_joined("etcd37")

    def test_what_joins_37_etcd_goes_on_with(self):
        self.check_joins("etcd37")

    def test_refusals_have_etcds_words(self):
        cluster.require("etcd37")
        two = self.cluster(["etcd37"] * 2).start()
        third = two.add("etcd37", start=False)
        right = third.initial_cluster
        first = two.members[0]
        wrong = {
            "one too few": ",".join(part for part in right.split(",") if not part.startswith(first.name + "=")),
            "another URL": right.replace(first.peer_url, f"http://127.0.0.1:{harness.free_port()}"),
            "nobody there": f"{third.name}={third.peer_url},x=http://127.0.0.1:{harness.free_port()}",
        }
        for what, text in wrong.items():
            with self.subTest(what):
                third.initial_cluster = text
                fresh = self.dir / f"cairn-{what}"
                said = self.bootstrap(third, "--existing", data_dir=fresh)
                self.assertFalse(fresh.exists())
                theirs = self.etcds_error(third)
                if what == "nobody there":
                    self.assertEqual(said, theirs)
                else:  # its members come in any order
                    shape = lambda error: (error[:error.index("{")], error[error.rindex("}"):].split("(")[0],
                                           sorted(error))
                    self.assertEqual(shape(said), shape(theirs), (said, theirs))
                harness.shutil.rmtree(third.data_dir, ignore_errors=True)

    def test_a_founder_that_has_served_is_refused_as_by_etcd(self):
        cluster.require("etcd37")
        three = self.cluster(["etcd37"] * 3).start()
        lost = three.follower()
        three.kill(lost)
        harness.shutil.rmtree(lost.data_dir)
        said = self.bootstrap(lost)
        self.assertEqual(said, f"member {lost.id:x} has already been bootstrapped")
        self.assertEqual(said, self.etcds_error(lost, state="new"))


if __name__ == "__main__":
    harness.main()
