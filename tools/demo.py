#!/usr/bin/env python3
"""Runs the main job: four verifying guests of 256 MB each on 512 MB of machine memory.

Builds what is missing, starts ballastd and the guests, shows a live table, prints a summary and cleans up. Where
userfaultfd, root or QEMU is missing, the same demo runs on the simulated machine.

Exit status: 0 all good; 1 a checksum error, a guest that died, or a failure; 130 interrupted.
"""
import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import demo_view as view
from demo_host import Daemon, Guest, end_all
from demo_prepare import (Failure, build_guest, build_programs, install_packages, say,
                          why_no_real_guests)

FILL_SECONDS = 60          # the most that filling may add to --seconds
REDRAW_SECONDS = 0.5       # on a terminal
LINE_SECONDS = 5           # without one
PAUSE_SECONDS = 0.1


class Stopped(Exception):
    """A signal asked us to end."""


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="./demo", formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__.split("\n\n")[0],
        epilog="examples:\n  ./demo\n  ./demo --seconds 300 --kill-daemon-every 10\n"
               "  ./demo --vms 6 --memory 768M --json summary.json")
    parser.add_argument("--seconds", type=positive, default=60, metavar="N",
                        help="how long, once all guests have filled their memory (default: 60); "
                             "at most 60 more in all")
    parser.add_argument("--json", metavar="FILE", help="write the summary there")
    parser.add_argument("--kill-daemon-every", type=positive, metavar="S",
                        help="kill the daemon with SIGKILL every S seconds, and start it again")
    parser.add_argument("--vms", type=positive, default=4, metavar="N", help="guests (default: 4)")
    parser.add_argument("--memory", type=memory_size, default="512M", metavar="SIZE",
                        help="the machine memory they share (default: 512M)")
    parser.add_argument("--dir", default="/var/tmp", metavar="DIR",
                        help="where the swap files go for that time; on a disk (default: /var/tmp)")
    parser.add_argument("--bin", metavar="DIR", help="take the programs from there, build nothing")
    parser.add_argument("--simulated", action="store_true",
                        help="run on the simulated machine, whatever is there")
    return parser.parse_args()


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("a whole number from 1 is needed")
    return number


def memory_size(text):
    if not re.fullmatch(r"\d+(\.\d+)?[KMGT]i?B?", text, re.IGNORECASE):
        raise argparse.ArgumentTypeError(f"'{text}' is not a size; write for example 512M or 1.5G")
    return text


class Screen:
    """A table redrawn in place on a terminal, else a line every few seconds."""

    def __init__(self):
        self._on_terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._drawn = 0
        self._shown = 0.0

    def is_due(self):
        interval = REDRAW_SECONDS if self._on_terminal else LINE_SECONDS
        return time.monotonic() - self._shown >= interval

    def show(self, table, line):
        self._shown = time.monotonic()
        if not self._on_terminal:
            print(line, flush=True)
            return
        width = shutil.get_terminal_size().columns
        text = f"\x1b[{self._drawn}A" if self._drawn else ""
        # A line that the terminal wraps would be two, and the next redraw would start too low.
        text += "".join(f"\r\x1b[K{entry[:width - 1]}\n" for entry in table)
        text += "\x1b[J"  # what a longer table left below
        self._drawn = len(table)
        sys.stdout.write(text)
        sys.stdout.flush()


class Demo:
    """One run on real guests; run() raises Failure when a guest or the daemon dies."""

    def __init__(self, options, programs, images, directory):
        self.options = options
        self.programs, self.images, self.directory = programs, images, directory
        self.daemon = Daemon(programs, directory, options.memory)
        self.guests = []
        self.host = None       # the last report, and the one before the last redraw
        self.earlier = None
        self.peak_bytes = 0
        self.screen = Screen()
        self.began = self.killed = time.monotonic()
        self.filled_at = None

    def run(self):
        self.daemon.start()
        self.daemon.wait_until_it_answers()
        self.began = self.killed = time.monotonic()
        for number in range(1, self.options.vms + 1):
            self.guests.append(Guest(number, self.programs, self.images, self.daemon,
                                     self.directory))
        while not self.is_over():
            self.look()
            if self.screen.is_due():
                self.show()
            time.sleep(PAUSE_SECONDS)
        self.settle()

    def is_over(self):
        now = time.monotonic()
        if now - self.began >= self.options.seconds + FILL_SECONDS:
            return True
        return self.filled_at is not None and now - self.filled_at >= self.options.seconds

    def look(self):
        self.kill_daemon_if_due()
        self.daemon.check_alive()
        for guest in self.guests:
            guest.read_serial()
            guest.check_alive()
        if self.filled_at is None and all(guest.is_filled for guest in self.guests):
            self.filled_at = time.monotonic()
        report = self.daemon.report()
        # A daemon that has just begun does not have its VMs back yet: no report to judge by.
        if report and (len(report["vms"]) == len(self.guests) or self.host is None):
            self.host = report
            self.peak_bytes = max(self.peak_bytes, report["peak_consumed_bytes"],
                                  report["consumed_bytes"])

    def kill_daemon_if_due(self):
        every = self.options.kill_daemon_every
        if every is None or time.monotonic() - self.killed < every:
            return
        self.killed = time.monotonic()
        self.daemon.kill_and_restart()

    def show(self):
        elapsed = time.monotonic() - self.began
        phase = "filling" if self.filled_at is None else "verifying"
        vms = view.with_rates(self.host, self.earlier) if self.host else {}
        restarts = self.daemon.restarts
        self.screen.show(
            view.live_table(elapsed, phase, self.guests, self.host, vms, restarts),
            view.short_line(elapsed, phase, self.guests, self.host, restarts))
        self.earlier = self.host

    def settle(self):
        """The last word of daemon and guests, for the summary."""
        self.options.kill_daemon_every = None
        self.daemon.wait_until_it_answers()
        deadline = time.monotonic() + 5
        while True:
            self.look()
            current = self.daemon.report()
            if current and len(current["vms"]) == len(self.guests):
                self.host = current
                break
            if time.monotonic() > deadline:
                raise Failure("the daemon lost a VM: it reports "
                              f"{[vm['name'] for vm in (current or {'vms': []})['vms']]}")
            time.sleep(PAUSE_SECONDS)
        self.show()

    def summary(self):
        """The figures, and what is wrong with them."""
        figures = view.summary_json(self.guests, self.host, self.peak_bytes, self.daemon.restarts)
        wrong = []
        if figures["checksum_errors"]:
            wrong.append(f"{figures['checksum_errors']} checksum errors: memory was lost or mixed")
        if self.peak_bytes > figures["budget_bytes"]:
            wrong.append("the budget was exceeded")
        if not figures["verified_pages"]:
            wrong.append("no guest got as far as verifying")
        wrong += [f"{vm['name']} is {vm['state']}: {vm['pause_reason']}"
                  for vm in self.host["vms"] if vm["state"] != "running"]
        return figures, wrong


def run_simulated(options, programs, why):
    say(f"{why}: the same demo on the simulated machine instead")
    program = os.path.join(programs, "ballast-sim")
    command = [program, "--demo", "--seconds", str(options.seconds)]
    if options.json:
        command += ["--json", options.json]
    if options.kill_daemon_every:
        command += ["--kill-daemon-every", str(options.kill_daemon_every)]
    known = subprocess.run([program, "--help"], capture_output=True, text=True, check=False).stdout
    for name, value, default in (("--vms", str(options.vms), "4"),
                                 ("--memory", options.memory, "512M")):
        if value == default:
            continue
        if name not in known:
            raise Failure(f"the simulated demo has no {name}; it always has {default}")
        command += [name, value]
    return subprocess.run(command, check=False).returncode


def write_json(path, figures):
    with open(path, "w") as file:
        json.dump(figures, file, indent=2)
        file.write("\n")


def run_real(options, programs, images):
    directory = tempfile.mkdtemp(prefix="ballast-demo-", dir=options.dir)
    demo, complaints = None, []
    say(f"{options.vms} guests of 256 MB on {options.memory}, each verifying 180 MB")
    try:
        demo = Demo(options, programs, images, directory)
        demo.run()
        figures, complaints = demo.summary()
        print("\n".join(view.summary_lines(figures, demo.host)), flush=True)
        if options.json:
            write_json(options.json, figures)
    finally:
        # A second Ctrl-C must not interrupt the cleaning.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if demo is not None:
            complaints += end_all(demo.guests, demo.daemon)
        shutil.rmtree(directory)
    for complaint in complaints:
        say(complaint)
    return 1 if complaints else 0


def stop(number, _frame):
    raise Stopped(signal.Signals(number).name)


def prepare_and_run(options):
    if options.json:
        with open(options.json, "a"):  # a wrong path is better known now than in two minutes
            pass
    if options.bin is None:
        install_packages()
    programs = os.path.abspath(options.bin) if options.bin else build_programs()
    why = "as asked" if options.simulated else why_no_real_guests()
    if why:
        return run_simulated(options, programs, why)
    images = build_guest()
    if images is None:
        return run_simulated(options, programs, "the guest image cannot be built (see above)")
    return run_real(options, programs, images)


def main():
    options = parse_arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        return prepare_and_run(options)
    except Stopped as reason:
        say(f"stopped by {reason}; everything is cleaned up")
        return 130
    except (Failure, OSError) as failure:
        say(f"FAILED: {failure}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
