"""What the keys of the scores mean on a grid: "AP50", "ARm", ("large", "AP@300", "85")."""

from detnet.evaluation.comparison.resampling import Measure
from detnet.evaluation.grid import Grid

_SIZES = {"s": "small", "m": "medium", "l": "large"}


def headline_measure(key: str, grid: Grid) -> Measure:
    """What "AP", "AP50", "APs", "AR10" mean; of keypoints "AR50" is at OKS 0.50, "AR@50" at 50
    results.
    """
    recall, rest = key.startswith("AR"), key[2:]
    size, limit, thresholds = 0, grid.coco_most, tuple(grid.coco_thresholds)
    if rest in _SIZES:
        size = list(grid.areas).index(_SIZES[rest])
    elif rest.startswith("@") or (recall and grid.iou_type != "keypoints"):
        limit = grid.max_dets.index(int(rest.lstrip("@")))
    elif rest:
        thresholds = (grid.threshold(int(rest) / 100),)
    return Measure(recall, size, limit, thresholds)


def table_measure(size: str, row: str, key: str, grid: Grid) -> Measure:
    """What ("small", "AP@300", "85") means."""
    kind, _, most = row.partition("@")
    limit = grid.max_dets.index(int(most)) if most else grid.coco_most
    ten = tuple(grid.coco_thresholds)
    thresholds = ten if key == "mean" else (grid.shown_thresholds[key],)
    return Measure(kind == "AR", list(grid.areas).index(size), limit, thresholds)


def class_measures(grid: Grid) -> dict[str, Measure]:
    """What a class's row of the scores holds."""
    ten, most = tuple(grid.coco_thresholds), grid.coco_most
    recall = "AR" if grid.iou_type == "keypoints" else "AR100"
    return {
        "AP": Measure(False, 0, most, ten),
        "AP50": Measure(False, 0, most, (grid.threshold(0.5),)),
        recall: Measure(True, 0, most, ten),
    }
