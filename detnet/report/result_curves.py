"""Curves of several runs on the same data as one picture, for RESULTS.md."""

from collections.abc import Sequence
from pathlib import Path

from detnet.files import replacing
from detnet.report.results import Result

# Okabe and Ito's colours, which the colour-blind can tell apart.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_STYLES = ("-", "--", ":", "-.")  # of the first seven curves, the next seven …
_SIZE = (7.0, 3.6)  # inches
_MOST_INSIDE = 7  # curves whose names find room within the axes


def write_curves(results: Sequence[Result], folder: Path) -> dict[tuple[str, bool], Path]:
    """Draws the score of each evaluation over the epochs, an SVG for each kind and data set.

    Those whose runs were evaluated once only get none. The picture is named like the data set; that
    of classifiers is DATA-classifiers.svg where the same data have detectors, too.

    Returns:
        the picture by data set and whether it shows classifiers.
    """
    pictures = {}
    detected = {result.data for result in results if not result.classifier}
    for data, classifier in dict.fromkeys((result.data, result.classifier) for result in results):
        alike = [one for one in results if (one.data, one.classifier) == (data, classifier)]
        curves = [one for one in alike if one.curve[1:]]
        if curves:
            folder.mkdir(parents=True, exist_ok=True)
            name = f"{data}-classifiers" if classifier and data in detected else data
            pictures[data, classifier] = _draw(curves, folder / f"{name}.svg")
    return pictures


def _draw(results: Sequence[Result], path: Path) -> Path:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # Equal curves give equal files: no date, no random ids.
    with matplotlib.rc_context({"svg.hashsalt": "detnet", "font.size": 9}):
        beside = len(results) > _MOST_INSIDE
        width, height = _SIZE
        size = (width + 2.5, max(height, 0.2 * len(results))) if beside else _SIZE
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        for index, result in enumerate(results):
            epochs, scores = zip(*result.curve, strict=True)
            style = _STYLES[index // len(_COLOURS) % len(_STYLES)]
            axes.plot(
                epochs,
                [100 * score for score in scores],
                style,
                color=_COLOURS[index % len(_COLOURS)],
                marker="o",
                markersize=3,
                label=result.name,
            )
        axes.set_xlabel("epoch")
        axes.set_ylabel("top-1 error, percent" if results[0].classifier else "AP, percent")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        if beside:
            figure.legend(loc="outside right upper", frameon=False, fontsize=8)
        else:
            axes.legend(frameon=False)
        with replacing(path) as beside_it:
            figure.savefig(beside_it, format="svg", metadata={"Date": None})
    return path
