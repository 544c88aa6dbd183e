"""The same key means another thing where keypoints are scored."""

import pytest

from detnet.evaluation.comparison.measures import class_measures, headline_measure, table_measure
from detnet.evaluation.comparison.resampling import Measure
from detnet.evaluation.grid import make_grid

TEN = tuple(range(10))
BOXES = make_grid("bbox", max_dets=(300,))
KEYPOINTS = make_grid("keypoints", max_dets=(50,))


@pytest.mark.parametrize(
    ("key", "of_boxes"),
    [
        ("AP", Measure(False, 0, 2, TEN)),
        ("AP75", Measure(False, 0, 2, (5,))),
        ("APs", Measure(False, 1, 2, TEN)),
        ("AR10", Measure(True, 0, 1, TEN)),
        ("AR300", Measure(True, 0, 3, TEN)),
        ("ARl", Measure(True, 3, 2, TEN)),
    ],
)
def test_headline_of_boxes(key: str, of_boxes: Measure) -> None:
    assert headline_measure(key, BOXES) == of_boxes


@pytest.mark.parametrize(
    ("key", "of_keypoints"),
    [
        ("AP50", Measure(False, 0, 0, (0,))),
        ("AR", Measure(True, 0, 0, TEN)),
        ("AR50", Measure(True, 0, 0, (0,))),
        ("ARm", Measure(True, 1, 0, TEN)),
        ("AR@50", Measure(True, 0, 1, TEN)),
    ],
)
def test_headline_of_keypoints(key: str, of_keypoints: Measure) -> None:
    assert headline_measure(key, KEYPOINTS) == of_keypoints


def test_tables_and_classes() -> None:
    assert table_measure("large", "AP@300", "85", BOXES) == Measure(False, 3, 3, (7,))
    assert table_measure("large", "AR", "mean", KEYPOINTS) == Measure(True, 2, 0, TEN)
    assert list(class_measures(BOXES)) == ["AP", "AP50", "AR100"]
    assert class_measures(KEYPOINTS)["AR"] == Measure(True, 0, 0, TEN)
