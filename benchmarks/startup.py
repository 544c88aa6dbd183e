"""Times how long `detnet --help` and every command's `--help` take, as whole processes.

    python benchmarks/startup.py

The promise is half a second for each; an interpreter that does nothing is timed beside them.
"""

import argparse
import subprocess
import sys
import time

from harness import keep, parse

from detnet.cli import COMMANDS


def seconds(arguments: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parse(parser).repeats
    pages = {"": ["-m", "detnet", "--help"]}
    pages |= {name: ["-m", "detnet", name, "--help"] for name in COMMANDS}
    times = {
        name: sorted(seconds(page) for _ in range(repeats))[repeats // 2]
        for name, page in pages.items()
    }
    nothing = sorted(seconds(["-c", "pass"]) for _ in range(repeats))[repeats // 2]
    slowest = max(times, key=lambda name: times[name])
    keep(
        "startup",
        interpreter_s=round(nothing, 3),
        help_s=round(times[""], 3),
        slowest_s=round(times[slowest], 3),
        slowest=f"detnet {slowest} --help",
        repeats=repeats,
    )
    for name, page_s in times.items():
        print(f"detnet {name} --help: {page_s:.3f} s")


if __name__ == "__main__":
    main()
