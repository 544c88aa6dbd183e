"""Exported forms of the one-stage detectors that choose level by level: RetinaNet and FCOS."""

from typing import Any

import torch
from torch import Tensor

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
)
from detnet.detectors.export.ops import NOTHING


class DenseForm(ExportForm):
    """Chooses each level's best pairs of anchor and class, then suppresses within the classes.

    The best pairs of all are among the anchors that are best by their best class; so the scores of
    all classes are looked at of these alone.
    """

    def detect(self, batch: Tensor, size: Size) -> tuple[Tensor, ...]:
        model: Any = self.model
        features = list(model.backbone(batch).values())
        generator = model.anchor_generator
        levels = levels_of(generator, features, batch, generator.levels)
        found = [
            self.choose(feature, level, size)
            for feature, level in zip(features, levels, strict=True)
        ]
        candidates = Candidates(
            torch.cat([each.boxes for each in found], 1),
            torch.cat([each.scores for each in found], 1),
            torch.cat([each.labels for each in found], 1),
        )
        classes = model.head.classification_head.num_classes
        return self.best(self.suppress_by_label(candidates, classes))

    def choose(self, feature: Tensor, level: Level, size: Size) -> Candidates:
        """Gives a level's best candidates."""
        raise NotImplementedError

    def pairs(self, scores: Tensor, boxes: Tensor, size: Size) -> Candidates:
        """Chooses the best pairs.

        Args:
            scores: (N, k, K) of anchors, `NOTHING` where they fail the threshold.
            boxes: (N, k, 4) of the anchors.
        """
        classes = scores.shape[2]
        model: Any = self.model
        best, index = top(scores.flatten(1), model.topk_candidates)
        anchor = index // classes
        return Candidates(clip(rows_at(boxes, anchor), size), best, index - anchor * classes + 1)


class RetinaNetForm(DenseForm):
    """RetinaNet's form for export."""

    def choose(self, feature: Tensor, level: Level, size: Size) -> Candidates:
        model: Any = self.model
        classifier, regressor = model.head.classification_head, model.head.regression_head
        logits = classifier.cls_logits(classifier.conv(feature))
        offsets = regressor.bbox_reg(regressor.conv(feature))
        by_class = logits.unflatten(1, (len(level.anchors), -1))
        _, index = top(by_class.amax(2).flatten(1), model.topk_candidates)
        scores = level.values_at(logits, index).sigmoid()
        scores = torch.where(scores > self.score_thresh, scores, NOTHING)
        coder = model.box_coder
        boxes = decode(
            level.values_at(offsets, index),
            level.anchors_at(index),
            coder.weights,
            coder.bbox_xform_clip,
        )
        return self.pairs(scores, boxes, size)


class FCOSForm(DenseForm):
    """FCOS's form for export."""

    def choose(self, feature: Tensor, level: Level, size: Size) -> Candidates:
        model: Any = self.model
        classifier, regressor = model.head.classification_head, model.head.regression_head
        logits = classifier.cls_logits(classifier.conv(feature))
        tower = regressor.conv(feature)
        centres = regressor.bbox_ctrness(tower)
        sides = torch.relu(regressor.bbox_reg(tower))
        # A cell whose classes are all below their threshold takes no candidate's place.
        surest = logits.amax(1, keepdim=True).sigmoid()
        best = torch.where(surest > model.class_thresh, surest * centres.sigmoid(), NOTHING)
        _, index = top(best.flatten(1), model.topk_candidates)
        by_class = level.values_at(logits, index).sigmoid()
        scores = (by_class * level.values_at(centres, index).sigmoid()).sqrt()
        sure = (scores > self.score_thresh) & (by_class > model.class_thresh)
        scores = torch.where(sure, scores, NOTHING)
        anchors = level.anchors_at(index)
        centre = 0.5 * (anchors[..., :2] + anchors[..., 2:])
        reach = level.values_at(sides, index) * (anchors[..., 2:] - anchors[..., :2]).repeat(
            1, 1, 2
        )
        boxes = torch.cat([centre - reach[..., :2], centre + reach[..., 2:]], dim=-1)
        return self.pairs(scores, boxes, size)
