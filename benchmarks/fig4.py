"""Figure 4: memory shared and reclaimed among 1 to 8 identical guests that do the same work, and its throughput."""
import os
import time

import plots
import vms
from harness import MIB, Daemon

VM_MIB = 128
COUNT = 8
SETTLE_S = 10
OPTIONS = {"Mem.ShareForceSalting": 0, "Mem.ShareScanTime": 1, "Mem.ShareScanGHz": 1000}
RATE_MAX = 20000
PAPER_SHARED, PAPER_RECLAIMED = 67, 60  # percent of all VMs' memory, at the right end
PAPER_THROUGHPUT = 0.984                # its worst: 1.6 % slower
# Reads every program, so that the page cache holds them; then a data base, the same in each guest.
WORK = ("cat /usr/bin/* > /dev/null; rm -f /tmp/db; sqlite3 /tmp/db 'create table t(a); with recursive c(x) as (select 1"
        " union all select x+1 from c where x<40000) insert into t select printf(\"%060d\", x) from c;"
        " select count(distinct a) from t' > /tmp/count")
NOTE = (f"Identical guests of {VM_MIB} MB (nokaslr) that read all their programs and fill a data base; paper: 40 MB, SPEC95. "
        "Zero pages take no frame here\nand count as shared, as in the paper. Throughput: work per CPU-second of guests and daemon, "
        "with sharing against without, alternately; paper: -1.6 to +1.8 %.")


class _Side:
    """Guests with sharing, or without."""

    def __init__(self, bin_dir, rate_max, things):
        self.daemon = Daemon(bin_dir, COUNT * (VM_MIB + 64) * MIB + 256 * MIB,
                             {**OPTIONS, "Mem.ShareRateMax": rate_max})
        things.append(self.daemon)
        self.vms, self._things = [], things

    def add_guest(self):
        vm = vms.Vm(f"vm{len(self.vms)}", VM_MIB, self.daemon, kernel="nokaslr")
        self.vms.append(vm)
        self._things.append(vm)

    def work(self):
        """All guests do their work at once; returns how much of it is done in a CPU-second."""
        before = self._cpu_seconds()
        for vm in self.vms:
            vm.program.send(f"{WORK}; echo WORKED $?")
        for vm in self.vms:
            vm.program.expect("WORKED 0", 300)
        return len(self.vms) / (self._cpu_seconds() - before)

    def _cpu_seconds(self):
        return sum(_process_cpu_seconds(pid) for pid in [self.daemon.process.pid, *(vm.pid for vm in self.vms)])

    def memory(self):
        """MB: shared, zero pages of it, frames of the shared pages, and what the guests have touched."""
        host = self.daemon.host()
        zero = sum(vm["zero_bytes"] for vm in host["vms"])
        shared = sum(vm["shared_bytes"] for vm in host["vms"])
        common = sum(group["common_bytes"] for group in host["share_groups"])
        resident = sum(vm["resident_bytes"] for vm in host["vms"])
        return {"shared": (shared + zero) / MIB, "zero": zero / MIB, "common": common / MIB,
                "reclaimed": (shared + zero - common) / MIB, "touched": (resident + shared + zero) / MIB}


def _process_cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rows(report, measured, throughput):
    count = max(measured)
    last = measured[count]
    total = count * VM_MIB
    goals = {"shared": PAPER_SHARED, "reclaimed": PAPER_RECLAIMED}
    for what, goal in goals.items():
        row = report.row(f"{count} guests: {what}, of all VMs' memory (paper: {goal})", "%", goal_ours=goal, at_least=True)
        row.add(100 * last[what] / total)
        report.row(f"{count} guests: {what}, of what they touched", "%").add(100 * last[what] / last["touched"])
    report.row(f"{count} guests: frames of the shared pages", "MB").add(last["common"])
    report.row("1 guest: reclaimed", "MB").add(measured[1]["reclaimed"])
    row = report.row("throughput, vs unshared", "work/CPU-s", goal_ratio=PAPER_THROUGHPUT, at_least=True)
    for pairs in throughput.values():
        for ours, peer in pairs:
            row.add(ours, peer)


def _figure(report, measured, throughput):
    counts = sorted(measured)
    figure = plots.Figure("fig4", "Page sharing among identical guests", NOTE)
    panel = figure.panel("OSDI'02 figure 4: memory", "guests", "MB")
    panel.series("all VMs' memory", counts, [n * VM_MIB for n in counts], "dotted", plots.COLOURS[6])
    panel.series("shared", counts, [measured[n]["shared"] for n in counts])
    panel.series("reclaimed", counts, [measured[n]["reclaimed"] for n in counts])
    panel.series("shared - reclaimed", counts, [measured[n]["common"] for n in counts])
    panel.series("zero pages", counts, [measured[n]["zero"] for n in counts], "dashed")
    panel = figure.panel("The same, of all VMs' memory", "guests", "%")
    for i, what in enumerate(("shared", "reclaimed")):
        panel.series(what, counts, [100 * measured[n][what] / (n * VM_MIB) for n in counts], colour=plots.COLOURS[i])
        panel.series(f"{what}, of touched", counts, [100 * measured[n][what] / measured[n]["touched"] for n in counts],
                     "dashed", plots.COLOURS[i])
    panel.level(PAPER_SHARED, f"paper, 10 guests: {PAPER_SHARED} % shared")
    panel.level(PAPER_RECLAIMED, f"paper, 10 guests: {PAPER_RECLAIMED} % reclaimed")
    panel = figure.panel("Throughput with sharing, of that without", "guests", "%")
    at = [(n, 100 * ours / peer) for n in counts for ours, peer in throughput[n]]
    panel.series("pairs", [n for n, _ in at], [percent for _, percent in at], "points")
    panel.level(98.4, "paper's worst: 98.4")
    figure.save(report)


def run(report, arguments):
    if vms.lacking(report, "fig4"):
        return
    counts = range(1, 3 if arguments.quick else COUNT + 1)
    measured, throughput = {}, {}
    with vms.closing([]) as things:
        sides = [_Side(arguments.bin, rate, things) for rate in (RATE_MAX, 0)]
        for count in counts:
            for side in sides:
                side.add_guest()
            for side in sides:
                side.vms[-1].ready(300).run(WORK, 300)  # its page cache fills: not measured
            order = sides if count % 2 else sides[::-1]
            done = {side: side.work() for side in order}
            throughput[count] = [(done[sides[0]], done[sides[1]])]
            time.sleep(SETTLE_S)
            measured[count] = sides[0].memory()
        complaints = [line for side in sides for vm in side.vms for line in vm.complaints()]
        if complaints:
            report.fail("fig4", f"a guest suffered: {complaints[:3]}")
    _rows(report, measured, throughput)
    _figure(report, measured, throughput)


PARTS = {"fig4": run}
