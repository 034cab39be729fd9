"""Three members whose clients and peers mean no good: what one of them sends must not end the cluster, nor keep members
from each other, nor take a lease from its holder."""

import contextlib
import http.client
import os
import resource
import select
import socket
import threading
import time

import cluster
import harness
import proxy
import rpc

TERM_MAX = (1 << 64) - 1
STRANGER = 0xDEADBEEF
PROPOSAL, HEARTBEAT = 2, 8  # raftpb.MessageType
TTL = 2
KEEP_ALIVE = "/etcdserverpb.Lease/LeaseKeepAlive"
STREAMS, RENEWALS = 20, 1000
CALLS_MAX = 64  # of one member to another
LARGE_BYTES, SLOW_BYTES_A_SECOND = 1 << 20, 1 << 20


def entry(payload):
    return rpc.enc((4, payload))


def message(kind, to, sender, term=0, entries=()):
    """raftpb.Message."""
    return rpc.enc((1, kind), (2, to), (3, sender), (4, term), (7, list(entries)))


def open_files(member):
    return len(os.listdir(f"/proc/{member.process.pid}/fd"))


class Hostile(cluster.ThreeCase):
    def headers(self, member, sender):
        return {"X-Server-From": f"{sender:x}", "X-Server-Version": "3.7.0", "X-Min-Cluster-Version": "3.0.0",
                "X-Etcd-Cluster-ID": f"{member.status()['cluster_id']:x}", "Content-Type": "application/protobuf"}

    def post(self, member, body, sender):
        """A message to its peer port, as from another member; the status."""
        connection = http.client.HTTPConnection("127.0.0.1", member.listen_peer_port, timeout=30)
        try:
            connection.request("POST", "/raft", body, self.headers(member, sender))
            return connection.getresponse().status
        finally:
            connection.close()

    def check_all_serve(self, three):
        three.wait_healthy()
        self.assertEqual([one.running() for one in three.members], [True] * 3)
        three.do(lambda client: client.put(b"k", b"v"))
        three.check_equal()

    def test_a_proposal_that_cannot_be_read_ends_nobody(self):
        three = self.three()
        unknown = rpc.enc((100, rpc.enc((1, 77)))) + rpc.varint(5555 << 3 | 2) + b"\0"  # a kind of request
        for payload in (b"\xff\xff\xff no request", b"\x22\x05\x0a\x09k", unknown):
            for one in three.members:  # to the leader, and on its way there
                proposal = message(PROPOSAL, one.id, STRANGER, entries=[entry(payload)])
                self.assertEqual(self.post(one, proposal, STRANGER), 204)
            self.check_all_serve(three)
        for one in three.members:
            three.restart(one)
        self.check_all_serve(three)

    def test_a_forged_term_leaves_room_for_elections(self):
        three = self.three()
        term = three.wait_leader().status()["raft_term"]
        for one in three.members:
            self.assertEqual(self.post(one, message(HEARTBEAT, one.id, STRANGER, TERM_MAX), STRANGER), 204)
        self.check_all_serve(three)
        self.assertLess(three.wait_leader().status()["raft_term"], term + 10)
        three.kill(three.wait_leader())
        three.wait_healthy()

    def test_renewals_at_a_follower_leave_connections_to_others(self):
        three = self.three()
        leader, follower = three.wait_leader(), three.follower()
        for number in range(1, 11):
            leader.client().lease_grant(number, 3600)
        renewals = b"".join(rpc.grpc_message(rpc.enc((1, 1 + i % 10))) for i in range(RENEWALS))
        most, ends = {}, threading.Event()

        def watch():
            while not ends.wait(0.005):
                for one in (leader, follower):
                    most[one.name] = max(most.get(one.name, 0), open_files(one))

        before = {one.name: open_files(one) for one in (leader, follower)}
        connections = [rpc.Connection(follower.client_port) for _ in range(STREAMS)]
        watching = threading.Thread(target=watch)
        watching.start()
        try:
            streams = []
            for connection in connections:
                streams.append(connection.start(KEEP_ALIVE, rpc.enc((1, 1)), end=False))
                for at in range(0, len(renewals), 16384):
                    part = renewals[at:at + 16384]
                    connection.sock.sendall(rpc.frame(rpc.DATA, 0, streams[-1].number, part))
            for connection, stream in zip(connections, streams):
                while len(stream.messages) < RENEWALS + 1 and not stream.ended:
                    connection.read_frame()
                self.assertFalse(stream.ended, stream.ended and stream.status())
        finally:
            ends.set()
            watching.join()
            for connection in connections:
                connection.close()
        # Some of those that have ended are kept for a while.
        self.assertLess(most[leader.name], before[leader.name] + 2 * CALLS_MAX)
        self.assertLess(most[follower.name], before[follower.name] + STREAMS + 2 * CALLS_MAX)
        self.check_all_serve(three)

    def test_on_a_slow_link_proposals_are_not_sent_again_and_again(self):
        with proxy.Proxy() as between:
            three = self.three(proxy=between)
            leader, follower = three.wait_leader(), three.follower()
            link = (follower.name, leader.name)
            between.rate(*link, SLOW_BYTES_A_SECOND)
            before = between.bytes_sent().get(link, 0)
            answers, ends = [], time.monotonic() + 10

            def write(key):
                with rpc.Client(follower.client_port, timeout=60) as client:
                    while time.monotonic() < ends:
                        try:
                            answers.append(client.put(key, b"v" * LARGE_BYTES))
                        except rpc.GrpcError as error:
                            answers.append(error)

            writers = [threading.Thread(target=write, args=(b"k%d" % i,)) for i in range(3)]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()
            sent = between.bytes_sent()[link] - before
            put = sum(isinstance(one, int) for one in answers) * LARGE_BYTES
            self.assertLess(sent, 2.5 * put, f"{sent} bytes sent for {put}; {answers}")
            between.heal_all()
            self.check_all_serve(three)

    def test_strangers_that_hold_connections_do_not_keep_a_member_out(self):
        three = self.three(limits={resource.RLIMIT_NOFILE: 300})  # for 80 of them
        member, ends = three.follower(), threading.Event()

        request = "\r\n".join(["POST /raft HTTP/1.1", "Host: m", "Content-Length: 1000",
                               *(f"{name}: {value}" for name, value in self.headers(member, STRANGER).items()), "", ""])

        def hold(port):
            held, told = {}, time.monotonic()
            watched = select.poll()
            while not ends.is_set():
                while len(held) < 100:
                    try:
                        one = socket.create_connection(("127.0.0.1", port), 5)
                        one.sendall(request.encode())
                    except OSError:
                        break
                    held[one.fileno()] = one
                    watched.register(one, select.POLLIN)
                for number, _ in watched.poll(20):
                    watched.unregister(number)
                    held.pop(number).close()
                if time.monotonic() - told > 1:  # a body that comes slowly
                    told = time.monotonic()
                    for one in held.values():
                        with contextlib.suppress(OSError):
                            one.send(b"x")
            for one in held.values():
                one.close()

        holders = [threading.Thread(target=hold, args=(one.peer_port,)) for one in three.members]
        for holder in holders:
            holder.start()
        try:
            for one in three.members:
                one.wait_logged("closing the oldest connections for newer ones")
            three.kill(member)
            began = time.monotonic()
            three.start_one(member)
            three.do(lambda client: client.range(b"k"), member)
            self.assertLess(time.monotonic() - began, 10)
        finally:
            ends.set()
            for holder in holders:
                holder.join()
        self.check_all_serve(three)

    def test_who_can_be_dialled_by_nobody_writes(self):
        """Its advertised URL is wrong, or there is a wall: only the connections that it makes itself are there."""
        with proxy.Proxy() as between:
            three = self.three(proxy=between)
            leader, follower = three.wait_leader(), three.follower()
            between.refuse(follower.name)
            for one in three.members:
                if one is not follower:
                    between.reset(one.name, follower.name)
            time.sleep(0.2)  # what had connections has noticed
            with rpc.Client(follower.client_port, timeout=10) as client:
                for number in range(5):
                    began = time.monotonic()
                    client.put(b"k%d" % number, b"v" * (200 << 10))
                    self.assertLess(time.monotonic() - began, 2)
            # A short cut, and much to write as soon as it begins.
            between.accept(follower.name)
            time.sleep(2)  # the leader has dialled it again
            between.refuse(follower.name)
            between.reset(leader.name, follower.name)
            answers = []

            def write(key):
                with rpc.Client(follower.client_port, timeout=10) as client:
                    began = time.monotonic()
                    client.put(key, b"v" * (200 << 10))
                    answers.append(time.monotonic() - began)

            writers = [threading.Thread(target=write, args=(b"w%d" % number,)) for number in range(30)]
            for writer in writers:
                writer.start()
            time.sleep(0.3)
            between.accept(follower.name)
            for writer in writers:
                writer.join()
            self.assertEqual(len(answers), len(writers))
            self.assertLess(max(answers), 3)
            self.check_all_serve(three)

    def test_a_leader_that_lives_where_connections_are_refused_keeps_its_promises(self):
        """Others take it for dead at once and elect another one. It renews leases until it finds out."""
        with proxy.Proxy() as between:
            three = self.three(proxy=between)
            leader = three.wait_leader()
            others = [one for one in three.members if one is not leader]
            for number in range(1, 4):
                leader.client().lease_grant(number, TTL)
                leader.client().put(b"held/%d" % number, b"v", lease=number)
            renewed, ends = {}, threading.Event()

            def renew():
                with contextlib.suppress(OSError, rpc.GrpcError), rpc.Client(leader.client_port, timeout=5) as client:
                    while not ends.is_set():
                        for number in range(1, 4):
                            asked = time.monotonic()
                            if client.lease_keep_alive(number):
                                renewed[number] = asked

            renewing = threading.Thread(target=renew)
            renewing.start()
            time.sleep(0.3)
            between.refuse(leader.name)
            for one in others:
                between.reset(one.name, leader.name)
                between.hold(leader.name, one.name)
                between.hold(one.name, leader.name)
            gone = {}

            def look():
                for number in range(1, 4):
                    # Seen before it is asked: so it was there at that time.
                    now = time.monotonic()
                    if number not in gone and three.do(lambda client: client.get(b"held/%d" % number), others[0]) is None:
                        gone[number] = now
                return len(gone) == 3

            harness.until(look, cluster.PATIENCE_S)
            ends.set()
            renewing.join()
            for number, when in gone.items():
                self.assertGreater(when, renewed[number] + TTL - 0.05, number)
            between.heal_all()
            between.accept(leader.name)
            self.check_all_serve(three)


class OfCairn(Hostile):
    kind = "cairn"


if __name__ == "__main__":
    harness.main()
