#!/usr/bin/env python3
"""No VM ever sees a byte of another: frames and stored copies that one gave back hold nothing for the next.

A guest's own kernel clears pages before its programs see them, so a program inside would prove little. Here the
monitor reads the whole of the guest's physical memory (pmemsave), every page the way its vCPU would get it, touched or
not, and Python searches it for what another VM wrote.
"""
import mmap
import os
import struct

import harness
from harness import MIB, PAGE_MAGIC, EndToEndTest, verifier, wait_until

BUDGET = 192 * MIB
MARKER = b"BALLAST-E2E-SECRET-OF-A"  # compressible and everywhere in a page, unlike the verifier's headers
SEED_A, SEED_B = 0xA11CE, 0xB0B


def header(seed):
    """How each of a verifier's pages begins."""
    return struct.pack("<QQ", PAGE_MAGIC, seed)


class Isolation(EndToEndTest):
    def memory_of(self, guest):
        """All of the guest's physical memory, as a file mapped here."""
        path = os.path.join(guest.daemon.directory, f"{guest.name}.memory")
        with guest.qmp() as monitor:
            monitor.command("pmemsave", val=0, size=256 * MIB, filename=path)
        with open(path, "rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        os.remove(path)
        self.addCleanup(data.close)
        self.assertEqual(len(data), 256 * MIB)
        return data

    @staticmethod
    def count(data, needle):
        found, at = 0, data.find(needle)
        while at >= 0:
            found += 1
            at = data.find(needle, (at | 4095) + 1)  # pages
        return found

    def assert_free_of(self, data, *needles):
        for needle in needles:
            self.assertEqual(self.count(data, needle), 0, f"{needle} of another VM")

    def fill(self, guest):
        """Pages with the marker in the guest's tmpfs, and a verifier's pages; some compress, some do not."""
        guest.ready()
        guest.send(f"yes {MARKER.decode()} | head -c 40000000 > /tmp/secret; echo MARKED")
        guest.expect("MARKED")
        guest.send(verifier(110, 0, SEED_A) + " &")
        guest.expect("BALLAST-VERIFY")

    def test_freed_frames_hold_nothing_for_the_next(self):
        """Promise: while A is under reclaim, and after A was killed, B sees none of A's bytes: not in pages it never
        touched, not in those that came back from the cache or the disk; and A sees none of B's."""
        daemon = self.daemon(BUDGET)
        init = "init_on_alloc=0 init_on_free=0"
        a = self.guest(daemon, "a", kernel_args=init)
        self.fill(a)
        daemon.wait_for_vm("a", zips=1)
        # B never runs an instruction: all that it holds is what the machine came with.
        b = self.guest(daemon, "b", kernel_args=init, qemu=("-S",))
        daemon.wait_for_vm("b")
        wait_until(lambda: os.path.exists(b.qmp_path), "no monitor")
        memory = self.memory_of(b)
        self.assert_free_of(memory, MARKER, header(SEED_A))
        # B's reading took A's memory: A's pages went out while frames went to B.
        report = daemon.wait_for_vm("a", swap_outs=1)
        self.assertGreater(report["swapped_bytes"], 0)

        # The search finds what is there; A kept its bytes and has none of B's.
        memory = self.memory_of(a)
        own = self.count(memory, header(SEED_A))
        marked = self.count(memory, MARKER)
        self.assertGreater(own, 20000)
        self.assertGreater(marked, 9000)

        a.kill()
        wait_until(lambda: not daemon.has_vm("a"), "still listed")
        b.kill()
        wait_until(lambda: not daemon.has_vm("b"), "still listed")

        # Two that are young get the frames that A had, more than there are, so that they go round.
        young = [self.guest(daemon, f"young{i}", kernel_args=init,
                            run=verifier(150, 4, SEED_B + i)) for i in (0, 1)]
        for guest in young:
            guest.expect("BALLAST-VERIFY")
        memory = self.memory_of(young[0])
        self.assertGreater(self.count(memory, header(SEED_B)), 20000)
        self.assert_free_of(memory, MARKER, header(SEED_A), header(SEED_B + 1))
        for guest in young:
            guest.finish()
        self.say(f"searched 3 × 256 MiB; the search finds {own} + {marked} pages where they belong")


if __name__ == "__main__":
    harness.main()
