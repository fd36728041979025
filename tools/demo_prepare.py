"""What must be there before the demo: abilities of the host, packages, programs, the guest image."""
import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAMS = ("ballastd", "ballast", "ballast-qemu", "ballast-sim")
# ballast-qemu brings its agent along.
TARGETS = ("ballastd", "ballast", "ballast-qemu", "ballast-sim")

# From <linux/userfaultfd.h>, x86-64.
SYS_USERFAULTFD = 323
UFFD_API = 0xAA
UFFDIO_API = 0xC018AA3F
UFFD_FEATURE_PAGEFAULT_FLAG_WP = 1 << 0
UFFD_FEATURE_MISSING_SHMEM = 1 << 5
UFFD_FEATURE_WP_HUGETLBFS_SHMEM = 1 << 12


class Failure(Exception):
    """Something that ends the demo, in words for its user."""


def say(text):
    print(f"demo: {text}", flush=True)


def why_no_userfaultfd():
    """None when shared memory can be owned through userfaultfd, else what is missing."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(SYS_USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        return f"userfaultfd is not available ({os.strerror(ctypes.get_errno())})"
    try:
        wanted = (UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_MISSING_SHMEM |
                  UFFD_FEATURE_WP_HUGETLBFS_SHMEM)
        fcntl.ioctl(fd, UFFDIO_API, struct.pack("QQQ", UFFD_API, wanted, 0))
    except OSError:
        return "userfaultfd cannot write-protect shared memory (Linux 5.19 or newer is needed)"
    finally:
        os.close(fd)
    return None


def why_no_real_guests():
    """None when real guests can run here, else the one thing that is missing."""
    if os.geteuid() != 0:
        return "root is needed for real guests"
    if shutil.which("qemu-system-x86_64") is None:
        return "QEMU is missing (qemu-system-x86_64)"
    return why_no_userfaultfd()


def install_packages():
    setup = os.path.join(ROOT, "tools", "setup")
    check = subprocess.run([setup, "--check"], capture_output=True, text=True, check=False)
    if check.returncode == 0:
        return
    say("installing missing Debian packages")
    if subprocess.run([setup], check=False).returncode == 0:
        return
    needed = [tool for tool in ("cmake", "ninja", "c++") if shutil.which(tool) is None]
    if needed:
        raise Failure(f"cannot build without {', '.join(needed)}: see the message of tools/setup")
    say("going on without them: what building needs is there")


def run_quietly(command, what):
    """Runs a build step; shows its last line now and then, and everything when it fails."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, errors="replace")
    on_terminal = sys.stdout.isatty()
    lines, shown, began = [], time.monotonic(), time.monotonic()
    for line in process.stdout:
        lines.append(line)
        if on_terminal:
            print(f"\r\x1b[K{what}: {line.strip()[:80]}", end="", flush=True)
        elif time.monotonic() - shown > 10:
            shown = time.monotonic()
            say(f"{what}: {line.strip()[:80]}")
    if on_terminal:
        print("\r\x1b[K", end="", flush=True)
    if process.wait() != 0:
        sys.stdout.write("".join(lines[-60:]))
        raise Failure(f"{what} failed: its last words are above")
    if time.monotonic() - began > 5:
        say(f"{what}: done in {time.monotonic() - began:.0f} s")


def build_programs():
    """Returns the directory of the programs."""
    run_quietly(["cmake", "--preset", "release"], "configuring")
    command = ["cmake", "--build", "--preset", "release", "--target", *TARGETS]
    run_quietly(command, "building")
    return os.path.join(ROOT, "build", "bin")


def build_guest():
    """Returns the directory of the guest image, or None when it cannot be built here."""
    say("preparing the guest image (built once, then cached)")
    built = subprocess.run([os.path.join(ROOT, "tools", "make-guest")], stdout=subprocess.PIPE,
                           text=True, check=False)
    return built.stdout.strip() if built.returncode == 0 else None
