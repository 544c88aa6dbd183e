"""The page of a comparison, complete in itself: differences with intervals, tables, pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnet.evaluation.comparison.compare import SCORE_OF_FOUND
from detnet.evaluation.comparison.records import Comparison
from detnet.evaluation.metrics import metrics_of, overlap_name
from detnet.files import write_text
from detnet.report.comparison_text import how_measured, how_scored
from detnet.report.comparison_view import found_by_one, letter, pair_views, size_tables
from detnet.report.pictures import Colour, Mark
from detnet.report.rendering import render_template
from detnet.report.score_tables import KINDS

# Of the detectors in pictures, in turn; told apart by most colour-blind eyes.
COLOURS: tuple[Colour, ...] = ((86, 180, 233), (245, 130, 32), (62, 207, 159), (240, 228, 66))


@dataclass(frozen=True)
class ComparisonPicture:
    """An image on which one detector finds what another one misses.

    Args:
        name: of the file.
        uri: the image itself.
        size: width and height in pixels, as embedded.
        kinds: of the selections it belongs to (`FoundByOne.kind`), how many objects are found and
            missed.
        sought: those objects.
        shared: objects that all find.
        truths: what else is there.
        found: of each detector what it found, the surest last, without `found_shared`.
        found_shared: of each detector what it found of `shared`.
    """

    name: str
    uri: str
    size: tuple[int, int]
    kinds: Mapping[str, int]
    sought: Sequence[Mark]
    shared: Sequence[Mark]
    truths: Sequence[Mark]
    found: Sequence[Sequence[Mark]]
    found_shared: Sequence[Sequence[Mark]]

    @property
    def note(self) -> str:
        """Who finds how many that who misses."""
        parts = []
        for kind, count in self.kinds.items():
            finds, misses = kind.split("-")
            parts.append(f"{finds} finds {count} that {misses} misses")
        return "; ".join(parts)


def write_page(path: Path, comparison: Comparison, pictures: Sequence[ComparisonPicture]) -> Path:
    """Writes the page of what `detnet compare` found."""
    write_text(path, render(comparison, pictures))
    return path


def render(comparison: Comparison, pictures: Sequence[ComparisonPicture]) -> str:
    """Makes the page's HTML."""
    names = comparison["names"]
    pairs = pair_views(comparison)
    marks = [m for p in pictures for of_one in (*p.found, *p.found_shared) for m in of_one]
    cost = comparison.get("cost")
    sections = [
        ("models", "Models", True),
        ("differences", "Differences", True),
        ("tables", "Overlap and size", True),
        ("pictures", "Pictures", pictures),
        ("classes", "Classes", any(pair.classes for pair in pairs)),
    ]
    return render_template(
        "comparison.html.j2",
        title=" and ".join(names) if len(names) == 2 else ", ".join(names),
        kind=KINDS[comparison["iou_type"]],
        overlap=overlap_name(comparison["iou_type"]),
        measured=how_scored(comparison),
        comparison=comparison,
        sure=f"{100 * comparison['confidence']:g} %",
        colours=["rgb({} {} {})".format(*COLOURS[i % len(COLOURS)]) for i in range(len(names))],
        models=_models(comparison),
        brief=[name for name, metric in metrics_of(comparison["iou_type"]) if metric.brief],
        cost_note=how_measured(cost) if cost else "",
        pairs=pairs,
        tables=size_tables(comparison),
        pictures=pictures,
        selections=_selections(comparison, pictures),
        several_classes=len(comparison["scores"][0]["per_class"]) > 1,
        threshold=SCORE_OF_FOUND,
        has_masks=any(mark.mask for mark in marks),
        has_keypoints=any(mark.skeleton for mark in marks),
        notes=comparison.get("notes", []),
        sections=[(anchor, text) for anchor, text, there in sections if there],
    )


def _models(comparison: Comparison) -> list[dict[str, Any]]:
    names = comparison["names"]
    costs = (comparison.get("cost") or {"models": [None] * len(names)})["models"]
    return [
        {
            "letter": letter(index),
            "name": name,
            "source": comparison["sources"][index],
            "scores": comparison["scores"][index],
            "cost": costs[index],
        }
        for index, name in enumerate(names)
    ]


def _selections(
    comparison: Comparison, pictures: Sequence[ComparisonPicture]
) -> list[dict[str, Any]]:
    """The gallery's buttons, and in words what there is in all."""
    return [
        {
            "value": one.kind,
            "title": f"{one.finds} finds, {one.misses} misses",
            "count": sum(one.kind in picture.kinds for picture in pictures),
            "words": one.in_words,
        }
        for one in found_by_one(comparison)
    ]
