"""Lets `python -m detnet` (and torchrun) run the program."""

from detnet.cli.__main__ import program

if __name__ == "__main__":
    program()
