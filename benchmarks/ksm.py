"""The peer of page sharing: the kernel's KSM, as fast as it goes, on guests under plain QEMU."""
import contextlib
import ctypes
import os
import time

import frames
from harness import Failed, wait_until

DIRECTORY = "/sys/kernel/mm/ksm"
SETTINGS = {"pages_to_scan": "20000", "sleep_millisecs": "0"}
SCANS_MIN = 3       # pages must be seen unchanged once, so that less finds little
SETTLED = 0.001     # the saving changes by less from one scan to the next
_PR_SET_THP_DISABLE = 41


def lacking():
    """Why KSM cannot be measured here, or None."""
    if not os.access(f"{DIRECTORY}/run", os.W_OK):
        return f"{DIRECTORY} is missing or not writable"
    if _read("run") != 0:
        return "KSM runs already; its counters would not be ours"
    if _ksmd() is None:
        return "no thread ksmd"
    return None


def small_pages():
    """To be called in the child that becomes QEMU: with huge pages a guest of that kind would occupy memory that it
    never touched, and KSM would be praised for finding it."""
    if ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0:
        os._exit(126)


def _read(name):
    with open(f"{DIRECTORY}/{name}", encoding="ascii") as file:
        text = file.read().strip()
    return int(text) if text.lstrip("-").isdigit() else text


def _write(name, value):
    with open(f"{DIRECTORY}/{name}", "w", encoding="ascii") as file:
        file.write(str(value))


def _ksmd():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", encoding="ascii") as file:
            if file.read() == "ksmd\n":
                return int(pid)
    return None


@contextlib.contextmanager
def settings():
    """KSM at full speed whenever it runs, with the priority of this program and its guests; afterwards as it was found,
    nothing merged."""
    before = {name: _read(name) for name in SETTINGS}
    ksmd = _ksmd()
    nice = os.getpriority(os.PRIO_PROCESS, ksmd)
    try:
        os.setpriority(os.PRIO_PROCESS, ksmd, os.getpriority(os.PRIO_PROCESS, 0))
        for name, value in SETTINGS.items():
            _write(name, value)
        yield
    finally:
        _write("run", 2)  # unmerges everything and stops
        _write("run", 0)
        for name, value in before.items():
            _write(name, value)
        os.setpriority(os.PRIO_PROCESS, ksmd, nice)


def _stat(vm):
    """Fields of the kernel's ksm_stat of a process."""
    with open(f"/proc/{vm.pid}/ksm_stat", encoding="ascii") as file:
        fields = (line.split() for line in file if line.startswith("ksm_"))
        return {words[0].rstrip(":"): int(words[-1]) for words in fields if words[-1].lstrip("-").isdigit()}


def _foreign(vms):
    """Part of the pages KSM knows that are not these guests'."""
    known = sum(_read(f"pages_{name}") for name in ("shared", "sharing", "unshared", "volatile"))
    return max(0.0, 1 - sum(_stat(vm)["ksm_rmap_items"] for vm in vms) / max(known, 1))


def _lists_mib(vms):
    """What KSM's record of each page takes, as the kernel counts it: what it saves less its profit. Its other lists are
    not counted."""
    stats = [_stat(vm) for vm in vms]
    saved = sum((stat["ksm_merging_pages"] + stat.get("ksm_zero_pages", 0)) * 4096 for stat in stats)
    return (saved - sum(stat["ksm_process_profit"] for stat in stats)) / frames.MIB


def scan_rate(scans, timeout_s=120):
    """Pages that ksmd looks at per CPU second, from its second scan on: the first only notes checksums."""
    ksmd = _ksmd()
    first = _read("full_scans")
    _write("run", 1)
    try:
        wait_until(lambda: _read("full_scans") >= first + 2, "KSM does not scan", timeout_s)
        scanned, cpu = _read("pages_scanned"), frames.thread_cpu_seconds(ksmd)
        wait_until(lambda: _read("full_scans") >= first + 2 + scans, "KSM does not scan", timeout_s)
        return (_read("pages_scanned") - scanned) / (frames.thread_cpu_seconds(ksmd) - cpu)
    finally:
        _write("run", 2)


def merge(vms, timeout_s=180):
    """Scans until nothing more is found. Returns a dictionary: MB before and after, pages scanned, CPU seconds, and the
    curve of (CPU seconds, MB saved); unmerged again at the end."""
    ksmd = _ksmd()
    _write("run", 2)
    wait_until(lambda: _read("pages_shared") == 0, "KSM does not unmerge", 30)
    before, free = frames.anonymous_ram_mib(vms), frames.mem_free_mib()
    scanned, scans = _read("pages_scanned"), _read("full_scans")
    cpu, began = frames.thread_cpu_seconds(ksmd), time.monotonic()
    curve, last_scan, at_last_scan = [(0.0, 0.0)], scans, 0
    _write("run", 1)
    try:
        while True:
            time.sleep(0.02)
            sharing, scan = _read("pages_sharing"), _read("full_scans")
            curve.append((frames.thread_cpu_seconds(ksmd) - cpu, sharing * 4096 / frames.MIB))
            if time.monotonic() - began > timeout_s:
                raise Failed(f"KSM does not settle in {timeout_s} s")
            if scan == last_scan:
                continue
            if scan - scans >= SCANS_MIN and abs(sharing - at_last_scan) <= SETTLED * sharing:
                break
            last_scan, at_last_scan = scan, sharing
        seconds = time.monotonic() - began
        scanned = _read("pages_scanned") - scanned
        spent = frames.thread_cpu_seconds(ksmd) - cpu
        _write("run", 0)
        return {"before": before, "after": frames.anonymous_ram_mib(vms) + _lists_mib(vms), "scanned": scanned, "cpu": spent,
                "seconds": seconds, "curve": curve, "free": frames.mem_free_mib() - free, "foreign": _foreign(vms)}
    finally:
        _write("run", 2)
