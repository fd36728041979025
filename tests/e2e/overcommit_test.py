#!/usr/bin/env python3
"""Four guests of 256 MB share a budget of 512 MB, which is at no instant exceeded, and lose no byte."""
import os
import signal
import time

import harness
from harness import MIB, EndToEndTest, Failed, process_state, stop_process, verifier

BUDGET = 512 * MIB
GUESTS = 4
SECONDS = 15


class Overcommit(EndToEndTest):
    def true_bytes(self, daemon, guests):
        """All that the VMs' memory and Ballast's tables occupy, counted by the kernel in one instant.

        Only the daemon gives frames to guests, so while it stands still the count cannot rise behind our back.
        """
        stop_process(daemon.pid)
        try:
            files = {}
            for guest in guests:
                try:
                    files.update(guest.memory_files())
                except FileNotFoundError:
                    pass
            return sum(size for _, size in files.values()) + daemon.private_bytes()
        finally:
            os.kill(daemon.pid, signal.SIGCONT)

    def test_four_guests_boot_and_verify_in_half_of_what_they_were_promised(self):
        """Promise: the budget holds at every instant, also while four guests boot at once; every means of reclaim is
        used; nothing is killed; no page changes."""
        daemon = self.daemon(BUDGET)
        guests = [self.guest(daemon, f"g{i}", run=verifier(180, SECONDS, i)) for i in range(1, GUESTS + 1)]
        samples, highest_consumed, highest_true = 0, 0, 0
        last, zero_bytes = {}, 0
        deadline = time.monotonic() + 150
        while any(guest.alive() for guest in guests):
            if time.monotonic() > deadline:
                raise Failed("the guests do not end:\n" + guests[0].tail())
            host = daemon.host()
            highest_consumed = max(highest_consumed, host["consumed_bytes"])
            self.assertLessEqual(host["consumed_bytes"], BUDGET)
            true_bytes = self.true_bytes(daemon, guests)
            highest_true = max(highest_true, true_bytes)
            self.assertLessEqual(true_bytes, BUDGET, host)
            for vm in host["vms"]:
                last[vm["name"]] = vm
                zero_bytes = max(zero_bytes, vm["zero_bytes"])
            samples += 1
            time.sleep(0.05)
        verified = sum(guest.finish()["verified"] for guest in guests)
        for guest in guests:
            for counter in ("zips", "unzips", "swap_outs", "swap_ins"):
                self.assertGreater(last[guest.name][counter], 0, f"{guest.name}: {counter} {last[guest.name]}")
        self.assertGreater(zero_bytes, 0, "no known-zero page was dropped")
        host = daemon.host()
        self.assertLessEqual(host["peak_consumed_bytes"], BUDGET)
        # It was tight: the promise was put to the test.
        self.assertGreater(highest_true, BUDGET * 0.8)
        self.assertGreater(samples, 100)
        self.assertIn(process_state(daemon.pid), ("S", "R", "D"))
        self.say(f"{samples} samples, consumed up to {highest_consumed / MIB:.0f} MiB (true {highest_true / MIB:.0f}), "
                 f"peak {host['peak_consumed_bytes'] / MIB:.1f} of {BUDGET / MIB:.0f}; {verified:.0f} pages verified; "
                 f"longest stall {max(guest.longest_stall_us() for guest in guests) / 1e3:.0f} ms")


if __name__ == "__main__":
    harness.main()
