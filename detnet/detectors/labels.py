"""Labels 1 … K outside of one-stage detectors whose channels count from 0."""

from typing import Any

from torch import Tensor


class LabelsFromOne:
    """Goes before a detector of torchvision's that takes a label as the index of its channel.

    Such a detector has no channel for the background; here channel 0 is label 1.
    """

    @staticmethod
    def as_channels(targets: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Gives the targets with their labels as channels, 0 … K − 1."""
        return [{**target, "labels": target["labels"] - 1} for target in targets]

    def postprocess_detections(self, *outputs: Any) -> list[dict[str, Tensor]]:
        """Gives the kept `boxes`, `scores` and `labels` 1 … K of each image."""
        found: list[dict[str, Tensor]]
        found = super().postprocess_detections(*outputs)  # type: ignore[misc]
        return [{**image, "labels": image["labels"] + 1} for image in found]
