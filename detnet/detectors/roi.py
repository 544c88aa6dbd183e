"""Which pyramid level each RoI is pooled from, and the pooling."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torchvision
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torchvision.ops._utils import convert_boxes_to_roi_format
from torchvision.ops.poolers import LevelMapper

from detnet.backbones.base import FeatureInfo


def sparse_product_fits(features: Tensor, sampling_ratio: int) -> bool:
    """Whether pooling is a sparse product here, or torchvision's kernel has to do it."""
    recorded = torch.jit.is_tracing() or torch.compiler.is_compiling()
    return features.device.type == "cpu" and sampling_ratio > 0 and not recorded


def pool_levels(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    scales: Sequence[float],
    output_size: int | tuple[int, int],
    sampling_ratio: int,
) -> Tensor:
    """Pools every RoI from its own level of a pyramid, all in one product.

    Args:
        features: one (N, C, H, W) map for each level, H and W differing.
        rois: (R, 5), image index and xyxy in pixels of the network's input.
        levels: (R,) int64, which of `features` each RoI is pooled from.
        scales: for each level, what turns the input's pixels into its own.
        output_size: bins down and across.
        sampling_ratio: sampling points of a bin, down and across; at least 1.

    Returns:
        (R, C, *output_size), channels_last.

    Raises:
        ValueError: `rois` is not (R, 5).
    """
    if rois.ndim != 2 or rois.shape[1] != 5:
        raise ValueError(f"rois must be (R, 5), got {tuple(rois.shape)}")
    height, width = (output_size,) * 2 if isinstance(output_size, int) else output_size
    dense = torch.cat([_pixels_by_channels(f) for f in features])
    precision = torch.float64 if dense.dtype == torch.float64 else torch.float32
    rois = rois.detach().to(precision)
    columns, weights = _sampled_pixels(
        [f.shape for f in features], rois, levels, scales, (height, width), sampling_ratio
    )
    pooled = _SparseProduct.apply(dense, columns, weights.to(dense.dtype), sampling_ratio**2 * 4)
    return pooled.view(len(rois), height, width, dense.shape[1]).permute(0, 3, 1, 2)


def _pixels_by_channels(features: Tensor) -> Tensor:
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


def _sampled_pixels(
    shapes: Sequence[torch.Size],
    rois: Tensor,
    levels: Tensor,
    scales: Sequence[float],
    bins: tuple[int, int],
    sampling_ratio: int,
) -> tuple[Tensor, Tensor]:
    """The sparse matrix, bin by bin: the pixels of each (int32) and their weights, both flat."""
    heights = torch.tensor([shape[2] for shape in shapes])
    widths = torch.tensor([shape[3] for shape in shapes])
    pixels = torch.tensor([shape[0] for shape in shapes]) * heights * widths
    first = (pixels.cumsum(0) - pixels)[levels] + rois[:, 0].long() * (heights * widths)[levels]

    corners = rois[:, 1:] * torch.tensor(scales, dtype=rois.dtype)[levels, None]
    sides = (corners[:, 2:] - corners[:, :2]).clamp(min=1.0)
    x, x_weights = _sampled_line(
        corners[:, 0], sides[:, 0], widths[levels], bins[1], sampling_ratio
    )
    y, y_weights = _sampled_line(
        corners[:, 1], sides[:, 1], heights[levels], bins[0], sampling_ratio
    )
    rows = (y * widths[levels, None, None] + first[:, None, None]).int()
    columns = rows[:, :, None, :, None] + x.int()[:, None, :, None, :]
    weights = y_weights[:, :, None, :, None] * x_weights[:, None, :, None, :]
    return columns.flatten(), weights.flatten()


def _sampled_line(
    start: Tensor, side: Tensor, length: Tensor, bins: int, sampling_ratio: int
) -> tuple[Tensor, Tensor]:
    """Pixels that each bin samples along one axis, and their weights: both (R, bins, 2 * ratio).

    Bilinear sampling is a product of its two axes, so each is worked out once. A sample more than
    one pixel outside counts as zero, a nearer one as the border pixel.
    """
    steps = (torch.arange(bins * sampling_ratio, dtype=start.dtype) + 0.5) / sampling_ratio
    position = start[:, None] + steps * (side / bins)[:, None]
    inside = (position >= -1) & (position <= length[:, None])
    last = (length - 1).to(start.dtype)[:, None]
    # `where`, not a product: a box that is NaN must not become an index.
    position = torch.where(inside, position, 0).clamp(min=0).minimum(last)
    low = position.floor()
    fraction = position - low
    pixels = torch.stack([low, (low + 1).minimum(last)], dim=-1).long()
    weights = torch.stack([1 - fraction, fraction], dim=-1) * inside[..., None] / sampling_ratio
    shape = (len(start), bins, 2 * sampling_ratio)
    return pixels.view(shape), weights.view(shape)


class _SparseProduct(torch.autograd.Function):
    """A sparse matrix with `per_row` entries in each row, times a dense one with a gradient."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, dense: Tensor, columns: Tensor, weights: Tensor, per_row: int
    ) -> Tensor:
        ctx.save_for_backward(columns, weights)
        ctx.per_row, ctx.num_pixels = per_row, len(dense)  # type: ignore[attr-defined]
        starts = torch.arange(0, len(columns) + 1, per_row, dtype=columns.dtype)
        return _sum_rows(dense, columns, weights, starts)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None, None]:
        columns, weights = ctx.saved_tensors  # type: ignore[attr-defined]
        pixels, entries = torch.sort(columns, stable=True)
        rows = torch.div(entries, ctx.per_row, rounding_mode="floor")  # type: ignore[attr-defined]
        ends = torch.arange(ctx.num_pixels + 1, dtype=pixels.dtype)  # type: ignore[attr-defined]
        starts = torch.searchsorted(pixels, ends)
        return _sum_rows(grad.contiguous(), rows, weights[entries], starts), None, None, None


def _sum_rows(dense: Tensor, columns: Tensor, weights: Tensor, starts: Tensor) -> Tensor:
    """Row i is the sum of the rows of `dense` that `starts[i]:starts[i + 1]` picks, weighted."""
    if len(columns) == 0:
        return dense.new_zeros(len(starts) - 1, dense.shape[1])
    product = torch.embedding_bag(
        dense.detach(),  # or it prepares for a backward of its own, at ten times the cost
        columns,
        starts.to(columns.dtype),
        mode=0,  # a sum
        per_sample_weights=weights,
        include_last_offset=True,
    )
    return product[0]


CANONICAL_SIZE = 224  # side in pixels of a box that goes to P4, on images of 800
_FINEST = 2  # number of the first level


class LevelPooler(torchvision.ops.MultiScaleRoIAlign):
    """RoIAlign over a pyramid whose levels are counted, not derived from their strides.

    torchvision's own works out levels from feature shapes and strides, so with DetNet's P4, P5 and
    P6 all at stride 16 the last two silently never receive a RoI. Here strides only scale boxes.

    Args:
        featmap_names: names of the levels to pool from, fine to coarse.
        strides: stride of each of them, in pixels of the network's input.
        output_size: bins down and across.
        sampling_ratio: sampling points of a bin, down and across.
        canonical_size: side in pixels of the square from which on a box is pooled from P4.

    Raises:
        ValueError: not one stride for each level.

    Paper: Lin et al. 2017, arXiv:1612.03144, Eq. 1; Li et al. 2018, arXiv:1804.06215, Section 3.
    """

    def __init__(
        self,
        featmap_names: list[str],
        strides: Sequence[int],
        *,
        output_size: int,
        sampling_ratio: int = 2,
        canonical_size: int = CANONICAL_SIZE,
    ) -> None:
        if len(featmap_names) != len(strides):
            raise ValueError(f"{len(featmap_names)} levels {featmap_names} but strides {strides}")
        super().__init__(featmap_names, output_size, sampling_ratio)
        self.scales = [1 / stride for stride in strides]
        last = _FINEST + len(strides) - 1
        self.map_levels = LevelMapper(_FINEST, last, canonical_scale=canonical_size)

    def restride(self, strides: Mapping[str, int]) -> None:
        """Takes other strides for the levels of these names, as another path of a supernet has."""
        self.scales = [1 / strides[name] for name in self.featmap_names]

    def empty(self, features: dict[str, Tensor], count: int) -> Tensor:
        """Regions of the shape that pooling gives, (count, C, bins, bins), of no values."""
        level = features[self.featmap_names[0]]
        return level.new_empty(count, level.shape[1], *self.output_size)

    def forward(
        self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        """Pools the boxes of all images.

        Args:
            x: the pyramid, (N, C, H, W) each; levels that are not pooled from may be there too.
            boxes: (L, 4) xyxy for each image, pixels of the network's input; may be empty.
            image_shapes: not needed here, torchvision's heads hand it over.

        Returns:
            (R, C, output_size, output_size), in the order of the boxes, R over all images.
        """
        features = [x[name] for name in self.featmap_names]
        if not sparse_product_fits(features[0], self.sampling_ratio):
            levels = dict(zip(self.featmap_names, features, strict=True))
            return super().forward(levels, boxes, image_shapes)
        rois = convert_boxes_to_roi_format(boxes)
        # A box that is NaN has no level; torchvision pools zeros from it, and so does level 0.
        levels = self.map_levels(boxes).clamp(0, len(features) - 1)
        return pool_levels(
            features, rois, levels, self.scales, self.output_size, self.sampling_ratio
        )


def level_pooler(levels: Sequence[FeatureInfo], options: Any, *, output_size: int) -> LevelPooler:
    """Pools regions from a pyramid's first levels, chosen by a region's size and their order.

    Args:
        options: `roi_levels`, how many levels, and `roi_canonical_size`.
    """
    pooled = levels[: options.roi_levels]
    names, strides = [level.name for level in pooled], [level.stride for level in pooled]
    canonical_size = options.roi_canonical_size
    return LevelPooler(names, strides, output_size=output_size, canonical_size=canonical_size)
