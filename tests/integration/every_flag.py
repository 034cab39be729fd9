"""Every flag of etcd 3.7.1 at once, for one start: arguments() with the files that they name.

FIXED have one valid value alone, and LEFT_OUT ask for what needs other machines. Two flags for peers exclude each other, so
`again`, for a start that finds the data, has the other one.
"""

import pathlib

import pki

FLAGS = (pathlib.Path(__file__).resolve().parents[2] / "src/cmd/server/testdata/flags.txt").read_text().split()
FIXED = {"discovery-fallback": "exit", "logger": "zap", "tls-min-version": "TLS1.2", "v2-deprecation": "write-only"}
LEFT_OUT = {"config-file", "discovery-endpoints", "discovery-srv", "discovery-srv-name", "discovery-token", "version"}
IGNORED = """cluster-active-size cluster-remove-delay cluster-sync-interval config force max-result-buffer max-retry-attempts
peer-election-timeout peer-heartbeat-interval retry-interval snapshot test.coverprofile test.outputdir v vv""".split()
BY_ITSELF = {
    "auth-token-ttl": 400, "auto-compaction-mode": "revision", "auto-compaction-retention": 1000, "auto-tls": "true",
    "backend-batch-interval": "50ms", "backend-batch-limit": 5000, "backend-bbolt-freelist-type": "array", "bcrypt-cost": 5,
    "bootstrap-defrag-threshold-megabytes": 1, "cipher-suites":
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "client-cert-allowed-hostname": "localhost",
    "client-cert-auth": "true", "compact-hash-check-time": "30s", "compaction-batch-limit": 500,
    "compaction-sleep-interval": "5ms", "corrupt-check-time": "1h", "cors": "http://example.org:80",
    "discovery-cacert": "x", "discovery-cert": "x", "discovery-dial-timeout": "3s",
    "discovery-insecure-skip-tls-verify": "true", "discovery-insecure-transport": "false", "discovery-keepalive-time": "3s",
    "discovery-keepalive-timeout": "5s", "discovery-key": "x", "discovery-password": "x", "discovery-request-timeout": "4s",
    "discovery-user": "x", "distributed-tracing-address": "127.0.0.1:1", "distributed-tracing-instance-id": "x",
    "distributed-tracing-sampling-rate": 1000, "distributed-tracing-service-name": "x", "downgrade-check-time": "4s",
    "election-timeout": 1500, "enable-distributed-tracing": "true", "enable-grpc-gateway": "false",
    "enable-log-rotation": "true", "enable-pprof": "true", "feature-gates":
    "CompactHashCheck=true,InitialCorruptCheck=true,LeaseCheckpoint=true,StopGRPCServiceOnDefrag=true",
    "force-new-cluster": "true", "grpc-keepalive-interval": "1h", "grpc-keepalive-min-time": "1s",
    "grpc-keepalive-timeout": "10s", "heartbeat-interval": 150, "host-whitelist": "127.0.0.1,localhost",
    "initial-cluster-token": "t", "initial-election-tick-advance": "false", "log-format": "console", "log-level": "debug",
    "log-rotation-config-json": '{"maxsize":10}', "max-concurrent-streams": 1000, "max-learners": 2,
    "max-request-bytes": 2_000_000, "max-snapshots": 3, "max-txn-ops": 200, "max-wals": 4, "memory-mlock": "true",
    "metrics": "extensive", "name": "m", "peer-auto-tls": "true", "peer-client-cert-auth": "true",
    "peer-skip-client-san-verification": "true", "pre-vote": "false", "quota-backend-bytes": 4 << 30,
    "raft-read-timeout": "6s", "raft-write-timeout": "6s", "self-signed-cert-validity": 2, "snapshot-catchup-entries": 100,
    "snapshot-count": 100, "socket-reuse-address": "true", "socket-reuse-port": "true", "strict-reconfig-check": "false",
    "tls-max-version": "TLS1.3", "unsafe-no-fsync": "true", "warning-apply-duration": "90ms",
    "warning-unary-request-duration": "200ms", "watch-progress-notify-interval": "5s",
}


class EveryFlag:
    """`directory` gets the files and the data; `ports` are five of the loopback, the first one for clients without TLS."""

    def __init__(self, directory, ports):
        pki.require()
        directory.mkdir(parents=True, exist_ok=True)
        authority = pki.Authority(directory)
        mine, peer, gone = (authority.issue(name) for name in ("mine", "peer", "gone"))
        crl, key = directory / "crl", directory / "jwt.key"
        authority.revoke([gone], crl)
        key.write_text("a key of the test\n")
        client, secure, http, metrics, peers = (f"127.0.0.1:{port}" for port in ports)
        self.log, self.data_dir = directory / "member.log", directory / "data"
        self.values = {
            **FIXED, **BY_ITSELF, **dict.fromkeys(IGNORED, "x"),
            "advertise-client-urls": f"http://{client}", "auth-token": f"jwt,priv-key={key},sign-method=HS256",
            "cert-file": mine.cert, "client-cert-file": mine.cert, "client-crl-file": crl, "client-key-file": mine.key,
            "data-dir": self.data_dir, "initial-advertise-peer-urls": f"https://{peers}",
            "initial-cluster": f"m=https://{peers}", "initial-cluster-state": "new", "key-file": mine.key,
            "listen-client-http-urls": f"http://{http}", "listen-client-urls": f"http://{client},https://{secure}",
            "listen-metrics-urls": f"http://{metrics}", "listen-peer-urls": f"https://{peers}",
            "log-outputs": f"{self.log},stderr", "peer-cert-allowed-cn": "peer", "peer-cert-file": peer.cert,
            "peer-client-cert-file": peer.cert, "peer-client-key-file": peer.key, "peer-crl-file": crl,
            "peer-key-file": peer.key, "peer-trusted-ca-file": authority.cert, "trusted-ca-file": authority.cert,
            "wal-dir": directory / "wal",
        }

    def arguments(self, without=()):
        return [f"--{name}={value}" for name, value in self.values.items() if name not in without]

    def again(self):
        self.values["initial-cluster-state"] = "existing"
        self.values["peer-cert-allowed-hostname"] = "localhost"
        self.values.pop("peer-cert-allowed-cn", None)
