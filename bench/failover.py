#!/usr/bin/env python3
"""How long three members are without a leader, and what clients notice: beside etcd, in a Markdown table.

    bench/failover.py [--servers etcd37,cairn] [--times 20] [--events kill,stop,move,remove,hiccup,rolling,stall] [--rate 1000]
    bench/failover.py --servers cairn,etcd37 --events kill --times 100 --disk-writes 200
    bench/failover.py --servers cairn --events kill --times 100 --env 'GOFAIL_FAILPOINTS=walBeforeSync=sleep(20)'

Puts come open-loop, --rate a second at each member (cairn_loadgen outage), while the leader is killed (SIGKILL), stopped
(SIGTERM), asked to hand over (MoveLeader), asked to remove itself (MemberRemove; it joins again later), paused for less than an election timeout (SIGSTOP), kept from its disk (with
disks of the members' own, --disks, which need root; else through a fault point, so only Cairn), or all members are
restarted one by one. With --disk-writes no disk takes more writes a second than that: 200 give syncs of 20 ms. Of each
event:

  first put     from the event until a put that was due after it is answered in a newer term, at any survivor;
                and at the last one of the survivors (of kills, removals and stalls: a member that stops leads on for a while)
  pause         the longest time in which no put is answered by any member
  p99 of waits, longest wait   of the puts at survivors that were answered
  failed        puts at survivors that were refused, timed out or lost their connection, by gRPC status (-1: lost)
  in flight     puts at the member that ended, open when its connection did
  terms         that were begun
  snapshots     that members sent to others
  memory        how much more of it the leader had at the end of a stall
"""

import argparse
import collections
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/integration"), str(ROOT / "bench")]

import cluster  # noqa: E402
import disks  # noqa: E402
import harness  # noqa: E402
import rpc  # noqa: E402
import servers  # noqa: E402

EVENTS = {"kill": "leader killed", "stop": "leader stopped (SIGTERM)", "move": "MoveLeader",
          "remove": "leader removed (MemberRemove)", "hiccup": "leader paused for 0.5 s", "rolling": "all restarted one by one: each stop",
          "stall": "leader's log stalls for 5 s"}
LOST, NOT_SENT, UNANSWERED = -1, -2, -3
SETTLE_S = 1.0
STALL_S = 5
DISK_MEGABYTES = 4096

Put = collections.namedtuple("Put", "due ended member status term")
Event = collections.namedtuple("Event", "kind at_us victim term was_leader")  # victim: its place among the members


def now_us():
    return time.monotonic_ns() // 1000


class Run:
    def __init__(self, kind, options, directory):
        self.kind, self.options = kind, options
        self.cluster = cluster.Cluster(directory / "members", [kind] * options.members, flags=options.flags,
                                       failpoints=kind == "cairn", variables=dict(one.split("=", 1) for one in options.env),
                                       disk_megabytes=DISK_MEGABYTES if options.disks else 0)
        self.lines = directory / "puts"
        self.events = []
        self.chooser = random.Random(1)
        self.sent = 0        # snapshots, by members that have ended since
        self.more_mb = []

    def settle(self):
        """Until all are there and equal but for what is under way, and some time later, not always the same."""
        self.cluster.wait_healthy()

        def caught_up():
            told = [one.status() for one in self.cluster.running()]
            return all(told) and max(s["raft_index"] for s in told) - min(s["applied"] for s in told) < 1000

        harness.until(caught_up, 120, self.cluster.describe)
        time.sleep(SETTLE_S + self.chooser.uniform(0, 0.3))

    def event(self, kind, victim, happen, was_leader=True):
        term = victim.status()["raft_term"]
        self.events.append(Event(kind, now_us(), self.cluster.members.index(victim), term, was_leader))
        happen()

    def end_and_return(self, kind, end):
        leader = self.cluster.wait_leader()
        self.event(kind, leader, lambda: end(leader))
        self.cluster.wait_leader(other_than=leader)
        time.sleep(0.2)  # what the survivors still have to answer is answered before another joins them
        self.cluster.start_one(leader)

    def kill(self):
        self.end_and_return("kill", self.cluster.kill)

    def stop(self):
        self.end_and_return("stop", self.cluster.stop_one)

    def move(self):
        leader = self.cluster.wait_leader()
        target = self.chooser.choice([one for one in self.cluster.members if one is not leader])
        self.event("move", leader, lambda: self.cluster.move_leader(target))

    def remove(self):
        leader = self.cluster.wait_leader()

        def take_out():
            """Refused until the members have been connected for five seconds."""
            with rpc.Client(leader.client_port) as client:
                try:
                    self.event("remove", leader, lambda: client.call("Cluster", "MemberRemove", rpc.enc((1, leader.status()["member_id"]))))
                    return True
                except rpc.GrpcError as error:
                    if "unhealthy" not in error.message:
                        return True  # etcd may lose its answer
                    self.events.pop()
                    return False

        harness.until(take_out, 60, self.cluster.describe)
        leader.wait(60)
        self.cluster.wait_leader(other_than=leader)
        time.sleep(0.2)
        shutil.rmtree(leader.data_dir)
        leader.initial_state = "existing"
        self.cluster.do(lambda client: client.call("Cluster", "MemberAdd", rpc.enc((1, leader.peer_url))))
        self.cluster.start_one(leader)

    def hiccup(self):
        leader = self.cluster.wait_leader()

        def pause():
            leader.pause()
            time.sleep(0.5)
            leader.resume()

        self.event("hiccup", leader, pause)

    def stall(self):
        leader = self.cluster.wait_leader()
        before_kb = leader.anonymous_kb()
        if leader.disk:
            self.event("stall", leader, lambda: leader.disk.stall(STALL_S))
            leader.disk.end_of_stall()
        else:
            self.event("stall", leader, lambda: leader.set_failpoint("walBeforeSync", f"1*sleep({STALL_S * 1000})"))
            time.sleep(STALL_S)
            leader.set_failpoint("walBeforeSync", "off")
        self.more_mb.append((leader.anonymous_kb() - before_kb) / 1024)

    def rolling(self):
        for member in self.cluster.members:
            self.settle()
            was_leader = self.cluster.wait_leader() is member
            self.sent += member.snapshots_sent()
            self.event("rolling", member, lambda: self.cluster.stop_one(member), was_leader)
            self.cluster.start_one(member)

    def run(self):
        self.cluster.start()
        if self.options.disk_writes:
            for one in self.cluster.members:
                one.disk.slow(self.options.disk_writes)
        command = [str(self.options.loadgen), "outage", "--endpoints",
                   ",".join(one.endpoint for one in self.cluster.members), "--rate", self.options.rate, "--timeout", 20]
        with open(self.lines, "wb") as lines:
            load = subprocess.Popen(list(map(str, command)), stdout=lines, preexec_fn=harness.die_with_parent)
        try:
            for kind in self.events_of():
                for _ in range(self.options.times if kind != "rolling" else max(1, self.options.times // 5)):
                    self.settle()
                    getattr(self, kind)()
                if kind == "rolling":
                    self.settle()
                    self.sent += self.cluster.snapshots_sent()
            self.settle()
            end_us = now_us()
            load.send_signal(signal.SIGINT)
            load.wait(60)
        finally:
            load.kill()
            load.wait()
        if self.options.keep:
            print([tuple(event) for event in self.events])
            print(self.lines.rename(self.options.keep))
            self.lines = pathlib.Path(self.options.keep)
        puts = [Put(*map(int, line.split())) for line in self.lines.read_text().splitlines()]
        out = rows(self.events_of(), self.events, puts, end_us)
        if "rolling" in out:
            out["rolling"]["snapshots"] = [self.sent]
        if "stall" in out:
            out["stall"]["memory"] = self.more_mb
        return out

    def events_of(self):
        return [kind for kind in self.options.events if kind != "stall" or self.kind == "cairn" or self.options.disks]

    def close(self):
        self.cluster.close()


def rows(kinds, events, puts, end_us):
    """Of each kind of event its figures, from all puts."""
    puts.sort(key=lambda put: put.due)
    out = {}
    for kind in kinds:
        figures = collections.defaultdict(list)
        statuses = collections.Counter()
        for number, event in enumerate(events):
            if event.kind != kind:
                continue
            until_us = (events[number + 1].at_us if number + 1 < len(events) else end_us) - 300_000
            near = [put for put in puts if event.at_us - 500_000 <= put.due < until_us]
            ends = kind not in ("move", "hiccup", "stall")  # the victim's own puts count where it stays
            others = [put for put in near if put.member != event.victim or not ends]
            good = [put for put in others if put.status == 0]
            after = [put for put in good if put.due > event.at_us and put.term > event.term]
            figures["terms"].append(max((put.term for put in near), default=event.term) - event.term)
            if kind in ("kill", "remove", "stall") and after:
                figures["first"].append((min(put.ended for put in after) - event.at_us) / 1000)
                each = collections.defaultdict(lambda: 1 << 62)
                for put in after:
                    each[put.member] = min(each[put.member], put.ended)
                figures["every"].append((max(each.values()) - event.at_us) / 1000)
            answered = sorted(put.ended for put in near if put.status == 0)
            pauses = [later - one for one, later in zip(answered, answered[1:]) if later > event.at_us]
            figures["pause" if event.was_leader else "others"].append(max(pauses) / 1000)
            waits = sorted((put.ended - put.due) / 1000 for put in good)
            figures["p99"].append(waits[len(waits) * 99 // 100])
            figures["slowest"].append(waits[-1])
            statuses.update(put.status for put in others if put.status not in (0, NOT_SENT))
            figures["puts"].append(len(others))
            figures["in flight"].append(sum(put.status == LOST for put in near if put.member == event.victim))
        figures["statuses"] = statuses
        out[kind] = figures
    return out


def span(values):
    return f"{statistics.median(values):,.0f} / {max(values):,.0f}" if values else "-"


def table(results, options):
    lines = [f"{options.members} members, {options.rate} puts a second at each; ms, median / worst"
             + (f"; flags {' '.join(options.flags)}" if options.flags else ""), "",
             "| event | server | times | first put | at the last survivor | pause | p99 of waits | longest wait | failed | in flight | terms | "
             "snapshots | memory |", "|" + " --- |" * 13]
    for kind in options.events:
        for server, result in results.items():
            if kind not in result:
                continue
            figures = result[kind]
            failed = ", ".join(f"{count:,} with {status}" for status, count in sorted(figures["statuses"].items())) or "0"
            snapshots = f"{figures['snapshots'][0]:.0f}" if figures["snapshots"] else "-"
            memory = f"{max(figures['memory']):.0f} MB" if figures["memory"] else "-"
            cells = [EVENTS[kind], servers.TITLES[server], len(figures["puts"]), span(figures["first"]),
                     span(figures["every"]), span(figures["pause"]), span(figures["p99"]), span(figures["slowest"]),
                     f"{failed} of {sum(figures['puts']):,}", sum(figures["in flight"]), sum(figures["terms"]), snapshots,
                     memory]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", default="etcd37", help="some of etcd34, etcd35, etcd36, etcd37, cairn")
    parser.add_argument("--times", type=int, default=20, help="of each event; rolling: a fifth of it")
    parser.add_argument("--events", default=",".join(EVENTS))
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--flag", dest="flags", action="append", default=[], help="of each member, as --flag=--name=value")
    parser.add_argument("--disks", action="store_true", help="each member has a disk of its own, in a file")
    parser.add_argument("--disk-writes", type=int, default=0, help="what such a disk takes in a second")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="of each member's environment")
    parser.add_argument("--dir", default=str(ROOT / "build"), help="where the data directories are made")
    parser.add_argument("--keep", metavar="FILE", help="keeps the lines of the load there, of the last server")
    parser.add_argument("--loadgen", type=pathlib.Path)
    parser.add_argument("--binary", action="append", default=[], metavar="SERVER=PATH")
    options = parser.parse_args()
    options.events = options.events.split(",")
    options.disks = options.disks or options.disk_writes > 0
    if options.disks and (reason := disks.missing() or disks.cannot_be_slow()):
        parser.error(f"--disks: {reason}")
    if set(options.events) - set(EVENTS):
        parser.error(f"events are {', '.join(EVENTS)}")
    options.loadgen = options.loadgen or servers.find_loadgen()
    harness.PROGRAMS["cairn"] = servers.BINARIES["cairn"]
    for entry in options.binary:
        kind, path = entry.split("=", 1)
        harness.PROGRAMS[kind] = pathlib.Path(path).resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that finally clauses run
    results = {}
    for kind in options.servers.split(","):
        if not harness.program(kind).exists():
            print(f"failover: SKIPPED {kind}: no {harness.program(kind)}", file=sys.stderr)
            continue
        os.makedirs(options.dir, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"failover-{kind}-", dir=options.dir) as directory:
            run = Run(kind, options, pathlib.Path(directory))
            try:
                results[kind] = run.run()
            finally:
                run.close()
    print(table(results, options))


if __name__ == "__main__":
    main()
