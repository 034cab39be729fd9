"""The rows of bench/run.py for three members: CPU and bytes are of all of them."""

import json
import signal
import subprocess
import threading
import time

import rpc
import servers

IDLE_S = 10
BEHIND_ENTRIES = 200  # a member that has all but so many is there again


class ClusterRows:
    """Mixed into Bench. The generator asks the member that self.server.at() names last."""

    def start_three(self):
        self.drop()
        self.server = servers.Cluster(self.kind, self.options.binaries[self.kind], self.options.dir, 3)
        self.server.start()
        self.wait_leader()

    def statuses(self):
        """Of the members that answer, by their place."""
        out = {}
        for i, member in enumerate(self.server.members):
            if not member.alive():
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
        """A follower is away for many writes; it comes back under steady puts, whose p99 is told before and meanwhile."""
        self.start_three()
        leader = self.wait_leader()
        self.server.at(leader)
        puts = ("--keys", 100_000, "--order", "random")
        load = (*puts, "--rate", self.options.compact_rate)
        calm = self.generate("put", *load, "--seconds", 4)
        away = (leader + 1) % 3
        others = [one for i, one in enumerate(self.server.members) if i != away]
        before = [one.memory_mb()["anon"] for one in others]
        self.server.members[away].stop(signal.SIGKILL)
        written = self.generate("put", *puts, "--requests", self.options.catch_up_writes)
        more = max(one.memory_mb()["anon"] - base for one, base in zip(others, before))
        busy = subprocess.Popen(self.generator_command("put", *load, "--seconds", 600), stdout=subprocess.PIPE, text=True)
        output = []
        reader = threading.Thread(target=lambda: output.append(busy.stdout.read()))
        reader.start()
        try:
            time.sleep(1)
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
            time.sleep(0.2)
        finally:
            busy.send_signal(signal.SIGINT)
            reader.join()
            busy.wait()
        result = json.loads(output[0])
        self.drop()
        return {"ms": seconds * 1000, "cpu_ms": cpu_s * 1000, "more_mb": more,
                "caught_up_per_s": self.options.catch_up_writes / seconds, "away_per_s": written["ops_per_s"],
                "calm_p99_us": calm["latency_us"]["p99"], "p99_us": result["latency_us"]["p99"],
                "max_us": result["latency_us"]["max"], "failed_puts": sum(result["errors"].values())}


ROWS = ["three_idle", "three_put", "three_one_put", "three_put_follower", "three_get", "three_get_follower",
        "three_catch_up"]
