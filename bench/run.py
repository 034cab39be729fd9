#!/usr/bin/env python3
"""Measures one member of cairn beside one of etcd, on the same work in one run, and prints a Markdown table; in the rows
called three_... three members beside three.

    bench/run.py [--servers cairn,etcd37,etcd34] [--rows put,get,...] [--quick] [--json FILE]

The servers run one after the other, each on fresh directories, on loopback. A throughput counts only while the
generator is below 90 % of its core: cells that break this are marked with (!). What the servers cost is read from
/proc. Needs: ./dev build cairn_loadgen, tests/oracles/build for etcd 3.7.
"""

import argparse
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time

import servers
import table

ROOT = servers.ROOT
sys.path.insert(0, str(ROOT / "tests/integration"))

import cluster_rows  # noqa: E402
import every_flag  # noqa: E402
import pki  # noqa: E402
import rpc  # noqa: E402

GENERATOR_SHARE_MAX = 0.90


class Failed(Exception):
    pass


class Bench(cluster_rows.ClusterRows):
    """The rows for one kind of server. Each row method returns {figure: number}."""

    Failed = Failed

    def __init__(self, kind, options):
        self.kind = kind
        self.options = options
        self.server = None
        self.keys = options.keys
        self.seconds = options.seconds
        self.loaded = False
        self.has_leases = False
        self.token = ()  # of a user, as an option of the generator
        self.pair = None  # of the servers that serve over TLS

    # Tools.

    def generator_command(self, workload, *args):
        secure = ["--tls"] if self.server.pair else []
        return [str(self.options.loadgen), workload, "--endpoint", self.server.endpoint, *secure, *self.token,
                *map(str, args)]

    def generate(self, workload, *args):
        """Runs the generator; its figures and the server's CPU meanwhile."""
        before = self.server.cpu_seconds()
        done = subprocess.run(self.generator_command(workload, *args), capture_output=True, text=True)
        if done.returncode != 0 or not self.server.alive():
            raise Failed(f"{workload} {args}: {done.stderr.strip() or done.stdout.strip()}\n{self.server.log_tail()}")
        out = json.loads(done.stdout)
        out["server_cpu_s"] = self.server.cpu_seconds() - before
        return out

    def load_figures(self, result):
        """The figures of a throughput row."""
        return {
            "ops_per_s": result["ops_per_s"],
            "cpu_us": result["server_cpu_s"] * 1e6 / result["ops"],
            "p50_us": result["latency_us"]["p50"],
            "p99_us": result["latency_us"]["p99"],
            "generator_share": result["cpu_share"],
            "generator_cpu_us": result["cpu_us_per_op"],
        }

    def start_fresh(self, flags=(), pair=None):
        self.drop()
        self.server = servers.Server(self.kind, self.options.binaries[self.kind], self.options.dir, flags, pair)
        return self.start_and_wait()

    def start_and_wait(self):
        """Starts the server; milliseconds until the first good answer."""
        begin_ns = time.monotonic_ns()
        self.server.start()
        return self.wait_good(begin_ns)

    def wait_good(self, begin_ns):
        command = self.generator_command(
            "get", "--requests", 1, "--connections", 1, "--streams", 1, "--wait", 120)
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0 or not self.server.alive():
            raise Failed(f"{self.kind} does not answer: {done.stderr}\n{self.server.log_tail()}")
        return (json.loads(done.stdout)["first_good_ns"] - begin_ns) / 1e6

    def drop(self):
        if self.server is not None:
            self.server.close()
        self.server = None
        self.loaded = False
        self.has_leases = False
        self.token = ()

    def need_small(self, pair=None):
        """A server with one key."""
        if not isinstance(self.server, servers.Server) or self.loaded or self.has_leases or self.token or self.server.pair != pair:
            self.start_fresh(pair=pair)
        self.generate("put", "--requests", 200)

    def need_loaded(self):
        """A server with the many keys."""
        if not self.loaded:
            self.row_load()

    def many(self, *args):
        return ("--keys", self.keys, *args)

    # Rows.

    def row_empty(self):
        start_ms = self.start_fresh()
        time.sleep(2)
        memory = self.server.memory_mb()
        cpu, written = self.server.cpu_seconds(), self.server.written_bytes()
        time.sleep(10)
        return {
            "start_ms": start_ms,
            "anon_mb": memory["anon"],
            "file_mb": memory["file"],
            "idle_cpu_percent": (self.server.cpu_seconds() - cpu) * 10,
            "idle_written_kb": (self.server.written_bytes() - written) / 1024,
        }

    def row_every_flag(self):
        """A first start and a second one with every flag of etcd 3.7.1 at once."""
        self.drop()
        self.server = servers.Server(self.kind, self.options.binaries[self.kind], self.options.dir)
        ports = [self.server.client_port, *servers.free_ports(3), self.server.peer_port]
        every = every_flag.EveryFlag(self.server.dir / "every", ports)
        self.server.command = every.arguments
        first_ms = self.start_and_wait()
        self.server.stop()
        every.again()
        again_ms = self.start_and_wait()
        self.drop()
        return {"start_ms": first_ms, "restart_ms": again_ms}

    def row_put(self):
        self.need_small()
        return self.load_figures(self.generate("put", "--seconds", self.seconds))

    def row_get(self):
        self.need_small()
        return self.load_figures(self.generate("get", "--seconds", self.seconds))

    def row_get_serializable(self):
        self.need_small()
        return self.load_figures(self.generate("get", "--seconds", self.seconds, "--serializable"))

    def row_txn_put(self):
        self.need_small()
        return self.load_figures(self.generate("txn", "--seconds", self.seconds))

    def row_txn_get(self):
        self.need_small()
        return self.load_figures(self.generate("txn", "--seconds", self.seconds, "--branch", "get"))

    def row_json_put(self):
        self.need_small()
        return self.load_figures(self.generate("json-put", "--seconds", self.seconds))

    def row_json_get(self):
        self.need_small()
        return self.load_figures(self.generate("json-get", "--seconds", self.seconds))

    def row_one_put(self):
        self.need_small()
        return self.load_figures(
            self.generate("put", "--seconds", self.seconds, "--connections", 1, "--streams", 1))

    def row_one_get(self):
        self.need_small()
        return self.load_figures(
            self.generate("get", "--seconds", self.seconds, "--connections", 1, "--streams", 1))

    def need_tls(self):
        """The same for clients over TLS. The key is RSA's of 2048 bits, as kubeadm makes it."""
        if self.pair is None:
            self.pki_dir = tempfile.TemporaryDirectory(prefix="bench-pki-", dir=self.options.dir)
            self.pair = pki.Authority(self.pki_dir.name, kind="rsa").issue("server", kind="rsa")
        self.need_small(self.pair)

    def row_tls_put(self):
        self.need_tls()
        return self.load_figures(self.generate("put", "--seconds", self.seconds))

    def row_tls_get(self):
        self.need_tls()
        return self.load_figures(self.generate("get", "--seconds", self.seconds))

    def row_tls_list(self):
        """An answer of 10 MB: what its bytes cost."""
        self.need_tls()
        self.generate("put", "--prefix", "/list/", "--keys", 10_000, "--requests", 10_000, "--order", "permutation",
                      "--value-size", 1000)
        return self.repeated("list", "--prefix", "/list/")[1]

    def row_tls_json_put(self):
        self.need_tls()
        return self.load_figures(self.generate("json-put", "--seconds", self.seconds))

    def row_tls_json_get(self):
        self.need_tls()
        return self.load_figures(self.generate("json-get", "--seconds", self.seconds))

    def handshakes(self, *args):
        self.need_tls()
        result = self.generate("handshake", "--connections", 20, "--seconds", self.seconds, *args)
        return self.load_figures(result) | {"resumed": result["resumed"] / result["ops"]}

    def row_tls_handshakes(self):
        figures = self.handshakes()
        if figures["resumed"] > 0:
            raise Failed(f"{figures['resumed']:.0%} of the handshakes took up a session")
        return figures

    def row_tls_resumed(self):
        return self.handshakes("--resume")

    def row_tls_storm(self):
        """Gets at a steady rate, alone and while others shake hands as fast as they can."""
        self.need_tls()
        load = ("get", "--rate", self.options.compact_rate, "--connections", 4)
        calm = self.generate(*load, "--seconds", 2)
        storm = subprocess.Popen(self.generator_command("handshake", "--connections", 20, "--seconds", self.seconds + 2),
                                 stdout=subprocess.PIPE, text=True)
        try:
            time.sleep(1)
            busy = self.generate(*load, "--seconds", self.seconds)
            handshakes = json.loads(storm.communicate()[0])
        finally:
            storm.kill()
            storm.wait()
        return {"storm_per_s": handshakes["ops_per_s"], "calm_p50_us": calm["latency_us"]["p50"],
                "calm_p99_us": calm["latency_us"]["p99"], "p50_us": busy["latency_us"]["p50"],
                "p99_us": busy["latency_us"]["p99"], "max_us": busy["latency_us"]["max"]}

    def need_auth(self, kind):
        """A server with auth on, and a token of a user who may read and write the keys of the generator."""
        flags = ["--auth-token-ttl", "3600"]
        if kind == "jwt":
            flags += ["--auth-token", f"jwt,priv-key={self.jwt_key()},sign-method=RS256,ttl=2h"]
        if self.server is not None and self.token and self.server.flags == flags:
            return
        self.start_fresh(flags)
        with rpc.Client(self.server.client_port) as root:
            root.user_add("root", "rootpw")
            root.role_add("root")
            root.user_grant("root", "root")
            root.role_add("bench")
            root.role_grant("bench", 2, b"/bench/", b"/bench0")
            root.user_add("bench", "benchpw")
            root.user_grant("bench", "bench")
            root.auth_enable()
            self.token = ("--token", root.authenticate("bench", "benchpw").decode())
        self.generate("put", "--requests", 200)

    def jwt_key(self):
        path = pathlib.Path(self.options.dir) / "bench-jwt.key"
        if not path.exists():
            command = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", path]
            subprocess.run(command, check=True, capture_output=True)
        return path

    def row_auth_put(self):
        self.need_auth("simple")
        return self.load_figures(self.generate("put", "--seconds", self.seconds))

    def row_auth_get(self):
        self.need_auth("simple")
        return self.load_figures(self.generate("get", "--seconds", self.seconds))

    def row_jwt_put(self):
        self.need_auth("jwt")
        return self.load_figures(self.generate("put", "--seconds", self.seconds))

    def row_jwt_get(self):
        self.need_auth("jwt")
        return self.load_figures(self.generate("get", "--seconds", self.seconds))

    def watch(self, watchers, *args):
        """Watchers on connections of their own, and a writer; the generator reads the server's CPU and memory."""
        self.start_fresh()
        before = self.server.memory_mb()["anon"]
        done = subprocess.run(
            self.generator_command("watch", "--watchers", watchers, "--server-pid", self.server.process.pid, *args),
            capture_output=True, text=True)
        if done.returncode != 0 or not self.server.alive():
            raise Failed(f"watch {args}: {done.stderr.strip()}\n{self.server.log_tail()}")
        out = json.loads(done.stdout)
        return {
            "events_per_s": out["events_per_s"],
            "cpu_us": out["server_cpu_us_per_event"],
            "event_p50_us": out["event_us"]["p50"],
            "put_p50_us": out["put_us"]["p50"],
            "watchers_mb": out["server_anon_mb"] - before,
            "generator_share": out["cpu_share"],
        }

    def row_watch_1k(self):
        return self.watch(1000, "--connections", 10, "--streams", 1, "--seconds", self.seconds)

    def row_watch_10k(self):
        return self.watch(10_000, "--connections", 10, "--streams", 1, "--seconds", self.seconds)

    def row_watch_keys(self):
        return self.watch(10_000, "--connections", 10, "--streams", 1, "--keys", 10_000, "--seconds", self.seconds)

    def row_watch_100k(self):
        return self.watch(100_000, "--connections", 1000, "--streams", 1, "--keys", 100_000, "--window", 65535,
                          "--seconds", self.seconds)

    def row_watch_prefix(self):
        """As Kubernetes does: few watchers of a prefix, with what was before, and a steady rate of events."""
        return self.watch(10, "--connections", 10, "--streams", 1, "--keys", 1000, "--watch-prefix", "--prev-kv",
                          "--rate", 500, "--seconds", self.seconds)

    def row_load(self):
        self.start_fresh()
        figures = self.load_figures(
            self.generate("put", *self.many("--requests", self.keys, "--order", "permutation")))
        servers.wait_until_quiet(self.server)
        memory, disk = self.server.memory_mb(), self.server.disk_mb()
        self.loaded = True
        return figures | {"anon_mb": memory["anon"], "file_mb": memory["file"], "disk_mb": disk["all"],
                          "db_mb": disk["db"], "wal_mb": disk["wal"]}

    def row_disk_at_rest(self):
        self.need_loaded()
        time.sleep(10)
        disk = self.server.disk_mb()
        return {"disk_mb": disk["all"], "db_mb": disk["db"], "wal_mb": disk["wal"]}

    def row_get_many(self):
        self.need_loaded()
        result = self.generate("get", *self.many("--seconds", self.seconds, "--order", "random"))
        if result["keys_seen"] != result["ops"]:
            raise Failed(f"{result['ops']} gets found {result['keys_seen']} keys")
        return self.load_figures(result)

    def row_get_many_serializable(self):
        self.need_loaded()
        return self.load_figures(
            self.generate("get", *self.many("--seconds", self.seconds, "--order", "random", "--serializable")))

    def repeated(self, workload, *args):
        """A heavy request, one at a time, for as long as a row lasts but at least three of them."""
        first = self.generate(workload, "--requests", 1, "--connections", 1, "--streams", 1, *args)
        count = max(3, int(self.seconds / max(first["seconds"], 1e-4)))
        result = self.generate(workload, "--requests", min(count, 2000), "--connections", 1, "--streams", 1, *args)
        return result, {
            "ms": result["latency_us"]["mean"] / 1000,
            "cpu_ms": result["server_cpu_s"] * 1000 / result["ops"],
            "generator_share": result["cpu_share"],
        }

    def row_range_limited(self):
        self.need_loaded()
        result, figures = self.repeated("range", "--limit", 1000)
        if result["keys_seen"] != 1000 * result["ops"]:
            raise Failed(f"limited range: {result['keys_seen']} keys")
        return figures

    def row_count(self):
        self.need_loaded()
        result, figures = self.repeated("count")
        if result["keys_seen"] != self.keys * result["ops"]:
            raise Failed(f"count: {result['keys_seen']}")
        return figures

    def heavy(self, workload, *args):
        """One whole list: time, CPU, and how far memory rises above what it was."""
        self.need_loaded()
        servers.wait_until_quiet(self.server)
        self.server.reset_peak()
        before = sum(self.server.memory_mb().values())
        result = self.generate(workload, "--requests", 1, "--connections", 1, "--streams", 1, *args)
        return result, {
            "ms": result["seconds"] * 1000,
            "cpu_ms": result["server_cpu_s"] * 1000,
            "more_mb": max(0.0, self.server.peak_mb() - before),
            "generator_share": result["cpu_share"],
        }

    def row_list(self):
        result, figures = self.heavy("list")
        if result["body_bytes"] < self.keys * 256:
            raise Failed(f"list: {result['body_bytes']} bytes")
        return figures

    def row_pages(self):
        result, figures = self.heavy("pages", "--limit", 10_000)
        if result["keys_seen"] != self.keys:
            raise Failed(f"pages: {result['keys_seen']} keys")
        return figures

    def row_restart_clean(self):
        self.need_loaded()
        self.server.stop()
        milliseconds = self.start_and_wait()
        servers.wait_until_quiet(self.server)
        memory = self.server.memory_mb()
        return {"start_ms": milliseconds, "anon_mb": memory["anon"], "file_mb": memory["file"]}

    def row_restart_killed_idle(self):
        self.need_loaded()
        servers.wait_until_quiet(self.server)
        self.server.stop(signal.SIGKILL)
        return {"start_ms": self.start_and_wait()}

    def row_restart_killed_busy(self):
        self.need_loaded()
        load = subprocess.Popen(
            self.generator_command("put", *self.many("--seconds", 60, "--order", "random")),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(max(2.0, self.seconds))
        self.server.stop(signal.SIGKILL)
        load.wait()
        return {"start_ms": self.start_and_wait()}

    def row_compact(self):
        """Overwrites every key, then compacts these revisions away while puts go on at a steady rate."""
        self.need_loaded()
        self.generate("put", *self.many("--requests", self.keys, "--order", "permutation", "--seed", 2))
        servers.wait_until_quiet(self.server)
        return self.beside_puts(self.many("--order", "random"), "compact", "--physical")

    def beside_puts(self, puts, workload, *args, after_s=0.2):
        """One request while puts go on at a steady rate: its cost, and what the puts wait until `after_s` behind it."""
        rate = self.options.compact_rate
        calm = self.generate("put", *puts, "--seconds", 4, "--rate", rate)
        load = subprocess.Popen(
            self.generator_command("put", *puts, "--seconds", 600, "--rate", rate, "--interval-ms", 20),
            stdout=subprocess.PIPE, text=True)
        output = []
        reader = threading.Thread(target=lambda: output.append(load.stdout.read()))
        reader.start()
        try:
            time.sleep(1)
            before = self.server.cpu_seconds()
            done = self.generate(workload, "--requests", 1, "--connections", 1, "--streams", 1, "--timeout", 500, *args)
            cpu_s = self.server.cpu_seconds() - before
            time.sleep(after_s)
        finally:
            load.send_signal(signal.SIGINT)  # ends the load early, its figures are printed all the same
            reader.join()
            load.wait()
        busy = json.loads(output[0])
        during = sorted(tuple(bucket) for one in busy["intervals"]
                        if done["begin_ns"] <= one["end_ns"] <= done["end_ns"] + after_s * 1e9
                        for bucket in one["buckets"])
        calm_cpu_s = calm["server_cpu_s"] / calm["seconds"] * done["seconds"]
        return {
            "ms": done["seconds"] * 1000,
            "cpu_ms": max(0.0, cpu_s - calm_cpu_s) * 1000,
            "calm_p99_us": calm["latency_us"]["p99"],
            "p99_us": table.percentile(during, 0.99),
            "max_us": table.percentile(during, 1.0),
            "failed_puts": sum(busy["errors"].values()),
        }

    # Space.

    def row_defragment(self):
        """A db of which half is superseded and compacted away, here and there; puts at a steady rate meanwhile."""
        self.start_fresh()
        value = 4000
        requests = self.options.defragment_mb * 1_000_000 // (value + 250)
        # So many puts of random keys leave half of the records superseded.
        puts = ("--keys", int(requests / 1.594), "--order", "random", "--value-size", value)
        self.generate("put", *puts, "--requests", requests)
        servers.wait_until_quiet(self.server)
        sizes = [self.server.db_mb()["length"]]
        self.generate("compact", "--requests", 1, "--connections", 1, "--streams", 1, "--physical")
        servers.wait_until_quiet(self.server, 60)
        sizes.append(self.server.db_mb()["length"])
        others = ("--prefix", "/other/", "--keys", 1000, "--order", "random")
        figures = self.beside_puts(others, "defragment", after_s=1)
        servers.wait_until_quiet(self.server)
        after = self.server.db_mb()
        self.drop()
        return figures | {"full_mb": sizes[0], "compacted_mb": sizes[1], "after_mb": after["length"],
                          "after_blocks_mb": after["blocks"]}

    def row_overwrites(self):
        """Keys are overwritten for minutes and compacted now and then, as Kubernetes does; the db's length meanwhile."""
        self.start_fresh()
        options = self.options
        seconds = options.minutes * 60
        keys = ("--keys", options.overwrite_keys, "--value-size", 1000)
        self.generate("put", *keys, "--requests", options.overwrite_keys, "--order", "permutation")
        began = time.monotonic()
        cpu = self.server.cpu_seconds()
        load = subprocess.Popen(
            self.generator_command("put", *keys, "--order", "random", "--rate", options.overwrite_rate, "--seconds",
                                   seconds), stdout=subprocess.PIPE, text=True)
        curve = []
        compacted = 0
        try:
            while load.poll() is None:
                now = time.monotonic() - began
                if now - compacted * options.compact_every >= options.compact_every:
                    compacted += 1
                    self.generate("compact", "--requests", 1, "--connections", 1, "--streams", 1)
                db = self.server.db_mb()
                curve.append([round(now, 1), round(db["length"], 1), round(db["blocks"], 1)])
                time.sleep(max(0.5, seconds / 1000))
            result = json.loads(load.communicate()[0])
        finally:
            load.kill()
            load.wait()
        cpu_s = self.server.cpu_seconds() - cpu
        self.drop()
        lengths = [length for _, length, _ in curve]
        return {
            "first_mb": lengths[0], "most_mb": max(lengths), "mean_mb": sum(lengths) / len(lengths),
            "end_mb": lengths[-1], "end_blocks_mb": curve[-1][2], "compactions": compacted, "curve": curve,
            "overwrites": result["ops"], "p99_us": result["latency_us"]["p99"], "max_us": result["latency_us"]["max"],
            "cpu_us": cpu_s * 1e6 / max(1, result["ops"]),
        }

    # Leases.

    def lease_args(self, *args):
        count = self.options.leases
        return ("--keys", count, "--order", "sequential", *args)

    def with_memory(self, figures):
        servers.wait_until_quiet(self.server)
        memory = self.server.memory_mb()
        return figures | {"anon_mb": memory["anon"], "file_mb": memory["file"]}

    def grant(self, ttl):
        self.start_fresh()
        return self.generate("grant", *self.lease_args("--requests", self.options.leases, "--ttl", ttl))

    def row_lease_grant(self):
        figures = self.with_memory(self.load_figures(self.grant(36_000)))
        self.has_leases = True
        return figures

    def need_leases(self):
        if self.server is None or not self.has_leases:
            self.row_lease_grant()

    def row_lease_keepalive(self):
        self.need_leases()
        result = self.generate("keepalive", "--keys", self.options.leases, "--order", "random",
                               "--seconds", self.seconds)
        if result["keys_seen"] != result["ops"]:
            raise Failed(f"{result['ops']} renewals found {result['keys_seen']} leases")
        return self.load_figures(result)

    def row_lease_put(self):
        """A key for each lease."""
        self.need_leases()
        result = self.generate("put", *self.lease_args("--leased", "--requests", self.options.leases,
                                                       "--value-size", 16))
        return self.with_memory(self.load_figures(result))

    def row_lease_restart(self):
        self.need_leases()
        self.server.stop()
        return self.with_memory({"start_ms": self.start_and_wait()})

    def row_lease_expire(self):
        """All leases, each with a key, end within the time that granting them took; puts meanwhile."""
        ttl = 30 + self.options.leases // 8000
        began = time.monotonic()
        self.grant(ttl)
        self.generate("put", *self.lease_args("--leased", "--requests", self.options.leases, "--value-size", 16))
        if time.monotonic() - began > ttl - 5:
            raise Failed("the leases end before the puts are measured")
        rate = self.options.compact_rate
        load = ("--keys", 1000, "--prefix", "/other/", "--rate", rate, "--seconds")
        calm = self.generate("put", *load, 4)
        time.sleep(max(0.0, ttl + 1 - (time.monotonic() - began)))
        busy = self.generate("put", *load, 20)
        self.drop()
        return {"calm_p99_us": calm["latency_us"]["p99"], "p99_us": busy["latency_us"]["p99"],
                "max_us": busy["latency_us"]["max"]}


# In the order in which one server goes through them: what needs few keys, then what needs many.
ROWS = ["every_flag", "empty", "put", "get", "get_serializable", "txn_put", "txn_get", "json_put", "json_get",
        "one_put", "one_get", "tls_put", "tls_get", "tls_list", "tls_json_put", "tls_json_get", "tls_handshakes",
        "tls_resumed", "tls_storm", "auth_put", "auth_get", "jwt_put", "jwt_get", "watch_1k", "watch_10k",
        "watch_keys", "watch_100k", "watch_prefix", "load", "disk_at_rest", "get_many", "get_many_serializable",
        "range_limited", "count", "list", "pages", "restart_clean", "restart_killed_idle", "restart_killed_busy",
        "compact", "lease_grant", "lease_keepalive", "lease_put", "lease_restart", "lease_expire", "defragment",
        "overwrites", *cluster_rows.ROWS]


def machine(options):
    probe = subprocess.run([str(options.loadgen), "fsync", str(options.dir)], capture_output=True, text=True)
    memory_kb = int(pathlib.Path("/proc/meminfo").read_text().split()[1])
    return {
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "memory_gb": round(memory_kb / (1 << 20), 1),
        "fdatasync_us": json.loads(probe.stdout) if probe.returncode == 0 else None,
        "keys": options.keys,
        "leases": options.leases,
        "catch_up_writes": options.catch_up_writes,
        "load_average": os.getloadavg()[0],
    }


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", default="etcd37,cairn", help="cairn, etcd37, etcd34; ratios are to the first")
    parser.add_argument("--rows", default="", help=f"some of: {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="100,000 keys and one second a row")
    parser.add_argument("--keys", type=int, default=0, help="of the rows with many keys (1,000,000)")
    parser.add_argument("--seconds", type=float, default=0, help="of a throughput row (5)")
    parser.add_argument("--compact-rate", type=int, default=4000, help="puts a second while compacting")
    parser.add_argument("--leases", type=int, default=100_000, help="of the rows about leases")
    parser.add_argument("--catch-up-writes", type=int, default=0, help="while one of three members is away (1,000,000)")
    parser.add_argument("--defragment-mb", type=int, default=0, help="of puts before a defragmentation (2000)")
    parser.add_argument("--minutes", type=float, default=0, help="of overwrites (5)")
    parser.add_argument("--overwrite-keys", type=int, default=50_000, help="of 1000 bytes each")
    parser.add_argument("--overwrite-rate", type=int, default=300, help="overwrites a second")
    parser.add_argument("--compact-every", type=float, default=0, help="seconds between compactions of overwrites (60)")
    parser.add_argument("--dir", default=str(ROOT / "build"), help="where the data directories are made")
    parser.add_argument("--loadgen", help="the generator (the newest one built)")
    parser.add_argument("--binary", action="append", default=[], metavar="SERVER=PATH", help="instead of the usual one")
    parser.add_argument("--json", help="write all figures there")
    options = parser.parse_args()
    options.keys = options.keys or (100_000 if options.quick else 1_000_000)
    options.seconds = options.seconds or (1 if options.quick else 5)
    options.catch_up_writes = options.catch_up_writes or (20_000 if options.quick else 1_000_000)
    options.defragment_mb = options.defragment_mb or (200 if options.quick else 2000)
    options.minutes = options.minutes or (0.5 if options.quick else 5)
    options.compact_every = options.compact_every or (10 if options.quick else 60)
    options.rows = options.rows.split(",") if options.rows else ROWS
    unknown = [row for row in options.rows if row not in ROWS]
    if unknown:
        parser.error(f"unknown rows: {', '.join(unknown)}")
    options.loadgen = pathlib.Path(options.loadgen) if options.loadgen else servers.find_loadgen()
    options.binaries = dict(servers.BINARIES)
    for entry in options.binary:
        kind, path = entry.split("=", 1)
        options.binaries[kind] = pathlib.Path(path).resolve()
    os.makedirs(options.dir, exist_ok=True)
    return options


def main():
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that finally clauses run
    results = {}
    info = machine(options)
    failed = False
    for kind in options.servers.split(","):
        if not options.binaries[kind].exists():
            print(f"bench: SKIPPED {kind}: no {options.binaries[kind]}", file=sys.stderr)
            continue
        results[kind] = {}
        bench = Bench(kind, options)
        try:
            for row in ROWS:
                if row not in options.rows:
                    continue
                began = time.monotonic()
                try:
                    results[kind][row] = getattr(bench, "row_" + row)()
                except Failed as error:
                    failed = True
                    results[kind][row] = {"failed": str(error)}
                    print(f"bench: {kind} {row} failed: {error}", file=sys.stderr)
                    bench.drop()
                print(f"bench: {kind} {row}: {table.cell(row, results[kind][row], GENERATOR_SHARE_MAX)} "
                      f"[{time.monotonic() - began:.0f} s]", file=sys.stderr, flush=True)
        finally:
            bench.drop()
    print(table.markdown(info, options.rows, results, GENERATOR_SHARE_MAX))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"machine": info, "results": results}, indent=1) + "\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
