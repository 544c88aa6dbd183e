"""What is told of a run from the files in its folder."""

import json
import os
from pathlib import Path

import pytest

from detnet.engine.run_records import read_run, shown_evaluation, tell_weights


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("val_split: holdout\n")
    events = [
        {"event": "evaluation", "iteration": 24, "best": True},
        {"event": "evaluation", "iteration": 48, "best": True},
        {"event": "evaluation", "iteration": 60, "best": False},
        {"event": "end", "iteration": 60},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in events))
    (folder / "model.safetensors").touch()
    return folder


def test_the_weights_that_scores_are_of(run: Path) -> None:
    assert tell_weights(run) == "model.safetensors (iteration 60, the last)"
    (run / "best.safetensors").touch()
    best = "best.safetensors (iteration 48, chosen on holdout)"
    assert tell_weights(run) == tell_weights(run / "best.safetensors") == best
    assert tell_weights(run / "model.safetensors").endswith("(iteration 60, the last)")
    assert tell_weights(run / "mine.safetensors") == "mine.safetensors"
    (run / "config.yaml").write_text("val_annotations: data/mine.json\n")
    assert tell_weights(run).endswith(", chosen on mine)")


def test_weights_of_no_run_or_of_a_damaged_one_have_a_name(run: Path, tmp_path: Path) -> None:
    assert tell_weights(tmp_path / "other.safetensors") == "other.safetensors"
    assert tell_weights(tmp_path) == tmp_path.name
    (run / "metrics.jsonl").write_text("{]\n{}\n")
    assert tell_weights(run) == "model.safetensors"


def test_the_evaluation_that_is_shown(run: Path) -> None:
    own = run / "evaluation"
    assert shown_evaluation(run) == own
    for age, name in enumerate(("c-val", "a-val", "b-val")):
        (own / name).mkdir(parents=True)
        (own / name / "scores.json").write_text('{"AP": 0.5}')
        os.utime(own / name / "scores.json", (100 - age, 100 - age))
    assert shown_evaluation(run) == own / "c-val"
    record = read_run(run)
    assert record.scored_on == "c-val" and record.scores == [{"AP": 0.5}]
    (own / "scores.json").write_text('{"AP": 0.25}')
    assert shown_evaluation(run) == own
    assert read_run(run).scored_on == "" and read_run(run).scores == [{"AP": 0.25}]
