"""3×3 convolutions with a quarter of the multiplications, for processors without AVX-512.

A tile of 4×4 outputs is a product of 6×6 numbers made of its inputs with 6×6 made of the weights,
36 multiplications a channel instead of 144; making and unmaking them are small matrix products.
oneDNN has this for no processor below AVX-512. The rounding is that of some ten additions more.

Paper: Lavin and Gray 2015, arXiv:1509.09308, Section 4.3, F(4×4, 3×3).
"""

from typing import Any

import torch
from torch import Tensor, nn

# For the points 0, ±1, ±2 and infinity.
_OF_INPUTS = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_OF_WEIGHTS = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OF_OUTPUTS = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
_TILE = 4
# Fewer channels: the products are too small. More: the weights' 36 numbers for 9 take up memory.
_CHANNELS = range(128, 257)
_TILES_AT_ONCE = 128  # their numbers stay in the caches
_FEWEST_TILES = 64


def use_winograd(model: nn.Module) -> None:
    """Has those 3×3 convolutions of a model that gain by it computed so, wherever that holds.

    Weights and their names stay. On another processor than one whose best is AVX2, nothing changes.
    """
    if torch.backends.cpu.get_cpu_capability() != "AVX2":
        return
    for layer in model.modules():
        if type(layer) is nn.Conv2d and _gains(layer):
            layer.__class__ = WinogradConv2d


def _gains(conv: nn.Conv2d) -> bool:
    plain = (conv.stride, conv.dilation, conv.groups) == ((1, 1), (1, 1), 1)
    framed = (conv.kernel_size, conv.padding, conv.padding_mode) == ((3, 3), (1, 1), "zeros")
    wide = conv.in_channels in _CHANNELS and conv.out_channels in _CHANNELS
    return plain and framed and wide and conv.weight.dtype == torch.float32


class WinogradConv2d(nn.Conv2d):
    """A 3×3 convolution of stride 1 that multiplies less on large maps, in fp32 on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, out_channels, H, W)."""
        return self.winograd(x) if self.pays(x) else super().forward(x)

    def pays(self, x: Tensor) -> bool:
        """Whether it is faster on this input than a convolution, and allowed."""
        if x.device.type != "cpu" or x.dtype != torch.float32 or self.weight.dtype != x.dtype:
            return False
        if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return False
        if torch.jit.is_tracing() or torch.compiler.is_compiling():
            return False  # what is exported is a convolution
        return -(-x.shape[2] // _TILE) * -(-x.shape[3] // _TILE) >= _FEWEST_TILES

    def winograd(self, x: Tensor, *, rectify: bool = False) -> Tensor:
        """Convolves by products of tiles.

        Args:
            x: (N, C, H, W) float32, fastest with its channels last in memory.
            rectify: a ReLU goes with it.

        Returns:
            (N, out_channels, H, W), its channels last in memory.
        """
        height, width = x.shape[2:]
        down, across = -(-height // _TILE), -(-width // _TILE)
        shape = (len(x), down, _TILE, across, _TILE, self.out_channels)
        out = torch.empty(shape, dtype=x.dtype)
        for image, tiles in zip(x, out, strict=True):
            self._fill(tiles, image, rectify)
        whole = out.view(len(x), down * _TILE, across * _TILE, self.out_channels)
        return whole[:, :height, :width].permute(0, 3, 1, 2)

    def _fill(self, out: Tensor, image: Tensor, rectify: bool) -> None:
        """Computes one image's (tiles down, 4, tiles across, 4, channels), some rows at a time."""
        channels, height, width = image.shape
        down, _, across, _, _ = out.shape
        wide = across * _TILE + 2
        framed = image.new_zeros(down * _TILE + 2, wide, channels)
        framed[1 : height + 1, 1 : width + 1] = image.permute(1, 2, 0)
        inputs, weights, outputs = self._matrices()
        rows_at_once = max(1, _TILES_AT_ONCE // across)
        for top in range(0, down, rows_at_once):
            rows = min(rows_at_once, down - top)
            # Tiles overlap by two, so they are seen in the one memory, not copied.
            line, start = wide * channels, _TILE * top * wide * channels
            strips = framed.as_strided((rows, 6, line), (_TILE * line, line, 1), start)
            strips = torch.bmm(inputs.expand(rows, 6, 6), strips)
            places = (_TILE * channels, channels, 1)
            tiles = strips.as_strided((rows * 6, across, 6, channels), (line, *places))
            made = torch.matmul(inputs, tiles).view(rows, 6, across, 6, channels)
            made = made.permute(1, 3, 0, 2, 4).reshape(36, rows * across, channels)
            found = torch.mm(outputs, torch.bmm(made, weights).view(6, -1))
            found = torch.bmm(outputs.expand(_TILE, _TILE, 6), found.view(_TILE, 6, -1))
            found = found.view(_TILE, _TILE, rows, across, -1).permute(2, 0, 3, 1, 4)
            part = out[top : top + rows]
            if self.bias is None:
                part.copy_(found)
            else:
                torch.add(found, self.bias, out=part)
            if rectify:
                part.relu_()

    def _matrices(self) -> tuple[Tensor, Tensor, Tensor]:
        """(6, 6) for inputs, (36, C, out_channels) of the weights, (4, 6) for outputs; made once.

        They are no buffers: a copy of the model makes its own, and files do not hold them.
        """
        version = -1 if self.weight.is_inference() else self.weight._version
        known: Any = self.__dict__.get("_made")
        if known is None or known[0] is not self.weight or known[1] != version:
            of_weights = torch.tensor(_OF_WEIGHTS, dtype=torch.float64)
            weights = self.weight.detach().double()
            made = torch.einsum("ap,oipq,bq->abio", of_weights, weights, of_weights)
            made = made.reshape(36, *made.shape[2:]).float()
            inputs, outputs = torch.tensor(_OF_INPUTS), torch.tensor(_OF_OUTPUTS)
            known = self.weight, version, (inputs.float(), made, outputs.float())
            self.__dict__["_made"] = known
        found: tuple[Tensor, Tensor, Tensor] = known[2]
        return found
