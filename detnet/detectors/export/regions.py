"""Exported forms of the two-stage detectors: proposals, regions, masks and keypoints."""

from typing import Any

import torch
from torch import Tensor

from detnet.detectors.base import Detector
from detnet.detectors.export.form import (
    Candidates,
    ExportForm,
    Level,
    Size,
    clip,
    decode,
    levels_of,
    rows_at,
    top,
    wide_enough,
)
from detnet.detectors.export.ops import (
    NOTHING,
    heatmap_peaks,
    pool_regions,
    restore_rows,
    suppress,
)


class Regions:
    """Regions of a batch of images, some of whose places are empty.

    Args:
        boxes: (N, R, 4) xyxy.
        real: (N, R), whether there is a region.
    """

    def __init__(self, boxes: Tensor, real: Tensor) -> None:
        images, count = real.shape
        self.boxes, self.real = boxes, real
        self.shape = (images, count)
        image = torch.arange(images).repeat_interleave(count)[:, None]
        self.rois = torch.cat([image.to(boxes.dtype), boxes.flatten(0, 1)], dim=1)

    def pool(self, pooler: Any, features: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Pools the real regions, and the first, so that there is one; see `pool_regions`."""
        mapper = pooler.map_levels
        areas = (self.rois[:, 3:] - self.rois[:, 1:3]).prod(1)
        levels = torch.zeros_like(areas, dtype=torch.int64)
        for level in range(mapper.k_min, mapper.k_max):
            # What `LevelMapper` finds by a logarithm, and rounds up at the border.
            least = mapper.s0 * 2.0 ** (level + 1 - mapper.lvl0 - mapper.eps)
            levels = levels + (areas.sqrt() >= least)
        pooled_too = self.real.flatten() | (torch.arange(len(areas)) == 0)
        return pool_regions(
            [features[name] for name in pooler.featmap_names],
            self.rois,
            torch.where(pooled_too, levels, -1),
            pooler.scales,
            pooler.output_size[0],
            pooler.sampling_ratio,
            False,
        )

    def restore(self, rows: Tensor, order: Tensor) -> Tensor:
        """Gives (N, R, …) of the rows of pooled regions."""
        return restore_rows(rows, order, self.shape[0] * self.shape[1]).unflatten(0, self.shape)


class RegionForm(ExportForm):
    """A two-stage detector's form for export; Faster R-CNN's as it is."""

    def __init__(self, model: Detector) -> None:
        super().__init__(model)
        names = list(self.output_names)
        heads: Any = self.model.roi_heads
        if heads.has_mask():
            names.append("masks")
        if heads.has_keypoint():
            names += ["keypoints", "keypoint_scores"]
        self.output_names = tuple(names)

    def detect(self, batch: Tensor, size: Size) -> tuple[Tensor, ...]:
        features = self.model.backbone(batch)
        regions = self.propose(features, batch, size)
        found = self.best(self.judge(features, regions, size))
        heads: Any = self.model.roi_heads
        more: list[Tensor] = []
        if heads.has_mask() or heads.has_keypoint():
            boxes, scores, labels, _ = found
            regions = Regions(boxes, scores >= 0)
            if heads.has_mask():
                more.append(self.masks(features, regions, labels))
            if heads.has_keypoint():
                more += self.keypoints(features, regions)
        return (*found, *more)

    def propose(self, features: dict[str, Tensor], batch: Tensor, size: Size) -> Regions:
        """Gives the proposals of each image."""
        rpn: Any = self.model.rpn
        level = getattr(rpn, "level", None)
        maps = [features[level]] if level is not None else list(features.values())
        generator = rpn.anchor_generator
        levels = levels_of(generator, maps, batch, generator.levels)
        before, count = rpn._pre_nms_top_n["testing"], rpn.regions
        chosen = [self.propose_at(each, at, before) for each, at in zip(maps, levels, strict=True)]
        boxes = torch.cat([boxes for boxes, _ in chosen], 1)
        logits = torch.cat([logits for _, logits in chosen], 1)
        kinds = [torch.zeros_like(own) + index for index, (_, own) in enumerate(chosen)]
        kind = torch.cat(kinds, 1)[:, None]
        if rpn.pooled and len(chosen) > 1:
            logits, index = top(logits, before)
            boxes = rows_at(boxes, index)
        boxes = clip(boxes, size)
        # By the logits that they were chosen by: where the network is sure, many probabilities are
        # 1 but for the last bit, which each runtime rounds in its own way.
        above_least = logits - logits.amin(1, keepdim=True)
        scores = torch.where(wide_enough(boxes, rpn.min_size), above_least, NOTHING)[:, None]
        if not rpn.pooled:
            scores = torch.where(kind == torch.arange(len(chosen))[:, None], scores, NOTHING)
        left = suppress(boxes, scores, rpn.nms_thresh, count)
        best, index = top(left.amax(1), count, fill=True)
        return Regions(rows_at(boxes, index), best >= 0)

    def propose_at(self, feature: Tensor, level: Level, count: int) -> tuple[Tensor, Tensor]:
        """Gives the best boxes (N, k, 4) of a level, not clipped, and their logits (N, k)."""
        rpn: Any = self.model.rpn
        ((logits,), (offsets,)) = rpn.head([feature])
        best, index = top(logits.flatten(1), count)
        coder = rpn.box_coder
        boxes = decode(
            level.values_at(offsets, index),
            level.anchors_at(index),
            coder.weights,
            coder.bbox_xform_clip,
        )
        return boxes, best

    def judge(self, features: dict[str, Tensor], regions: Regions, size: Size) -> Candidates:
        """Gives what the regions may be, suppressed within each class."""
        heads: Any = self.model.roi_heads
        pooled, order = regions.pool(heads.box_roi_pool, features)
        logits, deltas = heads.box_predictor(heads.box_head(pooled))
        return self.choose(
            regions.restore(logits.softmax(-1), order),
            regions.restore(deltas, order),
            regions,
            size,
        )

    def choose(self, scores: Tensor, deltas: Tensor, regions: Regions, size: Size) -> Candidates:
        """Decodes, and suppresses within each class.

        Args:
            scores: (N, R, K) of all regions, background first.
            deltas: (N, R, 4 K), or (N, R, 4) where the classes share them.
        """
        heads: Any = self.model.roi_heads
        coder = heads.box_coder
        # By class, then region.
        scores = scores[..., 1:].transpose(1, 2)
        deltas = deltas.unflatten(2, (-1, 4)).transpose(1, 2)
        deltas = deltas if deltas.shape[1] == 1 else deltas[:, 1:]
        boxes = decode(deltas, regions.boxes[:, None], coder.weights, coder.bbox_xform_clip)
        boxes = clip(boxes, size)
        sure = (scores > self.score_thresh) & wide_enough(boxes) & regions.real[:, None]
        return self.suppress_by_class(boxes, torch.where(sure, scores, NOTHING))

    def masks(self, features: dict[str, Tensor], regions: Regions, labels: Tensor) -> Tensor:
        """Gives the probabilities (N, D, M, M) of each detection's own mask, in its box."""
        heads: Any = self.model.roi_heads
        pooled, order = regions.pool(heads.mask_roi_pool, features)
        logits = heads.mask_predictor(heads.mask_head(pooled))
        own = labels.flatten()[order][:, None, None, None]
        own = logits.gather(1, own.expand(-1, -1, *logits.shape[2:]))[:, 0].sigmoid()
        return regions.restore(own, order) * regions.real[..., None, None]

    def keypoints(self, features: dict[str, Tensor], regions: Regions) -> list[Tensor]:
        """Gives places (N, D, K, 2), x and y in pixels of the input, and their logits (N, D, K)."""
        heads: Any = self.model.roi_heads
        pooled, order = regions.pool(heads.keypoint_roi_pool, features)
        heatmaps = heads.keypoint_predictor(heads.keypoint_head(pooled))
        peaks = heatmap_peaks(heatmaps, regions.boxes.flatten(0, 1)[order])
        peaks = regions.restore(peaks, order) * regions.real[..., None, None]
        return [peaks[..., :2], peaks[..., 2]]


class CascadeForm(RegionForm):
    """Cascade R-CNN's form for export: every stage pools the boxes that the one before moved."""

    def judge(self, features: dict[str, Tensor], regions: Regions, size: Size) -> Candidates:
        heads: Any = self.model.roi_heads
        last = len(heads.coders) - 1
        for stage, coder in enumerate(heads.coders[:last]):
            pooled, order = regions.pool(heads.box_roi_pool, features)
            deltas = regions.restore(heads.predict(stage, pooled)[1], order)
            boxes = decode(deltas, regions.boxes, coder.weights, coder.bbox_xform_clip)
            regions = Regions(clip(boxes, size), regions.real)
        pooled, order = regions.pool(heads.box_roi_pool, features)
        by_stage = [heads.predict(stage, pooled) for stage in range(last + 1)]
        average = torch.stack([logits.softmax(-1) for logits, _ in by_stage]).mean(0)
        deltas = regions.restore(by_stage[last][1], order)
        return self.choose(regions.restore(average, order), deltas, regions, size)


class PositionSensitiveForm(RegionForm):
    """R-FCN's form for export: every bin of a region is pooled as a region of its own map."""

    def judge(self, features: dict[str, Tensor], regions: Regions, size: Size) -> Candidates:
        heads: Any = self.model.roi_heads
        maps = heads.box_predictor(heads.box_head(features[heads.level]))
        scores, deltas = (self.vote(each, regions) * heads.vote_scale for each in maps)
        return self.choose(scores.softmax(-1), deltas, regions, size)

    def vote(self, maps: Tensor, regions: Regions) -> Tensor:
        """Maps (N, V · bins², H, W) to the bins' averages (N, R, V)."""
        heads: Any = self.model.roi_heads
        pooler = heads.box_roi_pool
        bins, (scale,) = pooler.bins, pooler.scales
        # A map of its own for each bin, as if it were another image.
        own = maps.unflatten(1, (-1, bins**2)).transpose(1, 2).flatten(0, 1)
        if pooler.pooling == "align":
            votes = self._aligned(own, regions, bins, scale)
        else:
            votes = self._averaged(own, regions, bins, scale)
        return votes.unflatten(0, (*regions.shape, bins**2)).mean(2)

    def _aligned(self, maps: Tensor, regions: Regions, bins: int, scale: float) -> Tensor:
        """Gives (N · R · bins², V), four samples a bin."""
        index, places = _bin_index(regions, bins)
        sides = (regions.boxes[..., 2:] - regions.boxes[..., :2])[..., None, :] / bins
        corner = regions.boxes[..., None, :2] + places * sides
        boxes = torch.cat([corner, corner + sides], dim=-1).flatten(0, 2)
        rois = torch.cat([index[:, None].to(boxes.dtype), boxes], dim=1)
        ratio = self.model.roi_heads.box_roi_pool.sampling_ratio  # type: ignore[union-attr]
        levels = torch.zeros_like(index)
        pooled, _ = pool_regions([maps], rois, levels, [scale], 1, ratio, True)
        return restore_rows(pooled.flatten(1), torch.arange(len(index)), len(index))

    def _averaged(self, maps: Tensor, regions: Regions, bins: int, scale: float) -> Tensor:
        """Gives (N · R · bins², V), the average of the whole pixels of a bin, by sums of them."""
        height, width = maps.shape[-2:]
        index, places = _bin_index(regions, bins)
        corners = torch.floor(regions.boxes * scale + 0.5)
        start = corners[..., None, :2]
        sides = (corners[..., None, 2:] - start).clamp(min=1) / bins
        limits = torch.stack([torch.scalar_tensor(side - 1) for side in (width, height)])
        low = torch.minimum((torch.floor(places * sides) + start).clamp(min=0), limits)
        high = torch.minimum((torch.ceil((places + 1) * sides) + start).clamp(min=0), limits)
        area = (high - low).clamp(min=0).prod(-1).flatten()
        # Sums of all pixels above and to the left, a row for each place.
        sums = torch.nn.functional.pad(maps.cumsum(2).cumsum(3), (1, 0, 1, 0))
        rows = sums.permute(0, 2, 3, 1).flatten(0, 2)
        first = index * (height + 1) * (width + 1)
        x1, y1, x2, y2 = (
            side.flatten().long() for corner in (low, high) for side in corner.unbind(-1)
        )

        def at(y: Tensor, x: Tensor) -> Tensor:
            return rows[first + y * (width + 1) + x]

        total = at(y2, x2) - at(y1, x2) - at(y2, x1) + at(y1, x1)
        return torch.where(area > 0, 1 / area.clamp(min=1), 0.0)[:, None] * total


def _bin_index(regions: Regions, bins: int) -> tuple[Tensor, Tensor]:
    """The map of each region's bins, (N · R · bins²,), and their places (bins², 2), x and y."""
    images, count = regions.shape
    bin_index = torch.arange(bins**2)
    first = torch.arange(images).repeat_interleave(count) * bins**2
    places = torch.stack([bin_index % bins, bin_index // bins], dim=1)
    return (first[:, None] + bin_index).flatten(), places.to(regions.boxes.dtype)
