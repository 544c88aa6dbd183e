"""Runs of eight real processes: resumed, without objects, and with one that is killed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.training.runs_of_eight import LENGTH, VICTIM
from tests.training.toy_task import different, events_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
OTHERS = [rank for rank in range(8) if rank != VICTIM]


def start(case: str, folder: Path, scenes: Path, *, count: int = 8) -> dict[str, Any]:
    """Runs a case in processes; their exit codes and the seconds it took."""
    command = [sys.executable, "-m", "tests.training.runs_of_eight", case, str(count)]
    done = subprocess.run(
        [*command, str(folder), str(scenes)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=600,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def logs(folder: Path) -> str:
    return "\n".join(log.read_text()[-1000:] for log in sorted(folder.glob("*.log")))


@pytest.fixture(scope="module")
def folder(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where eight have made a run, and one that was stopped and gone on with."""
    place = tmp_path_factory.mktemp("eight")
    assert start("whole_and_parts", place, scenes)["codes"] == [0] * 8, logs(place)
    return place


def test_eight_resume_to_the_same_bits(folder: Path) -> None:
    events = [event["event"] for event in events_of(folder / "whole")]
    assert events == [*["step"] * LENGTH, "evaluation", "end"]  # of three images, by eight
    assert different(folder / "whole", folder / "parts") == []


def test_four_cannot_go_on_with_it(folder: Path, scenes: Path) -> None:
    before = (folder / "whole" / "metrics.jsonl").read_bytes()
    assert start("go_on", folder, scenes, count=4)["codes"] == [0] * 4, logs(folder)
    said = {(folder / f"go_on{rank}.txt").read_text() for rank in range(4)}
    last = folder / "whole" / "last.ckpt"
    assert said == {f"{last}: written by 8 processes, resumed by 4; start as many"}
    assert (folder / "whole" / "metrics.jsonl").read_bytes() == before


def test_seven_without_objects(scenes: Path, tmp_path: Path) -> None:
    assert start("few_objects", tmp_path, scenes)["codes"] == [0] * 8, logs(tmp_path)
    steps = [event for event in events_of(tmp_path / "few") if event["event"] == "step"]
    assert len(steps) == LENGTH and (tmp_path / "few" / "model.safetensors").exists()


KILLED = "has ended without a word, as after kill -9"


@pytest.mark.parametrize(
    ("case", "what"),
    [
        ("killed", KILLED),
        ("killed_beside", KILLED),
        ("stopped", r"has said nothing for 1\d s: see whether it is stopped .+"),
    ],
)
def test_all_others_say_who_was_lost(case: str, what: str, scenes: Path, tmp_path: Path) -> None:
    codes = start(case, tmp_path, scenes)["codes"]
    assert codes == [-9 if rank == VICTIM else 0 for rank in range(8)], logs(tmp_path)
    said = {(tmp_path / f"{case}{rank}.txt").read_text() for rank in OTHERS}
    told = rf"rank 3 of 8 processes \(id \d+ on .+\) {what}"
    assert len(said) == 1 and re.fullmatch(told, said.pop())
