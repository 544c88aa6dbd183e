"""Searches by two processes: one path for both in a step, then each a worker of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from detnet.backbones.spaces.space import find_supernet
from detnet.detectors.files import load_model
from detnet.engine.runs import RunFolder
from detnet.search.phases import run_phases
from detnet.search.study.study import CandidateRecord, load_study, read_candidates
from tests.search.small_search import settings, write_classes, write_data
from tests.search.test_phases import finished

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
SEARCH = ["-m", "detnet", "search"]
COMMAND = [*TORCHRUN, "2", *SEARCH]


def launch(*words: str, count: int = 2) -> subprocess.CompletedProcess[str]:
    """Runs `detnet search` in two processes, or more."""
    command = [*TORCHRUN, str(count), *SEARCH, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def candidates(run: Path) -> list[CandidateRecord]:
    with load_study(str(run / "study.db")) as study:
        return read_candidates(study)


def smallest(folder: Path) -> dict[str, Any]:
    """Settings by which every phase takes two steps, and scores are small but no zeros."""
    data, classes = write_data(folder / "data"), write_classes(folder / "classes")
    config = settings(data, classes)
    sizes = {"population": 3, "generations": 2, "parents": 1, "max_macs": None, "width": 0.25}
    for name in ("pretrain", "finetune", "retrain_pretrain", "retrain"):
        config[name] = {**config[name], "iterations": 2}
    for name in ("finetune", "retrain"):
        options = {**config[name]["detector_options"], "score_threshold": 0.0, "post_nms_test": 60}
        config[name] |= {"min_sizes": [64], "max_size": 96, "detector_options": options}
    return config | sizes


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A whole search, all phases in one launch, and what it said on standard output."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "search.yaml").write_text(yaml.safe_dump(smallest(folder)))
    run = folder / "run"
    done = launch("--config", str(folder / "search.yaml"), "--output", str(run), "--json")
    return run, done.stdout


@pytest.mark.slow
def test_all_phases_in_one_launch(searched: tuple[Path, str]) -> None:
    run, said = searched
    for place in ("pretrain", "finetune", "winner/pretrain", "winner/train"):
        steps = [e for e in RunFolder.open(run / place).read_metrics() if e["event"] == "step"]
        assert [step["iteration"] for step in steps] == [1, 2], place
    told = [json.loads(line) for line in said.splitlines()]  # by the main process alone
    assert told == [{"run": str(run), "winner": json.loads((run / "winner.json").read_text())}]


@pytest.mark.slow
def test_each_is_a_worker_and_scores_as_one_alone(
    searched: tuple[Path, str], tmp_path: Path
) -> None:
    """The same candidates to the same bits of their scores: nothing of one process's network may
    come into another's statistics.
    """
    run, alone = searched[0], tmp_path / "run"
    alone.mkdir()
    for name in ("config.yaml", "space.json", "data", "pretrain", "finetune"):
        (shutil.copytree if (run / name).is_dir() else shutil.copy)(run / name, alone / name)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        options: dict[str, Any] = {
            "resume": True,
            "estimate": False,
            "on_event": lambda event: None,
        }
        assert run_phases(None, alone, only="search", **options)
    finally:
        torch.set_num_threads(threads)
    by_two, by_one = candidates(run), candidates(alone)
    found, expected = ([(one.path, one.values) for one in some] for some in (by_two, by_one))
    assert found == expected and len(found) == 6
    assert len({values for _, values in expected}) > 2  # so a score says something
    assert (run / "winner.json").read_bytes() == (alone / "winner.json").read_bytes()
    assert len({one.worker for one in by_two}) == 2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="processes are found in /proc")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_worker_stops_both(
    rank: int, searched: tuple[Path, str], tmp_path: Path
) -> None:
    """In the middle of the scoring; what they were at goes back, and one alone finishes it."""
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.yaml", "space.json", "data", "pretrain", "finetune"):
        source = searched[0] / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, run / name)
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"recalibration_images": 40}))
    command = [*COMMAND, "--resume", str(run), "--phase", "search", "--no-estimate"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as both:
        while finished(run / "study.db") < 1:
            assert both.poll() is None
            time.sleep(0.02)
        (worker,) = [int(p) for p in children(both.pid) if f"RANK={rank}" in words_of(p)]
        os.kill(worker, signal.SIGTERM)
        _, said = both.communicate(timeout=300)
    assert f"saved; go on with: detnet search --resume {run}" in said
    assert "Traceback" not in said.split("torch/distributed")[0]
    assert not (run / "winner.json").exists() and finished(run / "study.db") < 6
    assert run_phases(None, run, only="search", resume=True, estimate=False, on_event=print)
    assert [one.state for one in candidates(run)] == ["done"] * 6


def children(process: int) -> list[str]:
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [child for task in tasks for child in task.read_text().split()]


def words_of(process: str) -> list[str]:
    """The environment that a process was started with."""
    return Path(f"/proc/{process}/environ").read_text().split("\0")


@pytest.mark.slow
@pytest.mark.parametrize("processes", [4, 8])
def test_many_go_through_all_phases(processes: int, tmp_path: Path) -> None:
    """Each its own batch norm at first, as the release has it, and one over all afterwards."""
    config = smallest(tmp_path) | {"population": processes}
    config["pretrain"] = {**config["pretrain"], "norm": "batch"}
    for name in ("pretrain", "retrain_pretrain"):
        config[name] = {**config[name], "batch_size": 2 * processes}
    for name in ("finetune", "retrain"):
        config[name] = {**config[name], "batch_size": processes}
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(config))
    words = ["--config", str(tmp_path / "search.yaml"), "--output", str(tmp_path / "run")]
    done = launch(*words, "--no-estimate", "--json", count=processes)
    for place in ("pretrain", "finetune", "winner/pretrain", "winner/train"):
        events = RunFolder.open(tmp_path / "run" / place).read_metrics()
        assert [e["iteration"] for e in events if e["event"] == "step"] == [1, 2], place
    (told,) = [json.loads(line) for line in done.stdout.splitlines()]
    found = candidates(tmp_path / "run")
    assert len(found) == 2 * processes and {one.state for one in found} == {"done"}
    assert len({one.worker for one in found}) > 1  # which are the quick ones is the machine's
    assert told["winner"]["path"] in [" ".join(map(str, one.path)) for one in found]


@pytest.mark.slow
def test_a_one_stage_detector(tmp_path: Path) -> None:
    config = smallest(tmp_path) | {"detector": "retinanet"}
    for name in ("finetune", "retrain"):
        config[name] = {**config[name], "detector_options": {}}
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(config))
    begin = ["--config", str(tmp_path / "search.yaml"), "--output", str(tmp_path / "run")]
    for phase, words in (("pretrain", begin), ("finetune", ["--resume", str(tmp_path / "run")])):
        launch(*words, "--phase", phase, "--no-estimate")
        events = RunFolder.open(tmp_path / "run" / phase).read_metrics()
        assert sum(event["event"] == "step" for event in events) == 2
    model = load_model(tmp_path / "run" / "finetune" / "model.safetensors")
    supernet = find_supernet(model)
    assert supernet is not None
    supernet.take([1] * len(supernet.space.genes))
    found = model.eval()([torch.rand(3, 96, 128)])
    assert found[0]["boxes"].isfinite().all()
