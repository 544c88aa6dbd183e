"""Draws AP of large objects by threshold, where regions come from fine levels and from all.

    python -m docs._tools.levels SETTLED SCALED [AS_WELL.png]

writes docs/levels.svg from the folders of the campaigns detnet_over_resnet_settled and
detnet_over_resnet_scaled: a line for each seed, thick ones for the means.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from docs._tools.pages import ROOT

DRAWING = ROOT / "docs/levels.svg"
THRESHOLDS = ("50", "60", "70", "80", "85")
COLOURS = {"detnet59": "#0072b2", "resnet50": "#d55e00"}
NAMES = {"detnet59": "DetNet-59", "resnet50": "ResNet-50"}


def read_curves(folder: Path) -> np.ndarray:
    """AP of large objects of each seed by threshold, (seeds, thresholds), in points."""
    files = sorted(folder.glob("seed-*/last/scores.json"))
    found = [json.loads(file.read_text()) for file in files]
    large = [scores["by_iou_and_size"]["large"]["AP"] for scores in found]
    return np.array([[100 * each[threshold] for threshold in THRESHOLDS] for each in large])


def draw(axes: Axes, folder: Path, title: str) -> None:
    """A panel: all seeds of both backbones on one data set."""
    places = range(len(THRESHOLDS))
    for variant, colour in COLOURS.items():
        curves = read_curves(folder / variant)
        axes.plot(places, curves.T, color=colour, linewidth=0.7, alpha=0.5)
        axes.plot(places, curves.mean(0), color=colour, linewidth=2.2, label=NAMES[variant])
    axes.set_xticks(places, [f"0.{threshold}" for threshold in THRESHOLDS])
    axes.set_xlabel("IoU")
    axes.set_title(title, fontsize=9)
    axes.grid(axis="y", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def main(arguments: Sequence[str]) -> None:
    """Writes the drawing, and further files by their endings."""
    settled, scaled, *others = map(Path, arguments)
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "detnet"})
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    draw(panels[0], settled / "bccd", "bccd, 224 pixels on P4:\n99 % of the boxes from P2")
    draw(panels[1], scaled / "bccd", "bccd, 67 pixels on P4:\nP2 to P4")
    draw(panels[2], scaled / "pennfudan", "pennfudan, 67 pixels on P4:\nP2 to P5")
    panels[0].set_ylabel("AP of large objects")
    panels[0].legend(frameon=False, fontsize=8)
    for path in [DRAWING, *others]:
        figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    main(sys.argv[1:])
