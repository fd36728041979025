#!/usr/bin/env python3
"""Monitors (QMP) that hang, close, flood or lie: their VM does without a balloon, all others notice nothing."""
import os
import subprocess
import sys
import time

import fake_monitor
import harness
from harness import HERE, MIB, EndToEndTest, die_with_parent, verifier, wait_until

# Without a working conversation there is no balloon to speak of.
UNREACHABLE = ("hangs", "closes", "half-greeting", "drips", "mute", "noise", "endless-line", "deep", "wrong-ids", "errors",
               "stranger")


class HostileMonitor(EndToEndTest):
    def fake(self, daemon, name, manner):
        monitor = os.path.join(daemon.directory, f"{name}.monitor")
        process = subprocess.Popen([sys.executable, os.path.join(HERE, "fake_monitor.py"),
                                    os.path.join(daemon.run_dir, "agent.sock"), name, monitor, manner],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)

        def end():
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
        self.addCleanup(end)
        self.assertEqual(process.stdout.readline().strip(), "ACCEPT", manner)
        return process, end

    @staticmethod
    def main_thread_seconds(daemon):
        """CPU time of the thread that talks to monitors and clients; workers serve faults."""
        with open(f"/proc/{daemon.pid}/task/{daemon.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def mean_rate(guest, lines):
        return sum(line["rate"] for line in lines) / max(len(lines), 1)

    def test_all_kinds_at_once(self):
        """Promise: monitors that hang, close, flood, drip or talk nonsense cost the daemon little time and memory; the
        other VM's faults are served as before, its own monitor is obeyed, and questions are answered at once."""
        daemon = self.daemon(400 * MIB)
        base_descriptors = len(os.listdir(f"/proc/{daemon.pid}/fd"))
        good = self.guest(daemon, "good").ready()
        good.send(verifier(60, 0, 1, extra="--pause-us 200") + " &")
        good.expect("BALLAST-VERIFY")
        good.send("cat /dev/vda > /dev/null; echo CACHED")
        good.expect("CACHED")
        daemon.wait_for_vm("good", guest_available_bytes=1, seconds=30)
        time.sleep(3)
        calm = good.lines("BALLAST-VERIFY")[-3:]
        with_good = len(os.listdir(f"/proc/{daemon.pid}/fd"))

        ends = [self.fake(daemon, manner, manner)[1] for manner in fake_monitor.MANNERS]
        self.assertEqual(len(daemon.vms()), len(ends) + 1)
        time.sleep(1)
        private, seconds, begun = daemon.private_bytes(), self.main_thread_seconds(daemon), time.monotonic()
        seen = len(good.lines("BALLAST-VERIFY"))
        slowest = 0
        for _ in range(60):
            asked = time.monotonic()
            daemon.host()
            slowest = max(slowest, time.monotonic() - asked)
            time.sleep(0.2)
        share = (self.main_thread_seconds(daemon) - seconds) / (time.monotonic() - begun)
        grown = daemon.private_bytes() - private
        hostile = good.lines("BALLAST-VERIFY")[seen:]
        self.assertTrue(daemon.alive())
        self.assertLess(share, 0.25, "the main thread's part of a CPU")
        self.assertLess(grown, 4 * MIB)
        self.assertLess(slowest, 1.0, "the longest answer")
        self.assertGreater(self.mean_rate(good, hostile), self.mean_rate(good, calm) / 3)
        self.assertLess(max(line["stall_us"] for line in hostile), 1e6)

        states = {vm["name"]: vm["balloon_state"] for vm in daemon.vms()}
        for manner in UNREACHABLE:
            self.assertEqual(states[manner], "unreachable", states)
        for vm in daemon.vms():  # whatever was said
            self.assertLessEqual(vm["balloon_bytes"], vm["configured_bytes"])
            self.assertLessEqual(vm["balloon_target_bytes"], vm["configured_bytes"])
        for manner in ("hangs", "closes", "noise"):
            self.assertTrue(daemon.events("balloon.unreachable", manner), manner)
        self.assertLess(len(daemon.events()), 300, "told over and over")
        # The good one's balloon works beside them.
        daemon.must("set", vm="good", limit_bytes=144 * MIB)
        daemon.wait_for_vm("good", balloon_bytes=20 * MIB, seconds=15)

        for end in ends:
            end()
        wait_until(lambda: len(daemon.vms()) == 1, lambda: [vm["name"] for vm in daemon.vms()])
        wait_until(lambda: len(os.listdir(f"/proc/{daemon.pid}/fd")) <= with_good + 1,
                   lambda: f"{base_descriptors}, {with_good}, now {len(os.listdir(f'/proc/{daemon.pid}/fd'))}")
        good.send("killall verifier")
        good.expect("BALLAST-DONE")
        good.assert_clean()
        self.say(f"{len(ends)} hostile monitors: main thread {share * 100:.1f} % of a CPU, longest answer "
                 f"{slowest * 1e3:.0f} ms, {grown / 1024:.0f} KiB more; rate {self.mean_rate(good, calm):.0f} → "
                 f"{self.mean_rate(good, hostile):.0f} pages/s")


if __name__ == "__main__":
    harness.main()
