import json

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


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["resnet50_imagnet"], "did you mean 'resnet50_imagenet'"),
        (["resnet50_imagenet", "--images", "0"], "--images must be positive"),
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
