"""Disks that fill up, become slow or stand still, for any kind of server: each an ext4 of its own in a file.

They need root, a namespace for mounts, loop devices, and for slowness the blkio controller of cgroup v1. What a process
mounts here goes with it.
"""

import contextlib
import ctypes
import functools
import itertools
import os
import pathlib
import shutil
import subprocess
import time
import unittest

CGROUP = pathlib.Path("/sys/fs/cgroup/blkio")
CLONE_NEWNS = 0x20000

_numbers = itertools.count()


@functools.cache
def missing():
    """Why there can be no such disks here; None: there can. From then on this process sees its own mounts alone."""
    if os.geteuid() != 0:
        return "needs to be root, to mount disks"
    for tool in ("mkfs.ext4", "mount", "umount", "fsfreeze"):
        if shutil.which(tool) is None:
            return f"not on this machine: {tool}"
    if not pathlib.Path("/dev/loop-control").exists():
        return "not on this machine: loop devices"
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        return "cannot have mounts of its own: " + os.strerror(ctypes.get_errno())
    done = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else "cannot have mounts of its own: " + done.stderr.strip()


def cannot_be_slow():
    return None if (CGROUP / "cgroup.procs").exists() else "not on this machine: blkio of cgroup v1"


def require(slow=False):
    reason = missing() or (cannot_be_slow() if slow else None)
    if reason:
        raise unittest.SkipTest(reason)


class Disk:
    """Mounted at `directory`. Its space is taken from the disk below only as it is used."""

    def __init__(self, directory, megabytes=1024):
        require()
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True)
        self.image = self.dir.with_name(self.dir.name + ".img")
        with open(self.image, "wb") as file:
            file.truncate(megabytes << 20)
        self.run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0", self.image)
        self.run("mount", "-o", "loop", self.image, self.dir)
        self.device = os.stat(self.dir).st_dev
        self.group = CGROUP / f"cairn-{os.getpid()}-{next(_numbers)}"
        self.stalling = None

    @staticmethod
    def run(*command):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise unittest.SkipTest(f"{command[0]}: {done.stderr.strip()}")

    def close(self):
        """Who writes to it has ended."""
        self.end_of_stall()
        with contextlib.suppress(OSError):
            self.group.rmdir()
        subprocess.run(["umount", "-l", str(self.dir)], check=False)
        self.image.unlink(missing_ok=True)

    def take(self, pid):
        """The process will wait when this disk is slow."""
        if cannot_be_slow() is None:
            self.group.mkdir(exist_ok=True)
            (self.group / "cgroup.procs").write_text(str(pid))

    def slow(self, writes_per_second):
        """So many writes reach it in a second; a sync is two to four of them. 0: as many as it can take."""
        if self.group.exists():
            at = f"{os.major(self.device)}:{os.minor(self.device)} {writes_per_second}\n"
            (self.group / "blkio.throttle.write_iops_device").write_text(at)

    def stall(self, seconds):
        """Writes and syncs wait so long; reads from memory go on. Another process ends it, even if this one is killed:
        else those who wait could not be."""
        self.end_of_stall()
        script = 'fsfreeze -f "$1" && { echo; sleep "$2"; fsfreeze -u "$1"; }'
        self.stalling = subprocess.Popen(["sh", "-c", script, "sh", str(self.dir), str(seconds)], stdout=subprocess.PIPE,
                                         start_new_session=True)
        self.stalling.stdout.readline()  # it stands still

    def end_of_stall(self):
        if self.stalling is not None:
            self.stalling.wait()
            self.stalling.stdout.close()
            self.stalling = None

    def free(self):
        stat = os.statvfs(self.dir)
        return stat.f_bavail * stat.f_frsize

    def fill(self, leave=0):
        """Another program takes all space but so many bytes."""
        with open(self.dir / "filler", "wb") as file:
            for _ in range(100):  # what is free may change meanwhile
                more = self.free() - leave
                if more <= 0:
                    break
                with contextlib.suppress(OSError):
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, more)
                    break
                time.sleep(0.01)

    def empty(self):
        (self.dir / "filler").unlink(missing_ok=True)
