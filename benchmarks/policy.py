"""Ballast's policy and other programs' rules on the same recorded demand, in the simulator."""
import json
import math
import os
import subprocess
import tempfile

import plots
from harness import Failed

NOTE = ("ballast-sim --policy: amounts of memory, not pages; peers' rules as their sources tell, on a host with the kernel's "
        "swap. Seconds of simulated time, lower is better.")


def _simulate(bin_dir):
    """All results; the simulator prints its table."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "policy.json")
        done = subprocess.run([os.path.join(bin_dir, "ballast-sim"), "--policy", "--json", path], check=False)
        if done.returncode != 0:
            raise Failed(f"ballast-sim --policy ended with status {done.returncode}")
        with open(path, encoding="utf-8") as file:
            return json.load(file)["results"]


def _step(result):
    """The slowest step of demand; NaN when one was never served, or there was none."""
    return math.nan if result["steps_missed"] or not result["steps"] else result["worst_step_s"]


def _stall(result):
    return result["host_stall_s"] + result["guest_stall_s"]


def run(report, arguments):
    results = _simulate(arguments.bin)
    scenarios = list(dict.fromkeys(result["scenario"] for result in results))
    rules = list(dict.fromkeys(result["rule"] for result in results))
    found = {(result["scenario"], result["rule"]): result for result in results}
    def total(rule, value):
        return sum(value(found[scenario, rule]) for scenario in scenarios)
    missed = report.row("steps of demand never served, all scenarios", "", goal_ours=0)
    missed.add(total("ballast", lambda result: result["steps_missed"]))
    below = report.row("VMs that waited while below their min, all scenarios", "min", goal_ours=0)
    below.add(total("ballast", lambda result: result["below_min_minutes"]))
    for rule in rules:
        if rule != "ballast":
            row = report.row(f"guests' stalls in all scenarios, vs {rule}", "s", goal_ratio=1)
            row.add(total("ballast", _stall), total(rule, _stall))
    unfair = report.row("distance from the parts by shares while VMs contend, vs the kernel's swap", "%", goal_ratio=1)
    unfair.add(*(100 * max(found[scenario, rule]["unfairness"] for scenario in scenarios) for rule in ("ballast", "swap")))
    figure = plots.Figure("policy", "Policies on the same demand", NOTE)
    for title, value in (("Until 95 % of a step of demand is there, the worst", _step),
                         ("Guests' stalls, in the host and in their own swap", _stall)):
        panel = figure.panel(title, "scenario", "s", log=True)
        for rule in rules:
            panel.series(rule, scenarios, [value(found[scenario, rule]) for scenario in scenarios], "bars")
    for title, unit, value, log in (
            ("Taken for nothing: free beyond minFree while VMs lack memory", "GB·s", lambda r: r["overshoot_gb_s"], True),
            ("Active VMs' distance from their parts by shares while they contend", "%", lambda r: 100 * r["unfairness"],
             False)):
        panel = figure.panel(title, "scenario", unit, log=log)
        for rule in rules:
            panel.series(rule, scenarios, [value(found[scenario, rule]) for scenario in scenarios], "bars")
    figure.save(report)


TARGETS = ["ballast-sim"]
PARTS = {"policy": run}
