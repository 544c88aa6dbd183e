"""RESULTS.md: runs by detector and backbone, and those that keep a former rule."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from detnet.errors import InputError
from detnet.report.results import Result, read_comparison, read_result, write_curves
from detnet.report.results_page import detector_table, results_page, write_results_page
from detnet.training.catalogue import PUBLISHED
from detnet.training.detection.config import TrainConfig
from detnet.training.settings import write_config

SCORES = {"AP": 0.5, "AP50": 0.8, "AP75": 0.45, "APs": None, "APm": 0.25, "APl": 0.75}


def result(detector: str, backbone: str, **changes: Any) -> Result:
    """A run whose AP85 is 0.125 and whose rarest class is the lowest."""
    scores = {
        **{name: 0.5 for name in ("AP", "AP50", "AP75", "APs", "APm")},
        "APl": None,
        "by_iou_and_size": {"all": {"AP": {"mean": 0.5, "50": 0.5, "85": 0.125}}},
        "per_class": {
            "disc": {"AP": 0.75, "AP50": 1.0},
            "bar": {"AP": 0.25, "AP50": 0.625},
            "none": {"AP": None, "AP50": None},
        },
    }
    config = {"detector": detector, "backbone": backbone, "width": 0.5, "batch_size": 8, "seed": 0}
    config["min_sizes"] = [240, 320]
    made = Result(
        name=f"{detector}-{backbone}", data="cells", config=config,
        environment={"command": ["detnet", "train"]}, scores=scores, curve=(),
        iterations=500, best_iteration=500, seconds=60.0,
    )  # fmt: skip
    return replace(made, **changes)


BOTH = [result(d, b) for d in ("ssd", "fcos") for b in ("resnet50", "detnet59")]


def test_runs_stand_by_detector_and_backbone() -> None:
    cost = {"params": 5_040_000, "images_per_s": 12.34}
    names = ["fcos-resnet50", "fcos-detnet59"]
    comparison = {"names": names, "cost": {"models": [None, cost]}, "differences": []}
    lines = results_page(BOTH, comparisons=[comparison]).splitlines()
    at = lines.index("#### Detectors and backbones")
    assert "4,000 images seen by each, width 0.5, from scratch." in lines[at + 2]
    assert lines[at + 6 : at + 8] == [
        "| fcos | detnet59 | 320 | 50.0 | 50.0 | 12.5 | – | 25.0, 62.5 (bar) | 5.0 M | 12.3 |",
        "| fcos | resnet50 | 320 | 50.0 | 50.0 | 12.5 | – | 25.0, 62.5 (bar) | – | – |",
    ]
    assert [line[:9] for line in lines[at + 8 : at + 10]] == ["| ssd | d", "| ssd | r"]


def test_only_equal_budgets_are_set_side_by_side() -> None:
    longer = [replace(one, iterations=501) for one in BOTH[:2]]
    assert detector_table([*longer, *BOTH[2:]], ()) == ""
    assert detector_table([*longer, *BOTH], ()).count("####") == 1


def test_one_detector_or_one_backbone_makes_no_table() -> None:
    assert detector_table(BOTH[:2], ()) == ""
    assert detector_table(BOTH[::2], ()) == ""


def test_of_two_runs_alike_the_last_is_told() -> None:
    again = replace(BOTH[0], name="again", scores={**BOTH[0].scores, "AP": 0.625})
    table = detector_table([*BOTH, again], ())
    assert "| ssd | resnet50 | 320 | 62.5 |" in table and table.count("| ssd | resnet50 |") == 1


def config(detector: str, backbone: str, **options: Any) -> TrainConfig:
    changes = {"detector": detector, "backbone": backbone, "detector_options": options}
    return TrainConfig.make(None, {"data": "/data/cells", "width": 0.125, **changes})


def write_run(folder: Path, settings: TrainConfig) -> Path:
    (folder / "evaluation").mkdir(parents=True)
    write_config(settings, folder / "config.yaml")
    (folder / "environment.json").write_text("{}")
    end = {"event": "end", "seconds": 1.0, "iteration": 4}
    (folder / "metrics.jsonl").write_text(json.dumps(end) + "\n")
    scores = {name: 0.5 for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")}
    (folder / "evaluation" / "scores.json").write_text(json.dumps(scores))
    return folder


def test_the_page_marks_them(tmp_path: Path) -> None:
    old = config("fcos", "resnet50", anchor_strides="torchvision", threshold_on="score")
    new = config("fcos", "resnet50")
    runs = [write_run(tmp_path / "old", old), write_run(tmp_path / "new", new)]
    other = {"name": "old", "headline": {}}
    compared = tmp_path / "comparison.json"
    compared.write_text(json.dumps({"names": ["new"], "differences": [other]}))
    write_results_page(tmp_path / "R.md", runs, curves=None, compared=[compared])
    text = (tmp_path / "R.md").read_text()
    assert "\n| old †‡ | fcos, resnet50" in text and "\n| new | fcos, resnet50" in text
    assert "| old †‡ less new |" in text
    assert (
        text.count("† By a former rule: anchors") == text.count("‡ By a former rule: the thr") == 1
    )
    write_results_page(tmp_path / "R.md", runs[1:], curves=None, compared=[])
    assert "†" not in (tmp_path / "R.md").read_text()


def test_runs_whose_folders_are_named_alike_are_told_apart(tmp_path: Path) -> None:
    old = config("fcos", "resnet50", anchor_strides="torchvision")
    runs = [write_run(tmp_path / "old" / "seed-0", old)]
    runs.append(write_run(tmp_path / "new" / "seed-0", config("fcos", "resnet50")))
    compared = tmp_path / "comparison.json"
    pair = {"names": ["new/seed-0"], "differences": [{"name": "old/seed-0", "headline": {}}]}
    compared.write_text(json.dumps(pair))
    write_results_page(tmp_path / "R.md", [*runs, runs[0]], curves=None, compared=[compared])
    text = (tmp_path / "R.md").read_text()
    assert text.count("\n| old/seed-0 † | fcos") == text.count("\n| new/seed-0 | fcos") == 1
    assert text.count("\n| old/seed-0 | `detnet") == text.count("\n| new/seed-0 | `detnet") == 1
    assert "| old/seed-0 † less new/seed-0 |" in text and "\n| seed-0" not in text


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "first"
    (folder / "evaluation").mkdir(parents=True)
    config = {
        "data": "/home/me/data/cells", "detector": "mask_rcnn_fpn", "backbone": "detnet59",
        "width": 0.5, "batch_size": 8, "seed": 3,
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = [
        "detnet",
        "train",
        "--data",
        "/home/me/data/cells",
        "--output",
        "../runs/first",
        "--weights=/home/me/p",
    ]
    environment = {
        "command": command, "commit": "abc123", "cpu": "A Processor", "cpu_cores": 2,
        "packages": {"torch": "2.15.0", "torchvision": "0.29.2"},
    }  # fmt: skip
    (folder / "environment.json").write_text(json.dumps(environment))
    events = [
        {"event": "step", "iteration": 100},
        {"event": "evaluation", "iteration": 25, "epoch": 1.0, "AP": 0.25, "best": True},
        {"event": "evaluation", "iteration": 50, "epoch": 2.0, "AP": 0.5, "best": True},
        {"event": "end", "seconds": 1234.5, "iteration": 100},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    points = {name: 0.222 for name in ("AP", "AP50", "AP75", "APm", "APl")}
    scores = {**SCORES, "segm": {**SCORES, "AP": 0.111}, "keypoints": points}
    (folder / "evaluation" / "scores.json").write_text(json.dumps(scores))
    return folder


def test_a_folder_says_what_was_trained_and_which_step_was_the_best(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        later = {"event": "evaluation", "iteration": 75, "epoch": 3.0, "AP": 0.375, "best": False}
        file.write(json.dumps(later) + "\n")
    result = read_result(run)
    assert (result.iterations, result.best_iteration, result.seconds) == (100, 50, 1234.5)
    assert result.images_seen == 800
    assert result.curve == ((1.0, 0.25), (2.0, 0.5), (3.0, 0.375))
    assert result.scores["AP"] == 0.5 and not result.classifier


def test_every_number_has_its_circumstances(run: Path) -> None:
    text = results_page([read_result(run)])
    assert "### cells" in text
    row = "| first | mask_rcnn_fpn, detnet59, width 0.5 | 50.0 | 80.0 | 45.0 | – | 25.0 | 75.0 |"
    assert row + " 800 | 1,234 | 3 |" in text
    assert "| … its masks | 11.1 |" in text
    assert "| … its keypoints | 22.2 | 22.2 | 22.2 | – | 22.2 | 22.2 |" in text
    assert "`detnet train --data …/cells --output …/first --weights=…/p` | abc123" in text
    assert "torch 2.15.0, torchvision 0.29.2 | 2 cores of A Processor |" in text
    assert "/home" not in text


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.yaml", "holds no run"),
        ("evaluation/scores.json", "was not evaluated; run `detnet evaluate"),
    ],
)
def test_incomplete_runs_are_named(run: Path, missing: str, message: str) -> None:
    (run / missing).unlink()
    with pytest.raises(InputError, match=f"first.*{message}"):
        read_result(run)


def test_a_run_without_a_split_of_its_own_has_its_latest_scores(run: Path) -> None:
    for name in ("older-val", "data-val"):
        place = run / "evaluation" / name
        place.mkdir()
        scores = json.loads((run / "evaluation" / "scores.json").read_text())
        (place / "scores.json").write_text(json.dumps(scores))
    old = run / "evaluation" / "older-val" / "scores.json"
    os.utime(old, (0, 0))
    (run / "evaluation" / "scores.json").unlink()
    result = read_result(run)
    assert result.scored_on == "data-val" and result.scores == scores
    assert ", scored on data-val |" in results_page([result])


def test_a_bar_in_a_name_does_not_break_its_row(run: Path) -> None:
    text = results_page([replace(read_result(run), name="first|wide")])
    rows = [line for line in text.splitlines() if "first" in line and line.startswith("|")]
    assert len(rows) == 2 and all(row.startswith(r"| first\|wide | ") for row in rows)
    heads = [line for line in text.splitlines() if line.startswith("| run |")]
    for head, row in zip(heads, rows, strict=True):
        assert row.replace(r"\|", "").count("|") == head.count("|")


def test_unfinished_runs_are_named(run: Path) -> None:
    (run / "metrics.jsonl").write_text(json.dumps({"event": "step", "iteration": 1}) + "\n")
    with pytest.raises(InputError, match="is not complete; go on with"):
        read_result(run)


def test_the_paper_s_row_and_the_gap_stand_below_ours(run: Path) -> None:
    rows = PUBLISHED["mask_rcnn_fpn", "detnet59"]
    text = results_page([replace(read_result(run), published=rows)])
    assert "… the paper: Mask R-CNN, DetNet-59, Table 8" in text
    assert "| 37.1 | 60.0 | 39.6 | 18.6 | 39.0 | 51.3 |" in text
    # Masks of 11.1 against 37.1, 80.0 against 60.0; small ones were not measured.
    assert "| … gap | -26.0 | +20.0 | +5.4 | – | -14.0 | +23.7 |" in text


def test_a_classifier_has_errors_for_scores(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["detector"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    scores = {"top1_error": 0.25, "top5_error": 0.0625, "top1": 0.75}
    (run / "evaluation" / "scores.json").write_text(json.dumps(scores))
    text = results_page([read_result(run)])
    assert "| run | model | top-1 error | top-5 error |" in text
    assert "| first | detnet59, width 0.5 | 25.0 | 6.2 | 800 |" in text
    few = scores | {"top5_error": None}
    (run / "evaluation" / "scores.json").write_text(json.dumps(few))
    assert "| 25.0 | – | 800 |" in results_page([read_result(run)])


def test_curves_are_drawn_the_same_each_time(run: Path, tmp_path: Path) -> None:
    result = read_result(run)
    assert result.curve == ((1.0, 0.25), (2.0, 0.5))
    (picture,) = write_curves([result], tmp_path / "a").values()
    (again,) = write_curves([result], tmp_path / "b").values()
    assert picture.name == "cells.svg"
    assert picture.read_bytes() == again.read_bytes()
    assert "](curves/cells.svg)" in results_page(
        [result], curves={("cells", False): "curves/cells.svg"}
    )


def test_detectors_and_classifiers_on_the_same_data_have_pictures_of_their_own(
    run: Path, tmp_path: Path
) -> None:
    detector = read_result(run)
    settings = {key: value for key, value in detector.config.items() if key != "detector"}
    errors = {"top1_error": 0.5, "top5_error": 0.25, "top1": 0.5}
    classifier = replace(detector, name="second", config=settings, scores=errors)
    pictures = write_curves([classifier, detector], tmp_path / "both")
    assert {key: path.name for key, path in pictures.items()} == {
        ("cells", True): "cells-classifiers.svg",
        ("cells", False): "cells.svg",
    }
    texts = {key: path.read_text() for key, path in pictures.items()}
    assert texts["cells", True] != texts["cells", False]
    (alone,) = write_curves([classifier], tmp_path / "alone").values()
    assert alone.name == "cells.svg" and alone.read_text() == texts["cells", True]
    page = results_page(
        [classifier, detector], curves={key: path.name for key, path in pictures.items()}
    )
    errors_at, ap_at = page.index("top-1 error |"), page.index("| AP |")
    assert errors_at < page.index("(cells-classifiers.svg)") < ap_at < page.index("(cells.svg)")


def test_many_curves_find_room_for_their_names(run: Path, tmp_path: Path) -> None:
    many = [replace(read_result(run), name=f"run-{n}<") for n in range(30)]
    (few,) = write_curves(many[:7], tmp_path / "few").values()
    (all_of_them,) = write_curves(many, tmp_path / "many").values()
    drawings = [ElementTree.parse(path).getroot() for path in (few, all_of_them)]
    heights = [float(drawing.get("height") or 0) for drawing in drawings]
    assert heights[1] > heights[0] + 100
    assert "run-29<" in [element.text for element in drawings[1]]


def test_differences_say_whether_they_are_noise(run: Path, tmp_path: Path) -> None:
    real = {"difference": 0.02, "low": 0.01, "high": 0.03, "verdict": "higher"}
    noise = {"difference": -0.02, "low": -0.05, "high": 0.01, "verdict": "no"}
    headline = {"AP": real, "AP50": noise, "AP75": None}
    content = {"names": ["a"], "differences": [{"name": "b", "headline": headline}]}
    (tmp_path / "comparison.json").write_text(json.dumps(content))
    text = results_page([read_result(run)], comparisons=[read_comparison(tmp_path)])
    assert "| b less a | **+2.0** (+1.0 to +3.0) | -2.0 (-5.0 to +1.0) | – |" in text
    text = results_page([read_result(run)], comparisons=[content | {"iou_type": "segm"}])
    assert "| b less a, masks |" in text


@pytest.mark.parametrize("content", ["[", "[]", "{}"])
def test_what_is_no_comparison_is_refused(content: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="detnet compare --output"):
        read_comparison(tmp_path / "none")
    (tmp_path / "comparison.json").write_text(content)
    with pytest.raises(InputError, match="comparison.json: (is no|not JSON)"):
        read_comparison(tmp_path)


def test_the_intervals_are_those_of_the_comparison(run: Path) -> None:
    def compared(confidence: float) -> dict[str, Any]:
        found = {"difference": 0.02, "low": 0.01, "high": 0.03, "verdict": "higher"}
        other = {"name": "b", "headline": {"AP": found}}
        return {"names": ["a", "b"], "confidence": confidence, "differences": [other]}

    results = [read_result(run)]
    assert "with their 90 % intervals" in results_page(results, comparisons=[compared(0.9)])
    text = results_page(results, comparisons=[compared(0.9), compared(0.95)])
    assert "points with their intervals" in text
    assert "| b less a, 90 % intervals |" in text and "| b less a, 95 % intervals |" in text
