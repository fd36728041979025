"""Figure 2: throughput of a guest configured with less memory, and of one of 256 MB ballooned to the same size."""
import plots
import vms
import workloads
from harness import MIB, Daemon, wait_until

VM_MIB = 256
SIZES_MIB = [128, 160, 192, 224]
PAPER_OVERHEAD = {128: 4.4, 224: 1.4}  # percent; the figure's other bars carry no numbers
LOADS = {"cached reads": workloads.reader, "dbench": workloads.dbench}
NOTE = (f"dbench with {workloads.DBENCH_CLIENTS} clients (paper: 40 smaller ones); random 16 KB reads of a file of "
        f"{workloads.READER_FILE_MIB} MB; the disk reads {workloads.DISK_READ_MIB_PER_S} MB/s; guests under TCG.\n"
        "Medians of runs that alternate. Paper (dbench): overhead 4.4 % at 128 MB, 1.4 % at 224 MB.")


def _settle(daemon, vm, size_mib):
    """Sets the limit and waits until the guest, its page cache full, has given up what is above it."""
    daemon.must("set", vm=vm.name, limit_bytes=size_mib * MIB)

    def is_small_enough():
        vm.run("cat /run/disk/file > /dev/null", 300)  # it asks for memory again until it gets none
        return vm.balloon_mib() >= 0.9 * (VM_MIB - size_mib)
    wait_until(is_small_enough, f"the balloon does not grow to {VM_MIB - size_mib} MB", 300)


class _Rows:
    def __init__(self, report, size_mib):
        self.loads = {load: report.row(f"{load}: 256 MB ballooned to {size_mib} MB vs configured so", "MB/s",
                                       goal_ratio=0.956, at_least=True) for load in LOADS}
        self.paged = report.row(f"paged out while measured, ballooned to {size_mib} MB", "MB")


def _pairs(report, daemon, size_mib, seconds, repetitions):
    """Measures one size; returns the result of each load."""
    rows = _Rows(report, size_mib)
    with vms.closing([]) as guests:
        guests.append(vms.Vm("ballooned", VM_MIB, daemon, **workloads.DISK))
        guests.append(vms.Vm("configured", size_mib, daemon, **workloads.DISK))
        for guest in guests:
            workloads.prepare(guest.ready())
        ballooned, configured = guests
        _settle(daemon, ballooned, size_mib)
        configured.run("cat /run/disk/file > /dev/null", 300)
        before = daemon.vm("ballooned")
        # Load after load: the page cache that one leaves behind is not the other's.
        for load, measure in LOADS.items():
            for repetition in range(repetitions):
                order = guests if repetition % 2 == 0 else guests[::-1]
                rate = {guest.name: measure(guest, seconds) for guest in order}
                rows.loads[load].add(rate["ballooned"], rate["configured"])
        after = daemon.vm("ballooned")
        rows.paged.add(sum(after[key] - before[key] for key in ("zips", "swap_outs")) * 4096 / MIB)
        report.note(f"fig2: at {size_mib} MB the balloon is {ballooned.balloon_mib():.0f} of {VM_MIB - size_mib} MB; the "
                    f"guest has {ballooned.available_mib():.0f} MB available, configured so {configured.available_mib():.0f}")
    return {load: row.result() for load, row in rows.loads.items()}


def _figure(report, measured):
    sizes = list(measured)
    figure = plots.Figure("fig2", "Balloon: throughput at the same size", NOTE)
    for load in LOADS:
        panel = figure.panel(f"OSDI'02 figure 2: {load}", "memory of the guest, MB", "MB/s")
        panel.series("configured with it", sizes, [measured[size][load]["peer"] for size in sizes], "bars")
        panel.series("256 MB, ballooned to it", sizes, [measured[size][load]["ours"] for size in sizes], "bars")
    panel = figure.panel("Overhead of the balloon", "memory of the guest, MB", "%")
    for i, load in enumerate(LOADS):
        panel.series(load, sizes, [100 * (1 - measured[size][load]["ratio"]) for size in sizes], "bars",
                     plots.COLOURS[1 + i])
    marked = [size for size in sizes if size in PAPER_OVERHEAD]
    panel.series("paper", marked, [PAPER_OVERHEAD[size] for size in marked], "bars", plots.PAPER)
    figure.save(report)


def run(report, arguments):
    if vms.lacking(report, "fig2"):
        return
    sizes, seconds, repetitions = ([128, 224], 15, 1) if arguments.quick else (SIZES_MIB, 25, 3)
    measured = {}
    with Daemon(arguments.bin, 2048 * MIB, vms.WITHOUT_SHARING) as daemon:
        for size in sizes:
            measured[size] = _pairs(report, daemon, size, seconds, repetitions)
    _figure(report, measured)


PARTS = {"fig2": run}
