#!/usr/bin/env python3
"""Several VMs want more than there is: who gets how much, what nobody loses, who waits."""
import os
import statistics
import time

import harness
from harness import MIB, WithoutSharing, Ext4Image, Failed, Host, verifier, wait_until


class Shares(WithoutSharing):
    def settled(self, daemon, seconds=6.0):
        """Means of target and consumption of both VMs over some seconds, in bytes."""
        samples = {"a": [], "b": []}
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for vm in daemon.vms():
                samples[vm["name"]].append((vm["target_bytes"], vm["consumed_bytes"]))
            time.sleep(0.1)
        return {name: tuple(statistics.fmean(column) for column in zip(*rows)) for name, rows in samples.items()}

    def check(self, daemon, richer, poorer):
        means = self.settled(daemon)
        self.assertAlmostEqual(means[richer][0] / means[poorer][0], 2, delta=0.2)
        for name, (target, consumed) in means.items():  # and they have what they should
            self.assertAlmostEqual(consumed / target, 1, delta=0.15, msg=(name, means))
            self.assertEqual(daemon.vm(name)["bound"], "shares")
        self.assertLessEqual(sum(target for target, _ in means.values()), daemon.host()["divided_bytes"])
        return "/".join(f"{means[name][0] / MIB:.0f}" for name in ("a", "b"))

    def test_two_to_one(self):
        """Promise: two VMs that use all of their memory get it in the ratio of their shares, and in the new one when
        that is changed; both lose nothing."""
        daemon = self.daemon(288 * MIB, options={"Mem.IdleTax": 0})
        guests = {name: self.guest(daemon, name, run=verifier(165, 600, seed, extra="--pause-us 100"),
                                   environment={"BALLAST_VM_SHARES": shares})
                  for name, shares, seed in (("a", "2000", 1), ("b", "1000", 2))}
        for guest in guests.values():
            guest.expect("BALLAST-VERIFY")
        wait_until(lambda: all(vm["bound"] == "shares" and vm["swapped_bytes"] > 0 for vm in daemon.vms()),
                   lambda: daemon.vms(), 30, every=0.1)
        time.sleep(4)
        first = self.check(daemon, "a", "b")
        daemon.must("set", vm="a", shares=1000)
        daemon.must("set", vm="b", shares=2000)
        time.sleep(6)
        second = self.check(daemon, "b", "a")
        for guest in guests.values():
            self.assertEqual([line["errors"] for line in guest.lines("BALLAST-VERIFY") if line["errors"]], [])
            self.assertTrue(guest.alive())
        self.say(f"targets {first} MiB at 2:1, {second} at 1:2")


class Storm(WithoutSharing):
    BUDGET = 560 * MIB
    # The first has next to no shares: its min alone holds it up.
    MINS = {"g1": 160, "g2": 96, "g3": 96, "g4": 96}

    def test_four_boot_at_once(self):
        """Promise: while four guests boot at once in half of their memory, none that has memory paged out is left with
        less than its min, the budget holds at every instant, nobody is killed and no page changes."""
        daemon = self.daemon(self.BUDGET)
        guests = [self.guest(daemon, name, min_mib=least, run=verifier(170, 8, seed, extra="--pause-us 50"),
                             environment={"BALLAST_VM_SHARES": "100" if name == "g1" else "normal"})
                  for seed, (name, least) in enumerate(self.MINS.items(), 1)]
        least, samples, states, bounds = {}, 0, set(), set()
        deadline = time.monotonic() + 170
        while any(guest.alive() for guest in guests):
            if time.monotonic() > deadline:
                raise Failed("the guests do not end:\n" + guests[0].tail())
            host = daemon.host()
            states.add(host["state"])
            self.assertLessEqual(host["consumed_bytes"], self.BUDGET)
            for vm in host["vms"]:
                self.assertGreaterEqual(vm["target_bytes"], self.MINS[vm["name"]] * MIB)
                if vm["name"] == "g1":
                    bounds.add(vm["bound"])
                if vm["swapped_bytes"] + vm["compressed_bytes"] > 0:
                    # What it gave up by itself (balloon, free pages) nobody has taken.
                    left = vm["consumed_bytes"] - vm["overhead_bytes"] + vm["ballooned_bytes"]
                    least[vm["name"]] = min(left, least.get(vm["name"], left))
            samples += 1
            time.sleep(0.05)
        for guest in guests:
            guest.finish()
            self.assertNotIn("Out of memory", guest.log())
        host = daemon.host()
        self.assertLessEqual(host["peak_consumed_bytes"], self.BUDGET)
        self.assertEqual(len(least), 4, "not all were paged: the promise was not put to the test")
        for name, left in least.items():
            self.assertGreaterEqual(left, self.MINS[name] * MIB, name)
        self.assertIn("min", bounds)
        self.say(f"{samples} samples, states {sorted(states)}; least {[left // MIB for left in least.values()]} MiB; "
                 f"peak {host['peak_consumed_bytes'] / MIB:.0f} of {self.BUDGET // MIB} MiB; "
                 f"longest stall {max(guest.longest_stall_us() for guest in guests) / 1e3:.0f} ms")


class Low(WithoutSharing):
    def test_only_those_above_their_target_wait(self):
        """Promise: when memory is low and nothing can be paged, the VM above its target waits at its next fault; the
        other runs on; the monitors of both answer; and when paging works again everything goes on without a loss."""
        lacking = Host.lacks_loop_devices()
        if lacking:
            self.skipTest(lacking)
        disk = Ext4Image(self, 768)
        if lacking := disk.lacks_failing_writes():
            self.skipTest(lacking)
        # No balloon, no compression: only the disk could help.
        daemon = self.daemon(288 * MIB, swap_dir=os.path.join(disk.path, "swap"),
                             options={"Mem.MemZipEnable": 0, "Mem.CtlMaxPercent": 0})
        small = self.guest(daemon, "small", environment={"BALLAST_VM_SHARES": "high"}, min_mib=120).ready()
        small.send(verifier(40, 0, 1, extra="--pause-us 200") + " &")
        small.expect("BALLAST-VERIFY")
        hog = self.guest(daemon, "hog", environment={"BALLAST_VM_SHARES": "low"}).ready()
        hog.send(verifier(40, 0, 2, extra="--pause-us 200") + " &")
        hog.expect("BALLAST-VERIFY")
        disk.set_writable(False)
        hog.send("head -c 100000000 /dev/urandom > /tmp/hog; echo HOGGED")
        daemon.wait_for_event("vm.blocked", "hog", seconds=30)
        wait_until(lambda: daemon.host()["state"] == "low" and daemon.vm("hog")["blocked"], lambda: daemon.host(), 10)
        blocked = 0
        before = small.lines("BALLAST-VERIFY")[-1]["verified"]
        slowest = 0
        for _ in range(50):
            vms = {vm["name"]: vm for vm in daemon.vms()}
            blocked += vms["hog"]["blocked"]
            self.assertFalse(vms["small"]["blocked"], vms)
            for guest in (hog, small):
                asked = time.monotonic()
                with guest.qmp() as monitor:
                    self.assertEqual(monitor.command("query-status")["status"], "running")
                slowest = max(slowest, time.monotonic() - asked)
            self.assertLessEqual(daemon.host()["consumed_bytes"], 288 * MIB)
            time.sleep(0.1)
        self.assertGreater(blocked, 25)
        self.assertLess(slowest, 1.5)
        self.assertGreater(small.lines("BALLAST-VERIFY")[-1]["verified"], before)
        self.assertEqual(daemon.events("vm.blocked", "small"), [])
        small.send("echo STILL HERE")
        small.expect("STILL HERE", 10)

        disk.set_writable(True)
        hog.expect("HOGGED", 60)
        daemon.wait_for_event("vm.unblocked", "hog")
        for guest in (hog, small):
            guest.send("killall verifier")
            guest.expect("BALLAST-DONE")
            guest.assert_clean()
        self.say(f"blocked in {blocked} of 50 samples; slowest monitor {slowest * 1e3:.0f} ms")


if __name__ == "__main__":
    Host.private_mounts()
    harness.main()
