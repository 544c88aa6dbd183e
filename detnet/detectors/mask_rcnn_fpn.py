"""Mask R-CNN on a feature pyramid, the detector of DetNet's Table 8."""

from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from detnet.detectors.base import keep_precise
from detnet.detectors.faster_rcnn_fpn import FasterRCNNFPN
from detnet.detectors.heads import BoxOptions
from detnet.detectors.roi import level_pooler


class MaskRCNNFPN(FasterRCNNFPN):
    """Mask R-CNN on a feature pyramid, the detector of DetNet's Table 8.

    It is `faster_rcnn_fpn` with a mask branch: four 3×3 convolutions, up-sampling, one mask a
    class.

    Masks come out as probabilities (N, 1, H, W) in the image's own pixels. The paper gives no
    settings of its own for the branch; these are Mask R-CNN's.

    Args:
        backbone: with levels from `c2` on.
        num_classes: background counted.
        images: what the network expects of its input.
        proposals: of the first stage.
        boxes: of the second stage.
        pyramid_norm: of the pyramid's convolutions.
        neck: what makes the pyramid, see `detnet.detectors.fpn.NECKS`.

    Paper: He et al. 2017, arXiv:1703.06870, Figure 4 (right); Li et al. 2018, arXiv:1804.06215,
    Table 8.
    """

    targets = ("boxes", "masks")
    class_layers = (*FasterRCNNFPN.class_layers, "roi_heads.mask_predictor.mask_fcn_logits.")

    def add_branches(self, num_classes: int, boxes: BoxOptions) -> None:
        """Adds the mask branch."""
        body, heads = self.backbone, self.roi_heads
        channels = body.out_channels
        heads.mask_roi_pool = level_pooler(body.feature_info, boxes, output_size=14)
        heads.mask_head = MaskRCNNHeads(channels, [channels] * 4, dilation=1)
        heads.mask_predictor = MaskRCNNPredictor(channels, channels, num_classes)
        keep_precise(heads.mask_predictor.mask_fcn_logits)
