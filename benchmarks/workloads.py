"""Loads in a guest whose speed depends on its memory, and memory that is idle.

All use the guest's second disk, which reads at a few MB/s: TCG too is ten times slower than a processor, and what does
not fit into memory must cost time.
"""
import re

from harness import Failed

DISK_READ_MIB_PER_S = 4
DISK = {"disk_mib": 768, "disk_read_mib_per_s": DISK_READ_MIB_PER_S}

# The paper runs 40 clients. One holds 24 MB by now, so 12 need what is a little too much for 256 MB.
DBENCH_CLIENTS = 12
_DBENCH_WARM_UP_S = 10  # on top of dbench's own, a fifth of its time

READER_FILE_MIB = 200  # just fits into the page cache of a guest of 256 MB
READER_THINK_US = 500
_READER_WARM_UP_S = 8


def prepare(vm):
    """Mounts the disk and makes the reader's file, of content that cannot be made smaller."""
    where = vm.mount_disk()
    vm.run(f"mkdir {where}/dbench; dd if=/dev/urandom of={where}/file bs=1M count={READER_FILE_MIB} && sync", 300)


def dbench(vm, seconds):
    """MB/s of dbench after its warm-up."""
    lines = vm.run(f"dbench -c /usr/share/dbench/client.txt -D /run/disk/dbench -t {_DBENCH_WARM_UP_S + seconds}"
                   f" {DBENCH_CLIENTS}", 4 * (_DBENCH_WARM_UP_S + seconds) + 60)
    told = []  # (seconds, MB so far): a line tells the mean since the end of dbench's own warm-up
    for line in lines:
        if match := re.match(r"\s*\d+\s+\d+\s+([\d.]+) MB/sec\s+execute\s+(\d+) sec", line):
            told.append((int(match.group(2)), float(match.group(1)) * int(match.group(2))))
    told = [point for point in told if point[0] >= _DBENCH_WARM_UP_S]
    if len(told) < 2:
        raise Failed(f"dbench does not tell its throughput: {lines[-4:]}")
    return (told[-1][1] - told[0][1]) / (told[-1][0] - told[0][0])


def reader_command(seconds):
    return f"reader /run/disk/file {READER_THINK_US} {seconds}"


def reader_rates(program, since=0):
    """[(when, MB/s)] of each second; from the program's line number `since` on."""
    return [(time, float(line.split("mb=")[1])) for time, line in zip(program.times[since:], program.lines[since:])
            if line.startswith("READER t=")]


def reader(vm, seconds):
    """MB/s of random reads after a warm-up."""
    first = len(vm.program.lines)
    vm.run(reader_command(_READER_WARM_UP_S + seconds), 4 * (_READER_WARM_UP_S + seconds) + 60)
    rates = reader_rates(vm.program, first)[_READER_WARM_UP_S:]
    return sum(rate for _, rate in rates) / len(rates)


def fill_page_cache(vm, mib):
    """Clean pages of a file that nobody reads again."""
    where = vm.mount_disk()
    vm.run(f"dd if=/dev/urandom of={where}/cold bs=1M count={mib} && sync && cat {where}/cold > /dev/null", 300)


def start_filling_page_cache(vm, mib, mib_per_s):
    """The same in the background, so that memory is asked for no faster than servers do; says CACHE-FILLED."""
    where = vm.mount_disk()
    vm.start(f"for i in $(seq {mib // mib_per_s}); do dd if=/dev/urandom bs=1M count={mib_per_s} 2>/dev/null"
             f" >> {where}/cold; sleep 1; done; echo CACHE-FILLED")
