import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from detnet.engine.interrupt import Interrupt
from tests.engine.toy import Run

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_between_two_steps(number: signal.Signals) -> None:
    before = signal.getsignal(number), signal.getsignal(signal.SIGCHLD)
    run, whole = Run(), Run()
    with Interrupt() as interrupt:
        for step in run.steps(6, interrupt=interrupt):
            if step.iteration == 2:
                os.kill(os.getpid(), number)
    assert (interrupt.set, interrupt.signal) == (True, number.name)
    assert step.iteration == 2
    assert (signal.getsignal(number), signal.getsignal(signal.SIGCHLD)) == before
    list(whole.steps(2))
    bits = run.bits()
    assert all(torch.equal(bits[name], value) for name, value in whole.bits().items())


def test_a_signal_is_told_of_at_once_and_once() -> None:
    heard: list[str] = []
    with Interrupt(heard.append):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        for _ in range(100):
            if heard:
                break
            time.sleep(0.01)
    assert heard == ["SIGINT"]


def test_without_a_signal_the_run_goes_to_its_end() -> None:
    with Interrupt() as interrupt:
        assert len(list(Run().steps(3, interrupt=interrupt))) == 3
    assert not interrupt.set and interrupt.signal is None


def test_a_repeated_ctrl_c_counts_after_a_while() -> None:
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # as torchrun repeats it
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.signal == "SIGINT"
        interrupt.patience_s = 0.0
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_within_is_known_around_and_one_before_within() -> None:
    """A training hears one in its last evaluation, and is complete: whoever began it ends."""
    with Interrupt() as outer:
        with Interrupt() as inner:
            assert not inner.set
        assert not outer.set
        with Interrupt() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
            assert inner.set and not outer.set
        assert (outer.set, outer.signal) == (True, "SIGTERM")
        with Interrupt() as inner:
            assert (inner.set, inner.signal) == (True, "SIGTERM")
    with Interrupt() as interrupt:
        assert not interrupt.set


def test_outside_the_main_thread_it_is_a_flag_only() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with Interrupt():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_signal_to_the_whole_group_saves(tmp_path: Path) -> None:
    """As `timeout` or a scheduler sends it: the loader's two workers die of it."""
    command = [sys.executable, "-m", "tests.engine.interrupted_run", str(tmp_path)]
    process = subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "started").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, errors
    run = Run()
    run.resume(tmp_path / "last.ckpt")
    assert run.ema.updates == run.start >= 2
