"""Draws what `inspect` measured: rows are models, columns are stages, one legend for all.

Pictures are 2560 pixels wide, for slides; the type is large enough to be read at 1280.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detnet.inference.inspect import SHARES, Inspection, StageView

if TYPE_CHECKING:  # matplotlib takes half a second to import and is needed for drawing only
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Lengths are pixels of a sheet 1280 wide, drawn at twice that.
_WIDTH, _ZOOM = 1280, 2
_MARGIN, _GAP = 24, 12
_TITLE, _HEADING, _LABEL, _LINE, _LEGEND = 58, 32, 26, 19, 96
_LONGEST = 80  # letters of a title; names of files can be longer than the sheet is wide
_TALLEST = 1.6  # a panel's height over its width: a tall image is made smaller, not the sheet

_INK, _GREY = "#1b1f24", "#5a636e"
_Dashes = tuple[int, tuple[int, ...] | None]
# What the cell can see in theory, then `SHARES`: colour, dashes, width of the line.
_OUTLINES: tuple[tuple[str, _Dashes, float], ...] = (
    ("#ffffff", (0, (4, 3)), 1.0),
    ("#35e0ff", (0, None), 1.6),
    ("#ffffff", (0, None), 1.6),
)
_ACTIVATION_COLOURS, _HEAT_COLOURS = "magma", "inferno"


def draw_activations(inspections: Sequence[Inspection], title: str) -> Image.Image:
    """Draws the mean absolute activation of every stage, every cell as large as its stride.

    Each map has its own scale, from its 1st to its 99th percentile: what is compared is where a
    stage sees structure and how finely, and stages of different depth differ in level by design.

    Args:
        inspections: one a row.
        title: in the first line, for example the image's name.
    """

    def panel(axes: "Axes", stage: StageView) -> None:
        half, (height, width) = stage.stride / 2, stage.size
        # A cell's middle is at pixel i · stride. The outermost cells are repeated, since the image
        # ends up to a stride beyond them, and nearest is what they are there.
        left, right = 0.5 - half - stage.stride, 0.5 - half + (width + 1) * stage.stride
        top, bottom = 0.5 - half - stage.stride, 0.5 - half + (height + 1) * stage.stride
        low, high = np.percentile(stage.activation, [1, 99])
        axes.imshow(
            np.pad(stage.activation, 1, mode="edge"),
            extent=(left, right, bottom, top),
            vmin=low,
            vmax=high if high > low else low + 1,
            cmap=_ACTIVATION_COLOURS,
            zorder=2,
        )

    def legend(figure: "Figure", top: float) -> None:
        _colour_bar(figure, top, _ACTIVATION_COLOURS, ("weak", "strong"))
        _note(
            figure,
            top,
            "Mean over the channels of the absolute activation. Every map on its own scale, from "
            "its 1st to its 99th percentile.\n"
            "One square of colour is one cell, drawn where it looks; a panel's title gives the "
            "map's height × width in cells and its stride in input pixels.",
        )

    return _sheet(
        inspections,
        title=f"What the stages keep · {title}",
        panel=panel,
        caption=lambda stage: (_cells(stage), []),
        legend=legend,
        with_image=True,
    )


def draw_receptive_fields(inspections: Sequence[Inspection], title: str) -> Image.Image:
    """Draws where the gradient of the central cell of every stage comes from.

    Heat is the gradient's size, the root of the energy, over the image in grey, each panel scaled
    to its own strongest pixels. Squares hold `SHARES` of the energy; dashes bound what the cell can
    see in theory, where that ends inside the image.

    Args:
        inspections: one a row.
        title: in the first line, for example the image's name.
    """

    def caption(stage: StageView) -> tuple[str, list[str]]:
        sides = [f"{share:.0%}: {_pixels(side)}" for share, side in _by_share(stage)]
        return _cells(stage), [" · ".join(sides), _theory(stage)]

    def legend(figure: "Figure", top: float) -> None:
        _colour_bar(figure, top, _HEAT_COLOURS, ("none", "strongest"))
        _key(figure, top)
        _note(
            figure,
            top + 36,
            "Heat: size of the gradient of the cell in the middle, over the image in grey, each "
            "panel on its own scale. Squares: the smallest around that cell that\nhold so much of "
            "the squared gradient; sides in input pixels. Dashes are missing where they would lie "
            "outside the image.",
        )

    pictures = {id(stage): view.picture for view in inspections for stage in view.stages}
    return _sheet(
        inspections,
        title=f"How far the stages look · {title}",
        panel=lambda axes, stage: _draw_field(axes, stage, pictures[id(stage)]),
        caption=caption,
        legend=legend,
        with_image=False,
    )


def _draw_field(axes: "Axes", stage: StageView, picture: NDArray[np.uint8]) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    size = np.sqrt(stage.energy)
    seen = size[size > 0]
    heat = np.clip(size / np.percentile(seen, 99.5), 0, 1) if len(seen) else size
    grey = picture.astype(float).mean(2)
    low, high = np.percentile(grey, [1, 99])  # a pale image would hide under the heat
    grey = np.clip((grey - low) / max(high - low, 1), 0, 1) * 0.5 + 0.08
    strength = heat[:, :, None] ** 0.6
    colours = colormaps[_HEAT_COLOURS](0.25 + 0.75 * heat)[:, :, :3]
    height, width = heat.shape
    blend = grey[:, :, None] * (1 - strength) + colours * strength
    axes.imshow(blend, extent=(0, width, height, 0), zorder=2)
    sides = [stage.receptive_field or None, *stage.effective]
    for side, (colour, dashes, line) in zip(sides, _OUTLINES, strict=True):
        if side is not None:
            corner = (stage.centre[1] + 0.5 - side / 2, stage.centre[0] + 0.5 - side / 2)
            axes.add_patch(
                Rectangle(corner, side, side, fill=False, ec=colour, lw=line, ls=dashes, zorder=3)
            )


def _by_share(stage: StageView) -> list[tuple[float, int | None]]:
    return list(zip(SHARES, stage.effective, strict=True))


def _pixels(side: int | None) -> str:
    return "dead" if side is None else f"{side} px"


def _cells(stage: StageView) -> str:
    return f"{stage.size[0]}×{stage.size[1]} · stride {stage.stride}"


def _theory(stage: StageView) -> str:
    return f"in theory {stage.receptive_field} px" if stage.receptive_field else ""


def _sheet(
    inspections: Sequence[Inspection],
    *,
    title: str,
    panel: Callable[["Axes", StageView], None],
    caption: Callable[[StageView], tuple[str, list[str]]],
    legend: Callable[["Figure", float], None],
    with_image: bool,
) -> Image.Image:
    """Lays out one row a model and one column a stage, in the order of the names."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = sorted({stage.name for view in inspections for stage in view.stages})
    columns = len(names) + with_image
    side = (_WIDTH - 2 * _MARGIN - (columns - 1) * _GAP) / columns
    shape = max(view.picture.shape[0] / view.picture.shape[1] for view in inspections)
    tall = side * min(shape, _TALLEST)
    below = _LINE * max(len(caption(s)[1]) for view in inspections for s in view.stages)
    row = _HEADING + _LABEL + tall + below + 2 * _GAP
    height = _TITLE + row * len(inspections) + _LEGEND
    figure = Figure(figsize=(_WIDTH / 100, height / 100), dpi=100 * _ZOOM, facecolor="white")
    _text(figure, _MARGIN, 32, title, size=20, weight="bold")
    for index, view in enumerate(inspections):
        top = _TITLE + row * index
        _text(figure, _MARGIN, top + 16, view.name, size=16, weight="bold", detail=_detail(view))
        panels: list[tuple[int, str, StageView | None]] = [(0, "input", None)] * with_image
        panels += [(names.index(s.name) + with_image, s.name, s) for s in view.stages]
        for column, name, stage in panels:
            left = _MARGIN + column * (side + _GAP)
            beside, under = caption(stage) if stage else (_size(view), [])
            _text(figure, left, top + _HEADING + 10, name, size=13.5, weight="bold", detail=beside)
            axes = _axes(figure, (left, top + _HEADING + _LABEL, side, tall), view.picture)
            if stage is not None:
                panel(axes, stage)
            for line, words in enumerate(under):
                y = top + _HEADING + _LABEL + tall + 4 + _LINE * (line + 0.5)
                _text(figure, left, y, words, size=13, colour=_INK if line == 0 else _GREY)
    legend(figure, height - _LEGEND + 10)
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():  # a file's name may hold letters that the font has not
        warnings.filterwarnings("ignore", message="Glyph")
        canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3].copy())


def _axes(
    figure: "Figure", box: tuple[float, float, float, float], picture: NDArray[np.uint8]
) -> "Axes":
    """Axes in pixels of the picture, at the upper left of the box, with the picture in them."""
    left, top, width, height = box
    rows, columns = picture.shape[:2]
    scale = min(width / columns, height / rows)
    total = figure.get_figheight() * 100
    axes = figure.add_axes(
        (
            left / _WIDTH,
            1 - (top + rows * scale) / total,
            columns * scale / _WIDTH,
            rows * scale / total,
        )
    )
    axes.imshow(picture, extent=(0, columns, rows, 0), zorder=1)
    axes.set(xlim=(0, columns), ylim=(rows, 0), xticks=[], yticks=[], autoscale_on=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _text(
    figure: "Figure",
    x: float,
    y: float,
    words: str,
    *,
    size: float,
    weight: str = "normal",
    colour: str = _INK,
    detail: str = "",
) -> None:
    """Writes words, flush left and centred on y, and after them a detail in grey."""
    if len(words) > _LONGEST:
        words = f"{words[: _LONGEST // 2]}…{words[-_LONGEST // 2 :]}"
    total = figure.get_figheight() * 100
    style: dict[str, Any] = {"va": "center_baseline", "parse_math": False}
    written = figure.text(
        x / _WIDTH, 1 - y / total, words, size=size * 0.72, weight=weight, color=colour, **style
    )
    if detail:
        end = written.get_window_extent().x1 / _ZOOM + 8
        _text(figure, end, y, detail, size=min(size, 13.5), colour=_GREY)


def _detail(view: Inspection) -> str:
    width = "" if view.width == 1 else f", width {view.width:g}"
    return f"{view.backbone}{width}" if view.backbone else ""


def _size(view: Inspection) -> str:
    return f"{view.picture.shape[0]}×{view.picture.shape[1]} px"


def _colour_bar(figure: "Figure", top: float, colours: str, ends: tuple[str, str]) -> None:
    total = figure.get_figheight() * 100
    axes = figure.add_axes((_MARGIN / _WIDTH, 1 - (top + 24) / total, 180 / _WIDTH, 12 / total))
    axes.imshow(np.linspace(0, 1, 256)[None], aspect="auto", cmap=colours)
    axes.set_axis_off()
    _text(figure, _MARGIN, top + 38, ends[0], size=12.5, colour=_GREY)
    figure.text(
        (_MARGIN + 180) / _WIDTH,
        1 - (top + 38) / total,
        ends[1],
        size=12.5 * 0.72,
        color=_GREY,
        ha="right",
        va="center_baseline",
    )


def _note(figure: "Figure", top: float, words: str) -> None:
    total = figure.get_figheight() * 100
    figure.text(
        (_MARGIN + 210) / _WIDTH,
        1 - (top + 8) / total,
        words,
        size=12.5 * 0.72,
        color=_GREY,
        va="top",
        linespacing=1.45,
    )


def _key(figure: "Figure", top: float) -> None:
    """What the outlines are, on a dark ground as in the panels."""
    from matplotlib.lines import Line2D

    words = ["what the cell can see in theory", *(f"{share:.0%} of the energy" for share in SHARES)]
    handles = [
        Line2D([], [], color=colour, ls=dashes, lw=line, label=label)
        for label, (colour, dashes, line) in zip(words, _OUTLINES, strict=True)
    ]
    figure.legend(
        handles=handles,
        ncols=len(handles),
        loc="upper left",
        bbox_to_anchor=((_MARGIN + 210) / _WIDTH, 1 - (top + 2) / (figure.get_figheight() * 100)),
        borderaxespad=0,
        fontsize=12.5 * 0.72,
        facecolor="#43484f",
        edgecolor="none",
        labelcolor="white",
        framealpha=1,
    )
