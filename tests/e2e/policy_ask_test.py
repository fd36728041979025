#!/usr/bin/env python3
"""The program `ballast` tells why a VM has what it has and what would be, sets what it is told, and errs with words."""
import json
import re

import harness
from harness import MIB, WithoutSharing, verifier, wait_until

SETTINGS = ("name", "min_bytes", "limit_bytes", "share_setting", "shares", "balloon_max_setting", "swap_reserved_bytes")


class Ask(WithoutSharing):
    def settings(self, daemon):
        """All that an operator can have changed. (What is unreserved follows the VMs' overheads, too.)"""
        host = daemon.host()
        return (sorted(tuple(vm[member] for member in SETTINGS) for vm in host["vms"]), host["reservations"],
                daemon.must("options")["options"])

    def contended(self):
        """Two busy VMs that get less than they want, by 2:1, and a small third one with a limit."""
        daemon = self.daemon(320 * MIB, options={"Mem.IdleTax": 0})
        for name, shares, least, seed in (("a", "2000", 0, 1), ("b", "1000", 24, 2)):
            self.guest(daemon, name, run=verifier(165, 600, seed, extra="--pause-us 300"), min_mib=least,
                       environment={"BALLAST_VM_SHARES": shares}).expect("BALLAST-VERIFY")
        self.guest(daemon, "c", qemu=("-S",), memory_mib=64, environment={"BALLAST_VM_LIMIT": str(48 * MIB)})
        daemon.wait_for_vm("c")
        wait_until(lambda: all(daemon.vm(name)["swapped_bytes"] > 0 for name in "ab"), lambda: daemon.vms(), 30)
        return daemon

    def ask(self, daemon, *arguments, status=0):
        code, out, error = daemon.cli(*arguments)
        self.assertEqual(code, status, out + error)
        self.assertEqual(status == 0, error == "", error)
        return re.sub(r"\s+", " ", out if status == 0 else error)

    def table(self, text, name):
        """The cells of one VM's line."""
        return next(line.split() for line in text.splitlines() if line.startswith(name + " "))

    def test_why(self):
        """Promise: `why` names what decides the target, by how much the VM differs from it, and every number that went
        into it; as JSON it has the same."""
        daemon = self.contended()
        text = self.ask(daemon, "why", "a")
        for words in (r"a consumes \d+ MB; its target is \d+ MB, of 256 MB configured", "Its shares decide that",
                      "divided among the VMs", r"shares 2000 \(a number of its own\)", r"active .*",
                      "tax none", "min none", "limit none", r"host state \w+", r"balloon .* of at most 166 MB",
                      r"guest says 218 MB in all", r"compressed \d", r"swapped \d", "blocked (no|yes)", "Its last events"):
            self.assertRegex(text, words)
        self.assertNotIn("unknown to this program", text)
        self.assertRegex(self.ask(daemon, "why", "b"), "min 24 MB: it is never left with less")
        self.assertRegex(self.ask(daemon, "why", "c"), "limit 48 MB: never more")
        told = json.loads(daemon.cli("--json", "why", "a")[1])
        self.assertEqual(told["vm"]["name"], "a")
        self.assertEqual(told["vm"]["bound"], "shares")
        self.assertTrue(all(event["vm"] == "a" for event in told["events"]))
        self.assertEqual(self.ask(daemon, "why", "nobody", status=1).count("'nobody'"), 1)
        self.assertIn("VM is required", self.ask(daemon, "why", status=2))

    def test_why_in_every_state_of_a_balloon(self):
        """Promise: whatever state a balloon is in, `why` and `show` have words for it."""
        daemon = self.daemon(400 * MIB)
        stopped = self.guest(daemon, "stopped", qemu=("-S",))
        bare = self.guest(daemon, "bare", kernel_args="module_blacklist=virtio_balloon", memory_mib=192)
        forbidden = self.guest(daemon, "forbidden", qemu=("-S",), environment={"BALLAST_VM_BALLOON_MAX": "0"})
        bare.ready()
        daemon.must("set", vm="bare", limit_bytes=64 * MIB)
        for guest, state in ((stopped, "paused"), (forbidden, "none"), (bare, "no-driver")):
            wait_until(lambda one=guest, word=state: daemon.vm(one.name)["balloon_state"] == word,
                       lambda one=guest: daemon.vm(one.name), 30, every=0.1)
            for command in ("why", "show"):
                text = self.ask(daemon, command, guest.name)
                self.assertIn("balloon", text)
                self.assertNotIn("unknown to this program", text, state)

    def test_what_if(self):
        """Promise: `whatif` tells who would have to give how much, whether new VMs would be admitted and what would be
        refused; and it changes nothing."""
        daemon = self.contended()
        before = self.settings(daemon)
        code, text, _ = daemon.cli("whatif", "--add", "2x128M,min=16M")
        self.assertEqual(code, 0)
        self.assertIn("They would be admitted", text)
        self.assertIn("new", self.table(text, "new1"))
        self.assertTrue(self.table(text, "a")[8].startswith("-"), text)
        self.assertTrue(self.table(text, "b")[8].startswith("-"), text)
        # To the machine's precision the answer is what the policy then does: shares 1:1 instead of 2:1.
        code, text, _ = daemon.cli("--json", "whatif", "--set", "a.shares=1000")
        self.assertEqual(code, 0)
        rows = {row["name"]: row for row in json.loads(text)["rows"]}
        self.assertAlmostEqual(rows["a"]["target_now_bytes"] / rows["b"]["target_now_bytes"], 2, delta=0.1)
        self.assertAlmostEqual(rows["a"]["target_then_bytes"] / rows["b"]["target_then_bytes"], 1, delta=0.05)
        self.assertIn("It would be refused: new1 needs", self.ask(daemon, "whatif", "--add", "300M,min=300M"))
        self.assertIn("It would be refused: a would need", self.ask(daemon, "whatif", "--set", "a.min=256M",
                                                                        "--set", "b.min=100M"))
        for arguments, status, word in ((("--set", "nobody.min=1M"), 1, "'nobody'"),
                                        (("--set", "c.min=56M"), 1, "limit of 48 MB"), ((), 2, "--add"),
                                        (("--add", "0x128M"), 2, "1 to 1000"), (("--add", "lots"), 2, "lots"),
                                        (("--set", "a.colour=1"), 2, "colour"), (("--set", "a.shares=0"), 2, "'0'")):
            self.assertIn(word, self.ask(daemon, "whatif", *arguments, status=status))
        self.assertEqual(self.settings(daemon), before)
        self.assertEqual(daemon.events("vm.set"), [])

        # And now in earnest.
        daemon.must("set", vm="a", shares=1000)
        foretold = rows["a"]["target_then_bytes"]
        wait_until(lambda: abs(daemon.vm("a")["target_bytes"] - foretold) < 12 * MIB,
                   lambda: f"foretold {foretold}, {daemon.vm('a')}", 5, every=0.1)

    def test_what_if_counts_all_changes_together(self):
        """Promise: mins that fit one by one but not together are refused by `whatif` too."""
        daemon = self.daemon(288 * MIB)
        for name in ("a", "b"):
            self.guest(daemon, name, qemu=("-S",))
            daemon.wait_for_vm(name)
        self.assertNotIn("refused", self.ask(daemon, "whatif", "--set", "a.min=150M"))
        self.assertNotIn("refused", self.ask(daemon, "whatif", "--set", "b.min=150M"))
        self.assertIn("It would be refused", self.ask(daemon, "whatif", "--set", "a.min=150M", "--set", "b.min=150M"))
        # What one gives up the other can have.
        daemon.must("set", vm="a", min_bytes=150 * MIB)
        self.assertNotIn("refused", self.ask(daemon, "whatif", "--set", "a.min=10M", "--set", "b.min=150M"))
        self.assertNotIn("refused", self.ask(daemon, "whatif", "--set", "b.min=150M", "--set", "a.min=10M"))

    def test_set_and_reserve(self):
        """Promise: set, reserve and unreserve say what holds now; what is wrong is refused with words and a status."""
        daemon = self.daemon(256 * MIB)
        self.guest(daemon, "web1", qemu=("-S",))
        daemon.wait_for_vm("web1")
        self.assertEqual(self.ask(daemon, "set", "web1", "--shares", "high", "--min", "32M", "--limit", "128M"),
                         "web1: min 32 MB, limit 128 MB, shares 5120 (high), balloon at most 166 MB (default) ")
        self.assertIn("limit none", self.ask(daemon, "set", "web1", "--limit", "none", "--balloon-max", "0"))
        vm = daemon.vm("web1")
        self.assertEqual((vm["limit_bytes"], vm["balloon_max_bytes"], vm["min_bytes"]), (None, 0, 32 * MIB))
        before = self.settings(daemon)
        for arguments, status, word in ((("web1", "--min", "300M"), 1, "300 MB exceeds its memory of 256 MB"),
                                        (("web1", "--min", "250M"), 1, "unreserved"), (("web1",), 2, "nothing to set"),
                                        (("web1", "--shares", "-5"), 2, "'-5'"), (("web1", "--min", "much"), 2, "much"),
                                        (("nobody", "--shares", "low"), 1, "'nobody'")):
            self.assertIn(word, self.ask(daemon, "set", *arguments, status=status))
        self.assertEqual(self.settings(daemon), before)

        self.assertIn("reserved for db", self.ask(daemon, "reserve", "db", "--memory", "256M", "--min", "64M", "--for",
                                                  "1m"))
        self.assertIn("db", self.ask(daemon, "host"))
        self.assertIn("reservations", self.ask(daemon, "run", "--name", "other", "--memory", "256M", "--min", "140M",
                                               "--", status=1))
        self.ask(daemon, "unreserve", "db")
        self.assertIn("db", self.ask(daemon, "unreserve", "db", status=1))
        self.assertIn("1s to 7d", self.ask(daemon, "reserve", "db", "--memory", "64M", "--for", "8d", status=2))
        self.assertEqual(self.settings(daemon), before)


if __name__ == "__main__":
    harness.main()
