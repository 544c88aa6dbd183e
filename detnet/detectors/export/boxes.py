"""Exported forms of SSD and YOLO, which look at all boxes of an image before they choose."""

from typing import Any

import torch
from torch import Tensor

from detnet.detectors.export.dense import DenseForm
from detnet.detectors.export.form import (
    ExportForm,
    Size,
    clip,
    decode,
    rows_at,
    top,
    wide_enough,
)
from detnet.detectors.export.ops import NOTHING
from detnet.detectors.grid import decode as decode_grid


class SSDForm(ExportForm):
    """SSD's form for export: the best boxes of each class, suppressed within it."""

    def detect(self, batch: Tensor, size: Size) -> tuple[Tensor, ...]:
        model: Any = self.model
        features = list(model.backbone(batch).values())
        found = [self.outputs(level, feature, size) for level, feature in enumerate(features)]
        boxes = torch.cat([boxes for boxes, _ in found], 1)
        scores = torch.cat([scores for _, scores in found], 2)
        images, classes, count = scores.shape
        scores = torch.where(scores > self.score_thresh, scores, NOTHING)
        scores, index = scores.topk(torch.sym_min(model.topk_candidates, count), dim=2)
        boxes = rows_at(boxes, index.flatten(1)).unflatten(1, (classes, -1))
        return self.best(self.suppress_by_class(boxes, scores))

    def outputs(self, level: int, feature: Tensor, size: Size) -> tuple[Tensor, Tensor]:
        """Gives a level's boxes (N, P, 4) and probabilities (N, K, P) by shape, row and column."""
        model: Any = self.model
        generator, coder = model.anchor_generator, model.box_coder
        stride, shapes = generator.levels[level].stride, generator._wh_pairs[level].clamp(max=1)
        logits = model.head.classification_head.module_list[level](feature)
        offsets = model.head.regression_head.module_list[level](feature)
        rows, columns = feature.shape[-2:]
        y = ((torch.arange(rows) + 0.5) * stride)[:, None].expand(-1, columns)
        x = ((torch.arange(columns) + 0.5) * stride).expand(rows, -1)
        centre = torch.stack([x, y], dim=-1)
        sides = [torch.scalar_tensor(side, dtype=shapes.dtype) for side in (size[1], size[0])]
        half = (shapes * torch.stack(sides) / 2)[:, None, None]
        anchors = torch.cat([centre - half, centre + half], dim=-1)
        deltas = offsets.unflatten(1, (len(shapes), 4)).movedim(2, -1)
        boxes = clip(decode(deltas, anchors, coder.weights, coder.bbox_xform_clip), size)
        scores = logits.unflatten(1, (len(shapes), -1)).softmax(2)[:, :, 1:].transpose(1, 2)
        return boxes.flatten(1, 3), scores.flatten(2)


class YOLOForm(DenseForm):
    """YOLO's form for export: the best pairs of its one level, suppressed within the classes."""

    def detect(self, batch: Tensor, size: Size) -> tuple[Tensor, ...]:
        model: Any = self.model
        output = model.run_layers(batch)
        boxes = decode_grid(output.offsets, model.anchors, model._step()).flatten(1, 3)
        boxes = clip(boxes, size)
        scores = output.objectness.sigmoid()[..., None] * output.classes.softmax(dim=-1)
        scores = scores.flatten(1, 3)
        sure = (scores > self.score_thresh) & wide_enough(boxes)[..., None]
        scores = torch.where(sure, scores, NOTHING)
        _, index = top(scores.amax(2), model.topk_candidates)
        candidates = self.pairs(rows_at(scores, index), rows_at(boxes, index), size)
        return self.best(self.suppress_by_label(candidates, scores.shape[2]))
