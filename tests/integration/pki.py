"""Certificates made for a test, with openssl's command line."""

import pathlib
import shutil
import subprocess
import unittest


def require():
    if shutil.which("openssl") is None:
        raise unittest.SkipTest("not on this machine: openssl")


def run(*arguments, cwd=None):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False, cwd=cwd,
                          stdin=subprocess.DEVNULL, timeout=120)
    if done.returncode != 0:
        raise AssertionError(f"openssl {arguments}: {done.stderr}")


class Pair:
    """A certificate and its key, as paths."""

    def __init__(self, directory, name, serial):
        self.cert, self.key, self.serial = directory / f"{name}.crt", directory / f"{name}.key", serial

    def put(self, cert, key):
        """Copies both, as a tool that renews certificates would, each in one step."""
        for source, target in ((self.cert, cert), (self.key, key)):
            new = target.with_name(target.name + ".new")
            shutil.copyfile(source, new)
            new.rename(target)


def new_key(kind):
    """OpenSSL's words for a key: "ec", "rsa", "ed25519", or another size or curve: "rsa:4096", "secp521r1"."""
    if kind.startswith("ed") or kind.startswith("rsa:"):
        return [kind]
    if kind == "rsa":
        return ["rsa:2048"]
    return ["ec", "-pkeyopt", f"ec_paramgen_curve:{'prime256v1' if kind == 'ec' else kind}"]


class Authority:
    """Signs itself, or is signed by a `parent`."""

    def __init__(self, directory, name="ca", kind="ec", parent=None):
        require()
        self.dir = pathlib.Path(directory) / name
        self.dir.mkdir(parents=True)
        self.cert, self.key = self.dir / "ca.crt", self.dir / "ca.key"
        self.last_serial = 0x1000
        signer = ["-CA", parent.cert, "-CAkey", parent.key] if parent else []
        run("req", "-x509", "-newkey", *new_key(kind), "-nodes", "-subj", f"/CN={name}", *signer, "-addext",
            "basicConstraints=critical,CA:TRUE", "-days", "30", "-keyout", self.key, "-out", self.cert)

    def issue(self, name, common_name=None, names="IP:127.0.0.1,DNS:localhost", usage="serverAuth,clientAuth", days=30,
              kind="ec"):
        self.last_serial += 1
        pair = Pair(self.dir, name, self.last_serial)
        subject = f"/CN={common_name}" if common_name is not None else f"/CN={name}"
        extensions = []
        if names:
            extensions += ["-addext", f"subjectAltName={names}"]
        if usage:
            extensions += ["-addext", f"extendedKeyUsage={usage}"]
        run("req", "-x509", "-newkey", *new_key(kind), "-nodes", "-subj", subject, "-CA", self.cert, "-CAkey", self.key,
            "-set_serial", self.last_serial, "-days", days, "-addext", "basicConstraints=critical,CA:FALSE", *extensions,
            "-keyout", pair.key, "-out", pair.cert)
        return pair

    def expired(self, name, begins="20200101000000Z", ends="20200201000000Z"):
        """A pair whose time is over, or has not come."""
        self.last_serial += 1
        pair = Pair(self.dir, name, self.last_serial)
        run("req", "-new", "-newkey", *new_key("ec"), "-nodes", "-subj", f"/CN={name}", "-keyout", pair.key, "-out",
            self.dir / "request")
        (self.dir / "issued.txt").write_text("")
        (self.dir / "serial").write_text(f"{pair.serial:X}\n")
        (self.dir / "issue.cnf").write_text(
            "[ca]\ndefault_ca=it\n[it]\ndatabase=issued.txt\nserial=serial\ndefault_md=sha256\nnew_certs_dir=.\n"
            "policy=any\nx509_extensions=more\n[any]\ncommonName=supplied\n[more]\nsubjectAltName=IP:127.0.0.1\n")
        run("ca", "-batch", "-notext", "-config", "issue.cnf", "-cert", self.cert, "-keyfile", self.key, "-startdate", begins,
            "-enddate", ends, "-in", self.dir / "request", "-out", pair.cert, cwd=self.dir)
        return pair

    def revoke(self, pairs, path, der=True):
        """A list of revoked certificates at `path`, in one step."""
        lines = [f"R\t491231235959Z\t250101000000Z\t{pair.serial:X}\tunknown\t/CN=x\n" for pair in pairs]
        (self.dir / "index.txt").write_text("".join(lines))
        (self.dir / "ca.cnf").write_text("[ca]\ndefault_ca=it\n[it]\ndatabase=index.txt\ndefault_md=sha256\n"
                                         "crl_extensions=more\n[more]\nauthorityKeyIdentifier=keyid\n")
        run("ca", "-config", "ca.cnf", "-gencrl", "-crldays", "30", "-cert", self.cert, "-keyfile", self.key, "-out",
            "crl.pem", cwd=self.dir)
        new = path.with_name(path.name + ".new")
        if der:
            run("crl", "-in", self.dir / "crl.pem", "-outform", "DER", "-out", new)
        else:
            shutil.copyfile(self.dir / "crl.pem", new)
        new.rename(path)
