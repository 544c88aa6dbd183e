"""The classifier of a run: described by its settings, filled with the weights it begins from."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from detnet.backbones import build_backbone
from detnet.backbones.base import Classifier
from detnet.backbones.files import ClassifierInfo
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.evaluate import network_input
from detnet.training.pretrained import carry_classifier, open_for, settle_classifier


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
        labels = torch.tensor([target["label"] for target in targets], device=images.device)
        shares = torch.tensor([target["share"] for target in targets], device=images.device)
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


def make_classifier(
    config: PretrainConfig, info: ClassifierInfo, *, carry: bool
) -> tuple[TrainedClassifier, list[str]]:
    """Builds a run's classifier, loads the weights it begins from, and says what it did.

    Args:
        info: from `describe`; the model's own says what the weights changed of it.
        carry: load the weights; a resumed run has them in its checkpoint, and in its settings what
            they decided.

    Raises:
        InputError: an unknown name, or the weights cannot be read or are another network's.
    """
    source, notes = None, list[str]()
    if config.weights and carry:
        source = open_for(config.weights)
        stride = {} if config.stride_in == "auto" else {"stride_in": config.stride_in}
        info, notes = settle_classifier(info, source, asked=stride | _images(config))
    backbone = build_backbone(config.backbone, **info.options)
    model = TrainedClassifier(backbone, info, config.label_smoothing)
    if source is not None:
        notes += carry_classifier(model, info, source)
    return model, notes


def as_built(config: PretrainConfig, info: ClassifierInfo) -> PretrainConfig:
    """The settings with all that the weights decided, by which `describe` tells the same."""
    config = replace(config, stride_in=info.options["stride_in"])
    if not config.weights:
        return config
    return replace(
        config,
        pixel_mean=list(info.pixel_mean),
        pixel_std=list(info.pixel_std),
        channel_order=info.channel_order,
    )


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
