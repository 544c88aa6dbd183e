"""Draws what `inspect` measured: rows are models, columns are stages, one legend for all.

Pictures are 2560 pixels wide, for slides; the type is large enough to be read at 1280.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detnet.inference.inspect import SHARES, Inspection, StageView

if TYPE_CHECKING:  # matplotlib takes half a second to import and is needed for drawing only
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D


WIDTH, MARGIN = 1280, 24
INK, GREY = "#1b1f24", "#5a636e"
_ZOOM = 2  # pixels drawn per pixel of the layout
_POINTS = 0.72  # per pixel of the layout, which has 100 an inch
_LONGEST = 80  # letters of a text; names of files can be longer than the sheet is wide
_BAR, _SMALL = 180, 12.5
# Pixels of a sheet's layout.
_GAP, _TITLE, _HEADING, _LABEL, _LINE, _LEGEND = 12, 58, 32, 26, 19, 96
_TALLEST = 1.6  # a panel's height over its width: a tall image is made smaller, not the sheet

_Dashes = tuple[int, tuple[int, ...] | None]
# What the cell can see in theory, then `SHARES`: words, colour, dashes, width of the line.
_OUTLINES: tuple[tuple[str, str, _Dashes, float], ...] = (
    ("what the cell can see in theory", "#ffffff", (0, (4, 3)), 1.0),
    (f"{SHARES[0]:.0%} of the energy", "#35e0ff", (0, None), 1.6),
    (f"{SHARES[1]:.0%} of the energy", "#ffffff", (0, None), 1.6),
)
_ACTIVATION_COLOURS, _HEAT_COLOURS = "magma", "inferno"


@dataclass(frozen=True)
class _Drawing:
    """What differs between the two sheets: the panels, the lines under them, the input beside."""

    panel: Callable[["Axes", Inspection, StageView], None]
    under: Callable[[StageView], list[str]]
    with_input: bool


def draw_activations(inspections: Sequence[Inspection], title: str) -> Image.Image:
    """Draws the mean absolute activation of every stage, every cell as large as its stride.

    Each map has its own scale, from its 1st to its 99th percentile: what is compared is where a
    stage sees structure and how finely, and stages of different depth differ in level by design.

    Args:
        inspections: one a row.
        title: in the first line, for example the image's name.
    """
    drawing = _Drawing(_draw_activation, under=lambda stage: [], with_input=True)
    sheet, end = _lay_out(inspections, f"What the stages keep · {title}", drawing)
    sheet.legend(
        end,
        _ACTIVATION_COLOURS,
        ("weak", "strong"),
        "Mean over the channels of the absolute activation. Every map on its own scale, from "
        "its 1st to its 99th percentile.\n"
        "One square of colour is one cell, drawn where it looks; a panel's title gives the "
        "map's height × width in cells and its stride in input pixels.",
    )
    return sheet.image()


def draw_receptive_fields(inspections: Sequence[Inspection], title: str) -> Image.Image:
    """Draws where the gradient of the central cell of every stage comes from.

    Heat is the gradient's size, the root of the energy, over the image in grey, each panel scaled
    to its own strongest pixels. Squares hold `SHARES` of the energy; dashes bound what the cell can
    see in theory, where that ends inside the image.

    Args:
        inspections: one a row.
        title: in the first line, for example the image's name.
    """
    from matplotlib.lines import Line2D

    drawing = _Drawing(_draw_field, under=_sides, with_input=False)
    sheet, end = _lay_out(inspections, f"How far the stages look · {title}", drawing)
    lines = [
        Line2D([], [], color=colour, ls=dashes, lw=line, label=words)
        for words, colour, dashes, line in _OUTLINES
    ]
    sheet.key(end, lines)
    sheet.legend(
        end + 28,
        _HEAT_COLOURS,
        ("none", "strongest"),
        "Heat: size of the gradient of the cell in the middle, over the image in grey, each "
        "panel on its own scale. Squares: the smallest around that cell that\nhold so much of "
        "the squared gradient; sides in input pixels. Dashes are missing where they would lie "
        "outside the image.",
    )
    return sheet.image()


def _draw_activation(axes: "Axes", _: Inspection, stage: StageView) -> None:
    stride, (height, width) = stage.stride, stage.size
    # A cell's middle is at pixel i · stride. The outermost cells are repeated, since the image ends
    # up to a stride beyond them, and nearest is what they are there.
    start = 0.5 - 1.5 * stride
    low, high = np.percentile(stage.activation, [1, 99])
    axes.imshow(
        np.pad(stage.activation, 1, mode="edge"),
        extent=(start, start + (width + 2) * stride, start + (height + 2) * stride, start),
        vmin=low,
        vmax=high if high > low else low + 1,
        cmap=_ACTIVATION_COLOURS,
        zorder=2,
    )


def _draw_field(axes: "Axes", view: Inspection, stage: StageView) -> None:
    from matplotlib.patches import Rectangle

    height, width = stage.energy.shape
    axes.imshow(_heat(view.picture, stage.energy), extent=(0, width, height, 0), zorder=2)
    sides = [stage.receptive_field or None, *stage.effective]
    for side, (_, colour, dashes, line) in zip(sides, _OUTLINES, strict=True):
        if side is not None:
            left, top = (middle + 0.5 - side / 2 for middle in stage.centre[::-1])
            axes.add_patch(
                Rectangle(
                    (left, top), side, side, fill=False, ec=colour, lw=line, ls=dashes, zorder=3
                )
            )


def _heat(picture: NDArray[np.uint8], energy: NDArray[np.float64]) -> NDArray[np.float64]:
    """The root of the energy as colours over the picture in dark grey: (H, W, 3) in [0, 1]."""
    from matplotlib import colormaps

    size = np.sqrt(energy)
    seen = size[size > 0]
    heat = np.clip(size / np.percentile(seen, 99.5), 0, 1) if len(seen) else size
    grey = picture.astype(float).mean(2)
    low, high = np.percentile(grey, [1, 99])  # a pale image would hide under the heat
    grey = np.clip((grey - low) / max(high - low, 1), 0, 1) * 0.5 + 0.08
    # The map's darkest quarter is left out, and weak heat raised: it would not show on the grey.
    colours = colormaps[_HEAT_COLOURS](0.25 + 0.75 * heat)[:, :, :3]
    opacity = heat[:, :, None] ** 0.6
    return np.asarray(grey[:, :, None] * (1 - opacity) + colours * opacity)


def _sides(stage: StageView) -> list[str]:
    sides = [
        f"{share:.0%}: {'dead' if side is None else f'{side} px'}"
        for share, side in zip(SHARES, stage.effective, strict=True)
    ]
    theory = f"in theory {stage.receptive_field} px" if stage.receptive_field else ""
    return [" · ".join(sides), theory]


def _lay_out(
    inspections: Sequence[Inspection], title: str, drawing: _Drawing
) -> "tuple[Sheet, float]":
    """Draws one row a model and one column a stage; returns the sheet and where the rows end."""
    names = sorted({stage.name for view in inspections for stage in view.stages})
    columns = len(names) + drawing.with_input
    side = (WIDTH - 2 * MARGIN - (columns - 1) * _GAP) / columns
    shape = max(view.picture.shape[0] / view.picture.shape[1] for view in inspections)
    tall = side * min(shape, _TALLEST)
    lines = max(len(drawing.under(stage)) for view in inspections for stage in view.stages)
    row = _HEADING + _LABEL + tall + lines * _LINE + 2 * _GAP
    end = _TITLE + row * len(inspections)
    sheet = Sheet(end + _LEGEND)
    sheet.text(MARGIN, 32, title, size=20, bold=True)
    for index, view in enumerate(inspections):
        top = _TITLE + row * index
        sheet.text(MARGIN, top + 16, view.name, size=16, bold=True, detail=_kind(view))
        lefts = [MARGIN + column * (side + _GAP) for column in range(columns)]
        boxes = [(left, top + _HEADING, side, tall) for left in lefts]
        if drawing.with_input:
            height, width = view.picture.shape[:2]
            _captioned(sheet, boxes.pop(0), view, "input", f"{height}×{width} px")
        for stage in view.stages:
            box = boxes[names.index(stage.name)]
            size = f"{stage.size[0]}×{stage.size[1]} · stride {stage.stride}"
            axes = _captioned(sheet, box, view, stage.name, size)
            drawing.panel(axes, view, stage)
            for line, words in enumerate(drawing.under(stage)):
                y = box[1] + _LABEL + tall + 4 + _LINE * (line + 0.5)
                sheet.text(box[0], y, words, size=13, colour=GREY if line else INK)
    return sheet, end + 10


def _captioned(
    sheet: "Sheet", box: tuple[float, float, float, float], view: Inspection, name: str, detail: str
) -> "Axes":
    left, top, width, height = box
    sheet.text(left, top + 10, name, size=13.5, bold=True, detail=detail)
    return sheet.picture((left, top + _LABEL, width, height), view.picture)


def _kind(view: Inspection) -> str:
    width = "" if view.width == 1 else f", width {view.width:g}"
    return f"{view.backbone}{width}" if view.backbone else ""


class Sheet:
    """A white page on which texts and pictures are placed from the upper left, y downwards.

    Args:
        height: pixels of the layout.
    """

    def __init__(self, height: float) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.height = height
        self.figure = Figure((WIDTH / 100, height / 100), dpi=100 * _ZOOM, facecolor="white")
        self._canvas = FigureCanvasAgg(self.figure)

    def image(self) -> Image.Image:
        """Draws everything, two pixels for each of the layout."""
        with warnings.catch_warnings():  # a file's name may hold letters that the font has not
            warnings.filterwarnings("ignore", message="Glyph")
            self._canvas.draw()
        return Image.fromarray(np.asarray(self._canvas.buffer_rgba())[:, :, :3].copy())

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float = _SMALL,
        bold: bool = False,
        colour: str = INK,
        detail: str = "",
        align: str = "left",
        vertical: str = "center_baseline",
    ) -> None:
        """Writes words at a place, and after them a detail in grey; `size` is in pixels."""
        if colour == INK and len(words) > _LONGEST:
            words = f"{words[: _LONGEST // 2]}…{words[-_LONGEST // 2 :]}"
        style: dict[str, Any] = {"ha": align, "va": vertical, "parse_math": False}
        written = self.figure.text(
            *self._place(x, y),
            words,
            size=size * _POINTS,
            weight="bold" if bold else "normal",
            color=colour,
            linespacing=1.45,
            **style,
        )
        if detail:
            end = written.get_window_extent().x1 / _ZOOM + 8
            self.text(end, y, detail, size=min(size, 13.5), colour=GREY)

    def picture(self, box: tuple[float, float, float, float], pixels: NDArray[np.uint8]) -> "Axes":
        """Shows (H, W, 3) pixels as large as the box (left, top, width, height) allows.

        Returns:
            Axes in pixels of the picture, to draw over it.
        """
        left, top, width, height = box
        rows, columns = pixels.shape[:2]
        scale = min(width / columns, height / rows)
        axes = self._axes(left, top, columns * scale, rows * scale)
        axes.imshow(pixels, extent=(0, columns, rows, 0), zorder=1)
        axes.set(xlim=(0, columns), ylim=(rows, 0), xticks=[], yticks=[], autoscale_on=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes

    def legend(self, top: float, colours: str, ends: tuple[str, str], words: str) -> None:
        """A bar of a colour map at the left, what its ends mean, and words beside it."""
        axes = self._axes(MARGIN, top + 12, _BAR, 12)
        axes.imshow(np.linspace(0, 1, 256)[None], aspect="auto", cmap=colours)
        axes.set_axis_off()
        self.text(MARGIN, top + 38, ends[0], colour=GREY)
        self.text(MARGIN + _BAR, top + 38, ends[1], colour=GREY, align="right")
        below = top + 48 - 20 * (words.count("\n") + 1)
        self.text(MARGIN + _BAR + 30, below, words, colour=GREY, vertical="top")

    def key(self, top: float, lines: "Sequence[Line2D]") -> None:
        """Says beside the bar of `legend` what lines are, on a dark ground."""
        self.figure.legend(
            handles=list(lines),
            ncols=len(lines),
            loc="upper left",
            bbox_to_anchor=self._place(MARGIN + _BAR + 30, top),
            borderaxespad=0,
            fontsize=_SMALL * _POINTS,
            facecolor="#43484f",
            edgecolor="none",
            labelcolor="white",
            framealpha=1,
        )

    def _place(self, x: float, y: float) -> tuple[float, float]:
        return x / WIDTH, 1 - y / self.height

    def _axes(self, left: float, top: float, width: float, height: float) -> "Axes":
        corner = self._place(left, top + height)
        return self.figure.add_axes((*corner, width / WIDTH, height / self.height))
