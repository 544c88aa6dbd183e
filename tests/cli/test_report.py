"""`detnet report` as a person runs it."""

import os
import signal
import threading
from pathlib import Path

import pytest

from detnet.cli import main
from tests.report.runs import write_data, write_run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("report") / "data", val=3)


def test_one_page_for_each_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [write_run(tmp_path / name, data) for name in ("a", "b")]
    assert main(["report", *map(str, runs), "--pictures", "2"]) == 0
    output = capsys.readouterr().out
    assert all(f"look at {run / 'report.html'}" in output for run in runs)
    assert all((run / "report.html").read_text().count('id="gallery"') == 1 for run in runs)


def test_following_a_run_that_has_ended_ends(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", data)
    assert main(["report", str(run), "--follow", "--every", "0.1"]) == 0
    assert "the run has ended" in capsys.readouterr().out


def test_following_is_interrupted_by_ctrl_c(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", data)
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:9]))
    over = threading.Event()

    def press() -> None:
        while not (run / "report.html").exists():
            if over.wait(0.05):
                return
        if not over.wait(0.2):
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    try:
        code = main(["report", str(run), "--follow", "--every", "60"])
    finally:
        over.set()
        thread.join()
    assert code == 130
    said = capsys.readouterr()
    assert said.err.strip() == "detnet: interrupted" and "look at" in said.out
    assert "location.reload" in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a", "b", "--follow"], "takes one run"),
        (["a", "--follow", "--every", "0"], "above 0"),
        (["a", "--follow", "--every", "nan"], "above 0"),
        (["a", "--every", "10"], "--every is how often --follow looks"),
        (["a", "--follow", "--results-table", "x.md"], "either"),
        (["a", "--pictures", "-1"], "0 or more"),
        (["gone"], "gone"),
    ],
)
def test_mistakes_are_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
