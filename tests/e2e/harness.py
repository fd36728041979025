"""Starts ballastd and real guests, asks both and the kernel what happened, and clears everything away.

Every test file is a program: `main()` runs its tests and exits with 77 when this machine lacks something. Only
processes that were started here are ever signalled; they die with this program even if it is killed (PDEATHSIG), and
mounts live in a namespace of our own, so nothing outlives a test.
Programs under test: directory BALLAST_BIN (default build/bin). Guest image: tools/make-guest.
"""
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import unittest

# Tests import all from here.
from machine import (BIN, HERE, MIB, Ext4Image, Failed, Host, SwapDamage, die_with_parent, mount_tmpfs, open_files,
                     process_state, stop_process, temporary_directory, wait_until)

SEED = int(os.environ.get("BALLAST_TEST_SEED", str(random.randrange(1 << 30))))
MIX = "zero:10,lz50:60,random:30"  # all of the reclaim ladder has work
PAGE_MAGIC = 0x59464952564c4142  # of the verifier's pages, see tests/guest/page_content.c


class Daemon:
    """A ballastd on directories of its own, which can be killed and started again."""

    def __init__(self, test, memory, swap_dir=None, options=None, config_text=None, arguments=(), http="off"):
        self.memory_bytes = memory
        self.arguments = list(arguments)
        self.http = http  # off: several daemons run at a time, and none is to meet the machine's own
        self.directory = temporary_directory(test)
        self.run_dir = os.path.join(self.directory, "run")
        self.swap_dir = swap_dir or os.path.join(self.directory, "swap")
        self.config = os.path.join(self.directory, "config.toml")
        self.log_path = os.path.join(self.directory, "ballastd.log")
        self.program = os.path.join(BIN, "ballastd")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(config_text or "[options]\n" + "".join(
                f'"{name}" = {json.dumps(value)}\n' for name, value in (options or {}).items()))
        self.process = None
        test.addCleanup(self.close)

    def command(self):
        return [self.program, "--memory", str(self.memory_bytes), "--run-dir", self.run_dir, "--swap-dir",
                self.swap_dir, "--config", self.config, *(["--http", self.http] if self.http else []), *self.arguments]

    def launch(self):
        """Starts the process and does not wait."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=die_with_parent)

    def start(self):
        self.launch()
        wait_until(self.answers, lambda: f"ballastd does not answer; its log:\n{self.log()[-2000:]}", every=0.005)
        return self

    def answers(self):
        if self.process.poll() is not None:
            raise Failed(f"ballastd ended with status {self.process.returncode}:\n{self.log()[-4000:]}")
        try:
            return self.ask("version")["pid"] == self.pid
        except OSError:
            return False

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process.poll() is None

    def kill(self):
        self.process.kill()
        self.process.wait()

    def terminate(self):
        """A normal stop; returns the exit status."""
        self.process.terminate()
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"ballastd does not end on SIGTERM:\n{self.log()[-2000:]}") from None

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def ask(self, op, **members):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(os.path.join(self.run_dir, "control.sock"))
            connection.sendall(json.dumps({"op": op, **members}).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                part = connection.recv(1 << 16)
                if not part:
                    raise ConnectionResetError("ballastd hung up")
                answer += part
        return json.loads(answer)

    def must(self, op, **members):
        answer = self.ask(op, **members)
        if not answer["ok"]:
            raise Failed(f"{op}: {answer['error']}")
        return answer

    def refused(self, op, **members):
        """The words with which it refuses."""
        answer = self.ask(op, **members)
        if answer["ok"]:
            raise Failed(f"not refused: {op} {members}: {answer}")
        return answer["error"]

    def cli(self, *arguments):
        """Exit status, stdout and stderr of the program `ballast`."""
        done = subprocess.run([os.path.join(BIN, "ballast"), *arguments], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30, check=False,
                              env={**os.environ, "BALLAST_RUN_DIR": self.run_dir})
        return done.returncode, done.stdout, done.stderr

    def host(self):
        return self.must("host")["host"]

    def vms(self):
        return self.must("ls")["vms"]

    def vm(self, name):
        return self.must("show", vm=name)["vm"]

    def has_vm(self, name):
        return any(vm["name"] == name for vm in self.vms())

    def events(self, kind=None, vm=None):
        found = self.must("events", since=0)["events"]
        return [e for e in found if (kind is None or e["kind"] == kind) and (vm is None or e["vm"] == vm)]

    def wait_for_event(self, kind, vm=None, seconds=30.0, count=1):
        def enough():
            found = self.events(kind, vm)
            return found if len(found) >= count else None
        return wait_until(enough, lambda: f"event {kind} of {vm}; log:\n{self.log()[-3000:]}", seconds, every=0.05)[-1]

    def wait_for_vm(self, name, seconds=60.0, **at_least):
        """Until the VM's report has these members at least so high; returns it."""
        last = {}

        def look():
            answer = self.ask("show", vm=name)
            last.update(answer.get("vm", answer))
            return answer["ok"] and all(answer["vm"][key] >= value for key, value in at_least.items()) and answer["vm"]
        return wait_until(look, lambda: f"{name} with {at_least}; last seen {last}\n{self.log()[-2000:]}", seconds,
                          every=0.02)

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def descriptors(self):
        """How many it holds open, by kind."""
        kinds = {}
        for _, target in open_files(self.pid):
            kind = target.split(":[")[0].replace(" (deleted)", "")
            kind = re.sub(r"/#\d+$", "/#N", kind)
            kinds[kind] = kinds.get(kind, 0) + 1
        return kinds

    def private_bytes(self):
        """Its own heap and stacks: anonymous memory only."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            return int(re.search(r"RssAnon:\s+(\d+) kB", file.read()).group(1)) * 1024

    def swap_file_paths(self):
        """Paths below /proc through which the swap files can be opened."""
        return [f"/proc/{self.pid}/fd/{fd}" for fd, target in open_files(self.pid)
                if target.startswith(self.swap_dir) and target.endswith("(deleted)")]

    def close(self):
        if self.process is not None and self.alive():
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()


def verifier(mib, seconds, seed, mix=MIX, extra=""):
    return f"verifier --mib {mib} --mix {mix} --seed {seed} --seconds {seconds} {extra}".strip()


class Guest:
    """A QEMU under ballast-qemu with the test guest; its serial port is stdin and a log file."""

    def __init__(self, test, daemon, name, run=None, memory_mib=256, min_mib=0, kernel_args="", qemu=(), accel=(
            "-accel", "tcg,thread=multi,tb-size=32", "-cpu", "qemu64"), memory=None, serial=("-serial", "stdio"),
                 launcher=None, environment=None):
        self.daemon = daemon
        self.name = name
        unique = os.path.join(daemon.directory, f"{name}.{time.monotonic_ns()}")
        self.log_path = unique + ".log"
        self.qmp_path = unique + ".qmp"  # the test's own; ballastd occupies the one in its run directory
        arguments = ["console=ttyS0", "quiet", kernel_args]
        if run is not None:
            arguments.append(f'ballast.poweroff=1 ballast.run="{run}"')
        command = [*(launcher or [os.path.join(BIN, "ballast-qemu")]), "-nodefaults", "-no-user-config", "-display",
                   "none", "-machine", "pc", *accel,
                   *(("-m", str(memory_mib)) if memory is None else memory), "-kernel", f"{Host.images}/vmlinuz", "-initrd",
                   f"{Host.images}/initrd.cpio.gz", "-drive",
                   f"file={Host.images}/rootfs.ext4,if=none,id=d0,format=raw,readonly=on", "-device",
                   "virtio-blk-pci,drive=d0", *serial, "-append", " ".join(arguments), "-qmp",
                   f"unix:{self.qmp_path},server=on,wait=off", *qemu]
        environment = {**os.environ, "BALLAST_RUN_DIR": daemon.run_dir, "BALLAST_VM_NAME": name,
                       "BALLAST_VM_MIN": str(min_mib * MIB), **(environment or {})}
        self.seen = 0
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment,
                                            preexec_fn=die_with_parent)
        test.addCleanup(self.close)

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process.poll() is None

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def send(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def expect(self, pattern, seconds=90.0):
        """Waits for the pattern in what was said since the last match."""
        def look():
            ended = not self.alive()
            match = re.compile(pattern).search(self.log(), self.seen)
            if match is None and ended:
                raise Failed(f"{self.name} ended while '{pattern}' was awaited:\n{self.tail()}")
            return match
        match = wait_until(look, lambda: f"'{pattern}' from {self.name}:\n{self.tail()}", seconds, every=0.03)
        self.seen = match.end()
        return match

    def tail(self):
        return f"{self.log()[-1500:]}\n--- ballastd ---\n{self.daemon.log()[-2000:]}"

    def lines(self, prefix):
        """KEY=NUMBER parts of all lines that begin so."""
        found = []
        for line in self.log().splitlines():
            if line.startswith(prefix):
                found.append({key: float(value) if re.fullmatch(r"[\d.]+", value) else value
                              for key, value in re.findall(r"(\w+)=(\S+)", line)})
        return found

    def longest_stall_us(self):
        return max((line["stall_us"] for line in self.lines("BALLAST-VERIFY")), default=0)

    def ready(self, seconds=90.0):
        self.expect(r"GUEST-READY [\d.]+\n", seconds)
        return self

    def finish(self, seconds=150.0):
        """The verifier must end by itself, all of its memory checked and right; then the guest. Returns its words."""
        wait_until(lambda: not self.alive(), lambda: f"{self.name} does not end:\n{self.tail()}", seconds, every=0.05)
        self.assert_clean()
        if "\nGUEST-EXIT 0\n" not in self.log() or self.process.returncode != 0:
            raise Failed(f"{self.name} ended with {self.process.returncode}:\n{self.tail()}")
        return self.lines("BALLAST-DONE")[-1]

    def assert_clean(self):
        done = self.lines("BALLAST-DONE")
        if len(done) != 1 or done[0]["errors"] != 0 or done[0]["complete"] != 1 or "BALLAST-ERROR" in self.log():
            raise Failed(f"{self.name}: memory is not as it was written:\n{self.tail()}")
        if done[0]["verified"] == 0:
            raise Failed(f"{self.name} verified nothing")

    def memory_files(self):
        """{(device, inode): (name, bytes)} of the memory files this VM consists of, as the kernel counts them."""
        found = {}
        for fd, target in open_files(self.pid):
            if not target.startswith("/memfd:"):
                continue
            try:
                info = os.stat(f"/proc/{self.pid}/fd/{fd}")
            except OSError:
                continue
            found[info.st_dev, info.st_ino] = (target[len("/memfd:"):].replace(" (deleted)", ""),
                                               info.st_blocks * 512)
        return found

    def kernel_bytes(self, prefix=""):
        return sum(size for name, size in self.memory_files().values() if name.startswith(prefix))

    def ram_bytes(self):
        return sum(size for name, size in self.memory_files().values() if not name.startswith("ballast-"))

    def private_copies_bytes(self):
        """What the kernel copied when the guest wrote to shared pages, and is not back in the RAM file yet."""
        total = 0
        with open(f"/proc/{self.pid}/smaps", encoding="ascii", errors="replace") as file:
            in_pool = False
            for line in file:
                if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                    in_pool = "memfd:ballast-pool" in line
                elif in_pool and line.startswith("Anonymous:"):
                    total += int(line.split()[1]) * 1024
        return total

    def daemon_qmp_path(self):
        return os.path.join(self.daemon.run_dir, "qmp", f"{self.name}.{self.pid}.sock")

    def qmp(self):
        return Qmp(self.qmp_path)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        if self.alive():
            self.kill()
        try:
            self.process.stdin.close()
        except OSError:
            pass


class Qmp:
    """One QMP connection."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(120)
        self.socket.connect(path)
        self.file = self.socket.makefile("rw")
        json.loads(self.file.readline())
        self.command("qmp_capabilities")

    def command(self, name, **arguments):
        self.file.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            line = self.file.readline()
            if not line:
                raise Failed(f"QMP hung up at {name}")
            answer = json.loads(line)
            if "error" in answer:
                raise Failed(f"QMP {name}: {answer['error']}")
            if "return" in answer:
                return answer["return"]

    def close(self):
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class EndToEndTest(unittest.TestCase):
    """Shared by all end-to-end tests: daemons and guests that are gone afterwards."""

    def setUp(self):
        self.random = random.Random(f"{SEED}/{self.id()}")
        self.begun = time.monotonic()
        self.addCleanup(lambda: self.say(f"{time.monotonic() - self.begun:.1f} s"))

    def say(self, text):
        print(f"  {self._testMethodName}: {text}", flush=True)

    def daemon(self, memory, **arguments):
        return Daemon(self, memory, **arguments).start()

    def guest(self, daemon, name, **arguments):
        return Guest(self, daemon, name, **arguments)

    def base_of(self, daemon):
        """What the daemon holds with no VM; assert_nothing_left compares with it."""
        time.sleep(0.05)  # it lets go of the connection on which it was asked whether it runs
        return daemon.threads(), daemon.descriptors(), daemon.host()["consumed_bytes"]

    def assert_nothing_left(self, daemon, base, seconds=20.0):
        threads, descriptors, consumed = base
        wait_until(lambda: not daemon.vms(), lambda: f"still listed: {daemon.vms()}", seconds)
        wait_until(lambda: daemon.threads() == threads, lambda: f"threads {threads}, now {daemon.threads()}", seconds)
        wait_until(lambda: daemon.descriptors() == descriptors,
                   lambda: f"descriptors {descriptors}, now {daemon.descriptors()}", seconds)
        wait_until(lambda: daemon.host()["consumed_bytes"] == consumed,
                   lambda: f"consumed {consumed}, now {daemon.host()['consumed_bytes']}", seconds)
        self.assertEqual(os.listdir(daemon.swap_dir), [], "files in the swap directory")
        qmp = os.path.join(daemon.run_dir, "qmp")
        wait_until(lambda: not os.path.isdir(qmp) or not os.listdir(qmp),
                   lambda: f"monitor sockets left: {os.listdir(qmp)}", seconds)


class WithoutSharing(EndToEndTest):
    """For who is short of memory and what is done about it: page sharing would decide that otherwise."""

    def daemon(self, memory, options=None, **arguments):
        return super().daemon(memory, options={"Mem.ShareRateMax": 0, **(options or {})}, **arguments)


def main():
    lacking = Host.missing()
    if lacking:
        print(f"SKIP: {lacking}")
        sys.exit(77)
    print(f"seed {SEED} (repeat with BALLAST_TEST_SEED={SEED})", flush=True)
    program = unittest.main(module="__main__", verbosity=2, exit=False)
    result = program.result
    for _, why in result.skipped:
        print(f"SKIP: {why}")
    if result.wasSuccessful() and result.testsRun > 0 and len(result.skipped) == result.testsRun:
        sys.exit(77)
    sys.exit(0 if result.wasSuccessful() else 1)
