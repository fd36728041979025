"""What `ballast top` costs with 200 VMs at one second, in top itself and in the daemon that answers."""
import fcntl
import os
import pty
import struct
import subprocess
import tempfile
import termios
import threading
import time

from harness import Failed

VMS = 200


def _cpu_seconds(pid):
    """Of all its threads; finer than the clock ticks of /proc/PID/stat."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def _drain(fd, count):
    """Reads what top draws, as a terminal does."""
    try:
        while True:
            count[0] += len(os.read(fd, 1 << 16))
    except OSError:
        pass  # top has ended


def _start_daemon(arguments, directory):
    daemon = subprocess.Popen([os.path.join(arguments.bin, "ballast-fake-daemon"), directory, str(VMS)])
    for _ in range(200):
        if os.path.exists(os.path.join(directory, "control.sock")):
            return daemon
        time.sleep(0.02)
    daemon.kill()
    raise Failed("ballast-fake-daemon does not listen")


def _start_top(arguments, directory, size):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    top = subprocess.Popen([os.path.join(arguments.bin, "ballast"), "--run-dir", directory, "top", "-d", "1"],
                           stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, start_new_session=True,
                           env={**os.environ, "TERM": "xterm", "HOME": directory, "XDG_CONFIG_HOME": directory})
    os.close(theirs)
    return top, ours


def run(report, arguments):
    seconds = 5 if arguments.quick else 20
    whole = report.row(f"{VMS} VMs at 1 s: top and daemon together", "% of a core", goal_ours=2)
    of_top = report.row(f"{VMS} VMs at 1 s: top", "% of a core")
    of_daemon = report.row(f"{VMS} VMs at 1 s: daemon", "% of a core")
    written = report.row(f"{VMS} VMs at 1 s: to the terminal", "bytes/s")
    for size in ((80, 24), (200, 60), (80, 24), (200, 60)):
        with tempfile.TemporaryDirectory() as directory:
            daemon = _start_daemon(arguments, directory)
            top, terminal = _start_top(arguments, directory, size)
            drawn = [0]
            reader = threading.Thread(target=_drain, args=(terminal, drawn))
            reader.start()
            try:
                time.sleep(2)
                if top.poll() is not None:
                    raise Failed(f"top ended with status {top.returncode}")
                before = _cpu_seconds(top.pid), _cpu_seconds(daemon.pid), drawn[0], time.monotonic()
                time.sleep(seconds)
                after = _cpu_seconds(top.pid), _cpu_seconds(daemon.pid), drawn[0], time.monotonic()
            finally:
                for process in (top, daemon):
                    process.kill()
                    process.wait()
                reader.join()
                os.close(terminal)
            span = after[3] - before[3]
            top_percent, daemon_percent = (100 * (after[i] - before[i]) / span for i in (0, 1))
            if daemon_percent <= 0:
                raise Failed("top did not ask the daemon")
            of_top.add(top_percent)
            of_daemon.add(daemon_percent)
            whole.add(top_percent + daemon_percent)
            written.add((after[2] - before[2]) / span)
    report.note("top in terminals of 80x24 and 200x60; the daemon is ballast-fake-daemon: the control socket's own code, "
                "with a made-up host behind it")


TARGETS = ["ballast", "ballast-fake-daemon"]
PARTS = {"top": run}
