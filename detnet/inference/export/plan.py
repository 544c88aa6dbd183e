"""What is to be exported, and what the folder says of it to those who read it."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnet.backbones import LARGEST_SIDE
from detnet.detectors.base import Detector, info_of
from detnet.errors import InputError
from detnet.files import sha256_of
from detnet.inference.engines.record import (
    LEAST,
    NETWORKS,
    RUNTIMES,
    VERSION,
    ExportRecord,
    ExportSource,
    ImageInput,
    Thresholds,
    check_precision,
)


@dataclass(frozen=True)
class ExportPlan:
    """What is to be exported, and how.

    Args:
        model: the `.safetensors` file.
        output: folder to be made.
        format: "onnx" or "openvino".
        precision: of `PRECISIONS`.
        batch: images at once.
        image_size: height and width of the network's input; None for any.

    Raises:
        InputError: an unknown format or precision, a size or batch that is none, or an output that
            holds something already.
    """

    model: Path
    output: Path
    format: str = "openvino"
    precision: str = "fp32"
    batch: int = 1
    image_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_precision(self.format, self.precision)
        if self.batch < 1:
            raise InputError(f"batch must be 1 or more, got {self.batch}")
        if any(not 32 <= side <= LARGEST_SIDE for side in self.image_size or ()):
            raise InputError(
                f"image_size must be 32 pixels or more, {LARGEST_SIDE} at most, got "
                f"{self.image_size}"
            )
        if self.output.is_dir() and any(self.output.iterdir()):
            raise InputError(f"{self.output}: holds something already; name a new folder")
        if self.output.exists() and not self.output.is_dir():
            raise InputError(f"{self.output}: is a file; name a new folder")


def image_input(plan: ExportPlan, model: Detector) -> ImageInput:
    """Says how a picture becomes the exported network's input.

    Raises:
        InputError: a detector of squares is to get other sides.
    """
    transform = model.transform
    if transform.square and plan.image_size and len({*plan.image_size}) > 1:
        raise InputError(
            f"{info_of(model).detector} squeezes images to squares here; give one number twice as "
            f"image_size, got {plan.image_size}"
        )
    colours = transform.options.pixel_mean[:: 1 if transform.options.channel_order == "rgb" else -1]
    red, green, blue = (round(255 * min(max(value, 0), 1)) for value in colours)
    return ImageInput(
        resize="square" if transform.square else "aspect",
        min_size=int(transform.min_size[-1]),
        max_size=int(transform.max_size),
        size=plan.image_size,
        fill=(red, green, blue),
        size_divisible=int(transform.size_divisible),
        pixel_mean=transform.options.pixel_mean,
        pixel_std=transform.options.pixel_std,
        channel_order=transform.options.channel_order,
    )


def make_record(plan: ExportPlan, model: Detector, images: ImageInput) -> ExportRecord:
    """Says all that a reader needs to know, but for the network's files."""
    info, post = info_of(model), model.post_processor
    runtime = RUNTIMES[plan.format]
    made_by = ("detnet", "torch", "onnx", runtime, *(["nncf"] if plan.precision == "int8" else []))
    format_: Any = plan.format
    precision: Any = plan.precision
    return ExportRecord(
        version=VERSION,
        format=format_,
        precision=precision,
        detector=info.detector,
        backbone=info.backbone,
        finds=model.targets,
        categories=tuple(info.named_categories),
        images=images,
        thresholds=Thresholds(
            float(post.score_thresh), float(post.nms_thresh), int(post.detections_per_img)
        ),
        batch=plan.batch,
        network=NETWORKS[plan.format],
        files={},
        source=ExportSource(plan.model.name, sha256_of(plan.model)),
        runtime={runtime: LEAST[runtime]},
        versions={name: importlib.metadata.version(name) for name in made_by},
        preprocessing=_before(images, plan.batch),
        postprocessing=_after(images, model.targets),
    )


def _before(images: ImageInput, batch: int) -> tuple[str, ...]:
    """What a reader does before the network, in words."""
    if images.size and images.resize == "aspect":
        height, width = images.size
        scaling = (
            f"Scale it by min({height} / height, {width} / width), fractions of a pixel cut off, "
            f"lay it into the upper left of {height} by {width} pixels and fill the rest with "
            "the colour fill."
        )
    elif images.resize == "square":
        height, width = images.size or (images.min_size, images.min_size)
        scaling = f"Scale it to {height} by {width} pixels, whatever its aspect."
    else:
        scaling = (
            f"Scale it by min({images.min_size} / short side, {images.max_size} / long side), "
            "fractions of a pixel cut off."
        )
    return (
        "Decode the picture as RGB and turn it upright as its EXIF says.",
        scaling + " Bilinear with antialiasing, as pillow's BILINEAR, across before down.",
        f"Give it as images, uint8 of shape ({batch}, 3, height, width); the network normalises, "
        "orders the channels and pads.",
    )


def _after(images: ImageInput, targets: Sequence[str]) -> tuple[str, ...]:
    """What a reader does after the network, in words."""
    found = [
        "Of each image the first count objects are real, the surest first: boxes (D, 4) as x1, y1, "
        "x2, y2, scores (D), labels (D) of which label k is categories[k - 1].",
        "Boxes are in pixels of the scaled picture: multiply x by its width before over its width "
        "after scaling, y by its heights likewise" + (", and cut them at its border."
        if images.size else "."),
    ]  # fmt: skip
    if "masks" in targets:
        found.append(
            "masks (D, M, M) are in 0 … 1: stretch each over its box"
            + (", before that is cut," if images.size else "")
            + " (bilinear) and take what is above 0.5; examples/ has a reader that does it."
        )
    if "keypoints" in targets:
        found.append(
            "keypoints (D, K, 2) are x and y in pixels of the scaled picture, keypoint_scores "
            "(D, K) how sure each is."
        )
    return tuple(found)
