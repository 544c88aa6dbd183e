"""Lets `python -m detnet.cli` (and torchrun) run the program."""

import sys

from detnet.cli import main

if __name__ == "__main__":
    sys.exit(main())
