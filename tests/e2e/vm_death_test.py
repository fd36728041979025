#!/usr/bin/env python3
"""A QEMU that is killed, in whatever state, leaves nothing behind: no frame, slot, file, descriptor or thread."""
import time

import harness
from harness import MIB, Daemon, EndToEndTest, Ext4Image, Host, SwapDamage, process_state, verifier, wait_until

BUDGET = 160 * MIB


class VmDeath(EndToEndTest):
    def setUp(self):
        super().setUp()
        lacking = Host.lacks_loop_devices()
        self.disk = None if lacking else Ext4Image(self, 768)  # where nobody else uses or frees space
        if lacking:
            self.say(f"the swap directory's free space is not checked: {lacking}")
        self.server = Daemon(self, BUDGET, swap_dir=self.disk and self.disk.path)
        if self.disk:
            # Only what is created below the mount point counts.
            self.server.swap_dir = f"{self.disk.path}/swap"
        self.server.start()
        self.base = self.base_of(self.server)
        self.free = self.disk.free_bytes() if self.disk else 0

    def boot(self, name):
        return self.guest(self.server, name, run=verifier(180, 600, 1))

    def kill_and_check(self, guest, base=None):
        guest.kill()
        self.check(base)

    def check(self, base=None):
        self.assert_nothing_left(self.server, base or self.base)
        if self.disk:
            wait_until(lambda: self.disk.free_bytes() == self.free,
                       lambda: f"free in the swap directory: {self.free} before, now {self.disk.free_bytes()}")

    def test_while_booting(self):
        """Promise: killed between its first system call and user space."""
        for attempt, pause in enumerate((0.02, 0.08, self.random.uniform(0, 0.2), self.random.uniform(0.2, 2))):
            guest = self.boot(f"booting{attempt}")
            time.sleep(pause)
            self.kill_and_check(guest)

    def test_under_reclaim(self):
        """Promise: killed while its pages go out and come in, alone and beside another that runs on."""
        guest = self.boot("alone")
        self.server.wait_for_vm("alone", swap_ins=100, unzips=100)
        if self.disk:
            self.assertLess(self.disk.free_bytes(), self.free - 200 * MIB, "swap is not reserved on this disk")
        time.sleep(self.random.uniform(0, 0.3))
        self.kill_and_check(guest)

        other = self.guest(self.server, "other", run=verifier(100, 4, 2))
        guest = self.boot("beside")
        self.server.wait_for_vm("beside", swap_ins=100)
        guest.kill()
        wait_until(lambda: not self.server.has_vm("beside"), "still listed")
        other.finish()
        self.check()

    def test_while_the_daemon_is_dead(self):
        """Promise: nobody watched it die, and still nothing is left for the next daemon."""
        guest = self.boot("orphan")
        self.server.wait_for_vm("orphan", swap_ins=100)
        self.server.kill()
        time.sleep(self.random.uniform(0, 0.5))
        guest.kill()
        self.server.start()
        self.check()

    def test_right_after_the_daemon_came_back(self):
        """Promise: killed in the middle of a take-over."""
        for attempt in range(4):
            guest = self.boot(f"rejoining{attempt}")
            self.server.wait_for_vm(guest.name, swap_ins=100)
            self.server.kill()
            self.server.start()
            time.sleep(self.random.uniform(0, 0.04 if attempt % 2 else 0.15))
            self.kill_and_check(guest)

    def test_while_paused(self):
        """Promise: killed while the daemon holds it stopped because a page was lost."""
        guest = self.boot("paused")
        self.server.wait_for_vm("paused", swapped_bytes=20 * MIB, swap_ins=1)
        SwapDamage(self.server, guest).do()
        self.server.wait_for_event("page.lost", "paused")
        wait_until(lambda: process_state(guest.pid) == "T", lambda: f"not stopped: {process_state(guest.pid)}")
        self.kill_and_check(guest)


if __name__ == "__main__":
    Host.private_mounts()
    harness.main()
