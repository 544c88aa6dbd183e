"""The DetNet paper's numbers, and which row of which paper each preset stands for, without torch.

Paper: Li et al. 2018, arXiv:1804.06215, Tables 1 to 8, in percent as printed.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from detnet.training.settings import presets, read_source

COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
IOU_COLUMNS = ("mean", "50", "60", "70", "80", "85")

Grid = dict[str, tuple[float, ...]]
Place = tuple[str, str]  # detector and backbone


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

_BY_SIZE = {  # of Table 1's networks
    "resnet50": {"AP": ("Table 3", _RESNET_AP), "AR": ("Table 4", _RESNET_AR)},
    "detnet59": {"AP": ("Table 3", _DETNET_AP), "AR": ("Table 4", _DETNET_AR)},
}
_PRETRAINED = "COCO minival, pre-trained on ImageNet"
_TABLE_1, _TABLE_7 = f"Table 1, {_PRETRAINED}", "Table 7, COCO test-dev"
_TABLE_8 = "Table 8, COCO test-dev"
_SCRATCH = "Table 2, COCO minival, trained from scratch"

# Backbone, name, where, headline.
_Row = tuple[str, str, str, tuple[float, ...]]
_FPN: tuple[_Row, ...] = (
    ("resnet50", "FPN, ResNet-50", _TABLE_1, (37.9, 60.0, 41.2, 22.9, 40.6, 49.2)),
    ("detnet59", "FPN, DetNet-59", _TABLE_1, (40.2, 61.7, 43.7, 23.9, 43.2, 52.0)),
    ("detnet59", "FPN, DetNet-59", _TABLE_7, (40.3, 62.1, 43.8, 23.6, 42.6, 50.0)),
    ("resnet101", "FPN, ResNet-101", _TABLE_1, (39.8, 62.0, 43.5, 24.1, 43.4, 51.7)),
    ("resnet101", "FPN, ResNet-101", _TABLE_7, (37.3, 59.6, 40.3, 19.8, 40.2, 48.8)),
    (
        "detnet59_noproj",
        "FPN, DetNet-59-NoProj",
        f"Table 5, {_PRETRAINED}",
        (39.1, 61.3, 42.1, 23.6, 42.0, 50.1),
    ),
    (
        "resnet50_dilated",
        "FPN, ResNet-50-dilated",
        f"Table 6, {_PRETRAINED}",
        (39.0, 61.4, 42.4, 23.3, 42.1, 50.0),
    ),
)
_MASKS: tuple[_Row, ...] = (
    ("detnet59", "Mask R-CNN, DetNet-59", _TABLE_8, (37.1, 60.0, 39.6, 18.6, 39.0, 51.3)),
    ("resnet101", "Mask R-CNN, ResNet-101", _TABLE_8, (35.7, 58.0, 37.8, 15.5, 38.1, 52.4)),
)
_FROM_SCRATCH: tuple[_Row, ...] = (
    ("resnet50", "FPN, ResNet-50", _SCRATCH, (34.5, 55.2, 37.7, 20.4, 36.7, 44.5)),
    ("detnet59", "FPN, DetNet-59", _SCRATCH, (36.3, 56.5, 39.3, 22.0, 38.4, 46.9)),
)


def _rows(detector: str, iou_type: str, rows: tuple[_Row, ...]) -> dict[Place, list[Published]]:
    found: dict[Place, list[Published]] = {}
    for backbone, name, where, headline in rows:
        by_size = _BY_SIZE.get(backbone, {}) if where == _TABLE_1 else {}
        row = Published(name, where, iou_type, headline, by_size)
        found.setdefault((detector, backbone), []).append(row)
    return found


# By detector and backbone, as the recipe of the presets trains them; what compares best with a
# run, measured on its own validation split, comes first.
PUBLISHED = {**_rows("faster_rcnn_fpn", "bbox", _FPN), **_rows("mask_rcnn_fpn", "segm", _MASKS)}
# Trained from scratch, with batch norm synchronised over all devices.
FROM_SCRATCH = {
    place: rows[0] for place, rows in _rows("faster_rcnn_fpn", "bbox", _FROM_SCRATCH).items()
}

SEARCH = "search/"  # begins the names of searches: "small" is a detector's recipe, too

_COCO = "COCO train2017, val2017"
_IMAGENET = "ImageNet, 1.28 M images in class folders"
_VOC = "VOC 2007 + 2012 trainval, 2007 test: a VOCdevkit"
_PERSONS = "COCO train2017, val2017: person_keypoints_*.json"
_KEYPOINTS = "Mask R-CNN (arXiv 1703.06870), Section 5"
_DETNAS = "DetNAS (arXiv 1903.10979), its release"
_NOT_RELEASED = "the paper's comparison, without a recipe in the release"
_CLSNAS = f"{_NOT_RELEASED}; candidates are scored as classifiers"
_VOC_SEARCH = "the release tells neither schedule nor limit for VOC"
_LARGE = "the release cannot search this space; limit and bins are ours"
_COCO_SCRATCH = f"{_NOT_RELEASED}; 2x is ours"
_VOC_SCRATCH = f"{_NOT_RELEASED}; a quarter of 2x and the limit are ours"
_C4 = "ResNet (arXiv 1512.03385), Table 8, Faster R-CNN on C4"
_RFCN = "R-FCN (arXiv 1605.06409)"
_RETINANET = "RetinaNet (arXiv 1708.02002), its settings"
_CASCADE = "Cascade R-CNN (arXiv 1712.00726)"
_TOGETHER = "proposals and regions are trained together"
_COCO_2014 = f"COCO 2014's train and val in the paper; {_TOGETHER}"
_BY_DETECTRON = "proposals per level, linear warm-up, stem and stage 2 frozen, as Detectron"
_ZOO = "Detectron's model zoo, which equals the DetNet paper's ResNet rows"


@dataclass(frozen=True)
class Recipe:
    """What a preset reproduces.

    Args:
        source: paper and table, or release.
        published: percent as printed, by the names of the scores; empty where nothing is.
        data: what it needs.
        note: where it departs from the paper, or what the paper does not tell.
        command: which runs it.
    """

    source: str
    published: dict[str, float]
    data: str = _COCO
    note: str = ""
    command: Literal["train", "pretrain", "search"] = "train"

    def settings(self, name: str) -> dict[str, Any]:
        """What its preset of that name says; all else is the command's default."""
        folder = "" if self.command == "train" else self.command
        return read_source(name.removeprefix(SEARCH), presets(folder))


def _of_table(detector: str, backbone: str, *, scratch: bool = False) -> Recipe:
    """A row of the DetNet paper, with its numbers from where the reports have them, too."""
    key = (detector, backbone)
    row = FROM_SCRATCH[key] if scratch else PUBLISHED[key][0]
    kind = "segm_" if row.iou_type == "segm" else ""
    headline = {f"{kind}AP": row.score("AP"), f"{kind}AP50": row.score("AP50")}
    numbers = {name: round(100 * value, 1) for name, value in headline.items() if value is not None}
    note = "the paper does not tell the schedule; this is the 2x one" if scratch else ""
    if detector == "mask_rcnn_fpn":
        note = "the paper tells neither mask head nor schedule"
    if backbone == "resnet50_dilated":
        note = "from plain ResNet-50 weights; dilated at fine-tuning only"
    return Recipe(f"DetNet, {row.where}", numbers, note=note)


def _detnas(ap: float | None, note: str = "") -> Recipe:
    return Recipe(_DETNAS, {} if ap is None else {"AP": ap}, note=note)


def _voc(ap50: float | None) -> Recipe:
    note = "VOC's own measure; the release does not tell the schedule, this is a quarter of 1x"
    return Recipe(_DETNAS, {} if ap50 is None else {"AP50": ap50}, _VOC, note)


def _search(name: str, ap: float | None, note: str) -> Recipe:
    """A search of DetNAS's; the number is that of the network it found, trained alone."""
    published = {} if ap is None else {"AP50" if "_voc_" in name else "AP": ap}
    data = _VOC if "_voc_" in name else _COCO
    from_scratch = name.endswith("_scratch")
    return Recipe(_DETNAS, published, data if from_scratch else f"{data}; ImageNet", note, "search")


def _ours(data: str, note: str, command: Literal["train", "pretrain", "search"]) -> Recipe:
    return Recipe("ours", {}, data, note, command)


def _one_stage(paper: str, where: str, published: dict[str, float], *, voc: bool) -> Recipe:
    """A recipe of SSD's or YOLOv2's own paper, whose numbers are of another backbone."""
    body = {"SSD": "VGG-16", "YOLOv2": "Darknet-19"}[paper]
    note = f"published with {body}, and with random crops, which are not here"
    return Recipe(f"{paper}, {where}", published, _VOC if voc else _COCO, note)


_LITERAL = {
    f"{backbone}_{detector}_2x": _of_table(detector, backbone) for detector, backbone in PUBLISHED
}
_MASK_R50 = Recipe(
    _ZOO, {"AP": 38.6, "segm_AP": 34.5}, note="no row of its own in Table 8; its baseline"
)
_LITERAL.setdefault("resnet50_mask_rcnn_fpn_2x", _MASK_R50)
_LITERAL["detnet110_faster_rcnn_fpn_2x"] = Recipe(
    "DetNet, Section 3.2, its settings", {}, note="the paper prints no number of a deeper network"
)

RECIPES: dict[str, Recipe] = {
    "demo": _ours("made-up scenes", "what `make demo` trains", "train"),
    "small": _ours("a few hundred images", "half width, from scratch, two cores", "train"),
    "small_keypoints": _ours(
        "made-up scenes with keypoints", "a quarter of the width, from scratch, two cores", "train"
    ),
    **_LITERAL,
    **{
        f"{name}_detectron": Recipe(
            recipe.source,
            recipe.published,
            note=f"{_BY_DETECTRON}; {recipe.note}" if recipe.note else _BY_DETECTRON,
        )
        for name, recipe in _LITERAL.items()
    },
    **{
        f"{backbone}_{detector}_scratch": _of_table(detector, backbone, scratch=True)
        for detector, backbone in FROM_SCRATCH
    },
    "resnet50_keypoint_rcnn_fpn": Recipe(
        f"{_KEYPOINTS}, Table 6",
        {"keypoints_AP": 64.2, "keypoints_AP50": 86.6},
        _PERSONS,
        f"short sides of 640 to 800, 90,000 iterations; {_TOGETHER}",
    ),
    "detnet59_keypoint_rcnn_fpn": Recipe(
        f"{_KEYPOINTS}, its settings", {}, _PERSONS, "the DetNet paper measures no keypoints"
    ),
    "resnet101_retinanet": Recipe(
        "DetNet, Table 7, COCO test-dev (RetinaNet's own paper)",
        {"AP": 39.1, "AP50": 59.1},
        note="scales 640 to 800 and 135,000 iterations, as RetinaNet's paper",
    ),
    "resnet50_retinanet": Recipe(_RETINANET, {}, note="short sides of 640 to 800, 1.5x"),
    "detnet59_retinanet": Recipe(
        _RETINANET, {}, note="the DetNet paper names RetinaNet and measures none"
    ),
    "resnet50_fcos": Recipe(
        "FCOS (arXiv 1904.01355), Table 3, with its improvements", {"AP": 38.6, "AP50": 57.4}
    ),
    "detnet59_fcos": Recipe("FCOS (arXiv 1904.01355), Section 4, its settings", {}),
    "detnet59_ssd300_voc": _one_stage("SSD", "Table 1", {"AP50": 74.3}, voc=True),
    "detnet59_ssd300_coco": _one_stage(
        "SSD", "Table 5, COCO test-dev", {"AP": 23.2, "AP50": 41.2}, voc=False
    ),
    "detnet59_ssd512_coco": _one_stage(
        "SSD", "Table 5, COCO test-dev", {"AP": 26.8, "AP50": 46.5}, voc=False
    ),
    "detnet53_s8_ssd300_coco": _ours(
        _COCO, "SSD300's settings; every object counts alike in the loss", "train"
    ),
    "detnet59_yolo416_voc": _one_stage("YOLOv2", "Table 3, 416×416", {"AP50": 76.8}, voc=True),
    "detnet59_yolo416_coco": _one_stage(
        "YOLOv2", "Table 5, COCO test-dev", {"AP": 21.6, "AP50": 44.0}, voc=False
    ),
    "detnasnet_300m_faster_rcnn_fpn_1x": _detnas(36.6),
    "detnasnet_1_3g_faster_rcnn_fpn_1x": _detnas(
        40.3, "its published script names a 2x schedule that the release lacks"
    ),
    "detnasnet_3_8g_faster_rcnn_fpn_1x": _detnas(42.0),
    "detnasnet_300m_retinanet_1x": _detnas(34.1),
    "shufflenetv2_20_faster_rcnn_fpn_1x": _detnas(None, "baseline whose blocks are all 3×3"),
    "shufflenetv2_40_faster_rcnn_fpn_1x": _detnas(None, "large baseline, blocks all 3×3"),
    "shufflenetv2_40_widened_faster_rcnn_fpn_1x": _detnas(
        None, "as wide as detnasnet_3_8g; the paper's own width is not known here"
    ),
    "shufflenetv2_20_retinanet_1x": _detnas(None, "baseline whose blocks are all 3×3"),
    "resnet50_faster_rcnn_fpn_4conv1fc_1x": _detnas(37.3, "its ResNet baseline"),
    "resnet101_faster_rcnn_fpn_4conv1fc_1x": _detnas(40.0, "its ResNet baseline"),
    "detnasnet_voc_300m_faster_rcnn_fpn_1x": _voc(81.5),
    "detnasnet_voc_300m_retinanet_1x": _voc(80.1),
    "shufflenetv2_20_faster_rcnn_fpn_voc": _voc(None),
    "shufflenetv2_20_retinanet_voc": _voc(None),
    "resnet101_faster_rcnn": Recipe(_C4, {"AP": 27.2, "AP50": 48.4}, note=_COCO_2014),
    "detnet59_faster_rcnn": Recipe("DetNet, Section 4.1, its settings", {}),
    "resnet101_rfcn": Recipe(f"{_RFCN}, Table 6", {"AP": 27.6, "AP50": 48.9}, note=_COCO_2014),
    "resnet101_rfcn_voc": Recipe(f"{_RFCN}, Table 4", {"AP50": 80.5}, _VOC, note=_TOGETHER),
    "detnet59_rfcn": Recipe(f"{_RFCN}, its settings", {}, note=_TOGETHER),
    "resnet50_cascade_rcnn_fpn": Recipe(f"{_CASCADE}, Table 6", {"AP": 40.3, "AP50": 59.4}),
    "resnet101_cascade_rcnn_fpn": Recipe(f"{_CASCADE}, Table 6", {"AP": 42.7, "AP50": 61.6}),
    "detnet59_cascade_rcnn_fpn": Recipe(f"{_CASCADE}, its settings", {}),
    **{
        f"{backbone}_imagenet": Recipe(
            f"DetNet, {table}", {"top-1 error": error}, _IMAGENET, command="pretrain"
        )
        for backbone, table, error in (
            ("resnet50", "Table 1", 24.1),
            ("detnet59", "Table 1", 23.5),
            ("resnet101", "Table 1", 23.0),
            ("detnet59_noproj", "Table 5", 24.0),
        )
    },
    **{
        f"{backbone}_imagenet": Recipe(
            _DETNAS,
            {} if error is None else {"top-1 error": error},
            _IMAGENET,
            "colours normalised as everywhere here; the release's are BGR, 0 to 255",
            "pretrain",
        )
        for backbone, error in (
            ("detnasnet_300m", 26.2),
            ("detnasnet_300m_retinanet", 26.0),
            ("detnasnet_1_3g", 22.8),
            ("detnasnet_3_8g", 21.6),
            ("detnasnet_voc_300m", 25.9),
            ("detnasnet_voc_300m_retinanet", 25.4),
            ("shufflenetv2_20", None),
            ("shufflenetv2_40", None),
            ("shufflenetv2_40_widened", None),
        )
    },
    "detnet110_imagenet": Recipe(
        "DetNet, Section 4.2, its settings", {}, _IMAGENET, command="pretrain"
    ),
    "detnet53_s8_imagenet": _ours(_IMAGENET, "DetNet's recipe", "pretrain"),
    "resnext": Recipe("ResNeXt's recipe for any backbone", {}, _IMAGENET, command="pretrain"),
    "small_images": _ours(
        "a few thousand images of 64 pixels", "quarter width, two cores", "pretrain"
    ),
    "modern": _ours(_IMAGENET, "cosine, smoothed targets, mixup, averaged weights", "pretrain"),
    **{
        f"{SEARCH}{name}": _search(name, ap, note)
        for name, ap, note in (
            ("detnas_fpn_300m", 36.6, ""),
            ("detnas_fpn_300m_scratch", None, _COCO_SCRATCH),
            ("detnas_retinanet_300m", 34.1, "the release searches under FPN alone"),
            ("detnas_retinanet_300m_scratch", None, _COCO_SCRATCH),
            ("detnas_voc_fpn_300m", 81.5, _VOC_SEARCH),
            ("detnas_voc_retinanet_300m", 80.1, _VOC_SEARCH),
            ("detnas_voc_fpn_300m_scratch", None, _VOC_SCRATCH),
            ("detnas_voc_retinanet_300m_scratch", None, _VOC_SCRATCH),
            (
                "detnas_fpn_1_3g",
                40.3,
                _LARGE,
            ),
            ("clsnas_300m", None, _CLSNAS),
            ("clsnas_retinanet_300m", None, _CLSNAS),
            ("clsnas_voc_fpn_300m", None, _CLSNAS),
            ("clsnas_voc_retinanet_300m", None, _CLSNAS),
        )
    },
    f"{SEARCH}detnet_space": _ours(
        f"{_COCO}; ImageNet", "DetNet's design questions as a space", "search"
    ),
    f"{SEARCH}small": _ours(
        "a few hundred images; some thousand small ones in class folders",
        "half width, two cores",
        "search",
    ),
}
