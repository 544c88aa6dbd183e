"""Creates DetNet-59 with timm, as levels for a detector and as a classifier (needs detnet[hub])."""

import timm
import torch

import detnet.timm  # noqa: F401  registers our names

images = torch.rand(1, 3, 96, 128)
model = timm.create_model("detnet59", features_only=True, out_indices=(1, 2, 3, 4, 5))
info = model.feature_info
for features, channels, stride in zip(
    model(images), info.channels(), info.reduction(), strict=True
):
    print(f"stride {stride}: {channels} channels, {tuple(features.shape)}")

classifier = timm.create_model("detnet59", num_classes=5, width=0.25)
print(tuple(classifier(images).shape), timm.data.resolve_model_data_config(classifier)["mean"])
