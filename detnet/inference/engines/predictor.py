"""Any engine behind the methods of a `Predictor`: images of every form in, predictions out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detnet.coco.keypoints import KeypointLayout, unnamed_layout
from detnet.errors import InputError
from detnet.inference.draw import to_picture
from detnet.inference.engines.base import Engine, Found, Pixels
from detnet.inference.engines.exported import ExportedEngine
from detnet.inference.engines.record import RUNTIMES, read_export
from detnet.inference.prediction import ImageLike, Prediction, pixels_of
from detnet.tables import unknown_name

if TYPE_CHECKING:
    from detnet.inference.augmentation import PredictionOptions

ENGINES = ("torch", "openvino", "onnxruntime")
REFUSED = "is an export, which looks at each image once and suppresses by itself"


class EnginePredictor:
    """An engine ready for use, as `detnet.load` gives it for an exported folder.

    Args:
        engine: what runs.
        score_threshold: objects below it are not reported.
        source: what it was loaded from, for messages.

    Raises:
        InputError: the threshold is not within 0 … 1.
    """

    def __init__(
        self, engine: Engine, *, score_threshold: float = 0.5, source: str | Path = "this model"
    ) -> None:
        if not 0 <= score_threshold <= 1:
            raise InputError(f"the score threshold must be in 0 … 1, got {score_threshold}")
        self.engine = engine
        self.score_threshold = score_threshold
        self.source = source
        self.category_ids = engine.category_ids
        self.class_names = engine.class_names
        self.layout = engine.layout
        self.batch = engine.batch

    def predict(
        self, image: ImageLike, *, options: "PredictionOptions | None" = None
    ) -> Prediction:
        """Finds the objects in one image.

        Args:
            image: as `Predictor.predict` takes it.
            options: none can be had here.

        Raises:
            InputError: no image as `Predictor.predict` takes it, or options.
        """
        return self.predict_batch([image], options=options)[0]

    def predict_batch(
        self, images: Sequence[ImageLike], *, options: "PredictionOptions | None" = None
    ) -> list[Prediction]:
        """Finds the objects in several images, which may differ in size.

        Args:
            options: none can be had here.

        Raises:
            InputError: options are given, or the threshold is below the one that was built in.
        """
        refuse_options(options, self.source)
        pixels = [to_pixels(image) for image in images]
        found = self.engine.detect(pixels, score_threshold=self.score_threshold)
        pairs = zip(found, pixels, strict=True)
        return [self.to_prediction(each, image.shape[:2]) for each, image in pairs]

    def to_prediction(self, found: Found, size: tuple[int, ...]) -> Prediction:
        """Names what an engine found.

        Args:
            size: height and width of the image, pixels.
        """
        layout: KeypointLayout | None = None
        if found.keypoints is not None:
            layout = self.layout or unnamed_layout(len(self.class_names), found.keypoints.shape[1])
        return Prediction(
            boxes=found.boxes,
            labels=found.labels,
            scores=found.scores,
            names=tuple(self.class_names[label - 1] for label in found.labels.tolist()),
            category_ids=tuple(self.category_ids[label - 1] for label in found.labels.tolist()),
            size=(size[1], size[0]),
            run_lengths=found.masks,
            keypoints=found.keypoints,
            keypoint_scores=found.keypoint_scores,
            layout=layout,
        )


def open_engine(
    folder: Path, *, name: str = "auto", threads: int | None = None, profile: bool = False
) -> ExportedEngine:
    """Opens an exported folder in the runtime that it was made for.

    Args:
        name: of `ENGINES`, or "auto".
        threads: that one call may use; None as the process was given.
        profile: see `ExportedEngine.read_profile`.

    Raises:
        InputError: the folder cannot be used, or not with that engine.
    """
    require_engine(name)
    record = read_export(folder)
    own = RUNTIMES[record.format]
    if name not in ("auto", own):
        raise InputError(
            f"{folder}: is an export for {own}, which --engine {name} does not run; leave --engine "
            f"out, or give the model that it was made of ({record.source.name})"
        )
    # Each imports its runtime alone.
    if own == "openvino":
        from detnet.inference.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(folder, threads=threads, profile=profile)
    from detnet.inference.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(folder, threads=threads, profile=profile)


def load_export(
    path: Path,
    *,
    score_threshold: float = 0.5,
    device: object = None,
    profile: bool = False,
) -> EnginePredictor:
    """Loads an exported folder.

    Args:
        score_threshold: see `Predictor`.
        device: the CPU, where it is named at all.
        profile: see `ExportedEngine.read_profile`.

    Raises:
        InputError: the folder or its runtime cannot be used, or another device is asked for.
    """
    if str(device or "cpu") != "cpu":
        raise InputError(f"{path}: is an export, which runs on the CPU; device {str(device)!r}")
    engine = open_engine(path, profile=profile)
    return EnginePredictor(engine, score_threshold=score_threshold, source=path)


def require_engine(name: str) -> None:
    """Refuses what is no engine.

    Raises:
        InputError: naming the nearest.
    """
    if name not in ("auto", *ENGINES):
        raise InputError(unknown_name("engine", name, ("auto", *ENGINES)))


def refuse_options(options: "PredictionOptions | None", source: object) -> None:
    """Refuses what only a network in torch can do.

    Raises:
        InputError: naming the first option that asks for it.
    """
    given: dict[str, Any] = vars(options) if options is not None else {}
    name = next((name for name, value in given.items() if value), None)
    if name is not None:
        raise InputError(
            f"{source}: {REFUSED}; leave {name} out, or give the run folder or .safetensors file"
        )


def to_pixels(image: ImageLike) -> Pixels:
    """Gives an image of any form as (H, W, 3) uint8, upright.

    Raises:
        InputError: no image, or one of another shape.
    """
    pixels = pixels_of(image)
    plain = isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8
    if isinstance(pixels, np.ndarray) and plain and pixels.shape[2:] == (3,) and pixels.size:
        return pixels
    return np.asarray(to_picture(pixels))
