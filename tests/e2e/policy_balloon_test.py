#!/usr/bin/env python3
"""Memory is taken by balloon first, by paging where a balloon does not work, and given back promptly."""
import time

import harness
from harness import MIB, WithoutSharing, verifier, wait_until

BUDGET = 320 * MIB
# Most of the guest's page cache, which it can give up; under a verifier's eyes or not.
FILL_CACHE = "cat /dev/vda > /dev/null; find / -xdev -type f -exec cat {} + > /dev/null 2>&1; echo CACHED"


def grow(mib, pause="0.4"):
    """A shell command: takes so much guest memory in steps of 4 MB, slowly enough for balloons to follow."""
    return (f"i=0; while [ $i -lt {mib // 4} ]; do head -c 4194304 /dev/urandom > /tmp/grown.$i; i=$((i+1)); "
            f"sleep {pause}; done; echo GROWN")


class Pressure(WithoutSharing):
    def stored(self, vm):
        return vm["compressed_bytes"] + vm["swapped_bytes"]

    def wait_for_balloon_state(self, daemon, name, *states, seconds=30.0):
        """Until the balloon's state is one of these; returns the report."""
        last = {}

        def look():
            last.update(daemon.vm(name))
            return last if last["balloon_state"] in states else None
        return wait_until(look, lambda: f"{name}: balloon {' or '.join(states)}; last seen {last}", seconds, every=0.05)

    def finish_verifier(self, guest):
        guest.send("killall verifier")
        guest.expect("BALLAST-DONE")
        guest.assert_clean()
        self.assertNotIn("Out of memory", guest.log())

    def press(self, daemon, mib=120, pause="0.4"):
        """Another VM that takes memory until the host is short; it stays."""
        other = self.guest(daemon, "other").ready()
        other.send(grow(mib, pause))
        return other


class BalloonFirst(Pressure):
    def test_taken_and_given_back(self):
        """Promise: a host that gets short takes page cache and free memory of a guest by its balloon, without swapping
        it; says so once, not all the time; and gives it back within 5 s when the other VM is gone."""
        daemon = self.daemon(BUDGET)
        rich = self.guest(daemon, "rich").ready()
        rich.send(FILL_CACHE)
        rich.expect("CACHED")
        before = daemon.wait_for_vm("rich", consumed_bytes=150 * MIB)
        other = self.press(daemon)
        daemon.wait_for_event("balloon.inflating", "rich", seconds=60)
        other.expect("GROWN", 60)
        after = daemon.wait_for_vm("rich", balloon_bytes=30 * MIB, seconds=10)
        self.assertLess(after["consumed_bytes"], before["consumed_bytes"] - 20 * MIB)
        self.assertLess(self.stored(after), 12 * MIB, after)
        self.assertLess(after["swap_outs"] * 4096, 12 * MIB, after)
        time.sleep(5)  # at rest in a host that stays tight
        events = daemon.events()
        told = [event for event in events if event["kind"].startswith("balloon.") and event["vm"] == "rich"]

        other.kill()
        wait_until(lambda: not daemon.has_vm("other"), "the other is still listed")
        begun = time.monotonic()
        wait_until(lambda: daemon.vm("rich")["balloon_bytes"] == 0, lambda: daemon.vm("rich"), 15, every=0.05)
        took = time.monotonic() - begun
        self.assertLess(took, 5)
        self.assertTrue(daemon.events("balloon.deflating", "rich"))
        # Its memory is its own again.
        rich.send(f"{grow(100, '0')}; cat /tmp/grown.* | wc -c; echo ALIVE")
        rich.expect(r"\n104857600\n(.*\n)*?ALIVE")
        self.say(f"{after['balloon_bytes'] / MIB:.0f} MiB by balloon, {self.stored(after) / MIB:.1f} stored; "
                 f"back after {took:.1f} s; {len(told)} events")
        self.assertLess(len(told), 20, [event["message"] for event in told][:12])

    def test_limit(self):
        """Promise: a limit set while the VM runs is kept within 20 s, in the state high, by the balloon; what the VM
        works on stays right; lifted, the VM has its memory back."""
        daemon = self.daemon(400 * MIB)
        guest = self.guest(daemon, "vm").ready()
        guest.send(verifier(24, 0, 1, extra="--pause-us 200") + " &")
        guest.expect("BALLAST-VERIFY")
        guest.send(FILL_CACHE)
        guest.expect("CACHED")
        # Its driver has shown itself: until then there is nothing but paging.
        before = daemon.wait_for_vm("vm", consumed_bytes=160 * MIB, guest_available_bytes=1)
        limit = 128 * MIB
        daemon.must("set", vm="vm", limit_bytes=limit)
        begun = time.monotonic()

        def kept():
            self.assertIn(daemon.host()["state"], ("high", "clear"))
            vm = daemon.vm("vm")
            return vm if vm["consumed_bytes"] <= limit + vm["overhead_bytes"] else None
        after = wait_until(kept, lambda: daemon.vm("vm"), 20, every=0.1)
        took = time.monotonic() - begun
        self.assertEqual(after["bound"], "limit")
        self.assertLessEqual(after["target_bytes"], limit + after["overhead_bytes"])
        self.assertGreater(after["balloon_bytes"], before["consumed_bytes"] - limit - 24 * MIB, after)
        self.assertLess(self.stored(after), 8 * MIB, after)
        for _ in range(20):  # it stays
            vm = daemon.vm("vm")
            self.assertLess(vm["consumed_bytes"], limit + vm["overhead_bytes"] + 4 * MIB)
            time.sleep(0.1)

        daemon.must("set", vm="vm", limit_bytes=None)
        wait_until(lambda: daemon.vm("vm")["balloon_bytes"] == 0, lambda: daemon.vm("vm"), 10, every=0.1)
        guest.send(grow(90, "0"))
        guest.expect("GROWN")
        self.assertGreater(daemon.vm("vm")["consumed_bytes"], limit + 24 * MIB)
        self.finish_verifier(guest)
        self.say(f"from {before['consumed_bytes'] / MIB:.0f} MiB in {took:.1f} s, balloon "
                 f"{after['balloon_bytes'] / MIB:.0f} MiB, {self.stored(after) / MIB:.1f} stored")

    def test_limit_without_balloon(self):
        """Promise: where ballooning is forbidden the limit is kept by paging, while the guest works on more than that;
        the guest loses nothing."""
        daemon = self.daemon(400 * MIB)
        guest = self.guest(daemon, "vm", environment={"BALLAST_VM_BALLOON_MAX": "0"}).ready()
        guest.send(verifier(120, 0, 1, extra="--pause-us 200") + " &")
        guest.expect("BALLAST-VERIFY")
        daemon.wait_for_vm("vm", consumed_bytes=140 * MIB)
        daemon.must("set", vm="vm", limit_bytes=96 * MIB)

        def kept():
            vm = daemon.vm("vm")
            return vm if vm["consumed_bytes"] <= 96 * MIB + vm["overhead_bytes"] else None
        after = wait_until(kept, lambda: daemon.vm("vm"), 25, every=0.05)
        self.assertEqual((after["balloon_bytes"], after["balloon_state"], after["bound"]), (0, "none", "limit"))
        self.assertGreater(self.stored(after), 30 * MIB)
        self.assertIn(daemon.host()["state"], ("high", "clear"))
        time.sleep(2)
        self.assertLess(daemon.vm("vm")["consumed_bytes"], 104 * MIB)
        daemon.must("set", vm="vm", limit_bytes=None)
        daemon.wait_for_vm("vm", consumed_bytes=130 * MIB, seconds=20)
        self.finish_verifier(guest)


class BalloonDoesNotWork(Pressure):
    def test_no_driver(self):
        """Promise: a guest whose kernel has no balloon driver is compressed and swapped instead; the report says that
        there is none; the guest loses nothing."""
        daemon = self.daemon(240 * MIB)
        guest = self.guest(daemon, "bare", kernel_args="module_blacklist=virtio_balloon").ready()
        guest.send(verifier(110, 0, 1, extra="--pause-us 200") + " &")
        guest.expect("BALLAST-VERIFY")
        other = self.press(daemon, 100, "0.1")
        report = self.wait_for_balloon_state(daemon, "bare", "no-driver", seconds=40)
        other.expect("GROWN")
        daemon.wait_for_vm("bare", zips=500, swap_outs=500, seconds=20)
        self.assertEqual(daemon.vm("bare")["balloon_bytes"], 0)
        self.finish_verifier(guest)
        self.say(f"{self.stored(report) / MIB:.0f} MiB stored")

    def test_paused(self):
        """Promise: a VM that somebody stopped counts as paused, is paged down to its min and no further, and runs on
        as if nothing had been when it is continued."""
        daemon = self.daemon(240 * MIB, options={"Ballast.BringBack": 0})
        guest = self.guest(daemon, "still", min_mib=64).ready()
        guest.send(verifier(110, 0, 1, extra="--pause-us 200") + " &")
        guest.expect("BALLAST-VERIFY")
        with guest.qmp() as monitor:
            monitor.command("stop")
            self.wait_for_balloon_state(daemon, "still", "paused", seconds=15)
            other = self.press(daemon, 130, "0.1")
            other.expect("GROWN", 60)
            report = daemon.wait_for_vm("still", swapped_bytes=10 * MIB, seconds=20)
            self.assertEqual(report["balloon_state"], "paused")
            self.assertEqual(report["balloon_bytes"], 0)
            for _ in range(3):  # asked for all it has, its min stays
                daemon.must("reclaim", vm="still", bytes=256 * MIB)
                time.sleep(1)
            report = daemon.vm("still")
            self.assertGreaterEqual(report["consumed_bytes"], 64 * MIB + report["overhead_bytes"])
            self.assertLess(report["consumed_bytes"], 64 * MIB + report["overhead_bytes"] + 2 * MIB)
            daemon.must("set", vm="still", min_bytes=32 * MIB)
            daemon.must("reclaim", vm="still", bytes=256 * MIB)
            wait_until(lambda: daemon.vm("still")["consumed_bytes"] < 56 * MIB, lambda: daemon.vm("still"))
            monitor.command("cont")
        other.kill()
        wait_until(lambda: daemon.vm("still")["balloon_state"] != "paused", "still paused", 15)
        self.finish_verifier(guest)

    def test_stuck(self):
        """Promise: a driver that does nothing of what it is asked is found out within 6 s; the rest is paged; the
        others get what they need and the guest loses nothing."""
        daemon = self.daemon(BUDGET)
        guest = self.guest(daemon, "stuck").ready()
        guest.send(verifier(50, 0, 1, extra="--pause-us 200") + " &")
        guest.expect("BALLAST-VERIFY")
        guest.send(FILL_CACHE)
        guest.expect("CACHED")
        daemon.wait_for_vm("stuck", guest_available_bytes=1, seconds=20)
        # The driver has told that much is available; then it is taken from its device.
        guest.send("for d in /sys/bus/virtio/drivers/virtio_balloon/virtio*; do echo ${d##*/} > ${d%/*}/unbind; done; "
                   "echo UNBOUND $?")
        guest.expect("UNBOUND 0")
        other = self.guest(daemon, "other")  # whose boot alone makes the host short
        daemon.wait_for_event("balloon.inflating", "stuck", seconds=30)
        other.ready().send(grow(140, "0.1"))
        found = daemon.wait_for_event("balloon.stuck", "stuck", seconds=20)
        # A host that recovers for a moment stops asking and asks anew: the last time counts.
        begun = [e for e in daemon.events("balloon.inflating", "stuck") if e["sequence"] < found["sequence"]][-1]
        took = (found["unix_ms"] - begun["unix_ms"]) / 1e3
        self.assertEqual(daemon.vm("stuck")["balloon_state"], "stuck")
        self.assertGreater(took, 4.5)
        self.assertLess(took, 6.5)
        self.assertEqual(found["severity"], "warning")
        other.expect("GROWN", 60)
        report = daemon.wait_for_vm("stuck", swap_outs=500, seconds=20)
        self.assertEqual(report["balloon_bytes"], 0)
        self.finish_verifier(guest)
        self.say(f"stuck after {took:.1f} s, {self.stored(report) / MIB:.0f} MiB stored")

    def test_nothing_to_spare(self):
        """Promise: a guest that uses nearly all of its memory is not ballooned to death: it is left, or given back, what
        it needs to live; the rest is paged; nothing in it is killed and nothing lost."""
        daemon = self.daemon(256 * MIB)
        guest = self.guest(daemon, "full").ready()
        guest.send(verifier(180, 0, 1, extra="--pause-us 200") + " &")
        guest.expect("BALLAST-VERIFY")
        other = self.press(daemon, 100, "0.1")
        report = self.wait_for_balloon_state(daemon, "full", "spared", "stuck", seconds=60)
        other.expect("GROWN", 60)
        largest = 0
        for _ in range(50):
            report = daemon.vm("full")
            largest = max(largest, report["balloon_bytes"])
            time.sleep(0.1)
        self.assertGreater(self.stored(report), 20 * MIB)
        # Of 218 MB the verifier uses 180, the system 16.
        self.assertLess(report["balloon_bytes"], 40 * MIB)
        self.finish_verifier(guest)
        self.say(f"balloon up to {largest / MIB:.0f} MiB, '{report['balloon_state']}', "
                 f"{self.stored(report) / MIB:.0f} MiB stored")


if __name__ == "__main__":
    harness.main()
