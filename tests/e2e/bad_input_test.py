#!/usr/bin/env python3
"""Whatever is wrong is refused with words that name it, or degrades visibly; nothing is lost and the others run on."""
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import fake_agent
import harness
from harness import (BIN, HERE, MIB, Daemon, EndToEndTest, Ext4Image, Host, SwapDamage, mount_tmpfs, process_state,
                     verifier, wait_until)


def refusal_of(command, environment=None):
    """Exit status and words of a program that should refuse at once."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=60, env={**os.environ, **(environment or {})}, check=False)
    return done.returncode, done.stdout.decode(errors="replace")


class RefusedDaemon(EndToEndTest):
    """ballastd that cannot do its work says why, and does not start."""

    def assert_refused(self, daemon, *words):
        status, text = refusal_of(daemon.command())
        self.assertNotEqual(status, 0, text)
        for word in words:
            self.assertIn(word, text)

    def test_swap_directory(self):
        """Promise: a swap directory that cannot be used is refused by name; one that is missing is made."""
        daemon = Daemon(self, 64 * MIB)
        plain = os.path.join(daemon.directory, "file")
        with open(plain, "w", encoding="ascii"):
            pass
        for path, word in ((plain, "not a directory"), (plain + "/below", ""),
                           (mount_tmpfs(self, 64), "memory file system")):
            daemon.swap_dir = path
            self.assert_refused(daemon, path, word)
        daemon.swap_dir = os.path.join(daemon.directory, "new", "swap")
        daemon.start()
        self.assertTrue(os.path.isdir(daemon.swap_dir))

    def test_configuration_file(self):
        """Promise: a mistake in the configuration file is named with file and line."""
        for text, line, word in (("memory = \n", 1, ""), ("# fine\n\nmemory = \"much\"\n", 3, "memory"),
                                 ("\nswapdir = \"/x\"\n", 2, "swapdir"),
                                 ("[options]\n\"Mem.MemZipMaxPct\" = 4711\n", 2, "Mem.MemZipMaxPct"),
                                 ("[options]\n\n\"Mem.NoSuch\" = 1\n", 3, "Mem.NoSuch"),
                                 ("run_dir = 5\n", 1, "run_dir"), ("a\0b", 1, ""), ("[options\n", 1, "")):
            daemon = Daemon(self, 64 * MIB, config_text=text)
            self.assert_refused(daemon, f"{daemon.config}:{line}", word)
        daemon.config = "/nonexistent/ballast.toml"
        self.assert_refused(daemon, daemon.config)

    def test_budget(self):
        """Promise: a budget in which nothing fits is refused with the least that works."""
        for memory, word in (("4M", "at least"), ("lots", "lots"), ("-5", ""), ("0x", "")):
            self.assert_refused(Daemon(self, memory), word)

    def test_second_daemon(self):
        """Promise: one run directory has one daemon; the second names the first and disturbs nothing."""
        first = self.daemon(64 * MIB)
        second = Daemon(self, 64 * MIB)
        second.run_dir = first.run_dir
        self.assert_refused(second, str(first.pid), first.run_dir)
        self.assertEqual(first.must("version")["pid"], first.pid)

    def test_traces_of_a_crash(self):
        """Promise: stale sockets and swap files of a crash are replaced, said, and in nobody's way."""
        daemon = Daemon(self, 64 * MIB)
        os.makedirs(daemon.run_dir)
        os.makedirs(daemon.swap_dir)
        for name in ("control.sock", "agent.sock"):
            with socket.socket(socket.AF_UNIX) as stale:
                stale.bind(os.path.join(daemon.run_dir, name))
        stale_swap = os.path.join(daemon.swap_dir, "web1.vswp")
        with open(stale_swap, "wb") as file:
            file.truncate(MIB)
        other = os.path.join(daemon.swap_dir, "notes.txt")
        shutil.copy(__file__, other)
        daemon.start()
        self.assertFalse(os.path.exists(stale_swap))
        self.assertIn(stale_swap, daemon.wait_for_event("swap.stale-file")["message"])
        self.assertTrue(os.path.exists(other), "a file that is not ours was removed")


class RefusedVm(EndToEndTest):
    """A VM that cannot be served is refused before it runs."""

    def assert_refused(self, guest, *words):
        wait_until(lambda: not guest.alive(), lambda: f"not refused:\n{guest.tail()}", 30)
        self.assertNotEqual(guest.process.returncode, 0)
        for word in words:
            self.assertIn(word, guest.log())

    def test_qemu_options(self):
        """Promise: options that pin or share guest RAM are refused by name, with what to use instead."""
        daemon = self.daemon(64 * MIB)
        for qemu, words in (
                (("-object", "memory-backend-memfd,id=m,size=256M,prealloc=on"), ("prealloc=on", "prealloc=off")),
                (("-drive", "file=/dev/null,if=none,id=d1,format=raw,cache=none,aio=native"), ("aio=native", "aio=thr")),
                (("-device", "vfio-pci,host=00:00.0"), ("vfio-pci", "virtio")),
                (("-overcommit", "mem-lock=on"), ("mem-lock",))):
            self.assert_refused(self.guest(daemon, "refused", qemu=qemu), *words)

    def test_no_daemon(self):
        """Promise: a VM that finds no daemon says which socket it looked for."""
        daemon = Daemon(self, 64 * MIB)
        self.assert_refused(self.guest(daemon, "alone"), daemon.run_dir)

    def test_minimums(self):
        """Promise: the sum of the mins always fits the budget: who does not fit is refused with the numbers."""
        daemon = self.daemon(160 * MIB)
        first = self.guest(daemon, "first", min_mib=96)
        daemon.wait_for_vm("first")
        self.assert_refused(self.guest(daemon, "second", min_mib=96), "min", "--memory", "96", "160")
        status, text = refusal_of([os.path.join(BIN, "ballast"), "run", "--name", "third", "--memory", "256M", "--min",
                                   "96M", "--"], {"BALLAST_RUN_DIR": daemon.run_dir})
        self.assertNotEqual(status, 0)
        self.assertIn("min", text)
        self.assertTrue(daemon.wait_for_event("vm.refused", "second"))
        first.ready()

    def test_no_room_for_swap(self):
        """Promise: where the swap file does not fit, the VM is refused with both numbers, and nothing stays behind."""
        lacking = Host.lacks_loop_devices()
        if lacking:
            self.skipTest(lacking)
        disk = Ext4Image(self, 128)
        daemon = Daemon(self, 64 * MIB, swap_dir=disk.path)
        # The file system's own directory is none of our files.
        daemon.swap_dir = os.path.join(disk.path, "swap")
        daemon.start()
        base = self.base_of(daemon)
        free = disk.free_bytes()
        self.assert_refused(self.guest(daemon, "big"), str(256 * MIB), "--swap-dir", daemon.swap_dir)
        self.assert_nothing_left(daemon, base)
        self.assertEqual(disk.free_bytes(), free)
        small = self.guest(daemon, "small", min_mib=0, memory_mib=96)
        daemon.wait_for_vm("small")
        small.kill()


class Strangers(EndToEndTest):
    """Garbage on every socket, while a VM is verified under reclaim."""

    def throw(self, path, data, half_close=True, seconds=5.0):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(seconds)
            connection.connect(path)
            try:
                connection.sendall(data)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
                answer = b""
                while part := connection.recv(65536):
                    answer += part
                return answer
            except (BrokenPipeError, ConnectionResetError, TimeoutError):
                return b""

    def garbage(self):
        yield from (b"", b"\n", b"\0" * 100, b"{", b"[", b"[]\n", b"{}\n", b"[{}]\n", b"null\n", b"[1,2,3]\n", b'"x"\n',
                    b'{"op":5}\n', b'{"op":"show"}\n', b'{"op":"show","vm":{}}\n', b'{"op":"reclaim","vm":"good"}\n',
                    b'{"op":"reclaim","vm":"good","bytes":-1}\n', b'{"op":"resume","vm":"../good"}\n',
                    b'{"op":"events","since":"x"}\n', b'{"op":"admit","name":"","memory_bytes":1}\n',
                    b'{"op":"ls"', b"[" * 60000 + b"\n", b'{"op":"' + b"\xff\xfe" * 20 + b'"}\n', b"A" * (2 << 20))
        for _ in range(30):
            yield self.random.randbytes(self.random.choice([1, 15, 16, 17, 4000, 70000]))

    def fake(self, daemon, name, lie, victim=""):
        agent = subprocess.Popen([sys.executable, os.path.join(HERE, "fake_agent.py"),
                                  os.path.join(daemon.run_dir, "agent.sock"), name, lie, victim],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            verdict = agent.stdout.readline().strip()
            if verdict == "ACCEPT":
                self.assertTrue(daemon.has_vm(name))
            return verdict
        finally:
            agent.kill()
            agent.wait()
            agent.stdin.close()
            agent.stdout.close()

    def test_a_liar_about_shared_pages(self):
        """Promise: a VM whose process says that it maps shared frames, and does not, is stopped; its neighbours and the
        daemon notice nothing."""
        daemon = self.daemon(160 * MIB, options={"Mem.ShareScanTime": 1, "Mem.ShareRateMax": 20000})
        good = self.guest(daemon, "good", run=verifier(100, 4, 1))
        liar = subprocess.Popen([sys.executable, os.path.join(HERE, "fake_agent.py"),
                                 os.path.join(daemon.run_dir, "agent.sock"), "liar", "maps-nothing"],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
        try:
            self.assertEqual(liar.stdout.readline().strip(), "ACCEPT")
            event = daemon.wait_for_event("agent.lied", "liar")
            self.assertEqual(event["severity"], "error")
            self.assertIn("liar is paused", event["message"])
            self.assertEqual(process_state(liar.pid), "T")
            self.assertEqual(daemon.vm("liar")["state"], "paused")
            self.assertIn("shared pages", daemon.vm("liar")["pause_reason"])
        finally:
            os.killpg(liar.pid, signal.SIGKILL)
            liar.wait()
            liar.stdin.close()
            liar.stdout.close()
        wait_until(lambda: not daemon.has_vm("liar"), "the liar's VM is still listed")
        good.finish()

    def test_strangers_and_liars(self):
        """Promise: garbage, truncated and oversized messages, floods, lying agents and doubles are refused with words;
        the daemon and the VM that it serves notice nothing."""
        daemon = self.daemon(160 * MIB)
        good = self.guest(daemon, "good", run=verifier(150, 30, 1))
        daemon.wait_for_vm("good", zips=1)
        control = os.path.join(daemon.run_dir, "control.sock")
        agents = os.path.join(daemon.run_dir, "agent.sock")
        for data in self.garbage():
            answer = self.throw(control, data)
            if data.strip(b"\n\0"):
                self.assertIn(b'"ok":false', answer.replace(b": ", b":"), data[:80])
            self.throw(agents, data)
        self.assertTrue(daemon.alive())

        # An honest one is taken, so what refuses the others is the lie.
        self.assertEqual(self.fake(daemon, "honest", "none"), "ACCEPT")
        wait_until(lambda: not daemon.has_vm("honest"), "the honest agent's VM is still listed")
        ram = next(f"/proc/{good.pid}/fd/{fd}" for fd, target in harness.open_files(good.pid)
                   if target.startswith("/memfd:memory-backend"))
        for lie in fake_agent.LIES:
            with self.subTest(lie=lie):
                verdict = self.fake(daemon, "liar", lie, ram)
                self.assertTrue(verdict.startswith("REFUSE ") and len(verdict) > 30, f"{lie}: '{verdict}'")
                self.assertFalse(daemon.has_vm("liar"))
        # Its words are refused, its name alone is not enough to speak for the good one.
        self.assertIn("good", self.fake(daemon, "good", "none"))

        double = self.guest(daemon, "good")
        wait_until(lambda: not double.alive(), "a second VM of one name was not refused", 30)
        self.assertNotEqual(double.process.returncode, 0)
        self.assertIn("good", double.log())

        held = []
        for path in (control, agents):
            for _ in range(100):  # more than either takes at once; none says a word
                connection = socket.socket(socket.AF_UNIX)
                connection.settimeout(0.2)
                try:
                    connection.connect(path)
                    held.append(connection)
                except OSError:
                    connection.close()
        time.sleep(0.5)
        self.assertTrue(daemon.alive())
        for connection in held:
            connection.close()
        wait_until(lambda: daemon.ask("version")["ok"], "no answer after a flood")
        done = good.finish()
        self.say(f"{done['verified']:.0f} pages verified meanwhile, "
                 f"longest stall {good.longest_stall_us() / 1e3:.0f} ms")


class BadDisk(EndToEndTest):
    """The disk under the swap directory fails while VMs use it."""

    def test_writes_fail_later(self):
        """Promise: when the disk takes no more writes this is reported, the VM runs on with what is left, and when
        the disk is well again reclaim goes on; no byte is lost."""
        lacking = Host.lacks_loop_devices()
        if lacking:
            self.skipTest(lacking)
        disk = Ext4Image(self, 384)
        if lacking := disk.lacks_failing_writes():
            self.skipTest(lacking)
        daemon = self.daemon(160 * MIB, swap_dir=os.path.join(disk.path, "swap"))
        guest = self.guest(daemon, "thrifty", run=verifier(150, 16, 1))
        guest.expect("BALLAST-VERIFY")
        daemon.wait_for_vm("thrifty", swap_outs=200)
        disk.set_writable(False)
        daemon.wait_for_event("swap.write-failed", "thrifty")
        event = daemon.events("swap.write-failed")[0]
        self.assertEqual(event["severity"], "error")
        before = guest.lines("BALLAST-VERIFY")[-1]
        time.sleep(4)
        after = guest.lines("BALLAST-VERIFY")[-1]
        self.assertGreater(after["verified"], before["verified"], guest.tail())
        self.assertEqual(daemon.vm("thrifty")["state"], "running")
        disk.set_writable(True)
        daemon.wait_for_event("swap.recovered", "thrifty")
        done = guest.finish()
        self.assertEqual(daemon.events("page.lost"), [])
        self.say(f"'{event['message']}'; {done['verified']:.0f} pages verified in all")

    def test_swapped_pages_are_damaged(self):
        """Promise: a page whose stored copy is damaged is never given to the guest, not even as zeros: that VM is
        paused and this is said; the other runs on; with the disk repaired `resume` continues without a loss."""
        daemon = self.daemon(256 * MIB)
        victim = self.guest(daemon, "victim", run=verifier(180, 8, 1))
        other = self.guest(daemon, "other", run=verifier(60, 18, 2))
        daemon.wait_for_vm("victim", swapped_bytes=10 * MIB, swap_ins=1)
        damage = SwapDamage(daemon, victim)
        damage.do()
        event = daemon.wait_for_event("page.lost", "victim")
        self.assertEqual(event["severity"], "error")
        wait_until(lambda: process_state(victim.pid) == "T", lambda: process_state(victim.pid))
        report = daemon.vm("victim")
        self.assertEqual(report["state"], "paused")
        self.assertGreaterEqual(report["lost_pages"], 1)
        self.assertTrue(report["pause_reason"])
        said = victim.log()

        # Resumed without a repair it must stop again rather than go on with anything else.
        daemon.must("resume", vm="victim")
        daemon.wait_for_event("page.lost", "victim", count=2)
        wait_until(lambda: process_state(victim.pid) == "T", lambda: process_state(victim.pid))

        progress = other.lines("BALLAST-VERIFY")[-1]["verified"] if other.lines("BALLAST-VERIFY") else 0
        wait_until(lambda: other.lines("BALLAST-DONE") or (other.lines("BALLAST-VERIFY") and other.lines(
            "BALLAST-VERIFY")[-1]["verified"] > progress), "the other VM does not run on")
        self.assertNotIn("BALLAST-ERROR", said + victim.log())

        damage.undo()
        daemon.must("resume", vm="victim")
        wait_until(lambda: daemon.vm("victim")["state"] == "running", "still paused")
        done = victim.finish()
        other.finish()
        self.say(f"'{event['message']}'; after the repair {done['verified']:.0f} pages verified")


if __name__ == "__main__":
    Host.private_mounts()
    harness.main()
