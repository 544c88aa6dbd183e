"""The program `detnet`; `python -m detnet.cli` and torchrun start it, too."""

import os
import sys
from typing import NoReturn

from detnet.cli import main


def program() -> NoReturn:
    """Runs one command and ends the process with its exit code."""
    # Threads that wait by spinning take the cores from whoever has work: with one other busy
    # process on two cores a training step took 1.3× as long. OpenMP reads it when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    code = main()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "torch.distributed" in sys.modules:
        from detnet.engine.distributed import leave

        leave(code)
    sys.exit(code)


if __name__ == "__main__":
    program()
