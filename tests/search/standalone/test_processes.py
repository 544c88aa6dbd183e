"""Workers that a command starts: their share, their GPU, their logs, and their end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from detnet.errors import InputError
from detnet.search.standalone.processes import gpu_of_worker, helped, start_workers, with_leader
from detnet.search.standalone.sharing import require_processes


def quiet(event: dict[str, Any]) -> None:
    pass


@pytest.mark.parametrize(("named", "given"), [(None, ["0", "1"]), ("2, GPU-5a", ["2", "GPU-5a"])])
def test_workers_take_the_gpus_that_the_command_may(
    monkeypatch: pytest.MonkeyPatch, named: str | None, given: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert [gpu_of_worker(number, 2) for number in range(4)] == given * 2


def test_each_has_a_log_and_its_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments are those of `detnet`; a Python that only looks stands for it."""
    look = tmp_path / "python"
    look.write_text('#!/bin/sh\necho "$@" threads $OMP_NUM_THREADS of $DETNET_LEADER\n')
    look.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(look))
    with start_workers(["info", "x"], [1, 2], threads=3, logs=tmp_path / "logs") as processes:
        assert [process.wait() for process in processes] == [0, 0]
    said = [(tmp_path / "logs" / f"worker-{number}.log").read_text() for number in (1, 2)]
    assert said == [f"-m detnet info x threads 3 of {os.getpid()}\n"] * 2


def test_they_end_with_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with one that fails, and after those that another could not be started beside."""
    sleeping = tmp_path / "python"
    sleeping.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeping.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(sleeping))
    with (
        pytest.raises(InputError, match="broken"),
        start_workers([], range(2), threads=1, logs=tmp_path) as processes,
    ):
        assert all(process.poll() is None for process in processes)
        raise InputError("broken")
    assert [process.returncode for process in processes] == [-signal.SIGTERM] * 2


def test_threads_are_shared_for_the_time_being(tmp_path: Path) -> None:
    torch.set_num_threads(5)
    notes: list[str] = []
    try:
        with helped(
            ["--version"], 2, logs=tmp_path, on_event=lambda event: notes.append(event["text"])
        ):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 5
    finally:
        torch.set_num_threads(1)
    assert notes == [f"1 further worker, 2 threads each; their logs are in {tmp_path}"]
    with helped(["no such command"], 1, logs=tmp_path / "none", on_event=quiet):
        pass
    assert not (tmp_path / "none").exists()


ORPHAN = """
import os, signal, subprocess, sys
code = '''
import time
from detnet.engine.interrupt import Interrupt
from detnet.search.standalone import processes
processes._LEADER_S = 0.1
with Interrupt() as interrupt, processes.with_leader(lambda event: print(event["text"])):
    print("begun", flush=True)
    while not interrupt.set:
        time.sleep(0.05)
'''
log = open(sys.argv[1], "w")
environment = {**os.environ, "DETNET_LEADER": str(os.getpid())}
child = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=log)
while "begun" not in open(sys.argv[1]).read():
    assert child.poll() is None
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_worker_ends_when_its_command_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = subprocess.run([sys.executable, "-c", ORPHAN, str(log)], check=False)
    assert done.returncode == -signal.SIGKILL
    end = time.monotonic() + 60
    while "has ended" not in log.read_text():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_command_by_itself_has_no_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DETNET_LEADER", raising=False)
    with with_leader(quiet):
        pass


def test_no_worker_is_refused() -> None:
    with pytest.raises(InputError, match="--workers 0: give a number of processes, 1 or more"):
        require_processes("validate", 0)
