"""What Linux offers instead: swap on zram and in a file, for one process in a memory cgroup of its own.

Every change to the machine is undone by the context managers' ends; nothing but the benchmark's own process is paged
out, and the swap device exists only meanwhile.
"""
import contextlib
import glob
import json
import os
import shutil
import subprocess
import time

from harness import Failed, Program

CGROUPS = "/sys/fs/cgroup/memory"


def _write(path, value):
    with open(path, "w", encoding="ascii") as file:
        file.write(str(value))


def _read(path):
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def _run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: {done.stdout.strip()}")


def lacking():
    """Why the kernel's own swap cannot be measured here, or None."""
    if not os.path.exists(f"{CGROUPS}/memory.force_empty") and not os.path.exists(f"{CGROUPS}/memory.usage_in_bytes"):
        return "no memory cgroup (v1) at " + CGROUPS
    if len(open("/proc/swaps", encoding="ascii").read().splitlines()) > 1:
        return "the machine swaps already; the peer would not be alone"
    return None


def zram_lacking():
    return None if os.path.exists("/sys/class/zram-control/hot_add") else "no zram in this kernel"


@contextlib.contextmanager
def page_cluster(value):
    """0: no read-ahead of swap; 3 (8 pages) is the kernel's default."""
    before = _read("/proc/sys/vm/page-cluster")
    _write("/proc/sys/vm/page-cluster", value)
    try:
        yield
    finally:
        _write("/proc/sys/vm/page-cluster", before)


@contextlib.contextmanager
def zram_swap(megabytes, algorithm="lz4"):
    number = _read("/sys/class/zram-control/hot_add")
    device, knobs = f"/dev/zram{number}", f"/sys/block/zram{number}"
    try:
        for _ in range(100):
            if os.path.exists(device):
                break
            time.sleep(0.01)
        else:  # no udev: make the node ourselves
            major, minor = map(int, _read(f"{knobs}/dev").split(":"))
            os.mknod(device, 0o600 | 0o060000, os.makedev(major, minor))
        _write(f"{knobs}/comp_algorithm", algorithm)
        _write(f"{knobs}/disksize", f"{megabytes}M")
        _run("mkswap", device)
        _run("swapon", "-p", "100", device)
        try:
            yield
        finally:
            _run("swapoff", device)
    finally:
        _write(f"{knobs}/reset", 1)
        _write("/sys/class/zram-control/hot_remove", number)


@contextlib.contextmanager
def swap_file(directory, megabytes):
    path = os.path.join(directory, f"ballast-bench-{os.getpid()}.swap")
    try:
        _run("fallocate", "-l", f"{megabytes}M", path)
        os.chmod(path, 0o600)
        _run("mkswap", path)
        _run("swapon", "-p", "100", path)
        try:
            yield
        finally:
            _run("swapoff", path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


class KernelToucher:
    """A toucher without the agent, whose pages the kernel pages out."""

    def __init__(self, bin_dir, arguments):
        self.cgroup = f"{CGROUPS}/ballast-bench-{os.getpid()}"
        os.makedirs(self.cgroup, exist_ok=True)
        self.program = Program([os.path.join(bin_dir, "ballast-toucher"), *map(str, arguments)],
                               prepare=lambda: _write(f"{self.cgroup}/cgroup.procs", os.getpid()))
        self.program.expect("ready")

    def do(self, command):
        self.program.send(command)
        return json.loads("{" + self.program.expect("{", 60))

    def push_out(self):
        """Until the pages are truly gone: pages still in the swap cache cost a minor fault only."""
        for attempt in range(20):
            self.do("pageout")
            with contextlib.suppress(OSError):
                _write(f"{self.cgroup}/memory.force_empty", 0)
            resident = self.do("resident")["resident"]
            if resident == 0:
                return
            time.sleep(0.2 * min(attempt, 3))
        raise Failed(f"{resident} pages stay in memory or in the swap cache")

    def close(self):
        self.program.kill()
        for _ in range(100):
            with contextlib.suppress(OSError):
                os.rmdir(self.cgroup)
                return
            time.sleep(0.02)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def remove_leftovers():
    """Of a benchmark that was killed."""
    for path in glob.glob("/var/tmp/ballast-bench-*.swap"):
        subprocess.run(["swapoff", path], stderr=subprocess.DEVNULL, check=False)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def tools_missing():
    return [tool for tool in ("mkswap", "swapon", "swapoff", "fallocate") if not shutil.which(tool)]
