"""Host memory that VMs consume, as the kernel counts it page by page.

MemFree would count what everybody else on the machine does, too; it is only a check here.
"""
import os
import re

from harness import MIB

_KIB = 1024
_VMA_BYTES = 256  # what the kernel keeps for each mapping, about


def mem_free_mib():
    """Free memory of the host; what the page cache grew by meanwhile is nobody's."""
    with open("/proc/meminfo", encoding="ascii") as file:
        found = {line.split(":")[0]: int(line.split()[1]) for line in file}
    return (found["MemFree"] + found["Buffers"] + found["Cached"] - found["Shmem"]) / _KIB


def managed_mib(daemon, vms):
    """What VMs under Ballast consume with all that keeps them: RAM, share pool, private copies of shared pages, the
    daemon's tables and heap, page tables and mappings."""
    files, other = {}, _status_kib(daemon.process.pid, "RssAnon") * _KIB
    for pid in [daemon.process.pid, *(vm.pid for vm in vms)]:
        files.update(_memory_files(pid))
    for vm in vms:
        copies, mappings = _pool_mappings(vm.pid)
        other += copies + mappings * _VMA_BYTES + _status_kib(vm.pid, "VmPTE") * _KIB
    return (sum(files.values()) + other) / MIB


def _memory_files(pid):
    """{(device, inode): bytes}: files in memory that a process holds."""
    found = {}
    directory = f"/proc/{pid}/fd"
    for fd in os.listdir(directory):
        try:
            if not os.readlink(f"{directory}/{fd}").startswith("/memfd:"):
                continue
            info = os.stat(f"{directory}/{fd}")
        except OSError:  # closed meanwhile
            continue
        found[info.st_dev, info.st_ino] = info.st_blocks * 512
    return found


def _pool_mappings(pid):
    """Bytes that the kernel copied for writers of shared pages, and how many mappings the process has."""
    copies, mappings, is_pool = 0, 0, False
    with open(f"/proc/{pid}/smaps", encoding="ascii", errors="replace") as file:
        for line in file:
            if re.match(r"[0-9a-f]+-", line):
                is_pool = "memfd:ballast-pool" in line
                mappings += 1
            elif is_pool and line.startswith("Anonymous:"):
                copies += int(line.split()[1]) * _KIB
    return copies, mappings


def _status_kib(pid, field):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field + ":"))


def anonymous_ram_mib(vms):
    """What the RAM of guests under plain QEMU consumes: a frame that several map is counted once, in parts."""
    return sum(_pss_of_ram(vm) for vm in vms) / MIB


def _pss_of_ram(vm):
    largest, is_ram = 0, False
    with open(f"/proc/{vm.pid}/smaps", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("Size:"):
                is_ram = int(line.split()[1]) == vm.memory_mib * 1024
            elif is_ram and line.startswith("Pss:"):
                largest = max(largest, int(line.split()[1]) * _KIB)
    return largest


def thread_cpu_seconds(pid, name=None):
    """CPU time of a process's threads of that name, to the nanosecond; None: of all."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/comm", encoding="ascii") as file:
                if name is not None and file.read().strip() != name:
                    continue
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[0])
        except OSError:  # it ended
            continue
    return total / 1e9


def sharing_cpu_seconds(daemon, vms):
    """All threads of the daemon, and those in QEMU that map frames for it."""
    return daemon.cpu_seconds() + sum(thread_cpu_seconds(vm.pid, "ballast-agent") for vm in vms)
