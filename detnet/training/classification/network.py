"""The classifier that a run's settings describe, with its loss."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from detnet.backbones import build_backbone
from detnet.backbones.base import Classifier
from detnet.backbones.files import ClassifierInfo
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.evaluate import network_input


class TrainedClassifier(Classifier):
    """A classifier that gives its loss in training, and takes 8-bit images then.

    Args:
        info: how the images become the network's input.
        label_smoothing: share of the target that is spread over all classes.
    """

    def __init__(self, backbone: Any, info: ClassifierInfo, label_smoothing: float) -> None:
        super().__init__(backbone, len(info.classes))
        self.info, self.label_smoothing = info, label_smoothing

    def forward(self, images: Tensor, targets: list[dict[str, Any]] | None = None) -> Any:
        """Maps (N, 3, H, W) normalised images to logits, or uint8 images and targets to losses."""
        if targets is None:
            return super().forward(images)
        inputs = network_input(images, self.info, targets)
        labels, shares = (
            torch.tensor([target[name] for target in targets]).to(images.device, non_blocking=True)
            for name in ("label", "share")
        )
        if mixed := any(target["share"] < 1 for target in targets):
            share = shares[:, None, None, None]
            inputs = inputs * share + inputs.roll(1, 0) * (1 - share)
        logits = super().forward(inputs).float()
        loss = self._loss(logits, labels)
        if mixed:
            loss = loss * shares + self._loss(logits, labels.roll(1, 0)) * (1 - shares)
        return {"loss_classifier": loss.mean()}

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            return F.cross_entropy(
                logits, labels, label_smoothing=self.label_smoothing, reduction="none"
            )


def describe(config: PretrainConfig, classes: Sequence[str]) -> ClassifierInfo:
    """The classifier that a run's settings ask for, with the defaults of what they leave open."""
    return ClassifierInfo(
        config.backbone,
        tuple(classes),
        {
            "width": config.width,
            "stride_in": config.stride_place,
            "norm": config.norm,
            **config.backbone_options,
        },
        config.image_size,
        config.short_side,
        **_images(config),
    )


def build_classifier(config: PretrainConfig, classes: Sequence[str]) -> TrainedClassifier:
    """Builds the classifier that the settings describe, its weights drawn at random.

    Raises:
        InputError: an unknown name or option.
    """
    info = describe(config, classes)
    backbone = build_backbone(config.backbone, **info.options)
    return TrainedClassifier(backbone, info, config.label_smoothing)


def _images(config: PretrainConfig) -> dict[str, Any]:
    """What the settings say of the images."""
    found: dict[str, Any] = {}
    if config.pixel_mean:
        found["pixel_mean"] = tuple(config.pixel_mean)
    if config.pixel_std:
        found["pixel_std"] = tuple(config.pixel_std)
    if config.channel_order != "auto":
        found["channel_order"] = config.channel_order
    return found
