import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture
def harness(beside_the_scripts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import harness

    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    return harness


def compared(harness: Any, *, work: Any = None) -> dict[str, Any]:
    slow, quick = (lambda s=s: time.sleep(s) for s in (0.04, 0.01))
    line: dict[str, Any] = harness.compare(
        "naps", quick, slow, repeats=3, work=work, facts={"a": 1}
    )
    return line


def test_a_ratio_and_a_share_from_one_run(harness: Any, capsys: pytest.CaptureFixture[str]) -> None:
    line = compared(harness, work=harness.Work(2_000_000_000, None))
    assert line["a"] == 1 and line["precision"] == "fp32"
    assert line["ratio"] == pytest.approx(line["theirs_s"] / line["ours_s"], rel=0.01)
    # 4 thousand million operations in the 0.01 s that it naps, and a little more.
    assert line["gflops"] == pytest.approx(4 / line["ours_s"], rel=0.01)
    assert line["share"] == pytest.approx(line["gflops"] / line["product_gflops"], rel=0.05)
    assert json.loads((harness.RESULTS / "naps.jsonl").read_text()) == line
    assert "in fp32: 2 G multiply-adds" in capsys.readouterr().out


def test_without_work_there_is_no_share(harness: Any) -> None:
    line = compared(harness)
    assert "share" not in line and line["instructions"].startswith(line["cpu_capability"])


def test_a_dry_run_says_what_machine_it_is_and_keeps_nothing(
    harness: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DETNET_BF16", "always")
    before = torch.get_num_threads()
    try:
        monkeypatch.setattr(sys, "argv", ["naps.py", "--dry-run", "--threads", "1", "--naps", "4"])
        options = harness.arguments("", naps=2)
        assert (options.naps, options.repeats, torch.get_num_threads()) == (4, 5, 1)
        line = compared(harness)
        assert not harness.RESULTS.exists()
        told = capsys.readouterr().out.splitlines()[0]
        assert told == f"{line['device']}, {line['instructions']}: networks run in bf16"
    finally:
        torch.set_num_threads(before)
