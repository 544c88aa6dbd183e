"""The parent: when it starts another worker, and that it does not wait for one that hangs."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from detnet.errors import InputError
from detnet.inference.server.settings import ServerLimits, ServerSettings
from detnet.inference.server.supervisor import Supervisor, _end, _signals, _Told, _WorkerProcess
from tests.inference.server.conftest import Served


def supervisor(said: list[str], **limits: float) -> Supervisor:
    settings = ServerSettings("model", limits=ServerLimits(**limits))
    listener = socket.create_server(("127.0.0.1", 0))
    return Supervisor(settings, listener, on_ready=lambda facts: None, say=said.append)


def worker(code: str) -> _WorkerProcess:
    """A process in place of a worker, once it has written a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    read, write = os.pipe()
    os.close(write)
    return _WorkerProcess(process, read, time.monotonic(), ready_at=time.monotonic())


def test_what_dies_again_and_again_is_started_later_and_later() -> None:
    said: list[str] = []
    parent, one = supervisor(said), worker("raise SystemExit(3)")
    parent._been_ready = True
    assert [parent._pause(one) for _ in range(8)] == [0, 1, 2, 4, 8, 16, 30, 30]
    assert said[0] == "the worker ended with exit code 3; another is started now"
    assert said[1] == "the worker ended with exit code 3; another is started in 1 s"
    one.ready_at = time.monotonic() - 11
    assert parent._pause(one) == 0
    parent._been_ready = False
    with pytest.raises(InputError, match="ended with exit code 3 before it was ready"):
        parent._pause(one)
    _end(one)
    parent._listener.close()


def test_the_next_worker_is_told_what_an_image_takes() -> None:
    parent = supervisor([])
    assert parent._settings.image_s is None
    one = worker("pass")
    read, write = os.pipe()
    os.write(write, b'{"ready": true, "image_s": 0.25}\n')
    one.status = read
    assert parent._read(one)
    assert ServerSettings.from_json(parent._settings.to_json()).image_s == 0.25
    _end(one)
    os.close(write)
    parent._listener.close()


def test_a_worker_that_follows_another_does_not_try_the_model_out(
    serve: Callable[..., Served],
) -> None:
    queue = serve(image_s=0.4).server.service.queue
    assert queue is not None and queue.seconds_per_image == 0.4


def test_a_worker_that_hangs_is_killed() -> None:
    said: list[str] = []
    parent = supervisor(said, stop_s=0.1)
    one = worker(
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(flush=True)\ntime.sleep(60)"
    )
    read, write = os.pipe()
    os.write(write, bytes([signal.SIGTERM]))
    start = time.monotonic()
    assert parent._follow(one, _Told(read))
    assert said[-1] == "the worker did not end in time, and is killed"
    _end(one)
    assert one.process.returncode == -signal.SIGKILL and time.monotonic() - start < 30
    for descriptor in (read, write):
        os.close(descriptor)


@pytest.mark.parametrize(
    ("before", "ends"), [(signal.SIG_DFL, True), (signal.SIG_IGN, False)], ids=["usual", "nohup"]
)
def test_a_closed_terminal_ends_it_unless_nohup_started_it(before: int, ends: bool) -> None:
    usual = signal.signal(signal.SIGHUP, before)
    try:
        with _signals() as told:
            signal.raise_signal(signal.SIGHUP)
            assert told.wait(5 if ends else 0.1) is ends
        assert signal.getsignal(signal.SIGHUP) == before
    finally:
        signal.signal(signal.SIGHUP, usual)
