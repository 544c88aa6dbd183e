"""Every format goes through one interface: those of the package, and one of a module of its own."""

import csv
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from detnet.cli import main
from detnet.coco.annotations import require_images
from detnet.coco.table import read_table
from detnet.data.folders import Split, find_split, find_splits
from detnet.data.formats import FORMATS
from detnet.data.formats.convert import convert
from detnet.data.reading import fingerprint_files, load_annotations
from detnet.plugins import load_plugins
from tests.conftest import TINY

HERE = Path(__file__).parents[2] / "plugins"
PLUGIN = f"{HERE}:my_format"


@pytest.fixture(autouse=True, scope="module")
def registered() -> Iterator[None]:
    known = dict(FORMATS._homes)
    load_plugins([PLUGIN])
    yield
    FORMATS._homes.clear()
    FORMATS._homes.update(known)
    sys.modules.pop("my_format")


@pytest.fixture(scope="module")
def mine(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenes in the plugin's format."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "pictures").mkdir()
    for name, split in find_splits(scenes).items():
        table = read_table(split.annotations)
        names = [row["name"] for row in table.categories.rows]
        with (folder / f"{name}.csv").open("w", newline="") as file:
            for at, box in enumerate(table.boxes.tolist()):
                image = table.images.rows[table.image_of[at]]["file_name"]
                csv.writer(file).writerow([image, names[table.category_of[at]], *box])
        for row in table.images.rows:
            shutil.copy(split.images / row["file_name"], folder / "pictures")
    return folder


def test_forty_lines_are_enough() -> None:
    text = (HERE / "my_format.py").read_text().split('"""', 2)[2]
    assert len([line for line in text.splitlines() if line.strip()]) <= 40


def test_a_plugins_folder_is_what_coco_says(mine: Path, scenes: Path) -> None:
    splits = find_splits(mine)
    assert list(splits) == ["train", "val"]
    for name, split in splits.items():
        assert split.format == "csv"
        own, repairs = load_annotations(split)
        theirs, _ = load_annotations(find_split(scenes, name), keep_empty=False)
        assert repairs == []
        require_images(own)
        assert own.categories.names == theirs.categories.names
        np.testing.assert_array_equal(np.sort(own.boxes, axis=0), np.sort(theirs.boxes, axis=0))
    again = Split.from_json(splits["val"].to_json())
    assert again.same_as(splits["val"]) and again.format == "csv"
    assert fingerprint_files(splits["train"]) != fingerprint_files(splits["val"])


def test_a_plugins_folder_goes_through_the_commands(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(mine), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["statistics"]["splits"]) == {"train", "val"}
    settings, run = tmp_path / "settings.yaml", str(tmp_path / "run")
    settings.write_text(yaml.safe_dump({**TINY, "data": str(mine), "iterations": 1}))
    assert main(["train", "--config", str(settings), "--output", run, "--plugin", PLUGIN]) == 0
    assert PLUGIN in (tmp_path / "run" / "config.yaml").read_text()
    assert main(["evaluate", run, "--data", str(mine), "--device", "cpu"]) == 0
    assert (tmp_path / "run" / "evaluation" / "scores.json").is_file()
    other = shutil.copy(tmp_path / "run" / "evaluation" / "results.json", tmp_path / "other.json")
    assert main(["compare", run, str(other), "--resamples", "100", "--no-speed"]) == 0
    assert main(["convert", str(mine), "--output", str(tmp_path / "coco")]) == 0
    assert capsys.readouterr().out.rstrip().endswith("coco from csv")


@pytest.mark.parametrize("target", ["yolo", "voc"])
def test_what_is_written_is_trained_on_as_it_is(scenes: Path, tmp_path: Path, target: str) -> None:
    convert(scenes, tmp_path / target, target_format=target)
    for name, split in find_splits(tmp_path / target).items():
        assert split.format == target
        own, repairs = load_annotations(split)
        theirs, _ = load_annotations(find_split(scenes, name))
        assert repairs == [] and own.categories.names == theirs.categories.names
        require_images(own)
        np.testing.assert_allclose(own.boxes, theirs.boxes, atol=0.01)
        assert fingerprint_files(split) == fingerprint_files(find_split(tmp_path / target, name))


def test_splits_of_one_file_are_told_apart(scenes: Path, tmp_path: Path) -> None:
    convert(scenes, tmp_path / "yolo", target_format="yolo")
    train, val = find_splits(tmp_path / "yolo").values()
    assert train.files == val.files and not train.same_as(val)
    assert val.same_as(find_split(tmp_path / "yolo", "valid"))
    assert fingerprint_files(train) != fingerprint_files(val)
