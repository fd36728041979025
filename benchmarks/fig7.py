"""Figure 7: an idle VM and a busy one with equal shares, before and after the idle-memory tax."""
import statistics

import plots
import vms
import workloads
from harness import MIB, Daemon, Failed

VM_MIB = 256
DIVIDED_MIB = 360  # what the paper's host had for its VMs
PAPER_MIB = 179    # each, without the tax
OPTIONS = {"Mem.IdleTax": 0, "Mem.IdleTaxType": 0, "Mem.SamplePeriod": 15, "Mem.BalancePeriod": 5,
           **vms.WITHOUT_SHARING}
NOTE = (f"Two guests of 256 MB, equal shares, {DIVIDED_MIB} MB for both. The idle one filled its page cache and sleeps; the "
        f"busy one reads a file of {workloads.READER_FILE_MIB} MB at random\n(paper: dbench) from a disk of "
        f"{workloads.DISK_READ_MIB_PER_S} MB/s. Sampling period 15 s, targets every 5 s (paper: 30 s, 15 s).")


def start_daemon(bin_dir, divided_mib, options):
    """A daemon whose VMs divide so much among them: what it keeps for itself is on top."""
    memory = divided_mib * MIB
    for _ in range(5):
        daemon = Daemon(bin_dir, memory, options)
        missing = divided_mib * MIB - daemon.host()["divided_bytes"]
        if abs(missing) < MIB // 2:
            return daemon
        daemon.close()
        memory += missing
    raise Failed(f"no budget leaves {divided_mib} MB to the VMs")


def _steady(series, begin, end):
    """The median of the second half of a phase."""
    times, values = series
    return statistics.median(v for t, v in zip(times, values) if (begin + end) / 2 <= t <= end)


def _rows(report, watch, rates, tax_at, end):
    """The numbers of both phases: (0, tax_at) and (tax_at, end), in seconds."""
    allocated = {(name, phase): _steady(watch.vm(name, "consumed_bytes"), begin, stop)
                 for name in ("idle", "busy") for phase, begin, stop in (("0", 0, tax_at), ("75", tax_at, end))}
    for name in ("idle", "busy"):
        row = report.row(f"tax 0 %: {name} VM is off from the paper's {PAPER_MIB} MB by", "MB", goal_ours=9)
        row.add(abs(allocated[name, "0"] - PAPER_MIB))
        report.row(f"tax 75 %: {name} VM has", "MB").add(allocated[name, "75"])
    active = _steady(watch.vm("idle", "active_bytes"), tax_at, end)
    buffer = report.row("tax 75 %: idle VM keeps above its estimate", "MB", goal_ours=0, at_least=True)
    buffer.add(allocated["idle", "75"] - active)
    gain = report.row("busy VM: throughput with tax 75 % vs 0 %", "MB/s", goal_ratio=1.3, at_least=True)
    gain.add(_steady(rates, tax_at, end), _steady(rates, 0, tax_at))
    paged = report.row("swapped by the host in the end, both VMs", "MB")
    paged.add(sum(watch.vm(name, "swapped_bytes")[1][-1] for name in ("idle", "busy")))


def _figure(report, watch, rates, tax_at):
    figure = plots.Figure("fig7", "Idle-memory tax: allocations of an idle and a busy VM", NOTE)
    panel = figure.panel("OSDI'02 figure 7: 179 / 179 MB, then the idle VM's memory moves", "seconds", "MB")
    for i, name in enumerate(("idle", "busy")):
        panel.series(f"{name}: consumed", *watch.vm(name, "consumed_bytes"), colour=plots.COLOURS[i])
        panel.series(f"{name}: target", *watch.vm(name, "target_bytes"), "dashed", plots.COLOURS[i])
        panel.series(f"{name}: active", *watch.vm(name, "active_bytes"), "dotted", plots.COLOURS[i])
    panel.level(PAPER_MIB, f"paper: {PAPER_MIB}")
    panel.mark(0, "tax 0 %")
    panel.mark(tax_at, "tax 75 %")
    panel = figure.panel("How", "seconds", "MB")
    for i, name in enumerate(("idle", "busy")):
        panel.series(f"{name}: balloon", *watch.vm(name, "balloon_bytes"), colour=plots.COLOURS[i])
        panel.series(f"{name}: swapped", *watch.vm(name, "swapped_bytes"), "dashed", plots.COLOURS[i])
    panel = figure.panel("Random reads of the busy VM", "seconds", "MB/s")
    panel.series("throughput", *rates)
    panel.mark(tax_at, "tax 75 %")
    figure.save(report)


def run(report, arguments):
    if vms.lacking(report, "fig7"):
        return
    phase_s = 120 if arguments.quick else 240
    with start_daemon(arguments.bin, DIVIDED_MIB, OPTIONS) as daemon, vms.closing([]) as guests:
        guests.append(vms.Vm("idle", VM_MIB, daemon, disk_mib=VM_MIB))
        guests.append(vms.Vm("busy", VM_MIB, daemon, **workloads.DISK))
        idle, busy = (guest.ready() for guest in guests)
        workloads.fill_page_cache(idle, VM_MIB - 64)
        workloads.prepare(busy)
        busy.start(workloads.reader_command(2 * phase_s + 20))
        with vms.Watch(daemon) as watch:
            watch.wait(phase_s)
            daemon.must("options", name="Mem.IdleTax", value="75")
            tax_at = watch.now()
            watch.wait(phase_s)
            end = watch.now()
        told = [(time - watch.began, rate) for time, rate in workloads.reader_rates(busy.program)]
        rates = [time for time, _ in told], [rate for _, rate in told]
        _rows(report, watch, rates, tax_at, end)
        _figure(report, watch, rates, tax_at)


PARTS = {"fig7": run}
