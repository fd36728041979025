"""Rows of a benchmark: ours against a peer, measured alternately, judged against a goal."""
import json
import statistics
import sys


class Row:
    """One line of the table. Samples come in pairs: ours, peer (None where there is none)."""

    def __init__(self, name, unit, goal=None, goal_ratio=None, goal_ours=None, at_least=False):
        self.name, self.unit = name, unit
        self.goal_ratio, self.goal_ours, self.at_least = goal_ratio, goal_ours, at_least
        self.goal = goal or self._goal_text()
        self.ours, self.peer = [], []

    def _goal_text(self):
        sign = ">=" if self.at_least else "<="
        if self.goal_ratio is not None:
            return f"{sign} {self.goal_ratio:g} x"
        if self.goal_ours is not None:
            return f"{sign} {self.goal_ours:g} {self.unit}"
        return None

    def add(self, ours, peer=None):
        self.ours.append(ours)
        if peer is not None:
            self.peer.append(peer)

    def result(self):
        ours = statistics.median(self.ours)
        peer = statistics.median(self.peer) if self.peer else None
        ratio = ours / peer if peer else None
        judged = ratio if self.goal_ratio is not None else ours
        limit = self.goal_ratio if self.goal_ratio is not None else self.goal_ours
        met = None if limit is None or judged is None else bool(judged >= limit if self.at_least else judged <= limit)
        # Of the ratio where there is one: the extremes over the pairs.
        spread = [o / p for o, p in zip(self.ours, self.peer) if p] or self.ours
        return {"name": self.name, "unit": self.unit, "ours": round(ours, 4),
                "peer": None if peer is None else round(peer, 4), "ratio": None if ratio is None else round(ratio, 3),
                "goal": self.goal, "met": met, "spread": [round(min(spread), 3), round(max(spread), 3)]}


class Report:
    def __init__(self):
        self.rows, self.skipped, self.failed, self.notes = [], [], [], []

    def row(self, *args, **kwargs):
        row = Row(*args, **kwargs)
        self.rows.append(row)
        return row

    def skip(self, what, why):
        self.skipped.append((what, why))
        print(f"SKIP {what}: {why}", file=sys.stderr, flush=True)

    def fail(self, what, why):
        self.failed.append((what, why))
        print(f"FAILED {what}: {why}", file=sys.stderr, flush=True)

    def note(self, text):
        self.notes.append(text)

    def results(self):
        return [row.result() for row in self.rows if row.ours]

    def print_table(self):
        def text(value):
            if value is None:
                return "-"
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        results = self.results()
        width = max([len(r["name"]) + len(r["unit"]) + 3 for r in results] + [20])
        print(f"\n{'':{width}}  {'ours':>10} {'peer':>10} {'ratio':>7}  {'spread':>13}  {'goal':>10}  met")
        for r in results:
            low, high = r["spread"]
            met = {None: "", True: "yes", False: "NO"}[r["met"]]
            print(f"{r['name'] + ', ' + r['unit']:{width}}  {text(r['ours']):>10} {text(r['peer']):>10} "
                  f"{text(r['ratio']):>7}  {text(low) + '-' + text(high):>13}  {r['goal'] or '-':>10}  {met}")
        for what, why in self.skipped:
            print(f"SKIPPED {what}: {why}")
        for what, why in self.failed:
            print(f"FAILED {what}: {why}")
        for note in self.notes:
            print(f"note: {note}")

    def write_json(self, path):
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.results(), file, indent=1)
            file.write("\n")
