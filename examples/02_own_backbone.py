"""Writes a backbone as a table, puts it under Faster R-CNN by hand and takes one training step.

Its name, once registered, stands for it wherever a backbone is named: in a file of one's own it is
`detnet train --backbone shallow --plugin FILE` (docs/plugins.md).
"""

import torch

import detnet
from detnet.backbones import BACKBONES
from detnet.backbones.stages import Stage, StagedNet
from detnet.detectors.faster_rcnn_fpn import FasterRCNNFPN
from detnet.detectors.heads import BoxOptions
from detnet.detectors.images import ImageOptions
from detnet.detectors.proposals import ProposalOptions

SHALLOW = (
    Stage("c2", blocks=1, channels=256),
    Stage("c3", blocks=2, channels=512, stride=2),
    Stage("c4", blocks=2, channels=1024, stride=2),
    Stage("c5", blocks=2, channels=1024, dilation=2),
    Stage("c6", blocks=2, channels=1024, dilation=3),
)

model = FasterRCNNFPN(
    StagedNet(SHALLOW, width=0.125),
    num_classes=3,
    images=ImageOptions(min_size=128, max_size=192),
    proposals=ProposalOptions(pre_nms_train=500, post_nms_train=100),
    boxes=BoxOptions(roi_levels=5),
)
images = [torch.rand(3, 128, 160)]
targets = [{"boxes": torch.tensor([[20.0, 30.0, 90.0, 100.0]]), "labels": torch.tensor([2])}]
losses = model(images, targets)
sum(losses.values()).backward()
print({name: round(loss.item(), 3) for name, loss in losses.items()})

BACKBONES.register("shallow", lambda **options: StagedNet(SHALLOW, **options))
print(type(detnet.create("retinanet", backbone="shallow", num_classes=3, width=0.125)).__name__)
