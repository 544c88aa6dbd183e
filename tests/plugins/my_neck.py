"""A neck of one's own, as a third party writes it: a second way, from fine levels to coarse.

detnet train --detector-option neck=pan --plugin tests.plugins.my_neck …
"""

from typing import Any

from torch import Tensor, nn

from detnet.detectors.fpn import FPN, NECKS


class PathAggregation(FPN):
    """After FPN's way down each level also gets what the finer ones found (PANet's Section 3.1)."""

    def __init__(self, *levels: Any, **options: Any) -> None:
        super().__init__(*levels, **options)
        self.up = nn.ModuleDict()
        for finer, info in zip(self.feature_info, self.feature_info[1:], strict=False):
            step = info.stride // finer.stride
            self.up[info.name] = nn.Conv2d(finer.channels, info.channels, 3, step, 1)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Maps {c2: (N, C2, H2, W2), …} to {p2: (N, out_channels, H2, W2), …}, fine to coarse."""
        pyramid = super().forward(features)
        finer = pyramid[self.feature_info[0].name]
        for name, conv in self.up.items():
            pyramid[name] = finer = (pyramid[name] + conv(finer)).relu()
        return pyramid


NECKS.register("pan", PathAggregation)
