#!/usr/bin/env python3
"""Boots the guest that tools/make-guest builds in plain QEMU, without Ballast.

Shows that the guest itself is sound: it gets ready, its shell answers on a serial port that is a
unix socket, the verifier runs clean in 180 of 256 MiB and reports an injected damage, the workloads
work, the guest switches itself off. Exit status 77 = skipped (no QEMU, or no image and no network).
"""
import os
import re
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
MAKE_GUEST = os.path.join(HERE, "..", "..", "tools", "make-guest")
TIMEOUT_S = float(os.environ.get("BALLAST_BOOT_TIMEOUT_S", "120"))

WORKLOADS = [
    ("dbench -c /usr/share/dbench/client.txt -t 2 1 | tail -1", r"Throughput [\d.]+ MB/sec"),
    ("redis-server --save '' --daemonize yes >/dev/null; sleep 1;"
     " redis-benchmark -q -n 2000 -r 1000 -d 1000 -t set | tr '\\r' '\\n' | grep requests",
     r"SET: [\d.]+ requests per second"),
    ("sqlite3 /tmp/db \"create table t(a); with recursive c(x) as (select 1 union all select x+1"
     " from c where x<20000) insert into t select hex(randomblob(50)) from c;"
     " select 'rows', count(*) from t\"", r"rows\|20000"),
    ("toucher 8:1 4:1", r"TOUCHER-SET mib=8 (?s:.*)TOUCHER-SET mib=4 (?s:.*)TOUCHER-DONE"),
    ("reader /usr/bin/verifier 1000 2", r"READER t=1 mb=(?s:.*)READER-DONE mb_per_s=[\d.]+"),
    ("stress-ng --vm 1 --vm-bytes 40M --timeout 2s 2>&1 | tail -1", r"successful run completed"),
]


def skip(why):
    print(f"SKIP: {why}")
    sys.exit(77)


class Guest:
    """A QEMU process and the lines that its serial port has said so far."""

    def __init__(self, images, directory, kernel_args):
        path = os.path.join(directory, "serial")
        self.log = ""
        self.process = subprocess.Popen([
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
            "-machine", "pc", "-accel", "tcg,thread=multi,tb-size=32", "-cpu", "qemu64",
            "-m", "256", "-kernel", f"{images}/vmlinuz", "-initrd", f"{images}/initrd.cpio.gz",
            "-drive", f"file={images}/rootfs.ext4,if=none,id=d0,format=raw,readonly=on",
            "-device", "virtio-blk-pci,drive=d0", "-device", "virtio-balloon-pci,id=bal0",
            "-chardev", f"socket,id=s0,path={path},server=on,wait=on", "-serial", "chardev:s0",
            "-append", f"console=ttyS0 quiet {kernel_args}"])
        self.port = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                self.port.connect(path)
                break
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    self.fail("QEMU did not open its serial port")
                time.sleep(0.02)
        self.port.settimeout(1)

    def fail(self, what):
        print(f"FAILED: {what}\n--- serial port ---\n{self.log}")
        self.process.kill()
        self.process.wait()
        sys.exit(1)

    def send(self, line):
        self.port.sendall(line.encode() + b"\n")

    def expect(self, pattern):
        """Waits for the pattern in what was said since the last match; returns the match."""
        deadline = time.monotonic() + TIMEOUT_S
        start = getattr(self, "seen", 0)
        while not (match := re.compile(pattern).search(self.log, start)):
            try:
                data = self.port.recv(65536)
                self.log += data.decode(errors="replace")
                ended = not data
            except TimeoutError:
                ended = self.process.poll() is not None
            except ConnectionResetError:
                ended = True
            if time.monotonic() > deadline or ended and not re.search(pattern, self.log[start:]):
                self.fail(f"waited in vain for: {pattern}")
        self.seen = match.end()
        return match

    def expect_power_off(self):
        try:
            if self.process.wait(TIMEOUT_S) != 0:
                self.fail(f"QEMU ended with status {self.process.returncode}")
        except subprocess.TimeoutExpired:
            self.fail("the guest did not switch itself off")


def check_verifier(images, directory):
    started = time.monotonic()
    guest = Guest(images, directory,
                  'ballast.poweroff=1 ballast.run="verifier --mib 180 --seconds 3"')
    ready = guest.expect(r"GUEST-READY ([\d.]+)\n").group(1)
    print(f"ready after {time.monotonic() - started:.1f} s (the guest says {ready})")
    done = guest.expect(r"BALLAST-DONE verified=(\d+) writes=\d+ errors=0 complete=1 ")
    guest.expect(r"GUEST-EXIT 0\n")
    guest.expect_power_off()
    if "BALLAST-ERROR" in guest.log:
        guest.fail("errors without any memory manager")
    rates = [int(rate) for rate in re.findall(r" rate=(\d+)", guest.log)]
    print(f"180 MiB: {done.group(1)} pages verified, up to {max(rates)} per second")


def check_shell(images, directory):
    guest = Guest(images, directory, "")
    guest.expect(r"GUEST-READY [\d.]+\n")
    for command, expected in WORKLOADS:
        guest.send(command)
        print(guest.expect(expected).group(0))
    guest.send("verifier --mib 16 --seconds 1 --inject stale; echo status=$?")
    guest.expect(r"BALLAST-ERROR page=\d+ kind=stale ")
    guest.expect(r"BALLAST-DONE .* errors=1 ")
    guest.expect(r"status=1\n")
    guest.send("poweroff -f")
    guest.expect_power_off()


def main():
    try:
        subprocess.run(["qemu-system-x86_64", "--version"], check=True, stdout=subprocess.DEVNULL)
    except OSError:
        skip("no qemu-system-x86_64; run tools/setup")
    built = subprocess.run([MAKE_GUEST], stdout=subprocess.PIPE, text=True, check=False)
    if built.returncode == 3:
        skip("tools/make-guest cannot build an image on this machine (see its message)")
    if built.returncode != 0:
        sys.exit("FAILED: tools/make-guest (see its message)")
    images = built.stdout.strip()
    for check in (check_verifier, check_shell):
        with tempfile.TemporaryDirectory() as directory:
            check(images, directory)
    print("boot_test: ok")


if __name__ == "__main__":
    main()
