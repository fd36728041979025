#!/usr/bin/env python3
"""The Debian package: what is in it, and that what it installs works."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import harness  # noqa: E402
from harness import BIN, EndToEndTest, Host, die_with_parent, temporary_directory, wait_until  # noqa: E402
from machine import ROOT  # noqa: E402

EXPECTED = {  # path: mode
    "usr/bin/ballast": "-rwxr-xr-x", "usr/bin/ballast-qemu": "-rwxr-xr-x", "usr/bin/ballast-sim": "-rwxr-xr-x",
    "usr/bin/ballast-libvirt-hook": "-rwxr-xr-x", "usr/share/doc/ballast/examples/prometheus/ballast.rules.yml": "-rw-r--r--",
    "usr/sbin/ballastd": "-rwxr-xr-x", "usr/lib/ballast/libballast-agent.so": "-rw-r--r--",
    "lib/systemd/system/ballastd.service": "-rw-r--r--", "usr/lib/sysctl.d/30-ballast.conf": "-rw-r--r--",
    "etc/ballast/ballast.toml": "-rw-r--r--", "etc/ballast/conf.d/README": "-rw-r--r--",
    "usr/share/man/man8/ballastd.8.gz": "-rw-r--r--", "usr/share/man/man5/ballast.toml.5.gz": "-rw-r--r--",
    "usr/share/man/man1/ballast.1.gz": "-rw-r--r--", "usr/share/doc/ballast/copyright": "-rw-r--r--",
    "usr/share/doc/ballast/changelog.Debian.gz": "-rw-r--r--",
    "usr/share/bash-completion/completions/ballast": "-rw-r--r--",
    "usr/share/zsh/vendor-completions/_ballast": "-rw-r--r--",
    "usr/share/fish/vendor_completions.d/ballast.fish": "-rw-r--r--",
}
NOBODY = "65534"


def run(*command, status=0, timeout=60, **options):
    """stdout and stderr of a program that must end with this status (None: any)."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=timeout, check=False, **options)
    if status is not None and done.returncode != status:
        raise harness.Failed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout


def setUpModule():
    for program in ("cpack", "dpkg-deb", "dpkg-shlibdeps", "file"):
        if shutil.which(program) is None:
            raise unittest.SkipTest(f"no {program}; run tools/setup")
    Made.directory = tempfile.mkdtemp(prefix="ballast-package-", dir="/var/tmp")
    unittest.addModuleCleanup(shutil.rmtree, Made.directory, ignore_errors=True)
    Made.deb = run(os.path.join(ROOT, "tools", "package"), "--no-build", "--into", Made.directory,
                   env={**os.environ, "BALLAST_BUILD": os.path.dirname(BIN)}).split()[-1]


class Made:
    """The package, made once."""
    directory = None
    deb = None


def text_of(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


class Package(EndToEndTest):
    def test_contents(self):
        """Promise: the package holds what it should, stripped, with its configuration as conffiles."""
        modes = {}
        for line in run("dpkg-deb", "-c", Made.deb).splitlines():
            mode, _, _, _, _, path = line.split(None, 5)
            modes[path.removeprefix("./")] = mode
        for path, mode in EXPECTED.items():
            self.assertEqual(modes.get(path), mode, path)
        for path, mode in modes.items():
            self.assertFalse(path.startswith(("usr/local", "root", "tmp", "home")), path)
            self.assertNotIn("w", mode[4:], f"{path} may be written by others")
        root = os.path.join(Made.directory, "contents")
        run("dpkg-deb", "-x", Made.deb, root)
        for path in ("usr/sbin/ballastd", "usr/bin/ballast", "usr/lib/ballast/libballast-agent.so"):
            kind = run("file", "-b", os.path.join(root, path))
            self.assertIn(", stripped", kind)
        self.assertIn("/etc/ballast/ballast.toml", run("dpkg-deb", "-I", Made.deb, "conffiles").splitlines())
        size = os.path.getsize(Made.deb) / 1e6
        self.say(f"{len(modes)} entries, {size:.1f} MB")

    def test_lintian(self):
        """Promise: lintian finds no error."""
        if shutil.which("lintian") is None:
            self.skipTest("no lintian; run tools/setup")
        said = run("lintian", "--fail-on", "error", "--tag-display-limit", "0", "--allow-root", Made.deb, timeout=120)
        for line in said.splitlines():
            self.say(line)  # warnings are to be looked at

    def test_unit(self):
        """Promise: systemd understands every line of the unit, and counts it as little exposed."""
        if shutil.which("systemd-analyze") is None:
            self.skipTest("no systemd-analyze")
        unit = os.path.join(ROOT, "packaging", "ballastd.service")
        # It misses the programs and pages, which are not installed here; nothing else.
        said = [line for line in run("systemd-analyze", "verify", unit, status=None).splitlines()
                if "ballast" in line and not re.search(r"is not executable|Command 'man |lib/systemd", line)]
        self.assertEqual(said, [])
        # The log is stderr; standard error follows standard output where nothing is said of it.
        self.assertIn("\nStandardError=journal\n", text_of(unit))
        exposure = run("systemd-analyze", "security", "--offline=true", "--threshold=35", unit).splitlines()[-1]
        self.say(exposure)


class Installed(EndToEndTest):
    """On an overlay of this machine's root, in a mount namespace of our own."""

    def setUp(self):
        super().setUp()
        if "overlay" not in text_of("/proc/filesystems"):
            self.skipTest("no overlay file system")
        Host.private_mounts()
        # Where a file system may serve as the upper layer: an overlay's own may not.
        directory = temporary_directory(self, "ballast-installed-")
        upper, work, self.root = (os.path.join(directory, name) for name in ("upper", "work", "root"))
        for path in (upper, work, self.root):
            os.mkdir(path)
        mounted = subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}",
                                  self.root], stderr=subprocess.PIPE, text=True, check=False)
        if mounted.returncode != 0:
            self.skipTest(f"no overlay on this machine's root: {mounted.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", "-R", self.root], check=False)
        for name in ("proc", "dev", "sys"):
            run("mount", "--rbind", f"/{name}", f"{self.root}/{name}")
        run("mount", "-t", "tmpfs", "tmpfs", f"{self.root}/run")
        # A disk of its own: an overlay is none to swap to.
        disk = os.path.join(directory, "disk")
        os.mkdir(disk)
        run("mount", "--bind", disk, f"{self.root}/srv")
        self.write("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)

    def write(self, path, text, mode=0o644):
        with open(os.path.join(self.root, path), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(os.path.join(self.root, path), mode)

    def there(self, *command, **options):
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "TERM": "dumb"}
        return run("chroot", self.root, *command, env=environment, **options)

    def launch(self, log, *command, **options):
        with open(log, "wb") as file:
            process = subprocess.Popen(["chroot", self.root, *command], stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                       preexec_fn=die_with_parent, **options)

        def close():
            if process.poll() is None:
                process.kill()
            process.wait()
        self.addCleanup(close)
        return process

    def unit(self, key):
        unit = text_of(os.path.join(self.root, "lib/systemd/system/ballastd.service"))
        return re.search(rf"^{key}=(.*)$", unit, re.MULTILINE).group(1)

    def doctor(self):
        """{check: finding}."""
        report = json.loads(self.there("ballast", "doctor", "--json", status=None))
        return {finding["check"]: finding for finding in report["findings"]}

    def start_daemon(self):
        """With no more abilities than the unit leaves it."""
        abilities = [f"+{word.removeprefix('CAP_').lower()}" for word in self.unit("CapabilityBoundingSet").split()]
        log = os.path.join(os.path.dirname(self.root), "ballastd.log")
        daemon = self.launch(log, "setpriv", "--no-new-privs", "--bounding-set", ",".join(["-all", *abilities]),
                             self.unit("ExecStart"))

        def answers():
            if daemon.poll() is not None:
                raise harness.Failed(text_of(log))
            return os.path.exists(f"{self.root}/run/ballast/control.sock")
        wait_until(answers, "the installed ballastd does not answer")
        return daemon

    def start_vm(self):
        log = os.path.join(os.path.dirname(self.root), "vm.log")
        process = self.launch(
            log, "ballast", "run", "--name", "web1", "--memory", "256M", "--", "-nodefaults", "-display", "none",
            "-accel", "tcg,thread=multi,tb-size=32", "-cpu", "qemu64", "-kernel", f"{Host.images}/vmlinuz", "-initrd",
            f"{Host.images}/initrd.cpio.gz", "-drive", f"file={Host.images}/rootfs.ext4,if=none,id=d0,format=raw,readonly=on",
            "-device", "virtio-blk-pci,drive=d0", "-serial", "stdio", "-append",
            'console=ttyS0 quiet ballast.poweroff=1 ballast.run="verifier --mib 180 --mix zero:10,lz50:60,random:30 '
            '--seed 1 --seconds 3"', env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
        return process, log

    def test_installed(self):
        """Promise: installed, configured, started with the unit's abilities, it serves a VM beyond its memory, lets the
        group look, tells what is wrong, will not be removed under a running VM, and is gone after a purge."""
        deb = shutil.copy(Made.deb, os.path.join(self.root, "tmp"))
        self.there("dpkg", "-i", os.path.join("/tmp", os.path.basename(deb)), timeout=120)
        self.addCleanup(os.unlink, deb)
        group = self.there("getent", "group", "ballast").split(":")[2]
        self.assertEqual(self.doctor()["daemon"]["grade"], "fail", "nobody runs yet")
        self.write("etc/ballast/conf.d/memory.toml", 'memory = "160M"\nswap_dir = "/srv/swap"\nstate_dir = "/var/lib/ballast"\n')
        self.assertIn(f"memory = {160 << 20}", self.there("ballastd", "--check-config"))
        daemon = self.start_daemon()
        findings = self.doctor()
        for check in ("config", "daemon", "agent", "ballast-qemu", "qemu", "group", "swap-dir", "userfaultfd"):
            self.assertEqual(findings[check]["grade"], "ok", findings[check])

        vm, log = self.start_vm()
        wait_until(lambda: "web1" in self.there("ballast", "ls", "--interval", "0"), "web1 does not show")
        nobody = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY]
        self.assertIn("web1", self.there(*nobody, "--groups", group, "ballast", "ls"))
        self.assertIn("you may only look",
                      self.there(*nobody, "--groups", group, "ballast", "set", "web1", "--shares", "high", status=1))
        self.assertIn("no permission", self.there(*nobody, "--clear-groups", "ballast", "ls", status=1))
        self.assertIn("VMs run on this host", self.there("dpkg", "-r", "ballast", status=None))
        self.there("ballast", "ls")
        wait_until(lambda: vm.poll() is not None, lambda: f"the VM does not end: {text_of(log)[-2000:]}", 120, every=0.1)
        said = text_of(log)
        self.assertRegex(said, r"BALLAST-DONE .*errors=0 complete=1")
        self.assertIn("GUEST-EXIT 0", said)

        events = json.loads(f"[{','.join(self.there('ballast', 'events', '--json').splitlines())}]")
        # The unit's abilities are enough: nothing was refused to the daemon.
        refused = [e["message"] for e in events if re.search("permitted|denied|read-only", e["message"], re.IGNORECASE)]
        self.assertEqual(refused, [])
        self.there("ballast", "options", "Mem.IdleTax=50")  # leaves something for the purge
        daemon.terminate()
        daemon.wait(20)
        self.assertTrue(os.path.exists(f"{self.root}/var/lib/ballast/options.toml"))
        self.there("dpkg", "-P", "ballast")
        for path in ("etc/ballast/ballast.toml", "usr/sbin/ballastd", "var/lib/ballast", "run/ballast"):
            self.assertFalse(os.path.exists(os.path.join(self.root, path)), path)
        self.say(re.search(r"BALLAST-DONE .*", said).group(0))


if __name__ == "__main__":
    harness.main()
