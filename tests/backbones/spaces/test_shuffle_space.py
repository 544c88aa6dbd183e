import dataclasses

import pytest

from detnet.backbones.detnas import LARGE, LARGE_WIDENED, SMALL
from detnet.backbones.shuffle_block import BLOCK_KINDS
from detnet.backbones.spaces.shuffle_space import ShuffleSpace, ShuffleStage, describe_path
from detnet.backbones.spaces.space import parse_path
from detnet.errors import InputError

TINY = ShuffleSpace(stem_channels=8, rows=(ShuffleStage("c2", 1, 24), ShuffleStage("c3", 2, 48)))


def test_positions_follow_one_another() -> None:
    places = [(p.stage, p.index, p.in_channels, p.out_channels, p.stride) for p in TINY.positions()]
    assert places == [("c2", 0, 8, 24, 2), ("c3", 0, 24, 48, 2), ("c3", 1, 48, 48, 1)]


@pytest.mark.parametrize(("space", "blocks"), [(SMALL, 20), (LARGE, 40), (LARGE_WIDENED, 40)])
def test_the_spaces_have_the_paper_s_sizes(space: ShuffleSpace, blocks: int) -> None:
    positions = list(space.positions())
    assert len(positions) == blocks
    assert [p.index for p in positions if p.stride == 2] == [0, 0, 0, 0]
    assert len(space.choices) == 4


@pytest.mark.parametrize("width", [0.05, 0.125, 0.3, 0.5, 2, 8])
@pytest.mark.parametrize("space", [SMALL, LARGE, LARGE_WIDENED])
def test_scaled_channels_can_be_halved_and_grow(space: ShuffleSpace, width: float) -> None:
    scaled = space.scaled(width)
    channels = [scaled.stem_channels, *(row.channels for row in scaled.rows)]
    assert all(count % 8 == 0 for count in (*channels, scaled.tail_channels))
    assert all(after > before for before, after in zip(channels, channels[1:], strict=False))
    assert [row.blocks for row in scaled.rows] == [row.blocks for row in space.rows]


def test_width_1_keeps_the_published_counts() -> None:
    assert LARGE_WIDENED.scaled(1.0).rows[0].channels == 172  # no multiple of 8
    assert [row.channels for row in SMALL.scaled(0.5).rows] == [32, 80, 160, 320]


def test_levels_of_a_path() -> None:
    info = describe_path(TINY, parse_path("2 30"))
    assert [(i.name, i.channels, i.stride) for i in info] == [("c2", 24, 4), ("c3", 48, 8)]
    # 3 + 6 × 2; then 2 × 4 and twice 2 × 8 of the Xception block, 2 × 8 of the 3×3.
    assert [i.receptive_field for i in info] == [15, 15 + 8 + 32 + 16]


def test_other_choices_can_be_given() -> None:
    narrow = dataclasses.replace(TINY, choices=BLOCK_KINDS[:2])
    assert len(list(narrow.chosen((0, 1, 1)))) == 3
    with pytest.raises(
        InputError, match="entry 2 of the path is 3; the choices of c3's block 1 are 0 to 1"
    ):
        list(narrow.chosen((0, 1, 3)))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ((0, 1), "a path through this space has 3 entries, got 2"),
        ((0, 4, 0), "entry 1 of the path is 4; the choices of c3's block 0 are 0 to 3"),
        ((-1, 0, 0), "entry 0 of the path is -1"),
    ],
)
def test_a_path_that_does_not_fit(path: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(TINY.chosen(path))


@pytest.mark.parametrize("width", [0, -1, 9])
def test_a_width_out_of_range(width: float) -> None:
    with pytest.raises(InputError, match=rf"\(0, 8\], got {width}"):
        TINY.scaled(width)
