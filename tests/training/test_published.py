"""The paper's tables agree with one another where they tell the same."""

import pytest

from detnet.backbones import BACKBONES
from detnet.detectors import DETECTORS
from detnet.evaluation.metrics import ALL_SIZES
from detnet.training.published import (
    COLUMNS,
    FROM_SCRATCH,
    IOU_COLUMNS,
    PUBLISHED,
    Published,
)

EVERY = [*(one for several in PUBLISHED.values() for one in several), *FROM_SCRATCH.values()]


@pytest.mark.parametrize("one", EVERY, ids=lambda one: f"{one.name} {one.where[:7]}")
def test_every_row_is_whole(one: Published) -> None:
    assert len(one.headline) == len(COLUMNS)
    for _, rows in one.by_iou_and_size.values():
        assert tuple(rows) == ALL_SIZES
        for row in rows.values():
            assert len(row) == len(IOU_COLUMNS)
            assert list(row[1:]) == sorted(row[1:], reverse=True), "a stricter overlap finds less"


@pytest.mark.parametrize("backbone", ["resnet50", "detnet59"])
def test_table_3_and_table_1_agree(backbone: str) -> None:
    one = PUBLISHED["faster_rcnn_fpn", backbone][0]
    for key, size in (("AP", "all"), ("APs", "small"), ("APm", "medium"), ("APl", "large")):
        assert one.score(key) == one.cell("AP", size, "mean")
    assert one.score("AP50") == one.cell("AP", "all", "50")


def test_the_papers_argument_is_in_its_numbers() -> None:
    resnet, detnet = (PUBLISHED["faster_rcnn_fpn", b][0] for b in ("resnet50", "detnet59"))

    def gain(metric: str, size: str, column: str) -> float:
        cells = [one.cell(metric, size, column) for one in (detnet, resnet)]
        assert None not in cells
        return cells[0] - cells[1]  # type: ignore[operator]

    assert gain("AP", "large", "85") == pytest.approx(0.055)
    assert gain("AR", "small", "50") == pytest.approx(0.064)
    assert gain("AR", "large", "85") == pytest.approx(0.061)


def test_names_are_ours() -> None:
    for detector, backbone in [*PUBLISHED, *FROM_SCRATCH]:
        assert detector in DETECTORS and backbone in BACKBONES


def test_what_the_paper_leaves_out() -> None:
    one = PUBLISHED["faster_rcnn_fpn", "resnet101"][0]
    assert one.score("AR100") is None and one.cell("AP", "all", "50") is None
    assert PUBLISHED["faster_rcnn_fpn", "detnet59"][0].cell("AP", "tiny", "50") is None
