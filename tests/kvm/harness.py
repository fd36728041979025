"""Starts ballastd and programs that take QEMU's place in front of the agent; reads what they say.

Used by the KVM tests and by the benchmarks. Everything lives in one temporary directory and dies with `close()`.
"""
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid

MIB = 1 << 20


def missing_ability(kvm=True):
    """What this machine lacks to run VMs under Ballast, or None."""
    if os.geteuid() != 0:
        return "not root"
    if kvm:
        try:
            os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
        except OSError as problem:
            return f"/dev/kvm: {problem.strerror}"
    libc_userfaultfd = 323
    import ctypes  # only needed here
    fd = ctypes.CDLL(None, use_errno=True).syscall(libc_userfaultfd, os.O_CLOEXEC)
    if fd < 0:
        return f"userfaultfd: {os.strerror(ctypes.get_errno())}"
    os.close(fd)
    return None


class Failed(Exception):
    pass


def wait_until(condition, what, seconds=10.0):
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise Failed(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.01)


class Daemon:
    """A ballastd in a directory of its own, which can be killed and started again."""

    def __init__(self, bin_dir, memory, options=None, swap_parent=None):
        self.bin_dir = bin_dir
        self.memory = memory
        self.run_dir = tempfile.mkdtemp(prefix="ballast-")
        # Swap must lie on a disk; /tmp may be tmpfs, /var/tmp hardly ever is.
        self.swap_dir = tempfile.mkdtemp(prefix="ballast-swap-", dir=swap_parent or "/var/tmp")
        self.config = os.path.join(self.run_dir, "config.toml")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write("[options]\n")
            for name, value in (options or {}).items():
                file.write(f'"{name}" = {json.dumps(value)}\n')
        self.log_path = os.path.join(self.run_dir, "ballastd.log")
        self.process = None
        self.start()

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [os.path.join(self.bin_dir, "ballastd"), "--memory", str(self.memory), "--run-dir", self.run_dir,
                 "--swap-dir", self.swap_dir, "--config", self.config, "--http", "off"],
                stdout=log, stderr=log)
        wait_until(self._answers, "ballastd does not answer; its log:\n" + self.log()[-2000:])

    def _answers(self):
        if self.process.poll() is not None:
            raise Failed(f"ballastd ended with status {self.process.returncode}:\n{self.log()[-4000:]}")
        try:
            return self.ask("version")["ok"]
        except OSError:
            return False

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def alive(self):
        return self.process.poll() is None

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def ask(self, op, **members):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            if not self.alive():
                raise Failed(f"ballastd ended with status {self.process.returncode}:\n{self.log()[-4000:]}")
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

    def vm(self, name):
        return self.must("show", vm=name)["vm"]

    def vms(self):
        return self.must("ls")["vms"]

    def host(self):
        return self.must("host")["host"]

    def threads(self):
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def descriptors(self):
        """What the daemon holds open, by kind; sockets of our own questions come and go."""
        kinds = {}
        directory = f"/proc/{self.process.pid}/fd"
        for fd in os.listdir(directory):
            try:
                target = os.readlink(f"{directory}/{fd}")
            except OSError:
                continue
            kind = target.split(":[")[0].replace(" (deleted)", "")
            if self.swap_dir in kind:
                kind = "swap file"
            kinds[kind] = kinds.get(kind, 0) + 1
        return kinds

    def cpu_seconds(self):
        """CPU time of all its threads, to the nanosecond."""
        total = 0
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{task}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[0])
        return total / 1e9

    def swap_files(self):
        return os.listdir(self.swap_dir)

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.run_dir, ignore_errors=True)
        shutil.rmtree(self.swap_dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def agent_environment(daemon, name, memory_bytes, min_bytes=0):
    """What ballast-qemu sets for QEMU."""
    return {
        **os.environ,
        "LD_PRELOAD": os.path.join(daemon.bin_dir, "libballast-agent.so"),
        "BALLAST_SOCKET": os.path.join(daemon.run_dir, "agent.sock"),
        "BALLAST_VM_NAME": name,
        "BALLAST_VM_MEMORY": str(memory_bytes),
        "BALLAST_VM_MIN": str(min_bytes),
        "BALLAST_VM_UUID": str(uuid.uuid4()),
    }


class Program:
    """A child whose lines on stdout are read by a thread as they come."""

    def __init__(self, command, environment=None, prepare=None):
        self.lines = []
        self._new = queue.Queue()
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, preexec_fn=prepare)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            self._new.put(line.rstrip("\n"))
        self._new.put(None)

    def send(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def expect(self, prefix, seconds=60.0):
        """The rest of the next line that begins so."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._new.get(timeout=max(0.001, deadline - time.monotonic()))
            except queue.Empty:
                raise Failed(f"waited {seconds:g} s for '{prefix}'; said: {self.lines[-5:]}") from None
            if line is None:
                raise Failed(f"ended while '{prefix}' was awaited; said: {self.lines[-8:]}")
            if line.startswith(prefix):
                return line[len(prefix):].strip()

    def kill(self):
        self.process.kill()
        self.wait()

    def wait(self, seconds=60.0):
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"still runs after {seconds:g} s; said: {self.lines[-5:]}") from None
        self._reader.join(5)
        self.process.stdin.close()
        self.process.stdout.close()
        return status

    def fields(self, prefix):
        """All lines that begin so, their KEY=NUMBER parts as dictionaries."""
        found = []
        for line in self.lines:
            if line.startswith(prefix):
                pairs = (part.split("=", 1) for part in line.split()[1:] if "=" in part)
                found.append({key: float(value) if value.replace(".", "", 1).isdigit() else value
                              for key, value in pairs})
        return found


def start_microvm(daemon, name, ram_mib, *arguments, min_mib=0):
    command = [os.path.join(daemon.bin_dir, "ballast-microvm"), "--ram", str(ram_mib), *map(str, arguments)]
    return Program(command, agent_environment(daemon, name, ram_mib * MIB, min_mib * MIB))
