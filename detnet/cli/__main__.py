"""The program `detnet`; `python -m detnet.cli` and torchrun start it, too."""

import os
import sys
from typing import NoReturn

from detnet.cli import EXIT_USER_ERROR, main
from detnet.cli.arguments import tell

# How often a thread looks again before it sleeps, when it waits for the others. By default that is
# for milliseconds, in which it takes the very core from them that another program left: beside one
# busy neighbour a step takes 4 to 20 times as long, with 3,000 looks 2.6 times; fewer cost a quiet
# machine more than they save. Read by the OpenMP of torch's wheels for Linux.
_LOOKS = "3000"
_CHOSEN_BY_USER = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def program() -> NoReturn:
    """Runs one command and ends the process with its exit code."""
    wait_briefly()
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several:
        from detnet.engine.peers import when_stuck

        when_stuck(give_up)
    code = main()
    if several and "torch.distributed" in sys.modules:
        from detnet.engine.distributed import leave

        leave(code)
    sys.exit(code)


def give_up(what: str) -> NoReturn:
    """Ends a process that waits in an exchange with one that is lost, and says which."""
    try:
        tell(f"error: {what}")
    finally:
        os._exit(EXIT_USER_ERROR)


def wait_briefly() -> None:
    """Lets threads that wait for each other sleep soon, unless the user's environment says how.

    It must come before torch is imported: its OpenMP asks once.
    """
    if not any(name in os.environ for name in _CHOSEN_BY_USER):
        os.environ["GOMP_SPINCOUNT"] = _LOOKS


if __name__ == "__main__":
    program()
