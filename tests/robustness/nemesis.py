"""What may happen to a cluster: each fault is a method that hurts it, waits a while, and makes good what it did. It returns
whether it had an effect, as seen from outside: a fault that changes nothing tests nothing.

One fault at a time, so that a majority is always there, but for `power` and in a cluster of one. Runs in the thread that
owns the cluster.
"""

import collections
import email.utils
import functools
import http.client
import random
import time

import disks
import proxy
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
NEEDS_CLOCKS = {"set_clock", "skip_time"}
# What can happen to a member that is alone.
ALONE = {"kill", "stop", "power", "pause", "compact", "defragment", "lose_answers", "lose_requests", "slow_disk",
         "stalled_disk", "full_disk", "slow_sync", "stalled_sync", "set_clock", "skip_time"}
TRIES_MAX = 20         # of a kind that has had no effect, when the time is over
CLOCK_SEEN_S = 3       # a smaller jump is not told from a busy machine
SILENCE_SEEN_S = 0.5
LOST_STREAM = "lost TCP streaming connection with remote peer"


def of_leader(hurt):
    """hurt(self, leader) as a fault; it has no effect while nobody leads."""
    @functools.wraps(hurt)
    def fault(self):
        leader = self.cluster.leader()
        return leader is not None and hurt(self, leader)
    return fault


def seen(look):
    """What look() says; None where a member does not answer it."""
    try:
        return look()
    except (OSError, http.client.HTTPException):
        return None


class Nemesis:
    def __init__(self, made, between, seed, faults, watchers, kinds):
        self.cluster, self.proxy, self.random = made, between, random.Random(seed)
        impossible = set()
        if not all(one.disk for one in made.members):
            impossible |= NEEDS_DISKS
        elif disks.cannot_be_slow():
            impossible.add("slow_disk")
        if "cairn" not in kinds:
            impossible |= NEEDS_CAIRN
        elif not all(one.clock for one in made.members if one.kind == "cairn"):
            impossible |= NEEDS_CLOCKS
        if len(kinds) == 1:
            impossible |= set(FAULTS) - ALONE
        self.faults = [name for name in faults if name not in impossible]
        self.left_out = [name for name in faults if name in impossible]
        self.watchers, self.kinds = watchers, kinds
        self.tried, self.effective = collections.Counter(), collections.Counter()
        self.call = None  # call(name, request): by a recorded client, at any member; whether it was answered well

    def run(self, seconds):
        end = time.monotonic() + seconds
        weights = [FAULTS[name] for name in self.faults]
        while time.monotonic() < end:
            self.inflict(self.random.choices(self.faults, weights)[0])
        # Chance may have kept a kind from having an effect: it is tried until only a broken one has none.
        for name in self.without_effect():
            for _ in range(TRIES_MAX):
                if self.inflict(name):
                    break

    def inflict(self, name):
        had_effect = bool(getattr(self, name)())
        self.tried[name] += 1
        self.effective[name] += had_effect
        time.sleep(self.random.uniform(0.1, 1.0))
        return had_effect

    def without_effect(self):
        return sorted(name for name in self.tried if not self.effective[name])

    def report(self):
        return ", ".join(f"{name} {self.effective[name]} of {self.tried[name]}" for name in sorted(self.tried)) + \
            (f"; left out: {', '.join(self.left_out)}" if self.left_out else "")

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

    def others(self, member):
        return [one for one in self.cluster.members if one is not member]

    # Processes

    def kill(self, member=None):
        member = member or self.any()
        ran = member.running()
        self.cluster.kill(member)
        self.last(0.05)
        self.cluster.start_one(member)
        return ran

    kill_leader = of_leader(kill)

    def stop(self):
        member = self.any()
        code = self.cluster.stop_one(member)
        self.last(0.05)
        self.cluster.start_one(member)
        return code is not None

    def power(self):
        ran = [one.running() for one in self.cluster.members]
        for one in self.cluster.members:
            self.cluster.kill(one)
        self.last(0.05, 0.5)
        for one in self.cluster.members:
            self.cluster.launch(one)
        for one in self.cluster.members:
            one.wait_ready(120)
        return all(ran)

    def pause(self, member=None):
        member = member or self.any()
        member.pause()
        self.last(0.05, 4.0)
        stood_still = member.thread_states() == {"T"}
        member.resume()
        return stood_still

    pause_leader = of_leader(pause)

    # Links

    def said(self, links, was):
        """Whether anything was said on the links since bytes_sent() returned `was`, let through or not."""
        now = self.proxy.bytes_sent()
        return any(now.get(link, 0) > was.get(link, 0) for link in links)

    def cut(self, pairs):
        """It has an effect if members said something, and none of it was heard."""
        heard = lambda: [b.metric("etcd_network_peer_received_bytes_total", f'From="{a.id:x}"') for a, b in pairs]
        how = self.random.choice((self.proxy.hold, self.proxy.drop))
        for a, b in pairs:
            how(a.name, b.name)
        heard_before, was = seen(heard), self.proxy.bytes_sent()
        self.last()
        was_cut = self.said([(a.name, b.name) for a, b in pairs], was) and heard_before is not None and \
            seen(heard) == heard_before
        for a, b in pairs:
            self.proxy.heal(a.name, b.name)
        return was_cut

    def isolate(self, member=None):
        member = member or self.any()
        return self.cut([pair for other in self.others(member) for pair in ((member, other), (other, member))])

    isolate_leader = of_leader(isolate)

    @of_leader
    def deafen_leader(self, leader):
        return self.cut([(other, leader) for other in self.others(leader)])

    @of_leader
    def mute_leader(self, leader):
        return self.cut([(leader, other) for other in self.others(leader)])

    def cut_one_link(self):
        a, b = self.random.sample(self.cluster.members, 2)
        return self.cut([(a, b), (b, a)])

    def lost_streams(self, member, other):
        """How often it has said so of the other one."""
        return sum(LOST_STREAM in line and f'"remote-peer-id":"{other.id:x}"' in line
                   for line in member.log_text().splitlines())

    def half_open(self):
        a, b = self.random.sample(self.cluster.members, 2)
        before = self.lost_streams(b, a)
        self.proxy.vanish(a.name, b.name)
        self.last()
        noticed = self.lost_streams(b, a) > before
        self.proxy.reset(a.name, b.name)
        return noticed

    def reset(self):
        noticed = False
        for _ in range(self.random.randrange(1, 10)):
            a, b = self.random.sample(self.cluster.members, 2)
            before = self.lost_streams(b, a)
            self.proxy.reset(a.name, b.name)
            self.last(0.01, 0.2)
            noticed = noticed or self.lost_streams(b, a) > before
        return noticed

    def delay(self):
        member = self.any()
        milliseconds = self.random.choice((5, 50, 300))
        for other in self.others(member):
            self.proxy.delay(member.name, other.name, milliseconds, milliseconds)
            self.proxy.delay(other.name, member.name, milliseconds, milliseconds)
        self.last()
        took = proxy.answer_seconds(member.peer_port, self.others(member)[0].peer_url)
        self.proxy.heal_all()
        return took is not None and took >= 2 * milliseconds / 1000  # the question and the answer

    def slow_link(self):
        a, b = self.random.sample(self.cluster.members, 2)
        rate = self.random.choice((2_000, 20_000, 200_000))
        self.proxy.rate(a.name, b.name, rate)
        self.last()
        took = proxy.answer_seconds(b.peer_port, a.peer_url, more_bytes=rate // 50, seconds_max=SILENCE_SEEN_S)
        self.proxy.heal(a.name, b.name)
        return took is None or took >= 1 / 50  # None: others' bytes are before it

    def lose_answers(self):
        """What clients asked is done, and they are not told."""
        member = self.any()
        return self.lose(member, f"{member.name}.c", "clients")

    def lose_requests(self):
        member = self.any()
        return self.lose(member, "clients", f"{member.name}.c")

    def lose(self, member, a, b):
        self.proxy.drop(a, b)
        was = self.proxy.bytes_sent()
        self.last(0.1, 2.0)
        was_lost = self.said([(a, b)], was) and \
            proxy.answer_seconds(member.front_port, seconds_max=SILENCE_SEEN_S) is None
        self.proxy.heal(a, b)
        return was_lost

    # Disks

    @staticmethod
    def syncs(member):
        """(seconds, count) of its log's."""
        name = "etcd_disk_wal_fsync_duration_seconds"
        return seen(lambda: (member.metric(f"{name}_sum"), member.metric(f"{name}_count")))

    def slow_disk(self):
        """A sync takes some 20 ms, or some 80."""
        member = self.any()
        writes_per_second = self.random.choice((50, 200))
        before = self.syncs(member)
        member.disk.slow(writes_per_second)
        self.last(0.5)
        after = self.syncs(member)
        member.disk.slow(0)
        return None not in (before, after) and \
            after[0] - before[0] >= max(1, after[1] - before[1]) / writes_per_second

    def stalled_disk(self):
        """Nothing is synced for a while, and then something is."""
        member = self.any()
        member.disk.stall(3)
        time.sleep(0.3)  # for a sync that was done and is not counted yet
        looks = [self.syncs(member)]
        time.sleep(1.5)
        looks.append(self.syncs(member))
        member.disk.end_of_stall()
        self.last(0.5, 1.0)
        looks.append(self.syncs(member))
        return None not in looks and looks[0] == looks[1] and looks[2] > looks[1]

    def full_disk(self):
        """Whoever ends of it is started again when there is space."""
        member = self.any()
        leave = self.random.choice((0, 0, 1 << 20, 80 << 20))
        member.disk.fill(leave)
        was_full = member.disk.free() <= leave + (1 << 20)
        self.last(1.0, 5.0)
        member.disk.empty()
        if not member.running():
            self.cluster.kill(member)
            self.cluster.start_one(member)
        return was_full

    # Syncs and clocks of a Cairn alone

    def cairn(self):
        """One of them; None where all have been replaced by others."""
        found = [one for one in self.cluster.members if one.kind == "cairn"]
        return self.random.choice(found) if found else None

    def sync(self, term, least, most):
        member = self.cairn()
        if member is None:
            return False
        member.set_failpoint("walBeforeSync", term)
        self.last(least, most)
        count = member.failpoint_count("walBeforeSync")
        member.set_failpoint("walBeforeSync", "off")
        return count > 0

    def slow_sync(self):
        return self.sync("sleep(20)", 0.5, 3.0)

    def stalled_sync(self):
        return self.sync("1*sleep(3000)", 3.0, 3.5)

    def set_clock(self):
        """The clock of the day jumps, and is wrong from then on, over restarts too."""
        seconds = self.random.choice((0, -3600, 3600, -1, 1, self.random.uniform(-100, 100)))
        return self.change_clock(lambda clock: clock.set_day(seconds))

    def skip_time(self):
        """Between two instructions some time goes by."""
        seconds = self.random.choice((0.2, 1, 5, 60))
        return self.change_clock(lambda clock: clock.shift(seconds))

    def change_clock(self, change):
        member = self.cairn()
        if member is None:
            return False
        before = member.clock.ahead_s()
        change(member.clock)
        jump = member.clock.ahead_s() - before
        date = seen(lambda: member.http("/version")[1]["Date"])
        if date is None or abs(jump) < CLOCK_SEEN_S:
            return False
        jump_seen = email.utils.parsedate_to_datetime(date).timestamp() - time.time() - before
        return abs(jump_seen - jump) < abs(jump) / 2

    # Duties

    @of_leader
    def move(self, leader):
        target = self.random.choice(self.others(leader))
        answer = leader.ask(lambda client: client.call("Maintenance", "MoveLeader", rpc.enc((1, target.id))), timeout=10)
        return answer is not None

    def compact(self):
        """Below what every watcher has seen, so that they can all go on."""
        revision = min(one.seen for one in self.watchers) - self.random.randrange(5, 100)
        return revision > 1 and self.call("Compact", rpc.enc((1, revision), (2, self.random.random() < 0.5)))

    def defragment(self):
        return self.any().ask(lambda client: (client.defragment(), True), timeout=60) is not None

    def replace(self):
        member = self.any()
        self.cluster.wait_healthy()
        # An older etcd cannot join a cluster whose version has been raised.
        self.cluster.replace(member, self.random.choice(self.kinds) if "cairn" in self.kinds else member.kind)
        return member not in self.cluster.members
