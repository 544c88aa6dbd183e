"""The attacks themselves: a few of each kind, always the same, and that a defect is told."""

import json
import os
import time
from pathlib import Path

import pytest

from detnet.errors import InputError
from tests.torture import annotations, command
from tests.torture.command import Found, Said, judge
from tests.torture.harness import Attack, carry_out, one, stream
from tests.torture.kinds import ATTACKS
from tests.torture.mutate_bytes import Random
from tests.torture.mutate_json import mutate_json
from tests.torture.record import (
    ACCEPTED,
    CLEAR,
    HUNG,
    TRACEBACK,
    WRONG,
    Attempt,
    findings,
    table,
)


@pytest.mark.parametrize(
    ("kind", "count"),
    [("coco", 4), ("voc", 3), ("yolo", 4), ("results", 5), ("images", 4), ("models", 3)],
)
def test_a_few_mutated_files(kind: str, count: int, tmp_path: Path) -> None:
    attack, material, scratch = ATTACKS[kind], tmp_path / "material", tmp_path / "scratch"
    material.mkdir()
    scratch.mkdir()
    attack.base(material)
    for number in range(count):
        found = one(attack, 7, number, material, scratch)
        assert found.verdict in (CLEAR, ACCEPTED), (kind, number, found.detail)
        assert list(scratch.iterdir()) == []


def test_equal_seeds_give_equal_attacks() -> None:
    content = {"images": [{"id": 1}, {"id": 2}], "annotations": [{"bbox": [1, 2, 3, 4]}]}
    made = [
        [mutate_json(stream(seed, "coco", i), content) for i in range(20)] for seed in (1, 1, 2)
    ]
    assert made[0] == made[1] != made[2]
    assert len(set(made[0])) > 15


def test_a_planted_traceback_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(argv: object) -> int:
        raise KeyError("planted")

    monkeypatch.setattr(command, "main", broken)
    annotations.coco_base(tmp_path)
    (tmp_path / "scratch").mkdir()
    found = one(ATTACKS["coco"], 0, 0, tmp_path, tmp_path / "scratch")
    assert found.verdict == TRACEBACK and "KeyError" in found.detail and "planted" in found.detail


def test_a_planted_contradiction_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, **options: object) -> None:
        raise InputError("planted")

    monkeypatch.setattr(annotations, "load_annotations", refuse)
    annotations.coco_base(tmp_path)
    (tmp_path / "scratch").mkdir()
    found = [one(ATTACKS["coco"], 0, n, tmp_path, tmp_path / "scratch") for n in range(8)]
    assert WRONG in {each.verdict for each in found}


@pytest.mark.parametrize(
    ("code", "err", "verdict"),
    [
        (0, "", ACCEPTED),
        (2, "detnet: error: a.json: cut\n", CLEAR),
        (2, "detnet: error: \n", TRACEBACK),
        (2, "noise\ndetnet: error: a.json: cut\n", TRACEBACK),
        (2, "detnet: error: KeyError 'x'\n", TRACEBACK),
        (1, "", TRACEBACK),
        (0, "x.py:3: RuntimeWarning: overflow\n", TRACEBACK),
    ],
)
def test_what_counts_as_a_clear_line(code: int, err: str, verdict: str) -> None:
    assert judge(Said(("score",), code, "", err)).verdict == verdict


def _planted(random: Random, base: Path, scratch: Path) -> Found:
    """Every fault in its turn: none, a raise, a crash, an endless loop."""
    turn = int((base / "turn").read_text())
    (base / "turn").write_text(str(turn + 1))
    if turn == 1:
        raise ValueError("planted")
    if turn == 2:
        os.abort()
    while turn == 3:
        time.process_time()
    return Found(ACCEPTED, "")


def test_crashes_and_hangs_are_counted(tmp_path: Path) -> None:
    def base(folder: Path) -> None:
        (folder / "turn").write_text("0")

    attack = Attack("planted", base, _planted, bound_s=0.5, memory=None)
    made = list(carry_out([attack], 7, tmp_path, minutes=1, count=5))
    assert [each.verdict for each in made] == [ACCEPTED, TRACEBACK, TRACEBACK, HUNG, ACCEPTED]
    assert "SIGABRT" in made[2].detail or "Aborted" in made[2].detail
    told = findings(made)
    assert "    python -m tests.torture --seed 7 --only planted --start 3 --count 1" in told
    lines = table(made, ["planted"]).splitlines()
    assert lines[1].split()[:7] == ["planted", "5", "0", "2", "2", "0", "1"]
    assert json.loads(json.dumps([each.to_json() for each in made]))[1]["verdict"] == TRACEBACK


def test_a_run_that_ended_before_its_kill_counts_as_none() -> None:
    made = [Attempt("kill-train", 0, 0, ACCEPTED, 2.0, times=0)]
    made.append(Attempt("kill-train", 0, 1, ACCEPTED, 9.0, times=3))
    assert table(made, ["kill-train"]).splitlines()[1].split()[:4] == ["kill-train", "3", "0", "3"]
