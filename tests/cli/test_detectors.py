"""`detnet detectors` lists every name with what it is and what it costs."""

import json

import pytest

from detnet.backbones import BACKBONES
from detnet.cli import main
from detnet.cli.detectors import format_detectors
from detnet.detectors import DETECTORS

NONE = {"name": "none", "summary": "nothing", "problem": "the backbone has no c9"}


@pytest.mark.slow
def test_every_name_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detectors"]) == 0
    out = capsys.readouterr().out
    assert [name for name in [*DETECTORS, *BACKBONES] if f"  {name}" not in out] == []
    (row,) = [line for line in out.splitlines() if line.startswith("  retinanet") and " M" in line]
    assert row.split()[1:10] == ["c3", "c4", "c5", "c6", "8", "16", "16", "16", "32"]


def test_json_has_summary_levels_and_cost_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detectors", "--json", "--backbone", "resnet50"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed["detectors"]] == list(DETECTORS)
    assert all(len(entry["summary"]) > 10 for entry in listed["detectors"])
    assert listed["backbones"] == list(BACKBONES)
    assert (listed["backbone"], listed["image_size"]) == ("resnet50", [800, 1333])
    for entry in listed["detectors"]:
        assert entry["padded_size"] == [800, 1344]
        assert set(entry["levels"]) <= {"c2", "c3", "c4", "c5"} and entry["levels"]
        assert 5e10 < entry["macs"] < 1e12 and 2e7 < entry["params"] < 2e8

    lines = format_detectors([*listed["detectors"], NONE], "resnet50")
    (row,) = [line for line in lines if line.startswith("  retinanet") and line.endswith("M")]
    assert row.split()[1:9] == ["c3", "c4", "c5", "8", "16", "32", "64", "128"]
    assert "  none: the backbone has no c9" in lines


def test_a_name_that_is_no_backbone_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detectors", "--backbone", "detnet95"]) == 2
    assert "did you mean 'detnet59'" in capsys.readouterr().err
