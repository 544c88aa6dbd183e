"""Commands as real processes, forked from one that has torch imported: cheap to start."""

import contextlib
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from detnet.cli import main

_TICK = 0.003  # seconds between two looks at a child


@dataclass
class Child:
    """A command that runs in a process, and a group, of its own."""

    pid: int
    errors: Path
    code: int | None = None  # negative: the signal that ended it

    def poll(self) -> int | None:
        """Its exit code once it has ended."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def wait(self, bound_s: float) -> int:
        """Waits for its end; one that takes longer is killed, with -9 as its code.

        Raises:
            TimeoutError: it was.
        """
        until = time.monotonic() + bound_s
        while self.poll() is None:
            if time.monotonic() > until:
                self.kill()
                raise TimeoutError(f"no end within {bound_s:.0f} s")
            time.sleep(_TICK)
        assert self.code is not None
        return self.code

    def kill(self) -> None:
        """Ends the process by SIGKILL, and then what it left in its group."""
        os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        self.code = os.waitstatus_to_exitcode(status)
        self.sweep()

    def sweep(self) -> None:
        """Kills what is left of its group: workers of a data loader."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def said(self) -> str:
        return self.errors.read_text(errors="replace")


def cpu_s(pid: int) -> float:
    """Processor time a process has used; a measure of how far it is that no neighbour disturbs."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):  # it has just ended
        return 0.0


def start(argv: tuple[str, ...], errors: Path, prepare: Callable[[], None] | None = None) -> Child:
    """Forks a process that runs a command.

    Args:
        errors: file for what it prints.
        prepare: called in it first.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)
        return Child(pid, errors)
    code = 70
    try:
        with contextlib.suppress(PermissionError):
            os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        descriptor = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout = sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        if prepare is not None:
            prepare()
        code = main(argv)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
    raise AssertionError


def run(argv: tuple[str, ...], errors: Path, bound_s: float) -> tuple[int, str]:
    """Runs a command to its end: exit code and what it printed."""
    child = start(argv, errors)
    code = child.wait(bound_s)
    child.sweep()
    return code, child.said()


def limit_files(size: int, *, deadly: bool) -> None:
    """Lets no file of this process grow beyond `size` bytes.

    Args:
        deadly: the system ends the process at that byte; else the write fails, as on a full disk.
    """
    sys.dont_write_bytecode = True  # a module cut off at that size would be kept, and not known
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if deadly else signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
