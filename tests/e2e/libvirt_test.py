#!/usr/bin/env python3
"""Domains of a real libvirtd whose emulator is ballast-qemu: parameters in their XML, sizes asked for by people.

libvirtd runs on directories of its own, in this program's mount namespace and a network namespace, and ends with it.
"""
import os
import re
import shutil
import subprocess
import time

import harness
from harness import BIN, MIB, Daemon, EndToEndTest, Failed, Host, die_with_parent, verifier, wait_until

NAMESPACE = "https://ballast.dev/domain/1.0"
QEMU_CONF = """user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
remember_owner = 0
"""


class Libvirt:
    """A libvirtd of our own."""

    def __init__(self, test, hook):
        for program in ("libvirtd", "virsh"):
            if shutil.which(program) is None:
                test.skipTest(f"{program} is not installed (Debian: libvirt-daemon, libvirt-daemon-driver-qemu, libvirt-clients)")
        if not os.path.exists("/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so"):
            test.skipTest("libvirt's driver for QEMU is not installed (Debian: libvirt-daemon-driver-qemu)")
        for path in ("/run", "/etc/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt"):
            os.makedirs(path, exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True)
            test.addCleanup(subprocess.run, ["umount", "-l", path], check=False)
        os.makedirs("/etc/libvirt/hooks/qemu.d")
        if hook:
            os.symlink(os.path.join(BIN, "ballast-libvirt-hook"), "/etc/libvirt/hooks/qemu.d/ballast")
        with open("/etc/libvirt/qemu.conf", "w", encoding="ascii") as file:
            file.write(QEMU_CONF)
        with open("/etc/libvirt/libvirtd.conf", "w", encoding="ascii") as file:
            file.write('auth_unix_rw = "none"\nunix_sock_rw_perms = "0700"\n')
        self.log_path = "/var/log/libvirt/test.log"
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(["unshare", "-n", "libvirtd"], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, preexec_fn=die_with_parent)
        test.addCleanup(self.close)
        wait_until(lambda: self.virsh("uri", check=False)[0] == 0, self.log, every=0.05)

    def virsh(self, *words, check=True):
        """Exit status and words."""
        done = subprocess.run(["virsh", "-q", "-c", "qemu:///system", *words], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
        if check and done.returncode != 0:
            raise Failed(f"virsh {words}: {done.stdout}\n{self.log()}")
        return done.returncode, done.stdout.strip()

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()[-3000:]

    def close(self):
        for name in self.virsh("list", "--name", check=False)[1].split():
            self.virsh("destroy", name, check=False)
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Domain:
    def __init__(self, libvirt, daemon, name, number, parameters, run=None):
        self.libvirt, self.name = libvirt, name
        self.uuid = f"5d1f6a4e-0000-4000-8000-{number:012}"
        self.serial = os.path.join(daemon.directory, f"{name}.serial")
        command = f'ballast.poweroff=1 ballast.run="{run}"' if run else ""
        self.path = os.path.join(daemon.directory, f"{name}.xml")
        with open(self.path, "w", encoding="ascii") as file:
            file.write(f"""<domain type='qemu'><name>{name}</name><uuid>{self.uuid}</uuid>
<metadata>{parameters}</metadata>
<memory unit='MiB'>256</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type><kernel>{Host.images}/vmlinuz</kernel>
<initrd>{Host.images}/initrd.cpio.gz</initrd>
<cmdline>console=ttyS0 quiet no_timer_check {command.replace('"', '&quot;')}</cmdline></os>
<features><acpi/><tcg><tb-cache unit='MiB'>32</tb-cache></tcg></features>
<devices><emulator>{BIN}/ballast-qemu</emulator>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{Host.images}/rootfs.ext4'/>
<target dev='vda' bus='virtio'/><readonly/></disk>
<serial type='file'><source path='{self.serial}'/><target port='0'/></serial>
<memballoon model='virtio' autodeflate='on' freePageReporting='on'/></devices></domain>""")

    def define(self):
        self.libvirt.virsh("define", self.path)
        return self

    def start(self):
        self.libvirt.virsh("start", self.name)
        return self

    def said(self):
        try:
            with open(self.serial, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def expect(self, pattern, seconds=60.0):
        return wait_until(lambda: re.search(pattern, self.said()),
                          lambda: f"'{pattern}' from {self.name}: {self.said()[-800:]}\n{self.log()}", seconds, every=0.05)

    def log(self):
        with open(f"/var/log/libvirt/qemu/{self.name}.log", encoding="utf-8", errors="replace") as file:
            return file.read()[-2000:]


def memory(attributes):
    return f"<b:memory xmlns:b='{NAMESPACE}' {attributes}/>"


class LibvirtDomains(EndToEndTest):
    def begin(self, memory_bytes, hook=True):
        libvirt = Libvirt(self, hook)
        daemon = Daemon(self, memory_bytes)
        daemon.run_dir = "/run/ballast"  # as libvirt's programs find it
        return libvirt, daemon.start()

    def test_life_of_domains(self):
        """Promise: libvirt probes, defines, starts, resizes and stops domains as always; Ballast manages them under
        their names and UUIDs, by what their metadata says; what a person asks of a balloon stands."""
        budget = 150 * MIB  # two domains of 256 MB
        libvirt, daemon = self.begin(budget)
        base = self.base_of(daemon)
        # Probed as any emulator.
        capabilities = libvirt.virsh("domcapabilities", "--emulatorbin", os.path.join(BIN, "ballast-qemu"),
                                     "--virttype", "qemu")[1]
        self.assertIn("<machine>pc-i440fx", capabilities)
        self.assertEqual(daemon.vms(), [])

        # What is wrong is told to who starts it.
        wrong = Domain(libvirt, daemon, "wrong", 9, memory("shares='plenty'")).define()
        status, words = libvirt.virsh("start", "wrong", check=False)
        self.assertNotEqual(status, 0)
        self.assertIn("shares='plenty'", words)
        libvirt.virsh("undefine", "wrong")
        self.assertEqual(wrong.said(), "")

        idle = Domain(libvirt, daemon, "idle", 1, memory("min='32M' balloon-max='200M'")).define().start()
        idle.expect("GUEST-READY")
        vm = daemon.vm("idle")
        self.assertEqual((vm["uuid"], vm["min_bytes"], vm["balloon_max_setting"], vm["configured_bytes"]),
                         (idle.uuid, 32 * MIB, 200 * MIB, 256 * MIB))
        self.assertEqual(libvirt.virsh("domstate", "idle")[1], "running")

        # A person's setmem, at libvirt's own monitor.
        libvirt.virsh("setmem", "idle", "160M", "--live")

        def actual_mib():
            return int(re.search(r"actual (\d+)", libvirt.virsh("dommemstat", "idle")[1]).group(1)) // 1024
        wait_until(lambda: actual_mib() == 160, lambda: f"{actual_mib()} MB: {daemon.vm('idle')}", 20, every=0.2)
        wait_until(lambda: daemon.vm("idle")["balloon_state"] == "foreign", lambda: str(daemon.vm("idle")), every=0.1)
        event = daemon.wait_for_event("balloon.foreign", "idle")
        self.assertIn("somebody else has set the balloon to", event["message"])
        self.assertIn("virsh setmem", daemon.cli("why", "idle")[1])
        time.sleep(1)
        self.assertEqual(actual_mib(), 160)
        libvirt.virsh("setmem", "idle", "256M", "--live")
        wait_until(lambda: daemon.vm("idle")["balloon_state"] != "foreign", lambda: str(daemon.vm("idle")), every=0.1)

        # Overcommitted, and no byte lost.
        busy = Domain(libvirt, daemon, "busy", 2, memory("shares='high' limit='250M' salt='web'"),
                      run=verifier(90, 3, 5)).define().start()
        daemon.wait_for_vm("busy")
        vm = daemon.vm("busy")
        self.assertEqual((vm["uuid"], vm["limit_bytes"], vm["share_setting"], vm["share_group"]),
                         (busy.uuid, 250 * MIB, "high", "salt:web"))
        self.assertEqual(sorted(os.listdir("/run/ballast/libvirt")), [idle.uuid, busy.uuid])
        wait_until(lambda: any(vm["zips"] + vm["swap_outs"] > 0 for vm in daemon.vms()), lambda: str(daemon.vms()), 60,
                   every=0.1)
        busy.expect("BALLAST-DONE", 90)
        done = re.search(r"BALLAST-DONE verified=(\d+) .*errors=(\d+) complete=(\d)", busy.said())
        self.assertGreater(int(done.group(1)), 0)
        self.assertEqual(done.group(2, 3), ("0", "1"))
        self.assertLessEqual(daemon.host()["peak_consumed_bytes"], budget)
        wait_until(lambda: libvirt.virsh("domstate", "busy")[1] == "shut off", "busy goes on")
        libvirt.virsh("destroy", "idle")
        for name in ("idle", "busy"):
            libvirt.virsh("undefine", name)
        self.assertEqual(os.listdir("/run/ballast/libvirt"), [])
        self.assert_nothing_left(daemon, base)

    def test_without_hook_and_without_daemon(self):
        """Promise: without the hook a domain runs with the defaults and its log says so; without a daemon nothing runs,
        and whoever starts it is told why."""
        libvirt, daemon = self.begin(320 * MIB, hook=False)
        plain = Domain(libvirt, daemon, "plain", 3, memory("min='64M'")).define().start()
        daemon.wait_for_vm("plain")
        self.assertEqual(daemon.vm("plain")["min_bytes"], 0)
        self.assertIn("install ballast-libvirt-hook", plain.log())
        libvirt.virsh("destroy", "plain")
        daemon.terminate()
        status, words = libvirt.virsh("start", "plain", check=False)
        self.assertNotEqual(status, 0)
        self.assertIn("ballast", words)
        libvirt.virsh("undefine", "plain")


if __name__ == "__main__":
    harness.main()
