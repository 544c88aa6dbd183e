"""The baselines: residual networks made for classification."""

from typing import Unpack

from detnet.backbones.stages import Stage, StagedNet, StagedOptions

RESNET50 = (
    Stage("c2", blocks=3, channels=256),
    Stage("c3", blocks=4, channels=512, stride=2),
    Stage("c4", blocks=6, channels=1024, stride=2),
    Stage("c5", blocks=3, channels=2048, stride=2),
)
RESNET101 = (*RESNET50[:2], Stage("c4", blocks=23, channels=1024, stride=2), RESNET50[3])
RESNET50_DILATED = (*RESNET50[:3], Stage("c5", blocks=3, channels=2048, dilation=2))


def resnet50(**options: Unpack[StagedOptions]) -> StagedNet:
    """ResNet-50: 3.86 G multiply-adds at 224, 25.6 M parameters with its classifier.

    Paper: He et al. 2015, arXiv:1512.03385, Table 1.
    """
    return StagedNet(RESNET50, **options)


def resnet101(**options: Unpack[StagedOptions]) -> StagedNet:
    """ResNet-101: 7.57 G multiply-adds at 224, 44.5 M parameters with its classifier.

    Paper: He et al. 2015, arXiv:1512.03385, Table 1.
    """
    return StagedNet(RESNET101, **options)


def resnet50_dilated(**options: Unpack[StagedOptions]) -> StagedNet:
    """ResNet-50 with stage 5 held at stride 16 by dilation, DetNet's Table 6: 6.05 G multiply-adds.

    It takes plain ResNet-50 weights; the dilation comes at fine-tuning only. Every 3×3 of the stage
    is dilated, the first block's too, as Detectron does it; the paper does not say.

    Paper: Li et al. 2018, arXiv:1804.06215, Section 4.5.
    """
    return StagedNet(RESNET50_DILATED, **options)
