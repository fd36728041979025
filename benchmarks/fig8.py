"""Figure 8: five servers on a host that is overcommitted by 60 %: boot storm, steady load, a burst in one of them."""
import collections

import plots
import vms
import workloads
from harness import MIB, Daemon, wait_until

Server = collections.namedtuple("Server", "name mib load_mib pause_us cache_mib")
# The paper's servers and sizes. Each runs a verifier on `load_mib`, which rests `pause_us` after every 16 pages, beside
# a page cache of `cache_mib`; SQL waits for its query.
SERVERS = [Server("exchange", 256, 100, 2000, 80), Server("ex-client", 256, 50, 20000, 60),
           Server("citrix", 320, 140, 2000, 100), Server("cx-client", 320, 70, 20000, 80),
           Server("sql", 320, 40, 200000, 140)]
BURST_MIB = 150
BUDGET_MIB = 900
STATES = ["low", "hard", "soft", "clear", "high"]
OPTIONS = {"Mem.SamplePeriod": 10, "Mem.BalancePeriod": 5}
PROMISED_MIB = sum(server.mib for server in SERVERS)
NOTE = (f"Five guests of {PROMISED_MIB} MB in all (sizes of the paper) on {BUDGET_MIB} MB, min = half, shares by size; they "
        "boot at once and zero all their memory (init_on_free=1).\nVerifiers instead of Windows servers; minutes instead of "
        "an hour and a half: sampling period 10 s, targets every 5 s. No page sharing yet.")


class _Host:
    """The guests and what they are told to do."""

    def __init__(self, daemon, guests):
        self.vms = {}
        for server in SERVERS:
            vm = vms.Vm(server.name, server.mib, daemon, min_mib=server.mib // 2, disk_mib=server.mib,
                        kernel="init_on_free=1")
            guests.append(vm)
            self.vms[server.name] = vm

    def ready(self):
        for vm in self.vms.values():
            vm.ready(300)

    def load(self, mib_per_s):
        for seed, server in enumerate(SERVERS):
            vm = self.vms[server.name]
            vm.start(f"verifier --mib {server.load_mib} --pause-us {server.pause_us} --seed {seed + 1}")
            workloads.start_filling_page_cache(vm, server.cache_mib, mib_per_s)
        for vm in self.vms.values():
            wait_until(lambda vm=vm: "CACHE-FILLED" in vm.program.lines, f"{vm.name} is slow to fill its cache", 300)

    def burst(self, watch, seconds):
        """SQL's query; returns (begin, end, seconds until it had its memory)."""
        program = self.vms["sql"].program
        begin, first = watch.now(), len(program.lines)
        pages = BURST_MIB * 256
        self.vms["sql"].start(f"verifier --mib {BURST_MIB} --seed 99 --seconds {seconds} --pause-us 500")

        def filled():
            return next((time for time, line in zip(program.times[first:], program.lines[first:])
                         if f" filled={pages} " in line), None)
        at = wait_until(filled, "SQL does not get its memory", 300)
        watch.wait(seconds)
        return begin, watch.now(), at - watch.began - begin

    def finish(self):
        """Ends all verifiers, which check every page once more; returns (errors, complaints)."""
        errors, complaints = 0, []
        for vm in self.vms.values():
            if not vm.is_alive():
                complaints.append(f"{vm.name} ended: {vm.program.lines[-3:]}")
                continue
            running = 2 if vm.name == "sql" else 1
            vm.run("killall verifier || true")
            done = wait_until(lambda: len(found := vm.program.fields("BALLAST-DONE")) == running and found,
                              f"the verifiers of {vm.name} do not end", 300)
            errors += sum(line["errors"] for line in done)
            if any(line["complete"] != 1 for line in done):
                complaints.append(f"{vm.name}: not all pages were checked")
            complaints += vm.complaints()
        return int(errors), complaints


def _lacked_of_min(watch):
    """The most that the policy kept from a VM of its min, at any time, in bytes."""
    most = 0
    for _, _, reports in watch.rows:
        for vm in reports.values():
            below = vm["min_bytes"] - vm["target_bytes"]
            above_balloon = vm["balloon_bytes"] - (vm["configured_bytes"] - vm["min_bytes"])
            most = max(most, below, above_balloon)
    return most


def _total(watch, field):
    times = [time for time, _, _ in watch.rows]
    return times, [sum(vm[field] for vm in reports.values()) / MIB for _, _, reports in watch.rows]


def _rows(report, watch, spans, outcome):
    errors, complaints = outcome
    report.row("pages found damaged", "", goal_ours=0).add(errors)
    report.row("guests killed, panicked or ended", "", goal_ours=0).add(len(complaints))
    for complaint in complaints:
        report.fail("fig8: fig8", complaint)
    report.row("most that a VM was kept below its min", "MB", goal_ours=0).add(_lacked_of_min(watch) / MIB)
    times, swapped = _total(watch, "swapped_bytes")
    booted = spans["boot"][1]
    peak = report.row("boot storm: swapped at most (paper: 35)", "MB", goal_ours=35)
    peak.add(max(s for t, s in zip(times, swapped) if t <= booted))
    zero = report.row("boot storm: zero pages that take no memory (paper: 325, shared)", "MB", goal_ours=325, at_least=True)
    zero.add(max(_total(watch, "zero_bytes")[1]))
    peak = report.row("swapped at most, afterwards (paper: 20)", "MB", goal_ours=20)
    peak.add(max(s for t, s in zip(times, swapped) if t > booted))
    report.row("compressed at most", "MB").add(max(_total(watch, "compressed_bytes")[1]))
    states = watch.states()[1]
    calm = report.row("time in the states high, clear and soft", "%", goal_ours=90, at_least=True)
    calm.add(100 * sum(state in ("high", "clear", "soft") for state in states) / len(states))
    steady = [mb for t, mb in zip(*watch.vm("sql", "target_bytes")) if t <= spans["burst"][0]][-1]
    report.row("SQL idle: its target (min 160)", "MB").add(steady)
    report.row(f"SQL's query: {BURST_MIB} MB more", "s").add(spans["burst"][2])
    report.row("promised by memory", "%").add(100 * PROMISED_MIB / BUDGET_MIB)


def _figure(report, watch, spans):
    figure = plots.Figure("fig8", "Five servers, memory overcommitted by 60 %", NOTE)
    panel = figure.panel("OSDI'02 figure 8: allocations", "seconds", "MB")
    for server in SERVERS:
        panel.series(server.name, *watch.vm(server.name, "consumed_bytes"))
    for name, span in spans.items():
        panel.span(span[0], span[1], name)
    panel = figure.panel("SQL: idles at its min, grows fast on a query", "seconds", "MB")
    for label, field, style in (("consumed", "consumed_bytes", "line"), ("target", "target_bytes", "dashed"),
                                ("balloon", "balloon_bytes", "line"), ("active", "active_bytes", "dotted")):
        panel.series(label, *watch.vm("sql", field), style)
    panel.level(160, "min; the paper's SQL idles at 160")
    panel = figure.panel("All five: where memory comes from", "seconds", "MB")
    for label, field in (("balloons", "balloon_bytes"), ("compressed", "compressed_bytes"),
                         ("swapped", "swapped_bytes"), ("known zero", "zero_bytes")):
        panel.series(label, *_total(watch, field))
    panel.level(35, "paper: 35 MB swapped at most")
    panel = figure.panel("State of the host", "seconds", "", STATES)
    times, states = watch.states()
    panel.series("state", times, [STATES.index(state) for state in states], "steps")
    figure.save(report)


def run(report, arguments):
    if vms.lacking(report, "fig8"):
        return
    steady_s, burst_s, after_s = (40, 20, 15) if arguments.quick else (150, 60, 60)
    with Daemon(arguments.bin, BUDGET_MIB * MIB, OPTIONS) as daemon, vms.closing([]) as guests:
        with vms.Watch(daemon) as watch:
            host = _Host(daemon, guests)
            host.ready()
            spans = {"boot": (0, watch.now())}
            host.load(8 if arguments.quick else 4)
            spans["load"] = (spans["boot"][1], watch.now())
            watch.wait(steady_s)
            spans["burst"] = host.burst(watch, burst_s)
            watch.wait(after_s)
            outcome = host.finish()
        _rows(report, watch, spans, outcome)
        _figure(report, watch, spans)


PARTS = {"fig8": run}
