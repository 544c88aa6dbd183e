"""Lets `python -m detnet` (and torchrun) run the program."""

import sys

from detnet.cli import main

if __name__ == "__main__":
    sys.exit(main())
