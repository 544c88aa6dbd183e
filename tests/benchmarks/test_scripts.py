import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PARTS = {"harness", "machine", "malformed"}  # of the scripts; nobody runs them
SCRIPTS = sorted(path.stem for path in BENCHMARKS.glob("*.py") if path.stem not in PARTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_answers(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = BENCHMARKS / f"{script}.py"
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code == 0
    told = capsys.readouterr().out
    others = {"cheap_scoring": "--count", "coco_scale": "--processes", "serve": "--seconds"}
    others |= {"gpu": "--minutes", "campaign_intervals": "--campaigns"}
    assert others.get(script, "--repeats") in told and "--dry-run" in told


def test_every_script_is_told_of() -> None:
    told = (BENCHMARKS / "README.md").read_text()
    assert [script for script in SCRIPTS if f"`{script}.py`" not in told] == []
