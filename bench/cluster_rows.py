"""The rows of bench/run.py for several members: CPU and bytes are of all of them."""

import contextlib
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/robustness"))

import disks  # noqa: E402
import rpc
import servers

IDLE_S = 10
BEHIND_ENTRIES = 200  # a member that has all but so many is there again
SLOW_WRITES_PER_S = 50  # of a slow disk: a sync takes some 80 ms
STALL_S = 5
DISK_MEGABYTES = 4096
SHORT_LOG = {"etcd34": [], "etcd35": ["--experimental-snapshot-catchup-entries=100"]}  # the others' is not experimental


class ClusterRows:
    """Mixed into Bench. The generator asks the member that self.server.at() names last."""

    def start_three(self, flags=()):
        self.start_members([self.options.dir] * 3, flags)

    def start_members(self, parent_dirs, flags=()):
        self.drop()
        self.server = servers.Cluster(self.kind, self.options.binaries[self.kind], parent_dirs, flags)
        self.server.start()
        self.wait_leader()

    def lead(self, place):
        """Until the member at this place leads."""
        while (leader := self.wait_leader()) != place:
            target = self.statuses()[place]["member_id"]
            with contextlib.suppress(OSError, rpc.GrpcError), rpc.Client(self.server.members[leader].client_port) as client:
                client.call("Maintenance", "MoveLeader", rpc.enc((1, target)))

    @contextlib.contextmanager
    def under_load(self, load):
        """Puts go on meanwhile; their figures are in the list that it gives, afterwards."""
        busy = subprocess.Popen(self.generator_command("put", *load, "--seconds", 600), stdout=subprocess.PIPE, text=True)
        output, figures = [], []
        reader = threading.Thread(target=lambda: output.append(busy.stdout.read()))
        reader.start()
        try:
            time.sleep(1)
            yield figures
            time.sleep(0.2)
        finally:
            busy.send_signal(signal.SIGINT)
            reader.join()
            busy.wait()
        figures.append(json.loads(output[0]))

    @contextlib.contextmanager
    def disk(self):
        """A disk of its own for one member, or the row is left out."""
        with tempfile.TemporaryDirectory(prefix="bench-disk-", dir=self.options.dir) as directory:
            try:
                disks.require(slow=True)
                disk = disks.Disk(pathlib.Path(directory) / "disk", DISK_MEGABYTES)
            except unittest.SkipTest as error:
                raise self.Failed(str(error)) from None
            try:
                yield disk
            finally:
                disk.end_of_stall()
                self.drop()
                disk.close()

    def statuses(self, places=None):
        """Of the members that answer, by their place."""
        out = {}
        for i, member in enumerate(self.server.members):
            if not member.alive() or (places and i not in places):
                continue
            try:
                with rpc.Client(member.client_port, timeout=2) as client:
                    out[i] = client.status()
            except (OSError, rpc.GrpcError):
                pass
        return out

    def wait_leader(self, seconds=60):
        """Until the members that run name one leader; its place."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            told = self.statuses()
            leaders = {status["leader"] for status in told.values()}
            if len(told) == sum(one.alive() for one in self.server.members) and len(leaders) == 1 and leaders != {0}:
                for i, status in told.items():
                    if status["leader"] == status["member_id"]:
                        return i
            time.sleep(0.05)
        raise self.Failed(f"no leader\n{self.server.log_tail()}")

    def need_three(self, follower=False):
        """Three members with one key, and the generator at the leader or at a follower."""
        if not isinstance(self.server, servers.Cluster):
            self.start_three()
        leader = self.wait_leader()
        self.server.at((leader + 1) % 3 if follower else leader)
        self.generate("put", "--requests", 200)

    def row_three_idle(self):
        self.need_three()
        servers.wait_until_quiet(self.server)
        self.statuses()
        time.sleep(1)
        cpu, written, sent = self.server.cpu_seconds(), self.server.written_bytes(), self.server.sent_bytes()
        time.sleep(IDLE_S)
        return {
            "idle_cpu_percent": (self.server.cpu_seconds() - cpu) * 100 / IDLE_S,
            "idle_written_kb": (self.server.written_bytes() - written) / 1024,
            "idle_sent_kb_per_s": (self.server.sent_bytes() - sent) / 1024 / IDLE_S,
        }

    def row_three_put(self):
        self.need_three()
        return self.load_figures(self.generate("put", "--seconds", self.seconds))

    def row_three_one_put(self):
        self.need_three()
        return self.load_figures(self.generate("put", "--seconds", self.seconds, "--connections", 1, "--streams", 1))

    def row_three_put_follower(self):
        self.need_three(follower=True)
        return self.load_figures(self.generate("put", "--seconds", self.seconds))

    def row_three_get(self):
        self.need_three()
        return self.load_figures(self.generate("get", "--seconds", self.seconds))

    def row_three_get_follower(self):
        self.need_three(follower=True)
        return self.load_figures(self.generate("get", "--seconds", self.seconds))

    def row_three_catch_up(self):
        return self.catch_up()

    def row_three_catch_up_snapshot(self):
        """As three_catch_up, where the others keep too little of their log."""
        return self.catch_up(["--snapshot-count=1000", *SHORT_LOG.get(self.kind, ["--snapshot-catchup-entries=100"])])

    def catch_up(self, flags=()):
        """A follower is away for many writes; it comes back under steady puts, whose p99 is told before and meanwhile."""
        self.start_three(flags)
        leader = self.wait_leader()
        self.server.at(leader)
        puts = ("--keys", 100_000, "--order", "random")
        load = (*puts, "--rate", self.options.compact_rate)
        calm = self.generate("put", *load, "--seconds", 4)
        away = (leader + 1) % 3
        others = [one for i, one in enumerate(self.server.members) if i != away]

        def memory_of(requests):
            before = [one.memory_mb()["anon"] for one in others]
            done = self.generate("put", *puts, "--requests", requests)
            return done, max(one.memory_mb()["anon"] - base for one, base in zip(others, before))

        _, usual = memory_of(self.options.catch_up_writes)  # as much as these writes take with all members there
        self.server.members[away].stop(signal.SIGKILL)
        written, more = memory_of(self.options.catch_up_writes)
        with self.under_load(load) as figures:
            began, cpu = time.monotonic(), self.server.cpu_seconds()
            self.server.members[away].start()
            while True:
                told = self.statuses()
                if away in told and leader in told and \
                        told[leader]["raft_index"] - told[away]["applied"] < BEHIND_ENTRIES:
                    break
                if time.monotonic() - began > 300:
                    raise self.Failed(f"not caught up in 300 s: {told}\n{self.server.log_tail()}")
                time.sleep(0.02)
            seconds, cpu_s = time.monotonic() - began, self.server.cpu_seconds() - cpu
        self.drop()
        return {"ms": seconds * 1000, "cpu_ms": cpu_s * 1000, "more_mb": more, "usual_mb": usual,
                "caught_up_per_s": self.options.catch_up_writes / seconds, "away_per_s": written["ops_per_s"],
                "calm_p99_us": calm["latency_us"]["p99"], **self.under_way(figures[0])}

    @staticmethod
    def under_way(result):
        return {"p99_us": result["latency_us"]["p99"], "max_us": result["latency_us"]["max"],
                "failed_puts": sum(result["errors"].values())}

    def one_slow_of(self, count):
        """Steady puts at the leader, before and after one member's disk becomes slow: a follower's, then the leader's."""
        with self.disk() as disk:
            self.start_members([self.options.dir] * (count - 1) + [disk.dir])
            slow = count - 1
            disk.take(self.server.members[slow].process.pid)
            self.lead(0)
            self.server.at(0)
            load = ("--keys", 10_000, "--order", "random", "--rate", self.options.compact_rate)
            calm = self.generate("put", *load, "--seconds", 4)
            disk.slow(SLOW_WRITES_PER_S)
            result = self.generate("put", *load, "--seconds", self.seconds)
            self.lead(slow)
            self.server.at(slow)
            led = self.generate("put", *load, "--seconds", self.seconds)
            return {"calm_p99_us": calm["latency_us"]["p99"], **self.under_way(result),
                    "led_p50_us": led["latency_us"]["p50"], "led_p99_us": led["latency_us"]["p99"]}

    def row_one_slow_of_3(self):
        return self.one_slow_of(3)

    def row_one_slow_of_5(self):
        return self.one_slow_of(5)

    def row_one_slow_of_7(self):
        return self.one_slow_of(7)

    def row_three_stalled_leader(self):
        """Steady puts at a follower while the leader's disk stands still."""
        with self.disk() as disk:
            self.start_members([disk.dir, self.options.dir, self.options.dir])
            leader = self.server.members[0]
            disk.take(leader.process.pid)
            self.lead(0)
            self.server.at(1)
            load = ("--keys", 10_000, "--order", "random", "--rate", self.options.compact_rate)
            calm = self.generate("put", *load, "--seconds", 4)
            old_id = self.statuses()[0]["member_id"]
            before = leader.memory_mb()["anon"]
            with self.under_load(load) as figures:
                disk.stall(STALL_S)
                began = time.monotonic()
                moved_s = None
                while moved_s is None and time.monotonic() - began < STALL_S:
                    told = {status["leader"] for status in self.statuses((1, 2)).values()}
                    if len(told) == 1 and not told & {0, old_id}:
                        moved_s = time.monotonic() - began
                    time.sleep(0.01)
                disk.end_of_stall()
                more = leader.memory_mb()["anon"] - before
                time.sleep(2)
            return {"calm_p99_us": calm["latency_us"]["p99"], **self.under_way(figures[0]), "more_mb": more,
                    "moved_ms": moved_s and moved_s * 1000}


ROWS = ["three_idle", "three_put", "three_one_put", "three_put_follower", "three_get", "three_get_follower",
        "three_catch_up", "three_catch_up_snapshot", "one_slow_of_3", "one_slow_of_5", "one_slow_of_7",
        "three_stalled_leader"]
