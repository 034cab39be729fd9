"""Starts and stops the servers that are compared, and reads from /proc what they cost."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

BINARIES = {
    "cairn": ROOT / "build/release/src/cmd/cairn",
    "etcd37": ROOT / "build/oracles/etcd37",
    "etcd34": pathlib.Path("/usr/bin/etcd"),
}
TITLES = {"cairn": "cairn", "etcd37": "etcd 3.7", "etcd36": "etcd 3.6", "etcd35": "etcd 3.5", "etcd34": "etcd 3.4.23"}


def find_loadgen():
    """The newest one built."""
    built = [ROOT / f"build/{preset}/bench/cairn_loadgen" for preset in ("release", "dev")]
    built = [path for path in built if path.exists()]
    if not built:
        sys.exit("bench: no cairn_loadgen: ./dev build cairn_loadgen")
    return max(built, key=lambda path: path.stat().st_mtime)


def free_ports(count):
    """Ports of the loopback that nobody listens on now."""
    sockets = []
    for _ in range(count):
        one = socket.socket()
        one.bind(("127.0.0.1", 0))
        sockets.append(one)
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Server:
    """One member, alone unless initial_cluster names others, with a data directory that outlives restarts and is removed
    by close()."""

    def __init__(self, kind, binary, parent_dir, flags=(), pair=None, name="bench"):
        self.kind, self.name = kind, name
        self.initial_cluster = None
        self.flags = list(flags)
        self.pair = pair  # certificate and key, shown to clients that come over TLS; None: they come in clear
        self.binary = str(binary)
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=f"bench-{kind}-", dir=parent_dir))
        self.command = None  # gives all flags in place of the usual ones
        self.process = None
        self.client_port, self.peer_port = free_ports(2)

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.client_port}"

    @property
    def data_dir(self):
        return self.dir / "data"

    def start(self):
        client, peer = f"{'https' if self.pair else 'http'}://{self.endpoint}", f"http://127.0.0.1:{self.peer_port}"
        args = [
            self.binary, "--name", self.name, "--data-dir", str(self.data_dir),
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", self.initial_cluster or f"{self.name}={peer}", "--quota-backend-bytes", str(16 << 30), *self.flags,
        ]
        if self.pair:
            args += ["--cert-file", str(self.pair.cert), "--key-file", str(self.pair.key)]
        if self.command is not None:
            args = [self.binary, *self.command()]
        with open(self.dir / "log", "ab") as log:
            self.process = subprocess.Popen(
                args, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"PATH": os.environ["PATH"]})

    def stop(self, how=signal.SIGTERM):
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def close(self):
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.dir, ignore_errors=True)

    def log_tail(self):
        try:
            return (self.dir / "log").read_text(errors="replace")[-2000:]
        except OSError:
            return ""

    def alive(self):
        return self.process is not None and self.process.poll() is None

    # What it costs.

    def cpu_seconds(self):
        """User and system time of all threads so far."""
        stat = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()
        fields = stat[stat.rindex(")") + 2:].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def memory_mb(self):
        """Resident memory: anonymous, and mapped from files (which the system may drop at will)."""
        values = {}
        for line in pathlib.Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, rest = line.split(":")
            values[name] = int(rest.split()[0]) / 1024
        return {"anon": values["Anonymous"], "file": values["Rss"] - values["Anonymous"]}

    def peak_mb(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def reset_peak(self):
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def written_bytes(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/io").read_text().splitlines():
            if line.startswith("write_bytes:"):
                return int(line.split()[1])
        return 0

    def db_mb(self):
        """The db's length, and its allocated blocks."""
        stat = (self.data_dir / "member/snap/db").stat()
        return {"length": stat.st_size / (1 << 20), "blocks": stat.st_blocks * 512 / (1 << 20)}

    def disk_mb(self):
        """Allocated blocks, in all and of the two parts."""
        sizes = {"all": 0, "db": 0, "wal": 0}
        for path in self.data_dir.rglob("*"):
            stat = path.lstat()
            size = stat.st_blocks * 512 / (1 << 20)
            sizes["all"] += size
            if path.name == "db":
                sizes["db"] += size
            elif path.parent.name == "wal":
                sizes["wal"] += size
        return sizes


class Cluster:
    """Several members as one server: what it costs is the sum, and clients ask the one that at() has named."""

    pair = None
    flags = ()

    def __init__(self, kind, binary, parent_dirs, flags=()):
        """As many members as there are directories for them."""
        self.kind = kind
        self.members = [Server(kind, binary, parent_dir, flags, name=f"bench{i}") for i, parent_dir in enumerate(parent_dirs)]
        text = ",".join(f"{one.name}=http://127.0.0.1:{one.peer_port}" for one in self.members)
        for one in self.members:
            one.initial_cluster = text
        self.place = 0

    def at(self, place):
        self.place = place

    @property
    def endpoint(self):
        return self.members[self.place].endpoint

    def start(self):
        for one in self.members:
            one.start()

    def close(self):
        for one in self.members:
            one.close()

    def alive(self):
        """Whether those run that were not stopped."""
        return all(one.process is None or one.alive() for one in self.members)

    def log_tail(self):
        return "\n".join(f"{one.name}: {one.log_tail()}" for one in self.members)

    def running(self):
        return [one for one in self.members if one.alive()]

    def cpu_seconds(self):
        return sum(one.cpu_seconds() for one in self.running())

    def written_bytes(self):
        return sum(one.written_bytes() for one in self.running())

    def sent_bytes(self):
        """Between members, as their sockets count them."""
        ports = {one.peer_port for one in self.members}
        done = subprocess.run(["ss", "-tinH", "state", "established"], capture_output=True, text=True, check=True)
        total, is_ours = 0, False
        for line in done.stdout.splitlines():
            if not line.startswith(("\t", "      ")):
                is_ours = any(int(end.rsplit(":", 1)[1]) in ports for end in line.split()[2:4])
            elif is_ours:
                total += sum(int(word[11:]) for word in line.split() if word.startswith("bytes_sent:"))
        return total


def wait_until_quiet(server, seconds_max=10):
    """Until the server uses less than 3 % of a core: its background work is done."""
    give_up = time.monotonic() + seconds_max
    while time.monotonic() < give_up:
        before = server.cpu_seconds()
        time.sleep(0.5)
        if server.cpu_seconds() - before <= 0.015:
            return
