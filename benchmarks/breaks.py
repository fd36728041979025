"""Processes in QEMU's place that write to pages they share, and time each write.

As a program (started with the agent preloaded): maps a memory file as QEMU maps guest RAM, fills it with pages that are
equal in every such process, none equal to another of its own, then obeys lines on stdin:
  write FIRST COUNT STRIDE   one word of each page FIRST, FIRST + STRIDE, … of COUNT, in random order if STRIDE > 1
  check                      how many pages are not what was written
With "mergeable" behind the number of pages it has anonymous memory that KSM may merge instead.
"""
import json
import mmap
import os
import random
import sys
import time

PAGE = 4096
STRIDE = 32  # of random writes: no page is the neighbour of one that was written before


# ---- The process ----------------------------------------------------------------------------------------------------

def _content(page):
    return (page + 1).to_bytes(8, "little") * (PAGE // 8)


class _Memory:
    def __init__(self, pages, mergeable):
        self.pages, self.written = pages, set()
        if mergeable:
            self.bytes = mmap.mmap(-1, pages * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            self.bytes.madvise(mmap.MADV_NOHUGEPAGE)
            self.bytes.madvise(mmap.MADV_MERGEABLE)
        else:
            descriptor = os.memfd_create("writer-ram")
            os.ftruncate(descriptor, pages * PAGE)
            self.bytes = mmap.mmap(descriptor, pages * PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        for page in range(pages):
            self.bytes[page * PAGE:(page + 1) * PAGE] = _content(page)

    def write(self, first, count, stride):
        pages = list(range(first, first + count * stride, stride))
        if stride > 1:
            random.Random(first).shuffle(pages)
        memory, clock, spent = self.bytes, time.perf_counter_ns, []
        began = clock()
        for page in pages:
            at = page * PAGE
            before = clock()
            memory[at] = 0xee
            spent.append(clock() - before)
        ended = clock()
        self.written.update(pages)
        spent.sort()
        return {"began_ns": began, "ended_ns": ended, "mean_us": sum(spent) / count / 1000,
                "p50_us": spent[count // 2] / 1000, "p90_us": spent[count * 9 // 10] / 1000}

    def check(self):
        errors = 0
        for page in range(self.pages):
            expected = bytearray(_content(page))
            if page in self.written:
                expected[0] = 0xee
            errors += self.bytes[page * PAGE:(page + 1) * PAGE] != expected
        return {"errors": errors}


def _main():
    memory = _Memory(int(sys.argv[1]), "mergeable" in sys.argv[2:])
    print("FILLED", flush=True)
    for line in sys.stdin:
        words = line.split()
        answer = memory.write(*map(int, words[1:])) if words[0] == "write" else memory.check()
        print("ANSWER " + json.dumps(answer), flush=True)


if __name__ == "__main__":
    _main()
    sys.exit(0)

# ---- The benchmark's side -------------------------------------------------------------------------------------------

import harness  # noqa: E402
from harness import MIB, Daemon, Program, wait_until  # noqa: E402

OPTIONS = {"Mem.ShareForceSalting": 0, "Mem.ShareScanTime": 1, "Mem.ShareScanGHz": 1000, "Mem.ShareRateMax": 20000}


class Writers:
    """That many VMs of one group. Half of each one's pages is for random writes, a quarter for writes in order by one
    VM, a quarter for writes by all; each repetition takes pages that are still shared."""

    def __init__(self, bin_dir, count, mib, repetitions):
        self._pages = mib * MIB // PAGE
        self._repetitions = repetitions
        self.daemon = Daemon(bin_dir, 2 * count * mib * MIB + 256 * MIB, OPTIONS)
        self._programs = []
        try:
            for i in range(count):
                environment = harness.agent_environment(self.daemon, f"writer{i}", mib * MIB)
                command = [sys.executable, os.path.abspath(__file__), str(self._pages)]
                self._programs.append(Program(command, environment))
            for program in self._programs:
                program.expect("FILLED", 120)
        except BaseException:
            self.close()
            raise

    def _reports(self):
        return self.daemon.host()["vms"]

    def _broken(self):
        return sum(vm["share_breaks"] for vm in self._reports())

    def share(self):
        """Until nearly all of all their pages is shared."""
        def is_shared():
            return sum(vm["shared_bytes"] for vm in self._reports()) >= 0.98 * len(self._programs) * self._pages * PAGE
        wait_until(is_shared, "equal pages are not shared", 150)

    def _ask(self, programs, *words):
        for program in programs:
            program.send(" ".join(map(str, words)))
        return [json.loads(program.expect("ANSWER ", 120)) for program in programs]

    def random(self, repetition):
        count = self._pages // 2 // STRIDE // self._repetitions
        before = self._broken()
        answer = self._ask(self._programs[:1], "write", repetition * count * STRIDE, count, STRIDE)[0]
        wait_until(lambda: self._broken() - before >= 0.9 * count, "the pages written were not shared")
        return answer

    def _quarter(self, which, repetition):
        count = self._pages // 4 // self._repetitions
        return self._pages // 4 * which + repetition * count, count

    def walk_alone(self, repetition):
        return self._ask(self._programs[:1], "write", *self._quarter(2, repetition), 1)[0]

    def walk_together(self, repetition):
        """Shared pages that all of them write per second, from the first one's beginning to the last one's end."""
        first, count = self._quarter(3, repetition)
        before = self._broken()
        answers = self._ask(self._programs, "write", first, count, 1)
        time.sleep(0.2)  # reports are a little late
        # Pages that were let pass ahead of a writer who did not come are no breaks.
        pages = min(self._broken() - before, count * len(self._programs))
        began, ended = min(answer["began_ns"] for answer in answers), max(answer["ended_ns"] for answer in answers)
        return pages / (ended - began) * 1e9

    def errors(self):
        return sum(answer["errors"] for answer in self._ask(self._programs, "check"))

    def close(self):
        for program in self._programs:
            program.kill()
        self.daemon.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
