"""Puts DetNet-59 under torchvision's own Faster R-CNN and takes one training step."""

import torch
from torchvision.models.detection import FasterRCNN

import detnet
from detnet.detectors.fpn import PyramidNet
from detnet.detectors.heads import BoxOptions
from detnet.detectors.roi import level_pooler

# torchvision's own pooler tells levels apart by stride, and DetNet's P4, P5 and P6 have the same.
pyramid = PyramidNet(detnet.BACKBONES["detnet59"](width=0.25), finest=2)
pooler = level_pooler(pyramid.feature_info, BoxOptions(), output_size=7)
model = FasterRCNN(pyramid, num_classes=3, box_roi_pool=pooler, min_size=128, max_size=192)

images = [torch.rand(3, 128, 160)]
targets = [{"boxes": torch.tensor([[20.0, 30.0, 90.0, 100.0]]), "labels": torch.tensor([2])}]
losses = model(images, targets)
sum(losses.values()).backward()
print({name: round(loss.item(), 3) for name, loss in losses.items()})
