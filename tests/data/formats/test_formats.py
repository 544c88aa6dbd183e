"""Every format goes through one interface: those of the package, and one of a module of its own."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from detnet.cli import main
from detnet.coco.table import read_table
from detnet.data.folders import Split, find_split, find_splits
from detnet.data.formats import FORMATS
from detnet.data.formats.convert import convert
from detnet.data.reading import fingerprint_files, load_annotations, require_images

PLUGIN = "tests.plugins.my_format"


@pytest.fixture
def table_of_mine(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The scenes in the plugin's format, which is forgotten afterwards."""
    monkeypatch.setattr(FORMATS, "_homes", dict(FORMATS._homes))
    folder = tmp_path / "mine"
    (folder / "pictures").mkdir(parents=True)
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


def register() -> None:
    from tests.plugins.my_format import CsvFolder

    FORMATS.register("csv", CsvFolder)


def test_a_plugins_folder_is_what_coco_says(table_of_mine: Path, scenes: Path) -> None:
    register()
    splits = find_splits(table_of_mine)
    assert list(splits) == ["train", "val"]
    for name, split in splits.items():
        assert split.format == "csv" and split == Split.from_json(split.to_json())
        mine, repairs = load_annotations(split, keep_empty=False)
        theirs, _ = load_annotations(find_split(scenes, name), keep_empty=False)
        assert repairs == []
        require_images(mine)
        np.testing.assert_array_equal(np.sort(mine.boxes, axis=0), np.sort(theirs.boxes, axis=0))
    assert fingerprint_files(splits["train"]) != fingerprint_files(splits["val"])


def test_a_plugins_folder_is_checked_trained_on_evaluated_and_compared(
    table_of_mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = tmp_path / "run", ["--data", str(table_of_mine), "--plugin", PLUGIN]
    register()
    assert main(["check", str(table_of_mine), "--plugin", PLUGIN, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["statistics"]["splits"]) == {"train", "val"}
    small = ["--width", "0.125", "--min-sizes", "[96]", "--max-size", "128", "--batch-size", "2"]
    options = [*small, "--norm", "sync", "--iterations", "1", "--workers", "0", "--device", "cpu"]
    assert main(["train", "--output", str(run), *data, *options]) == 0
    assert main(["evaluate", str(run), *data, "--workers", "0", "--device", "cpu"]) == 0
    results = run / "evaluation" / "results.json"
    assert results.is_file()
    assert main(["compare", str(run), str(run), "--plugin", PLUGIN, "--resamples", "10"]) == 0


def test_a_plugins_folder_is_converted(table_of_mine: Path, tmp_path: Path) -> None:
    register()
    done = convert(table_of_mine, tmp_path / "coco")
    assert done.source_format == "csv" and set(done.counts) == {"train", "val"}


@pytest.mark.parametrize("target", ["yolo", "voc"])
def test_what_is_written_is_trained_on_as_it_is(scenes: Path, tmp_path: Path, target: str) -> None:
    convert(scenes, tmp_path / target, target_format=target)
    for name, split in find_splits(tmp_path / target).items():
        assert split.format == target
        mine, repairs = load_annotations(split, keep_empty=False)
        theirs, _ = load_annotations(find_split(scenes, name), keep_empty=False)
        assert repairs == [] and set(mine.categories.names) <= set(theirs.categories.names)
        require_images(mine)
        np.testing.assert_allclose(mine.boxes, theirs.boxes, atol=0.01)
        assert fingerprint_files(split) == fingerprint_files(find_split(tmp_path / target, name))


def test_splits_of_one_file_are_told_apart(scenes: Path, tmp_path: Path) -> None:
    convert(scenes, tmp_path / "yolo", target_format="yolo")
    train, val = find_splits(tmp_path / "yolo").values()
    assert train.files == val.files and not train.same_as(val)
    assert val.same_as(find_split(tmp_path / "yolo", "valid"))
    assert fingerprint_files(train) != fingerprint_files(val)
