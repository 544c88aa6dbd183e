"""What all runtimes of an exported folder share: pictures into batches, outputs into objects."""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detnet.coco.masks import encode_pixels
from detnet.errors import InputError
from detnet.inference.engines.base import Engine, Found, Pixels
from detnet.inference.engines.images import input_size, paste_mask, prepare, scaled_size
from detnet.inference.engines.record import ExportRecord, read_export

# The network's outputs by name, each of N images and D places: (N, D, 4), (N, D), (N, D), (N,),
# (N, D, M, M), (N, D, K, 2) and (N, D, K).
BOXES, SCORES, LABELS, COUNT = "boxes", "scores", "labels", "count"
MASKS, KEYPOINTS, KEYPOINT_SCORES = "masks", "keypoints", "keypoint_scores"
INPUT = "images"  # (N, 3, H, W) uint8
_SMALLEST = 1e-6  # by which a threshold may miss the one that is built in
Outputs = dict[str, np.ndarray]


class ExportedEngine(Engine):
    """An exported folder in a runtime of its own; torch is never imported.

    Args:
        folder: as `detnet export` writes it.
        threads: that one call may use; None as the process was given, see `chosen_threads`.
        profile: keep what each node takes in each call, see `read_profile`.

    Raises:
        InputError: see `read_export`.
    """

    def __init__(self, folder: Path, *, threads: int | None = None, profile: bool = False) -> None:
        self.profile = profile
        self.folder = Path(folder)
        self.threads = threads
        self.record: ExportRecord = read_export(self.folder)
        self.precision = self.record.precision
        self.category_ids = tuple(int(each["id"]) for each in self.record.categories)
        self.class_names = tuple(str(each["name"]) for each in self.record.categories)
        self.layout = self.record.layout
        self.batch = self.record.batch
        self.least_score = self.record.thresholds.score

    @abstractmethod
    def run_network(self, images: np.ndarray) -> Outputs:
        """Runs one batch through the network; several threads may do so at once.

        Args:
            images: (N, 3, H, W) uint8, N being `batch`.

        Returns:
            arrays of the caller's own, by the names of the network's outputs.
        """

    @abstractmethod
    def read_profile(self) -> list[dict[str, float]]:
        """Seconds of each node in each call of `run_network` so far; the profile ends with it.

        Nodes that the runtime runs as one have the name of one of them, and `detnet export` names
        each by its stage: "backbone/…". Empty without `profile`.
        """

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        return input_size(height, width, self.record.images)

    def detect(self, images: Sequence[Pixels], *, score_threshold: float) -> list[Found]:
        """Finds the objects in several images, those of one `network_size` together.

        Raises:
            InputError: the threshold is below the one that is built into the network.
        """
        self.check_threshold(score_threshold)
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, image in enumerate(images):
            groups[self.network_size(*image.shape[:2])].append(index)
        found: dict[int, Found] = {}
        for group in groups.values():
            for start in range(0, len(group), self.record.batch):
                chosen = group[start : start + self.record.batch]
                found |= self.detect_batch(images, chosen, score_threshold)
        return [found[index] for index in range(len(images))]

    def check_threshold(self, score_threshold: float) -> None:
        """Refuses a score below which the network gives nothing out.

        Raises:
            InputError: naming both.
        """
        if score_threshold < self.least_score - _SMALLEST:
            raise InputError(
                f"{self.folder}: was exported to leave out scores below {self.least_score:g}, so "
                f"{score_threshold:g} would miss objects; ask for {self.least_score:g} or more"
            )

    def detect_batch(
        self, images: Sequence[Pixels], chosen: list[int], score_threshold: float
    ) -> dict[int, Found]:
        """Prepares the images at `chosen`, at most `batch`, runs them and gives what they hold."""
        batch = prepare([images[index] for index in chosen], self.record.images)
        missing = self.record.batch - len(chosen)
        if missing:  # the number is fixed; what the copies give is dropped
            batch = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
        outputs = self.run_network(batch)
        return {
            index: self.read_outputs(
                {name: values[row] for name, values in outputs.items()},
                images[index].shape[:2],
                score_threshold,
            )
            for row, index in enumerate(chosen)
        }

    def read_outputs(self, output: Outputs, size: tuple[int, ...], score_threshold: float) -> Found:
        """One image's outputs in pixels of the image."""
        height, width = size
        scores = output[SCORES].astype(np.float32)
        count = int(output[COUNT])
        order = np.argsort(-scores[:count], kind="stable")
        order = order[scores[order] >= score_threshold]
        inner = scaled_size(height, width, self.record.images)
        ratios = np.float32(width) / np.float32(inner[1]), np.float32(height) / np.float32(inner[0])
        boxes = output[BOXES][order].astype(np.float32) * np.array(ratios * 2, np.float32)
        masks = keypoints = sureness = None
        if MASKS in output:  # of whole boxes, also where these reach beyond the image
            pairs = zip(output[MASKS][order], boxes, strict=True)
            masks = [encode_pixels(paste_mask(mask, box, height, width)) for mask, box in pairs]
        boxes = boxes.clip(0, np.array([width, height] * 2, np.float32))
        if KEYPOINTS in output:
            places = output[KEYPOINTS][order].astype(np.float32) * np.array(ratios, np.float32)
            keypoints = np.concatenate([places, np.ones_like(places[..., :1])], axis=-1)
            sureness = output[KEYPOINT_SCORES][order].astype(np.float32)
        labels = output[LABELS][order].astype(np.int64)
        return Found(boxes, labels, scores[order], masks, keypoints, sureness)
