"""The same ground truth is known by its content; runs on different ones are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from detnet.errors import InputError
from detnet.evaluation.comparison.runs import Compared, compare_sources
from detnet.report.comparison import render
from detnet.report.comparison_text import format_comparison
from tests.report.runs import write_data, write_run

FEW = {"resamples": 100}


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


def test_runs_of_earlier_versions_were_scored_on_repaired_ground_truth(tmp_path: Path) -> None:
    """They are still compared with each other on that, boxes clipped to their image."""
    data = write_data(tmp_path / "data", val=4)
    path = beyond_the_border(data)
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
    assert of_runs["ground_truth_taken"].startswith("as it is trained on, repaired: clipped 1 box")
    new = write_run(tmp_path / "c", data)
    for sources in ((tmp_path / "a", new), (new, tmp_path / "a")):
        with pytest.raises(InputError, match="a: not evaluated on .*; do `detnet evaluate .*a --"):
            compared(*sources)
