"""The hidden folder of an export goes with whatever ends the export."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from detnet.errors import InputError
from detnet.inference.export.folder import folder_beside, give_name

# As a terminal starts it: nohup has a suite ignore SIGHUP, and its children with it.
AT_WORK = """
import signal, sys, time
from pathlib import Path
from detnet.inference.export.folder import folder_beside
signal.signal(signal.SIGHUP, signal.SIG_DFL)
with folder_beside(Path(sys.argv[1])) as folder:
    (folder / "network").write_text("half")
    print(folder.name, flush=True)
    time.sleep(60)
"""


def at_work(output: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that makes an export, and its folder."""
    words = [sys.executable, "-c", AT_WORK, str(output)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, output.parent / process.stdout.readline().strip()


def end(process: subprocess.Popen[str], number: int) -> int:
    process.send_signal(number)
    try:
        process.communicate(timeout=30)
    finally:
        process.kill()
    return process.returncode


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_it_leaves_nothing(number: int, tmp_path: Path) -> None:
    process, folder = at_work(tmp_path / "export")
    assert (folder / "network").is_file()
    assert end(process, number) == -number
    assert not [*tmp_path.iterdir()]


def test_what_a_killed_process_left_goes_with_the_next(tmp_path: Path) -> None:
    output = tmp_path / "[a]"
    killed, left = at_work(output)
    other, others = at_work(output)
    assert end(killed, signal.SIGKILL) == -signal.SIGKILL and left.is_dir()
    with folder_beside(output) as folder:
        assert {*tmp_path.iterdir()} == {folder, others}, "the other process is at work"
    assert end(other, signal.SIGTERM) == -signal.SIGTERM
    assert not [*tmp_path.iterdir()]


def test_an_error_leaves_nothing_and_a_name_keeps_it(tmp_path: Path) -> None:
    output = tmp_path / "new" / "export"
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(InputError, match="broken"), folder_beside(output) as folder:
        (folder / "network").touch()
        raise InputError("broken")
    assert not [*output.parent.iterdir()]
    with folder_beside(output) as folder:
        (folder / "network").touch()
        give_name(folder, output)
    assert [each.name for each in output.parent.iterdir()] == ["export"]
    assert (output / "network").is_file()
    assert signal.getsignal(signal.SIGTERM) == before
