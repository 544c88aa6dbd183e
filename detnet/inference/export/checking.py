"""Runs an export beside torch, on pictures and on a data set, and says how far they lie apart."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from detnet.coco.annotations import Annotations
from detnet.coco.ground_truth import GroundTruths
from detnet.data.scenes import draw_scene
from detnet.engine.environment import cpu_name
from detnet.errors import InputError
from detnet.evaluation.comparison.compare import compare
from detnet.evaluation.detections import on_images
from detnet.evaluation.results import Results
from detnet.files import replacing, write_json
from detnet.inference.engines.base import Engine, Found, Pixels
from detnet.inference.engines.predictor import EnginePredictor
from detnet.inference.engines.record import CHECK_FILE
from detnet.inference.engines.results import Track, engine_results, read_ahead
from detnet.inference.export.differences import (
    BOUNDS,
    Bounds,
    Differences,
    difference,
    sum_up,
)
from detnet.text import count

PICTURE_FILE = "check.png"
MOST_IMAGES = 24  # of a data set that are compared object by object
# Width and height of the drawn ones: wide, tall, far from the network's own, and nearly square.
DRAWN_SIZES = ((320, 240), (240, 320), (500, 210), (333, 347), (640, 480), (211, 500))
_SHOWN = 0.3  # what the picture shows is this sure, where there is any such
_HEIGHT = 480  # of the picture, pixels


@dataclass(frozen=True)
class CheckData:
    """A split to be scored on, or a part of one.

    Args:
        annotations: of all images of the split.
        truths: what is to be found on those that are chosen.
        chosen: their positions among the annotations; None for all.
    """

    annotations: Annotations
    truths: GroundTruths
    chosen: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def positions(self) -> Sequence[int]:
        """Of the chosen images among the annotations."""
        return range(len(self.annotations)) if self.chosen is None else self.chosen

    def divide(self, most: int) -> "tuple[CheckData, CheckData]":
        """Sets images from all over aside, half of them but no more than so many; then the rest.

        Raises:
            InputError: there are fewer than two.
        """
        if len(self) < 2:
            raise InputError(
                f"{self.annotations.path}: int8 needs 2 images or more to validate on, for its "
                "layers are chosen on some and AP is told on the others"
            )
        aside = {self.positions[place] for place in spread(len(self), min(most, len(self) // 2))}
        rest = [each for each in self.positions if each not in aside]
        return self._only(sorted(aside)), self._only(rest)

    def _only(self, chosen: Sequence[int]) -> "CheckData":
        ids = self.annotations.image_ids[list(chosen)]
        truths = {
            kind: truth and on_images(truth, ids) for kind, truth in vars(self.truths).items()
        }
        return CheckData(self.annotations, GroundTruths(**truths), tuple(chosen))


@dataclass(frozen=True)
class Precisions:
    """AP of the model in torch and of its export, and the interval of their difference."""

    iou_type: str
    torch: float
    export: float
    difference: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class CheckReport:
    """What checking found; `check.json` holds it.

    Args:
        runs_as: what the machine computed the export in.
        torch_runs_as: what it computed torch's in.
        pictures: "drawn", or "data".
        bounds: that were asked for.
        differences: of the images compared object by object.
        ap: for each kind of object, where there was a data set to measure it on.
        ap_images: how many images of the split that is of.
        other_images: likewise, that it leaves out, for int8's layers were chosen by them.
        machine: the processor on which it was.
        torch_s: median of the seconds that an image took torch, of images of several sizes; the
            mean where the export takes several at once.
        export_s: likewise.
        failures: what lay beyond its bound; none of an export that is kept.
    """

    runs_as: str
    torch_runs_as: str
    pictures: str
    bounds: Bounds
    differences: Differences
    ap: tuple[Precisions, ...]
    ap_images: int
    other_images: int
    machine: str
    torch_s: float
    export_s: float
    failures: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """Writes `check.json`."""
        write_json(folder / CHECK_FILE, asdict(self))


def check_export(
    export: Engine,
    torch: Engine,
    *,
    precision: str,
    threshold: float,
    limit: int,
    picture: Path,
    data: CheckData | None = None,
    track: Track | None = None,
) -> CheckReport:
    """Compares an export with the model in torch, and draws the image where they differ most.

    Args:
        export: what is checked.
        torch: what it must equal.
        precision: whose bounds hold, of `BOUNDS`.
        threshold: below it the export gives nothing out.
        limit: how many objects it gives out at most.
        picture: file for the worst image, both sides beside each other.
        data: images to compare on instead of drawn ones, and to measure AP on.
        track: wraps the images of the data set to show progress.

    Raises:
        InputError: neither finds anything on the images, so that nothing can be compared.
    """
    bounds = BOUNDS[precision]
    several = export.batch not in (None, 1)
    images = _of_data(data, mirrored=several) if data else drawn_images()
    own: list[Found] = []
    others: list[Found] = []
    times: list[tuple[float, float]] = []
    # What takes several at once gets different ones together: beside copies of itself no image
    # would show what others do to it.
    at_once = len(images) if several else 1
    for start in range(0, len(images), at_once):
        group = images[start : start + at_once]
        begun = time.perf_counter()
        own += [torch.detect([image], score_threshold=threshold)[0] for image in group]
        between = time.perf_counter()
        others += export.detect(group, score_threshold=threshold)
        times.append((between - begun, time.perf_counter() - between))
    each = [
        difference(one, other, bounds, threshold=threshold, limit=limit)
        for one, other in zip(own, others, strict=True)
    ]
    total = sum_up(each)
    if not total.objects:
        raise InputError(
            f"nothing to check the export by: on {total.images} images the model finds no object "
            f"surer than {threshold:g}; give --data DATA with images of what it knows"
        )
    worst = max(range(len(each)), key=lambda place: each[place].badness(bounds))
    draw_beside(picture, images[worst], [(torch, own[worst]), (export, others[worst])])
    ap = _precisions(export, torch, data, threshold, track) if data else ()
    failures = total.failures(bounds) + [
        f"AP of {one.iou_type} is {-100 * one.difference:.2f} lower, and {100 * bounds.ap:g} may be"
        for one in ap
        if one.difference < -bounds.ap
    ]
    torch_s, export_s = np.median(times, axis=0) / at_once
    return CheckReport(
        runs_as=export.runs_as,
        torch_runs_as=torch.runs_as,
        pictures="data" if data else "drawn",
        bounds=bounds,
        differences=total,
        ap=ap,
        ap_images=len(data) if data else 0,
        other_images=len(data.annotations) - len(data) if data else 0,
        machine=cpu_name(),
        torch_s=round(float(torch_s), 5),
        export_s=round(float(export_s), 5),
        failures=tuple(failures),
    )


def drawn_images() -> list[Pixels]:
    """Scenes of several sizes, and two pictures with nothing on them."""
    scenes = [
        draw_scene(np.random.default_rng(number), size)[0]
        for number, size in enumerate(DRAWN_SIZES * 2)
    ]
    return [*scenes, np.full((230, 310, 3), 120, np.uint8), np.zeros((64, 200, 3), np.uint8)]


def spread(total: int, most: int) -> list[int]:
    """Positions from all over so many, ascending, no more than so many."""
    return sorted({*np.linspace(0, total - 1, min(most, total)).astype(int).tolist()})


def _of_data(data: CheckData, *, mirrored: bool) -> list[Pixels]:
    """Images from all over a split, and one with nothing on it.

    Args:
        mirrored: each of them is followed by its mirror image, another one of the same size.
    """
    chosen = [data.positions[place] for place in spread(len(data), MOST_IMAGES)]
    images = list(read_ahead(data.annotations, chosen))
    if mirrored:
        pairs = ((image, np.ascontiguousarray(image[:, ::-1])) for image in images)
        images = [image for pair in pairs for image in pair]
    return [*images, np.full((230, 310, 3), 120, np.uint8)]


def _precisions(
    export: Engine, torch: Engine, data: CheckData, threshold: float, track: Track | None
) -> tuple[Precisions, ...]:
    results = [
        engine_results(
            engine,
            data.annotations,
            score_threshold=threshold,
            chosen=data.positions,
            track=track,
        )
        for engine in (torch, export)
    ]
    return paired_precisions(data.truths, results)


def paired_precisions(truths: GroundTruths, results: Sequence[Results]) -> tuple[Precisions, ...]:
    """AP of two detectors' COCO results and the interval of its difference, for each kind."""
    found = []
    for iou_type in ("bbox", "segm", "keypoints"):
        truth = getattr(truths, iou_type)
        if truth is None:
            continue
        own = [one.of_kind(iou_type) for one in results]
        compared = compare(truth, own, names=["torch", "export"], iou_type=iou_type)
        cell = compared["differences"][0]["headline"]["AP"]
        if cell is not None:
            ends = cell["low"], cell["high"]
            found.append(
                Precisions(iou_type, cell["first"], cell["other"], cell["difference"], *ends)
            )
    return tuple(found)


def draw_beside(path: Path, image: Pixels, found: Sequence[tuple[Engine, Found]]) -> None:
    """Draws what several engines found in one image, each under its name."""
    panels = []
    for engine, own in found:
        least = min(_SHOWN, float(own.scores.max(initial=0.0)))
        sure = own.scores >= least
        prediction = EnginePredictor(engine).to_prediction(_chosen(own, sure), image.shape[:2])
        panel = prediction.draw(image)
        width = max(1, round(panel.width * _HEIGHT / panel.height))
        panel = panel.resize((width, _HEIGHT))
        titled = Image.new("RGB", (width, _HEIGHT + 24), "white")
        titled.paste(panel, (0, 24))
        text = f"{engine.name} {engine.precision}: {tell_drawn(len(own), int(sure.sum()), least)}"
        ImageDraw.Draw(titled).text((6, 6), text, fill="black")
        panels.append(titled)
    whole = Image.new("RGB", (sum(panel.width for panel in panels), _HEIGHT + 24), "white")
    left = 0
    for panel in panels:
        whole.paste(panel, (left, 0))
        left += panel.width
    with replacing(path) as beside:
        whole.save(beside, "PNG")


def tell_drawn(found: int, drawn: int, least: float) -> str:
    """Says how many objects a picture shows, and from which score on where that is not all."""
    if drawn == found:
        return count(found, "object")
    return f"{found} found, {drawn} drawn (from {math.floor(100 * least) / 100:.2f})"


def _chosen(found: Found, rows: np.ndarray) -> Found:
    index = np.flatnonzero(rows)

    def pick(values: Any) -> Any:
        if values is None:
            return None
        return [values[row] for row in index] if isinstance(values, list) else values[index]

    return Found(**{name: pick(value) for name, value in vars(found).items()})


Tell = Callable[[str], None]
