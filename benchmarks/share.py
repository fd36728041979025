"""Page sharing against the kernel's KSM: memory saved, what finding it costs; and writes to shared pages."""
import time

import breaks
import frames
import guests
import harness
import ksm
import scans
import vms
from harness import MIB, Daemon, Failed

VM_MIB = 256
# One group; a pass takes a minute. Faster first looks find less of what boots together: who is asked to donate cannot
# follow.
OPTIONS = {"Mem.ShareForceSalting": 0, "Mem.ShareScanTime": 1, "Mem.ShareScanGHz": 1000, "Mem.ShareRateMax": 0}
RATE_MAX = 20000
HEAD_START_S = 3  # from group to group, so that first passes do not disturb each other
TIMEOUT_S = 100
LOADS = {"idle": None, "loaded": guests.LOAD}
COUNTS = {"idle": [1, 2, 4, 8], "loaded": [1, 2, 4]}


class _Group:
    """Guests under a daemon of their own, and what sharing did to them."""

    def __init__(self, bin_dir, count, things):
        self.daemon = Daemon(bin_dir, count * (VM_MIB + 64) * MIB + 256 * MIB, OPTIONS)
        things.append(self.daemon)
        self.vms = [vms.Vm(f"vm{i}", VM_MIB, self.daemon) for i in range(count)]
        things += self.vms
        self.curve = []

    def switch_on(self):
        self.before = frames.managed_mib(self.daemon, self.vms)
        reports = self.daemon.host()["vms"]
        self._touched_pages = sum(vm["resident_bytes"] for vm in reports) // 4096
        self._scanned = sum(vm["share_scanned"] for vm in reports)
        self._cpu = frames.sharing_cpu_seconds(self.daemon, self.vms)
        self.daemon.must("options", name="Mem.ShareRateMax", value=str(RATE_MAX))
        self.began = time.monotonic()

    def look(self):
        """Notes (CPU seconds, MB saved, pages scanned) so far; true when every page was looked at twice."""
        host = self.daemon.host()
        saved = sum(vm["zero_bytes"] for vm in host["vms"])
        saved += sum(group["shared_bytes"] - group["common_bytes"] for group in host["share_groups"])
        scanned = sum(vm["share_scanned"] for vm in host["vms"]) - self._scanned
        self.curve.append((frames.sharing_cpu_seconds(self.daemon, self.vms) - self._cpu, saved / MIB, scanned))
        return scanned >= 2 * self._touched_pages

    def result(self):
        return {"before": self.before, "after": frames.managed_mib(self.daemon, self.vms), "curve": self.curve,
                "cpu": self.curve[-1][0], "scanned": self.curve[-1][2]}


def _ready(guests_, load):
    for vm in guests_:
        vm.ready(300)
    if load:
        for vm in guests_:
            vm.program.send(load)
        for vm in guests_:
            vm.program.expect("LOADED", 400)
    time.sleep(3)  # until nobody works and free pages are reported


def _converge(groups):
    """Switches sharing on in one group after the other and waits for all."""
    on, waiting = [], list(groups)
    deadline = time.monotonic() + TIMEOUT_S + HEAD_START_S * len(groups)
    while waiting or on:
        if waiting and (not on or time.monotonic() - on[-1].began > HEAD_START_S):
            on.append(waiting.pop(0))
            on[-1].switch_on()
        for group in list(on):
            if group.look() and (group is not on[-1] or not waiting):
                on.remove(group)
        if time.monotonic() > deadline:
            raise Failed(f"no end of sharing in {TIMEOUT_S} s")
        time.sleep(0.1)


def _ours(bin_dir, counts, load):
    """({N: result}, MB that MemFree grew by)."""
    with vms.closing([]) as things:
        groups = {count: _Group(bin_dir, count, things) for count in counts}
        _ready([vm for group in groups.values() for vm in group.vms], load)
        free = frames.mem_free_mib()
        _converge(groups.values())
        free = frames.mem_free_mib() - free
        return {count: group.result() for count, group in groups.items()}, free


def _peers(counts, load):
    """The same for KSM: first all guests, then ever fewer of them."""
    measured, free = {}, 0
    with ksm.settings(), vms.closing([]) as things:
        things += [vms.Vm(f"peer{i}", VM_MIB, prepare=ksm.small_pages) for i in range(max(counts))]
        _ready(things, load)
        for count in sorted(counts, reverse=True):
            while len(things) > count:
                things.pop().close()
            measured[count] = ksm.merge(things)
            free += measured[count]["free"]
    return measured, free


def _cpu_until(curve, part):
    """CPU seconds until that part of the final saving."""
    wanted = part * curve[-1][1]
    return next(point[0] for point in curve if point[1] >= wanted)


class _Rows:
    def __init__(self, report):
        self.report = report
        self.saved = {}
        self.speed = report.row("pages scanned per CPU-second, vs ksmd", "1/s", goal_ratio=3, at_least=True)
        self.first = report.row("pages scanned per CPU-second up to 90 % of the saving, vs ksmd", "1/s")
        self.soon = report.row("CPU seconds to 90 % of the saving, vs ksmd", "s", goal_ratio=1 / 3)
        self.soon.goal = "<= 1/3 x"

    def add(self, load, count, ours, peer):
        what = f"{load}, {count} guest{'s' if count > 1 else ''}"
        row = self.report.row(f"{what}: saved, vs KSM", "MB", goal_ratio=1, at_least=True)
        row.add(ours["before"] - ours["after"], peer["before"] - peer["after"])
        # Touching less to begin with is not sharing, but what is left is what counts in the end.
        self.report.row(f"{what}: left of it, vs KSM", "MB").add(ours["after"], peer["after"])
        self.speed.add(ours["scanned"] / ours["cpu"], peer["scanned"] / peer["cpu"])
        soon = _cpu_until(ours["curve"], 0.9)
        first = next(point for point in ours["curve"] if point[0] >= soon)
        self.first.add(first[2] / first[0], peer["scanned"] / peer["cpu"])
        self.soon.add(soon, _cpu_until(peer["curve"], 0.9))
        if peer["foreign"] > 0.05:
            self.report.note(f"share: {what}: {100 * peer['foreign']:.0f} % of what KSM looked at was not these guests'")


def saved(report, arguments):
    """Memory that the same guests give back, by us and by KSM, and what finding it costs."""
    if vms.lacking(report, "share: saved"):
        return
    why = ksm.lacking()
    if why:
        report.skip("share: saved", why)
        return
    rows = _Rows(report)
    for load, command in LOADS.items():
        counts = COUNTS[load][:2] if arguments.quick else COUNTS[load]
        ours, our_free = _ours(arguments.bin, counts, command)
        peers, peer_free = _peers(counts, command)
        for count in counts:
            rows.add(load, count, ours[count], peers[count])
        report.note(f"share: {load}: MemFree grew by {our_free:.0f} MB, with KSM {peer_free:.0f} MB, all guests together; "
                    "what else runs here is in it")
    report.note("share: ours: frames, private copies, tables, page tables and mappings all count as consumed, and the agents' "
                "threads as CPU; KSM's: frames, and its record of each page, as the kernel's ksm_process_profit has it")


def scanned(report, arguments):
    """Looking at pages of which no two are equal."""
    why = harness.missing_ability(kvm=False) or ksm.lacking()
    if why:
        report.skip("share: scanned", why)
        return
    row = report.row("different pages looked at per CPU-second, vs ksmd", "1/s", goal_ratio=3, at_least=True)
    mib = 64 if arguments.quick else 256
    for _ in range(2 if arguments.quick else 5):
        row.add(scans.ours(arguments.bin, mib), scans.peer(mib))


def broken(report, arguments):
    """Writes to shared pages, as a process at native speed feels them."""
    why = harness.missing_ability(kvm=False)
    if why:
        report.skip("share: break", why)
        return
    single = report.row("write to a shared page, random, p50", "us", goal_ours=25)
    tail = report.row("write to a shared page, random, p90", "us")
    walk = report.row("writes to shared pages in order, mean", "us/page")
    rate = report.row("breaks of four VMs that write in order", "1/s", goal_ours=50000, at_least=True)
    mib = 32 if arguments.quick else 96
    repetitions = 2 if arguments.quick else 5
    with breaks.Writers(arguments.bin, 4, mib, repetitions) as writers:
        writers.share()
        for repetition in range(repetitions):
            alone = writers.random(repetition)
            single.add(alone["p50_us"])
            tail.add(alone["p90_us"])
            walk.add(writers.walk_alone(repetition)["mean_us"])
            rate.add(writers.walk_together(repetition))
        errors = writers.errors()
        if errors:
            raise Failed(f"{errors} pages are not what was written")


PARTS = {"saved": saved, "scanned": scanned, "break": broken}
