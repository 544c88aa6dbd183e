"""A loss of one's own, as a third party writes it: boxes by generalised IoU in Faster R-CNN.

detnet train --detector giou_rcnn_fpn --plugin tests.plugins.my_loss …
"""

import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from detnet.detectors import DETECTORS
from detnet.detectors.faster_rcnn_fpn import FasterRCNNFPN
from detnet.detectors.heads import RegionHeads


class GIoUHeads(RegionHeads):
    def box_losses(
        self,
        logits: Tensor,
        deltas: Tensor,
        labels: list[Tensor],
        targets: list[Tensor],
        proposals: list[Tensor],
    ) -> dict[str, Tensor]:
        losses = super().box_losses(logits, deltas, labels, targets, proposals)
        label = torch.cat(labels)
        positive = label.nonzero().squeeze(1)
        found = self.box_coder.decode(deltas, proposals)[positive, label[positive]]
        objects = self.box_coder.decode(torch.cat(targets), proposals)[positive, 0]
        error = generalized_box_iou_loss(found, objects, reduction="sum")
        return losses | {"loss_box_reg": error / max(1, len(label))}


class GIoUFasterRCNNFPN(FasterRCNNFPN):
    heads_class = GIoUHeads


DETECTORS.register("giou_rcnn_fpn", GIoUFasterRCNNFPN)
