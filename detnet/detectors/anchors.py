"""Anchors whose corners are exact, whatever precision the features have."""

import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator


class ExactAnchors(AnchorGenerator):
    """torchvision's anchors, in fp32 at least.

    torchvision makes them in the features' type. In bf16, coordinates above 256 are then even
    numbers and above 512 multiples of four, and so are the objects that are matched to them: a
    thin object loses its width, and its regression target is infinite.
    """

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        """Takes fp32 where the features are of half precision."""
        half = dtype in (torch.bfloat16, torch.float16)
        super().set_cell_anchors(torch.float32 if half else dtype, device)
