"""Packages of the server that was built: what is in them, and that the server runs from them as the unit says."""

import os
import pathlib
import re
import shlex
import shutil
import socket
import subprocess
import tarfile
import unittest

import harness
import rpc

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
GLIBC = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libresolv.so.2",
         "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}


def unit(path):
    """Section -> key -> values of a systemd unit."""
    out, section = {}, None
    for line in path.read_text().splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = out.setdefault(match[1], {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section.setdefault(key, []).append(value)
    return out


def environment_of(service, root):
    """As systemd puts it together: Environment, then the files that are there, in their order."""
    out = {"PATH": os.environ["PATH"]}
    for entry in service["Environment"]:
        key, _, value = entry.partition("=")
        out[key] = value.replace("%H", "host")
    for file in service["EnvironmentFile"]:
        assert file.startswith("-"), "a missing file is no error"
        path = root / file.removeprefix("-").lstrip("/")
        for line in path.read_text().splitlines() if path.exists() else []:
            if line and not line.startswith("#"):
                key, _, value = line.partition("=")
                out[key] = shlex.split(value)[0] if value else ""
    return out


@unittest.skipUnless(shutil.which("dpkg-deb") and shutil.which("dpkg-shlibdeps"), "needs dpkg-deb and dpkg-shlibdeps")
class Packages(harness.Case):
    def build(self, *kinds):
        subprocess.run([ROOT / "packaging/build", *kinds, "--binary", harness.program("cairn"), "--out", self.dir / "out",
                        "--fast"], check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, timeout=300)
        return sorted((self.dir / "out").iterdir())

    def fields(self, deb):
        text = subprocess.run(["dpkg-deb", "--field", deb], check=True, capture_output=True, text=True).stdout
        return dict(line.split(": ", 1) for line in text.splitlines() if re.match(r"[A-Z]\S*: ", line))

    def run_and_use(self, command, environment, port, cwd):
        """Starts it, waits until it tells the init system that it is ready, writes and reads."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as init:
            address = str(self.dir / "notify")
            pathlib.Path(address).unlink(missing_ok=True)
            init.bind(address)
            init.settimeout(120)
            with open(self.dir / "log", "ab") as log:
                process = subprocess.Popen(command, env={**environment, "NOTIFY_SOCKET": address}, cwd=cwd, stderr=log,
                                           stdout=log, stdin=subprocess.DEVNULL, preexec_fn=harness.die_with_parent)
            try:
                self.assertEqual(init.recv(100), b"READY=1", "Type=notify")
                client = rpc.Client(port)
                client.put(b"packed", b"yes")
                self.assertEqual(client.get(b"packed").value, b"yes")
                members = client.members()
                client.close()
                return process.pid, members
            finally:
                process.terminate()
                process.wait(60)

    def test_deb(self):
        as_etcd, deb = self.build("deb")
        fields = self.fields(deb)
        self.assertEqual(fields["Package"], "cairn")
        for library in ("libc6", "libprotobuf", "libjemalloc2", "libnghttp2"):
            self.assertIn(library, fields["Depends"])
        self.assertNotIn("Conflicts", fields, "it may lie beside etcd-server")
        alias = self.fields(as_etcd)
        self.assertEqual((alias["Package"], alias["Provides"]), ("cairn-as-etcd", "etcd-server"))
        self.assertIn("etcd-server", alias["Conflicts"])

        root = self.dir / "root"
        for package in (deb, as_etcd):
            subprocess.run(["dpkg-deb", "-x", package, root], check=True)
        self.assertEqual(os.readlink(root / "usr/bin/etcd"), "cairn")
        self.assertTrue((root / "usr/bin/etcd").exists())
        self.assertEqual((root / "lib/systemd/system/etcd.service").resolve(),
                         (root / "lib/systemd/system/cairn.service").resolve())
        control = self.dir / "control"
        subprocess.run(["dpkg-deb", "-e", deb, control], check=True)
        self.assertEqual((control / "conffiles").read_text(), "/etc/default/cairn\n")
        for script in ("postinst", "prerm", "postrm"):
            subprocess.run(["sh", "-n", control / script], check=True)
        for link in re.findall(r"file://(\S+)", (root / "lib/systemd/system/cairn.service").read_text()):
            self.assertTrue((root / link.lstrip("/")).exists(), link)

        service = unit(root / "lib/systemd/system/cairn.service")["Service"]
        self.assertEqual(service["Type"], ["notify"])
        self.assertEqual(service["User"], ["etcd"])
        # Settings of etcd hold; those of cairn count more.
        port, peer = harness.free_port(), harness.free_port()
        (root / "etc/default/etcd").write_text(
            f"## etcd(1) daemon options\nETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:{port}\n"
            f"ETCD_ADVERTISE_CLIENT_URLS=\"http://127.0.0.1:{port}\"\nETCD_NAME=of-etcd\nETCD_DATA_DIR={self.dir}/data\n"
            f"ETCD_LISTEN_PEER_URLS=http://127.0.0.1:{peer}\n"
            f"ETCD_INITIAL_ADVERTISE_PEER_URLS=http://127.0.0.1:{peer}\n")
        with open(root / "etc/default/cairn", "a") as defaults:
            defaults.write("ETCD_NAME=of-cairn\n")
        environment = environment_of(service, root)
        self.assertEqual(environment_of(service, self.dir / "nothing")["ETCD_DATA_DIR"], "/var/lib/etcd/default")
        program, *arguments = service["ExecStart"][0].split()
        self.assertEqual(arguments, ["$DAEMON_ARGS"])
        command = [str(root / program.lstrip("/")), *shlex.split(environment["DAEMON_ARGS"])]
        _, members = self.run_and_use(command, environment, port, self.dir)
        self.assertEqual(members[0][1], "of-cairn")
        self.assertTrue((self.dir / "data/member/snap/db").exists())

    def test_the_unit_is_one(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("needs systemd-analyze")
        root = self.dir / "root"
        (root / "lib/systemd/system").mkdir(parents=True)
        (root / "usr/bin").mkdir(parents=True)
        shutil.copy(ROOT / "packaging/systemd/cairn.service", root / "lib/systemd/system")
        shutil.copy("/bin/true", root / "usr/bin/cairn")
        done = subprocess.run(["systemd-analyze", "verify", f"--root={root}", "cairn.service"], capture_output=True,
                              text=True, check=False, stdin=subprocess.DEVNULL, timeout=120)
        told = [line for line in done.stderr.splitlines() if "cairn.service" in line and "not found" not in line]
        self.assertEqual(told, [], done.stderr)

    def test_tarball(self):
        packed, = self.build("tarball")
        with tarfile.open(packed) as archive:
            archive.extractall(self.dir / "anywhere", filter="tar")
        folder, = (self.dir / "anywhere").iterdir()
        self.assertEqual(packed.name, folder.name + ".tar.gz")
        shipped = {path.name for path in (folder / "lib/cairn").iterdir()}
        needed = set()
        for file in [folder / "bin/cairn", *(folder / "lib/cairn").iterdir()]:
            dynamic = subprocess.run(["readelf", "-d", file], check=True, capture_output=True, text=True).stdout
            needed |= set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic))
            if file.name == "cairn":
                self.assertIn("Library rpath: [$ORIGIN/../lib/cairn]", dynamic)
        self.assertEqual(needed - shipped - GLIBC, set(), "neither shipped nor glibc's")
        self.assertEqual(shipped & GLIBC, set(), "glibc is the machine's")
        self.assertEqual(shipped - needed, set(), "shipped, and nobody needs it")
        port, peer = harness.free_port(), harness.free_port()
        client = f"http://127.0.0.1:{port}"
        # By etcd's name, and it loads what was shipped.
        self.run_and_use([str(folder / "bin/etcd"), f"--data-dir={self.dir}/tar", f"--listen-client-urls={client}",
                          f"--advertise-client-urls={client}", f"--listen-peer-urls=http://127.0.0.1:{peer}",
                          f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}", "--name=m"],
                         {"PATH": os.environ["PATH"]}, port, self.dir)
        loaded = subprocess.run(["ldd", folder / "bin/cairn"], check=True, capture_output=True, text=True).stdout
        for name, path in re.findall(r"(\S+) => (\S+)", loaded):
            if name not in GLIBC:
                self.assertEqual(pathlib.Path(path).resolve().parent, (folder / "lib/cairn").resolve(), name)

    def test_the_dockerfile_names_what_there_is(self):
        text = (ROOT / "packaging/container/Dockerfile").read_text()
        packed, = self.build("tarball")
        with tarfile.open(packed) as archive:
            names = archive.getnames()
        for path in re.findall(r"/opt/cairn/(\S+) ", text):
            self.assertTrue(any(name.endswith("/" + path) for name in names), path)
        self.assertIn(packed.name.split("-")[0], text)
        known = {"FROM", "ARG", "ADD", "RUN", "WORKDIR", "EXPOSE", "STOPSIGNAL", "CMD"}
        joined = re.sub(r"\\\n", " ", text)
        for line in joined.splitlines():
            if line and not line.startswith("#"):
                self.assertIn(line.split()[0], known)


if __name__ == "__main__":
    harness.main()
