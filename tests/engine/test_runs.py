import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from tests.limits import disk_of


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(tmp_path / "runs" / "a")
    folder.config.write_text("detector: faster_rcnn_fpn\n")
    return folder


def test_a_run_is_made_once_and_found_again(run: RunFolder) -> None:
    assert RunFolder.open(str(run.path)).config == run.path / "config.yaml"
    with pytest.raises(InputError, match=r"holds a run already \(config.yaml\).*--resume"):
        RunFolder.create(run.path)


def test_a_folder_with_other_files_may_take_a_run(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert RunFolder.create(tmp_path).path == tmp_path


def test_folders_without_a_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run folder"):
        RunFolder.open(tmp_path / "missing")
    with pytest.raises(InputError, match="holds no run"):
        RunFolder.open(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder: "):
        RunFolder.create(tmp_path / "file")


def test_a_path_that_model_files_cannot_have_is_refused(tmp_path: Path) -> None:
    """Their readers take no other; the weights of a finished run could not be opened."""
    folder = tmp_path / os.fsdecode(b"d\xe9") / "run"
    with pytest.raises(InputError, match="is no path in UTF-8, which model files need"):
        RunFolder.create(folder)
    assert not folder.exists()


def test_events_are_lines_and_not_finite_is_null(run: RunFolder) -> None:
    run.log({"iteration": 1, "loss": math.nan, "per_size": [0.5, -math.inf], "best": None})
    run.log({"iteration": 2, "loss": torch.tensor(0.25), "n": np.int64(3), "file": Path("a/b")})
    first, second = run.metrics.read_text().splitlines()
    expected = {"iteration": 1, "loss": None, "per_size": [0.5, None], "best": None}
    assert json.loads(first) == expected
    assert json.loads(second) == {"iteration": 2, "loss": 0.25, "n": 3, "file": "a/b"}
    assert run.read_metrics() == [json.loads(first), json.loads(second)]
    with pytest.raises(TypeError, match="holds a object"):
        run.log({"loss": object()})


def test_metrics_are_cut_back_to_the_checkpoint(run: RunFolder) -> None:
    events: list[dict[str, object]] = [
        {"event": "start"},
        {"iteration": 10, "loss": 1.5},
        {"iteration": 20, "loss": 1.25},
        {"iteration": 20, "AP": 0.5},
        {"iteration": 30, "loss": 1.0},
        {"event": "stopped"},
    ]
    for event in events:
        run.log(event)
    before = run.metrics.read_bytes().splitlines(keepends=True)
    run.cut_metrics(20)
    assert run.metrics.read_bytes() == b"".join(before[:4])
    run.log(events[4])
    assert run.read_metrics() == events[:5]


def test_a_line_cut_by_a_kill_is_left_out(run: RunFolder) -> None:
    run.log({"iteration": 1})
    whole = run.metrics.read_text()
    with run.metrics.open("a") as file:
        file.write('{"iteration": 2, "lo')
    assert run.read_metrics() == [{"iteration": 1}]
    run.cut_metrics(2)
    assert run.metrics.read_text() == whole


def test_a_damaged_line_is_named(run: RunFolder) -> None:
    run.metrics.write_text('{"iteration": 1}\nhello\n{"iteration": 2}\n')
    with pytest.raises(InputError, match="line 2 is not a JSON object: hello"):
        run.read_metrics()


def test_no_metrics_yet(run: RunFolder) -> None:
    run.cut_metrics(5)
    assert run.read_metrics() == []
    assert not run.metrics.exists()


def test_a_full_disk_is_one_line(run: RunFolder) -> None:
    run.log({"iteration": 1})
    told = pytest.raises(InputError, match="metrics.jsonl: cannot write: File too large")
    with disk_of(run.metrics.stat().st_size), told:
        run.log({"iteration": 2})
    assert run.read_metrics() == [{"iteration": 1}]


def test_a_killed_process_loses_no_event(run: RunFolder) -> None:
    script = (
        "import sys, time\nfrom detnet.engine.runs import RunFolder\n"
        "RunFolder(sys.argv[1]).log({'iteration': 1})\ntime.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(run.path)])
    deadline = time.monotonic() + 60
    while not run.metrics.exists() or not run.metrics.stat().st_size:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run.read_metrics() == [{"iteration": 1}]


def test_bytes_that_are_no_text_are_cut_with_what_is_later(run: RunFolder) -> None:
    run.metrics.write_bytes(b'{"iteration": 1}\n{"iteration": 2}\n\x97\xc0')
    run.cut_metrics(1)
    assert run.metrics.read_bytes() == b'{"iteration": 1}\n'
    run.metrics.write_bytes(b'{"iteration": 1, "a": "\x97"}\n')
    run.cut_metrics(1)
    assert run.read_metrics()[0]["iteration"] == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_lock_ends_with_its_process_and_not_with_that_ones_workers(tmp_path: Path) -> None:
    """Forked workers outlive a killed training by seconds, with all files it had open."""
    folder = RunFolder.create(tmp_path / "run")
    folder.lock()
    reader, writer = os.pipe()
    began, begin = os.pipe()
    worker = os.fork()
    if not worker:
        os.close(writer)
        os.write(begin, b"x")
        os.read(reader, 1)  # until the test is over
        os._exit(0)
    os.read(began, 1)  # what a forked process does first is done
    try:
        with pytest.raises(InputError, match="another process is training this run"):
            RunFolder(tmp_path / "run").lock()
        assert folder._lock is not None
        folder._lock.close()  # as the system does it for a process that is killed
        again = RunFolder(tmp_path / "run")
        again.lock()
        again.unlock()
    finally:
        for end in (reader, writer, began, begin):
            os.close(end)
        os.waitpid(worker, 0)
