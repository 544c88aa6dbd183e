"""What all converters share: names, numbers, images put in place."""

import os
import pickle
from pathlib import Path

import pytest
from PIL import Image

from detnet.data.formats.interchange import (
    Flaws,
    UnsoundFiles,
    clipped,
    finite,
    image_files,
    measure,
    place_image,
    plain,
    unique_names,
)
from detnet.data.images import IMAGE_SUFFIXES
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


def test_images_are_found_in_the_order_of_their_folders(tmp_path: Path) -> None:
    names = (
        "b.jpg",
        "a.JPG",
        "a/z.png",
        "a b/x.gif",
        "a.b/y.jpe",
        "a/b/c.bmp",
        "é/10.tif",
        "é/9.tif",
    )
    hidden = (".jpg", "._b.jpg", "a/.ipynb_checkpoints/z-checkpoint.png")
    for name in (*names, *hidden, "a.txt", "elsewhere/d.jpg/e.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a/link").symlink_to(tmp_path)
    there = [p for p in tmp_path.rglob("[!.]*") if p.suffix.lower() in IMAGE_SUFFIXES]
    there.remove(tmp_path / hidden[2])
    assert len(there) == len(names) + 2  # a folder that is named as an image, too, to be told of
    assert image_files(tmp_path) == sorted(there)
    assert len(image_files(tmp_path, most=3)) == 3
    assert image_files(tmp_path / "none") == image_files(tmp_path / "b.jpg") == []


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


def test_images_without_a_size_are_noted_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("words")
    Image.new("RGB", (60, 40)).save(tmp_path / "b.png")
    cut = tmp_path / "c.jpg"  # is not decoded, which takes five times as long
    Image.new("RGB", (500, 400)).save(cut)
    cut.write_bytes(cut.read_bytes()[:-60])
    flaws = Flaws(tmp_path)
    files = measure([tmp_path / "a.jpg", tmp_path / "b.png", cut], flaws)
    told = [(path.name, facts.width, facts.error) for path, facts in files.items()]
    assert told == [("b.png", 60, ""), ("c.jpg", 500, "")]
    with pytest.raises(UnsoundFiles, match=r"a\.jpg: is a text file, .* \(run `detnet check /"):
        flaws.settle()


def test_all_flaws_are_kept_and_the_first_is_told(tmp_path: Path) -> None:
    flaws = Flaws(tmp_path)
    flaws.settle()
    for number in range(3):
        with flaws.noting(tmp_path / "a.txt", "bad-label"):
            raise InputError(f"{tmp_path}/a.txt: line {number}: wrong")
    with pytest.raises(KeyError), flaws.noting(tmp_path / "a.txt", "bad-label"):
        raise KeyError  # ours, not the user's
    with pytest.raises(UnsoundFiles) as caught:
        flaws.settle({"images": []})
    first = f"{tmp_path}/a.txt: line 0: wrong (+2 more: run `detnet check {tmp_path}`)"
    assert str(caught.value) == first
    again = pickle.loads(pickle.dumps(caught.value))  # another process may have read
    assert (str(again), again.content) == (first, {"images": []})
    assert [(p.code, p.message) for p in again.problems] == [
        ("bad-label", f"line {number}: wrong") for number in range(3)
    ]
