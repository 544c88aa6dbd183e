import pytest

from detnet.coco.flat import FlatBytes


def test_what_went_in_comes_out() -> None:
    items = [b"", "ä/ö.jpg".encode(), b"", b"b"]
    flat = FlatBytes.of(items)
    assert len(flat) == 4
    assert list(flat) == items
    assert flat[1].decode() == "ä/ö.jpg"
    assert flat.nbytes == 10 + 5 * 8


def test_empty_and_out_of_range() -> None:
    flat = FlatBytes.of([])
    assert len(flat) == 0
    assert list(flat) == []
    with pytest.raises(IndexError, match="index 0"):
        flat[0]
