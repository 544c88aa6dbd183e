"""What can be compared, and by which names."""

from pathlib import Path

import pytest

from detnet.errors import InputError
from detnet.evaluation.comparison.entries import find_entries, short_names


def test_what_cannot_be_compared(place: Path, tmp_path: Path) -> None:
    empty, results = tmp_path / "empty", place / "a" / "evaluation" / "results.json"
    empty.mkdir()
    (tmp_path / "m.safetensors").touch()
    cases = {
        "empty: not evaluated yet; do `detnet evaluate .*empty --data DATA`": empty,
        "nowhere: no such run folder": tmp_path / "nowhere",
        r"m\.safetensors: is a model": tmp_path / "m.safetensors",
        "is given twice": place / "x" / ".." / "a",
    }
    (place / "x").mkdir()
    for message, source in cases.items():
        with pytest.raises(InputError, match=message):
            find_entries([place / "a", source])
    with pytest.raises(InputError, match="at least two"):
        find_entries([results])


def test_short_names(tmp_path: Path) -> None:
    paths = [tmp_path / "x" / "results.json", tmp_path / "y" / "results.json"]
    assert short_names(paths) == ["x/results", "y/results"]
    assert short_names([tmp_path / "a.json", tmp_path / "b.v2.json"]) == ["a", "b.v2"]
    (tmp_path / "run.1").mkdir()
    assert short_names([tmp_path / "run.1", tmp_path / "run.json"]) == ["run.1", "run"]


def test_a_classifier_s_run_is_named_as_one(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "evaluation"
    folder.mkdir(parents=True)
    (folder / "scores.json").write_text('{"top1": 0.5, "top5": 1.0}')
    with pytest.raises(InputError, match="run: holds a classifier; detectors are compared"):
        find_entries([place / "a", tmp_path / "run"])
    (folder / "scores.json").write_text('{"AP": 0.5, "per_class": {"top1": {"AP": 0.5}}}')
    with pytest.raises(InputError, match="run: not evaluated yet"):
        find_entries([place / "a", tmp_path / "run"])
