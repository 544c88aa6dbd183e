"""`detnet detectors` lists every name with what it is."""

import json

import pytest

from detnet.backbones import BACKBONES
from detnet.cli import main
from detnet.detectors import DETECTORS


def test_every_name_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detectors"]) == 0
    out = capsys.readouterr().out
    assert [name for name in [*DETECTORS, *BACKBONES] if f"  {name}" not in out] == []


def test_json_has_a_summary_for_each_detector(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detectors", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed["detectors"]] == list(DETECTORS)
    assert all(len(entry["summary"]) > 10 for entry in listed["detectors"])
    assert listed["backbones"] == list(BACKBONES)
