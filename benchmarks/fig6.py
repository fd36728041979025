"""Figure 6: does the estimate of active memory follow a guest whose working set is known?"""
import bisect
import statistics

import plots
import vms
from harness import MIB, Daemon

VM_MIB = 512
PERIOD_S = 5  # the paper samples for 30 s; everything here is six times as fast
STEPS_MIB = [50, 150, 250, 200, 100, 250, 50]  # the paper's toucher: 50 to 250 MB
STEP_S = 90
NOTE = (f"A guest of {VM_MIB} MB; its toucher writes to every page of its set five times a second. Sampling period "
        f"{PERIOD_S} s (paper: 30 s). The truth does not count the guest's own kernel and daemons.")


class Truth:
    """The size of the toucher's set over time, in MB."""

    def __init__(self, began, program):
        steps = [(at - began, line.split()[1]) for at, line in zip(program.times, program.lines)
                 if line.startswith("TOUCHER-SET")]
        self.times = [at for at, _ in steps]
        self.mib = [int(word.split("=")[1]) for _, word in steps]
        self.end = [at - began for at, line in zip(program.times, program.lines) if line == "TOUCHER-DONE"][0]
        self.ends = self.times[1:] + [self.end]

    def at(self, time):
        """None outside the schedule."""
        i = bisect.bisect_right(self.times, time) - 1
        return self.mib[i] if i >= 0 and time < self.end else None

    def changes(self):
        """(begin, end, MB before, MB after) of every step but the first."""
        return list(zip(self.times[1:], self.ends[1:], self.mib, self.mib[1:]))

    def is_settled(self, time):
        """In the last third of a step: what is judged there is the estimate, not its speed."""
        i = bisect.bisect_right(self.times, time) - 1
        return i >= 0 and time < self.end and time > self.times[i] + 2 * (self.ends[i] - self.times[i]) / 3


def seconds_to_cover(times, estimates, change, part=0.9):
    """How long after a step the estimate had gone `part` of the way; the whole step when it never did."""
    begin, end, before, after = change
    goal = before + part * (after - before)
    for time, estimate in zip(times, estimates):
        if begin <= time < end and (estimate >= goal if after > before else estimate <= goal):
            return time - begin
    return end - begin


def _rows(report, truth, watch):
    times, estimates = watch.vm("vm", "active_bytes")
    _, errors = watch.vm("vm", "active_error_bytes")
    settled = [(estimate - truth.at(time), error) for time, estimate, error in zip(times, estimates, errors)
               if truth.is_settled(time)]
    off = [difference for difference, _ in settled]
    rms = report.row("estimate of active memory: RMS error, % of the VM", "%", goal_ours=5)
    rms.add(100 * statistics.fmean(d * d for d in off) ** 0.5 / VM_MIB)
    report.row("estimate of active memory: bias, % of the VM", "%").add(100 * statistics.fmean(off) / VM_MIB)
    covered = report.row("published interval (95 %) holds the truth", "% of time", goal_ours=90, at_least=True)
    covered.add(100 * statistics.fmean(abs(difference) <= error for difference, error in settled))
    width = report.row("published interval, ±, % of the VM", "%")
    width.add(100 * statistics.median(error for _, error in settled) / VM_MIB)
    up = report.row("a grown working set is followed (90 % of the step)", "periods", goal_ours=2)
    down = report.row("a shrunk working set is followed (90 % of the step)", "periods")
    for change in truth.changes():
        row = up if change[3] > change[2] else down
        row.add(seconds_to_cover(times, estimates, change) / PERIOD_S)
    faults = watch.vm("vm", "sample_faults", 1)[1]
    cost = report.row("faults that sampling costs the guest, per period", "", goal_ours=100)
    cost.add((faults[-1] - faults[0]) / ((times[-1] - times[0]) / PERIOD_S))


def _figure(report, truth, watch):
    figure = plots.Figure("fig6", "Active memory: estimate against truth", NOTE)
    panel = figure.panel("OSDI'02 figure 6: the estimate tracks the fast average up and the slow one down",
                         "seconds", "MB")
    times, estimates = watch.vm("vm", "active_bytes")
    _, errors = watch.vm("vm", "active_error_bytes")
    low = [max(0, e - d) for e, d in zip(estimates, errors)]
    high = [e + d for e, d in zip(estimates, errors)]
    colours = plots.COLOURS
    panel.series("estimate ± published error", times, style="band", low=low, high=high, colour=colours[0])
    panel.series("toucher's set", [*truth.times, truth.end], [*truth.mib, truth.mib[-1]], "steps", colours[6])
    panel.series("estimate", times, estimates, colour=colours[0])
    panel.series("slow average", *watch.vm("vm", "active_slow_bytes"), "dashed", colours[2])
    panel.series("fast average", *watch.vm("vm", "active_fast_bytes"), "dashed", colours[1])
    error = figure.panel("Estimate less truth", "seconds", "MB")
    inside = [(t, e - truth.at(t)) for t, e in zip(times, estimates) if truth.at(t) is not None]
    error.series("difference", [t for t, _ in inside], [d for _, d in inside], colour=colours[0])
    error.level(0, "0")
    figure.save(report)


def run(report, arguments):
    if vms.lacking(report, "fig6"):
        return
    steps, seconds = (STEPS_MIB[:2] + STEPS_MIB[-1:], 45) if arguments.quick else (STEPS_MIB, STEP_S)
    schedule = " ".join(f"{mib}:{seconds}" for mib in steps)
    with Daemon(arguments.bin, 2048 * MIB, {"Mem.SamplePeriod": PERIOD_S}) as daemon, vms.closing([]) as guests:
        guests.append(vms.Vm("vm", VM_MIB, daemon))
        guest = guests[0].ready()
        with vms.Watch(daemon) as watch:
            guest.run(f"toucher {schedule}", seconds * len(steps) + 120)
        truth = Truth(watch.began, guest.program)
        _rows(report, truth, watch)
        _figure(report, truth, watch)


PARTS = {"fig6": run}
