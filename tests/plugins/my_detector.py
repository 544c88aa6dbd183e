"""A detector of one's own: a cell of the backbone's last level finds the object centred in it."""

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_convert, clip_boxes_to_image

from detnet.backbones.base import Backbone
from detnet.detectors import DETECTORS
from detnet.detectors.base import Detection, SimpleDetector
from detnet.detectors.images import ImageOptions, ImageTransform


class Centres(SimpleDetector):
    """A detector without anchors or pyramid: scores of the classes and two sides a cell."""

    class_layers = ("classes.",)

    def __init__(self, backbone: Backbone, num_classes: int, *, images: ImageOptions) -> None:
        super().__init__()
        self.backbone, self.transform = backbone, ImageTransform(images)
        self.last = backbone.feature_info[-1]
        self.classes = nn.Conv2d(self.last.channels, num_classes - 1, 1)
        self.sides = nn.Conv2d(self.last.channels, 2, 1)

    def run_layers(self, images: Tensor) -> tuple[Tensor, Tensor]:
        level = self.backbone(images)[self.last.name]
        return self.classes(level).float(), self.sides(level).float()

    def losses(self, batch: ImageList, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        classes, sides = self.run_layers(batch.tensors)
        wanted, error = torch.zeros_like(classes), sides.sum() * 0
        for index, target in enumerate(targets):
            centre, size = box_convert(target["boxes"], "xyxy", "cxcywh").split(2, dim=1)
            x, y = (centre / self.last.stride).long().T
            wanted[index, target["labels"] - 1, y, x] = 1
            error = error + (sides[index, :, y, x].T - size.log()).abs().mean(1).sum()
        loss = nn.functional.binary_cross_entropy_with_logits(classes, wanted)
        return {"loss_classifier": loss, "loss_box_reg": error / len(targets)}

    def detect(self, batch: ImageList) -> list[Detection]:
        found = []
        outputs = (*self.run_layers(batch.tensors), batch.image_sizes)
        for logits, sides, size in zip(*outputs, strict=True):
            label, y, x = (logits.sigmoid() > self.score_thresh).nonzero().T
            centre = torch.stack([x + 0.5, y + 0.5], dim=1) * self.last.stride
            half = sides[:, y, x].T.exp() / 2
            boxes = clip_boxes_to_image(torch.cat([centre - half, centre + half], dim=1), size)
            found.append(self.suppressed(boxes, logits[label, y, x].sigmoid(), label + 1))
        return found


DETECTORS.register("centres", Centres)
