"""What all converters share: names, numbers, images put in place."""

import os
from pathlib import Path

import pytest

from detnet.data.formats.interchange import (
    clipped,
    finite,
    measure,
    place_image,
    plain,
    unique_names,
)
from detnet.errors import InputError


def test_names_are_unique_by_stem() -> None:
    paths = [Path(p) for p in ("a/x.jpg", "b/x.jpg", "b/y.jpg", "b/y.png", "a/b/x.jpg", "x_y.jpg")]
    names = unique_names(paths)
    assert names[paths[0]] == "x.jpg"
    assert names[paths[1]] == "b_x.jpg"
    assert names[paths[2]] == "y.jpg"
    assert names[paths[3]] == "b_y.png"
    assert len({Path(name).stem for name in names.values()}) == len(paths)
    assert unique_names([Path("x.jpg"), Path("x.png")])[Path("x.png")] == "1_x.png"


def test_images_are_linked_or_copied(tmp_path: Path) -> None:
    source = tmp_path / "a.jpg"
    source.write_bytes(b"pixels")
    (tmp_path / "link.jpg").symlink_to(source)
    place_image(tmp_path / "link.jpg", tmp_path / "b" / "a.jpg", link=True)
    place_image(source, tmp_path / "c" / "a.jpg", link=False)
    assert os.path.samefile(source, tmp_path / "b" / "a.jpg")
    assert not (tmp_path / "b" / "a.jpg").is_symlink()
    assert not os.path.samefile(source, tmp_path / "c" / "a.jpg")
    assert (tmp_path / "c" / "a.jpg").read_bytes() == b"pixels"


def test_numbers() -> None:
    assert finite(" 1.5 ", "x") == 1.5
    for text in ("a", "nan", "inf", "1e300", ""):
        with pytest.raises(InputError, match=r"^a\.txt: line 3: .* is not a number"):
            finite(text, "a.txt: line 3")
    assert repr(plain(20.000000000000004)) == "20"
    assert plain(0.12345) == 0.123


def test_clipping() -> None:
    assert clipped((-5, 10, 20, 40), 60, 40) == (0, 10, 15, 30)
    assert clipped((1, 2, 3, 4), 60, 40) == (1, 2, 3, 4)
    assert clipped((60, 2, 3, 4), 60, 40) is None
    assert clipped((1, 2, 0, 4), 60, 40) is None


def test_an_image_without_a_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("words")
    with pytest.raises(InputError, match=r"a\.jpg: is a text file"):
        measure([tmp_path / "a.jpg"])
