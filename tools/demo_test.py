#!/usr/bin/env python3
"""Tests of what the demo reads and shows; no daemon, no guests."""
import os
import subprocess
import sys
import tempfile
import unittest

import demo_view as view
from demo_host import Guest, PAGE_BYTES, VERIFIED_MIB, describe_status

MIB = 1 << 20


def make_guest(name="vm1"):
    guest = Guest.__new__(Guest)  # without a process
    guest.name, guest.configured_bytes = name, 256 * MIB
    guest.filled = guest.verified = guest.errors = 0
    guest.said_it_ended, guest._rest, guest._offset = None, b"", 0
    return guest


def make_host(uptime_s=10, faults=1000):
    vm = {"name": "vm1", "state": "running", "pause_reason": "", "configured_bytes": 256 * MIB,
          "consumed_bytes": 120 * MIB, "resident_bytes": 100 * MIB, "arena_bytes": 18 * MIB,
          "overhead_bytes": 2 * MIB, "compressed_bytes": 40 * MIB, "swapped_bytes": 60 * MIB,
          "zero_bytes": 16 * MIB, "ballooned_bytes": 8 * MIB, "faults": faults, "swap_ins": 100}
    return {"budget_bytes": 512 * MIB, "promised_bytes": 256 * MIB, "consumed_bytes": 124 * MIB,
            "peak_consumed_bytes": 200 * MIB, "free_bytes": 388 * MIB, "daemon_bytes": 4 * MIB,
            "state": "high", "uptime_ns": uptime_s * 10**9, "vms": [vm]}


class Serial(unittest.TestCase):
    def test_lines_arrive_in_pieces(self):
        guest = make_guest()
        line = (b"GUEST-READY 1.5\nBALLAST-VERIFY t=12.3 filled=46080 verified=123456 writes=3456 "
                b"errors=2 rate=9876 stall_us=812\nBALLAST-VERIFY t=13.3 filled=1 ver")
        for i in range(0, len(line), 7):
            guest.take_output(line[i:i + 7])
        self.assertEqual((guest.filled, guest.verified, guest.errors), (46080, 123456, 2))
        self.assertTrue(guest.is_filled)
        self.assertIsNone(guest.said_it_ended)

    def test_an_end_is_noticed(self):
        for line in (b"GUEST-EXIT 137\n", b"[ 3.2] Kernel panic - not syncing: x\n",
                     b"BALLAST-FAILED cannot map 180 MiB\n", b"GUEST-FAILED no root disk\r\n"):
            guest = make_guest()
            guest.take_output(line)
            self.assertIsNotNone(guest.said_it_ended, line)

    def test_hostile_bytes_do_no_harm(self):
        guest = make_guest()
        guest.take_output(bytes(range(256)) * 100)
        self.assertEqual(guest.verified, 0)


class View(unittest.TestCase):
    def test_table_fits_80_columns(self):
        guest = make_guest()
        guest.filled = VERIFIED_MIB * MIB // PAGE_BYTES
        guest.verified = 123456789
        vms = view.with_rates(make_host(20, 999999999), make_host(10, 0))
        for line in view.live_table(123456, "verifying", [guest], make_host(), vms, 1000):
            self.assertLess(len(line), 80, line)

    def test_rates_are_by_the_daemons_clock(self):
        vms = view.with_rates(make_host(12, 3000), make_host(10, 1000))
        self.assertEqual(vms["vm1"]["faults_per_s"], 1000)
        for before in (None, make_host(20, 1000), make_host(10, 5000)):
            self.assertIsNone(view.with_rates(make_host(12, 3000), before)["vm1"]["faults_per_s"])

    def test_works_before_the_first_report(self):
        guest = make_guest()
        self.assertIn("does not answer", "\n".join(view.live_table(1, "x", [guest], None, {}, 0)))
        self.assertIn("does not answer", view.short_line(1, "x", [guest], None, 0))

    def test_summary(self):
        guest = make_guest()
        guest.verified, guest.errors = 7, 1
        figures = view.summary_json([guest], make_host(), 300 * MIB, 3)
        self.assertEqual(
            {key: value for key, value in figures.items() if key not in ("vms", "machine")},
            {"budget_bytes": 512 * MIB, "promised_bytes": 256 * MIB,
             "peak_consumed_bytes": 300 * MIB, "checksum_errors": 1, "verified_pages": 7,
             "daemon_restarts": 3})
        self.assertEqual(figures["vms"], [
            {"name": "vm1", "configured_bytes": 256 * MIB, "consumed_bytes": 120 * MIB,
             "compressed_bytes": 40 * MIB, "swapped_bytes": 60 * MIB, "verified_pages": 7,
             "checksum_errors": 1}])
        text = "\n".join(view.summary_lines(figures, make_host()))
        self.assertIn("Promised 256 MB to 1 guests on 512 MB", text)
        self.assertIn("32 MB never touched", text)
        self.assertIn("checksum errors: 1", text)


class CommandLine(unittest.TestCase):
    def run_demo(self, *words):
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "demo.py")
        return subprocess.run([sys.executable, program, *words], capture_output=True, text=True,
                              check=False)

    def test_wrong_options_are_explained(self):
        for words in (("--seconds", "0"), ("--memory", "lots"), ("--vms", "-1"), ("--what",)):
            done = self.run_demo(*words)
            self.assertEqual(done.returncode, 2)
            self.assertIn("error:", done.stderr)

    def test_json_that_cannot_be_written_is_known_at_once(self):
        done = self.run_demo("--json", "/nonexistent/x.json", "--bin", "/nonexistent")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nonexistent/x.json", done.stdout)

    def test_falls_back_to_the_simulator_with_the_same_options(self):
        with tempfile.TemporaryDirectory() as directory:
            program = os.path.join(directory, "ballast-sim")
            with open(program, "w") as file:
                file.write("#!/bin/sh\necho SIM \"$@\"\n")
            os.chmod(program, 0o755)
            path = os.path.join(directory, "out.json")
            done = self.run_demo("--bin", directory, "--simulated", "--seconds", "7", "--json",
                                 path, "--kill-daemon-every", "2")
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertIn(f"SIM --demo --seconds 7 --json {path} --kill-daemon-every 2",
                          done.stdout)
            refused = self.run_demo("--bin", directory, "--simulated", "--vms", "9")
            self.assertEqual(refused.returncode, 1)
            self.assertIn("no --vms", refused.stdout)


class Words(unittest.TestCase):
    def test_statuses(self):
        self.assertEqual(describe_status(-9), "signal 9")
        self.assertEqual(describe_status(1), "exit status 1")


if __name__ == "__main__":
    unittest.main()
