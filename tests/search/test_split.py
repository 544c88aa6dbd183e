"""Images kept apart to score candidates on."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detnet.errors import InputError
from detnet.search.config import SearchConfig
from detnet.search.split import choose, counts_of, kept_apart, search_images, write_split
from detnet.search.trainings import finetune_config
from detnet.training.detection.model_and_data import load_data
from tests.data.voc_devkit import write_devkit
from tests.search.small_search import write_classes, write_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


def read(run: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "data" / f"{name}.json").read_text())
    return content


def files_of(run: Path, name: str) -> list[str]:
    return [image["file_name"] for image in read(run, name)["images"]]


def carved(run: Path, data: Path, **changes: Any) -> list[str]:
    run.mkdir(exist_ok=True)
    config = SearchConfig.make(None, {"data": str(data), "search_images": 4, **changes})
    return write_split(config, run)


def test_both_parts_make_up_the_training_images(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    notes = carved(run, data)
    whole = json.loads((data / "annotations" / "instances_train.json").read_text())
    train, search = files_of(run, "train"), files_of(run, "search")
    assert len(search) == 4 and not set(train) & set(search)
    assert sorted(train + search) == sorted(image["file_name"] for image in whole["images"])
    records = [record for name in ("train", "search") for record in read(run, name)["annotations"]]
    assert len(records) == len(whole["annotations"])
    assert not any("segmentation" in record for record in records)
    assert notes == [
        "4 of 12 training images are kept apart to score candidates on; supernets are trained on "
        "the other 8"
    ]
    assert counts_of(run) == {"train": 8, "search": 4, "detection": 12, "classes": 3}


def test_the_seed_alone_decides(data: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        carved(tmp_path / name, data, seed=seed)
    first, same, other = (files_of(tmp_path / name, "search") for name in "abc")
    assert first == same != other


def test_at_most_half_is_kept_apart(data: Path, tmp_path: Path) -> None:
    notes = carved(tmp_path / "run", data, search_images=5000)
    assert len(files_of(tmp_path / "run", "search")) == 6
    assert "not 5000: at most half" in notes[0]


def test_images_of_validation_are_never_taken(data: Path, tmp_path: Path) -> None:
    for number in range(8):  # eight training images become copies of a validation image
        shutil.copy(data / "val" / "val_00000.jpg", data / "train" / f"train_{number:05d}.jpg")
    notes = carved(tmp_path / "run", data, search_images=6)
    chosen = files_of(tmp_path / "run", "search")
    assert chosen and all(name >= "train_00008" for name in chosen)
    assert "8 training images are in the validation split, too; none was taken" in notes[1]


def test_copies_stay_together(tmp_path: Path) -> None:
    paths = []
    for number in range(12):
        paths.append(tmp_path / f"{number}.bmp")
        Image.new("RGB", (4, 6), (number // 2, 0, 0)).save(paths[-1])  # pairs, all of one size
    for seed in range(5):
        chosen, skipped = choose(paths, [], wanted=5, seed=seed)
        assert len(chosen) == 4 and skipped == 0
        assert {index ^ 1 for index in chosen} == set(chosen)


def test_a_split_of_ones_own_is_taken_whole(data: Path, tmp_path: Path) -> None:
    own = write_data(tmp_path / "own", train=1, val=5)
    generator = Image.effect_noise((160, 120), 40).convert("RGB")
    for number, path in enumerate(sorted((own / "val").iterdir())):
        generator.rotate(number).save(path)  # others than data's, which the same seed has drawn
    annotations = own / "annotations" / "instances_val.json"
    carved(tmp_path / "run", data, search_annotations=str(annotations))
    assert len(files_of(tmp_path / "run", "search")) == 5
    assert len(files_of(tmp_path / "run", "train")) == 12
    # Its images are those beside it, also where others have the same names.
    changes = {"data": str(data), "search_annotations": str(annotations)}
    config = SearchConfig.make(None, {**changes, "finetune": {"val_split": "search"}})
    assert search_images(config) == own / "val"
    assert finetune_config(config, tmp_path / "run").val_images == str(own / "val")


@pytest.mark.parametrize(("split", "what"), [("val", "validation"), ("train", "training")])
def test_a_split_of_ones_own_may_share_no_image(
    data: Path, tmp_path: Path, split: str, what: str
) -> None:
    own = tmp_path / "own"  # the same images in another place, under other names
    shutil.copytree(data / split, own)
    content = json.loads((data / "annotations" / f"instances_{split}.json").read_text())
    for image in content["images"]:
        (own / image["file_name"]).rename(own / f"other_{image['file_name']}")
        image["file_name"] = f"other_{image['file_name']}"
    (own / "mine.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"images are {what} images, too .other_{split}_00000"):
        carved(tmp_path / "run", data, search_annotations=str(own / "mine.json"))


def test_other_data_are_refused_later(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    carved(run, data)
    assert carved(run, data) == []
    path = data / "annotations" / "instances_train.json"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(InputError, match="began with another training data"):
        carved(run, data)


@pytest.mark.parametrize(
    ("name", "value"), [("search_images", 5), ("seed", 9), ("val_split", "none")]
)
def test_other_settings_of_the_parts_are_refused_later(
    data: Path, tmp_path: Path, name: str, value: Any
) -> None:
    run = tmp_path / "run"
    carved(run, data)
    with pytest.raises(InputError, match=f"were parted with {name} .*, now it is {value}; rest"):
        carved(run, data, **{name: value})
    record = run / "data" / "source.json"
    old = json.loads(record.read_text())
    del old["settings"]  # as a folder of an earlier version has it
    record.write_text(json.dumps(old))
    assert carved(run, data, **{name: value}) == []


def test_roboflows_layout(data: Path, tmp_path: Path) -> None:
    for split, name in (("train", "train"), ("val", "valid")):
        shutil.copytree(data / split, tmp_path / "robo" / name)
        shutil.copy(
            data / "annotations" / f"instances_{split}.json",
            tmp_path / "robo" / name / "_annotations.coco.json",
        )
    carved(tmp_path / "run", tmp_path / "robo")
    carved(tmp_path / "same", data)
    assert files_of(tmp_path / "run", "search") == files_of(tmp_path / "same", "search")


def test_one_image_cannot_be_parted(tmp_path: Path) -> None:
    data = write_data(tmp_path / "one", train=1, val=0)
    with pytest.raises(InputError, match="no image can be kept apart"):
        carved(tmp_path / "run", data)


def test_classes_are_parted_where_they_guide(data: Path, tmp_path: Path) -> None:
    classes = write_classes(tmp_path / "classes")
    run = tmp_path / "run"
    changes = {"guide": "classification", "pretrain_data": str(classes)}
    notes = carved(run, data, **changes)
    chosen = kept_apart(run)
    assert len(chosen) == 4 and 0 <= min(chosen) <= max(chosen) < 16
    assert "4 of 16 training images" in notes[0]
    assert counts_of(run) == {"train": 12, "search": 4, "detection": 12, "classes": 3}
    Image.new("RGB", (40, 52)).save(classes / "train" / "cat" / "more.png")
    with pytest.raises(InputError, match="began with another training data"):
        carved(run, data, **changes)


def test_a_voc_devkit(tmp_path: Path) -> None:
    write_devkit(tmp_path / "kit")
    notes = carved(tmp_path / "run", tmp_path / "kit")
    train, search = (files_of(tmp_path / "run", name) for name in ("train", "search"))
    assert search and not set(train) & set(search)
    counts = counts_of(tmp_path / "run")
    assert len(train) + len(search) == counts["detection"] and notes
    config = SearchConfig.make(None, {"data": str(tmp_path / "kit"), "from_scratch": True})
    finetuning = finetune_config(config, tmp_path / "run")
    material = load_data(finetuning)  # finds every image
    assert len(material.train) == len(train) and material.val is None


def test_images_that_were_kept_apart_are_read(tmp_path: Path) -> None:
    place = tmp_path / "data" / "classes.json"
    place.parent.mkdir()
    with pytest.raises(InputError, match="classes.json: cannot be read"):
        kept_apart(tmp_path)
    place.write_text('{"search": [1, 3]}')
    assert kept_apart(tmp_path) == kept_apart(tmp_path, 5) == [1, 3]
    with pytest.raises(InputError, match="names image 3, but the folder has 3"):
        kept_apart(tmp_path, 3)
