"""Clusters of real processes, of any kinds: started, hurt, changed and compared.

A cluster belongs to one thread: servers die with the thread that started them. All waiting is for conditions, with a
bound that a slow machine does not reach.
"""

import http.client
import json
import os
import pathlib
import struct
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "robustness"))

import disks  # noqa: E402
import harness  # noqa: E402
import rpc  # noqa: E402

PATIENCE_S = 120
QUICK = ["--heartbeat-interval", "50", "--election-timeout", "500"]
SHORT_LOG = ["--snapshot-count", "50", "--snapshot-catchup-entries", "10"]  # who was away soon needs a snapshot
SHORTEST_LOG = ["--snapshot-count", "50", "--snapshot-catchup-entries", "5", "--backend-batch-interval", "50ms"]
SILENT_S = 1.5  # three election timeouts of these: whoever said nothing is not counted upon


def require(*kinds):
    """Skips the running test where one of these kinds is not on this machine."""
    harness.require(*sorted(set(kinds)))


class Member(harness.Server):
    """A server that may be one of many. Its data directory outlives it, so that a server of another kind may take it."""

    id = 0
    is_learner = False
    is_paused = False
    failpoint_port = None  # where its fault points are set, if it has them
    variables = {}         # of its environment, beside PATH
    front_port = None      # of a proxy between clients and this member
    disk = None            # of its own, below its data directory
    clock = None           # where a test may shift its clocks

    @property
    def peer_url(self):
        """As the others know it: where the proxy listens if there is one."""
        return f"{self.peer_scheme}://127.0.0.1:{self.peer_port}"

    def ask(self, question, timeout=5.0):
        """question(client), over a connection of its own; None if the member does not answer in time, or refuses."""
        if not self.running() or self.is_paused:
            return None
        try:
            with rpc.Client(self.client_port, timeout=timeout) as client:
                return question(client)
        except (OSError, rpc.GrpcError):
            return None

    def status(self, timeout=5.0):
        return self.ask(rpc.Client.status, timeout)

    def launch(self, environment=None):
        self.is_paused = False
        if environment is None:
            environment = {"PATH": os.environ["PATH"], **self.variables}
        if self.failpoint_port:
            environment["GOFAIL_HTTP"] = f"127.0.0.1:{self.failpoint_port}"
        super().launch(environment)
        if self.disk:
            self.disk.take(self.process.pid)
        return self

    def _ask_failpoints(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.failpoint_port, timeout=30)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            text = answer.read().decode()
            if answer.status >= 300:
                raise AssertionError(f"{method} {path} {body}: {answer.status} {text}")
            return text
        finally:
            connection.close()

    def set_failpoint(self, point, term):
        self._ask_failpoints("PUT", f"/{point}", term)

    def failpoint_count(self, point):
        """How many of its terms were carried out since they were set."""
        return int(self._ask_failpoints("GET", f"/{point}/count"))

    def newest_snapshot(self):
        """Its index, as of its log's lines."""
        return max([json.loads(line)["snapshot-index"] for line in self.log_text().splitlines()
                    if '"saved snapshot"' in line], default=0)

    def snapshots_sent(self, *labels):
        """To other members, since it started."""
        return self.metric("etcd_network_snapshot_send_success", *labels)

    def misses(self, other):
        """Whether it has noticed that there is no connection to the other one."""
        return self.metric("etcd_network_active_peers", f'Remote="{other.id:x}"') == 0

    def pause(self):
        super().pause()
        self.is_paused = True

    def resume(self):
        super().resume()
        self.is_paused = False


class Clock:
    """What tests/time/shifted_clock.cc adds to the clocks of a process."""

    def __init__(self, path):
        self.path, self.shift_ns, self.day_ns = path, 0, 0
        self.write()

    def variables(self):
        return {"LD_PRELOAD": str(harness.program("cairn_shifted_clock.so").resolve()), "CAIRN_SHIFTED_CLOCK": str(self.path)}

    def shift(self, seconds):
        """All clocks: it looks as if the process had been stopped for so long."""
        self.shift_ns += int(seconds * 1e9)
        self.write()

    def set_day(self, seconds):
        """The clock of the day alone, to so much before or behind what it is."""
        self.day_ns = int(seconds * 1e9)
        self.write()

    def ahead_s(self):
        """Of the day's clock."""
        return (self.shift_ns + self.day_ns) / 1e9

    def write(self):
        with open(self.path, "r+b" if self.path.exists() else "w+b") as file:
            file.write(struct.pack("<qQq", self.shift_ns, 0, self.day_ns))


class Cluster:
    """Members in directories below one of its own. `proxy`, if any, stands in front of every member's peer port, and
    for clients that want it at front_port, where a member is called <name>.c and who dials "clients". With `failpoints`
    members of kind cairn serve theirs. `flags_of` gives further flags by name; `disk_megabytes`: each member has a disk
    of its own of this size; with `clocks` those of members of kind cairn can be shifted."""

    def __init__(self, directory, kinds, flags=(), proxy=None, token="cluster", limits=None, failpoints=False,
                 variables=None, peer_scheme="http", flags_of=lambda name: [], disk_megabytes=0,
                 clocks=False):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.flags, self.proxy, self.token, self.limits = list(flags), proxy, token, limits
        self.failpoints, self.variables = failpoints, variables or {}
        self.peer_scheme, self.flags_of, self.disk_megabytes, self.clocks = peer_scheme, flags_of, disk_megabytes, clocks
        self.members = []
        self.gone = []  # removed ones: their logs are printed too
        self._made = 0
        for kind in kinds:
            self.members.append(self._make(kind))
        text = ",".join(f"{one.name}={one.peer_url}" for one in self.members)
        for one in self.members:
            one.initial_cluster, one.initial_state = text, "new"

    def _make(self, kind):
        self._made += 1
        name = f"m{self._made}"
        ports = (harness.free_port(), harness.free_port())
        behind = harness.free_port() if self.proxy else None
        disk = disks.Disk(self.dir / f"{name}.disk", self.disk_megabytes) if self.disk_megabytes else None
        member = Member(kind, disk.dir / name if disk else self.dir / name, name=name, ports=ports,
                        flags=self.flags + self.flags_of(name), token=self.token, listen_peer_port=behind, limits=self.limits)
        if disk:
            member.disk, member.log_path = disk, self.dir / member.log_path.name
        member.variables, member.peer_scheme = dict(self.variables), self.peer_scheme
        if self.clocks and kind == "cairn" and harness.program("cairn_shifted_clock.so").exists():
            member.clock = Clock(self.dir / f"{name}.clock")
            member.variables |= member.clock.variables()
        if self.failpoints and kind == "cairn":
            member.failpoint_port = harness.free_port()
        if self.proxy:
            self.proxy.add(name, listen_port=ports[1], target_port=behind)
            member.front_port = harness.free_port()
            self.proxy.add(f"{name}.c", member.front_port, ports[0], "clients")
            self._refuse(member)  # nothing listens there yet
        return member

    def _refuse(self, member):
        if self.proxy:
            self.proxy.refuse(member.name)
            self.proxy.refuse(f"{member.name}.c")

    def __getitem__(self, name):
        return next(one for one in self.members if one.name == name)

    # Processes

    def launch(self, member):
        """Starts it, and does not wait."""
        member.launch()
        if self.proxy:
            self.proxy.accept(member.name)
            self.proxy.accept(f"{member.name}.c")
        return member

    def start(self):
        """All members, and waits until they serve."""
        for one in self.members:
            if not one.running():
                self.launch(one)
        for one in self.members:
            one.wait_ready(PATIENCE_S)
        self.wait_healthy()
        for one in self.members:
            one.id = one.status()["member_id"]
        return self

    def start_one(self, member):
        return self.launch(member).wait_ready(PATIENCE_S)

    def kill(self, member):
        """SIGKILL. A proxy refuses connections from then on, as the system does where nobody listens."""
        member.kill()
        self._refuse(member)

    def stop_one(self, member, seconds_max=PATIENCE_S):
        code = member.stop(seconds_max)
        self._refuse(member)
        return code

    def release_log(self, index):
        """Writes until no member that runs has the log behind `index`, which one that is stopped ends with."""
        time.sleep(SILENT_S)  # for who has just answered, a leader keeps it

        def is_behind():
            # A snapshot stands for the last but one commit of the db: so writes go on.
            self.do(lambda client: client.put_many((b"k/%03d" % i, b"x" * 1000) for i in range(60)))
            return all(one.newest_snapshot() > index + 10 for one in self.running())

        harness.until(is_behind, PATIENCE_S, lambda: self.describe(log_bytes=2000))

    def restart(self, member, kind=None):
        """Stops it and starts it again, as a server of another kind if one is given."""
        self.stop_one(member)
        member.kind = kind or member.kind
        return self.start_one(member)

    def stop(self):
        """All at once; what each ended with."""
        for one in self.members:
            if one.running():
                one.close_clients()
                one.process.terminate()
        return [one.wait() for one in self.members if one.process is not None]

    def close(self):
        for one in self.members + self.gone:
            if one.disk:
                one.disk.end_of_stall()  # until then it cannot end
            one.kill()
            self._close_disk(one)

    def _close_disk(self, member):
        if member.disk:
            member.disk.close()
            member.disk = None

    # What it is like

    def running(self):
        return [one for one in self.members if one.running() and not one.is_paused]

    def snapshots_sent(self):
        return sum(one.snapshots_sent() for one in self.running())

    def leader(self):
        """The member that leads, as itself and a majority of the voters say of the newest term; None: nobody, now."""
        told = {}
        voters = [one for one in self.members if not one.is_learner]
        for one in self.running():
            status = one.status(timeout=2)
            if status is not None:
                told[one.name] = status
        if not told:
            return None
        term = max(status["raft_term"] for status in told.values())
        for one in self.members:
            status = told.get(one.name)
            if status is None or status["raft_term"] != term or status["leader"] != status["member_id"]:
                continue
            agree = sum(told[voter.name]["leader"] == status["member_id"] and told[voter.name]["raft_term"] == term
                        for voter in voters if voter.name in told)
            if agree * 2 > len(voters):
                one.id = status["member_id"]
                return one
        return None

    def wait_leader(self, other_than=None, seconds=PATIENCE_S):
        found = []

        def one_leads():
            found[:] = [self.leader()]
            return found[0] is not None and found[0] is not other_than

        harness.until(one_leads, seconds, lambda: f"no leader in {seconds} s\n{self.describe()}")
        return found[0]

    def follower(self):
        leader = self.wait_leader()
        return next(one for one in self.running() if one is not leader and not one.is_learner)

    def wait_healthy(self, seconds=PATIENCE_S):
        """Until one leads, and each running member answers a linearizable read (a learner: a serializable one)."""
        self.wait_leader(seconds=seconds)
        for one in self.running():
            harness.until(lambda: one.ask(lambda client: client.range(b"h", serializable=one.is_learner)) is not None,
                          seconds, lambda: f"{one.name} does not answer\n{self.describe()}")

    def wait_equal(self, seconds=PATIENCE_S):
        """Until all running members have applied the same entries; the revision then. Needs clients that are quiet."""
        seen = []

        def equal():
            seen[:] = [one.status() for one in self.running()]
            return all(seen) and seen[0]["raft_index"] == seen[0]["applied"] and \
                len({(s["revision"], s["raft_index"], s["applied"], s["raft_term"]) for s in seen}) == 1

        harness.until(equal, seconds, lambda: f"not equal in {seconds} s: {seen}\n{self.describe()}")
        return seen[0]["revision"]

    def check_equal(self):
        """The same revision and the same HashKV everywhere, both; a learner, which has no HashKV, has the same keys."""
        revision = self.wait_equal()
        hashes = {}
        for one in self.running():
            if one.is_learner:
                keys = lambda client: client.all(revision, serializable=True)
                if self.do(keys, one) != self.do(keys, self.follower()):
                    raise AssertionError(f"keys at revision {revision} differ\n{self.describe()}")
                continue
            hashes[one.name] = self.do(lambda client: client.hash_kv(revision), one)
        if len(set(hashes.values())) != 1:
            raise AssertionError(f"HashKV at revision {revision} differs: {hashes}\n{self.describe()}")
        return revision, next(iter(hashes.values()))

    def do(self, question, member=None, seconds=PATIENCE_S):
        """question(client) of a member (of each running one in turn if none is given) until it is answered. What had no
        answer may have been carried out all the same: so a question is one that may be asked twice."""
        answers, refused = [], []

        def answered():
            for one in [member] if member else self.running():
                try:
                    with rpc.Client(one.client_port, timeout=10) as client:
                        answers.append(question(client))
                        return True
                except (OSError, rpc.GrpcError) as error:
                    refused.append(f"{one.name}: {error}")
            return False

        harness.until(answered, seconds, lambda: f"no answer: {refused[-3:]}\n{self.describe()}")
        return answers[0]

    # Changes

    def _change(self, call, done=lambda: False):
        """Asks the leader until it is done. A change may be refused for some seconds (etcd wants members that are
        connected for five), and one that timed out may have been made all the same."""
        refused = []

        def changed():
            if refused and done():
                return True
            try:
                with rpc.Client(self.wait_leader().client_port, timeout=30) as client:
                    refused.append(call(client))
                    return True
            except (OSError, rpc.GrpcError) as error:
                if isinstance(error, rpc.GrpcError) and error.code in (rpc.INVALID_ARGUMENT, rpc.UNIMPLEMENTED):
                    raise
                refused.append(error)
                return False

        harness.until(changed, PATIENCE_S, lambda: f"refused: {refused[-1]}\n{self.describe()}")

    def listed(self):
        """id -> (name, peer URLs, is learner), as the leader says."""
        members = self.do(rpc.Client.members, self.wait_leader())
        return {number: (name, peers, learner) for number, name, peers, _, learner in members}

    def add(self, kind, learner=False, start=True):
        """A new member; it knows the others as the leader lists them."""
        member = self._make(kind)
        is_listed = lambda: any(member.peer_url in peers for _, peers, _ in self.listed().values())
        self._change(lambda client: client.call("Cluster", "MemberAdd", rpc.enc((1, member.peer_url), (2, learner))),
                     is_listed)
        text = []
        for number, (name, peers, _) in self.listed().items():
            if member.peer_url in peers:
                member.id, name = number, member.name
            text += [f"{name}={peer}" for peer in peers]
        member.initial_cluster, member.initial_state, member.is_learner = ",".join(text), "existing", learner
        self.members.append(member)
        return self.start_one(member) if start else member

    def promote(self, member):
        self._change(lambda client: client.call("Cluster", "MemberPromote", rpc.enc((1, member.id))),
                     lambda: not self.listed()[member.id][2])
        member.is_learner = False

    def remove(self, member):
        """Takes it out of the cluster and ends its process."""
        self._change(lambda client: client.call("Cluster", "MemberRemove", rpc.enc((1, member.id))),
                     lambda: member.id not in self.listed())
        self.members.remove(member)
        self.gone.append(member)
        member.kill()
        self._close_disk(member)
        if self.proxy:
            self.proxy.remove(member.name)
            self.proxy.remove(f"{member.name}.c")

    def replace(self, member, kind):
        """Another one in its place: a learner that is promoted, then the old one goes."""
        new = self.add(kind, learner=True)
        self.promote(new)
        self.remove(member)
        self.wait_healthy()
        return new

    def move_leader(self, target):
        """Until the target leads."""
        def move(client):
            if client.status()["leader"] != target.id:
                client.call("Maintenance", "MoveLeader", rpc.enc((1, target.id)))

        self._change(move)
        harness.until(lambda: self.leader() is target, PATIENCE_S, lambda: f"{target.name} does not lead\n{self.describe()}")

    # What went wrong

    def describe(self, log_bytes=0):
        lines = []
        for one in self.members + (self.gone if log_bytes else []):
            state = "paused" if one.is_paused else "runs" if one.running() else "ended"
            lines.append(f"{one.name} {one.kind} id {one.id:x} {state} {one.status(2)}")
            if log_bytes:
                lines += [f"  {line}" for line in one.log_tail(log_bytes).splitlines()]
        return "\n".join(lines)


def ctl_program():
    """The newest etcdctl on this machine."""
    return next((path for path in map(harness.program, ("etcdctl37", "etcdctl")) if path.exists()), None)


class ClusterCase(harness.Case):
    """A test with clusters, which end with it. When it fails their logs are printed."""

    def ctl(self, endpoints, *arguments, check=True, timeout=120):
        """etcdctl: what it printed; with check=False (exit code, stdout, stderr)."""
        if ctl_program() is None:
            self.skipTest("not on this machine: etcdctl")
        done = subprocess.run([str(ctl_program()), "--endpoints", ",".join(one.endpoint for one in endpoints),
                               *map(str, arguments)], capture_output=True, timeout=timeout, text=True, check=False,
                              stdin=subprocess.DEVNULL, env={"PATH": os.environ["PATH"], "ETCDCTL_API": "3"})
        if not check:
            return done.returncode, done.stdout, done.stderr
        self.assertEqual(done.returncode, 0, f"etcdctl {arguments}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def ctl_json(self, endpoints, *arguments):
        return json.loads(self.ctl(endpoints, *arguments, "-w", "json"))

    def cluster(self, kinds, name="cluster", **options):
        require(*kinds)
        made = Cluster(self.dir / name, kinds, **options)
        self.addCleanup(self._end, made)
        return made

    def _has_failed(self):
        result = self._outcome.result
        return any(getattr(test, "test_case", test) is self for test, _ in result.failures + result.errors)

    def _end(self, made):
        try:
            if self._has_failed():
                print(f"{self.id()}: the cluster at the failure\n{made.describe(log_bytes=4000)}", file=sys.stderr)
        finally:
            made.close()


class ThreeCase(ClusterCase):
    """Promises of three members of one kind: a class for each kind runs them."""

    kind = None

    def setUp(self):
        if self.kind is None:
            self.skipTest("the promises alone")
        require(self.kind, self.kind, self.kind)
        super().setUp()

    def three(self, flags=(), start=True, **options):
        made = self.cluster([self.kind] * 3, flags=[*QUICK, *flags], **options)
        return made.start() if start else made

    def assert_refused(self, code, message, call, *arguments, **how):
        with self.assertRaises(rpc.GrpcError) as caught:
            call(*arguments, **how)
        self.assertEqual((caught.exception.code, caught.exception.message), (code, message))
