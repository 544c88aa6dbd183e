"""`detnet train`, `evaluate`, `report`, `predict` as a person calls them, on a few scenes."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from detnet.cli import main
from detnet.data.scenes import write_scenes

QUICK = [
    "--width", "0.125", "--min-sizes", "96", "--max-size", "128", "--batch-size", "2",
    "--lr-batch", "0", "--warmup-iterations", "2", "--workers", "0", "--log-every", "1",
    "--clip-norm", "10", "--precision", "fp32", "--device", "cpu",
    "--detector-option", "pre_nms_train=200", "--detector-option", "post_nms_train=50",
    "--detector-option", "pre_nms_test=100", "--detector-option", "post_nms_test=20",
]  # fmt: skip


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_scenes(folder, train=6, val=3, size=(160, 120))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("runs") / "a"
    arguments = ["train", "--data", str(scenes), "--output", str(run), "--iterations", "4"]
    assert main([*arguments, *QUICK]) == 0
    return run


def error_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """Runs a command that must fail with exit code 2 and one line, and gives the line."""
    capsys.readouterr()
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if line.startswith("detnet: error: ")]
    assert len(lines) == 1 and captured.err.splitlines()[-1] == lines[0], captured.err
    return lines[0]


def test_print_config_is_a_file_that_config_takes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = ["--lr", "1e-3", "--epochs", "7", "--steps", "0.5", "9", "--min-sizes", "96", "72"]
    assert main(["train", "--config", "small", *asked, "--print-config"]) == 0
    text = capsys.readouterr().out
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert main(["train", "--config", str(path), "--print-config"]) == 0
    assert capsys.readouterr().out == text
    for line in ("lr: 0.001", "epochs: 7", "- 96", "- 72", "- 9"):
        assert line in text


def test_an_empty_list_can_be_given(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("frozen: [stem]\n")
    asked = ["train", "--config", str(path), "--norm", "sync", "--print-config"]
    assert "--norm sync and --frozen []" in error_line(capsys, asked)
    assert main([*asked, "--frozen", "[]", "--steps", "[]"]) == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert values["frozen"] == values["steps"] == []
    assert "min_sizes must be one or more" in error_line(capsys, [*asked, "--min-sizes", "[]"])


def test_print_config_of_a_run_needs_no_weights_file(
    trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    settings = yaml.safe_load((trained / "config.yaml").read_text())
    text = yaml.safe_dump({**settings, "weights": "/gone.safetensors"}, sort_keys=False)
    (run / "config.yaml").write_text(text)
    capsys.readouterr()
    assert main(["train", "--resume", str(run), "--print-config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["weights"] == "/gone.safetensors"


def test_print_config_shows_what_would_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["train", "--min-sizes", "640", "700", "--weight-decay", "5e-4", "--print-config"])
        == 0
    )
    values = yaml.safe_load(capsys.readouterr().out)
    assert (values["iterations"], values["test_min_size"]) == (180_000, 700)
    assert values["norm_weight_decay"] == values["bias_weight_decay"] == 5e-4
    assert main(["train", "--config", "small", "--test-min-size", "90", "--print-config"]) == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert values["iterations"] is None or values["epochs"] is None
    assert values["test_min_size"] == 90


def test_training_tells_how_it_goes(
    capsys: pytest.CaptureFixture[str], scenes: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    arguments = ["--data", str(scenes), "--output", str(run), "--iterations", "2", *QUICK]
    assert main(["train", *arguments, "--json"]) == 0
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert told["iteration"] == 2 and told["run"] == str(run)
    for text in ("6 training and 3 validation images", "iteration 2 of 2", "evaluation at epoch"):
        assert text in captured.err
    assert main(["train", "--resume", str(run), "--json"]) == 0
    again = capsys.readouterr()
    assert "complete at iteration 2" in again.err and json.loads(again.out) == told


def test_evaluate(capsys: pytest.CaptureFixture[str], scenes: Path, trained: Path) -> None:
    before = json.loads((trained / "evaluation" / "scores.json").read_text())
    arguments = ["evaluate", str(trained), "--data", str(scenes), "--workers", "0"]
    assert main([*arguments, "--precision", "fp32", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores == before  # the evaluation during training is the same measurement
    results = json.loads((trained / "evaluation" / "results.json").read_text())
    assert set(results[0]) == {"image_id", "category_id", "bbox", "score"}
    assert main([*arguments, "--precision", "fp32", "--evaluator", "pycocotools", "--json"]) == 0
    oracle = json.loads(capsys.readouterr().out)
    assert oracle["engine"].startswith("pycocotools")
    assert oracle["AP"] == pytest.approx(scores["AP"], abs=1e-9)
    assert main(["evaluate", str(trained), "--workers", "0"]) == 0
    shown = capsys.readouterr()
    assert "AP50" in shown.out and f"on the run's own data: val of {scenes}" in shown.err
    truth = scenes / "annotations" / "instances_val.json"
    files = ["--annotations", str(truth), "--results", str(trained / "evaluation" / "results.json")]
    assert main(["score", *files, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["AP"] is not None


def test_report_and_results_table(
    capsys: pytest.CaptureFixture[str], trained: Path, tmp_path: Path
) -> None:
    assert main(["report", str(trained), "--pictures", "4"]) == 0
    page = (trained / "report.html").read_text()
    assert page.count("data:image") >= 3 and "what was found" not in capsys.readouterr().err
    table = tmp_path / "RESULTS.md"
    assert main(["report", str(trained), "--results-table", str(table)]) == 0
    text = table.read_text()
    assert "faster_rcnn_fpn, detnet59, width 0.125" in text
    assert str(tmp_path.parent) not in text  # where someone keeps their data is not for a page


def test_predict_from_a_run(trained: Path, scenes: Path, tmp_path: Path) -> None:
    picture = next((scenes / "val").iterdir())
    found = tmp_path / "found"
    arguments = ["predict", str(trained), str(picture), "--output", str(found)]
    assert main([*arguments, "--score-threshold", "0"]) == 0
    records = json.loads((found / "predictions.json").read_text())
    assert records and records[0]["category_id"] in (1, 2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--backbone", "detnet-59"], "did you mean 'detnet59'"),
        (["--detector", "fasterrcnn"], "did you mean 'faster_rcnn'"),
        (["--config", "smal"], "did you mean 'small'"),
        (["--config", "my.yaml"], "my.yaml: no such settings file"),
        (["--epocs", "3"], "did you mean '--epochs'"),
        (["--batch-size", "many"], "batch_size.*many"),
        (["--iterations", "3", "--epochs", "4"], "iterations or epochs, not both"),
        (["--detector-option", "boxhead=4conv1fc"], "did you mean 'box_head'"),
        (["--detector-option", "box_head"], "NAME=VALUE"),
        (["--detector-option", "a=1", "--detector-option", "a.b=2"], "a was given a value of its"),
        (["--frozen", "c9"], "c9"),
        (["--val-split", "vall"], "vall"),
        (["--flip", "2"], "flip must lie in"),
        (["--detector-option", "roi_levels=6"], "roi_levels must lie in 1 … 5"),
        (["--weights", "nothing.safetensors"], "nothing.safetensors: no such"),
        (["--best-metric", "mAP"], "best_metric must be one of AP"),
        (["--train-split", "tain"], "tain"),
    ],
)
def test_mistakes_leave_nothing_behind(
    capsys: pytest.CaptureFixture[str],
    scenes: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    run = tmp_path / "run"
    base = ["train", "--output", str(run), *QUICK]
    base += [] if "--data" in arguments else ["--data", str(scenes)]
    base += [] if "--iterations" in arguments else ["--iterations", "1"]
    if "--epochs" not in arguments and "--config" in arguments:
        base = base[:-2]
    line = error_line(capsys, [*base, *arguments])
    import re

    assert re.search(message, line), line
    assert not run.exists()


def test_more_mistakes(
    capsys: pytest.CaptureFixture[str], scenes: Path, trained: Path, tmp_path: Path
) -> None:
    data = ["--data", str(scenes)]
    before = (trained / "metrics.jsonl").read_bytes()
    assert "--output RUN" in error_line(capsys, ["train", *data])
    assert "no data" in error_line(capsys, ["train", "--output", str(tmp_path / "x")])
    same = ["train", *data, "--output", str(trained), *QUICK]
    assert "holds a run already" in error_line(capsys, same)
    assert "holds no run" in error_line(capsys, ["train", "--resume", str(scenes)])
    changed = ["train", "--resume", str(trained), "--lr", "1"]
    assert "--lr cannot be changed" in error_line(capsys, changed)
    assert (trained / "metrics.jsonl").read_bytes() == before
    trap = tmp_path / "trap.safetensors"
    trap.write_bytes(pickle.dumps(os.system))
    assert "pickle" in error_line(capsys, ["evaluate", str(trap), *data])
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((trained / "best.safetensors").read_bytes()[:5000])
    assert "cut.safetensors" in error_line(capsys, ["evaluate", str(cut), *data])
    assert "either --data" in error_line(capsys, ["evaluate", str(trained / "best.safetensors")])
    both = ["--annotations", str(cut)]
    assert "either --data" in error_line(capsys, ["evaluate", str(trained), *data, *both])


def test_other_categories_than_the_models(
    capsys: pytest.CaptureFixture[str], scenes: Path, trained: Path, tmp_path: Path
) -> None:
    truth = json.loads((scenes / "annotations" / "instances_val.json").read_text())
    truth["categories"][1]["name"] = "hexagon"
    path = tmp_path / "other.json"
    path.write_text(json.dumps(truth))
    arguments = ["evaluate", str(trained), "--annotations", str(path)]
    line = error_line(capsys, [*arguments, "--images", str(scenes / "val")])
    assert "hexagon" in line and "square" in line


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda truth: json.dumps(truth)[:-300], "cut|JSON"),
        (lambda truth: json.dumps({"a": 1}), "COCO|images"),
        (lambda truth: _with(truth, bbox=["1", "2", "3", "4"]), "annotation"),
        (lambda truth: _with(truth, image_id=999), "999"),
        (lambda truth: _with(truth, category_id=77), "77"),
    ],
)
def test_bad_annotations_stop_training(
    capsys: pytest.CaptureFixture[str],
    scenes: Path,
    tmp_path: Path,
    spoil,  # noqa: ANN001
    message: str,
) -> None:
    truth = json.loads((scenes / "annotations" / "instances_train.json").read_text())
    path = tmp_path / "bad.json"
    path.write_text(spoil(truth))
    places = ["--train-annotations", str(path), "--train-images", str(scenes / "train")]
    run = tmp_path / "run"
    line = error_line(capsys, ["train", *places, "--output", str(run), "--iterations", "1", *QUICK])
    import re

    assert "bad.json" in line and re.search(message, line), line
    assert not run.exists()


def test_an_image_that_is_a_text_file(
    capsys: pytest.CaptureFixture[str], scenes: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "data"
    write_scenes(copy, train=2, val=1, size=(160, 120))
    broken = sorted((copy / "train").iterdir())[0]
    broken.write_text("no image")
    for workers in ("0", "2"):
        run = ["--output", str(tmp_path / f"run{workers}"), "--iterations", "4"]
        quick = [*QUICK[: QUICK.index("--workers")], *QUICK[QUICK.index("--workers") + 2 :]]
        arguments = ["train", "--data", str(copy), *run, *quick, "--workers", workers]
        assert broken.name in error_line(capsys, arguments)


def _with(truth: dict, **changes: object) -> str:
    truth["annotations"][3].update(changes)
    return json.dumps(truth)


def test_ctrl_c_saves_and_says_how_to_go_on(scenes: Path, tmp_path: Path) -> None:
    run = tmp_path / "a run"
    command = [sys.executable, "-m", "detnet", "train", "--data", str(scenes)]
    command += ["--output", str(run), "--iterations", "100000", *QUICK]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=120)
    assert process.returncode == 130, text
    assert f"go on with: detnet train --resume '{run}'" in text
    assert (run / "last.ckpt").exists()
