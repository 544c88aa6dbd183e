"""The program `detnet`; `python -m detnet.cli` and torchrun start it, too."""

import os
import sys
from typing import NoReturn

from detnet.cli import main


def program() -> NoReturn:
    """Runs one command and ends the process with its exit code."""
    code = main()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "torch.distributed" in sys.modules:
        from detnet.engine.distributed import leave

        leave(code)
    sys.exit(code)


if __name__ == "__main__":
    program()
