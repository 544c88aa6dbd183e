"""DetNAS: backbones found by searching under the detector, and the baselines of their spaces."""

from typing import Unpack

from detnet.backbones.spaces.shuffle_space import ShuffleNet, ShuffleSpace, ShuffleStage
from detnet.backbones.spaces.space import parse_path
from detnet.backbones.stages import StagedOptions

SMALL = ShuffleSpace(
    stem_channels=16,
    rows=(
        ShuffleStage("c2", 4, 64),
        ShuffleStage("c3", 4, 160),
        ShuffleStage("c4", 8, 320),
        ShuffleStage("c5", 4, 640),
    ),
)
LARGE = ShuffleSpace(
    stem_channels=48,
    rows=(
        ShuffleStage("c2", 8, 96),
        ShuffleStage("c3", 8, 240),
        ShuffleStage("c4", 16, 480),
        ShuffleStage("c5", 8, 960),
    ),
)
LARGE_WIDENED = ShuffleSpace(  # LARGE, 1.8 times as wide; not searched
    stem_channels=72,
    rows=(
        ShuffleStage("c2", 8, 172),
        ShuffleStage("c3", 8, 432),
        ShuffleStage("c4", 16, 864),
        ShuffleStage("c5", 8, 1728),
    ),
)


DETNASNET_300M = parse_path("2120 2112 33130031 3132")
DETNASNET_300M_RETINANET = parse_path("2311 3213 31113320 3333")
DETNASNET_VOC_300M = parse_path("2103 1303 20113333 3331")
DETNASNET_VOC_300M_RETINANET = parse_path("1300 2333 23333220 2311")
DETNASNET_1_3G = parse_path("00312102 03123320 2113202221310333 13333333")


def detnasnet_300m(**options: Unpack[StagedOptions]) -> ShuffleNet:
    """DetNASNet found with FPN on COCO: 288.1 M multiply-adds at 224, 321.2 M with its classifier.

    Paper: Chen et al. 2019, arXiv:1903.10979; the path is the authors' release's.
    """
    return ShuffleNet(SMALL, DETNASNET_300M, **options)


def detnasnet_300m_retinanet(**options: Unpack[StagedOptions]) -> ShuffleNet:
    """DetNASNet found with RetinaNet on COCO: 291.2 M multiply-adds at 224, 324.3 M in all.

    Paper: Chen et al. 2019, arXiv:1903.10979; the path is the authors' release's.
    """
    return ShuffleNet(SMALL, DETNASNET_300M_RETINANET, **options)


def detnasnet_voc_300m(**options: Unpack[StagedOptions]) -> ShuffleNet:
    """DetNASNet found with FPN on VOC: 316.4 M multiply-adds at 224, 349.5 M in all.

    More than the 300 M of its name, even without the classifier.

    Paper: Chen et al. 2019, arXiv:1903.10979; the path is the authors' release's.
    """
    return ShuffleNet(SMALL, DETNASNET_VOC_300M, **options)


def detnasnet_voc_300m_retinanet(**options: Unpack[StagedOptions]) -> ShuffleNet:
    """DetNASNet found with RetinaNet on VOC: 327.5 M multiply-adds at 224, 360.6 M in all.

    More than the 300 M of its name, even without the classifier.

    Paper: Chen et al. 2019, arXiv:1903.10979; the path is the authors' release's.
    """
    return ShuffleNet(SMALL, DETNASNET_VOC_300M_RETINANET, **options)


def detnasnet_1_3g(**options: Unpack[StagedOptions]) -> ShuffleNet:
    """DetNASNet of the large space, for COCO with FPN: 1.27 G multiply-adds, 1.32 G in all.

    Paper: Chen et al. 2019, arXiv:1903.10979; the path is the authors' release's.
    """
    return ShuffleNet(LARGE, DETNASNET_1_3G, **options)


def detnasnet_3_8g(**options: Unpack[StagedOptions]) -> ShuffleNet:
    """DetNASNet-1.3G, widened: 3.94 G multiply-adds at 224, 4.03 G in all, 29.5 M parameters.

    Departs from the release's code, whose last convolution is 1,728 wide: with 1,024, as in the
    other networks, the parameters are the 29.5 M that its page states, with 1,728 they are 31.4 M.

    Paper: Chen et al. 2019, arXiv:1903.10979; the path is the authors' release's.
    """
    return ShuffleNet(LARGE_WIDENED, DETNASNET_1_3G, **options)


def shufflenetv2_20(**options: Unpack[StagedOptions]) -> ShuffleNet:
    """ShuffleNetv2-20, the small space all in 3×3: 262.7 M multiply-adds at 224, 295.8 M in all.

    Paper: Chen et al. 2019, arXiv:1903.10979; the hand-made baseline.
    """
    return ShuffleNet(SMALL, (0,) * 20, **options)


def shufflenetv2_40(**options: Unpack[StagedOptions]) -> ShuffleNet:
    """ShuffleNetv2-40, the large space all in 3×3: 1.04 G multiply-adds at 224, 1.09 G in all.

    Paper: Chen et al. 2019, arXiv:1903.10979; the hand-made baseline.
    """
    return ShuffleNet(LARGE, (0,) * 40, **options)


def shufflenetv2_40_widened(**options: Unpack[StagedOptions]) -> ShuffleNet:
    """ShuffleNetv2-40, widened: 3.27 G multiply-adds at 224, 3.35 G in all.

    As wide as `detnasnet_3_8g`, beside which the paper has such a baseline; the release has none,
    and its own width is not known here.

    Paper: Chen et al. 2019, arXiv:1903.10979; the hand-made baseline.
    """
    return ShuffleNet(LARGE_WIDENED, (0,) * 40, **options)
