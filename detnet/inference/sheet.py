"""A sheet of captioned panels for slides, laid out in pixels of a page 1280 wide."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:  # matplotlib takes half a second to import and is needed for drawing only
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

WIDTH, MARGIN = 1280, 24
INK, GREY = "#1b1f24", "#5a636e"
_ZOOM = 2  # pixels drawn per pixel of the layout
_POINTS = 0.72  # per pixel of the layout, which has 100 an inch
_LONGEST = 80  # letters of a text; names of files can be longer than the sheet is wide
_BAR, _SMALL = 180, 12.5


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
