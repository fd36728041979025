#!/usr/bin/env python3
"""Host options: set while the daemon runs, in force at once, kept over restarts, refused with what is allowed."""
import os

import harness
from harness import MIB, Daemon, EndToEndTest, Failed

BUDGET = 256 * MIB


class Options(EndToEndTest):
    def value(self, daemon, name):
        return daemon.must("options", name=name)["options"][0]["value"]

    def values(self, daemon):
        return {option["name"]: option["value"] for option in daemon.must("options")["options"]}

    def put(self, daemon, name, value):
        answer = daemon.must("options", name=name, value=value)
        self.assertEqual(answer["option"]["value"], value)
        return answer["note"]

    def saved(self, daemon):
        return os.path.join(daemon.swap_dir, "options.toml")

    def refusal(self, daemon):
        """The words of a daemon that does not start."""
        with self.assertRaises(Failed) as raised:
            daemon.start()
        self.assertFalse(daemon.alive())
        return str(raised.exception)

    def test_in_force_at_once(self):
        """Promise: an option that takes effect at once does: thresholds, tax and balloon maximum are the new ones in
        the very next answer."""
        daemon = self.daemon(BUDGET)
        self.guest(daemon, "vm", qemu=("-S",))
        daemon.wait_for_vm("vm")
        host = daemon.host()
        self.assertEqual((host["idle_tax_percent"], host["idle_tax_type"]), (75, "variable"))
        self.assertEqual(host["min_free_bytes"], BUDGET * 6 // 100)

        self.put(daemon, "Mem.IdleTax", "0")
        self.put(daemon, "Mem.IdleTaxType", "0")
        self.put(daemon, "Mem.MemMinFreePct", "20")
        self.put(daemon, "Mem.CtlMaxPercent", "25")
        host = daemon.host()
        self.assertEqual((host["idle_tax_percent"], host["idle_tax_type"]), (0, "flat"))
        self.assertEqual(host["min_free_bytes"], BUDGET * 20 // 100)
        for line, percent in (("soft_bytes", 64), ("hard_bytes", 32), ("low_bytes", 16)):
            self.assertAlmostEqual(host[line], host["min_free_bytes"] * percent // 100, delta=MIB)
        self.assertAlmostEqual(host["vms"][0]["balloon_max_bytes"], 64 * MIB, delta=MIB)

        self.put(daemon, "Ballast.Thresholds", "osdi02")
        host = daemon.host()
        for line, percent in (("soft_bytes", 4), ("hard_bytes", 2), ("low_bytes", 1)):
            self.assertAlmostEqual(host[line], BUDGET * percent // 100, delta=MIB)
        self.put(daemon, "Mem.CtlMaxPercent", "0")
        self.assertEqual(daemon.vm("vm")["balloon_max_bytes"], 0)
        # The name that some know it by.
        self.assertEqual(self.value(daemon, "Mem.MinFreePct"), "20")
        daemon.must("options", name="Mem.MinFreePct", value="10")
        self.assertEqual(self.value(daemon, "Mem.MemMinFreePct"), "10")

    def test_listed(self):
        """Promise: every option is listed with its value, default, range, meaning and when a change takes effect."""
        daemon = self.daemon(BUDGET)
        options = daemon.must("options")["options"]
        self.assertGreaterEqual(len(options), 15)
        for option in options:
            self.assertEqual(option["value"], option["default"])
            self.assertTrue(option["allowed"] and len(option["meaning"]) > 10, option)
        self.assertTrue(any(not option["at_once"] for option in options))
        self.put(daemon, "Mem.BalancePeriod", "30")
        status, out, _ = daemon.cli("options")
        self.assertEqual(status, 0)
        for option in options:
            self.assertIn(option["name"], out)
        self.assertRegex(out, r"Mem.BalancePeriod +30 .*default 15")
        status, out, _ = daemon.cli("options", "Mem.BalancePeriod=45")
        self.assertEqual(status, 0)
        self.assertIn("Mem.BalancePeriod = 45", out)
        self.assertEqual(self.value(daemon, "Mem.BalancePeriod"), "45")

    def test_refused(self):
        """Promise: an unknown option and a value out of its range are refused with what is allowed (a tax of 100 %
        would make idle memory worth nothing), and nothing changes."""
        daemon = self.daemon(BUDGET)
        before = self.values(daemon)
        for name, value, words in (
                ("Mem.IdleTax", "100", ("Mem.IdleTax", "'100'", "0 to 99")), ("Mem.IdleTax", "-1", ("'-1'", "0 to 99")),
                ("Mem.IdleTax", "", ("''",)), ("Mem.IdleTax", "7 ", ("'7 '",)), ("Mem.IdleTax", "1e1", ("'1e1'",)),
                ("Mem.IdleTax", "99999999999999999999", ("0 to 99",)), ("Mem.IdleTaxType", "2", ("0 or 1",)),
                ("Mem.BalancePeriod", "0", ("1 to 120",)), ("Mem.MemMinFreePct", "51", ("0 to 50",)),
                ("Mem.CtlMaxPercent", "96", ("0 to 95",)), ("Ballast.Thresholds", "esxi7", ("esxi6", "osdi02")),
                ("Mem.NoSuch", "1", ("'Mem.NoSuch'", "Mem.IdleTax")), ("mem.idletax", "1", ("'mem.idletax'",))):
            text = daemon.refused("options", name=name, value=value)
            for word in words:
                self.assertIn(word, text, (name, value))
        self.assertIn("value", daemon.refused("options", name="Mem.IdleTax", value=7))
        self.assertIn("name", daemon.refused("options", value="7"))
        status, _, text = daemon.cli("options", "Mem.IdleTax=100")
        self.assertNotEqual(status, 0)
        self.assertIn("0 to 99", text)
        self.assertEqual(self.values(daemon), before)
        self.assertEqual(daemon.host()["idle_tax_percent"], 75)
        self.assertFalse(os.path.exists(self.saved(daemon)))
        self.assertEqual(daemon.events("host.option"), [])

    def test_kept(self):
        """Promise: what was set survives kill -9 and wins over the configuration file; it lies in the swap directory
        unless --state-dir names another."""
        daemon = self.daemon(BUDGET, options={"Mem.IdleTax": 60, "Mem.BalancePeriod": 20})
        self.assertEqual(self.value(daemon, "Mem.IdleTax"), "60")
        self.assertEqual(self.put(daemon, "Mem.IdleTax", "50"), "")
        self.put(daemon, "Mem.SamplePeriod", "30")
        self.put(daemon, "Ballast.Victims", "random")
        self.put(daemon, "Ballast.Victims", "second-chance")  # a default that was set is set
        wanted = self.values(daemon)
        self.assertEqual(wanted["Mem.BalancePeriod"], "20")
        daemon.kill()
        daemon.start()
        self.assertEqual(self.values(daemon), wanted)
        self.assertEqual(daemon.host()["idle_tax_percent"], 50)
        self.put(daemon, "Mem.MemMinFreePct", "8")  # beside what an earlier daemon saved
        wanted["Mem.MemMinFreePct"] = "8"
        self.assertEqual(daemon.terminate(), 0)
        daemon.start()
        self.assertEqual(self.values(daemon), wanted)
        self.assertTrue(os.path.exists(self.saved(daemon)))

        state = os.path.join(daemon.directory, "state", "of", "its", "own")
        other = self.daemon(BUDGET, arguments=("--state-dir", state))
        self.put(other, "Mem.IdleTax", "40")
        self.assertEqual(os.listdir(state), ["options.toml"])
        self.assertFalse(os.path.exists(self.saved(other)))
        other.kill()
        other.start()
        self.assertEqual(self.value(other, "Mem.IdleTax"), "40")

    def test_cannot_be_saved(self):
        """Promise: an option that cannot be saved holds all the same, and its answer says what will be lost."""
        daemon = Daemon(self, BUDGET)
        daemon.arguments = ["--state-dir", os.path.join(daemon.config, "below-a-file")]
        daemon.start()
        note = self.put(daemon, "Mem.IdleTax", "33")
        self.assertIn(daemon.config, note)
        self.assertEqual(daemon.host()["idle_tax_percent"], 33)
        status, out, _ = daemon.cli("options", "Mem.IdleTax=34")
        self.assertEqual(status, 0)
        self.assertIn(daemon.config, out)
        daemon.kill()
        daemon.start()
        self.assertEqual(self.value(daemon, "Mem.IdleTax"), "75")

    def test_broken_file(self):
        """Promise: a saved file that makes no sense is not half obeyed: the daemon does not start and names the
        line; repaired, it does."""
        daemon = Daemon(self, BUDGET)
        os.makedirs(daemon.swap_dir)
        for text, line, word in (('[options]\n"Mem.IdleTax" = "100"\n', 2, "0 to 99"),
                                 ('# fine\n[options]\n"Mem.IdleTax" = "7"\n"Mem.Old" = "1"\n', 4, "Mem.Old"),
                                 ("[options\n", 1, ""), ('\n\nnonsense = 1\n', 3, "nonsense"),
                                 ('options = 3\n', 1, "options"), ('[options]\n"Mem.IdleTax" = [1]\n', 2, "")):
            with open(self.saved(daemon), "w", encoding="utf-8") as file:
                file.write(text)
            words = self.refusal(daemon)
            self.assertIn(f"{self.saved(daemon)}:{line}", words)
            self.assertIn(word, words)
        with open(self.saved(daemon), "w", encoding="utf-8") as file:
            file.write('[options]\n"Mem.IdleTax" = "7"\n')
        daemon.start()
        self.assertEqual(self.value(daemon, "Mem.IdleTax"), "7")


if __name__ == "__main__":
    harness.main()
