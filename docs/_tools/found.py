"""Draws DetNet-59 beside the network that a search found, and what each of its choices is worth.

    detnet search show runs/stride8 --json > effects.json
    python -m docs._tools.found effects.json [AS_WELL.png]

writes docs/detnet53_s8.svg: the stages from the tables in the code, the effects from the search.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from detnet.backbones.detnet import DETNET53_S8, DETNET59
from detnet.backbones.stages import Stage
from docs._tools.pages import ROOT

DRAWING = ROOT / "docs/detnet53_s8.svg"
HELD, HALVED, DILATED = "#0072b2", "#9ecae1", "#d55e00"


def draw_stages(axes: Axes, name: str, table: Sequence[Stage]) -> None:
    """Draws each block as a bar: as high as its resolution, as wide as its channels."""
    left, stride = 0.0, 4
    for stage in table:
        stride *= stage.stride
        begin = left
        for block in range(stage.blocks):
            wide = stage.channels / 1024
            colour = HELD if stage.stride == 1 and stage is not table[0] else HALVED
            bar = Rectangle((left, 0), wide, 4 / stride, facecolor=colour, edgecolor="white")
            axes.add_patch(bar)
            if stage.dilation > 1:
                across = (left + wide / 2, 2 / stride)
                axes.plot(*across, marker="o", markersize=3, color=DILATED)
            if block == 0 and stage.project:
                axes.plot((left, left), (0, 4 / stride), color="black", linewidth=2)
            left += wide
        label = f"{stage.name}\n1/{stride}, {stage.channels}\n× {stage.blocks}"
        axes.text((begin + left) / 2, -0.08, label, ha="center", va="top", fontsize=7)
        left = max(left, begin + 1.6) + 0.35  # room for the label
    axes.set(xlim=(-0.6, 18), ylim=(-0.75, 1.1))
    axes.set_title(name, loc="left", fontsize=9)
    axes.axis("off")


def draw_effects(axes: Axes, effects: Sequence[dict[str, Any]]) -> None:
    """Draws what each answer adds to the score of otherwise equal networks, with its interval."""
    for row, one in enumerate(reversed(effects)):
        low, high = (100 * value for value in one["interval"])
        told = low > 0 or high < 0
        colour = HELD if told else "#888888"
        axes.plot((low, high), (row, row), color=colour, linewidth=2)
        axes.plot(100 * one["difference"], row, marker="o", markersize=4, color=colour)
    axes.axvline(0, color="black", linewidth=0.8)
    names = [f"{one['gene']}: {one['choice']} for {one['first']}" for one in reversed(effects)]
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_xlabel("points of AP with shared weights, 95 % intervals", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    found = json.loads(Path(sys.argv[1]).read_text())["effects"]["with shared weights"]
    matplotlib.rcParams["svg.fonttype"] = "none"
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.1, 1))
    above, below = left.subplots(2, 1)
    draw_stages(above, "DetNet-59", DETNET59)
    draw_stages(below, "DetNet-53 at stride 8, found", DETNET53_S8)
    left.text(
        0.02,
        0.01,
        "height: resolution, dark where it is that of the stage before; width: channels; "
        "bold edge: projected shortcut; dot: dilated",
        fontsize=6,
    )
    draw_effects(right.subplots(), found["effects"])
    for place in [DRAWING, *sys.argv[2:]]:
        figure.savefig(place, metadata={"Date": None} if place is DRAWING else None)


if __name__ == "__main__":
    main()
