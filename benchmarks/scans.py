"""What looking at pages costs where nothing is found: memory whose pages are all different."""
import contextlib
import os
import sys

import breaks
import frames
import harness
import ksm
from harness import MIB, Daemon, Program, wait_until

OPTIONS = {**breaks.OPTIONS, "Mem.ShareRateMax": 0}
RATE_MAX = 1000000


@contextlib.contextmanager
def _filled(mib, environment, *words):
    command = [sys.executable, breaks.__file__, str(mib * MIB // breaks.PAGE), *words]
    program = Program(command, environment)
    try:
        program.expect("FILLED", 120)
        yield program
    finally:
        program.kill()


def ours(bin_dir, mib):
    """Pages per CPU second of the VM's worker, the first time it looks at them."""
    pages = mib * MIB // breaks.PAGE
    with contextlib.closing(Daemon(bin_dir, 2 * mib * MIB + 256 * MIB, OPTIONS)) as daemon:
        with _filled(mib, harness.agent_environment(daemon, "scanned", mib * MIB)):
            def scanned():
                return daemon.vm("scanned")["share_scanned"]
            def cpu():
                return frames.thread_cpu_seconds(daemon.process.pid, "vm/scanned")
            before = cpu()
            daemon.must("options", name="Mem.ShareRateMax", value=str(RATE_MAX))
            wait_until(lambda: scanned() >= pages, lambda: f"{scanned()} of {pages} pages scanned", 60)
            return scanned() / (cpu() - before)


def peer(mib, scans=2):
    with ksm.settings(), _filled(mib, dict(os.environ), "mergeable"):
        return ksm.scan_rate(scans)
