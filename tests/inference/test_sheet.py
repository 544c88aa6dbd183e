"""Placing on a sheet is in pixels of its layout."""

import numpy as np

from detnet.inference.sheet import Sheet


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
