"""What the end-to-end tests ask of the machine: its abilities, processes, disks that are small, fail or lie."""
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time

MIB = 1 << 20
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BIN = os.path.abspath(os.environ.get("BALLAST_BIN", os.path.join(ROOT, "build", "bin")))

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_CLONE_NEWNS = 0x00020000
_SYS_USERFAULTFD = 323


class Failed(AssertionError):
    pass


def wait_until(condition, what, seconds=20.0, every=0.01):
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise Failed(f"waited {seconds:g} s in vain: {what() if callable(what) else what}")
        time.sleep(every)


def die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Host:
    """What this machine offers."""

    images = None  # directory of the guest image, set by missing()

    @classmethod
    def missing(cls):
        """What this machine lacks to run guests under Ballast, or None."""
        if os.geteuid() != 0:
            return "not root"
        fd = _libc.syscall(_SYS_USERFAULTFD, os.O_CLOEXEC)
        if fd < 0:
            return f"userfaultfd: {os.strerror(ctypes.get_errno())}"
        os.close(fd)
        if shutil.which("qemu-system-x86_64") is None:
            return "no qemu-system-x86_64; run tools/setup"
        for name in ("ballastd", "ballast-qemu", "ballast", "libballast-agent.so"):
            if not os.path.exists(os.path.join(BIN, name)):
                return f"{BIN}/{name} is not built"
        built = subprocess.run([os.path.join(ROOT, "tools", "make-guest")], stdout=subprocess.PIPE, text=True,
                               check=False)
        if built.returncode == 3:
            return "tools/make-guest cannot build a guest image on this machine (see its message)"
        if built.returncode != 0:
            raise Failed("tools/make-guest failed (see its message)")
        cls.images = built.stdout.strip()
        return None

    @staticmethod
    def private_mounts():
        """From here on mounts of this process are its own and vanish with it."""
        if _libc.unshare(_CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)

    @staticmethod
    def lacks_loop_devices():
        if not os.path.exists("/dev/loop-control"):
            return "no /dev/loop-control: file systems on images cannot be mounted"
        if shutil.which("mkfs.ext4") is None or shutil.which("losetup") is None:
            return "no mkfs.ext4 or losetup"
        return None


def temporary_directory(test, prefix="ballast-"):
    # On a disk: /tmp may be tmpfs, where swap is refused.
    path = tempfile.mkdtemp(prefix=prefix, dir="/var/tmp")
    test.addCleanup(shutil.rmtree, path, ignore_errors=True)
    return path


class Ext4Image:
    """A small ext4 file system on a loop device, mounted at .path; needs Host.private_mounts()."""

    def __init__(self, test, size_mib):
        self.directory = temporary_directory(test, "ballast-ext4-")
        self.image = os.path.join(self.directory, "image")
        self.path = os.path.join(self.directory, "mounted")
        os.mkdir(self.path)
        with open(self.image, "wb") as file:
            file.truncate(size_mib * MIB)
        # No journal and nothing lazy: what the file system needs for itself lies on the backing file from the start.
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", "-E",
                        "lazy_itable_init=0,nodiscard", self.image], check=True, stdout=subprocess.DEVNULL)
        test.addCleanup(self.unmount)
        subprocess.run(["mount", "-o", "loop,errors=continue", self.image, self.path], check=True)

    def free_bytes(self):
        info = os.statvfs(self.path)
        return info.f_bfree * info.f_frsize

    def lacks_failing_writes(self):
        """Why set_writable() would not work, or None."""
        if shutil.which("chattr") is None:
            return "no chattr"
        kind = subprocess.run(["stat", "-f", "-c", "%t", self.directory], check=True, stdout=subprocess.PIPE).stdout
        return None if kind.strip() == b"ef53" else "/var/tmp is not on ext4: writes cannot be made to fail"

    def set_writable(self, writable):
        """While not, every write to the disk fails whole (EIO) and reads go on: the image is immutable.

        (An image on a file system that is full would not do: the loop driver reports a short write as a success.)
        """
        subprocess.run(["chattr", "-i" if writable else "+i", self.image], check=True)

    def unmount(self):
        subprocess.run(["chattr", "-i", self.image], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["umount", "-l", self.path], check=False, stderr=subprocess.DEVNULL)


def mount_tmpfs(test, size_mib):
    path = temporary_directory(test, "ballast-tmpfs-")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", path], check=True)
    test.addCleanup(subprocess.run, ["umount", "-l", path], check=False)
    return path


def process_state(pid):
    """R, S, D, T, Z …, or None when there is no such process (or thread: "PID/task/TID")."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return None


def stop_process(pid):
    """SIGSTOP, and waits until every thread has stopped."""
    os.kill(pid, signal.SIGSTOP)

    def stopped():
        for task in os.listdir(f"/proc/{pid}/task"):
            if (process_state(f"{pid}/task/{task}") or "X") not in "TtZX":  # ended meanwhile counts as stopped
                return False
        return True
    wait_until(stopped, f"process {pid} does not stop", every=0.0002)


def open_files(pid):
    """(descriptor, target) of everything a process holds open."""
    found = []
    directory = f"/proc/{pid}/fd"
    for fd in os.listdir(directory):
        try:
            found.append((fd, os.readlink(f"{directory}/{fd}")))
        except OSError:
            continue
    return found


class SwapDamage:
    """Overwrites the swap file of a VM with a pattern and can put the right bytes back.

    The daemon stands still meanwhile, so that no write of its own crosses ours.
    """

    GARBAGE = bytes((i * 37 + 11) & 0xff for i in range(4096))

    def __init__(self, daemon, guest):
        self.daemon = daemon
        # The agent in QEMU keeps the same file.
        self.inodes = {os.stat(f"/proc/{guest.pid}/fd/{fd}").st_ino for fd, target in open_files(guest.pid)
                       if target.startswith(daemon.swap_dir)}
        self.saved = {}

    def _each_file(self):
        for path in self.daemon.swap_file_paths():
            if os.stat(path).st_ino not in self.inodes:
                continue
            fd = os.open(path, os.O_RDWR)  # through the page cache, which direct I/O invalidates
            try:
                yield fd
            finally:
                os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)

    def _standing_still(self, work):
        stop_process(self.daemon.pid)
        try:
            time.sleep(0.1)  # what is on its way to the disk arrives
            return work()
        finally:
            os.kill(self.daemon.pid, signal.SIGCONT)

    def do(self):
        def work():
            for fd in self._each_file():
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                data = os.pread(fd, os.fstat(fd).st_size, 0)
                while len(data) < os.fstat(fd).st_size:
                    data += os.pread(fd, os.fstat(fd).st_size - len(data), len(data))
                self.saved[os.fstat(fd).st_ino] = data
                for at in range(0, len(data), 4096):
                    if any(data[at:at + 4096]):
                        os.pwrite(fd, self.GARBAGE, at)
        self._standing_still(work)

    def undo(self):
        """Slots that still hold the garbage get their bytes back; those written since then are right."""
        def work():
            for fd in self._each_file():
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                data = self.saved[os.fstat(fd).st_ino]
                for at in range(0, len(data), 4096):
                    if os.pread(fd, 4096, at) == self.GARBAGE:
                        os.pwrite(fd, data[at:at + 4096], at)
        self._standing_still(work)
