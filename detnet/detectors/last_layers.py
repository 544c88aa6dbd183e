"""Last layers of a head, computed in fp32 also where autocast computes the rest in bf16.

A number in bf16 has eight significant bits. Cast up after the layer, the scores of some hundred
thousand anchors share some thousand values: which of those tied go on to the suppression, and in
which order, is then left to chance, and boxes come in steps.
"""

from typing import Any

import torch
from torch import Tensor, nn

from detnet.detectors.images import full_precision


def keep_precise(*layers: nn.Module) -> None:
    """Has these layers compute in fp32 from now on, fp64 where they are, whatever autocast says.

    Their weights, names and first values are left as they are.

    Args:
        layers: convolutions, transposed convolutions and linear layers of torch's.

    Raises:
        ValueError: a layer of another kind.
    """
    for layer in layers:
        if type(layer) not in _KINDS:
            raise ValueError(f"{type(layer).__name__} is none of {', '.join(_names())}")
        # Nothing but `forward` differs; a layer made anew would draw its weights again.
        layer.__class__ = _KINDS[type(layer)]


class PreciseLayer:
    """Goes before a layer of torch's that leaves autocast."""

    def forward(self, x: Tensor, *others: Any) -> Tensor:
        layer: Any = super()
        device = x.device.type
        if not torch.amp.is_autocast_available(device):  # the meta device, where costs are counted
            return layer.forward(full_precision(x), *others)
        with torch.autocast(device, enabled=False):
            return layer.forward(full_precision(x), *others)


class _PreciseConv2d(PreciseLayer, nn.Conv2d):
    pass


class _PreciseConvTranspose2d(PreciseLayer, nn.ConvTranspose2d):
    pass


class _PreciseLinear(PreciseLayer, nn.Linear):
    pass


_KINDS: dict[type[nn.Module], Any] = {
    nn.Conv2d: _PreciseConv2d,
    nn.ConvTranspose2d: _PreciseConvTranspose2d,
    nn.Linear: _PreciseLinear,
}


def _names() -> list[str]:
    return [kind.__name__ for kind in _KINDS]
