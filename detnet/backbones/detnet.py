"""DetNet: the resolution is kept in the deep stages, where detection needs it."""

from typing import Unpack

from detnet.backbones.stages import Stage, StagedNet, StagedOptions

DETNET59 = (
    Stage("c2", blocks=3, channels=256),
    Stage("c3", blocks=4, channels=512, stride=2),
    Stage("c4", blocks=6, channels=1024, stride=2),
    Stage("c5", blocks=3, channels=1024, dilation=2),
    Stage("c6", blocks=3, channels=1024, dilation=2),
)
DETNET59_NOPROJ = (*DETNET59[:-1], Stage("c6", blocks=3, channels=1024, dilation=2, project=False))
# Found by search (docs/detnet53_s8.md): c4 and c5 are held at the resolution of c3.
DETNET53_S8 = (
    Stage("c2", blocks=3, channels=256),
    Stage("c3", blocks=3, channels=512, stride=2),
    Stage("c4", blocks=4, channels=512, dilation=2),
    Stage("c5", blocks=4, channels=512, project=False),
    Stage("c6", blocks=3, channels=512, stride=2),
)
DETNET110 = (*DETNET59[:2], Stage("c4", blocks=23, channels=1024, stride=2), *DETNET59[3:])


def detnet59(**options: Unpack[StagedOptions]) -> StagedNet:
    """DetNet-59: 4.85 G multiply-adds at 224, 18.4 M parameters with its classifier.

    ResNet-50 to stage 4, then stages 5 and 6 at stride 16, each of three dilated bottlenecks whose
    first has a projected shortcut. The paper says that it has more parameters than ResNet-50; by
    the only reading that gives the paper's multiply-adds it has fewer.

    Paper: Li et al. 2018, arXiv:1804.06215, Section 3.2.
    """
    return StagedNet(DETNET59, **options)


def detnet59_noproj(**options: Unpack[StagedOptions]) -> StagedNet:
    """DetNet-59 without stage 6's projection, the ablation of Table 5: 4.64 G multiply-adds.

    Stage 5 keeps its own: only so do the paper's 4.6 G come out.

    Paper: Li et al. 2018, arXiv:1804.06215, Section 4.5.
    """
    return StagedNet(DETNET59_NOPROJ, **options)


def detnet110(**options: Unpack[StagedOptions]) -> StagedNet:
    """ResNet-101 to stage 4 with DetNet's stages 5 and 6: 8.56 G multiply-adds.

    Departs from the paper: it only says that deeper networks are extended in the same way.

    Paper: Li et al. 2018, arXiv:1804.06215, Section 3.2.
    """
    return StagedNet(DETNET110, **options)


def detnet53_s8(**options: Unpack[StagedOptions]) -> StagedNet:
    """DetNet-53 at stride 8: c4 and c5 keep the resolution of c3 and half of DetNet-59's width.

    Not in the paper: found by evolution in a space of DetNet's own questions, under SSD on small
    images (docs/detnet53_s8.md has what was measured). Its levels lie at strides 4, 8, 8, 8 and 16.
    """
    return StagedNet(DETNET53_S8, **options)
