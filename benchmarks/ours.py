"""The toucher with the agent in front of a ballastd of its own."""
import contextlib
import json
import os
import time

import harness
from harness import MIB, Daemon, Program, wait_until

NAME = "bench"


class ManagedToucher:
    """All of the toucher's pages are the daemon's."""

    def __init__(self, bin_dir, mib, arguments, options, budget_mib=None):
        self.mib = mib
        self.daemon = Daemon(bin_dir, (budget_mib or 2 * mib + 128) * MIB, options)
        try:
            self.program = Program([os.path.join(bin_dir, "ballast-toucher"), *map(str, arguments)],
                                   harness.agent_environment(self.daemon, NAME, mib * MIB))
            self.program.expect("ready")
        except BaseException:
            self.daemon.close()
            raise

    def do(self, command):
        self.program.send(command)
        return json.loads("{" + self.program.expect("{", 60))

    def vm(self):
        return self.daemon.vm(NAME)

    def push_out(self):
        """Has everything taken away; returns what that cost: pages, seconds, the daemon's CPU seconds."""
        before, began = self.vm(), time.monotonic()
        cpu = self.daemon.cpu_seconds()
        self.daemon.must("reclaim", vm=NAME, bytes=self.mib * MIB)
        wait_until(lambda: self.vm()["resident_bytes"] == 0, f"pages stay resident: {self.vm()}", 120)
        seconds = time.monotonic() - began
        cpu = self.daemon.cpu_seconds() - cpu
        after = self.vm()
        return {"zips": after["zips"] - before["zips"], "swap_outs": after["swap_outs"] - before["swap_outs"],
                "seconds": seconds, "cpu_seconds": cpu}

    def close(self):
        self.program.kill()
        self.daemon.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def pin_threads(pid, cpu):
    """All threads of a process; None: on any CPU."""
    cpus = {cpu} if cpu is not None else set(range(os.cpu_count()))
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task), cpus)
