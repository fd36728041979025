#!/usr/bin/env python3
"""What a guest gives up is free at once: frames, compressed and swapped copies; what it takes back is its own again."""
import harness
from harness import MIB, EndToEndTest, verifier, wait_until


class Balloon(EndToEndTest):
    def held(self, daemon, name):
        vm = daemon.vm(name)
        return vm["resident_bytes"] + vm["compressed_bytes"] + vm["swapped_bytes"]

    def settle(self, guest, monitor, balloon_bytes):
        """Asks for so much guest memory and waits until the guest has obeyed."""
        monitor.command("balloon", value=balloon_bytes)
        wait_until(lambda: abs(monitor.command("query-balloon")["actual"] - balloon_bytes) < 2 * MIB,
                   lambda: f"the balloon stays at {monitor.command('query-balloon')}\n{guest.tail()}", 40)

    def test_inflated_and_deflated(self):
        """Promise: an inflated balloon gives back frames and stored copies at once; the deflated one's pages come
        back as zeros on touch; the verifier beside it loses nothing."""
        # Little memory, so that much of the guest is stored, not resident; the balloon is moved by hand here.
        daemon = self.daemon(128 * MIB, options={"Mem.CtlMaxPercent": 0})
        # A balloon of the user's own, without free-page reports: what is freed is the balloon's doing.
        guest = self.guest(daemon, "g", qemu=("-device", "virtio-balloon-pci,id=balloon"))
        guest.ready()
        guest.send(verifier(60, 0, 1, extra="--pause-us 200") + " &")
        guest.expect("BALLAST-VERIFY")
        # Memory that is used and then let go of, much of it stored by then.
        guest.send("head -c 70000000 /dev/urandom > /tmp/hog; echo HOGGED")
        guest.expect("HOGGED")
        before = daemon.wait_for_vm("g", swapped_bytes=20 * MIB)
        with guest.qmp() as monitor:
            guest.send("rm /tmp/hog; echo REMOVED")
            guest.expect("REMOVED")
            self.settle(guest, monitor, 176 * MIB)
            after = daemon.wait_for_vm("g", seconds=5, ballooned_bytes=75 * MIB)
            freed = sum(before[key] - after[key] for key in ("resident_bytes", "compressed_bytes", "swapped_bytes"))
            self.assertGreater(freed, 55 * MIB, (before, after))
            self.assertLess(after["swapped_bytes"] + after["compressed_bytes"],
                            before["swapped_bytes"] + before["compressed_bytes"] - 10 * MIB)
            resident = (daemon.vm("g")["resident_bytes"], guest.ram_bytes())
            self.assertLess(abs(resident[0] - resident[1]), 4 * MIB, "the kernel counts otherwise")

            self.settle(guest, monitor, 256 * MIB)
            guest.send("head -c 70000000 /dev/zero > /tmp/hog; cmp /tmp/hog /dev/zero; echo FILLED")
            guest.expect("EOF on /tmp/hog[^\n]*\n(.*\n)*?FILLED")
        self.assertLess(daemon.vm("g")["ballooned_bytes"], after["ballooned_bytes"])
        guest.send("rm /tmp/hog; killall verifier")
        guest.expect("BALLAST-DONE")
        guest.assert_clean()
        self.say(f"{freed / MIB:.0f} MiB freed by 80 MiB of balloon")

    def test_free_pages_are_reported(self):
        """Promise: when a program in the guest ends, the memory it held is free again on the host without anybody's
        asking, stored copies included."""
        daemon = self.daemon(256 * MIB)
        guest = self.guest(daemon, "g")
        guest.ready()
        guest.send(verifier(24, 0, 1, extra="--pause-us 200") + " &")
        guest.expect("BALLAST-VERIFY")
        guest.send("head -c 120000000 /dev/urandom > /tmp/hog; echo HOGGED")
        guest.expect("HOGGED")
        daemon.must("reclaim", vm="g", bytes=60 * MIB)  # so that some of it is stored
        daemon.wait_for_vm("g", swapped_bytes=20 * MIB)
        before = self.held(daemon, "g")
        guest.send("rm /tmp/hog; echo REMOVED")
        guest.expect("REMOVED")
        wait_until(lambda: self.held(daemon, "g") < before - 90 * MIB,
                   lambda: f"held {before / MIB:.0f} MiB, now {self.held(daemon, 'g') / MIB:.0f}", 30, every=0.1)
        now = self.held(daemon, "g")
        guest.send("killall verifier")
        guest.expect("BALLAST-DONE")
        guest.assert_clean()
        self.say(f"{before / MIB:.0f} MiB held, {now / MIB:.0f} after 114 MiB were let go of")


if __name__ == "__main__":
    harness.main()
