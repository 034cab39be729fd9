"""Three members of Cairn beside three of etcd 3.7: the same questions to leader, follower and learner, by gRPC, etcdctl
and the peer URLs; answers, error texts and codes must be equal. What may differ is in a test's `accepted`, with the reason."""

import concurrent.futures
import contextlib
import http.client
import json
import re
import socket
import time

import cluster
import harness
import rpc

KINDS = ("etcd37", "cairn")
# A directory that joins is one of the cluster's version from its first commit on; etcd's is one of 3.5 for some seconds.
STORAGE = ("learner status of m4", "promoted status of m4", "learner /version", "learner endpoint status")
# What a member proposes for itself is no request.
METRICS = [f'leader etcd_server_request_duration_seconds_{what}{{success="true",type="{kind}"}}'
           for what in ("count", "sum") for kind in ("ClusterMemberAttrSet", "ClusterVersionSet")]
# A follower of etcd's counts the version where it applies it itself, and not where it gets it in a snapshot.
METRICS += [f'follower etcd_server_request_duration_seconds_{what}{{success="true",type="{kind}"}}'
            for what in ("count", "sum") for kind in ("ClusterMemberAttrSet", "ClusterVersionSet")]
# etcd's forwarded proposals name no sender.
METRICS += [f'{role} etcd_network_peer_received_bytes_total{{From="0"}}' for role in ("leader", "follower")]


class Names:
    """What differs between two clusters by chance, as what it stands for."""

    def __init__(self, three):
        self.three = three
        self.pairs = []

    def learn(self):
        self.pairs = []
        status = next(filter(None, (one.status() for one in self.three.running())))
        pairs = [(str(status["cluster_id"]), "CLUSTER"), (f"{status['cluster_id']:x}", "CLUSTER")]
        for one in self.three.members + self.three.gone:
            pairs += [(one.peer_url, f"{one.name}-PEER"), (one.url, f"{one.name}-CLIENT"),
                      (f"127.0.0.1:{one.peer_port}", f"{one.name}-PEER"), (f"127.0.0.1:{one.client_port}", f"{one.name}-CLIENT"),
                      (f"{one.id:016x}", f"{one.name}-ID"), (f"{one.id:x}", f"{one.name}-ID"), (str(one.id), f"{one.name}-ID")]
        self.pairs = sorted((pair for pair in pairs if len(pair[0]) > 4), key=lambda pair: -len(pair[0]))

    def of(self, text):
        for found, name in self.pairs:
            text = text.replace(found, name)
        return text


class Story:
    """What is asked of one cluster, and what it says: (label, answer) in order."""

    def __init__(self, case, three):
        self.case, self.three, self.said, self.names = case, three, [], Names(three)

    def note(self, label, answer):
        self.said.append((label, re.sub("  +", " ", self.names.of(str(answer)))))  # Go's texts have one or two, by chance

    def call(self, label, member, service, method, message=b"", show=None, timeout=20, **how):
        """One unary call over a connection of its own."""
        began = time.monotonic()
        try:
            with rpc.Client(member.client_port, timeout=timeout) as client:
                answer = client.call(service, method, message, **how)
            self.note(label, show(answer) if show else "ok")
        except rpc.GrpcError as error:
            self.note(label, f"{error.code} {error.message}")
        except OSError as error:
            self.note(label, type(error).__name__)
        return time.monotonic() - began

    def ctl(self, label, members, *arguments, keep=lambda text: text):
        code, out, errors = self.case.ctl(members, *arguments, check=False)
        errors = "\n".join(line for line in errors.splitlines() if not line.startswith('{"level":'))  # the client's log
        self.note(label, f"{code}\n{keep(self.names.of(out))}\n{keep(self.names.of(errors))}")

    def http(self, label, member, path, method="GET", body=None, headers=None, keep=lambda text: text):
        connection = http.client.HTTPConnection("127.0.0.1", member.peer_port, timeout=20)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            left_out = ("date", "content-length", "connection", "x-cairn-version")
            fields = {k.lower(): v for k, v in answer.getheaders() if k.lower() not in left_out}
            text = re.sub(r'"Now":"[^"]*"', '"Now":_', self.names.of(answer.read().decode(errors="replace")))
            if text.startswith("[{"):  # members, by their ids
                text = sorted(re.findall(r"\{.*?\}", text))
            self.note(label, f"{answer.status} {sorted(fields.items())} {keep(str(text))}")
        except (OSError, http.client.HTTPException) as error:
            self.note(label, type(error).__name__)
        finally:
            connection.close()


def members_of(answer):
    """The members that an answer lists."""
    out = []
    for raw in answer.get(2, []):
        one = rpc.dec(raw)
        out.append((rpc.first(one, 1), rpc.first(one, 2, b"").decode(), [u.decode() for u in one.get(3, [])],
                    [u.decode() for u in one.get(4, [])], rpc.first(one, 5)))
    return header_of(answer), sorted(out, key=lambda one: one[1:])


def header_of(answer):
    if 1 not in answer:
        return None
    header = rpc.dec(answer[1][0])
    return rpc.first(header, 1), rpc.first(header, 2), rpc.first(header, 3), 4 in header


def status_of(answer):
    return (header_of(answer), rpc.first(answer, 2), rpc.first(answer, 4), [e for e in answer.get(8, [])],
            rpc.first(answer, 10), rpc.first(answer, 11), 5 in answer, 6 in answer, 7 in answer,
            rpc.first(answer, 12) != 0, answer.get(13), sorted(answer))


def without_numbers(text):
    """Of tables and JSON: sizes, terms, indexes and times."""
    text = re.sub(r'"(raft_?[Tt]erm|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse|hash)":\d+', r'"\1":_', text)
    text = re.sub(r"\"?(RaftTerm|RaftIndex|RaftAppliedIndex|DBSize|DBSizeInUse|Hash)\"? : \d+", r"\1 : _", text)
    text = re.sub(r"took = [\d.]+[mµn]?s", "took = _", text)
    text = re.sub(r'"took":"[^"]*"', '"took":_', text)
    text = re.sub(r"\b\d+(\.\d+)? [kM]?B\b", "_ B", text)
    text = re.sub(r"\b\d+(\.\d+)?%", "_%", text)
    text = re.sub(r"((?:true|false)(?:,| │) (?:true|false))((?:,| │) \d+){3}", r"\1 _", re.sub(" +", " ", text))
    text = re.sub(r"[-+]{5,}|[┌└├].*", "+", text)
    text = re.sub(r"\b[\d.]+[mµn]?s\b", "_ s", text)
    return re.sub(r" +", " ", text)


@harness.needs("etcd37", "etcdctl37")
class Beside(cluster.ClusterCase):
    maxDiff = None
    quiet = False

    def _has_failed(self):
        return not self.quiet and super()._has_failed()

    def beside(self, tell, accepted=(), flags=(), by_label=False):
        """tell(story) for a cluster of each kind, whose first member leads; what the stories say is compared."""
        def one(kind):
            three = self.cluster([kind] * 3, name=kind, flags=[*cluster.QUICK, *flags]).start()
            three.move_leader(three.members[0])
            three.wait_equal()
            # etcd's directories are of 3.5 for some seconds.
            harness.until(lambda: all((one.status() or {}).get("storage_version") == "3.7.0" for one in three.members), 60)
            story = Story(self, three)
            story.names.learn()
            tell(story)
            three.close()
            return story.said

        told = [one(kind) for kind in KINDS]
        differing = []
        used = set()
        if by_label:  # one may say what the other does not
            labels = [dict(said) for said in told]
            told = [[(label, said.get(label)) for label in sorted(labels[0] | labels[1])] for said in labels]
        for (label, etcd), (other, cairn) in zip(*told, strict=True):
            self.assertEqual(label, other)
            if etcd == cairn:
                continue
            if label in accepted:
                used.add(label)
                continue
            if by_label and etcd is None:
                continue  # series are there from the start, and in etcd from the first time on
            differing.append(f"{label}\n  etcd  {etcd}\n  cairn {cairn}")
        if differing:
            self.quiet = True  # the logs say nothing of it
            self.fail("\n".join(differing))
        if not by_label:  # a series may come with what a member has done by then
            self.assertEqual(set(accepted) - used, set(), "accepted, and no difference any more")

    def test_questions_to_each_member(self):
        def tell(story):
            three = story.three
            order = three.members
            first = leader = order[0]
            follower = order[1]
            # So much log that one entry less is still in sync.
            three.do(lambda client: client.put_many([(b"k", b"v")] * 100), leader)
            three.wait_equal()
            # etcd drops a change that reaches the leader before that has applied the one before.
            def change(label, *asked):
                three.wait_equal()
                story.call(label, *asked)

            for role, one in (("leader", first), ("follower", follower)):
                story.call(f"{role} list", one, "Cluster", "MemberList", show=members_of)
                story.call(f"{role} list linearizable", one, "Cluster", "MemberList", rpc.enc((1, True)), members_of)
                story.call(f"{role} status", one, "Maintenance", "Status", show=status_of)
                story.call(f"{role} add nothing", one, "Cluster", "MemberAdd")
                story.call(f"{role} add no url", one, "Cluster", "MemberAdd", rpc.enc((1, ["nonsense"])))
                change(f"{role} add taken", one, "Cluster", "MemberAdd", rpc.enc((1, [follower.peer_url])))
                change(f"{role} add taken learner", one, "Cluster", "MemberAdd", rpc.enc((1, [follower.peer_url]), (2, True)))
                change(f"{role} remove unknown", one, "Cluster", "MemberRemove", rpc.enc((1, 4711)))
                change(f"{role} remove zero", one, "Cluster", "MemberRemove")
                change(f"{role} update unknown", one, "Cluster", "MemberUpdate", rpc.enc((1, 4711), (2, ["http://127.0.0.1:9"])))
                change(f"{role} update taken", one, "Cluster", "MemberUpdate", rpc.enc((1, first.id), (2, [follower.peer_url])))
                change(f"{role} promote unknown", one, "Cluster", "MemberPromote", rpc.enc((1, 4711)))
                change(f"{role} promote voter", one, "Cluster", "MemberPromote", rpc.enc((1, follower.id)))
                change(f"{role} promote zero", one, "Cluster", "MemberPromote")
                story.call(f"{role} move to unknown", one, "Maintenance", "MoveLeader", rpc.enc((1, 4711)))
                story.call(f"{role} move to zero", one, "Maintenance", "MoveLeader")
                story.call(f"{role} move to the leader", one, "Maintenance", "MoveLeader", rpc.enc((1, leader.id)),
                           show=lambda answer: sorted(answer))
                story.call(f"{role} alarm", one, "Maintenance", "Alarm", rpc.enc((1, 1), (2, follower.id), (3, 1)),
                           show=lambda answer: (header_of(answer), [rpc.dec(a) for a in answer.get(2, [])]))
                story.call(f"{role} put with an alarm", one, "KV", "Put", rpc.put_request(b"a", b"b"))
                three.wait_equal()
                for other in order:
                    story.call(f"{role} alarm: status of {other.name}", other, "Maintenance", "Status", show=status_of)
                    story.call(f"{role} alarm: get at {other.name}", other, "Maintenance", "Alarm",
                               show=lambda answer: [rpc.dec(a) for a in answer.get(2, [])])
                story.call(f"{role} disarm", one, "Maintenance", "Alarm", rpc.enc((1, 2), (2, follower.id), (3, 1)),
                           show=lambda answer: [rpc.dec(a) for a in answer.get(2, [])])
                story.call(f"{role} disarm again", one, "Maintenance", "Alarm", rpc.enc((1, 2), (2, follower.id), (3, 1)),
                           show=lambda answer: [rpc.dec(a) for a in answer.get(2, [])])
                story.call(f"{role} alarm of nobody", one, "Maintenance", "Alarm", rpc.enc((1, 1), (2, 4711), (3, 2)),
                           show=lambda answer: [rpc.dec(a) for a in answer.get(2, [])])
                story.call(f"{role} range while corrupt", one, "KV", "Range", rpc.enc((1, b"k")))
                story.call(f"{role} serializable while corrupt", one, "KV", "Range", rpc.enc((1, b"k"), (7, True)))
                story.call(f"{role} disarm of nobody", one, "Maintenance", "Alarm", rpc.enc((1, 2), (2, 4711), (3, 2)))
                for action, version in ((0, "3.6"), (0, "3.5"), (0, "3.7"), (0, "3.8"), (0, "x"), (2, ""), (3, "3.6"), (0, "")):
                    story.call(f"{role} downgrade {action} {version}", one, "Maintenance", "Downgrade", rpc.enc((1, action), (2, version)),
                               show=lambda answer: (header_of(answer), rpc.first(answer, 2)))
                story.call(f"{role} hashkv", one, "Maintenance", "HashKV", show=lambda answer: (header_of(answer), sorted(answer)))
                story.call(f"{role} hashkv future", one, "Maintenance", "HashKV", rpc.enc((1, 1 << 40)))
                story.call(f"{role} hash", one, "Maintenance", "Hash", show=lambda answer: sorted(answer))
                story.call(f"{role} defragment", one, "Maintenance", "Defragment", show=lambda answer: sorted(answer))
                story.call(f"{role} lease", one, "Lease", "LeaseGrant", rpc.enc((1, 60), (2, 77)), show=header_of)
                story.call(f"{role} lease again", one, "Lease", "LeaseGrant", rpc.enc((1, 60), (2, 77)), show=header_of)
                story.call(f"{role} time to live", one, "Lease", "LeaseTimeToLive", rpc.enc((1, 77)),
                           show=lambda answer: (header_of(answer), rpc.first(answer, 4)))
                story.call(f"{role} time to live of none", one, "Lease", "LeaseTimeToLive", rpc.enc((1, 78)),
                           show=lambda answer: (header_of(answer), {k: v for k, v in answer.items() if k != 1}))
                story.call(f"{role} renews", one, "Lease", "LeaseKeepAlive", rpc.enc((1, 77)), show=lambda answer: (header_of(answer), rpc.first(answer, 3)))
                story.call(f"{role} renews none", one, "Lease", "LeaseKeepAlive", rpc.enc((1, 78)), show=lambda answer: (header_of(answer), rpc.first(answer, 3)))
                story.call(f"{role} revokes", one, "Lease", "LeaseRevoke", rpc.enc((1, 77)), show=header_of)
                story.call(f"{role} revokes again", one, "Lease", "LeaseRevoke", rpc.enc((1, 77)), show=header_of)
                story.call(f"{role} compacts the future", one, "KV", "Compact", rpc.enc((1, 1 << 40)))
                story.call(f"{role} hasleader", one, "KV", "Range", rpc.enc((1, b"k")), metadata=(("hasleader", "true"),))

        self.beside(tell)

    def test_a_learner(self):
        def tell(story):
            three = story.three
            leader, follower = three.members[:2]
            learner = three.add(leader.kind, learner=True, start=False)
            story.names.learn()
            status = lambda label: [story.call(f"{label} status of {one.name}", one, "Maintenance", "Status", show=status_of)
                                    for one in (leader, learner) if one.running()]
            for role, one in (("leader", leader), ("follower", follower)):
                story.call(f"{role} second learner", one, "Cluster", "MemberAdd", rpc.enc((1, ["http://127.0.0.1:9"]), (2, True)))
                story.call(f"{role} not ready", one, "Cluster", "MemberPromote", rpc.enc((1, learner.id)))
                story.call(f"{role} move to learner", one, "Maintenance", "MoveLeader", rpc.enc((1, learner.id)))
                story.call(f"{role} list", one, "Cluster", "MemberList", show=lambda answer: [one[1:] for one in members_of(answer)[1]][:1])
            three.start_one(learner)
            three.wait_equal()
            story.names.learn()
            status("learner")
            key = rpc.enc((1, b"k"))
            for service, method, message in (
                    ("KV", "Range", key), ("KV", "Range", rpc.enc((1, b"k"), (7, True))), ("KV", "Put", rpc.put_request(b"k", b"v")),
                    ("KV", "DeleteRange", key), ("KV", "Txn", b""), ("KV", "Txn", rpc.txn_request([], [rpc.op_range(b"k")])),
                    ("KV", "Compact", b""), ("KV", "RangeStream", key), ("Lease", "LeaseGrant", rpc.enc((1, 60))), ("Lease", "LeaseRevoke", b""),
                    ("Lease", "LeaseTimeToLive", b""), ("Lease", "LeaseLeases", b""), ("Lease", "LeaseKeepAlive", rpc.enc((1, 1))),
                    ("Cluster", "MemberList", b""), ("Cluster", "MemberList", rpc.enc((1, True))), ("Cluster", "MemberAdd", b""),
                    ("Cluster", "MemberRemove", b""), ("Cluster", "MemberUpdate", b""), ("Cluster", "MemberPromote", b""),
                    ("Maintenance", "Alarm", b""), ("Maintenance", "Defragment", b""), ("Maintenance", "Hash", b""), ("Maintenance", "HashKV", b""),
                    ("Maintenance", "MoveLeader", b""), ("Maintenance", "Downgrade", b""), ("Maintenance", "Snapshot", b""),
                    ("Auth", "AuthStatus", b""), ("Auth", "AuthEnable", b""), ("Auth", "Authenticate", b""), ("Auth", "UserList", b""),
                    ("Auth", "RoleList", b""), ("Watch", "Watch", rpc.enc((1, rpc.enc((1, b"k")))))):
                story.call(f"learner {service}.{method} {message}", learner, service, method, message,
                           timeout=2 if service == "Watch" else 20)
            for path in ("/health", "/health?serializable=true", "/livez", "/readyz", "/version"):
                code, _, body = learner.http(path)
                story.note(f"learner {path}", f"{code} {sorted(body.splitlines())}")  # the checks' order is chance
            story.ctl("learner endpoint health", [learner], "endpoint", "health", keep=without_numbers)
            story.ctl("learner endpoint status", [learner], "endpoint", "status", "-w", "json", keep=without_numbers)
            story.ctl("learner put", [learner], "put", "a", "b")
            story.ctl("learner get", [learner], "get", "a", "--consistency=s")
            for name in ("etcd_server_is_learner", "etcd_server_has_leader", "etcd_server_is_leader",
                         "etcd_server_learner_promote_successes", "etcd_server_learner_promote_failures"):
                for one in (leader, learner):
                    story.note(f"{name} of {one.name}", one.metric(name))
            story.call("follower promotes", follower, "Cluster", "MemberPromote", rpc.enc((1, learner.id)), members_of)
            learner.is_learner = False
            three.wait_healthy()
            status("promoted")
            for name in ("etcd_server_is_learner", "etcd_server_learner_promote_successes"):
                for one in (leader, learner):
                    story.note(f"promoted {name} of {one.name}", one.metric(name))

        self.beside(tell, accepted=STORAGE)

    def test_the_peer_pages(self):
        def tell(story):
            three = story.three
            leader, follower = three.members[:2]
            cluster_id = f"{leader.status()['cluster_id']:x}"
            lease = rpc.enc((1, 77))
            three.do(lambda client: client.lease_grant(77, 60), leader)
            three.wait_equal()
            version = {"X-Server-Version": "3.7.1", "X-Min-Cluster-Version": "3.0.0"}
            right = {"X-Etcd-Cluster-ID": cluster_id, **version}
            for role, one in (("leader", leader), ("follower", follower)):
                for path in ("/", "/members", "/members/", "/members/x", "/version", "/versions", "/raft", "/raft/", "/raft/probing",
                             "/raft/stream", "/raft/stream/", "/members/promote", "/raft/stream/message", "/raft/stream/message/1", "/raft/stream/msgapp/1", "/raft/stream/other/1",
                             "/raft/stream/message/xyz", f"/raft/stream/message/{leader.id:x}", "/raft/snapshot",
                             "/leases", "/leases/", "/leases/internal", "/leases/internal/",
                             "/members/promote/", "/members/promote/1", "/members/promote/x", "/members/hashkv",
                             "/members/hashkv/", "/downgrade/enabled", "/downgrade/enabled/", "/health", "/metrics", "/debug/vars", "/v2/keys"):
                    for method in ("GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS"):
                        story.http(story.names.of(f"{role} {method} {path}"), one, path, method)
                    for name, headers in (("right", right), ("other", {**right, "X-Etcd-Cluster-ID": "1"}),
                                          ("old", {**right, "X-Server-Version": "2.0.0"}),
                                          ("new", {**right, "X-Min-Cluster-Version": "4.0.0"}),
                                          ("to", {**right, "X-Raft-To": f"{one.id:x}"}),
                                          ("to another", {**right, "X-Raft-To": "1"})):
                        if not path.startswith("/raft"):
                            continue
                        for method in ("GET", "POST"):
                            if path.startswith("/raft/stream") and path.endswith(f"{leader.id:x}") and method == "GET":
                                continue  # takes the place of the real one
                            story.http(story.names.of(f"{role} {method} {path} {name}"), one, path, method, None if method == "GET" else b"x", headers)
                unknown = rpc.enc((1, 78))
                for name, body in (("lease", lease), ("unknown", unknown), ("none", b""), ("broken", b"\xff\xff"), ("zero", rpc.enc((1, 0)))):
                    story.http(f"{role} renew {name}", one, "/leases", "POST", body, keep=lambda text: "PB" if "<" in text else text)
                    inner = rpc.enc((1, body)) if body != b"\xff\xff" else body
                    story.http(f"{role} internal {name}", one, "/leases/internal", "POST", inner, keep=lambda text: re.sub(r"[^ -~]", ".", text)[:6])
                for name, body in (("0", b'{"revision":0}'), ("1", b'{"revision":1}'), ("2^40", b'{"revision":1099511627776}'), ("none", b""), ("broken", b"{")):
                    for of, headers in (("", {}), (" of this", {"X-Etcd-Cluster-ID": cluster_id}), (" of another", {"X-Etcd-Cluster-ID": "1"})):
                        story.http(f"{role} hashkv {name}{of}", one, "/members/hashkv", "GET", body, headers,
                                   keep=lambda text: re.sub(r'"hash":\d+', '"hash":_', re.sub(r'"raft_term":\d+', '"raft_term":_', text)))

        # etcd's handler panics without a lease. Who does not lead sends the asker on, also about leases that it does not know.
        panics = [f"{role} {what}" for role in ("leader", "follower") for what in ("POST /leases/internal", "internal none", "internal zero")]
        self.beside(tell, accepted=[*panics, "follower internal unknown"])

    def test_etcdctl(self):
        def tell(story):
            three = story.three
            leader, follower, other = three.members
            three.do(lambda client: client.put(b"k", b"v"), leader)
            three.wait_equal()

            def lines(text):
                """Sorted: members are listed by their ids."""
                text = without_numbers(text)
                if '"members":[' in text:
                    text = re.sub(r'"members":\[(.*)\]', lambda found: "\n".join(sorted(re.findall(r"\{.*?\}", found[1]))), text)
                return "\n".join(sorted(text.splitlines()))

            for form in ("simple", "table", "json", "fields"):
                story.ctl(f"member list {form}", [follower], "member", "list", "-w", form, keep=lines)
                story.ctl(f"endpoint status {form}", [leader], "endpoint", "status", "-w", form, keep=lines)
                story.ctl(f"endpoint status of follower {form}", [follower], "endpoint", "status", "-w", form, keep=lines)
                story.ctl(f"endpoint health {form}", [leader], "endpoint", "health", "-w", form, keep=lines)
                story.ctl(f"endpoint hashkv {form}", [follower], "endpoint", "hashkv", "-w", form, keep=lines)
                story.ctl(f"alarm list {form}", [follower], "alarm", "list", "-w", form, keep=lines)
            story.ctl("status of all", [follower], "endpoint", "status", "--cluster", keep=lines)
            story.ctl("health of all", [follower], "endpoint", "health", "--cluster", keep=lines)
            story.ctl("hashkv of all", [follower], "endpoint", "hashkv", "--cluster", keep=lines)
            story.ctl("move leader without it", [follower], "move-leader", f"{other.id:x}")
            story.ctl("move leader to nobody", [leader, follower], "move-leader", "1234")
            story.ctl("move leader", [leader, follower], "move-leader", f"{follower.id:x}")
            three.wait_leader(other_than=leader)
            story.ctl("move leader to itself", [follower], "move-leader", f"{follower.id:x}")
            story.ctl("update", [leader], "member", "update", f"{other.id:x}", f"--peer-urls={other.peer_url}")
            for form in ("simple", "table", "json", "fields"):
                story.ctl(f"update {form}", [leader], "member", "update", f"{other.id:x}", f"--peer-urls={other.peer_url}", "-w", form, keep=lines)
            story.ctl("snapshot at a follower", [leader], "snapshot", "save", str(self.dir / f"{leader.kind}.db"),
                      keep=lambda text: re.sub(r"/\S+\.db", "FILE", text))
            story.ctl("lease grant at a follower", [leader], "lease", "grant", "60", keep=lambda text: re.sub(r"lease \w+", "lease _", text))
            time.sleep(5.5)  # etcd wants connections of five seconds
            story.ctl("remove unknown", [leader], "member", "remove", "1234")
            story.ctl("remove", [leader], "member", "remove", f"{other.id:x}")
            other.wait(30)
            three.members.remove(other)
            three.gone.append(other)
            story.ctl("remove again", [leader], "member", "remove", f"{other.id:x}")
            story.ctl("removed: list", [leader], "member", "list", keep=lines)

        self.beside(tell)

    def test_without_a_majority(self):
        def tell(story):
            three = story.three
            leader, left = three.members[:2]
            three.do(lambda client: client.put(b"k", b"v"), leader)
            three.do(lambda client: client.lease_grant(77, 600), leader)
            three.wait_equal()
            streams = rpc.Client(left.client_port, timeout=30)
            watch = streams.connection.start("/etcdserverpb.Watch/Watch", rpc.enc((1, rpc.enc((1, b"k")))), end=False, metadata=(("hasleader", "true"),))
            plain = streams.connection.start("/etcdserverpb.Watch/Watch", rpc.enc((1, rpc.enc((1, b"k")))), end=False)
            renew = streams.connection.start("/etcdserverpb.Lease/LeaseKeepAlive", rpc.enc((1, 77)), end=False, metadata=(("hasleader", "true"),))
            for one in three.members:
                if one is not left:
                    one.kill()
            harness.until(lambda: left.status() and left.status()["leader"] == 0, 30)
            story.call("status", left, "Maintenance", "Status", show=status_of)
            for label, stream in (("watch", watch), ("renew", renew)):
                try:
                    streams.connection.finish(stream, timeout=15)
                    story.note(f"{label} with hasleader", "ended")
                except (rpc.GrpcError, OSError) as error:
                    story.note(f"{label} with hasleader", error)
            story.note("watch without", plain.ended)
            streams.close()
            asked = {"put": ("KV", "Put", rpc.put_request(b"a", b"b")), "range": ("KV", "Range", rpc.enc((1, b"k"))),
                     "serializable": ("KV", "Range", rpc.enc((1, b"k"), (7, True))), "txn": ("KV", "Txn", rpc.txn_request([], [rpc.op_put(b"a", b"b")])),
                     "read txn": ("KV", "Txn", rpc.txn_request([], [rpc.op_range(b"k")])), "compact": ("KV", "Compact", rpc.enc((1, 1))),
                     "grant": ("Lease", "LeaseGrant", rpc.enc((1, 60))), "revoke": ("Lease", "LeaseRevoke", rpc.enc((1, 77))),
                     "renew": ("Lease", "LeaseKeepAlive", rpc.enc((1, 77))), "time to live": ("Lease", "LeaseTimeToLive", rpc.enc((1, 77))),
                     "leases": ("Lease", "LeaseLeases", b""), "list": ("Cluster", "MemberList", b""), "list linearizable": ("Cluster", "MemberList", rpc.enc((1, True))),
                     "add": ("Cluster", "MemberAdd", rpc.enc((1, ["http://127.0.0.1:9"]))), "remove": ("Cluster", "MemberRemove", rpc.enc((1, leader.id))),
                     "update": ("Cluster", "MemberUpdate", rpc.enc((1, leader.id), (2, ["http://127.0.0.1:9"]))),
                     "promote": ("Cluster", "MemberPromote", rpc.enc((1, leader.id))), "move": ("Maintenance", "MoveLeader", rpc.enc((1, leader.id))),
                     "alarm": ("Maintenance", "Alarm", b""), "arm": ("Maintenance", "Alarm", rpc.enc((1, 1), (2, leader.id), (3, 1))),
                     "hashkv": ("Maintenance", "HashKV", b""), "hash": ("Maintenance", "Hash", b""), "snapshot": ("Maintenance", "Snapshot", b""),
                     "defragment": ("Maintenance", "Defragment", b""), "validate": ("Maintenance", "Downgrade", rpc.enc((2, "3.6"))),
                     "enable": ("Maintenance", "Downgrade", rpc.enc((1, 1), (2, "3.6"))),
                     "cancel": ("Maintenance", "Downgrade", rpc.enc((1, 2))),
                     "auth status": ("Auth", "AuthStatus", b""), "users": ("Auth", "UserList", b""), "enable auth": ("Auth", "AuthEnable", b""),
                     "authenticate": ("Auth", "Authenticate", rpc.enc((1, "u"), (2, "p"))), "user": ("Auth", "UserAdd", rpc.enc((1, "u"), (2, "p")))}

            def ask(label):
                quiet = Story(self, three)
                quiet.names = story.names
                took = quiet.call(label, left, *asked[label], timeout=40)
                return label, quiet.said[0][1], took

            with concurrent.futures.ThreadPoolExecutor(len(asked)) as pool:
                for label, answer, took in pool.map(ask, asked):
                    story.note(label, f"{answer} {'at once' if took < 1.5 else 'late'}")
            for label in ("put", "range", "serializable", "list", "alarm"):
                story.call(f"{label} hasleader", left, *asked[label], metadata=(("hasleader", "true"),))
            for path in ("/health", "/health?serializable=true", "/livez", "/readyz", "/version"):
                code, _, body = left.http(path)
                story.note(path, f"{code} {body}")
            for name in ("etcd_server_has_leader", "etcd_server_is_leader", "etcd_server_is_learner"):
                story.note(name, left.metric(name))
            story.http("peer version", left, "/version")
            story.http("peer members", left, "/members")
            story.http("peer downgrade", left, "/downgrade/enabled")
            label, said = story.said[-1]  # two timers of etcd's run out at the same moment
            story.said[-1] = label, str(said).replace("context deadline exceeded", "etcdserver: request timed out")
            story.http("peer renew", left, "/leases", "POST", rpc.enc((1, 77)))

        # docs/compatibility.md: what never found a leader is `request timed out`; a change of the members, too.
        self.beside(tell, accepted=["put", "txn", "compact", "grant", "revoke", "alarm", "arm", "auth status", "users", "enable auth",
                                    "user", "remove", "update", "/readyz"])

    def test_the_log_of_a_stop(self):
        """SIGTERM of a follower and of the leader: etcd's lines, with their fields, in their order."""
        ours_too = ("received signal", "closing etcd server", "skipped leadership transfer", "leadership transfer", "closed etcd server")

        def tell(story):
            leader, follower = story.three.members[:2]
            story.names.learn()
            for role, one in (("follower", follower), ("leader", leader)):
                size = len(one.log_text())
                story.note(f"{role} ends with", story.three.stop_one(one))
                for fields in harness.json_lines(one.log_text()[size:]):
                    if fields["msg"].startswith(ours_too):
                        shown = {k: v for k, v in sorted(fields.items()) if k not in ("ts", "caller", "took", "data-dir", "stacktrace")}
                        # Whom it chooses is another rule.
                        text = story.names.of(json.dumps(shown))
                        story.said.append((f"{role}: {fields['msg']}", re.sub(r'("(transferee|new-leader)-member-id": )"m[23]-ID"', r"\1_", text)))
                if role == "follower":
                    story.three.start_one(one)
                    story.three.wait_equal()

        self.beside(tell)

    def test_metrics(self):
        """The series that a cluster adds, with their labels, and the values that dashboards show."""
        valued = ("etcd_server_has_leader", "etcd_server_is_leader", "etcd_server_is_learner", "etcd_network_active_peers",
                  "etcd_server_heartbeat_send_failures_total", "etcd_server_proposals_failed_total", "etcd_server_proposals_pending",
                  "etcd_server_learner_promote_successes", "etcd_network_disconnected_peers_total")

        def tell(story):
            three = story.three
            leader, follower, other = three.members
            three.do(lambda client: client.put_many((b"k/%03d" % i, b"v") for i in range(100)), follower)
            changes = leader.metric("etcd_server_leader_changes_seen_total"), follower.metric("etcd_server_leader_changes_seen_total")
            three.move_leader(follower)
            three.move_leader(leader)
            three.wait_equal()
            time.sleep(5.5)  # etcd looks at the round trips every five seconds

            def samples(one):
                out = {}
                for series, value in one.samples().items():
                    if series.startswith(("etcd_network_", "etcd_server_")) and "_bucket{" not in series and "go_version" not in series:
                        out[story.names.of(series)] = value
                return out

            for role, one, before in (("leader", leader, changes[0]), ("follower", follower, changes[1])):
                found = samples(one)
                for name in sorted(found):
                    story.said.append((f"{role} {name}", found[name] if name.startswith(valued) else "is there"))
                story.note(f"{role} changes", found["etcd_server_leader_changes_seen_total"] - before)
            three.kill(other)
            harness.until(lambda: leader.misses(other), 30)
            for role, one in (("leader", leader), ("follower", follower)):
                found = samples(one)
                for name in sorted(found):
                    if name.startswith(valued):
                        story.said.append((f"{role} without the third: {name}", found[name]))

        self.beside(tell, by_label=True, accepted=METRICS)

    def test_a_member_that_starts_without_the_others(self):
        """What the others are told by one that does not serve clients yet."""
        def tell(story):
            three = story.three
            one = three.members[1]
            story.names.learn()
            three.do(lambda client: client.put(b"k", b"v"))
            three.do(lambda client: client.lease_grant(77, 600))
            three.wait_equal()
            three.stop()
            three.launch(one)

            def answers():
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", one.peer_port), timeout=5) as asking:
                    asking.sendall(b"GET /version HTTP/1.0\r\n\r\n")
                    return asking.recv(100)
                return b""

            def plain(text):
                # etcd's handler and its read wait equally long: either may say that time is up.
                text = text.replace("context deadline exceeded", "etcdserver: request timed out")
                return re.sub(r'"hash":\d+', '"hash":_', text)

            harness.until(answers)
            for label, path, method, body in (
                    ("version", "/version", "GET", None), ("members", "/members", "GET", None),
                    ("hashkv", "/members/hashkv", "GET", b'{"revision":0}'), ("renew", "/leases", "POST", rpc.enc((1, 77))),
                    ("renew unknown", "/leases", "POST", rpc.enc((1, 78))),
                    ("time left", "/leases/internal", "POST", rpc.enc((1, rpc.enc((1, 77))))),
                    ("time left of unknown", "/leases/internal", "POST", rpc.enc((1, rpc.enc((1, 78))))),
                    ("promote", "/members/promote/1", "POST", None), ("downgrade", "/downgrade/enabled", "GET", None)):
                began = time.monotonic()
                story.http(label, one, path, method, body, keep=plain)
                took = time.monotonic() - began
                story.note(f"{label} comes", "at once" if took < 2 else "late")

        self.beside(tell, accepted=["time left of unknown"])  # see test_the_peer_pages

    def test_starts_that_are_refused(self):
        """With flags of a cluster that contradict each other, or what the cluster is: code and last line."""
        def last(kind, name, arguments, ports):
            data = self.dir / f"{kind}-{name}"
            server = harness.Server(kind, data, ports=ports)
            self.servers.append(server)
            server.arguments = lambda: [str(harness.program(kind)), "--data-dir", str(data), "--listen-client-urls", server.url,
                                        "--advertise-client-urls", server.url, *arguments]
            server.launch()
            try:
                code = server.process.wait(20)
            except Exception:
                server.kill()
                return "goes on"
            server.process = None
            line = server.log_text().splitlines()[-1]
            fields = json.loads(line) if line.startswith("{") else {}
            said = fields.get("error", fields["msg"]) if fields else "usage"
            return f"{code} {said}".replace(str(data), "DATA")

        ports = harness.free_port(), harness.free_port()
        others = [harness.free_port() for _ in range(2)]
        own, b, c = (f"http://127.0.0.1:{port}" for port in (ports[1], *others))
        base = {"--name": "a", "--listen-peer-urls": own, "--initial-advertise-peer-urls": own, "--initial-cluster": f"a={own},b={b},c={c}"}
        cases = {
            "no name of mine": {"--initial-cluster": f"x={own},b={b},c={c}"},
            "another url of mine": {"--initial-cluster": f"a={b},b={own},c={c}"},
            "more urls of mine": {"--initial-cluster": f"a={own},a=http://127.0.0.1:7,b={b},c={c}"},
            "fewer urls of mine": {"--initial-advertise-peer-urls": f"{own},http://127.0.0.1:7"},
            "a url twice": {"--initial-cluster": f"a={own},b={b},c={b}"},
            "a member twice": {"--initial-cluster": f"a={own},b={b},b={b}"},
            "my url twice": {"--initial-cluster": f"a={own},b={own},c={c}"},
            "no cluster": {"--initial-cluster": ""},
            "nobody else": {"--initial-cluster": "a="},
            "a host": {"--initial-cluster": f"a={own},b=127.0.0.1:7"},
            "a path": {"--initial-cluster": f"a={own},b=http://127.0.0.1:7/x"},
            "no port": {"--initial-cluster": f"a={own},b=http://127.0.0.1"},
            "another scheme": {"--initial-cluster": f"a={own},b=ftp://127.0.0.1:7"},
            "state": {"--initial-cluster-state": "old"},
            "joins nobody": {"--initial-cluster-state": "existing"},
            "joins itself": {"--initial-cluster-state": "existing", "--initial-cluster": f"a={own}"},
            "no token": {"--initial-cluster-token": ""},
            "discovery": {"--discovery-endpoints": "http://127.0.0.1:9", "--discovery-token": "x"},
            "discovery alone": {"--initial-cluster": None, "--discovery-token": "x"},
            "discovery of dns": {"--discovery-srv": "invalid.", "--initial-cluster": None},
            "strict": {"--strict-reconfig-check": "maybe"},
            "advance": {"--initial-election-tick-advance": "maybe"},
            "peer certificate": {"--peer-cert-file": "/none", "--peer-key-file": "/none", "--initial-cluster": f"a={own.replace('http', 'https')}",
                                 "--listen-peer-urls": own.replace("http", "https"), "--initial-advertise-peer-urls": own.replace("http", "https")},
            "https without a certificate": {"--listen-peer-urls": own.replace("http", "https")},
            "learners": {"--max-learners": "0"},
            "election": {"--election-timeout": "100", "--heartbeat-interval": "50"},
            "election too long": {"--election-timeout": "50001"},
            "heartbeat": {"--heartbeat-interval": "0"},
        }
        differing = []
        for name, changes in cases.items():
            flags = [f"{flag}={value}" for flag, value in {**base, **changes}.items() if value is not None]
            etcd, cairn = (last(kind, name.replace(" ", "-"), flags, ports) for kind in KINDS)
            if etcd != cairn and name not in ("discovery", "discovery alone", "discovery of dns"):  # not built
                differing.append(f"{name}\n  etcd  {etcd}\n  cairn {cairn}")
        if differing:
            self.fail("\n".join(differing))


if __name__ == "__main__":
    harness.main()
