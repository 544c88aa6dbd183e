"""Work is shared: nothing is done twice, nothing is left, the dead are replaced."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from detnet.search.standalone.sharing import Busy, Job, claimed, share


def write_result(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")


def jobs(folder: Path, log: list[str], count: int = 4) -> list[Job]:
    def work(name: str) -> bool:
        log.append(name)
        write_result(folder / name / "result.json")
        return True

    return [
        Job(name, folder / name, folder / name / "result.json", lambda name=name: work(name))
        for name in "abcdefgh"[:count]
    ]


def quiet(event: dict[str, Any]) -> None:
    pass


def never() -> bool:
    return False


def test_each_job_is_done_once_in_order(tmp_path: Path) -> None:
    log = list[str]()
    assert share(jobs(tmp_path, log), stop=never, on_event=quiet)
    assert log == ["a", "b", "c", "d"]
    assert share(jobs(tmp_path, log), stop=never, on_event=quiet)
    assert log == ["a", "b", "c", "d"]


def test_jobs_that_others_are_at_come_last(tmp_path: Path) -> None:
    log, notes = list[str](), list[str]()
    with claimed(tmp_path / "a") as mine:
        assert mine
        timer = threading.Timer(0.3, write_result, (tmp_path / "a" / "result.json",))
        timer.start()
        everything = jobs(tmp_path, log)
        on_event = lambda event: notes.append(event["text"])  # noqa: E731
        assert share(everything, stop=never, on_event=on_event, poll_s=0.05)
    assert log == ["b", "c", "d"]
    assert notes == ["waiting for other processes: a"]


def test_what_others_are_at_can_be_left_to_them(tmp_path: Path) -> None:
    log = list[str]()
    with claimed(tmp_path / "b") as mine:
        assert mine and share(jobs(tmp_path, log), stop=never, on_event=quiet, wait=False)
    assert log == ["a", "c", "d"]
    assert share(jobs(tmp_path, log), stop=never, on_event=quiet) and log[3:] == ["b"]


def test_the_work_of_the_dead_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    code = (  # what RunFolder.lock does, without importing torch
        "import fcntl, sys, time; file = open(sys.argv[1], 'w'); "
        "fcntl.flock(file, fcntl.LOCK_EX); print('mine', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a" / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "mine\n"
        log = list[str]()
        on_event = lambda event: other.kill()  # noqa: E731  once this process waits for it
        assert share(jobs(tmp_path, log), stop=never, on_event=on_event, poll_s=0.05)
    assert log == ["b", "c", "d", "a"]


def test_busy_work_is_tried_again(tmp_path: Path) -> None:
    log, tries = list[str](), 0

    def work() -> bool:
        nonlocal tries
        tries += 1
        if len(log) < 2:
            raise Busy
        write_result(tmp_path / "first.json")
        return True

    first = Job("first", tmp_path / "first", tmp_path / "first.json", work)
    assert share([first, *jobs(tmp_path, log, 2)], stop=never, on_event=quiet)
    assert tries == 3 and log == ["a", "b"]


def test_an_interruption_ends_it(tmp_path: Path) -> None:
    log = list[str]()
    stopped = Job("x", tmp_path / "x", tmp_path / "x.json", lambda: False)
    assert not share([stopped, *jobs(tmp_path, log)], stop=never, on_event=quiet)
    assert not share(jobs(tmp_path, log), stop=lambda: True, on_event=quiet)
    assert log == []
