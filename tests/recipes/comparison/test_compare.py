"""Comparisons of runs and results files: the same ground truth by content, and one-line errors."""

import json
from pathlib import Path
from typing import Any

import pytest

from detnet.errors import InputError
from detnet.evaluation.coco import score
from detnet.recipes.comparison.compare import Compared, compare_sources, find_entries, short_names
from tests.report.runs import write_data, write_run

FEW = {"resamples": 100}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and two runs on it of which the second finds less."""
    folder = tmp_path_factory.mktemp("comparison")
    data = write_data(folder / "data")
    for name in ("a", "b"):
        write_run(folder / name, data, masks=True)
    results = folder / "b" / "evaluation" / "results.json"
    results.write_text(json.dumps(json.loads(results.read_text())[::2]))
    return folder


def truth_of(place: Path) -> Path:
    return place / "data" / "annotations" / "instances_val.json"


def compared(*sources: Path, **options: Any) -> Compared:
    return compare_sources(sources, **FEW, **options)


def changed(source: Path, target: Path, **settings: str) -> Path:
    """A copy of a run with other settings or other content of its scores.json."""
    (target / "evaluation").mkdir(parents=True)
    for name in ("config.yaml", "evaluation/results.json", "evaluation/scores.json"):
        text = (source / name).read_text()
        for old, new in settings.items():
            text = text.replace(old, new)
        (target / name).write_text(text)
    return target


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
    assert f"not on the ground truth of {place / 'a'}, {truth_of(place)}; do" in message
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


def test_runs_that_kept_no_fingerprint(place: Path, tmp_path: Path) -> None:
    old = changed(place / "b", tmp_path / "old", ground_truth="unknown_key")
    assert compared(place / "a", old).comparison["names"] == ["a", "old"]
    data = write_data(tmp_path / "data", val=5)
    elsewhere = {"ground_truth": "unknown_key", str(place / "data"): str(data)}
    with pytest.raises(InputError, match="elsewhere: evaluated on"):
        compared(place / "a", changed(place / "b", tmp_path / "elsewhere", **elsewhere))


def test_the_evaluation_on_the_same_data_is_taken(place: Path, tmp_path: Path) -> None:
    """A run keeps scores on other data in folders of their own."""
    other = write_run(tmp_path / "c", write_data(tmp_path / "data", val=5))
    (place / "a" / "evaluation").rename(other / "evaluation" / "data-val")
    try:
        found = compared(place / "b", other).comparison
    finally:
        (other / "evaluation" / "data-val").rename(place / "a" / "evaluation")
    assert found["sources"][1] == str(other / "evaluation" / "data-val" / "results.json")


def test_repaired_ground_truth(tmp_path: Path) -> None:
    """Runs are scored on boxes clipped to their image, a results file on those of its file."""
    data = write_data(tmp_path / "data", val=4)
    path = data / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    box = content["annotations"][0]["bbox"]
    box[2] += 220 - box[0] - box[2] + 30  # 30 pixels beyond the image
    path.write_text(json.dumps(content))
    files = []
    for name in "ab":
        run = write_run(tmp_path / name, data)
        text = json.loads((run / "evaluation" / "scores.json").read_text())
        del text["ground_truth"]  # as old runs: what their settings name, as it is read by a run
        (run / "evaluation" / "scores.json").write_text(json.dumps(text))
        files.append(run / "evaluation" / "results.json")
    of_runs = compared(tmp_path / "a", tmp_path / "b").comparison
    named = compared(tmp_path / "a", tmp_path / "b", annotations=path).comparison
    of_files = compared(*files, annotations=path).comparison
    assert of_runs["ground_truth"] == named["ground_truth"] != of_files["ground_truth"]


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
            find_entries([place / "a", source])
    with pytest.raises(InputError, match="at least two"):
        find_entries([results])


def test_a_bad_file_is_named(place: Path, tmp_path: Path) -> None:
    records = json.loads((place / "a" / "evaluation" / "results.json").read_text())
    bad = tmp_path / "bad.json"
    for change, message in (
        ({"image_id": 99}, "image_id 99 is not among"),
        ({"category_id": 77}, "category_id 77 is not among"),
        ({"bbox": [1, 2, float("nan"), 4]}, "four finite numbers"),
        ({"bbox": [1, 2, -3, 4]}, "negative width"),
        ({"bbox": "1 2 3 4"}, "four finite numbers"),
    ):
        bad.write_text(json.dumps([records[0], {**records[1], **change}]))
        with pytest.raises(InputError, match=rf"bad\.json: results\[1\] .*{message}"):
            compared(place / "a", bad)
    bad.write_text(json.dumps([{**records[0], "segmentation": None}]))
    with pytest.raises(InputError, match=r"bad\.json: .* no masks .*--iou-type bbox"):
        compared(place / "a", bad, iou_type="segm")


def test_short_names(tmp_path: Path) -> None:
    paths = [tmp_path / "x" / "results.json", tmp_path / "y" / "results.json"]
    assert short_names(paths) == ["x/results", "y/results"]
    assert short_names([tmp_path / "a.json", tmp_path / "b.v2.json"]) == ["a", "b.v2"]
    (tmp_path / "run.1").mkdir()
    assert short_names([tmp_path / "run.1", tmp_path / "run.json"]) == ["run.1", "run"]
