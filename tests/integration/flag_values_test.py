"""Values of flags, each given to etcd 3.7 and to Cairn: both take it, or both refuse it with the same reason.

The client address is taken, so a start whose flags are accepted ends there and nothing is written. `--large` tries
every value with every flag; without it, each flag has those of its type.
"""

import concurrent.futures
import os
import re
import socket
import subprocess

import harness

TAKEN = "address already in use"

# Flags by type. What only Cairn has, what prints and exits, and what etcd ignores is not here.
BOOL = """auto-tls client-cert-auth discovery-insecure-skip-tls-verify discovery-insecure-transport
enable-distributed-tracing enable-grpc-gateway enable-log-rotation enable-pprof force-new-cluster
initial-election-tick-advance memory-mlock peer-auto-tls peer-client-cert-auth peer-skip-client-san-verification
pre-vote socket-reuse-address socket-reuse-port strict-reconfig-check unsafe-no-fsync""".split()
INTEGER = """backend-batch-limit compaction-batch-limit distributed-tracing-sampling-rate max-learners
quota-backend-bytes""".split()
UNSIGNED = """auth-token-ttl bcrypt-cost bootstrap-defrag-threshold-megabytes election-timeout heartbeat-interval
max-concurrent-streams max-request-bytes max-snapshots max-txn-ops max-wals self-signed-cert-validity
snapshot-catchup-entries snapshot-count""".split()
DURATION = """backend-batch-interval compact-hash-check-time compaction-sleep-interval corrupt-check-time
discovery-dial-timeout discovery-keepalive-time discovery-keepalive-timeout discovery-request-timeout
downgrade-check-time grpc-keepalive-interval grpc-keepalive-min-time grpc-keepalive-timeout raft-read-timeout
raft-write-timeout warning-apply-duration warning-unary-request-duration watch-progress-notify-interval""".split()
URLS = """advertise-client-urls initial-advertise-peer-urls listen-client-http-urls listen-metrics-urls
listen-peer-urls""".split()
TEXT = """auth-token auto-compaction-mode auto-compaction-retention backend-bbolt-freelist-type cert-file cipher-suites
client-cert-allowed-hostname client-cert-file client-crl-file client-key-file cors discovery-cacert
discovery-cert discovery-endpoints discovery-fallback discovery-key discovery-password discovery-srv discovery-srv-name
discovery-token discovery-user distributed-tracing-address distributed-tracing-instance-id
distributed-tracing-service-name feature-gates host-whitelist initial-cluster initial-cluster-state
initial-cluster-token key-file log-format log-level log-outputs log-rotation-config-json logger metrics name
peer-cert-allowed-cn peer-cert-allowed-hostname peer-cert-file peer-client-cert-file peer-client-key-file peer-crl-file
peer-key-file peer-trusted-ca-file tls-max-version tls-min-version trusted-ca-file v2-deprecation wal-dir""".split()

VALUES = {
    "bool": ["", "true", "F", "yes", "2"],
    "integer": ["", "x", "-1", "0", "1", "0x10", "9223372036854775807", "9223372036854775808"],
    "unsigned": ["", "x", "-1", "0", "1", "1_0", "4294967296", "18446744073709551616"],
    "duration": ["", "x", "5", "-1s", "0", "1ns", "1h1m", "9999999h"],
    "urls": ["", "x", "http://", "http://127.0.0.1", "http://127.0.0.1:0", "http://127.0.0.1:99999", "http://%zz:1",
             "http://a b:1", "http://127.0.0.1:1/p", "http://127.0.0.1:-1", "ftp://127.0.0.1:1", "http://:1",
             " http://127.0.0.1:1", "http://127.0.0.1:1,", "http://127.0.0.1:1,http://127.0.0.1:1", "http://u@127.0.0.1:1",
             "http://127.0.0.1:1?x", "http://127.0.0.1:x", "http://[::1]:1", "http://[::1", "HTTP://127.0.0.1:1"],
    "text": ["", "x"],
}
OWN_VALUES = {
    "auto-compaction-mode": ["periodic", "revision", "Periodic"],
    "auto-compaction-retention": ["0", "-1", "0h", "1x"],
    "cors": ["*", "http://x:1", "*,*"],
    "discovery-fallback": ["exit", "proxy"],
    "feature-gates": ["AllAlpha=true", "AllBeta=true", "AllAlpha", "x=true", "AllAlpha=x", "LeaseCheckpointPersist=true",
                      "LeaseCheckpoint=true,LeaseCheckpointPersist=true", ",", "CompactHashCheck=false", "AllBeta=false",
                      "AllAlpha=true,CompactHashCheck=false,InitialCorruptCheck=false",
                      "AllAlpha=true,LeaseCheckpoint=false"],
    "host-whitelist": ["*", "*,*", "*,x"],
    "initial-cluster": ["m=http://x:1", "m=", "=http://x:1", "m=http://x:1,m=http://y:1", "m", "m=x", ","],
    "initial-cluster-state": ["new", "existing", "New"],
    "log-format": ["json", "console"],
    "log-level": ["debug", "DEBUG", "warning", "panic", "dpanic"],
    "log-outputs": ["default", "stderr", "stdout", "default,stderr", "stderr,stderr", "/dev/null", "/nothing/x"],
    "logger": ["zap", "capnslog"],
    "metrics": ["basic", "extensive"],
    "name": ["x=y", "a,b", "a b", "\u00e9"],
    "tls-max-version": ["TLS1.2", "TLS1.3", "TLS1.1"],
    "tls-min-version": ["TLS1.2", "TLS1.1"],
    "v2-deprecation": ["not-yet", "write-only", "write-only-skip-check", "write-only-drop-data", "gone"],
    "backend-bbolt-freelist-type": ["map", "array"],
    "max-learners": ["-2", "+1"],
    "heartbeat-interval": ["200", "201"],
    "election-timeout": ["500", "499", "50000", "50001"],
    "distributed-tracing-sampling-rate": ["1000000", "1000001"],
}
TOGETHER = [
    ["--enable-log-rotation", "--log-outputs=stderr"], ["--enable-log-rotation", "--log-outputs=default"],
    ["--enable-log-rotation", "--log-outputs=/dev/null"], ["--enable-log-rotation", "--log-rotation-config-json=x"],
    ["--enable-log-rotation", "--log-outputs=/dev/null,stderr"],
    ["--enable-log-rotation", "--log-outputs=/dev/null", "--log-rotation-config-json="],
    ["--enable-distributed-tracing", "--distributed-tracing-sampling-rate=-1"],
    ["--enable-distributed-tracing", "--distributed-tracing-sampling-rate=1000001"],
    ["--name=default"], ["--initial-cluster-state=existing", "--initial-cluster=m=http://localhost:2380"],
    ["--discovery-token=x", "--discovery-endpoints=y"], ["--discovery-endpoints=,"], ["--discovery-srv=x"],
]

# What Cairn says where the features are missing that etcd would start with.
UNBUILT = re.compile(r"is not built yet")

# Arguments -> why the outcomes may differ.
ACCEPTED = {
    r"--(election-timeout|heartbeat-interval)=4294967296": "the text shows the number cut to 32 bits",
    r"--initial-cluster=(x|m=|m|m=x)": "read before the address is bound, as any flag",
    r"--name=(x=y|a,b)": "read before the address is bound, as any flag",
    r"--max-learners=-[12]": "etcd says the same once it has bound the address",
}


# etcd binds the addresses of these two flags in the order of a map: what it says of a pair that both fail is chance.
UNDECIDED = {"--listen-client-http-urls=http://127.0.0.1:99999"}


def cases(large):
    types = {"bool": BOOL, "integer": INTEGER, "unsigned": UNSIGNED, "duration": DURATION, "urls": URLS, "text": TEXT}
    every = list(dict.fromkeys(value for values in VALUES.values() for value in values))
    for kind, flags in types.items():
        for flag in flags:
            for value in [*(every if large else VALUES[kind]), *OWN_VALUES.get(flag, [])]:
                if f"--{flag}={value}" not in UNDECIDED:
                    yield [f"--{flag}={value}"]
    yield from TOGETHER


@harness.needs("etcd37")
class BesideEtcd(harness.Case):
    def outcome(self, kind, arguments):
        """"taken", or what was wrong."""
        client = f"http://127.0.0.1:{self.port}"
        own = {argument.partition("=")[0] for argument in arguments}
        base = [f"--listen-client-urls={client}", f"--advertise-client-urls={client}", "--name=m",
                "--listen-peer-urls=http://127.0.0.1:0", f"--data-dir={self.dir / 'data'}"]
        command = [str(harness.program(kind)), *(flag for flag in base if flag.partition("=")[0] not in own), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, cwd=self.dir,
                                  stdin=subprocess.DEVNULL, env={"PATH": os.environ["PATH"]})
        except subprocess.TimeoutExpired:
            return "runs"
        text = done.stdout + done.stderr
        if TAKEN in text:
            return "taken"
        return f"{done.returncode}: {harness.why_ended(text)}"

    def test_values_are_taken_and_refused_alike(self):
        with socket.socket() as holder, concurrent.futures.ThreadPoolExecutor(8) as pool:
            self.port = harness.free_port()
            holder.bind(("127.0.0.1", self.port))
            holder.listen()
            asked = list(cases(self.options.large))
            found = list(pool.map(lambda case: [self.outcome(kind, case) for kind in ("etcd37", "cairn")], asked))
        self.assertGreater(len(asked), 300)
        self.check_alike(((" ".join(case), etcd, cairn) for case, (etcd, cairn) in zip(asked, found, strict=True)
                          if etcd != "taken" or not UNBUILT.search(cairn)),
                         lambda words: (one for one in ACCEPTED if re.fullmatch(one, words)), ACCEPTED)


if __name__ == "__main__":
    harness.main(lambda parser: parser.add_argument("--large", action="store_true"))
