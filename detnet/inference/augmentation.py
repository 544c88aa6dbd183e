"""Detects on several views of an image, mirrored and at several sizes, and suppresses softly."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from detnet.coco.keypoints import KeypointLayout
from detnet.detectors.base import Detector, Suppress
from detnet.errors import InputError
from detnet.inference.pasting import pack_pixels, packing_masks
from detnet.inference.soft_nms import ALL, DECAYS, Decay, soft_nms

_NEVER = 2.0  # an overlap that no two boxes have


@contextmanager
def replacing_suppression(network: Detector, suppress: Suppress) -> Iterator[None]:
    """Lets `suppress` decide among a detector's candidates instead of its own suppression.

    Masks and keypoints are looked for afterwards, of the boxes chosen only.

    Args:
        network: any detector in eval mode.
        suppress: sees boxes in pixels of the network's input.
    """
    owner = network.post_processor
    before = owner.nms_thresh, owner.detections_per_img
    owner.nms_thresh, owner.detections_per_img, owner.suppress = _NEVER, ALL, suppress
    try:
        yield
    finally:
        owner.nms_thresh, owner.detections_per_img = before
        owner.suppress = None


Detections = dict[str, Any]

CANDIDATES = 1000  # of a view, the surest, where all views are suppressed together


@dataclass(frozen=True)
class PredictionOptions:
    """What is done at prediction beyond one look at the image; nothing by default.

    Args:
        soft_nms: suppress softly, "linear" or "gaussian"; the detector's own overlap is the linear
            one's threshold. None is the detector's own hard suppression.
        tta_scales: short sides in pixels at which each image is looked at, the long side's limit
            in proportion; none is the detector's own size.
        tta_flip: look at each view's mirror image, too.

    Raises:
        InputError: no such suppression, or sizes that are not positive or come twice.
    """

    soft_nms: Decay | None = None
    tta_scales: tuple[int, ...] = ()
    tta_flip: bool = False

    def __post_init__(self) -> None:
        if self.soft_nms not in (None, *DECAYS):
            raise InputError(f"soft_nms must be 'linear' or 'gaussian', got {self.soft_nms!r}")
        if any(size < 1 for size in self.tta_scales):
            raise InputError(
                f"tta_scales must be positive numbers of pixels, got {list(self.tta_scales)}"
            )
        if len(set(self.tta_scales)) < len(self.tta_scales):
            raise InputError(f"tta_scales names a size twice: {list(self.tta_scales)}")

    @property
    def name(self) -> str:
        """Tells these options from others, as a folder's name; nothing for none."""
        sizes = "-".join(map(str, self.tta_scales))
        parts = [f"soft-{self.soft_nms}" * bool(self.soft_nms), f"scales-{sizes}" * bool(sizes)]
        return "+".join(part for part in [*parts, "flip" * self.tta_flip] if part)

    @property
    def views(self) -> list[tuple[int, bool]]:
        """Each view's short side, 0 for the detector's own, and whether it is mirrored."""
        mirrors = (False, True) if self.tta_flip else (False,)
        return [(size, mirror) for size in self.tta_scales or (0,) for mirror in mirrors]


def detect(
    network: Detector, images: Sequence[Tensor], options: PredictionOptions
) -> list[Detections]:
    """Runs a detector with these options, in eval mode; without any as it is.

    The views' boxes are mapped back to the image and suppressed together, within each class, by the
    detector's own overlap or softly; masks and keypoints go with their boxes.

    Args:
        network: in eval mode, with `info` as `detnet.create` gives it.
        images: (3, H, W) each, on the network's device.
        options: see `PredictionOptions`.

    Returns:
        what the detector gives, its masks as a list of COCO's run lengths.

    Raises:
        InputError: soft suppression of several views by a detector of masks or keypoints; mirrored
            views of keypoints of which it is not known which are left and right.
    """
    owner = network.post_processor
    iou, max_detections = owner.nms_thresh, owner.detections_per_img
    suppress = _suppression(options, iou, max_detections)
    if options.views == [(0, False)]:
        softly = replacing_suppression(network, suppress) if options.soft_nms else nullcontext()
        with packing_masks(network), softly:
            return network(list(images))
    mirror = _mirror_of_keypoints(network, options)
    views = [
        _predict_view(network, images, size, mirrored=mirrored, mirror=mirror, options=options)
        for size, mirrored in options.views
    ]
    return [_merge(found, suppress) for found in zip(*views, strict=True)]


def _predict_view(
    network: Detector,
    images: Sequence[Tensor],
    size: int,
    *,
    mirrored: bool,
    mirror: Tensor | None,
    options: PredictionOptions,
) -> list[Detections]:
    """What one view gives, in pixels of the images as they are."""
    given = [image.flip(-1) for image in images] if mirrored else list(images)
    # Softly on all candidates, for a neighbour may not be suppressed already.
    suppressing = (
        replacing_suppression(network, _top_candidates) if options.soft_nms else nullcontext()
    )
    with _at_size(network, size), suppressing:
        found = network(given)
    if mirrored:
        found = [
            _unmirrored(each, image.shape[-1], mirror)
            for each, image in zip(found, images, strict=True)
        ]
    return [
        {**each, "masks": each["masks"] > 0.5} if "masks" in each else each  # a quarter of the size
        for each in found
    ]


@contextmanager
def _at_size(network: Any, size: int) -> Iterator[None]:
    """Scales images to this short side; 0 leaves the detector's own."""
    transform = network.transform
    before = transform.min_size, transform.max_size
    if size:
        longest = round(transform.max_size * size / transform.min_size[-1])
        transform.min_size, transform.max_size = (size,), longest
    try:
        yield
    finally:
        transform.min_size, transform.max_size = before


def _unmirrored(found: Detections, width: int, mirror: Tensor | None) -> Detections:
    """Maps what was found in an image's mirror image back, `width` in pixels."""
    boxes = found["boxes"].clone()
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    changed = {"boxes": boxes}
    if "masks" in found:
        changed["masks"] = found["masks"].flip(-1)
    if "keypoints" in found and mirror is not None:
        points = found["keypoints"][:, mirror]
        points[..., 0] = width - points[..., 0]
        changed |= {
            "keypoints": points,
            "keypoints_scores": found["keypoints_scores"][:, mirror],
        }
    return {**found, **changed}


def _merge(found: Sequence[Detections], suppress: Suppress) -> Detections:
    together = {key: torch.cat([each[key] for each in found]) for key in found[0]}
    keep, scores = suppress(together["boxes"], together["scores"], together["labels"])
    chosen = {key: value[keep] for key, value in together.items()} | {"scores": scores}
    return chosen | {"masks": pack_pixels(chosen["masks"])} if "masks" in chosen else chosen


def _suppression(options: PredictionOptions, iou: float, max_detections: int) -> Suppress:
    def suppress(boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if options.soft_nms is None:
            keep = batched_nms(boxes, scores, labels, iou)[:max_detections]
            return keep, scores[keep]
        decay = options.soft_nms
        return soft_nms(
            boxes, scores, labels, decay=decay, iou_threshold=iou, max_detections=max_detections
        )

    return suppress


def _top_candidates(boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    best, index = scores.topk(min(CANDIDATES, len(scores)))
    return index, best


def _mirror_of_keypoints(network: Detector, options: PredictionOptions) -> Tensor | None:
    """Which keypoint each becomes in the mirror; refuses views that cannot be merged."""
    masks, keypoints = "masks" in network.targets, "keypoints" in network.targets
    if options.soft_nms and (masks or keypoints):
        what = "masks" if masks else "keypoints"
        raise InputError(
            f"this detector finds {what}: give either soft-NMS or several views, not both"
        )
    if not (keypoints and options.tta_flip):
        return None
    layout = KeypointLayout.from_json(network.info.categories, file="the model")
    if layout is None:
        raise InputError(
            "mirrored views need names of the keypoints, to tell left from right, and this model "
            "was not trained with any; leave tta_flip out"
        )
    return torch.from_numpy(layout.mirrored)
