"""`detnet compare` as a person runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from detnet.cli import main
from tests.report.runs import log, write_data, write_run
from tests.report.test_comparison_text import made_up


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    truth, results = made_up()
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    for name, records in zip("ab", results[::2], strict=True):
        (tmp_path / f"{name}.json").write_text(json.dumps(records))
    return [
        str(tmp_path / "a.json"),
        str(tmp_path / "b.json"),
        "--annotations",
        str(tmp_path / "gt.json"),
    ]


def test_tables(files: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *files, "--resamples", "200"]) == 0
    output, errors = capfd.readouterr()
    assert output.startswith("Comparison of boxes on 40 images") and not errors
    assert "lower" in output and "Cost" not in output


def test_runs_tell_which_weights_their_scores_are_of(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path / "data")
    runs = [write_run(tmp_path / name, data) for name in "ab"]
    words = ["compare", *map(str, runs), "--no-speed", "--resamples", "100"]
    (runs[0] / "best.safetensors").touch()
    log(runs[0], [{"event": "evaluation", "iteration": 48, "best": True}])
    assert main(words) == 0
    output = capfd.readouterr().out
    assert "/results.json of best.safetensors (iteration 48, chosen on val))" in output
    assert "/results.json of model.safetensors (iteration 59, the last))" in output
    assert main([*words, "--output", str(tmp_path / "made")]) == 0
    page = (tmp_path / "made" / "comparison.html").read_text(encoding="utf-8")
    assert "<br>best.safetensors (iteration 48, chosen on val)</small>" in page


def test_json_is_all_there_is(
    files: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = [
        "--resamples",
        "100",
        "--seed",
        "3",
        "--confidence",
        "0.9",
        "--area",
        "tall=2000-inf",
    ]
    target = tmp_path / "made"
    assert main(["compare", *files, *options, "--output", str(target), "--json"]) == 0
    output, errors = capfd.readouterr()
    found = json.loads(output)
    assert not errors and found == json.loads((target / "comparison.json").read_text())
    assert (found["resamples"], found["seed"], found["confidence"]) == (100, 3, 0.9)
    assert found["differences"][0]["by_iou_and_size"]["tall"]["AP"]["85"]["verdict"] == "lower"
    assert (target / "comparison.html").is_file()
    assert found["notes"][0].startswith("no pictures: ")
    assert main(["compare", *files, *options[:2], "--output", str(target)]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == f"look at {target / 'comparison.html'}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pictures", "-1"], "--pictures -1: give 0 or more"),
        (["--pictures", "3"], "--pictures are those of the page that --output writes; give both"),
        (["--speed-images", "0"], "--speed-images 0: give 1 or more"),
        (["--models", "x"], "--models: 1 for 2 results"),
        (["--models", "-", "-", "--no-speed"], "--models tells what they cost, which --no-speed"),
        (["--split", "test"], "--split is that of the runs' data; give it or --annotations"),
        (["--resamples", "7"], "resamples is 7, must be 100 to 20,000"),
        (["--confidence", "95"], "confidence is 95.0"),
        (["--iou-type", "segm"], "no masks"),
        (["--iou-thresholds", "7"], "iou_thresholds: 7"),
        (["--iou-type", "keypoints"], "no keypoints"),
        (["--sigmas", "0.1"], "sigmas are for iou_type keypoints, not bbox"),
        (["--split"], "--split"),
        (["--output", __file__], "is a file; name a folder"),
    ],
)
def test_mistakes_take_one_line(
    files: list[str], options: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *files, *options]) == 2
    output, errors = capfd.readouterr()
    assert not output and errors.count("\n") == 1 and message in errors


def test_images_alone(files: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *files[:2], "--images", "."]) == 2
    assert "--annotations" in capfd.readouterr().err


def test_the_split_is_that_of_the_runs_data(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Both runs were evaluated on val, so on train there is nothing to compare."""
    data = write_data(tmp_path / "data", val=2)
    runs = [str(write_run(tmp_path / name, data)) for name in "ab"]
    assert main(["compare", *runs, "--split", "train", "--no-speed"]) == 2
    assert "not evaluated on a split 'train'" in capfd.readouterr().err
    assert main(["compare", *runs, "--resamples", "100", "--no-speed"]) == 0


def test_help_needs_no_torch() -> None:
    code = "import sys; from detnet.cli import main; main(['compare', '--help']); "
    code += "sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "--resamples" in done.stdout
