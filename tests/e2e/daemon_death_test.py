#!/usr/bin/env python3
"""The daemon may die, stop or be replaced at any moment; guests resume within a second and lose no byte."""
import os
import shutil
import signal
import statistics
import time

import harness
from harness import MIB, EndToEndTest, stop_process, verifier, wait_until

BUDGET = 256 * MIB  # for two guests of 256 MB
KILLS = 22
RESUME_LIMIT_S = 1.0


class DaemonDeath(EndToEndTest):
    def setUp(self):
        super().setUp()
        self.server = self.daemon(BUDGET)
        self.guests = []

    def boot(self, seconds):
        # The pause keeps one guest from always waiting for the other's CPU: the stall is then the daemon's.
        self.guests = [self.guest(self.server, f"g{i}", run=verifier(180, seconds, i, extra="--pause-us 100"))
                       for i in (1, 2)]
        for guest in self.guests:
            self.server.wait_for_vm(guest.name, swap_ins=1, unzips=1)

    def restart(self):
        """A new daemon; the time from its start until every guest was served again."""
        begun = time.monotonic()
        self.server.launch()

        def all_served():
            self.assertTrue(self.server.alive(), self.server.log()[-3000:])
            for guest in self.guests:
                self.assertTrue(guest.alive(), guest.tail())
            try:
                vms = self.server.vms()
            except OSError:
                return False
            return len(vms) == len(self.guests) and all(vm["faults"] > 0 for vm in vms)
        wait_until(all_served, lambda: f"guests are not served:\n{self.server.log()[-3000:]}", every=0.002)
        return time.monotonic() - begun

    def check_recount(self):
        """What the new daemon believes is what the kernel counts."""
        for guest in self.guests:
            stop_process(guest.pid)
        try:
            self.wait_for_rest()
            # A remapping that the stopped QEMU cannot end has its second frames charged. It ends while it runs.
            tries = 0
            while any(self.charged_too_much(guest) > 64 * 4096 for guest in self.guests):
                tries += 1
                self.assertLess(tries, 10, [self.server.vm(guest.name) for guest in self.guests])
                for guest in self.guests:
                    os.kill(guest.pid, signal.SIGCONT)
                time.sleep(0.1)
                for guest in self.guests:
                    stop_process(guest.pid)
                self.wait_for_rest()
            for guest in self.guests:
                vm = self.server.vm(guest.name)
                self.assertGreaterEqual(self.charged_too_much(guest), 0, guest.name)
                self.assertGreaterEqual(vm["arena_bytes"], guest.kernel_bytes("ballast-arena"), guest.name)
                self.assertGreaterEqual(vm["overhead_bytes"], guest.kernel_bytes("ballast-tables"), guest.name)
                self.assertEqual(vm["consumed_bytes"],
                                 vm["resident_bytes"] + vm["arena_bytes"] + vm["overhead_bytes"]
                                 + vm["share_part_bytes"])
            host = self.server.host()
            self.assertEqual(host["consumed_bytes"],
                             host["daemon_bytes"] + sum(vm["consumed_bytes"] for vm in host["vms"]))
            self.assertLessEqual(host["consumed_bytes"], BUDGET)
        finally:
            for guest in self.guests:
                os.kill(guest.pid, signal.SIGCONT)

    def wait_for_rest(self):
        last = []

        def quiet():
            now = [[vm[key] for key in ("consumed_bytes", "swap_outs", "zips")] for vm in self.server.vms()]
            still = last == [now]
            last[:] = [now]
            return still
        wait_until(quiet, "reclaim does not come to rest", every=0.2)

    def charged_too_much(self, guest):
        return self.server.vm(guest.name)["resident_bytes"] - guest.ram_bytes() - guest.private_copies_bytes()

    def longest_stall(self):
        return max(guest.longest_stall_us() for guest in self.guests) / 1e6

    def finish_all(self):
        verified = sum(guest.finish()["verified"] for guest in self.guests)
        return f"{verified:.0f} pages verified"

    def test_killed_at_random_moments(self):
        """Promise: kill -9 at any instant of full reclaim, restart, and everything goes on within a second."""
        self.boot(seconds=26)
        resumed = []
        for kill in range(KILLS):
            # Also in the middle of a take-over.
            time.sleep(self.random.choice([self.random.uniform(0, 0.1), self.random.uniform(0.1, 1.2)]))
            self.assertTrue(all(guest.alive() for guest in self.guests), "not enough kills while the guests run")
            self.server.kill()
            if kill % 5 == 4:  # and while the agents already call the next one, which dies unheard
                self.server.launch()
                time.sleep(self.random.uniform(0, 0.06))
                self.server.kill()
            resumed.append(self.restart())
        stalled = self.longest_stall()  # before they are stopped for the recount
        self.check_recount()
        self.assertLess(max(resumed), RESUME_LIMIT_S, resumed)
        self.assertEqual(self.server.events("page.lost"), [])
        self.assertLess(stalled, RESUME_LIMIT_S + 0.3, "the longest stall that a guest felt")
        words = self.finish_all()
        self.say(f"{KILLS} kills, resumed after {statistics.median(resumed) * 1e3:.0f} ms (median), "
                 f"{max(resumed) * 1e3:.0f} ms (longest); {words}, longest stall in a guest {stalled * 1e3:.0f} ms")

    def test_stopped_and_upgraded(self):
        """Promise: a normal stop and a new binary work like a death; the recount agrees with the kernel; a daemon
        that stays away for a while only makes the guests wait."""
        self.boot(seconds=8)
        self.assertEqual(self.server.terminate(), 0)
        time.sleep(1.5)
        for guest in self.guests:
            self.assertTrue(guest.alive())
        self.restart()
        self.check_recount()

        upgraded = os.path.join(self.server.directory, "ballastd-new")
        shutil.copy2(self.server.program, upgraded)
        self.assertEqual(self.server.terminate(), 0)
        self.server.program = upgraded
        resumed = self.restart()
        self.assertEqual(os.readlink(f"/proc/{self.server.pid}/exe"), upgraded)
        self.assertLess(resumed, RESUME_LIMIT_S)
        self.check_recount()
        self.say(f"upgraded in {resumed * 1e3:.0f} ms; {self.finish_all()}")


if __name__ == "__main__":
    harness.main()
