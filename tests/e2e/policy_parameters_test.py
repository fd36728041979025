#!/usr/bin/env python3
"""What an administrator grants a VM: given at start, changed live, kept over restarts, refused with the numbers."""
import os
import time

import harness
from harness import BIN, MIB, EndToEndTest, Ext4Image, Host, wait_until

ALLOCATION = ("min_bytes", "limit_bytes", "share_setting", "balloon_max_setting")
DEFAULTS = {"min_bytes": 0, "limit_bytes": None, "share_setting": "normal", "balloon_max_setting": None}


def allocation(report):
    return {member: report[member] for member in ALLOCATION}


class StillGuests(EndToEndTest):
    """Guests that never run an instruction: who only asks about numbers need not boot."""

    def still(self, daemon, name, **arguments):
        guest = self.guest(daemon, name, qemu=("-S",), **arguments)
        daemon.wait_for_vm(name)
        return guest

    def gone(self, daemon, guest):
        guest.kill()
        wait_until(lambda: not daemon.has_vm(guest.name), f"{guest.name} is still listed")


class Parameters(StillGuests):
    def saved(self, daemon, name):
        return os.path.join(daemon.run_dir, "settings", name)

    def test_given_at_start(self):
        """Promise: `ballast run` and the environment of ballast-qemu grant min, limit, shares and balloon maximum."""
        daemon = self.daemon(256 * MIB)
        self.still(daemon, "run", memory=(), launcher=[
            os.path.join(BIN, "ballast"), "run", "--name", "run", "--memory", "256M", "--min", "32M", "--limit",
            "192M", "--shares", "high", "--balloon-max", "64M", "--"])
        report = daemon.vm("run")
        self.assertEqual(allocation(report), {"min_bytes": 32 * MIB, "limit_bytes": 192 * MIB, "share_setting": "high",
                                              "balloon_max_setting": 64 * MIB})
        self.assertEqual(report["shares"], 20 * 256)
        self.assertEqual(report["balloon_max_bytes"], 64 * MIB)

        self.still(daemon, "env", min_mib=16, environment={
            "BALLAST_VM_LIMIT": str(128 * MIB), "BALLAST_VM_SHARES": "777", "BALLAST_VM_BALLOON_MAX": "0"})
        report = daemon.vm("env")
        self.assertEqual(allocation(report), {"min_bytes": 16 * MIB, "limit_bytes": 128 * MIB, "share_setting": "777",
                                              "balloon_max_setting": 0})
        self.assertEqual((report["shares"], report["balloon_max_bytes"]), (777, 0))

        self.still(daemon, "plain")
        report = daemon.vm("plain")
        self.assertEqual(allocation(report), DEFAULTS)
        self.assertEqual(report["shares"], 10 * 256)
        self.assertEqual(report["balloon_max_bytes"], 256 * MIB // 100 * 65 // 4096 * 4096)

    def test_wrong_at_start(self):
        """Promise: a grant that cannot be is refused before QEMU runs, with the rule, by every way to start a VM."""
        daemon = self.daemon(256 * MIB)
        for grant, words in (({"--min": "300M"}, ("min", "300 MB", "256 MB")),
                             ({"--min": "64M", "--limit": "32M"}, ("min", "64 MB", "limit", "32 MB")),
                             ({"--shares": "0"}, ("shares '0'", "1 to")), ({"--shares": "some"}, ("shares 'some'",)),
                             ({"--balloon-max": "300M"}, ("balloon", "300 MB"))):
            options = [word for pair in grant.items() for word in pair]
            status, out, text = daemon.cli("run", "--name", "wrong", "--memory", "256M", *options, "--")
            self.assertNotEqual(status, 0, out)
            for word in words:
                self.assertIn(word, text)
            names = {"--min": "BALLAST_VM_MIN", "--limit": "BALLAST_VM_LIMIT", "--shares": "BALLAST_VM_SHARES",
                     "--balloon-max": "BALLAST_VM_BALLOON_MAX"}
            guest = self.guest(daemon, "wrong", qemu=("-S",), environment={
                names[name]: str(int(value[:-1]) * MIB) if value.endswith("M") else value
                for name, value in grant.items()})
            wait_until(lambda one=guest: not one.alive(), guest.tail, 30)
            self.assertNotEqual(guest.process.returncode, 0)
            for word in words:
                self.assertIn(word, guest.log())
        self.assertEqual(daemon.vms(), [])

    def test_changed_live_and_kept(self):
        """Promise: what `set` changes holds at once, over a kill -9 of the daemon and over an upgrade, and ends with
        the VM."""
        daemon = self.daemon(256 * MIB)
        guest = self.still(daemon, "db", min_mib=96)
        self.assertEqual(daemon.vm("db")["swap_reserved_bytes"], 160 * MIB)
        answer = daemon.must("set", vm="db", shares="high")["vm"]
        self.assertEqual(allocation(answer), {**DEFAULTS, "min_bytes": 96 * MIB, "share_setting": "high"})
        self.assertEqual(answer["shares"], 20 * 256)
        daemon.must("set", vm="db", limit_bytes=224 * MIB, balloon_max_bytes=0)
        daemon.must("set", vm="db", shares=1234)
        wanted = {"min_bytes": 96 * MIB, "limit_bytes": 224 * MIB, "share_setting": "1234", "balloon_max_setting": 0}
        self.assertEqual(allocation(daemon.vm("db")), wanted)
        self.assertEqual(len(daemon.events("vm.set", "db")), 3)

        # The swap file grows with what may have to leave memory.
        daemon.must("set", vm="db", min_bytes=32 * MIB)
        wanted["min_bytes"] = 32 * MIB
        self.assertEqual(daemon.vm("db")["swap_reserved_bytes"], 224 * MIB)
        self.assertEqual([os.stat(path).st_blocks * 512 >= 224 * MIB for path in daemon.swap_file_paths()], [True])
        daemon.must("set", vm="db", min_bytes=64 * MIB)  # and does not shrink
        wanted["min_bytes"] = 64 * MIB
        self.assertEqual(daemon.vm("db")["swap_reserved_bytes"], 224 * MIB)

        daemon.kill()
        daemon.start()
        report = daemon.wait_for_vm("db")
        self.assertEqual(allocation(report), wanted)
        self.assertEqual((report["shares"], report["balloon_max_bytes"]), (1234, 0))
        self.assertEqual(report["swap_reserved_bytes"], 224 * MIB)
        daemon.must("set", vm="db", limit_bytes=None, balloon_max_bytes=None, shares="low")
        wanted.update(limit_bytes=None, balloon_max_setting=None, share_setting="low")
        self.assertEqual(daemon.terminate(), 0)
        daemon.start()
        report = daemon.wait_for_vm("db")
        self.assertEqual(allocation(report), wanted)
        self.assertEqual(daemon.host()["min_bytes"], 64 * MIB)

        self.gone(daemon, guest)
        self.assertFalse(os.path.exists(self.saved(daemon, "db")))
        self.still(daemon, "db")
        self.assertEqual(allocation(daemon.vm("db")), DEFAULTS)

    def test_another_vm_of_that_name(self):
        """Promise: a VM never gets what was granted to an earlier one of its name, also when nobody saw that one
        die and the daemon died again."""
        daemon = self.daemon(256 * MIB)
        guest = self.still(daemon, "db")
        daemon.must("set", vm="db", min_bytes=64 * MIB, shares=5000)
        daemon.kill()
        guest.kill()
        daemon.start()
        self.still(daemon, "db")
        self.assertEqual(allocation(daemon.vm("db")), DEFAULTS)
        daemon.kill()
        daemon.start()
        self.assertEqual(allocation(daemon.wait_for_vm("db")), DEFAULTS)

    def test_damaged_settings(self):
        """Promise: saved settings that make no sense do not keep a VM from being served: it has what it was started
        with."""
        daemon = self.daemon(256 * MIB)
        self.still(daemon, "db", min_mib=16)
        for text in ("", "{", "[]", "null", '{"min_bytes":-1,"limit_bytes":null,"shares":"normal",'
                     '"balloon_max_bytes":null}', '{"min_bytes":1e30,"limit_bytes":null,"shares":"high",'
                     '"balloon_max_bytes":null}', '{"min_bytes":999999999999,"limit_bytes":null,"shares":"high",'
                     '"balloon_max_bytes":null}', "\0\xff" * 100):
            daemon.must("set", vm="db", shares=4000)
            daemon.kill()
            with open(self.saved(daemon, "db"), "w", encoding="latin-1") as file:
                file.write(text)
            daemon.start()
            self.assertEqual(allocation(daemon.wait_for_vm("db")), {**DEFAULTS, "min_bytes": 16 * MIB}, text)

    def test_kept_for_the_next_power_on(self):
        """Promise: salt and page sharing that `set` names outlive VM and daemon, for that VM alone, until they are
        taken back; a change that is refused keeps nothing."""
        daemon = self.daemon(256 * MIB)
        guest = self.still(daemon, "db")

        def kept():
            report = daemon.wait_for_vm("db")
            return report["power_on_salt"], report["power_on_sharing"]

        self.assertEqual(kept(), ("", "default"))
        daemon.must("set", vm="db", salt="web", pshare=False)
        self.assertEqual(kept(), ("web", "off"))
        text = daemon.refused("set", vm="db", salt="other", min_bytes=200 * MIB, limit_bytes=300 * MIB, shares=0)
        self.assertIn("'0'", text)
        self.assertIn("unreserved", daemon.refused("set", vm="db", salt="other", min_bytes=256 * MIB))
        self.assertIn("5 bytes", daemon.refused("set", vm="db", salt="a b c"))
        self.assertEqual(kept(), ("web", "off"))
        self.assertEqual(len(daemon.events("vm.set", "db")), 1)

        daemon.kill()
        daemon.start()
        self.assertEqual(kept(), ("web", "off"))
        self.gone(daemon, guest)
        guest = self.still(daemon, "db")
        self.assertEqual(kept(), ("web", "off"))
        for _ in range(2):
            report = daemon.wait_for_vm("db")
            self.assertEqual((report["share_group"], report["next_share_group"]), ("", ""))
            daemon.must("set", vm="db", pshare=None)
            self.assertEqual(daemon.vm("db")["next_share_group"], "salt:web", "waits, after a take-over too")
            daemon.must("set", vm="db", pshare=False)
            daemon.kill()
            daemon.start()
        daemon.wait_for_vm("db")
        self.gone(daemon, guest)
        other = "12345678-1234-1234-1234-123456789abc"
        guest = self.still(daemon, "db", environment={"BALLAST_VM_UUID": other})
        self.assertEqual(kept(), ("web", "off"), "kept under the name alone")
        daemon.must("set", vm="db", salt="mine")
        self.gone(daemon, guest)
        guest = self.still(daemon, "db")
        self.assertEqual(kept(), ("", "default"), "now it is that UUID's")
        self.gone(daemon, guest)
        self.still(daemon, "db", environment={"BALLAST_VM_UUID": other})
        self.assertEqual(kept(), ("mine", "off"))
        daemon.must("set", vm="db", salt=None, pshare=None)
        self.assertEqual(kept(), ("", "default"))
        self.assertEqual(os.listdir(os.path.join(daemon.swap_dir, "power-on")), [])

    def test_refused_changes(self):
        """Promise: a change that cannot be is refused with the rule and the numbers, and nothing of it happens."""
        daemon = self.daemon(160 * MIB)
        self.still(daemon, "a", min_mib=64)
        self.still(daemon, "b", min_mib=16)
        daemon.must("set", vm="b", limit_bytes=128 * MIB)
        before = {vm["name"]: allocation(vm) for vm in daemon.vms()}
        host = daemon.host()
        for change, words in (
                ({"min_bytes": 257 * MIB}, ("b", "min", "257 MB", "256 MB")),
                ({"min_bytes": 129 * MIB}, ("min", "129 MB", "limit", "128 MB")),
                ({"limit_bytes": 15 * MIB}, ("min", "16 MB", "limit", "15 MB")),
                ({"limit_bytes": 0, "min_bytes": 0}, ("limit", "0 bytes", "1 MB")),
                ({"min_bytes": 5000}, ("5000", "4096")), ({"limit_bytes": -1}, ("limit_bytes",)),
                ({"limit_bytes": "none"}, ("limit_bytes",)), ({"min_bytes": None}, ("min_bytes",)),
                ({"min_bytes": (1 << 64) - 1}, ("min",)),
                ({"balloon_max_bytes": 257 * MIB}, ("balloon", "257 MB", "256 MB")),
                ({"shares": 0}, ("'0'", "1 to 100000000")), ({"shares": -1}, ("'-1'", "1 to")),
                ({"shares": "0x10"}, ("'0x10'", "low, normal, high")), ({"shares": 1.5}, ("'1.5'",)),
                ({"shares": 100000001}, ("100000000",)), ({"shares": ["high"]}, ("high",)),
                ({}, ("nothing to change", "min_bytes")),
                ({"min": 0}, ("'min'", "min_bytes")), ({"shares": "low", "colour": 1}, ("'colour'",)),
                # All or nothing: the first half alone would do.
                ({"shares": "high", "min_bytes": 300 * MIB}, ("300 MB",)),
                # b's min of 16 MB could rise by what is unreserved, not further.
                ({"min_bytes": 100 * MIB}, ("b would need", "min 100", "160 MB", "unreserved", "--memory"))):
            text = daemon.refused("set", vm="b", **change)
            for word in words:
                self.assertIn(word, text, change)
            self.assertEqual({vm["name"]: allocation(vm) for vm in daemon.vms()}, before, change)
        for name, word in (("c", "'c'"), ("", "''"), ("../b", "'../b'")):
            self.assertIn(word, daemon.refused("set", vm=name, shares="low"))
        after = daemon.host()
        for member in ("min_bytes", "unreserved_bytes", "divided_bytes"):
            self.assertEqual(after[member], host[member])
        self.assertEqual(len(daemon.events("vm.set")), 1, "the one that was made")
        self.assertEqual(os.listdir(os.path.join(daemon.run_dir, "settings")), ["b"])

        # Exactly what is unreserved can be had, and then a page more cannot.
        most = (before["b"]["min_bytes"] + host["unreserved_bytes"]) // 4096 * 4096
        if most > 128 * MIB:
            daemon.must("set", vm="b", limit_bytes=None)
        report = daemon.must("set", vm="b", min_bytes=most)["vm"]
        self.assertEqual(report["min_bytes"], most)
        self.assertIn("unreserved", daemon.refused("set", vm="b", min_bytes=most + 4096))
        self.say(f"at most {most / MIB:.2f} MB")

    def test_no_room_for_a_lower_min(self):
        """Promise: a min is not lowered when the swap that this needs does not fit the disk: refused with the numbers,
        and what was reserved stays."""
        lacking = Host.lacks_loop_devices()
        if lacking:
            self.skipTest(lacking)
        disk = Ext4Image(self, 160)
        daemon = self.daemon(320 * MIB, swap_dir=os.path.join(disk.path, "swap"))
        self.still(daemon, "big", min_mib=192)
        self.assertEqual(daemon.vm("big")["swap_reserved_bytes"], 64 * MIB)
        free = disk.free_bytes()
        text = daemon.refused("set", vm="big", min_bytes=0)
        for word in ("256", "64", "swap"):
            self.assertIn(word, text)
        report = daemon.vm("big")
        self.assertEqual((report["min_bytes"], report["swap_reserved_bytes"]), (192 * MIB, 64 * MIB))
        self.assertLess(abs(disk.free_bytes() - free), 64 * 1024)
        daemon.must("set", vm="big", min_bytes=160 * MIB)
        self.assertEqual(daemon.vm("big")["swap_reserved_bytes"], 96 * MIB)
        self.say(f"'{text}'")


class Reservations(StillGuests):
    NEED = {"memory_bytes": 256 * MIB, "min_bytes": 128 * MIB}

    def test_kept_for_one(self):
        """Promise: memory that is reserved is refused to everyone but the VM that it is for, with the numbers."""
        daemon = self.daemon(256 * MIB)
        unreserved = daemon.host()["unreserved_bytes"]
        daemon.must("reserve", name="db", seconds=600, **self.NEED)
        host = daemon.host()
        self.assertEqual([(one["vm"], one["min_bytes"]) for one in host["reservations"]], [("db", 128 * MIB)])
        self.assertLessEqual(host["reservations"][0]["left_ns"], 600 * 10**9)
        self.assertLessEqual(host["unreserved_bytes"], unreserved - 128 * MIB)

        text = daemon.refused("admit", name="other", **self.NEED)
        for word in ("other needs", "reservations", "256 MB", "unreserved"):
            self.assertIn(word, text)
        daemon.must("admit", name="db", **self.NEED)
        other = self.guest(daemon, "other", qemu=("-S",), min_mib=128)
        wait_until(lambda: not other.alive(), other.tail, 30)
        self.assertIn("reservations", other.log())
        # Nor may a VM that runs take it by a higher min.
        self.still(daemon, "small")
        self.assertIn("reservations", daemon.refused("set", vm="small", min_bytes=128 * MIB))

        self.still(daemon, "db", min_mib=128)
        self.assertEqual(daemon.host()["reservations"], [])
        self.assertEqual(daemon.vm("db")["min_bytes"], 128 * MIB)
        self.assertIn("other needs", daemon.refused("admit", name="other", **self.NEED))

    def test_ends(self):
        """Promise: a reservation ends by `unreserve`, by itself, and one given again replaces the earlier."""
        daemon = self.daemon(256 * MIB)
        daemon.must("reserve", name="db", seconds=600, **self.NEED)
        daemon.must("unreserve", name="db")
        daemon.must("admit", name="other", **self.NEED)
        self.assertIn("db", daemon.refused("unreserve", name="db"))

        daemon.must("reserve", name="db", seconds=600, memory_bytes=256 * MIB, min_bytes=64 * MIB)
        daemon.must("reserve", name="db", seconds=2, **self.NEED)
        begun = time.monotonic()
        self.assertEqual(len(daemon.host()["reservations"]), 1)
        self.assertIn("reservations", daemon.refused("admit", name="other", **self.NEED))
        wait_until(lambda: daemon.ask("admit", name="other", **self.NEED)["ok"], "it does not end", 10, every=0.05)
        took = time.monotonic() - begun
        self.assertGreater(took, 1.5)
        self.assertLess(took, 4)
        self.assertEqual(daemon.host()["reservations"], [])
        self.assertIn("db", daemon.refused("unreserve", name="db"))

    def test_refused(self):
        """Promise: a reservation that cannot be kept is not made."""
        daemon = self.daemon(256 * MIB)
        self.still(daemon, "db")
        for members, words in (
                ({"name": "big", "memory_bytes": 512 * MIB, "min_bytes": 300 * MIB}, ("big needs", "256 MB")),
                ({"name": "x", "memory_bytes": 64 * MIB, "min_bytes": 65 * MIB}, ("min", "65 MB", "64 MB")),
                ({"name": "db", **self.NEED}, ("db", "runs already")), ({"name": "x", **self.NEED, "seconds": 0}, ("0",)),
                ({"name": "x", **self.NEED, "seconds": 10**9}, ("604800",)), ({"name": "-x", **self.NEED}, ("'-x'",)),
                ({"name": "x", "memory_bytes": 1 << 20, "shares": "high"}, ("memory_bytes and min_bytes",))):
            text = daemon.refused("reserve", **{"seconds": 60, **members})
            for word in words:
                self.assertIn(word, text)
        self.assertEqual(daemon.host()["reservations"], [])
        # Three of 64 MB fit, a fourth does not: each is counted beside the others.
        sixty_four = {"memory_bytes": 64 * MIB, "min_bytes": 64 * MIB, "seconds": 60}
        for name in ("r1", "r2", "r3"):
            daemon.must("reserve", name=name, **sixty_four)
        self.assertIn("reservations", daemon.refused("reserve", name="r4", **sixty_four))


if __name__ == "__main__":
    Host.private_mounts()
    harness.main()
