"""VOC's folders as data sets: arrays equal to those of the converter, and what is refused."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detnet.coco.annotations import require_images
from detnet.coco.records import PLACE
from detnet.coco.writing import to_coco_dict
from detnet.data.folders import Split, find_split, find_splits
from detnet.data.formats.convert import convert
from detnet.data.formats.voc import (
    find_lists,
    find_standard,
    find_years,
    names_root,
)
from detnet.data.reading import fingerprint_files, load_annotations, read_content
from detnet.errors import InputError
from tests.data.voc_devkit import CAT, DOG, HARD, annotation, write_devkit, write_year


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    return write_devkit(tmp_path / "VOCdevkit")


def test_boxes_labels_and_difficult_objects(devkit: Path) -> None:
    train, repairs = load_annotations(find_split(devkit, "train"))
    assert repairs == []
    assert [train.file_name(i) for i in range(len(train))] == [
        "VOC2007/JPEGImages/000005.jpg",
        "VOC2007/JPEGImages/000007.jpg",
        "VOC2012/JPEGImages/2008_000008.jpg",
        "VOC2012/JPEGImages/2008_000002.jpg",
    ]
    require_images(train)
    assert train.image_ids.tolist() == [5, 7, 2008000008, 2008000002]
    assert train.sizes.tolist() == [[60, 40]] * 4
    assert train.categories.to_json() == [
        {"id": 1, "name": "bird"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "dog"},
    ]  # fmt: skip
    assert train.boxes_xywh.tolist() == [
        [0, 0, 60, 40], [10.5, 5, 19.5, 20.25], [2, 3, 18, 27],
        [0, 0, 60, 40], [10.5, 5, 19.5, 20.25], [4, 4, 36, 26],
    ]  # fmt: skip
    assert train.labels.tolist() == [3, 2, 3, 3, 2, 1]
    assert train.crowd.tolist() == [False, False, True, False, False, False]
    assert train.offsets.tolist() == [0, 1, 3, 5, 6]


def test_all_splits_have_the_same_categories(devkit: Path) -> None:
    train, _ = load_annotations(find_split(devkit, "train"))
    val, _ = load_annotations(find_split(devkit, "val"), categories=train.categories)
    assert val.image_ids.tolist() == [1, 2]  # no bird among their objects
    assert len(val.categories) == 3
    (devkit / "labels.txt").write_text("dog\nbird\ncat\nfish\n")
    named, _ = load_annotations(find_split(devkit, "val"))
    assert named.categories.names == ("dog", "bird", "cat", "fish")


def test_equal_to_what_the_converter_makes(tmp_path: Path) -> None:
    folder = write_year(
        tmp_path / "own",
        {"a": [DOG, HARD], "b": [CAT], "c": []},
        {"train": "b a", "val": "c"},
    )
    convert(folder, tmp_path / "coco")
    for name in ("train", "val"):
        ours, _ = load_annotations(find_split(folder, name))
        theirs, _ = load_annotations(find_split(tmp_path / "coco", name))
        assert ours.categories == theirs.categories
        for field in ("image_ids", "sizes", "offsets", "boxes_xywh", "labels", "areas", "crowd"):
            assert getattr(ours, field).tolist() == getattr(theirs, field).tolist(), field


def test_written_in_cocos_form_and_read_again(devkit: Path, tmp_path: Path) -> None:
    """As a search's own split is: a file with names from the folder of the years."""
    whole, _ = load_annotations(find_split(devkit, "train"))
    path = tmp_path / "part.json"
    path.write_text(json.dumps(to_coco_dict(whole, [0, 1, 3])))
    part, repairs = load_annotations(Split("search", path, whole.images_folder))
    assert repairs == []
    require_images(part)
    rows = [0, 1, 2, 5]
    for field in ("boxes", "boxes_xywh", "labels", "areas", "crowd"):
        assert np.array_equal(getattr(part, field), getattr(whole, field)[rows]), field
    assert part.image_ids.tolist() == whole.image_ids[[0, 1, 3]].tolist()
    assert part.categories == whole.categories


def test_names_that_are_no_numbers_and_other_suffixes(tmp_path: Path) -> None:
    folder = write_year(tmp_path / "own", {"a": [DOG], "b": [CAT]}, {"train": "b a b"})
    (folder / "JPEGImages" / "b.jpg").rename(folder / "JPEGImages" / "b.PNG")
    (folder / "JPEGImages" / "a.jpg").rename(folder / "JPEGImages" / "photo.jpg")
    text = annotation("a", [DOG]).replace("a.jpg", "C:\\mine\\photo.jpg")
    (folder / "Annotations" / "a.xml").write_text(text)
    data, _ = load_annotations(find_split(folder, "train"))
    assert data.image_ids.tolist() == [1, 2]
    assert [data.file_name(i) for i in (0, 1)] == ["JPEGImages/b.PNG", "JPEGImages/photo.jpg"]
    require_images(data)


def test_lists_may_name_images_in_folders(tmp_path: Path) -> None:
    year = write_year(tmp_path / "mine", {"0001": [CAT]}, {"train": "0001 b/0001 a/0001"})
    for folder, objects in (("a", [DOG]), ("b", [HARD, DOG])):
        inner = write_year(tmp_path / folder, {"0001": objects}, {})
        for part in ("Annotations", "JPEGImages"):
            (inner / part).rename(year / part / folder)
    train, _ = load_annotations(find_split(year, "train"))
    names = ["JPEGImages/0001.jpg", "JPEGImages/b/0001.jpg", "JPEGImages/a/0001.jpg"]
    assert [train.file_name(i) for i in range(3)] == names
    require_images(train)
    assert np.diff(train.offsets).tolist() == [1, 2, 1]
    assert train.image_ids.tolist() == [1, 2, 3]
    before = fingerprint_files(find_split(year, "train"))
    (year / "Annotations" / "b" / "0001.xml").rename(year / "Annotations" / "b" / "0002.xml")
    assert fingerprint_files(find_split(year, "train")) != before


def test_a_file_name_that_no_file_can_have_is_one_of_no_file(tmp_path: Path) -> None:
    year = write_year(tmp_path / "mine", {"a": [CAT]}, {"train": "a"})
    (year / "JPEGImages" / "a.jpg").unlink()
    (year / "Annotations" / "a.xml").write_text(annotation("x" * 300, [CAT]))
    train, _ = load_annotations(find_split(year, "train"))
    with pytest.raises(InputError, match=r"JPEGImages/a\.jpg does not exist"):
        require_images(train)


def test_a_number_shared_by_two_years_is_no_id(tmp_path: Path) -> None:
    for year in ("A", "B"):
        write_year(tmp_path / year, {"000001": [DOG]}, {"train": "000001"})
    data, _ = load_annotations(find_split(tmp_path, "train"))
    assert data.image_ids.tolist() == [1, 2]
    assert [data.file_name(i)[0] for i in (0, 1)] == ["A", "B"]


def test_a_size_that_is_not_given_is_the_images(tmp_path: Path) -> None:
    folder = write_year(tmp_path / "own", {"a": [DOG], "b": [CAT]}, {"train": "a b"})
    (folder / "Annotations" / "a.xml").write_text(annotation("a", [DOG], None))
    (folder / "Annotations" / "b.xml").write_text(annotation("b", [DOG], (10**30, 40)))
    Image.new("RGB", (50, 30)).save(folder / "JPEGImages" / "b.jpg")
    data, repairs = load_annotations(find_split(folder, "train"))
    assert data.sizes.tolist() == [[60, 40], [50, 30]]
    assert repairs == ["clipped 1 box to their image"]
    (folder / "JPEGImages" / "a.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.xml: has no <size>, .*a\.jpg: the file is empty"):
        load_annotations(find_split(folder, "train"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object>", r"000007\.xml: not a whole XML file"),
        ("<svg/>", r"000007\.xml: not a VOC annotation: starts with <svg>"),
        (annotation("x", [DOG, ("", (1, 1, 2, 2), 0)]), r"000007\.xml: object 2: has no <name>"),
        (
            annotation("x", [("cat", ("?", 1, 2, 2), 0)]),  # type: ignore[arg-type]
            r"000007\.xml: object 1 \(cat\): '\?' is not a number",
        ),
        (
            annotation("x", [("cow", (1, 1, 2, 2), 0), ("dgo", (1, 1, 2, 2), 0)]),
            r"000007\.xml: object 2: class 'dgo' is not in labels\.txt .* \(run `detnet check",
        ),
        (None, r"trainval\.txt: '000007' has no Annotations/000007\.xml"),
    ],
)
def test_mistakes_name_file_and_object(devkit: Path, text: str | None, message: str) -> None:
    path = devkit / "VOC2007" / "Annotations" / "000007.xml"
    (devkit / "labels.txt").write_text("dog\nbird\ncat\ncow\n")
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_annotations(find_split(devkit, "train"))
    assert "\n" not in str(caught.value)


def test_a_missing_image_is_named(devkit: Path) -> None:
    (devkit / "VOC2012" / "JPEGImages" / "2008_000002.jpg").unlink()
    train, _ = load_annotations(find_split(devkit, "train"))
    with pytest.raises(InputError, match=r"VOC2012/JPEGImages/2008_000002\.jpg does not exist"):
        require_images(train)


def test_no_folder_of_images(tmp_path: Path) -> None:
    folder = write_year(tmp_path / "own", {"a": [DOG]}, {"train": "a"})
    (folder / "JPEGImages").rename(folder / "images")
    with pytest.raises(InputError, match="JPEGImages: no such folder"):
        load_annotations(find_split(folder, "train"))


def test_no_masks_are_said_to_be_none(devkit: Path) -> None:
    with pytest.raises(InputError, match="has no masks"):
        load_annotations(find_split(devkit, "train"), masks=True)


def test_fingerprints_tell_changes_of_any_file(devkit: Path) -> None:
    split = find_split(devkit, "train")
    before = fingerprint_files(split)
    assert fingerprint_files(find_split(devkit, "train")) == before
    assert fingerprint_files(find_split(devkit, "VOC2007/trainval")) != before
    path = devkit / "VOC2012" / "Annotations" / "2008_000002.xml"
    path.write_text(path.read_text().replace("<xmin>5<", "<xmin>6<"))
    assert fingerprint_files(split) != before
    assert read_content(split).annotations.rows[-1]["bbox"] == [5, 4, 35, 26]
    coco = devkit / "gt.json"
    table = read_content(split)
    lists = {
        "images": table.images.rows,
        "annotations": table.annotations.rows,
        "categories": table.categories.rows,
    }
    coco.write_text(json.dumps(lists))
    rows = read_content(Split("train", coco, devkit)).annotations.rows
    assert rows == [{**row, PLACE: [*row[PLACE]]} for row in table.annotations.rows]
    assert len(fingerprint_files(Split("train", coco, devkit))) == 64


def test_find_splits_and_what_is_not_there(devkit: Path) -> None:
    splits = find_splits(devkit)
    assert list(splits) == ["train", "val"]
    assert splits["train"].images == devkit and len(splits["train"].lists) == 2
    assert splits["val"] == find_split(devkit, "valid")
    with pytest.raises(InputError, match="no list of the split 'mini'; it has train, val, and"):
        find_split(devkit, "mini")
    with pytest.raises(InputError, match="has its own images"):
        find_split(devkit, "train", images=devkit)


def test_annotations_of_coco_come_first(devkit: Path) -> None:
    (devkit / "annotations").mkdir()
    (devkit / "annotations" / "instances_train.json").write_text("{}")
    (devkit / "images").mkdir()
    assert find_splits(devkit)["train"].lists == ()
    with pytest.raises(InputError, match="it has train"):
        find_split(devkit, "val")


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


def test_a_years_folder_may_have_any_name(tmp_path: Path) -> None:
    year = write_year(tmp_path / "year", {"1": [DOG]}, {"train": "1"})
    year = year.rename(tmp_path / os.fsdecode(b"d\xe9"))
    assert len(fingerprint_files(find_split(year, "train"))) == 64
