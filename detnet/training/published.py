"""The paper's numbers, in percent as printed, each with its table.

Paper: Li et al. 2018, arXiv:1804.06215, Tables 1 to 8.
"""

from dataclasses import dataclass, field

COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
IOU_COLUMNS = ("mean", "50", "60", "70", "80", "85")

Grid = dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Published:
    """What the paper reports of one model.

    Args:
        name: as the paper has it.
        where: table and images.
        iou_type: "bbox" or "segm".
        headline: percent, in the order of `COLUMNS`.
        recall_note: what is to be known before AR is compared.
        by_iou_and_size: metric -> (its table, size -> percent in the order of `IOU_COLUMNS`).
    """

    name: str
    where: str
    iou_type: str
    headline: tuple[float | None, ...]
    by_iou_and_size: dict[str, tuple[str, Grid]] = field(default_factory=dict)

    def score(self, key: str) -> float | None:
        """One of the headline's numbers as a fraction."""
        value = self.headline[COLUMNS.index(key)] if key in COLUMNS else None
        return None if value is None else value / 100

    def cell(self, metric: str, size: str, column: str) -> float | None:
        """One number of Table 3 or 4 as a fraction."""
        if metric not in self.by_iou_and_size or column not in IOU_COLUMNS:
            return None
        rows = self.by_iou_and_size[metric][1]
        return rows[size][IOU_COLUMNS.index(column)] / 100 if size in rows else None


_RESNET_AP: Grid = {
    "all": (37.9, 60.0, 55.1, 47.2, 33.1, 22.1),
    "small": (22.9, 40.1, 35.5, 28.0, 17.5, 10.4),
    "medium": (40.6, 63.9, 59.0, 51.2, 35.7, 23.3),
    "large": (49.2, 72.2, 68.2, 60.8, 46.6, 34.5),
}
_DETNET_AP: Grid = {
    "all": (40.2, 61.7, 57.0, 49.6, 36.2, 25.8),
    "small": (23.9, 41.8, 36.8, 29.8, 17.7, 10.5),
    "medium": (43.2, 65.8, 61.2, 53.6, 39.9, 27.3),
    "large": (52.0, 73.1, 69.5, 63.0, 51.4, 40.0),
}
_RESNET_AR: Grid = {
    "all": (52.8, 80.5, 74.7, 64.3, 46.8, 34.2),
    "small": (35.5, 60.0, 53.8, 43.3, 28.7, 18.7),
    "medium": (56.0, 84.9, 79.2, 68.7, 50.5, 36.2),
    "large": (67.0, 95.0, 90.9, 80.3, 63.1, 50.2),
}
_DETNET_AR: Grid = {
    "all": (56.1, 83.1, 77.8, 67.6, 51.0, 38.9),
    "small": (39.2, 66.4, 59.4, 47.3, 29.5, 19.6),
    "medium": (59.5, 87.4, 82.5, 72.6, 55.6, 41.2),
    "large": (70.1, 95.4, 91.8, 82.9, 69.1, 56.3),
}

_MINIVAL = "COCO minival, pre-trained on ImageNet"
_SCRATCH = "Table 2, COCO minival, trained from scratch"
_TEST_DEV = "COCO test-dev"

# By detector and backbone, as the recipe of the presets trains them; what compares best with a
# run, measured on its own validation split, comes first.
PUBLISHED: dict[tuple[str, str], tuple[Published, ...]] = {
    ("faster_rcnn_fpn", "resnet50"): (
        Published(
            "FPN, ResNet-50",
            f"Table 1, {_MINIVAL}",
            "bbox",
            (37.9, 60.0, 41.2, 22.9, 40.6, 49.2),
            {"AP": ("Table 3", _RESNET_AP), "AR": ("Table 4", _RESNET_AR)},
        ),
    ),
    ("faster_rcnn_fpn", "detnet59"): (
        Published(
            "FPN, DetNet-59",
            f"Table 1, {_MINIVAL}",
            "bbox",
            (40.2, 61.7, 43.7, 23.9, 43.2, 52.0),
            {"AP": ("Table 3", _DETNET_AP), "AR": ("Table 4", _DETNET_AR)},
        ),
        Published(
            "FPN, DetNet-59",
            f"Table 7, {_TEST_DEV}",
            "bbox",
            (40.3, 62.1, 43.8, 23.6, 42.6, 50.0),
        ),
    ),
    ("faster_rcnn_fpn", "resnet101"): (
        Published(
            "FPN, ResNet-101", f"Table 1, {_MINIVAL}", "bbox", (39.8, 62.0, 43.5, 24.1, 43.4, 51.7)
        ),
        Published(
            "FPN, ResNet-101",
            f"Table 7, {_TEST_DEV}",
            "bbox",
            (37.3, 59.6, 40.3, 19.8, 40.2, 48.8),
        ),
    ),
    ("faster_rcnn_fpn", "detnet59_noproj"): (
        Published(
            "FPN, DetNet-59-NoProj",
            f"Table 5, {_MINIVAL}",
            "bbox",
            (39.1, 61.3, 42.1, 23.6, 42.0, 50.1),
        ),
    ),
    ("faster_rcnn_fpn", "resnet50_dilated"): (
        Published(
            "FPN, ResNet-50-dilated",
            f"Table 6, {_MINIVAL}",
            "bbox",
            (39.0, 61.4, 42.4, 23.3, 42.1, 50.0),
        ),
    ),
    ("mask_rcnn_fpn", "detnet59"): (
        Published(
            "Mask R-CNN, DetNet-59",
            f"Table 8, {_TEST_DEV}",
            "segm",
            (37.1, 60.0, 39.6, 18.6, 39.0, 51.3),
        ),
    ),
    ("mask_rcnn_fpn", "resnet101"): (
        Published(
            "Mask R-CNN, ResNet-101",
            f"Table 8, {_TEST_DEV}",
            "segm",
            (35.7, 58.0, 37.8, 15.5, 38.1, 52.4),
        ),
    ),
}

# Trained from scratch, with batch norm synchronised over all devices.
FROM_SCRATCH: dict[tuple[str, str], Published] = {
    ("faster_rcnn_fpn", "resnet50"): Published(
        "FPN, ResNet-50", _SCRATCH, "bbox", (34.5, 55.2, 37.7, 20.4, 36.7, 44.5)
    ),
    ("faster_rcnn_fpn", "detnet59"): Published(
        "FPN, DetNet-59", _SCRATCH, "bbox", (36.3, 56.5, 39.3, 22.0, 38.4, 46.9)
    ),
}
