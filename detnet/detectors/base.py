"""What every detector says of itself, so that nothing else keeps lists of detectors' names."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import batched_nms

from detnet.backbones.base import FeatureInfo
from detnet.detectors.images import ImageTransform, full_precision

Network = TypeVar("Network", bound=nn.Module)


def keep_precise(*layers: nn.Module) -> None:
    """Makes these layers compute in fp32 (fp64 where their weights are), whatever autocast says.

    Weights, names and initial values stay. A number in bf16 has eight significant bits: computed in
    it, the scores of some hundred thousand anchors take only some thousand values, so that chance
    decides which of the equal ones reach suppression, and boxes move in steps. Casting the result
    to fp32 would be too late.

    Args:
        layers: convolutions, transposed convolutions and linear layers of torch's.

    Raises:
        ValueError: a layer of another kind.
    """
    for layer in layers:
        if type(layer) not in _KINDS:
            raise ValueError(f"{type(layer).__name__} is none of {', '.join(_names())}")
        # Nothing but `forward` differs; a new layer would draw its weights again.
        layer.__class__ = _KINDS[type(layer)]


class PreciseLayer:
    """Mixed in before a layer of torch's that is to compute outside autocast."""

    def forward(self, x: Tensor, *others: Any) -> Tensor:
        layer: Any = super()
        device = x.device.type
        if not torch.amp.is_autocast_available(device):  # the meta device, where costs are counted
            return layer.forward(full_precision(x), *others)
        with torch.autocast(device, enabled=False):
            return layer.forward(full_precision(x), *others)


class _PreciseConv2d(PreciseLayer, nn.Conv2d):
    pass


class _PreciseConvTranspose2d(PreciseLayer, nn.ConvTranspose2d):
    pass


class _PreciseLinear(PreciseLayer, nn.Linear):
    pass


_KINDS: dict[type[nn.Module], Any] = {
    nn.Conv2d: _PreciseConv2d,
    nn.ConvTranspose2d: _PreciseConvTranspose2d,
    nn.Linear: _PreciseLinear,
}


def plain_layers(model: Network) -> Network:
    """Takes back what `keep_precise` did, in place: these layers compute as all others do."""
    for layer in model.modules():
        if isinstance(layer, PreciseLayer):
            kind: Any = next(kind for kind, own in _KINDS.items() if own is type(layer))
            layer.__class__ = kind
    return model


def _names() -> list[str]:
    return [kind.__name__ for kind in _KINDS]


Target = Literal["boxes", "masks", "keypoints"]
# Of (N, 4) boxes, (N,) scores and (N,) labels, those to keep, surest first, and their scores.
Suppress = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Detection = dict[str, Tensor]


@dataclass
class ModelInfo:
    """All that is needed to build a detector again and to understand what it says.

    Args:
        detector: of `DETECTORS`.
        backbone: see `build_backbone`.
        num_classes: background counted.
        options: as `create` takes them, all of them, defaults too.
        categories: the data set's, `{"id", "name"}` in the order of the labels 1 …; empty if
            unknown.
    """

    detector: str
    backbone: str
    num_classes: int
    options: dict[str, Any] = field(default_factory=dict)
    categories: list[dict[str, Any]] = field(default_factory=list)

    @property
    def named_categories(self) -> list[dict[str, Any]]:
        """The categories, or numbered ones where they are unknown."""
        numbers = range(1, self.num_classes)
        return self.categories or [{"id": at, "name": f"class {at}"} for at in numbers]


class PostProcessor:
    """The part of a detector that chooses among its candidates.

    `suppress`, while it is set, does so in place of the suppression by `nms_thresh`; it sees boxes
    in pixels of the network's input.
    """

    score_thresh: float = 0.05
    nms_thresh: float = 0.5
    detections_per_img: int = 100
    suppress: Suppress | None = None

    def suppressed(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Detection:
        """Suppresses candidates within each class, in the way that is set.

        Args:
            boxes: (N, 4) xyxy.
            scores: (N,), all of them at least `score_thresh`.
            labels: (N,).

        Returns:
            `boxes`, `scores` and `labels` of those kept, surest first, at most
            `detections_per_img`.
        """
        if self.suppress is not None:
            keep, scores = self.suppress(boxes, scores, labels)
        else:
            keep = batched_nms(boxes, scores, labels, self.nms_thresh)[: self.detections_per_img]
            scores = scores[keep]
        return {"boxes": boxes[keep], "scores": scores, "labels": labels[keep]}


class Detector(PostProcessor, nn.Module):
    """A detector in torchvision's form; a subclass of it is what `DETECTORS` holds under a name.

    It is built from a backbone and the number of classes, background counted; its options are the
    keywords after these, single ones with a default or dataclasses of several; `**others` stands
    for those of its base. In train mode it maps a list of (3, H, W) images and a list of targets to
    a dict of losses, in eval mode images to detections, as `detnet.create` says. Subclasses set
    `backbone`, the backbone itself or a network of its levels, and `transform`, and are their own
    post-processor unless they say otherwise.

    Args:
        targets: what it learns from and finds; the data are read with these.
        class_layers: how the names of weights begin whose meaning rests on the categories. Where
            those differ the weights stay fresh.
        weight_options: options that weights have been trained with and must be kept with them.
        anchors_of_data: how many anchors are found among the training boxes, as the option
            `anchor_sizes`; 0 for a detector that needs none found.
        export_class: "module:class" of its form for export, a subclass of `ExportForm`; none where
            it cannot be exported.
    """

    targets: ClassVar[tuple[Target, ...]] = ("boxes",)
    class_layers: ClassVar[tuple[str, ...]]
    weight_options: ClassVar[tuple[str, ...]] = ()
    anchors_of_data: ClassVar[int] = 0
    export_class: ClassVar[str] = ""

    info: ModelInfo
    backbone: Any
    head: Any
    transform: ImageTransform

    @property
    def post_processor(self) -> PostProcessor:
        """The part that holds the thresholds of what is given out."""
        return self

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the backbone's levels that it takes, fine to coarse."""
        return tuple(self.backbone.levels)

    @property
    def head_levels(self) -> tuple[FeatureInfo, ...]:
        """The levels that its heads work on, fine to coarse."""
        levels: tuple[FeatureInfo, ...] = self.backbone.feature_info
        return levels

    @property
    def regions(self) -> int:
        """Regions of an image that a second stage looks at in evaluation; 0 without one."""
        return 0

    def count_by_level(self, sizes: Tensor) -> dict[str, int]:
        """Counts the objects that each level is to find; none where sizes alone do not decide it.

        Args:
            sizes: (B, 2), widths and heights in pixels of the network's input.
        """
        return {}

    def limit_regions(self, count: int) -> None:
        """Lets a second stage look at fewer regions in evaluation; training stays as it is."""

    def run_layers(self, images: Tensor) -> Any:
        """Runs every layer that computes on an image, once, for its multiply-adds to be counted.

        Pooling of regions and suppression are left out, as nothing is known of places here.

        Args:
            images: (1, 3, H, W), as the backbone takes them, on the meta device.
        """
        self.head(list(self.backbone(images).values()))

    def is_class_layer(self, name: str) -> bool:
        """Whether a weight's meaning depends on the categories."""
        return name.startswith(self.class_layers)


class SimpleDetector(Detector):
    """A detector that is not torchvision's: a subclass says what it loses and what it finds."""

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[Detection]:
        """Gives losses in train mode and detections in eval mode, as `detnet.create` says.

        Raises:
            ValueError: no targets in training.
        """
        given = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        batch, targets = self.transform(images, targets)
        if not self.training:
            return self.transform.postprocess(self.detect(batch), batch.image_sizes, given)
        if targets is None:
            raise ValueError("targets are needed in training")
        return self.losses(batch, targets)

    def losses(self, batch: ImageList, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Gives the losses, scalars named `loss_…`, that add up to what is minimised.

        Args:
            batch: `tensors` (N, 3, H, W), normalised and padded at right and bottom, and
                `image_sizes`, height and width of each image without the padding.
            targets: of each image `boxes` (T, 4) xyxy in pixels of the batch, and `labels` 1 … K.
        """
        raise NotImplementedError

    def detect(self, batch: ImageList) -> list[Detection]:
        """Gives each image's `boxes`, in pixels of the batch, `scores` and `labels`; see
        `suppressed`.
        """
        raise NotImplementedError


class OneStageDetector(Detector):
    """Goes before a one-stage detector of torchvision's, to choose and to label as ours do.

    Args:
        background_channel: whether the classes' channels begin with the background, as the labels
            do; else channel 0 is label 1.
    """

    class_layers: ClassVar[tuple[str, ...]] = ("head.classification_head.cls_logits.",)
    background_channel: ClassVar[bool] = False

    def as_channels(self, targets: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Gives the targets with their labels as channels."""
        first = 0 if self.background_channel else 1
        return [{**target, "labels": target["labels"] - first} for target in targets]

    @staticmethod
    def named(losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Gives torchvision's losses under the names that all detectors have."""
        names = {
            "loss_classifier": "classification",
            "loss_box_reg": "bbox_regression",
            "loss_centerness": "bbox_ctrness",
        }
        return {ours: losses[theirs] for ours, theirs in names.items() if theirs in losses}

    def postprocess_detections(self, *outputs: Any) -> list[Detection]:
        """Gives the kept `boxes`, `scores` and `labels` 1 … K of each image."""
        found: list[Detection]
        found = super().postprocess_detections(*outputs)  # type: ignore[misc]
        if self.suppress is not None:
            found = [
                self.suppressed(each["boxes"], each["scores"], each["labels"]) for each in found
            ]
        first = 0 if self.background_channel else 1
        return [{**each, "labels": each["labels"] + first} for each in found]


def info_of(model: nn.Module) -> ModelInfo:
    """Gives what a detector remembers of how it was built.

    Raises:
        ValueError: it was not made by `detnet.create`.
    """
    info = getattr(model, "info", None)
    if not isinstance(info, ModelInfo):
        raise ValueError(f"a {type(model).__name__} without `info` was not made by detnet.create")
    return info
