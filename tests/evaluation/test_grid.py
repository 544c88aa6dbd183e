"""A user's grid extends COCO's and never replaces any of it."""

import math

import pytest

from detnet.errors import InputError
from detnet.evaluation.grid import AREAS, IOU_THRESHOLDS, MAX_DETS, Grid, Measure, make_grid


def test_nothing_added_is_cocos() -> None:
    grid = make_grid()
    assert grid.is_coco and grid.iou_thresholds == IOU_THRESHOLDS
    assert (grid.areas, grid.max_dets) == (AREAS, MAX_DETS)
    assert grid.coco_thresholds == list(range(10)) and grid.coco_most == 2
    assert grid.shown_thresholds == {"50": 0, "60": 2, "70": 4, "80": 6, "85": 7}
    assert not grid.further_max_dets


def test_positions_move_with_what_is_added() -> None:
    grid = make_grid(
        "segm",
        iou_thresholds=[0.9, 0.3, 0.925, 0.3],
        areas={"huge": (1e5, math.inf)},
        max_dets=[300, 100, 5],
    )
    assert not grid.is_coco and grid.iou_type == "segm"
    assert len(grid.iou_thresholds) == 12 and sorted(grid.iou_thresholds)[0] == 0.3
    assert grid.coco_thresholds == [1, 2, 3, 4, 5, 6, 7, 8, 9, 11]
    # 0.9 is the one COCO has, though linspace writes it as 0.8999999999999999.
    assert list(grid.shown_thresholds) == ["30", "50", "60", "70", "80", "85", "90", "92.5"]
    assert grid.shown_thresholds["90"] == 9 == grid.threshold(0.9)
    assert grid.max_dets == (1, 5, 10, 100, 300) and grid.coco_most == 3
    assert grid.further_max_dets == {5: 1, 300: 4}
    assert list(grid.areas) == [*AREAS, "huge"] and grid.areas["huge"] == (1e5, 1e10)
    with pytest.raises(ValueError, match="no IoU threshold 0.4"):
        grid.threshold(0.4)


@pytest.mark.parametrize("threshold", [0, -0.5, 1.5, 50, math.nan, math.inf, "0.5", None])
def test_bad_threshold(threshold: float) -> None:
    with pytest.raises(InputError, match="iou_thresholds: .* must be above 0"):
        make_grid(iou_thresholds=[0.5, threshold])


@pytest.mark.parametrize("number", [0, -1, 1.5, math.nan, math.inf, "3", 2**63])
def test_bad_number_of_results(number: int) -> None:
    with pytest.raises(InputError, match="max_dets .* must be whole numbers"):
        make_grid(max_dets=[number])


@pytest.mark.parametrize("limits", [(9, 1), (-1, 4), (math.nan, 1), (1, math.nan), (1,), (1, 2, 3)])
def test_bad_area(limits: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="areas: 'odd' has the edges"):
        make_grid(areas={"odd": limits})
    with pytest.raises(InputError, match="areas: 'large' is one of COCO's"):
        make_grid(areas={"large": (0, 1)})


TEN = tuple(range(10))
OF_BOXES = make_grid("bbox", max_dets=(300,))
OF_KEYPOINTS = make_grid("keypoints", max_dets=(50,))


@pytest.mark.parametrize(
    ("grid", "name", "measure"),
    [
        (OF_BOXES, "AP", Measure("AP", 0, 2, TEN)),
        (OF_BOXES, "AP75", Measure("AP", 0, 2, (5,))),
        (OF_BOXES, "APs", Measure("AP", 1, 2, TEN)),
        (OF_BOXES, "AR10", Measure("AR", 0, 1, TEN)),
        (OF_BOXES, "AR300", Measure("AR", 0, 3, TEN)),
        (OF_BOXES, "ARl", Measure("AR", 3, 2, TEN)),
        (OF_KEYPOINTS, "AP50", Measure("AP", 0, 0, (0,))),
        (OF_KEYPOINTS, "AR", Measure("AR", 0, 0, TEN)),
        (OF_KEYPOINTS, "AR50", Measure("AR", 0, 0, (0,))),
        (OF_KEYPOINTS, "ARm", Measure("AR", 1, 0, TEN)),
        (OF_KEYPOINTS, "AR@50", Measure("AR", 0, 1, TEN)),
    ],
)
def test_the_same_name_means_another_thing_of_keypoints(
    grid: Grid, name: str, measure: Measure
) -> None:
    assert grid.headline[name] == measure


def test_tables_and_classes() -> None:
    assert OF_BOXES.by_iou_and_size["large"]["AP@300"]["85"] == Measure("AP", 3, 3, (7,))
    assert OF_KEYPOINTS.by_iou_and_size["large"]["AR"]["mean"] == Measure("AR", 2, 0, TEN)
    assert list(OF_BOXES.per_class) == ["AP", "AP50", "AR100"]
    assert OF_KEYPOINTS.per_class["AR"] == Measure("AR", 0, 0, TEN)
