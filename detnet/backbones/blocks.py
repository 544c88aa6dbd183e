"""The residual blocks that the tables are made of."""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]
StrideIn = Literal["1x1", "3x3"]


def scale_channels(channels: int, width: float) -> int:
    """Scales a channel count, rounded to the nearest multiple of 8, at least 8."""
    return max(8, int(channels * width / 8 + 0.5) * 8)


class Bottleneck(nn.Module):
    """1×1 narrows, 3×3 works, 1×1 widens, and the input is added before the last ReLU.

    With `dilation` 2 this is DetNet's type A block; with `project` as well, its type B. Parameter
    names are torchvision's, so that weights carry over by renaming the stages alone.

    Args:
        in_channels: of the input.
        mid_channels: inside, the width of the 3×3.
        out_channels: of the output.
        norm: makes a normalisation layer for a channel count.
        stride: of the block.
        dilation: of the 3×3.
        project: whether the shortcut is a 1×1 convolution; without it shapes must agree.
        stride_in: which convolution carries the stride, "1x1" (MSRA, Caffe, both papers) or "3x3"
            (torchvision).

    Raises:
        ValueError: an identity shortcut between unequal shapes.

    Paper: Li et al. 2018, arXiv:1804.06215, Figure 2 and Section 3.2.
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        *,
        norm: Norm,
        stride: int = 1,
        dilation: int = 1,
        project: bool = False,
        stride_in: StrideIn = "1x1",
    ) -> None:
        super().__init__()
        if not project and (in_channels != out_channels or stride != 1):
            raise ValueError(
                f"an identity shortcut needs equal shapes, got {in_channels} -> {out_channels} "
                f"channels at stride {stride}"
            )
        stride_1x1, stride_3x3 = (stride, 1) if stride_in == "1x1" else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, mid_channels, 1, stride_1x1, bias=False)
        self.bn1 = norm(mid_channels)
        self.conv2 = nn.Conv2d(
            mid_channels, mid_channels, 3, stride_3x3, dilation, dilation, bias=False
        )
        self.bn2 = norm(mid_channels)
        self.conv3 = nn.Conv2d(mid_channels, out_channels, 1, bias=False)
        self.bn3 = norm(out_channels)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), norm(out_channels)
            )
            if project
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(out.add_(shortcut), inplace=True)


def initialise(module: nn.Module) -> None:
    """Draws convolutions by He's rule (fan-out) and sets norms to the identity."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
