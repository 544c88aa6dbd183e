import json
from pathlib import Path

import pytest
import yaml

from detnet.errors import InputError
from detnet.report.results import read_result, results_table

SCORES = {"AP": 0.5, "AP50": 0.8, "AP75": 0.45, "APs": None, "APm": 0.25, "APl": 0.75}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "first"
    (folder / "evaluation").mkdir(parents=True)
    config = {
        "data": "/home/me/data/cells", "detector": "mask_rcnn_fpn", "backbone": "detnet59",
        "width": 0.5, "batch_size": 8, "seed": 3,
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = ["detnet", "train", "--data", "/home/me/data/cells", "--output", "../runs/first"]
    environment = {
        "command": command, "commit": "abc123", "cpu": "A Processor", "cpu_cores": 2,
        "packages": {"torch": "2.15.0", "torchvision": "0.29.2"},
    }  # fmt: skip
    (folder / "environment.json").write_text(json.dumps(environment))
    events = [
        {"event": "step", "iteration": 100},
        {"event": "evaluation", "iteration": 50, "best": True},
        {"event": "end", "seconds": 1234.5, "iteration": 100},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    scores = {**SCORES, "segm": {**SCORES, "AP": 0.111}}
    (folder / "evaluation" / "scores.json").write_text(json.dumps(scores))
    return folder


def test_every_number_has_its_circumstances(run: Path) -> None:
    text = results_table([read_result(run)])
    assert "## cells" in text
    row = "| first | mask_rcnn_fpn, detnet59, width 0.5 | 50.0 | 80.0 | 45.0 | – | 25.0 | 75.0 |"
    assert row + " 800 | 1,234 | 3 |" in text
    assert "| … its masks | 11.1 |" in text
    assert "`detnet train --data …/cells --output …/first` | abc123" in text
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


def test_unfinished_runs_are_named(run: Path) -> None:
    (run / "metrics.jsonl").write_text(json.dumps({"event": "step", "iteration": 1}) + "\n")
    with pytest.raises(InputError, match="is not complete; go on with"):
        read_result(run)
