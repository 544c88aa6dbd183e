"""`detnet search validate`: what it says, its mistakes, Ctrl-C."""

import argparse
import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detnet.cli import main
from detnet.cli.search_alone import BaselinesAction, ValidateAction
from detnet.data.scenes import write_scenes
from detnet.search.records import StandaloneResult, SupernetScore, write_record
from tests.search.settings_of_search import make_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A search whose supernet is not trained yet."""
    write_scenes(tmp_path / "scenes", train=4, val=1, size=(128, 96))
    return make_run(tmp_path / "run", None, tmp_path / "scenes")


def error_line(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["search", *words]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    last = said.err.splitlines()[-1]
    assert last.startswith("detnet: error: ")
    return last


def finish(run: Path, *, trained: int = 10) -> None:
    """Stands in for other processes that scored all networks and trained some."""
    plan = json.loads((run / "validate" / "plan.json").read_text())
    for number, network in enumerate(plan["networks"]):
        folder = run / "validate" / network["name"]
        write_record(folder / "score_full.json", SupernetScore(score=number / 50, seconds=1.0))
        if number < trained:
            costs = {name: network[name] for name in ("path", "macs", "params")}
            ap = (number ^ 1) / 20
            write_record(folder / "result.json", StandaloneResult(**costs, name="x", seed=3, AP=ap))


def test_mistakes_then_the_table(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    validate = ["validate", str(run)]
    assert "--count 5: at least 10" in error_line(capfd, *validate, "--count", "5")
    assert not (run / "validate" / "plan.json").exists()
    assert "finetune" in error_line(capfd, *validate)  # the plan is there, the supernet is not
    assert "drawn with seed 3, not 4" in error_line(capfd, *validate, "--seed", "4")
    finish(run)
    assert main(["search", *validate]) == 0
    said = capfd.readouterr()
    assert "10 trainings of networks alone, 10 of them done" in said.err
    lines = said.out.splitlines()
    assert lines[0].split() == ["network", "score,", "full", "AP", "multiply-adds", "path"]
    assert lines[1].split()[:3] == ["09", "16.00", "45.0"]
    # Five of 45 pairs are the other way round.
    (line,) = (one for one in lines if "AP trained alone: 0.78 (" in one)
    assert "95 % interval, 10 networks" in line
    assert lines[-2].startswith("Multiply-adds alone") and "less that of" in lines[-1]
    assert main(["search", *validate, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["rankings"]["full"]["tau"] == pytest.approx(35 / 45)


def test_baselines_want_a_winner(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = error_line(capfd, "baselines", str(run))
    assert "the search has no winner yet" in line and "detnet search --resume" in line


def test_the_command_that_goes_on_can_be_typed() -> None:
    for action, given in (
        (ValidateAction, ["my run", "--scoring", "full", "cheap", "--workers", "2", "--json"]),
        (BaselinesAction, ["a;b", "--random", "4", "--share-pretraining", "--against", "o p"]),
    ):
        parser = argparse.ArgumentParser()
        action.add_arguments(parser)
        again = action.again(parser.parse_args(given))
        words = shlex.split(again)
        assert words[:4] == ["detnet", "search", words[2], given[0]]
        assert vars(parser.parse_args(words[3:])) == vars(parser.parse_args(given))


@pytest.mark.slow
def test_two_processes_share_and_ctrl_c_ends_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_scenes(tmp_path / "scenes", train=4, val=1, size=(128, 96))
    longer = {"train": {"iterations": 60}}
    run = make_run(tmp_path / "run", None, tmp_path / "scenes", validate=longer)
    error_line(capfd, "validate", str(run))
    finish(run, trained=7)
    command = [sys.executable, "-m", "detnet", "search", "validate", str(run)]
    first, second = (subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in "12")
    folders = [run / "validate" / f"{number:02d}" for number in (8, 9, 10)]
    deadline = time.monotonic() + 300
    while not all((one / "pretrain" / "config.yaml").exists() for one in folders[:2]):
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal.SIGINT)
    said = first.communicate(timeout=300)[1]
    assert first.returncode == 130
    assert said.splitlines()[-1] == f"saved; go on with: detnet search validate {run}"
    assert second.communicate(timeout=300)[1].count("training ") >= 2
    assert second.returncode == 0
    assert all((one / "result.json").exists() for one in folders)
    assert (run / "validate" / "validation.json").exists()
