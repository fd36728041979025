#!/usr/bin/env python3
"""The KVM path: the micro-VM in front of the real agent and daemon, in less memory than it uses.

Proves, with and without an interrupt controller in the kernel and with one and two vCPUs, that pages go out and come
back whole, that the daemon may die at any moment, and that a killed VM leaves nothing behind.
Exit status 77: skipped, because this machine lacks /dev/kvm, userfaultfd or root.
"""
import argparse
import itertools
import os
import random
import sys
import time
import unittest

import harness
from harness import MIB, Daemon, start_microvm, wait_until

BIN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "build", "bin")
SEED = int(os.environ.get("BALLAST_TEST_SEED", str(random.randrange(1 << 30))))

# 80 MiB of tested pages in a VM of 96 MiB on a budget of 64 MiB, half of which do not compress: all of
# the ladder is used.
BUDGET = 64 * MIB
RAM_MIB = 96
TESTED = ("--mib", 80, "--mix", "zero:10,lz50:40,random:50")
STALL_LIMIT_US = 1e6


class KvmTest(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon(BIN, BUDGET)
        self.addCleanup(self.daemon.close)
        self.guests = []
        time.sleep(0.05)  # the daemon lets go of the connection on which it was asked whether it runs
        self.addCleanup(lambda: [guest.kill() for guest in self.guests if guest.process.poll() is None])
        self.random = random.Random(f"{SEED}/{self.id()}")

    def start(self, name, *arguments):
        guest = start_microvm(self.daemon, name, RAM_MIB, *TESTED, "--seed", len(self.guests) + 1, *arguments)
        self.guests.append(guest)
        return guest

    def finish(self, guest, errors=0, seconds=120):
        """The guest must end by itself with all of its memory checked."""
        try:
            status = guest.wait(seconds)
        except harness.Failed as problem:
            self.fail(f"{problem}\n{self.daemon.log()[-3000:]}")
        done = guest.fields("BALLAST-DONE")
        self.assertEqual(len(done), 1, f"{guest.lines[-10:]}\n{self.daemon.log()[-2000:]}")
        self.assertEqual(done[0]["complete"], 1, guest.lines[-5:])
        self.assertEqual(done[0]["errors"], errors, guest.lines)
        self.assertEqual(status, 0 if errors == 0 else 1)
        return done[0]

    def assert_nothing_left(self, threads, descriptors, consumed):
        wait_until(lambda: not self.daemon.vms(), "the VM is still listed")
        wait_until(lambda: self.daemon.threads() == threads,
                   f"{threads} threads before, now {self.daemon.threads()}")
        wait_until(lambda: self.daemon.descriptors() == descriptors,
                   f"descriptors before {descriptors}, now {self.daemon.descriptors()}")
        wait_until(lambda: self.daemon.host()["consumed_bytes"] == consumed,
                   f"consumed before {consumed}, now {self.daemon.host()['consumed_bytes']}")
        self.assertEqual(self.daemon.swap_files(), [])


class Verified(KvmTest):
    """Evictions and restores under constant reclaim lose nothing."""

    def check(self, irqchip, vcpus):
        base = (self.daemon.threads(), self.daemon.descriptors(), self.daemon.host()["consumed_bytes"])
        guest = self.start("verified", "--irqchip", irqchip, "--vcpus", vcpus, "--seconds", 4)
        last = {}
        while guest.process.poll() is None:
            try:
                last = self.daemon.vm("verified")
            except harness.Failed:
                pass
            time.sleep(0.05)
        done = self.finish(guest)
        for counter in ("zips", "unzips", "swap_outs", "swap_ins"):
            self.assertGreater(last[counter], 0, f"{counter}: {last}")
        self.assertLessEqual(self.daemon.host()["peak_consumed_bytes"], BUDGET)
        print(f"irqchip {irqchip}, {vcpus} vCPUs: {done['verified']:.0f} pages verified, zips {last['zips']}, "
              f"unzips {last['unzips']}, swap-outs {last['swap_outs']}, swap-ins {last['swap_ins']}, "
              f"longest stall {max(line['stall_us'] for line in guest.fields('BALLAST-VERIFY')) / 1e3:.0f} ms")
        self.assert_nothing_left(*base)

    def test_irqchip_one_vcpu(self):
        self.check("on", 1)

    def test_irqchip_two_vcpus(self):
        self.check("on", 2)

    def test_no_irqchip_one_vcpu(self):
        self.check("off", 1)

    def test_no_irqchip_two_vcpus(self):
        self.check("off", 2)

    def test_two_vms_at_once(self):
        self.daemon.close()
        self.daemon = Daemon(BIN, 2 * BUDGET)
        self.addCleanup(self.daemon.close)
        guests = [self.start(f"vm{i}", "--vcpus", 2, "--seconds", 4) for i in range(2)]
        for guest in guests:
            self.finish(guest)


class NegativeControl(KvmTest):
    def test_a_flipped_bit_is_found(self):
        guest = self.start("flipped", "--seconds", 1, "--inject")
        self.finish(guest, errors=1)
        self.assertEqual(guest.fields("BALLAST-ERROR")[0]["kind"], "corrupt")


class DaemonDeath(KvmTest):
    """SIGKILL at random moments of full reclaim, a new daemon at once: the guest feels a pause, no more."""

    KILLS = 8  # in each of the three cases below

    def check(self, irqchip, vcpus):
        guest = self.start("survivor", "--irqchip", irqchip, "--vcpus", vcpus, "--seconds", 10)
        for _ in range(self.KILLS):
            time.sleep(self.random.uniform(0.1, 1.2))
            self.assertIsNone(guest.process.poll(), guest.lines[-5:])
            self.daemon.kill()
            time.sleep(self.random.choice([0, 0, 0.1]))
            self.daemon.start()
            wait_until(self.daemon.vms, f"the agent does not come back\n{self.daemon.log()[-2000:]}")
        self.finish(guest)
        longest = max(line["stall_us"] for line in guest.fields("BALLAST-VERIFY"))
        print(f"irqchip {irqchip}, {vcpus} vCPUs, {self.KILLS} kills: longest stall {longest / 1e3:.0f} ms")
        self.assertLess(longest, STALL_LIMIT_US)

    def test_irqchip_one_vcpu(self):
        self.check("on", 1)

    def test_irqchip_two_vcpus(self):
        self.check("on", 2)

    def test_no_irqchip_two_vcpus(self):
        self.check("off", 2)


class KilledVm(KvmTest):
    """kill -9 of the VM in whatever state: no frame, slot, file, descriptor or thread stays behind."""

    def setUp(self):
        super().setUp()
        self.base = (self.daemon.threads(), self.daemon.descriptors(), self.daemon.host()["consumed_bytes"])

    def counter_at_least(self, name, counter, value):
        def look():
            answer = self.daemon.ask("show", vm=name)
            return answer["ok"] and answer["vm"][counter] >= value
        wait_until(look, f"{counter} of {name} does not reach {value}", 30)

    def kill_and_check(self, guest):
        guest.kill()
        self.assert_nothing_left(*self.base)

    def test_while_booting(self):
        for attempt in range(8):
            guest = self.start(f"booting{attempt}")
            time.sleep(self.random.uniform(0, 0.03))
            self.kill_and_check(guest)

    def test_while_filling(self):
        for attempt, irqchip in itertools.product(range(2), ("on", "off")):
            name = f"filling{attempt}{irqchip}"
            guest = self.start(name, "--irqchip", irqchip, "--vcpus", 2)
            self.counter_at_least(name, "first_touches", self.random.randrange(100, 8000))
            self.kill_and_check(guest)

    def test_while_evicting_and_swapping(self):
        for counter, irqchip in itertools.product(("zips", "swap_outs", "swap_ins"), ("on", "off")):
            name = f"{counter}.{irqchip}"
            guest = self.start(name, "--irqchip", irqchip, "--vcpus", 2)
            self.counter_at_least(name, counter, self.random.randrange(1, 5000))
            self.kill_and_check(guest)

    def test_while_the_daemon_is_dead(self):
        for attempt in range(3):
            name = f"orphan{attempt}"
            guest = self.start(name, "--vcpus", 2)
            self.counter_at_least(name, "swap_ins", 10)
            self.daemon.kill()
            time.sleep(self.random.uniform(0, 0.2))
            guest.kill()
            self.daemon.start()
            self.assert_nothing_left(*self.base)

    def test_right_after_the_daemon_came_back(self):
        for attempt in range(3):
            name = f"rejoining{attempt}"
            guest = self.start(name, "--vcpus", 2)
            self.counter_at_least(name, "swap_ins", 10)
            self.daemon.kill()
            self.daemon.start()
            time.sleep(self.random.uniform(0, 0.05))
            self.kill_and_check(guest)


def main():
    global BIN
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", default=BIN, help="directory of the programs")
    arguments, rest = parser.parse_known_args()
    BIN = arguments.bin
    lacking = harness.missing_ability()
    if lacking:
        print(f"SKIP: {lacking}")
        sys.exit(77)
    print(f"seed {SEED} (repeat with BALLAST_TEST_SEED={SEED})")
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)


if __name__ == "__main__":
    main()
