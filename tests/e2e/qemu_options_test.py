#!/usr/bin/env python3
"""Command lines that are not the usual one: they work, or do without us, just as with plain QEMU."""
import os
import signal
import subprocess

import harness
from harness import BIN, MIB, EndToEndTest, process_state, verifier, wait_until


class QemuOptions(EndToEndTest):
    def test_two_memory_backends(self):
        """Promise: a VM of several RAM regions (two NUMA nodes) is managed as a whole, also by the next daemon."""
        daemon = self.daemon(160 * MIB, options={"Mem.ShareRateMax": 0})  # what is shared need not be swapped
        guest = self.guest(
            daemon, "numa", run=verifier(180, 6, 1), memory=("-m", "256"), qemu=(
                "-smp", "2", "-object", "memory-backend-memfd,id=m0,size=128M,share=on", "-object",
                "memory-backend-ram,id=m1,size=128M", "-numa", "node,memdev=m0,cpus=0", "-numa", "node,memdev=m1,cpus=1"))
        daemon.wait_for_vm("numa", swap_ins=10)
        files = [size for name, size in guest.memory_files().values() if not name.startswith("ballast-")
                 and not name.startswith("tcg")]
        self.assertEqual(len(files), 2, guest.memory_files())
        self.assertTrue(all(size > 0 for size in files))
        self.assertEqual(daemon.vm("numa")["configured_bytes"], 256 * MIB)
        daemon.kill()
        daemon.start()
        daemon.wait_for_vm("numa", faults=1)
        guest.finish()

    def test_own_monitor_and_balloon(self):
        """Promise: the user's own balloon is used as it is and none is added; his QMP socket stays his, the daemon has
        another one."""
        daemon = self.daemon(160 * MIB)
        guest = self.guest(daemon, "own", run=verifier(100, 3, 1), qemu=("-device", "virtio-balloon-pci,id=mine"))
        guest.expect("BALLAST-VERIFY")
        with guest.qmp() as monitor:
            balloons = [d["qdev_id"] for bus in monitor.command("query-pci") for d in bus["devices"]
                        if d["id"]["device"] in (0x1002, 0x1045)]
            self.assertEqual(balloons, ["mine"])
            self.assertEqual(monitor.command("query-status")["status"], "running")
        self.assertTrue(os.path.exists(guest.daemon_qmp_path()))
        guest.finish()

    def test_daemonized(self):
        """Promise: `-daemonize` works: the VM outlives its launcher and is managed, found and buried like others."""
        daemon = self.daemon(160 * MIB)
        base = self.base_of(daemon)
        pid_file = os.path.join(daemon.directory, "qemu.pid")
        console = os.path.join(daemon.directory, "console")
        launcher = self.guest(daemon, "detached", run=verifier(100, 4, 1), serial=("-serial", f"file:{console}"),
                              qemu=("-daemonize", "-pidfile", pid_file))
        wait_until(lambda: not launcher.alive(), "the launcher does not return", 30)
        self.assertEqual(launcher.process.returncode, 0, launcher.tail())
        with open(pid_file, encoding="ascii") as file:
            pid = int(file.read())
        self.addCleanup(lambda: process_state(pid) and os.kill(pid, signal.SIGKILL))
        self.assertEqual(daemon.wait_for_vm("detached")["pid"], pid)

        def said():
            with open(console, encoding="utf-8", errors="replace") as file:
                return file.read()
        wait_until(lambda: "GUEST-EXIT 0" in said(), lambda: said()[-1000:], 90, every=0.1)
        self.assertRegex(said(), r"BALLAST-DONE .*errors=0 complete=1")
        self.assert_nothing_left(daemon, base)

    def test_probes_pass_through(self):
        """Promise: questions to QEMU (version, devices, machines) are answered without a daemon and unchanged."""
        environment = {**os.environ, "BALLAST_RUN_DIR": "/nonexistent"}
        for arguments in (["-version"], ["-device", "help"], ["-machine", "help"], ["-cpu", "help"]):
            ours, plain = (subprocess.run([program, *arguments], stdout=subprocess.PIPE, env=environment, check=True,
                                          timeout=30).stdout
                           for program in (os.path.join(BIN, "ballast-qemu"), "qemu-system-x86_64"))
            self.assertEqual(ours, plain)

    def test_started_by_ballast_run(self):
        """Promise: `ballast run` gives name, memory and min, and what follows `--` goes to QEMU."""
        daemon = self.daemon(160 * MIB)
        guest = self.guest(daemon, "web1", run=verifier(60, 2, 1), memory=(), min_mib=0, launcher=[
            os.path.join(BIN, "ballast"), "run", "--name", "web1", "--memory", "192M", "--min", "32M", "--"])
        report = daemon.wait_for_vm("web1")
        self.assertEqual((report["configured_bytes"], report["min_bytes"]), (192 * MIB, 32 * MIB))
        self.assertEqual(report["swap_reserved_bytes"], 160 * MIB)
        self.assertEqual(report["pid"], guest.pid)
        guest.finish()


if __name__ == "__main__":
    harness.main()
