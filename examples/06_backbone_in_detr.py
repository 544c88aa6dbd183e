"""Puts DetNet-59 under transformers' DETR through timm and takes one training step.

Needs detnet[hub] and transformers; nothing is downloaded.
"""

import torch
from transformers import DetrConfig, DetrForObjectDetection, TimmBackboneConfig

import detnet.timm  # noqa: F401  registers our names

# Level 5 is c6, the last; DETR takes the last of those asked for.
backbone = TimmBackboneConfig(backbone="detnet59", out_indices=[2, 3, 4, 5])
config = DetrConfig(
    backbone_config=backbone,
    num_labels=2,
    num_queries=10,
    d_model=32,
    encoder_layers=1,
    decoder_layers=1,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    encoder_ffn_dim=64,
    decoder_ffn_dim=64,
)
model = DetrForObjectDetection(config).train()

targets = [{"class_labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.4, 0.6]])}]
found = model(pixel_values=torch.rand(1, 3, 128, 160), labels=targets)
found.loss.backward()
print(f"loss {found.loss.item():.3f}, {tuple(found.pred_boxes.shape)} boxes")
