from pathlib import Path

import pytest

from detnet.data.folders import find_split, find_splits, names_start
from detnet.errors import InputError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")


def test_coco_layout_with_one_folder_per_split(tmp_path: Path) -> None:
    touch(tmp_path / "annotations" / "instances_train2017.json", tmp_path / "train2017" / "a.jpg")
    split = find_split(tmp_path, "train")
    assert split.name == "train"
    assert split.annotations.name == "instances_train2017.json"
    assert split.images == tmp_path / "train2017"


def test_coco_layout_with_one_folder_for_all(tmp_path: Path) -> None:
    for name in ("val", "train"):
        touch(tmp_path / "annotations" / f"instances_{name}.json")
    (tmp_path / "images").mkdir()
    splits = find_splits(tmp_path)
    assert list(splits) == ["train", "val"]
    assert splits["val"].images == tmp_path / "images"


def test_images_in_a_subfolder_named_like_the_split(tmp_path: Path) -> None:
    touch(tmp_path / "annotations" / "instances_val.json", tmp_path / "images" / "val" / "a.jpg")
    assert find_split(tmp_path, "val").images == tmp_path / "images" / "val"


def test_roboflow_layout_says_valid(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        touch(tmp_path / name / "_annotations.coco.json")
    splits = find_splits(tmp_path)
    assert list(splits) == ["train", "val", "test"]
    assert splits["val"].images == tmp_path / "valid"
    assert find_split(tmp_path, "valid") == splits["val"]


def test_an_exact_name_wins_over_longer_ones(tmp_path: Path) -> None:
    for name in ("train", "train_small"):
        touch(tmp_path / "annotations" / f"instances_{name}.json")
    (tmp_path / "images").mkdir()
    assert find_split(tmp_path, "train").annotations.name == "instances_train.json"
    assert find_split(tmp_path, "train_small").annotations.name == "instances_train_small.json"


def test_two_files_that_fit_are_named(tmp_path: Path) -> None:
    for year in (2014, 2017):
        touch(tmp_path / "annotations" / f"instances_val{year}.json")
    with pytest.raises(InputError, match="instances_val2014.json and instances_val2017.json both"):
        find_split(tmp_path, "val")


def test_each_of_two_files_that_fit_is_a_split_by_its_own_name(tmp_path: Path) -> None:
    for name in ("train2014", "train2017", "val2014", "val2017"):
        touch(tmp_path / "annotations" / f"instances_{name}.json", tmp_path / name / "a.jpg")
    for name in ("train2017", "val2017"):
        split = find_split(tmp_path, name)
        assert split.annotations.name == f"instances_{name}.json"
        assert (split.images, split.format) == (tmp_path / name, "coco")
    with pytest.raises(InputError, match="both fit the split 'train'; name one, as 'train2014'"):
        find_splits(tmp_path)
    with pytest.raises(InputError, match="no annotations of the split 'mini'; it has train, val"):
        find_split(tmp_path, "mini")


def test_an_annotation_file_by_itself(tmp_path: Path) -> None:
    touch(tmp_path / "mine.json", tmp_path / "elsewhere" / "a.jpg")
    assert find_split(tmp_path / "mine.json", "train").images == tmp_path
    (tmp_path / "images").mkdir()
    assert find_split(tmp_path / "mine.json", "train").images == tmp_path / "images"
    explicit = find_split(tmp_path / "mine.json", "val", images=tmp_path / "elsewhere")
    assert (explicit.name, explicit.images) == ("val", tmp_path / "elsewhere")


def test_an_annotation_file_inside_a_layout(tmp_path: Path) -> None:
    touch(tmp_path / "annotations" / "instances_val.json", tmp_path / "val" / "a.jpg")
    path = tmp_path / "annotations" / "instances_val.json"
    assert find_split(path, "val").images == tmp_path / "val"


def test_where_file_names_start(tmp_path: Path) -> None:
    images = tmp_path / "images" / "train"
    touch(images / "a.jpg", images / "images" / "b.jpg", tmp_path / "images" / "b.jpg")
    assert names_start(images, ["a.jpg"]) == images
    assert names_start(images, ["train/a.jpg"]) == tmp_path / "images"
    assert names_start(images, ["images/train/a.jpg"]) == tmp_path
    assert names_start(images, ["images/b.jpg"]) == images  # beneath it is nearer than above
    assert names_start(images, ["train/gone.jpg", "train/a.jpg"]) == tmp_path / "images"
    assert names_start(images, ["gone.jpg", "a\0b", "\ud800", "x" * 9999]) == images
    assert names_start(images, []) == images


def test_what_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    touch(tmp_path / "annotations" / "instances_train.json")
    for attempt, message in (
        (lambda: find_splits(tmp_path / "nowhere"), "no such folder"),
        (
            lambda: find_splits(tmp_path / "annotations"),
            "data set found; give the folder above it",
        ),
        (lambda: find_split(tmp_path, "val"), "no annotations of the split 'val'; it has train"),
        (lambda: find_split(tmp_path, "train"), "its images are in none of"),
        (
            lambda: find_split(tmp_path, "train", images=tmp_path / "gone"),
            "gone: the folder of images does not exist",
        ),
    ):
        with pytest.raises(InputError, match=message) as caught:
            attempt()
        assert "\n" not in str(caught.value)


def test_cocos_keypoints_alone_are_a_split(tmp_path: Path) -> None:
    alone = tmp_path / "annotations" / "person_keypoints_val2017.json"
    touch(alone, tmp_path / "val2017" / "a.jpg")
    assert find_split(tmp_path, "val").annotations == alone
    for split in (find_split(tmp_path, "val"), find_split(alone, "val")):
        assert split.images == tmp_path / "val2017"
    touch(tmp_path / "annotations" / "instances_val2017.json")
    assert find_split(tmp_path, "val").annotations.name == "instances_val2017.json"


def test_a_file_that_is_nearly_in_a_layout_is_named_with_what_takes_it(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "notes.json").write_text('{"by": "me"}')
    path = tmp_path / "instances_trainval.json"
    path.write_text('{"images": [], "annotations": [], "categories": []}')
    told = (
        f"instances_trainval.json is an annotation file.* give {path} itself instead of the "
        f"folder, or train with --train-annotations {path} --train-images {tmp_path / 'images'}; "
        "looked for "
    )
    with pytest.raises(InputError, match=told):
        find_splits(tmp_path)
    with pytest.raises(InputError, match=told):
        find_split(tmp_path, "train")
    path.unlink()
    with pytest.raises(InputError, match="no data set found; looked for "):
        find_splits(tmp_path)
