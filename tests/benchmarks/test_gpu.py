"""The ten minutes on a GPU: what is kept, cut and told; slow, all of it on a pretended device."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
HELD = {"state": "held", "lines": ["fp32: 3.00 steps/s"], "figures": {"fp32 ours": 3.0}}


@pytest.fixture
def gpu(beside_the_scripts: None) -> Any:
    import gpu

    return gpu


def run(gpu: Any, monkeypatch: pytest.MonkeyPatch, folder: Path, *more: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--output", str(folder), *more])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    return int(ended.value.code or 0)


def test_goes_on_where_it_was_cut(
    gpu: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[str] = []
    cut = {"state": "cut", "lines": ["not done within 90 s"]}

    def take(name: str, *_: Any) -> dict[str, Any]:
        asked.append(name)
        return cut if name == "steps" and len(asked) < 10 else HELD

    monkeypatch.setattr(gpu, "_in_a_process", take)
    assert run(gpu, monkeypatch, tmp_path) == 1
    assert asked == [*gpu.PARTS] and asked[0] == "machine"
    assert "steps: cut\n  not done within 90 s" in (tmp_path / "figures.txt").read_text()
    assert run(gpu, monkeypatch, tmp_path) == 0
    assert asked == [*gpu.PARTS, "steps"]
    assert "machine: kept from before (held)" in capsys.readouterr().out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [*figures] == [*gpu.PARTS] and figures["steps"] == HELD
    assert run(gpu, monkeypatch, tmp_path, "--only", "ddp", "--again") == 0
    assert asked[-1] == "ddp" and len(asked) == len(gpu.PARTS) + 2


def test_without_a_gpu_it_says_so_and_leaves_nothing(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record = {"state": "failed", "lines": ["torch finds no GPU on this machine"]}
    monkeypatch.setattr(gpu, "_in_a_process", lambda *_: record)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--output", str(tmp_path)])
    with pytest.raises(SystemExit, match="gpu: torch finds no GPU on this machine"):
        gpu.main()
    assert not list(tmp_path.iterdir())


def test_all_parts_fit_into_ten_minutes(gpu: Any) -> None:
    assert sum(gpu.PARTS.values()) <= 600


def test_no_time_is_told_and_taken_up_later(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run(gpu, monkeypatch, tmp_path, "--minutes", "0", "--only", "steps") == 1
    record = json.loads((tmp_path / "steps.json").read_text())
    assert record == {"state": "cut", "lines": ["no time was left for it; run again to go on"]}


def test_missing_packages_are_those_of_the_project(
    gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gpu.missing_packages() == []
    import importlib.util

    find = importlib.util.find_spec
    absent = {"PIL", "hotcoco"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n in absent else find(n))
    assert gpu.missing_packages() == ["pillow", "hotcoco"]


@pytest.mark.slow
def test_every_part_runs_on_a_pretended_device(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--tiny", "--minutes", "60", "--output", str(tmp_path)]
    done = subprocess.run(
        [*command, "--plugin", "tests.pretended.plugin"], capture_output=True, text=True
    )
    records = json.loads((tmp_path / "figures.json").read_text())
    states = {name: record["state"] for name, record in records.items()}
    assert states.pop("compile") == "left out"
    assert {*states.values()} == {"held"} and done.returncode == 0, done.stdout


@pytest.mark.slow
def test_without_most_packages_the_parts_still_run(tmp_path: Path) -> None:
    """As on a machine with torch, torchvision, numpy, pillow and yaml alone."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "ABSENT = {'pycocotools', 'hotcoco', 'jsonargparse', 'optuna', 'sqlalchemy', 'rich',\n"
        "          'safetensors', 'matplotlib', 'jinja2'}\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ABSENT:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    parts = ["machine", "resume", "ddp"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--tiny", "--minutes", "60", "--output", str(tmp_path / "o")]
        + ["--plugin", "tests.pretended.plugin", "--only", *parts],
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "o" / "figures.txt").read_text()
    assert "missing packages: pycocotools, hotcoco, safetensors, jsonargparse" in text


TWO = """
import tests.pretended.plugin, torch
from gpu_parts.place import Place
from gpu_parts.ranks import part_ddp
found = part_ddp(Place(torch.device("pretended"), plugin="tests.pretended.plugin"), processes=2)
assert found.held and found.figures["processes"] == 2, found
"""


@pytest.mark.slow
def test_two_processes_synchronise_their_norms_on_pretended_devices() -> None:
    """By kernels of the device that no processor has."""
    path = os.pathsep.join([str(SCRIPT.parents[1]), str(SCRIPT.parent)])
    done = subprocess.run(
        [sys.executable, "-c", TWO],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
