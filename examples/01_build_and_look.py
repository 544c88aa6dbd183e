"""Builds DetNet-59 and ResNet-50 and compares what they cost and what they put out."""

import torch

import detnet
from detnet.backbones.cost import backbone_cost

for name in ("resnet50", "detnet59"):
    found = backbone_cost(name)
    levels = ", ".join(f"{level.name} stride {level.stride}" for level in found.levels)
    macs, params = found.classifier
    print(f"{name}: {macs / 1e9:.2f} G multiply-adds, {params / 1e6:.1f} M")
    print(f"  {levels}")

backbone = detnet.BACKBONES["detnet59"](width=0.25)
features = backbone(torch.rand(1, 3, 240, 320))
for level, feature in features.items():
    print(level, tuple(feature.shape))
