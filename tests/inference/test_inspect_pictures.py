"""The sheets of an inspection, from made-up numbers."""

import numpy as np
import pytest

from detnet.inference.inspect import Inspection, StageView
from detnet.inference.inspect_pictures import Sheet, draw_activations, draw_receptive_fields

DRAWINGS = [draw_activations, draw_receptive_fields]


def view(
    strides: dict[str, int], *, size: tuple[int, int] = (64, 96), dead: bool = False
) -> Inspection:
    generator = np.random.default_rng(0)
    stages = []
    for name, stride in strides.items():
        cells = (-(-size[0] // stride), -(-size[1] // stride))
        energy = np.zeros(size)
        if not dead:
            energy[16:49, 32:65] = 1 / 33**2
        stages.append(
            StageView(
                name=name,
                channels=8,
                stride=stride,
                size=cells,
                activation=np.zeros(cells, np.float32)
                if dead
                else generator.random(cells, dtype=np.float32),
                energy=energy,
                centre=(32, 48),
                receptive_field=0 if dead else 35,
                effective=(None, None) if dead else (27, 33),
            )
        )
    picture = np.full((*size, 3), 120, np.uint8)
    return Inspection(
        name="mine", backbone="resnet50", width=0.5, picture=picture, stages=tuple(stages)
    )


FINE, COARSE = {"c4": 16, "c5": 16, "c6": 16}, {"c4": 16, "c5": 32}


@pytest.mark.parametrize("draw", DRAWINGS)
def test_rows_are_models_and_a_missing_stage_stays_empty(draw) -> None:  # type: ignore[no-untyped-def]
    one, both = draw([view(FINE)], "a.jpg"), draw([view(FINE), view(COARSE)], "a.jpg")
    assert one.width == both.width == 2560 and both.height > one.height
    row = both.height - one.height
    pixels = np.asarray(both)
    last = pixels[:, -2560 // 5 :]  # the right part of the last column
    first_row, second_row = last[116 + 64 : 116 + row], last[116 + row + 64 : 116 + 2 * row - 60]
    assert (first_row != 255).any()
    assert (second_row == 255).all()


@pytest.mark.parametrize("draw", DRAWINGS)
def test_tall_images_are_made_smaller_not_the_sheet(draw) -> None:  # type: ignore[no-untyped-def]
    square, tall, taller = (
        draw([view(FINE, size=(height, 96))], "a.jpg") for height in (96, 300, 900)
    )
    assert square.height < tall.height == taller.height


@pytest.mark.parametrize("draw", DRAWINGS)
def test_dead_stages_and_any_name_can_be_drawn(draw) -> None:  # type: ignore[no-untyped-def]
    assert draw([view(FINE, dead=True)], "日本$x_$" + "a" * 300 + ".jpg").width == 2560


def test_cells_are_drawn_as_large_as_their_stride() -> None:
    pixels = np.asarray(draw_activations([view({"c5": 32})], "a.jpg")).astype(int)
    panel = pixels[:, 1300:2500]  # the one stage beside the input
    middle = panel[116 + 52 + 300]
    edges = np.nonzero(np.abs(np.diff(middle, axis=0)).sum(1) > 20)[0]
    # 96 pixels in a panel of 1220: cells of 32 have middles at 0, 32 and 64, edges half-way.
    scale = (1280 - 48 - 12) / 96
    steps = np.unique(np.round(np.diff(edges) / (32 * scale)))
    assert steps.tolist() in ([1.0], [0.0, 1.0])


def test_a_picture_fills_its_box_without_being_stretched() -> None:
    sheet = Sheet(100)
    sheet.picture((200, 10, 60, 80), np.zeros((20, 30, 3), np.uint8))
    pixels = np.asarray(sheet.image())
    assert pixels.shape == (200, 2560, 3)
    rows, columns = np.nonzero((pixels < 128).all(2))
    # 30 wide in 60: twice as large, so 40 of the 80 in height, and all of it doubled once more.
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (20, 100, 400, 520)


def test_words_begin_at_their_place_and_long_ones_are_cut_in_the_middle() -> None:
    sheet = Sheet(60)
    sheet.text(100, 30, "x" * 40 + "y" * 500 + "z" * 40, size=16)
    rows, columns = np.nonzero((np.asarray(sheet.image()) < 128).all(2))
    assert 200 <= columns.min() < 204 and columns.max() < 2000
    assert rows.min() > 40 and rows.max() < 80
    shown = sheet.figure.texts[0].get_text()
    assert shown == "x" * 40 + "…" + "z" * 40
