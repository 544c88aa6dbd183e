"""RESULTS.md: runs by detector and backbone, and those that keep a former rule."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from detnet.report.results import Result
from detnet.report.results_page import detector_table, results_page, write_results_page
from detnet.training.detection.config import TrainConfig, make_config, write_config


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
    at = lines.index("### Detectors and backbones")
    assert "4,000 images seen by each, width 0.5, from scratch." in lines[at + 2]
    assert lines[at + 6 : at + 8] == [
        "| fcos | detnet59 | 320 | 50.0 | 50.0 | 12.5 | – | 25.0, 62.5 (bar) | 5.0 M | 12.3 |",
        "| fcos | resnet50 | 320 | 50.0 | 50.0 | 12.5 | – | 25.0, 62.5 (bar) | – | – |",
    ]
    assert [line[:9] for line in lines[at + 8 : at + 10]] == ["| ssd | d", "| ssd | r"]


def test_only_equal_budgets_are_set_side_by_side() -> None:
    longer = [replace(one, iterations=501) for one in BOTH[:2]]
    assert detector_table([*longer, *BOTH[2:]], ()) == ""
    assert detector_table([*longer, *BOTH], ()).count("###") == 1


def test_one_detector_or_one_backbone_makes_no_table() -> None:
    assert detector_table(BOTH[:2], ()) == ""
    assert detector_table(BOTH[::2], ()) == ""


def test_of_two_runs_alike_the_last_is_told() -> None:
    again = replace(BOTH[0], name="again", scores={**BOTH[0].scores, "AP": 0.625})
    table = detector_table([*BOTH, again], ())
    assert "| ssd | resnet50 | 320 | 62.5 |" in table and table.count("| ssd | resnet50 |") == 1


def config(detector: str, backbone: str, **options: Any) -> TrainConfig:
    changes = {"detector": detector, "backbone": backbone, "detector_options": options}
    return make_config(None, {"data": "/data/cells", "width": 0.125, **changes})


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
