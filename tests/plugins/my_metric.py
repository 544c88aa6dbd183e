"""A metric of one's own, as a third party writes it: the best F1 at IoU 0.50.

detnet evaluate runs/a --data DATA --plugin tests.plugins.my_metric
"""

import numpy as np

from detnet.evaluation.metrics import METRICS, Metric


def best_f1(found: np.ndarray, made: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Twice the objects found over detections and objects, at the score where that is most."""
    return (2 * found / np.maximum(made + objects, 1)).max(axis=0)


METRICS.register(
    "F1", Metric(best_f1, iou_threshold=0.5, title="best F1 at .50", brief=True, per_class=True)
)
