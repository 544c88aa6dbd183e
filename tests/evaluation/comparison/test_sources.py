"""Comparisons of runs and results files: scores, pictures, and one-line errors."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from detnet.errors import InputError
from detnet.evaluation.coco import score
from detnet.evaluation.comparison.sources import Compared, compare_sources, short_names
from detnet.evaluation.metrics import names_of
from detnet.report.comparison import render
from detnet.report.comparison_text import format_comparison
from tests.report.runs import write_data, write_run

FEW = {"resamples": 100}


def truth_of(place: Path) -> Path:
    return place / "data" / "annotations" / "instances_val.json"


def compared(*sources: Path, **options: Any) -> Compared:
    return compare_sources(sources, **FEW, **options)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_runs_have_the_scores_of_their_evaluation(place: Path, iou_type: str) -> None:
    found = compared(place / "a", place / "b", iou_type=iou_type).comparison
    written = json.loads((place / "a" / "evaluation" / "scores.json").read_text())
    own = written["segm"] if iou_type == "segm" else written
    assert found["scores"][0]["AP"] == pytest.approx(own["AP"], abs=1e-9)
    assert found["scores"][0]["APs"] == pytest.approx(own["APs"], abs=1e-9)
    assert found["names"] == ["a", "b"] and found["annotations"] == str(truth_of(place))
    assert found["sources"][1] == str(place / "b" / "evaluation" / "results.json")
    pictures = found["pictures"][0]
    assert len(pictures["only_first"]) > 3 and not pictures["only_other"]
    names = {
        one["id"]: one["file_name"] for one in json.loads(truth_of(place).read_text())["images"]
    }
    assert all(one["file_name"] == names[one["image_id"]] for one in pictures["only_first"])
    json.dumps(found, allow_nan=False)


def test_keypoints(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", keypoints=True)
    runs = [write_run(tmp_path / name, data, keypoints=True) for name in "ab"]
    results = runs[1] / "evaluation" / "results.json"
    results.write_text(json.dumps(json.loads(results.read_text())[::2]))
    found = compared(*runs, iou_type="keypoints").comparison
    written = json.loads((runs[0] / "evaluation" / "scores.json").read_text())["keypoints"]
    for key in names_of("keypoints"):
        assert found["scores"][0][key] == pytest.approx(written[key], abs=1e-9), key
    assert found["ground_truth"] == written["ground_truth"]
    assert found["scores"][0]["AP"] > found["scores"][1]["AP"]
    assert found["pictures"][0]["only_first"] and not found["pictures"][0]["only_other"]
    again = compared(*runs, iou_type="keypoints", sigmas=[0.2]).comparison
    assert again["scores"][0]["sigmas"] == [0.2] * 4
    with pytest.raises(InputError, match="sigmas are for iou_type keypoints"):
        compared(*runs, sigmas=[0.2])


def test_runs_without_keypoints_are_refused(place: Path) -> None:
    with pytest.raises(InputError) as refused:
        compared(place / "a", place / "b", iou_type="keypoints")
    assert "keypoints" in str(refused.value) and "\n" not in str(refused.value)


def test_results_files_need_a_ground_truth(place: Path, tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        records = json.loads((place / name / "evaluation" / "results.json").read_text())
        boxes = [{k: v for k, v in each.items() if k != "segmentation"} for each in records]
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(boxes))
    found = compared(*files, annotations=truth_of(place)).comparison
    for scores, file in zip(found["scores"], files, strict=True):
        assert scores["AP"] == pytest.approx(score(truth_of(place), file)["AP"], abs=1e-9)
    with pytest.raises(InputError, match=r"a\.json: .*--annotations GT\.json"):
        compared(*files)
    beside_a_run = compared(files[1], place / "a").comparison
    assert beside_a_run["names"] == ["b", "a"]
    assert beside_a_run["scores"][0]["AP"] == pytest.approx(found["scores"][1]["AP"], abs=1e-9)


def test_a_bad_file_is_named(place: Path, tmp_path: Path) -> None:
    records = json.loads((place / "a" / "evaluation" / "results.json").read_text())
    bad = tmp_path / "bad.json"
    for change, message in (
        ({"image_id": 99}, "image_id 99 is not among"),
        ({"category_id": 77}, "category_id 77 is not among"),
        ({"bbox": [1, 2, float("nan"), 4]}, "4 finite numbers"),
        ({"bbox": [1, 2, -3, 4]}, "negative width"),
        ({"bbox": "1 2 3 4"}, "4 finite numbers"),
    ):
        bad.write_text(json.dumps([records[0], {**records[1], **change}]))
        with pytest.raises(InputError, match=rf"bad\.json: results\[1\]: .*{message}"):
            compared(place / "a", bad)
    bad.write_text(json.dumps([{**records[0], "segmentation": None}]))
    with pytest.raises(InputError, match=r"bad\.json: .* no masks .*--iou-type bbox"):
        compared(place / "a", bad, iou_type="segm")


def test_ground_truth_is_known_by_its_content(place: Path, tmp_path: Path) -> None:
    content = json.loads(truth_of(place).read_text())
    for name in ("images", "annotations", "categories"):
        content[name].reverse()
    same = tmp_path / "other name.json"
    same.write_text(json.dumps(content, indent=1))
    sources = (place / "a", place / "b")
    found = compared(*sources, annotations=same).comparison
    assert found["ground_truth"] == compared(*sources).comparison["ground_truth"]
    content["annotations"][3]["bbox"][0] += 1
    other = tmp_path / truth_of(place).name
    other.write_text(json.dumps(content))
    with pytest.raises(InputError) as refused:
        compared(*sources, annotations=other)
    message = str(refused.value)
    assert message.startswith(f"{place / 'a'}: evaluated on {truth_of(place)}, not on {other}; do ")
    assert f"`detnet evaluate {place / 'a'} --annotations {other} --images" in message


def test_runs_on_different_data_are_refused(place: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", val=5)
    other = write_run(tmp_path / "c", data)
    with pytest.raises(InputError) as refused:
        compared(place / "a", place / "b", other)
    message = str(refused.value)
    assert message.startswith(f"{other}: evaluated on {data}")
    assert f"not on {truth_of(place)}; do" in message
    assert "\n" not in message


def test_an_evaluation_that_is_out_of_date_is_refused(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", val=3)
    runs = [write_run(tmp_path / name, data) for name in "ab"]
    path = data / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    content["annotations"].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="a: not evaluated on what is now in .*instances_val"):
        compared(*runs)


def test_the_evaluation_on_the_same_data_is_taken(place: Path, tmp_path: Path) -> None:
    """A run keeps scores on other data in folders of their own."""
    other = write_run(tmp_path / "c", write_data(tmp_path / "data", val=5))
    (place / "a" / "evaluation").rename(other / "evaluation" / "data-val")
    try:
        found = compared(place / "b", other).comparison
    finally:
        (other / "evaluation" / "data-val").rename(place / "a" / "evaluation")
    assert found["sources"][1] == str(other / "evaluation" / "data-val" / "results.json")


def beyond_the_border(data: Path) -> Path:
    """Makes a box reach 30 pixels beyond its image; returns the file."""
    path = data / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    box = content["annotations"][0]["bbox"]
    box[2] += 220 - box[0] - box[2] + 30
    path.write_text(json.dumps(content))
    return path


def test_runs_and_results_files_are_compared_on_the_file_as_it_is(tmp_path: Path) -> None:
    path = beyond_the_border(write_data(tmp_path / "data", val=4))
    runs = [write_run(tmp_path / name, tmp_path / "data") for name in "ab"]
    of_runs = compared(*runs).comparison
    assert of_runs["ground_truth_taken"] == "the file as it is"
    assert f"ground truth: {path} (the file as it is)\n" in format_comparison(of_runs)
    assert "</code> (the file as it is)" in render(of_runs, [])
    written = json.loads((runs[0] / "evaluation" / "scores.json").read_text())
    assert of_runs["ground_truth"] == written["ground_truth"]
    assert of_runs["scores"][0]["AP"] == pytest.approx(written["AP"], abs=1e-9)
    files = [run / "evaluation" / "results.json" for run in runs]
    assert compared(*files, annotations=path).comparison["ground_truth"] == of_runs["ground_truth"]
    assert compared(runs[0], files[1], annotations=path).comparison["names"]


def test_images_whose_ids_are_written_as_floats_have_their_names(
    place: Path, tmp_path: Path
) -> None:
    content = json.loads(truth_of(place).read_text())
    for image in content["images"]:
        image["id"] = float(image["id"])
    path = tmp_path / "floats.json"
    path.write_text(json.dumps(content))
    files = [place / name / "evaluation" / "results.json" for name in "ab"]
    found = compared(*files, annotations=path)
    assert found.ground_truth.file_names == {
        image["id"]: image["file_name"] for image in content["images"]
    }
    (pair,) = found.comparison["pictures"]
    assert pair["only_first"] and all(one["file_name"] for one in pair["only_first"])


def test_an_evaluation_that_was_cut_off_is_passed_over(place: Path) -> None:
    """Results are written first, then scores: another split's evaluation is going on."""
    other = place / "b" / "evaluation" / "test"
    other.mkdir()
    (other / "results.json").write_text("[]")
    assert compared(place / "a", place / "b").comparison["names"]


def test_scores_of_another_version_are_to_be_made_again(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old" / "evaluation"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text("[]")
    content = json.loads((place / "a" / "evaluation" / "scores.json").read_text())
    for lacking in ("data", "ground_truth"):
        old = {key: value for key, value in content.items() if key != lacking}
        (folder / "scores.json").write_text(json.dumps(old))
        with pytest.raises(InputError, match=r"scores\.json: .*evaluate again"):
            compared(place / "a", tmp_path / "old")
    (folder / "scores.json").write_text(json.dumps(content | {"segm": ["damaged"]}))
    with pytest.raises(InputError, match=r"scores\.json: .*evaluate again"):
        compared(place / "a", tmp_path / "old")


def test_the_split_that_is_asked_for(place: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a: not evaluated on a split 'test'; do `detnet eval"):
        compared(place / "a", place / "b", split="test")
    for name in "ab":
        shutil.copytree(place / name, tmp_path / name)
        other = tmp_path / name / "evaluation" / "data-test"
        shutil.copytree(place / name / "evaluation", other)
        text = (other / "scores.json").read_text()
        (other / "scores.json").write_text(text.replace('"split": "val"', '"split": "test"'))
    found = compared(tmp_path / "a", tmp_path / "b", split="test").comparison
    assert found["annotations"] == str(truth_of(place))
    (tmp_path / "a" / "evaluation" / "data-test" / "scores.json").write_text(
        text.replace('"split": "val"', '"split": "test"').replace("instances_val", "gone")
    )
    with pytest.raises(InputError, match="its ground truth is not found .*gone.*--annotations"):
        compared(tmp_path / "a", tmp_path / "b", split="test")


def test_what_cannot_be_compared(place: Path, tmp_path: Path) -> None:
    empty, results = tmp_path / "empty", place / "a" / "evaluation" / "results.json"
    empty.mkdir()
    (tmp_path / "m.safetensors").touch()
    cases = {
        "empty: not evaluated yet; do `detnet evaluate .*empty --data DATA`": empty,
        "nowhere: no such run folder": tmp_path / "nowhere",
        r"m\.safetensors: is a model": tmp_path / "m.safetensors",
        "is given twice": place / "x" / ".." / "a",
    }
    (place / "x").mkdir()
    for message, source in cases.items():
        with pytest.raises(InputError, match=message):
            compare_sources([place / "a", source])
    with pytest.raises(InputError, match="at least two"):
        compare_sources([results])


def test_short_names(tmp_path: Path) -> None:
    paths = [tmp_path / "x" / "results.json", tmp_path / "y" / "results.json"]
    assert short_names(paths) == ["x/results", "y/results"]
    assert short_names([tmp_path / "a.json", tmp_path / "b.v2.json"]) == ["a", "b.v2"]
    (tmp_path / "run.1").mkdir()
    assert short_names([tmp_path / "run.1", tmp_path / "run.json"]) == ["run.1", "run"]


def test_a_classifier_s_run_is_named_as_one(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "evaluation"
    folder.mkdir(parents=True)
    (folder / "scores.json").write_text('{"top1": 0.5, "top5": 1.0}')
    with pytest.raises(InputError, match="run: holds a classifier; detectors are compared"):
        compare_sources([place / "a", tmp_path / "run"])
    for other in ('{"AP": 0.5, "per_class": {"top1": {"AP": 0.5}}}', '["top1"]', "3"):
        (folder / "scores.json").write_text(other)
        with pytest.raises(InputError, match="run: not evaluated yet"):
            compare_sources([place / "a", tmp_path / "run"])
