"""What may happen to a cluster: each fault is a method that hurts it, waits a while, and makes good what it did.

One fault at a time, so that a majority is always there, but for `power` and in a cluster of one. Runs in the thread that
owns the cluster.
"""

import collections
import random
import time

import rpc

FAULTS = {  # and how often
    "kill": 4, "kill_leader": 4, "stop": 2, "power": 1, "pause": 3, "pause_leader": 3, "isolate": 3,
    "isolate_leader": 3, "deafen_leader": 2, "mute_leader": 2, "cut_one_link": 2, "half_open": 2, "reset": 2,
    "delay": 2, "slow_link": 1, "move": 4, "compact": 4, "defragment": 2,
    "lose_answers": 3, "lose_requests": 2, "slow_disk": 3, "stalled_disk": 2, "full_disk": 2, "slow_sync": 2, "stalled_sync": 2,
    "set_clock": 2, "skip_time": 1, "replace": 1,
}
# What needs members with disks of their own, what only a Cairn can show, and what takes longer than the others.
NEEDS_DISKS = {"slow_disk", "stalled_disk", "full_disk"}
NEEDS_CAIRN = {"slow_sync", "stalled_sync", "set_clock", "skip_time"}
SLOW = {"replace", "full_disk"}
# What can happen to a member that is alone.
ALONE = {"kill", "stop", "power", "pause", "compact", "defragment", "lose_answers", "lose_requests", "slow_disk",
         "stalled_disk", "full_disk", "slow_sync", "stalled_sync", "set_clock", "skip_time"}


class Nemesis:
    def __init__(self, made, proxy, seed, faults, watchers, kinds):
        self.cluster, self.proxy, self.random = made, proxy, random.Random(seed)
        has_disks = all(one.disk for one in made.members)
        self.faults = [name for name in faults if (name not in NEEDS_CAIRN or "cairn" in kinds) and
                       (name not in NEEDS_DISKS or has_disks) and (name in ALONE or len(kinds) > 1)]
        self.watchers, self.kinds = watchers, kinds
        self.happened = collections.Counter()
        self.log = []
        self.call = None  # call(name, request): by a recorded client, at any member

    def run(self, seconds):
        end = time.monotonic() + seconds
        weights = [FAULTS[name] for name in self.faults]
        while time.monotonic() < end:
            name = self.random.choices(self.faults, weights)[0]
            began = time.monotonic()
            getattr(self, name)()
            self.happened[name] += 1
            self.log.append(f"{began:.3f} {name} {time.monotonic() - began:.2f} s")
            time.sleep(self.random.uniform(0.1, 1.0))

    def heal(self):
        """Everything works again, and all members run."""
        self.proxy.heal_all()
        for one in self.cluster.members:
            if one.is_paused:
                one.resume()
            if not one.running():
                self.cluster.launch(one)
        for one in self.cluster.members:
            one.wait_ready(120)
        self.cluster.wait_healthy()

    def last(self, least=0.3, most=3.0):
        time.sleep(self.random.uniform(least, most))

    def any(self):
        return self.random.choice(self.cluster.members)

    def leader(self):
        """Who leads now; anyone where nobody does."""
        return self.cluster.leader() or self.any()

    def others(self, member):
        return [one for one in self.cluster.members if one is not member]

    # Processes

    def kill(self, member=None):
        member = member or self.any()
        self.cluster.kill(member)
        self.last(0.05)
        self.cluster.start_one(member)

    def kill_leader(self):
        self.kill(self.leader())

    def stop(self):
        member = self.any()
        self.cluster.stop_one(member)
        self.last(0.05)
        self.cluster.start_one(member)

    def power(self):
        for one in self.cluster.members:
            self.cluster.kill(one)
        self.last(0.05, 0.5)
        for one in self.cluster.members:
            self.cluster.launch(one)
        for one in self.cluster.members:
            one.wait_ready(120)

    def pause(self, member=None):
        member = member or self.any()
        member.pause()
        self.last(0.05, 4.0)
        member.resume()

    def pause_leader(self):
        self.pause(self.leader())

    # Links

    def cut(self, pairs):
        how = self.random.choice((self.proxy.hold, self.proxy.drop))
        for a, b in pairs:
            how(a.name, b.name)
        self.last()
        for a, b in pairs:
            self.proxy.heal(a.name, b.name)

    def isolate(self, member=None):
        member = member or self.any()
        self.cut([pair for other in self.others(member) for pair in ((member, other), (other, member))])

    def isolate_leader(self):
        self.isolate(self.leader())

    def deafen_leader(self):
        leader = self.leader()
        self.cut([(other, leader) for other in self.others(leader)])

    def mute_leader(self):
        leader = self.leader()
        self.cut([(leader, other) for other in self.others(leader)])

    def cut_one_link(self):
        a, b = self.random.sample(self.cluster.members, 2)
        self.cut([(a, b), (b, a)])

    def half_open(self):
        a, b = self.random.sample(self.cluster.members, 2)
        self.proxy.vanish(a.name, b.name)
        self.last()
        self.proxy.reset(a.name, b.name)

    def reset(self):
        for _ in range(self.random.randrange(1, 10)):
            a, b = self.random.sample(self.cluster.members, 2)
            self.proxy.reset(a.name, b.name)
            self.last(0.01, 0.2)

    def delay(self):
        member = self.any()
        milliseconds = self.random.choice((5, 50, 300))
        for other in self.others(member):
            self.proxy.delay(member.name, other.name, milliseconds, milliseconds)
            self.proxy.delay(other.name, member.name, milliseconds, milliseconds)
        self.last()
        self.proxy.heal_all()

    def slow_link(self):
        a, b = self.random.sample(self.cluster.members, 2)
        self.proxy.rate(a.name, b.name, self.random.choice((2_000, 20_000, 200_000)))
        self.last()
        self.proxy.heal(a.name, b.name)

    def lose_answers(self):
        """What clients asked is done, and they are not told."""
        self.lose(f"{self.any().name}.c", "clients")

    def lose_requests(self):
        self.lose("clients", f"{self.any().name}.c")

    def lose(self, a, b):
        self.proxy.drop(a, b)
        self.last(0.1, 2.0)
        self.proxy.heal(a, b)

    # Disks

    def slow_disk(self):
        """A sync takes some 20 ms, or some 80."""
        disk = self.any().disk
        disk.slow(self.random.choice((50, 200)))
        self.last(0.5)
        disk.slow(0)

    def stalled_disk(self):
        disk = self.any().disk
        disk.stall(3)
        disk.end_of_stall()

    def full_disk(self):
        """Whoever ends of it is started again when there is space."""
        member = self.any()
        member.disk.fill(self.random.choice((0, 0, 1 << 20, 80 << 20)))
        self.last(1.0, 5.0)
        member.disk.empty()
        if not member.running():
            self.cluster.kill(member)
            self.cluster.start_one(member)

    # Syncs and clocks of a Cairn alone

    def cairn(self):
        return self.random.choice([one for one in self.cluster.members if one.kind == "cairn"])

    def sync(self, term, least, most):
        member = self.cairn()
        member.set_failpoint("walBeforeSync", term)
        self.last(least, most)
        member.set_failpoint("walBeforeSync", "off")

    def slow_sync(self):
        self.sync("sleep(20)", 0.5, 3.0)

    def stalled_sync(self):
        self.sync("1*sleep(3000)", 3.0, 3.5)

    def set_clock(self):
        """The clock of the day jumps, and is wrong from then on, over restarts too."""
        member = self.cairn()
        if member.clock:
            member.clock.set_day(self.random.choice((0, -3600, 3600, -1, 1, self.random.uniform(-100, 100))))

    def skip_time(self):
        """Between two instructions some time goes by."""
        member = self.cairn()
        if member.clock:
            member.clock.shift(self.random.choice((0.2, 1, 5, 60)))

    # Duties

    def move(self):
        leader = self.cluster.leader()
        if leader is None:
            return
        target = self.random.choice(self.others(leader))
        leader.ask(lambda client: client.call("Maintenance", "MoveLeader", rpc.enc((1, target.id))), timeout=10)

    def compact(self):
        """Below what every watcher has seen, so that they can all go on."""
        revision = min(one.seen for one in self.watchers) - self.random.randrange(5, 100)
        if revision > 1:
            self.call("Compact", rpc.enc((1, revision), (2, self.random.random() < 0.5)))

    def defragment(self):
        self.any().ask(rpc.Client.defragment, timeout=60)

    def replace(self):
        member = self.any()
        self.cluster.wait_healthy()
        # An older etcd cannot join a cluster whose version has been raised.
        self.cluster.replace(member, self.random.choice(self.kinds) if "cairn" in self.kinds else member.kind)
