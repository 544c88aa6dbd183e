"""Which lists make up a split, on two small years."""

from pathlib import Path

import pytest

from detnet.data.formats.voc_lists import (
    find_lists,
    find_standard,
    find_years,
    names_root,
    read_list,
)
from detnet.errors import InputError
from tests.data.voc_devkit import CAT, write_devkit, write_year


def names(lists: tuple[Path, ...]) -> list[str]:
    return [f"{path.parents[2].name}/{path.stem}" for path in lists]


def test_the_papers_splits_of_two_years(tmp_path: Path) -> None:
    years = find_years(write_devkit(tmp_path))
    assert list(years) == ["VOC2007", "VOC2012"]
    assert find_standard(years) == ("train", "val")
    assert names(find_lists(years, "train")) == ["VOC2007/trainval", "VOC2012/trainval"]
    # The test of 2012 has no annotations.
    assert names(find_lists(years, "val")) == ["VOC2007/test"]
    assert names(find_lists(years, "trainval")) == ["VOC2007/trainval", "VOC2012/trainval"]
    assert names(find_lists(years, "test")) == ["VOC2007/test"]
    assert names(find_lists(years, "VOC2012/test")) == ["VOC2012/test"]
    assert find_lists(years, "minival") == ()


def test_lists_by_their_years(tmp_path: Path) -> None:
    years = find_years(write_devkit(tmp_path))
    assert names(find_lists(years, "VOC2012/train+VOC2007/val")) == ["VOC2012/train", "VOC2007/val"]
    assert names(find_lists(years, "VOC2007/train")) == ["VOC2007/train"]
    with pytest.raises(InputError, match="no 'VOC2010'; the data have VOC2007, VOC2012"):
        find_lists(years, "VOC2007/train+VOC2010/train")
    with pytest.raises(InputError, match=r"minival\.txt: no such list; VOC2007 has train, val"):
        find_lists(years, "VOC2007/minival")


def test_one_year_alone(tmp_path: Path) -> None:
    root = write_devkit(tmp_path)
    years = find_years(root / "VOC2007")
    assert names(find_lists(years, "train")) == ["VOC2007/trainval"]
    assert names(find_lists(years, "val")) == ["VOC2007/test"]
    assert names(find_lists(years, "VOC2007/val")) == ["VOC2007/val"]
    assert names_root(years, root / "VOC2007") == root / "VOC2007"
    years = find_years(root / "VOC2012")  # without an annotated test: train and val as they are
    assert find_standard(years) == ("train", "val")
    assert names(find_lists(years, "train")) == ["VOC2012/train"]
    assert names(find_lists(years, "val")) == ["VOC2012/val"]


def test_a_folder_that_holds_the_devkit(tmp_path: Path) -> None:
    root = write_devkit(tmp_path / "VOCdevkit")
    years = find_years(tmp_path)
    assert years == find_years(root)
    assert names_root(years, tmp_path) == names_root(years, root) == root


def test_own_data_in_vocs_form(tmp_path: Path) -> None:
    """As `detnet convert` writes it: train, val and test are what they say."""
    stems = {stem: [CAT] for stem in "abc"}
    years = find_years(write_year(tmp_path / "own", stems, {"train": "a", "val": "b", "test": "c"}))
    assert find_standard(years) == ("train", "val", "test")
    assert {name: names(find_lists(years, name)) for name in ("train", "val", "test")} == {
        name: [f"own/{name}"] for name in ("train", "val", "test")
    }
    years = find_years(write_year(tmp_path / "bare", stems, {"trainval": "a b"}))
    assert names(find_lists(years, "train")) == ["bare/trainval"]
    assert find_years(tmp_path / "own" / "JPEGImages") == {}


def test_lines_of_a_list(tmp_path: Path) -> None:
    path = tmp_path / "dog_train.txt"
    path.write_text("000005  1\n000007 -1\n\n000009  0\n000005  1\n")
    assert read_list(path) == ["000005", "000009"]
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"dog_train\.txt: cannot be read: no text file"):
        read_list(path)
