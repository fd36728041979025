"""Linux guests that the figures drive: a shell on the serial port, a disk of their own, a monitor beside Ballast's."""
import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import guests
import harness
from harness import MIB, Failed, wait_until


class TimedProgram(harness.Program):
    """Also knows when each line came."""

    def __init__(self, *args):
        self.times = []
        super().__init__(*args)

    def _read(self):
        for line in self.process.stdout:
            self.times.append(time.monotonic())
            self.lines.append(line.rstrip("\r\n"))
            self._new.put(self.lines[-1])
        self._new.put(None)


class Monitor:
    """One QMP connection, of our own."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(path)
        self._file = self._socket.makefile("rw")
        self._file.readline()
        self("qmp_capabilities")

    def __call__(self, command, **arguments):
        self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._file.flush()
        while line := self._file.readline():
            answer = json.loads(line)
            if "error" in answer:
                raise Failed(f"QMP {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        raise Failed(f"QEMU hung up at {command}")

    def close(self):
        self._file.close()
        self._socket.close()


class Vm:
    """One guest; under Ballast when there is a daemon, under plain QEMU with a balloon when there is none.

    disk_mib: a second disk, /dev/vdb, a sparse file; disk_read_mib_per_s: how fast it reads (0: as it can).
    prepare: called in the child before it becomes QEMU.
    """

    def __init__(self, name, memory_mib, daemon=None, min_mib=0, disk_mib=0, disk_read_mib_per_s=0, kernel="",
                 prepare=None):
        self.name, self.memory_mib = name, memory_mib
        self._runs = 0
        self._directory = tempfile.mkdtemp(prefix="ballast-vm-", dir="/var/tmp")  # on a disk, and a short path
        monitor = os.path.join(self._directory, "qmp")
        extra = ["-qmp", f"unix:{monitor},server=on,wait=off"]
        if disk_mib:
            extra += self._disk(disk_mib, disk_read_mib_per_s)
        if daemon is None:
            extra += ["-device", "virtio-balloon-pci,free-page-reporting=on,deflate-on-oom=on"]
        arguments = guests.arguments(guests.images(), memory_mib, poweroff=False, extra=extra, kernel=kernel)
        environment = dict(os.environ)
        if daemon is not None:
            environment["BALLAST_RUN_DIR"] = daemon.run_dir
            command = [os.path.join(daemon.bin_dir, "ballast"), "run", "--name", name, "--memory", f"{memory_mib}M",
                       "--min", f"{min_mib}M", "--", *arguments]
        else:
            command = ["qemu-system-x86_64", *arguments]
        self.program = TimedProgram(command, environment, prepare)
        self.pid = self.program.process.pid  # `ballast run` becomes QEMU
        self._monitor_path = monitor
        self._monitor = None

    def _disk(self, mib, read_mib_per_s):
        path = os.path.join(self._directory, "disk")
        with open(path, "wb") as file:
            file.truncate(mib * MIB)
        # No journal: like the file system of the paper's guest.
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-E",
                        "lazy_itable_init=0,nodiscard", path], check=True, stdout=subprocess.DEVNULL)
        throttle = f",throttling.bps-read={read_mib_per_s * MIB}" if read_mib_per_s else ""
        return ["-drive", f"file={path},if=none,id=d1,format=raw{throttle}", "-device", "virtio-blk-pci,drive=d1"]

    def ready(self, seconds=180):
        self.program.expect("GUEST-READY", seconds)
        return self

    def run(self, command, seconds=120):
        """Runs it in the guest's shell to its end; returns the lines said meanwhile, whoever said them."""
        self._runs += 1
        begin = len(self.program.lines)
        self.program.send(f"{command}; echo RUN-{self._runs} $?")
        status = self.program.expect(f"RUN-{self._runs} ", seconds)
        lines = self.program.lines[begin:]
        if status != "0":
            raise Failed(f"{self.name}: '{command}' ended with {status}: {lines[-5:]}")
        return lines

    def start(self, command):
        """Runs it in the background."""
        self.run(f"{{ {command}; }} & true")

    def mount_disk(self, at="/run/disk"):
        self.run(f"mkdir -p {at} && mount -t ext4 -o noatime /dev/vdb {at}")
        return at

    def available_mib(self):
        """MemAvailable, as the guest says."""
        return int(self.run("grep MemAvailable /proc/meminfo")[0].split()[1]) / 1024

    def monitor(self):
        if self._monitor is None:
            wait_until(lambda: os.path.exists(self._monitor_path), "QEMU opens no monitor")
            self._monitor = Monitor(self._monitor_path)
        return self._monitor

    def balloon_mib(self):
        """Its size as QEMU says: what the guest lacks of its memory."""
        return self.memory_mib - self.monitor()("query-balloon")["actual"] / MIB

    def ask_balloon(self, mib):
        """Asks for a balloon of that size, as any management program may."""
        self.monitor()("balloon", value=int(self.memory_mib - mib) * MIB)

    def ram_bytes(self):
        """Host memory that the guest's RAM occupies, as the kernel counts it; only under plain QEMU."""
        largest = 0
        with open(f"/proc/{self.pid}/smaps", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("Size:"):
                    is_ram = int(line.split()[1]) == self.memory_mib * 1024
                elif line.startswith("Rss:") and is_ram:
                    largest = max(largest, int(line.split()[1]) * 1024)
        return largest

    def is_alive(self):
        return self.program.process.poll() is None

    def complaints(self):
        """Lines of a kernel that killed something or panicked."""
        words = ("Out of memory", "oom-kill", "Kernel panic", "GUEST-FAILED", "BALLAST-ERROR", "BALLAST-FAILED")
        return [line for line in self.program.lines if any(word in line for word in words)]

    def close(self):
        if self._monitor is not None:
            self._monitor.close()
        if self.is_alive():
            self.program.kill()
        shutil.rmtree(self._directory, ignore_errors=True)


class Watch(threading.Thread):
    """Asks the daemon for its report every so often, in the background, until the end of the with block."""

    def __init__(self, daemon, every=0.5):
        super().__init__(daemon=True)
        self._daemon, self._every = daemon, every
        self._ended = threading.Event()
        self.began = time.monotonic()
        self.rows = []  # (seconds since began, host report, {name: VM's report})
        self.problem = None

    def run(self):
        while not self._ended.wait(self._every):
            try:
                host = self._daemon.host()
            except (OSError, Failed, ValueError) as problem:
                self.problem = problem
                return
            self.rows.append((time.monotonic() - self.began, host, {vm["name"]: vm for vm in host["vms"]}))

    def now(self):
        return time.monotonic() - self.began

    def wait(self, seconds):
        """Sleeps, unless reports stop coming."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.problem:
                raise Failed(f"ballastd stopped reporting: {self.problem}")
            time.sleep(min(0.2, max(0, deadline - time.monotonic())))

    def host(self, field, scale=1 / MIB):
        return [t for t, _, _ in self.rows], [host[field] * scale for _, host, _ in self.rows]

    def states(self):
        """(seconds, state) of each row."""
        return [t for t, _, _ in self.rows], [host["state"] for _, host, _ in self.rows]

    def vm(self, name, field, scale=1 / MIB):
        rows = [(t, vms[name][field] * scale) for t, _, vms in self.rows if name in vms]
        return [t for t, _ in rows], [value for _, value in rows]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *_):
        self._ended.set()
        self.join(30)
        if kind is None and self.problem:
            raise Failed(f"ballastd stopped reporting: {self.problem}")


@contextlib.contextmanager
def closing(things):
    """Closes whatever was appended to the list."""
    try:
        yield things
    finally:
        for thing in things:
            thing.close()

# For what is about other means of reclaim: page sharing would leave them less to do.
WITHOUT_SHARING = {"Mem.ShareRateMax": 0}


def lacking(report, what):
    """Skips `what`, visibly, when this machine cannot run guests under Ballast."""
    why = harness.missing_ability(kvm=False)
    if why is None:
        try:
            guests.images()
        except Failed as problem:
            why = str(problem)
    if why:
        report.skip(what, why)
    return why
