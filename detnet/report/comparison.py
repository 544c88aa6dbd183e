"""The page of a comparison, complete in itself: differences, tables, pictures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from detnet.coco.ground_truth import GroundTruth
from detnet.data.images import read_pixels
from detnet.errors import InputError
from detnet.evaluation.comparison.compare import SCORE_OF_FOUND, Comparison
from detnet.evaluation.comparison.sources import Compared, ComparedSplit
from detnet.evaluation.detections import Detections, pick_rows
from detnet.evaluation.grid import make_grid
from detnet.evaluation.matching import match
from detnet.evaluation.metrics import metrics_of, overlap_name
from detnet.files import write_text
from detnet.report.comparison_text import how_measured, how_scored
from detnet.report.comparison_view import found_by_one, letter, pair_views, size_tables
from detnet.report.pictures import (
    LOWEST,
    MOST,
    MOST_SHAPES,
    Colour,
    Mark,
    Skeleton,
    embed,
    make_mark,
    make_skeleton,
)
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
        selections=[
            (one, sum(one.kind in picture.kinds for picture in pictures))
            for one in found_by_one(comparison)
        ],
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
    weights = comparison.get("weights", [""] * len(names))
    return [
        {
            "letter": letter(index),
            "name": name,
            "source": comparison["sources"][index],
            "weights": weights[index],
            "scores": comparison["scores"][index],
            "cost": costs[index],
        }
        for index, name in enumerate(names)
    ]


def write_output(compared: Compared, folder: Path, *, count: int) -> Path:
    """Writes comparison.json and the page comparison.html.

    Args:
        folder: is made where it is not there.
        count: pictures for each pair and direction.

    Returns:
        The page's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures, notes = make_pictures(compared, count=count)
    if notes:
        compared.comparison.setdefault("notes", []).extend(notes)
    content = json.dumps(compared.comparison, indent=1, allow_nan=False)
    write_text(folder / "comparison.json", content + "\n")
    return write_page(folder / "comparison.html", compared.comparison, pictures)


def make_pictures(compared: Compared, *, count: int) -> tuple[list[ComparisonPicture], list[str]]:
    """Embeds the images with most objects that one detector finds and another one misses.

    Args:
        count: how many for each pair and direction.

    Returns:
        The pictures, and why there are none where there should be some.

    Raises:
        InputError: an image of the annotations has no file name.
    """
    chosen = choose_images(compared.comparison, count)
    if not chosen:
        return [], []
    folder = compared.ground_truth.images
    if folder is None:
        return [], ["no pictures: the folder of images is not found; give --images DIR"]
    try:
        return _draw(compared, chosen), []
    except (InputError, OSError) as error:
        return [], [f"no pictures: {error}"]


def choose_images(comparison: Comparison, count: int) -> dict[int, dict[str, Sequence[int]]]:
    """image id -> kind of picture -> the rows of the truth that one finds and the other misses.

    The kinds take turns, so that the first pictures show something of each.
    """
    found = found_by_one(comparison)
    chosen: dict[int, dict[str, Sequence[int]]] = {}
    for place in range(count):
        for one in found:
            if place < len(one.images):
                chosen.setdefault(one.images[place]["image_id"], {})
    for one in found:
        for image in one.images:
            if image["image_id"] in chosen:
                chosen[image["image_id"]][one.kind] = image["truths"]
    return chosen


def _draw(
    compared: Compared, chosen: Mapping[int, Mapping[str, Sequence[int]]]
) -> list[ComparisonPicture]:
    ground = compared.ground_truth
    truth = ground.truth
    places = {image_id: int(np.searchsorted(truth.image_ids, image_id)) for image_id in chosen}
    images: dict[int, Image.Image] = {}
    for image_id in chosen:
        name = ground.file_names.get(image_id)
        if name is None or ground.images is None:
            raise InputError(f"{ground.path}: image {image_id} has no file_name")
        images[image_id] = Image.fromarray(read_pixels(ground.images / name))
    sides = {places[image_id]: image.size for image_id, image in images.items()}
    names = compared.comparison["names"]
    found = [_found(compared, index, sides) for index in range(len(names))]
    shared = set.intersection(*(each.sure for each in found))
    pictures = []
    for image_id, image in images.items():
        place, kinds = places[image_id], chosen[image_id]
        uri, size = embed(image)
        sought = {row for kind in kinds.values() for row in kind}
        groups: tuple[list[Mark], list[Mark], list[Mark]] = ([], [], [])
        for row in np.flatnonzero(truth.images == place).tolist():
            group = 0 if row in sought else 1 if row in shared else 2
            groups[group].append(_truth(ground, row, image.size))
        of_models = [each.marks.get(place, []) for each in found]
        pictures.append(
            ComparisonPicture(
                name=ground.file_names[image_id],
                uri=uri,
                size=size,
                kinds={kind: len(objects) for kind, objects in kinds.items()},
                sought=groups[0],
                shared=groups[1],
                truths=groups[2],
                found=[[m for m, row in marks if row not in shared] for marks in of_models],
                found_shared=[[m for m, row in marks if row in shared] for marks in of_models],
            )
        )
    return pictures


class _DetectorMarks(NamedTuple):
    """What one detector found on the chosen images.

    Args:
        marks: by position of the image, the surest last, each with the row of its object or -1.
        sure: rows of the objects that it finds with a score that is enough.
    """

    marks: dict[int, list[tuple[Mark, int]]]
    sure: set[int]


def _found(compared: Compared, index: int, sides: Mapping[int, tuple[int, int]]) -> _DetectorMarks:
    ground, detections = compared.ground_truth, compared.detections(index)
    truth = ground.truth
    kept = np.isin(detections.images, list(sides)) & (detections.scores >= LOWEST)
    some = pick_rows(detections, np.flatnonzero(kept))
    sigmas = compared.comparison["scores"][0].get("sigmas", ())
    grid = make_grid(compared.comparison["iou_type"], sigmas=sigmas)
    matches = match(truth, some, grid)
    level = grid.threshold(0.5)
    objects, ignored = matches.matched[0, level], matches.ignored[0, level]
    marks: dict[int, list[tuple[Mark, int]]] = {}
    for at in np.argsort(-matches.scores, kind="stable").tolist():  # the surest first
        row, image = int(matches.rows[at]), int(matches.images[at])
        own = marks.setdefault(image, [])
        if len(own) == MOST:
            continue
        shaped = len(own) < MOST_SHAPES
        mark = make_mark(
            "ignored" if ignored[at] else "right" if objects[at] >= 0 else "false",
            some.boxes[row],
            sides[image],
            name=truth.names[some.categories[row]],
            score=float(some.scores[row]),
            mask=some.masks[row] if some.masks and shaped else None,
            skeleton=_skeleton(ground, some, row, sides[image]) if shaped else None,
            tint=COLOURS[index % len(COLOURS)],
        )
        own.append((mark, int(objects[at])))
    sure = objects[(objects >= 0) & ~ignored & (matches.scores >= SCORE_OF_FOUND)]
    return _DetectorMarks({image: own[::-1] for image, own in marks.items()}, set(sure.tolist()))


def _truth(ground: ComparedSplit, row: int, sides: tuple[int, int]) -> Mark:
    truth = ground.truth
    return make_mark(
        "crowd" if truth.crowd[row] else "truth",
        truth.boxes[row],
        sides,
        name=truth.names[truth.categories[row]],
        score=-1.0,
        mask=truth.masks[row] if truth.masks else None,
        skeleton=_skeleton(ground, truth, row, sides),
    )


def _skeleton(
    ground: ComparedSplit, columns: GroundTruth | Detections, row: int, sides: tuple[int, int]
) -> Skeleton | None:
    """That of an object or a detection; all of a detection's keypoints are there."""
    counts = ground.truth.keypoint_counts
    if columns.keypoints is None or counts is None:
        return None
    category = int(columns.categories[row])
    points = columns.keypoints[row, : counts[category]].copy()
    if isinstance(columns, Detections):
        points[:, 2] = 1
    edges = ground.layout.own_edges(category + 1) if ground.layout else ()
    return make_skeleton(points, edges, sides)
