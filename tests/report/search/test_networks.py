"""A search's networks as they are drawn, and the published ones of the same space."""

from pathlib import Path

import pytest

from detnet.backbones.detnas import DETNASNET_300M, SMALL
from detnet.backbones.shuffle_block import BlockKind
from detnet.backbones.spaces.shuffle_space import ShuffleSpace, ShuffleStage
from detnet.backbones.spaces.space import SPACES
from detnet.report.search.networks import DrawnChoice, drawn_space
from detnet.report.search.state import read_search
from tests.report.search.test_state import TINY, write_search


def test_detnets_space_is_drawn_with_what_it_does_not_leave_open(tmp_path: Path) -> None:
    record = read_search(write_search(tmp_path / "run", SPACES["detnet"]))
    assert [one.name for one in record.published] == [
        "detnet59",
        "detnet59_noproj",
        "resnet50",
        "resnet50_dilated",
    ]
    assert set(record.published[0].indices) == {0}
    assert record.space.fixed["c2"]["width"] == "256" and "depth" not in record.space.fixed["c2"]
    drawn = record.space.network(record.published[2].indices, beside=record.published[0].indices)
    assert set(record.space.columns) == {
        "depth",
        "width",
        "inner width",
        "resolution",
        "dilation",
        "shortcut",
    }
    c2, *_, c5, c6 = drawn
    assert [cell if isinstance(cell, str) else cell.label for cell in c2.cells] == [
        *("3", "256", "hold", "1", "projection", "a quarter")
    ]
    labels = [cell.label for cell in c5.cells if isinstance(cell, DrawnChoice)]
    assert labels[:4] == ["3", "2048", "halve", "1"]
    assert c6.absent and not c5.absent


def test_genes_are_labelled_with_channels_and_stride() -> None:
    rows = drawn_space(SMALL, 1.0).genes
    assert rows[0].labels == ("S3", "S5", "S7", "X3")
    assert [row.note for row in rows[:5]] == ["64 /2", "64", "64", "64", "160 /2"]
    assert drawn_space(SMALL, 0.5).genes[4].note == "80 /2"
    kinds = (
        BlockKind("own", (3,), narrow=True),
        BlockKind("other", (3,)),
        BlockKind("wide", (5,)),
    )
    space = ShuffleSpace(8, (ShuffleStage("c2", 1, 16),), choices=kinds)
    labels = drawn_space(space, 1.0).genes[0].labels
    assert labels == ("O3·0", "O3·1", "W5")


def test_published_networks_are_those_of_the_same_space(tmp_path: Path) -> None:
    record = read_search(write_search(tmp_path / "a"))
    first = record.published[0]
    assert (first.name, first.indices) == ("detnasnet_300m", DETNASNET_300M)
    assert first.costs["macs"] == pytest.approx(288.1e6, rel=2e-4)
    assert first.path == "2120 2112 33130031 3132"
    other = read_search(write_search(tmp_path / "b", detector="retinanet"))
    assert other.published[0].name == "detnasnet_300m_retinanet"
    assert read_search(write_search(tmp_path / "c", TINY)).published == []
