"""Where threads run and how long a worker spins: what that does to the refault of a compressed page."""
import harness
from ours import ManagedToucher, pin_threads
from pager import ZIP_ALL

LAYOUTS = {"unpinned": (None, None), "same CPU": (0, 0), "other CPU": (0, 1)}


def layouts(report, arguments):
    why = harness.missing_ability(kvm=False)
    if why:
        report.skip("layouts", why)
        return
    mib = 32
    for spin in (0, 50, 200):
        options = {**ZIP_ALL, "Ballast.FaultSpinUs": spin}
        for name, (guest_cpu, daemon_cpu) in LAYOUTS.items():
            random_p50 = report.row(f"spin {spin} us, {name}: random, p50", "us")
            walk = report.row(f"spin {spin} us, {name}: walk", "us/page")
            burnt = report.row(f"spin {spin} us, {name}: daemon CPU per random refault", "us")
            with ManagedToucher(arguments.bin, mib, ["--mib", mib, "--only", "compressible"], options) as ours:
                ours.do("fill")
                ours.do(f"pin {-1 if guest_cpu is None else guest_cpu}")
                for _ in range(2 if arguments.quick else 5):
                    ours.push_out()
                    pin_threads(ours.daemon.process.pid, daemon_cpu)
                    cpu = ours.daemon.cpu_seconds()
                    result = ours.do("random 8")
                    burnt.add((ours.daemon.cpu_seconds() - cpu) * 1e6 / result["pages"])
                    random_p50.add(result["p50_us"])
                    ours.push_out()
                    walk.add(ours.do("walk")["mean_us"])


TARGETS = ["ballastd", "ballast", "ballast_agent", "ballast-toucher"]
PARTS = {"layouts": layouts}
