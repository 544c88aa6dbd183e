import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from detnet.coco.check import find_problems
from detnet.coco.table import read_table
from detnet.data.reading import load_annotations


@pytest.fixture
def coco_scale(beside_the_scripts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import coco_scale
    import harness
    from coco_parts import made

    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(made, "_DRAWN", 7)
    return coco_scale


def test_what_is_made_is_sound_and_made_once(coco_scale: Any, tmp_path: Path) -> None:
    size = coco_scale.Size(40, 300, 10)
    made = coco_scale.make_data(tmp_path, size, None)
    assert (made.pictures, made.val.annotations.name) == (7, "instances_val.json")
    annotations, repairs = load_annotations(made.train, masks=True)
    assert (len(annotations), len(annotations.boxes), repairs) == (40, 300, [])
    assert 0 < annotations.crowd.sum() < 30
    assert len(load_annotations(made.val)[0].boxes) == 75
    problems = find_problems(read_table(made.train.annotations))
    assert [problem for problem in problems if problem.severity == "error"] == []
    before = made.train.annotations.stat().st_mtime_ns
    again = coco_scale.make_data(tmp_path, size, None)
    assert again == made and made.train.annotations.stat().st_mtime_ns == before
    elsewhere = coco_scale.make_data(tmp_path / "b", size, tmp_path / "images")
    assert elsewhere.train.images == tmp_path / "images"


def test_a_run_goes_on_with_the_parts_it_lacks(
    coco_scale: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def part(name: str) -> Any:
        def measure(made: Any, asked: argparse.Namespace) -> dict[str, Any]:
            measured.append(name)
            return {"seconds": 1.5, "images_read": asked.train_images}

        return measure

    monkeypatch.setattr(coco_scale, "PARTS", {name: part(name) for name in ("one", "two")})
    words = ["--work", str(tmp_path), "--train-images", "9", "--objects", "30", "--val-images", "3"]
    for more in (["--parts", "one"], [], [], ["--parts", "two"]):
        monkeypatch.setattr(sys, "argv", ["coco_scale.py", *words, *more])
        coco_scale.main()
    assert measured == ["one", "two", "two"]
    lines = (tmp_path / "results" / "coco_scale.jsonl").read_text().splitlines()
    assert [json.loads(line)["part"] for line in lines] == measured
    kept = json.loads((tmp_path / "two.json").read_text())
    assert (kept["seconds"], kept["images_read"], kept["objects"]) == (1.5, 9, 30)


@pytest.fixture
def asked(coco_scale: Any, tmp_path: Path) -> argparse.Namespace:
    return argparse.Namespace(work=tmp_path, processes=2, workers=0, minutes=0.02, train_images=40)


@pytest.mark.slow
def test_the_parts_measure(
    coco_scale: Any, asked: argparse.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coco_parts import imagenet, loader

    monkeypatch.setattr(loader, "_IMAGES", 8)
    monkeypatch.setattr(loader, "_TURNS", 1)
    monkeypatch.setenv("DETNET_CACHE", str(tmp_path / "cache"))
    made = coco_scale.make_data(tmp_path, coco_scale.Size(40, 300, 10), None)
    one = argparse.Namespace(**{**vars(asked), "processes": 1})
    start = coco_scale.PARTS["start"](made, one)
    assert start["masks kept, 0 workers"]["first_batch_s"] > 0
    assert start["boxes_kept_mb"] == 0  # so small a file is not kept
    pace = coco_scale.PARTS["loader"](made, asked)["images_per_s"]
    assert pace["plain decoding"] > pace["samples to 800 × 1333, masks"] > 0
    steps = coco_scale.PARTS["steps"](made, asked)
    assert steps["epochs"] >= 1 and steps["epochs_with_gaps"] == 0
    assert steps["memory_mb_most"] > 100 and steps["handles_most"] > 10
    assert not steps["twice_in_the_last"]
    monkeypatch.setattr(imagenet, "FILES", 90)
    monkeypatch.setattr(imagenet, "CLASSES", 6)
    listed = coco_scale.PARTS["imagenet"](made, asked)
    assert listed["files"] == 90 and listed["kept listing_s"] < listed["kept first_batch_s"]


@pytest.mark.slow
def test_evaluation_and_scorer_are_measured(
    coco_scale: Any, asked: argparse.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coco_parts import scorer

    monkeypatch.setattr(scorer, "_LIMITS_GB", (1.0, 0.0))
    monkeypatch.setenv("DETNET_CACHE", str(tmp_path / "cache"))
    made = coco_scale.make_data(tmp_path, coco_scale.Size(40, 300, 10), None)
    found = coco_scale.PARTS["evaluation"](made, asked)
    one, two = found["1 processes"], found["2 processes"]
    assert one["written_mb"] > 0 and one["others_peak_mb"] == 0 < two["others_peak_mb"]
    assert (one["AP"], one["segm_AP"]) == (two["AP"], two["segm_AP"])
    found = coco_scale.PARTS["scorer"](made, asked)
    whole, none = found["1 GB"], found["0 GB"]
    assert whole["images"] == whole["kept"] == 50 and whole["hit_rates"] == [0, 1]
    assert none["kept"] == 0 and none["hit_rates"] == [0, 0]
