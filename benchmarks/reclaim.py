"""How fast memory comes back from idle guests: Ballast, Proxmox's rule, and one request for everything."""
import time

import plots
import vms
import workloads
from harness import MIB, Daemon, Failed, wait_until

VM_MIB = 512
TAKEN_MIB = 256  # of each guest
CACHE_MIB = 380  # of each guest: clean page cache
PROXMOX_STEP_MIB, PROXMOX_PERIOD_S = 100, 10  # its rule: at most so much per VM, every so often
TIMEOUT_S = 180
NOTE = (f"Idle guests of {VM_MIB} MB, full of clean page cache; {TAKEN_MIB} MB taken from each. Peers: plain QEMU with the "
        "same balloon device, its memory as the kernel counts it.\nProxmox's rule: at most 100 MB per VM every 10 s, the "
        "first at once. Ballast: each VM is given a limit.")


def _curve(who, held, goal_mib, act):
    """Calls act(seconds since the start) until held() has fallen by the goal; returns [(seconds, MB given back)]."""
    before, began = held(), time.monotonic()
    curve = [(0.0, 0.0)]
    while curve[-1][1] < 0.98 * goal_mib:  # what guests touch meanwhile for themselves comes on top
        since = time.monotonic() - began
        if since > TIMEOUT_S:
            raise Failed(f"{who}: only {curve[-1][1]:.0f} of {goal_mib} MB came back in {TIMEOUT_S} s")
        act(since)
        curve.append((time.monotonic() - began, (before - held()) / MIB))
        time.sleep(0.1)
    return curve


class _Peers:
    """Guests under plain QEMU, whose balloons we drive."""

    def __init__(self, count):
        self.vms = [vms.Vm(f"peer{i}", VM_MIB, disk_mib=VM_MIB) for i in range(count)]

    def held(self):
        return sum(vm.ram_bytes() for vm in self.vms)

    def take(self, rule):
        asked = {vm: 0 for vm in self.vms}
        # A balloon takes the pages first that the guest never touched: they give nothing back.
        wanted = {vm: TAKEN_MIB + max(0, VM_MIB - vm.ram_bytes() // MIB) for vm in self.vms}

        def at_once(_):
            for vm in self.vms:
                if asked[vm] == 0:
                    asked[vm] = wanted[vm]
                    vm.ask_balloon(wanted[vm])

        def proxmox(since):
            rounds = int(since / PROXMOX_PERIOD_S) + 1
            for vm in self.vms:
                size = min(wanted[vm], rounds * PROXMOX_STEP_MIB)
                if size != asked[vm]:
                    asked[vm] = size
                    vm.ask_balloon(size)
        return _curve(rule, self.held, TAKEN_MIB * len(self.vms), proxmox if rule == "Proxmox's rule" else at_once)

    def give_back(self):
        for vm in self.vms:
            vm.ask_balloon(0)
        for vm in self.vms:
            wait_until(lambda vm=vm: vm.balloon_mib() < 1, f"the balloon of {vm.name} does not shrink", 60)


class _Ours:
    """Guests under Ballast."""

    def __init__(self, daemon, count):
        self.daemon = daemon
        self.vms = [vms.Vm(f"vm{i}", VM_MIB, daemon, disk_mib=VM_MIB) for i in range(count)]

    def held(self):
        return sum(vm["consumed_bytes"] for vm in self.daemon.host()["vms"])

    def take(self):
        is_limited = False

        def limit(_):
            nonlocal is_limited
            if is_limited:
                return
            is_limited = True
            for vm in self.daemon.host()["vms"]:
                self.daemon.must("set", vm=vm["name"], limit_bytes=vm["resident_bytes"] // MIB * MIB - TAKEN_MIB * MIB)
        return _curve("Ballast", self.held, TAKEN_MIB * len(self.vms), limit)

    def paged_mib(self):
        return sum(vm["zips"] + vm["swap_outs"] for vm in self.daemon.host()["vms"]) * 4096 / MIB

    def give_back(self):
        for vm in self.vms:
            self.daemon.must("set", vm=vm.name, limit_bytes=None)


def _fill(guests):
    for vm in guests:
        vm.run("cat /run/disk/cold > /dev/null", 300)
    time.sleep(3)  # until nobody works and free pages are reported


def _figure(report, curves, goal_mib):
    figure = plots.Figure("reclaim", f"{goal_mib} MB from idle guests", NOTE)
    panel = figure.panel("Memory given back (first repetition)", "seconds", "MB")
    for name, curve in curves.items():
        panel.series(name, [t for t, _ in curve], [mb for _, mb in curve])
    panel.level(goal_mib, "wanted")
    figure.save(report)


def run(report, arguments):
    if vms.lacking(report, "reclaim"):
        return
    count, repetitions = (2, 1) if arguments.quick else (4, 3)
    goal_mib = count * TAKEN_MIB
    proxmox = report.row(f"{goal_mib} MB from {count} idle guests, vs Proxmox's rule", "s", goal_ratio=0.5)
    at_once = report.row(f"{goal_mib} MB from {count} idle guests, vs one request", "s", goal_ratio=1.5)
    paged = report.row("paged out meanwhile", "MB")
    curves = {}
    with Daemon(arguments.bin, count * (VM_MIB + 64) * MIB + 512 * MIB, vms.WITHOUT_SHARING) as daemon, vms.closing([]) as guests:
        ours, peers = _Ours(daemon, count), _Peers(count)
        guests += ours.vms + peers.vms
        for vm in guests:
            workloads.fill_page_cache(vm.ready(), CACHE_MIB)
        for _ in range(repetitions):
            measured = {}
            for name, host, take in (("Ballast", ours, ours.take),
                                     ("Proxmox's rule", peers, lambda: peers.take("Proxmox's rule")),
                                     ("one request", peers, lambda: peers.take("one request"))):
                _fill(host.vms)
                before = ours.paged_mib()
                measured[name] = take()
                if host is ours:
                    paged.add(ours.paged_mib() - before)
                host.give_back()
            seconds = {name: curve[-1][0] for name, curve in measured.items()}
            proxmox.add(seconds["Ballast"], seconds["Proxmox's rule"])
            at_once.add(seconds["Ballast"], seconds["one request"])
            curves = curves or measured
        complaints = [line for vm in guests for line in vm.complaints()]
        if complaints:
            report.fail("reclaim", f"a guest suffered: {complaints[:3]}")
    _figure(report, curves, goal_mib)


PARTS = {"reclaim": run}
