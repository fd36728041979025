"""The demo's daemon and guests: start, watch and end them, leaving nothing behind."""
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import time

from demo_prepare import Failure

PAGE_BYTES = 4096
MIB = 1 << 20
GUEST_MIB = 256
VERIFIED_MIB = 180
# Zero pages are dropped, half compress to 50 %, the rest can only be swapped.
MIX = "zero:10,lz50:60,random:30"
PR_SET_PDEATHSIG = 1
DAEMON_START_SECONDS = 20
GUEST_STOP_SECONDS = 5
DAEMON_STOP_SECONDS = 15

PROGRESS = re.compile(rb"BALLAST-VERIFY t=[\d.]+ filled=(\d+) verified=(\d+) writes=\d+ "
                      rb"errors=(\d+)")
ENDED = re.compile(rb"(GUEST-EXIT [^\r\n]*|GUEST-FAILED[^\r\n]*|BALLAST-FAILED[^\r\n]*|"
                   rb"Kernel panic[^\r\n]*|Out of memory: Killed[^\r\n]*)")

_libc = ctypes.CDLL(None)


def _die_with_parent():
    # Should the demo itself be killed by SIGKILL, its guests and daemon go with it.
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def spawn(command, log_path, environment=None):
    """A child of its own session, so that Ctrl-C reaches us alone and we end it in order."""
    with open(log_path, "ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                start_new_session=True, preexec_fn=_die_with_parent,
                                env=environment)


def end(process, seconds):
    """SIGTERM, and SIGKILL when that does not help within the time."""
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tail(path, lines=15):
    try:
        with open(path, errors="replace") as file:
            return "".join(file.readlines()[-lines:])
    except OSError:
        return ""


class Daemon:
    """ballastd, and what it says on its control socket."""

    def __init__(self, programs, directory, memory):
        self.run_dir = os.path.join(directory, "run")
        self.swap_dir = os.path.join(directory, "swap")
        self.log_path = os.path.join(directory, "ballastd.log")
        self.command = [os.path.join(programs, "ballastd"), "--memory", memory,
                        "--run-dir", self.run_dir, "--swap-dir", self.swap_dir,
                        "--http", "off"]  # the port may be the machine's own daemon's
        self.process = None
        self.restarts = 0
        os.mkdir(self.run_dir, 0o700)
        os.mkdir(self.swap_dir, 0o700)

    def start(self):
        self.process = spawn(self.command, self.log_path)

    def wait_until_it_answers(self):
        deadline = time.monotonic() + DAEMON_START_SECONDS
        while self.ask({"op": "version"}) is None:
            self.check_alive()
            if time.monotonic() > deadline:
                raise Failure(f"ballastd does not answer:\n{tail(self.log_path)}")
            time.sleep(0.02)

    def check_alive(self):
        status = self.process.poll()
        if status is not None:
            raise Failure(f"ballastd ended by itself ({describe_status(status)}):\n"
                          f"{tail(self.log_path)}")

    def kill_and_restart(self):
        self.process.kill()
        self.process.wait()
        self.restarts += 1
        self.start()

    def stop(self):
        end(self.process, DAEMON_STOP_SECONDS)

    def ask(self, request):
        """The answer, or None when nobody answers (now)."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(2)
                connection.connect(os.path.join(self.run_dir, "control.sock"))
                connection.sendall(json.dumps(request).encode() + b"\n")
                with connection.makefile("rb") as reader:
                    reply = json.loads(reader.readline())
        except (OSError, ValueError):
            return None
        return reply if reply.get("ok") else None

    def report(self):
        reply = self.ask({"op": "host"})
        return reply["host"] if reply else None


class Guest:
    """One VM under ballast run, and what its verifier has said on the serial port."""

    def __init__(self, number, programs, images, daemon, directory):
        self.name = f"vm{number}"
        self.configured_bytes = GUEST_MIB * MIB
        self.filled = self.verified = self.errors = 0
        self.said_it_ended = None
        self.serial_path = os.path.join(directory, f"{self.name}.serial")
        self.log_path = os.path.join(directory, f"{self.name}.log")
        self._offset = 0
        self._rest = b""
        verifier = f"verifier --mib {VERIFIED_MIB} --mix {MIX} --seed {number}"
        self.process = spawn(
            [os.path.join(programs, "ballast"), "run", "--run-dir", daemon.run_dir,
             "--name", self.name, "--memory", f"{GUEST_MIB}M", "--",
             "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc",
             "-m", str(GUEST_MIB),
             "-kernel", f"{images}/vmlinuz", "-initrd", f"{images}/initrd.cpio.gz",
             "-drive", f"file={images}/rootfs.ext4,if=none,id=d0,format=raw,readonly=on",
             "-device", "virtio-blk-pci,drive=d0", "-serial", f"file:{self.serial_path}",
             "-append", f'console=ttyS0 quiet ballast.run="{verifier}"'], self.log_path)

    @property
    def is_filled(self):
        return self.filled >= VERIFIED_MIB * MIB // PAGE_BYTES

    @property
    def filled_percent(self):
        return self.filled * PAGE_BYTES * 100 // (VERIFIED_MIB * MIB)

    def read_serial(self):
        try:
            with open(self.serial_path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return
        self._offset += len(data)
        self.take_output(data)

    def take_output(self, data):
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if match := PROGRESS.search(line):
                self.filled, self.verified, self.errors = (int(group) for group in match.groups())
            elif match := ENDED.search(line):
                self.said_it_ended = match.group(1).decode(errors="replace")

    def check_alive(self):
        status = self.process.poll()
        if status is None and self.said_it_ended is None:
            return
        what = self.said_it_ended or describe_status(status)
        words = tail(self.log_path) + tail(self.serial_path, 5)
        raise Failure(f"guest {self.name} ended: {what}\n{words}")


def describe_status(status):
    return f"signal {-status}" if status < 0 else f"exit status {status}"


def end_all(guests, daemon):
    """Guests first: while the daemon serves their faults they end by themselves. Returns complaints."""
    for guest in guests:
        if guest.process.poll() is None:
            guest.process.terminate()
    deadline = time.monotonic() + GUEST_STOP_SECONDS
    for guest in guests:
        try:
            guest.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            guest.process.kill()
            guest.process.wait()
    if daemon is None or daemon.process is None:
        return []
    daemon.stop()
    left = os.listdir(daemon.swap_dir)
    return [f"ballastd left files in its swap directory: {', '.join(left)}"] if left else []
