"""Draws what batch norms that settle do to single runs: each of them without and with.

    detnet campaign show runs/detnet_parts_quarter --json > without.json
    detnet campaign show runs/detnet_parts_settled --json > with.json
    python -m docs._tools.settled without.json with.json [AS_WELL.png]

writes docs/norm_settled.svg from the scores of the runs that both campaigns have.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from docs._tools.pages import ROOT

DRAWING = ROOT / "docs/norm_settled.svg"
WITHOUT, WITH, GAP = "#d55e00", "#0072b2", 0.14
Run = tuple[str, str, int]


def read_scores(path: Path) -> dict[Run, float]:
    """AP by data set, variant and seed, in points."""
    rows = json.loads(path.read_text())["scores"]
    return {
        (row["data"], row["variant"], row["seed"]): 100 * row["scores"]["AP"]
        for row in rows
        if row["error"] is None
    }


def draw(before: dict[Run, float], after: dict[Run, float]) -> Figure:
    """A column of lines for each variant, a line for each seed."""
    both = [run for run in before if run in after]
    variants = list(dict.fromkeys(variant for _, variant, _ in both))
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for run in both:
        at = variants.index(run[1])
        ends = (at - GAP, at + GAP)
        axes.plot(ends, (before[run], after[run]), color="#888888", linewidth=1)
        axes.plot(ends[0], before[run], marker="o", markersize=5, color=WITHOUT)
        axes.plot(ends[1], after[run], marker="o", markersize=5, color=WITH)
    axes.set_xticks(range(len(variants)), [name.replace("_", "\n") for name in variants])
    axes.set_ylabel("AP, the last model")
    axes.grid(axis="y", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for colour, label in ((WITHOUT, "norm_settled: 1.0, never"), (WITH, "norm_settled: 0.6667")):
        axes.plot([], [], marker="o", linestyle="", color=colour, label=label)
    figure.legend(frameon=False, loc="outside upper center", ncols=2, fontsize=8)
    return figure


def main(arguments: Sequence[str]) -> None:
    """Writes the drawing, and further files by their endings."""
    without, settled, *others = map(Path, arguments)
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "detnet"})
    figure = draw(read_scores(without), read_scores(settled))
    for path in [DRAWING, *others]:
        figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    main(sys.argv[1:])
