"""Runs an engine over a data set and gives what it finds as COCO results."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from detnet.coco.annotations import Annotations
from detnet.data.images import read_pixels
from detnet.errors import InputError
from detnet.evaluation.results import Results, join_results, to_results
from detnet.inference.engines.base import Engine, Pixels

_AHEAD = 8  # images decoded before they are needed
Track = Callable[[Iterable[Any], int], Iterable[Any]]


def engine_results(
    engine: Engine,
    annotations: Annotations,
    *,
    score_threshold: float,
    chosen: Sequence[int] | None = None,
    track: Track | None = None,
) -> Results:
    """Detects on every image of a split; the next ones are decoded on another thread meanwhile.

    An engine that runs several at once gets those together that the network sees at one size: in
    the order of the file there are few such neighbours, and the rest of a batch would be copies.

    Args:
        annotations: of the images.
        score_threshold: objects below it are left out.
        chosen: positions of images to look at; None for all.
        track: wraps the images to show progress.

    Returns:
        What was found, in the order of `chosen`.

    Raises:
        InputError: an image cannot be read, or has not the size that the annotations say.
    """
    at_once = engine.batch or 1
    chosen = range(len(annotations)) if chosen is None else chosen

    def size(place: int) -> tuple[int, int]:
        width, height = annotations.sizes[place].tolist()
        return engine.network_size(height, width)

    order = chosen if at_once == 1 else sorted(chosen, key=size)
    images = read_ahead(annotations, order)
    shown: Iterable[Pixels] = track(images, len(order)) if track else images
    of_label = annotations.keypoint_layout.of_label if annotations.keypoint_layout else None
    found: dict[int, Results] = {}
    waiting: dict[int, Pixels] = {}

    def detect() -> None:
        objects = engine.detect(list(waiting.values()), score_threshold=score_threshold)
        for place, own in zip(waiting, objects, strict=True):
            ids = annotations.image_ids[place : place + 1]
            categories = annotations.categories.ids
            found[place] = to_results([vars(own)], ids, categories, of_label)
        waiting.clear()

    for place, image in zip(order, shown, strict=True):
        if waiting and size(next(iter(waiting))) != size(place):
            detect()
        waiting[place] = image
        if len(waiting) == at_once:
            detect()
    if waiting:
        detect()
    return join_results(found[place] for place in chosen)


def read_ahead(annotations: Annotations, chosen: Sequence[int]) -> Iterator[Pixels]:
    """Reads images in their order, a few ahead of their use.

    Args:
        chosen: positions among the annotations.

    Raises:
        InputError: an image cannot be read, or has not the size that the annotations say.
    """
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(_read, annotations, index) for index in chosen[:_AHEAD]]
        for place in range(len(chosen)):
            image = waiting.pop(0).result()
            if place + _AHEAD < len(chosen):
                waiting.append(pool.submit(_read, annotations, chosen[place + _AHEAD]))
            yield image


def _read(annotations: Annotations, index: int) -> Pixels:
    path = annotations.image_path(index)
    image: Pixels = np.asarray(read_pixels(path))
    width, height = annotations.sizes[index]
    if image.shape[:2] != (height, width):
        raise InputError(
            f"{path}: the image is {image.shape[1]}x{image.shape[0]} (upright), but "
            f"{annotations.path} says {width}x{height}; run `detnet check` on the data set"
        )
    return image
