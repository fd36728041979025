#!/usr/bin/env python3
"""Draws figures. A figure is plain data, so it can be kept, looked at and drawn again without measuring again.

benchmarks fill a `Figure` and `save()` it: build/figures/NAME.json and, where matplotlib is installed, NAME.svg.
As a program: plots.py NAME.json draws NAME.svg beside it.

A series is {label, style, x, y}; style is one of
  line, steps, dashed, dotted, points   y over x
  bars   grouped beside the panel's other bars; x are words or numbers, each a group
  band   low and high instead of y: an interval around a line
"""
import json
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DIRECTORY = os.path.join(ROOT, "build", "figures")
# Distinguishable also for the colour-blind (Okabe and Ito), on white.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"]
PAPER = "#666666"  # other people's numbers


class Panel:
    """One pair of axes."""

    def __init__(self, title, x, y, y_words, log):
        self.data = {"title": title, "x": x, "y": y, "y_words": y_words, "log": log, "series": [], "levels": [], "marks": [],
                     "spans": []}

    def series(self, label, x, y=None, style="line", colour=None, low=None, high=None):
        self.data["series"].append({"label": label, "style": style, "colour": colour, "x": list(x),
                                    "y": y and list(y), "low": low and list(low), "high": high and list(high)})

    def level(self, y, label):
        """A horizontal line: a number of the paper's."""
        self.data["levels"].append({"y": y, "label": label})

    def mark(self, x, label):
        """A vertical line: something happened."""
        self.data["marks"].append({"x": x, "label": label})

    def span(self, begin, end, label):
        """A shaded part of the x axis."""
        self.data["spans"].append({"from": begin, "to": end, "label": label})


class Figure:
    def __init__(self, name, title, note=""):
        self.name = name
        self.data = {"title": title, "note": note, "panels": []}

    def panel(self, title, x, y, y_words=None, log=False):
        """y_words: the y axis shows these words at 0, 1, …; log: it is logarithmic above 1."""
        panel = Panel(title, x, y, y_words, log)
        self.data["panels"].append(panel.data)
        return panel

    def save(self, report):
        """Writes the data and draws it; says on the report where."""
        os.makedirs(DIRECTORY, exist_ok=True)
        path = os.path.join(DIRECTORY, self.name + ".json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.data, file)
        python = _python_with_matplotlib()
        if python is None:
            report.note(f"not drawn, no matplotlib (tools/setup installs it); data: {path}")
            return
        drawn = subprocess.run([python, os.path.abspath(__file__), path], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, check=False)
        report.note(f"figure: {drawn.stdout.strip()}" if drawn.returncode == 0 else f"not drawn: {drawn.stdout[-500:]}")


def _python_with_matplotlib():
    """This interpreter, or Debian's, whose packages tools/setup installs."""
    for python in (sys.executable, shutil.which("python3", path="/usr/bin")):
        if python and subprocess.run([python, "-c", "import matplotlib"], stderr=subprocess.DEVNULL,
                                     check=False).returncode == 0:
            return python
    return None


# ---- Drawing (the program) --------------------------------------------------------------------------------

def _draw_bars(axes, panel):
    bars = [s for s in panel["series"] if s["style"] == "bars"]
    groups = []
    for series in bars:
        groups += [x for x in series["x"] if x not in groups]
    width = 0.8 / len(bars)
    for i, series in enumerate(bars):
        at = [groups.index(x) + (i - (len(bars) - 1) / 2) * width for x in series["x"]]
        drawn = axes.bar(at, [0 if y != y else y for y in series["y"]], width * 0.92, label=series["label"], color=_colour(series, i))
        # NaN: there is no such number, and the bar is missing.
        axes.bar_label(drawn, [_number(y) for y in series["y"]], fontsize=6, padding=2,
                       rotation=90 if len(bars) > 4 else 0)
    axes.set_xticks(range(len(groups)), [str(group) for group in groups])


def _number(value):
    if value != value:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 0.005 else "0"


def _colour(series, i):
    return series["colour"] or COLOURS[i % len(COLOURS)]


def _draw_lines(axes, panel):
    for i, s in enumerate(s for s in panel["series"] if s["style"] != "bars"):
        colour = _colour(s, i)
        if s["style"] == "band":
            axes.fill_between(s["x"], s["low"], s["high"], color=colour, alpha=0.18, linewidth=0, label=s["label"])
        elif s["style"] == "points":
            axes.plot(s["x"], s["y"], "o", color=colour, markersize=4, label=s["label"])
        else:
            axes.plot(s["x"], s["y"], {"dashed": "--", "dotted": ":"}.get(s["style"], "-"), color=colour, linewidth=1.4,
                      drawstyle="steps-post" if s["style"] == "steps" else "default", label=s["label"])


def _draw_panel(axes, panel):
    if any(s["style"] == "bars" for s in panel["series"]):
        _draw_bars(axes, panel)
    _draw_lines(axes, panel)
    for level in panel["levels"]:
        axes.axhline(level["y"], color=PAPER, linewidth=1, linestyle=":")
        axes.annotate(level["label"], (1, level["y"]), xycoords=("axes fraction", "data"), xytext=(-2, 2),
                      textcoords="offset points", ha="right", va="bottom", fontsize=7, color=PAPER)
    for mark in panel["marks"]:
        axes.axvline(mark["x"], color="#333333", linewidth=0.8, linestyle="--")
        axes.annotate(mark["label"], (mark["x"], 1), xycoords=("data", "axes fraction"), xytext=(2, -2),
                      textcoords="offset points", ha="left", va="top", fontsize=7, color="#333333")
    for span in panel["spans"]:
        axes.axvspan(span["from"], span["to"], color="#000000", alpha=0.05, linewidth=0)
        axes.annotate(span["label"], ((span["from"] + span["to"]) / 2, 1), xycoords=("data", "axes fraction"),
                      xytext=(0, -2), textcoords="offset points", ha="center", va="top", fontsize=7)
    axes.set_title(panel["title"], fontsize=10, loc="left")
    axes.set_xlabel(panel["x"], fontsize=8)
    axes.set_ylabel(panel["y"], fontsize=8)
    axes.tick_params(labelsize=8)
    if panel["log"]:
        axes.set_yscale("symlog", linthresh=1, linscale=0.5)
    if panel["y_words"]:
        axes.set_yticks(range(len(panel["y_words"])), panel["y_words"])
        axes.set_ylim(-0.5, len(panel["y_words"]) - 0.5)
    elif all(value is None or value >= 0 for s in panel["series"] for value in (s["y"] or s["low"])):
        axes.set_ylim(bottom=0)
    axes.margins(y=0.15)
    axes.grid(color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)
    if len(panel["series"]) > 1:
        # Beside the axes, where it hides no data.
        axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.06))


def draw(data, path):
    import matplotlib  # only the program needs it
    matplotlib.use("Agg")
    # Text stays text, and the same data makes the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "ballast", "axes.spines.top": False,
                                "axes.spines.right": False})
    from matplotlib import pyplot
    panels = data["panels"]
    figure, axes = pyplot.subplots(len(panels), 1, figsize=(9, 1.2 + 2.6 * len(panels)), squeeze=False,
                                   facecolor="white", layout="constrained")
    for one, panel in zip(axes[:, 0], panels):
        _draw_panel(one, panel)
    figure.suptitle(data["title"], fontsize=12, x=0.01, ha="left")
    if data["note"]:
        figure.supxlabel(data["note"], fontsize=7, x=0.01, ha="left", color="#555555")
    figure.savefig(path, metadata={"Date": None})


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: plots.py NAME.json")
    with open(sys.argv[1], encoding="utf-8") as file:
        data = json.load(file)
    path = os.path.splitext(sys.argv[1])[0] + ".svg"
    draw(data, path)
    print(path)


if __name__ == "__main__":
    main()
