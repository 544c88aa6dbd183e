"""Runs a detector of this project's own by torch, which takes any detector, option and device."""

from collections.abc import Sequence

import numpy as np
import torch

from detnet.inference.engines.base import Engine, Found, Pixels
from detnet.inference.prediction import Prediction
from detnet.inference.predictor import Predictor

_PRECISIONS = {torch.bfloat16: "bf16", torch.float16: "fp16"}


class TorchEngine(Engine):
    """A `Predictor` as an engine; its score threshold is set by each call of `detect`.

    Args:
        predictor: what finds objects.
    """

    name = "torch"

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.precision = _PRECISIONS.get(predictor.dtype or torch.float32, "fp32")
        self.runs_as = f"{self.precision} by torch {torch.__version__} on {predictor.device}"
        self.category_ids = predictor.category_ids
        self.class_names = predictor.class_names
        self.layout = predictor.layout

    def detect(self, images: Sequence[Pixels], *, score_threshold: float) -> list[Found]:
        self.predictor.score_threshold = score_threshold
        return [_found(each) for each in self.predictor.predict_batch(images)]

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        return self.predictor.model.transform.scaled_size(height, width)


def _found(prediction: Prediction) -> Found:
    points = prediction.keypoints
    return Found(
        boxes=np.asarray(prediction.boxes),
        labels=np.asarray(prediction.labels),
        scores=np.asarray(prediction.scores),
        masks=prediction.run_lengths,
        keypoints=None if points is None else np.asarray(points),
        keypoint_scores=None if points is None else np.asarray(prediction.keypoint_scores),
    )
