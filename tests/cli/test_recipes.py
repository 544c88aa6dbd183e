import json
import signal
import subprocess
import sys
import time

import pytest

from detnet.cli import main
from detnet.training.catalogue import RECIPES


def test_the_list_names_every_recipe_with_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["recipes"]
    assert list(rows) == list(RECIPES)
    row = rows["detnet59_faster_rcnn_fpn_2x"]
    assert row["macs"] == 4_846_018_560
    assert row["published"]["AP"] == 40.2
    assert (row["length"], row["batch_size"]) == ({"iterations": 180_000}, 16)
    assert rows["resnet101_imagenet"]["command"] == "pretrain"
    search = rows["search/detnas_fpn_300m"]
    assert (search["command"], search["published"]) == ("search", {"AP": 36.6})
    assert (search["backbone"], search["max_macs"]) == ("detnas_small", 300_000_000)
    assert (search["length"], search["batch_size"]) == ({"iterations": 90_000}, 16)


def test_the_list_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if line.startswith("resnet50_dilated_faster_rcnn_fpn_2x "))
    assert "AP 39.0" in line
    assert "6.05" in line
    assert "Table 6" in line
    line = next(line for line in lines if line.startswith("search/detnas_voc_fpn_300m "))
    assert "AP50 81.5" in line and "≤ 0.33" in line


def test_a_search_is_shown_but_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "search/small"]) == 0
    told = capsys.readouterr()
    assert "half width, two cores" in told.out and "a step here" not in told.out
    assert "searches are not measured (1)" in told.err


def test_what_each_of_several_devices_gets(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["recipes", "small_images", "--devices", "2", "--memory", "0.9"]
    assert main(asked) == 0
    told = capsys.readouterr().out
    assert "images at once on each" in told and "a step here" not in told
    assert "does not fit, not even one image at once" in told
    assert "in proportion" in told and "not measured: a device is taken to do 60 TFLOP/s" in told
    assert main(["recipes", "small_images", "--devices", "2", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["recipes"]["small_images"]["plan"]
    assert plan["devices"] == 2 and plan["memory"]["activations"] > 0


@pytest.mark.slow
def test_a_search_on_several_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "search/small", "--devices", "4", "--memory", "16"]) == 0
    told = capsys.readouterr().out
    assert "120 candidates × 108 images, one worker on each device" in told
    assert told.count("images at once on each") == 4 and told.count("fits") == 4


@pytest.mark.slow
def test_a_measured_recipe_says_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "shufflenetv2_20_imagenet", "--device", "cpu", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["recipes"].values()
    cost = row["measured"]
    assert cost["image_size"] == [224, 224]
    assert cost["macs"] == row["macs"]
    assert cost["total_s"] == pytest.approx(cost["step_s"] * 300_000 * 1024)
    assert cost["peak_bytes"] > 4 * cost["params"]
    assert main(["recipes", "shufflenetv2_20_imagenet", "--device", "cpu"]) == 0
    assert "the whole run" in capsys.readouterr().out


def test_a_measurement_says_at_once_what_it_is_and_ends_without_a_word() -> None:
    words = ["recipes", "detnet59_faster_rcnn_fpn_2x", "--device", "cpu"]
    command = [sys.executable, "-m", "detnet", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert said == f"measuring a training step of {words[1]} at 1 × 800×1067 …\n"
        time.sleep(2)  # the process that measures has begun
        process.terminate()
        assert process.stderr.read() == ""  # neither a word nor a process that keeps it open
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["resnet50_imagnet"], "did you mean 'resnet50_imagenet'"),
        (["resnet50_imagenet", "--images", "0"], "--images must be positive"),
        (["resnet50_imagenet", "--devices", "0"], "--devices must be positive, got 0"),
        (["resnet50_imagenet", "--memory", "8"], "--memory goes with --devices N"),
        (["--devices", "8"], "--devices takes names of recipes"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recipes", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("detnet: error: ")
    assert expected in error
    assert error.count("\n") == 1
