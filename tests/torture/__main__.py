"""Attacks the program for some minutes and prints a table of what came of it.

    python -m tests.torture --minutes 10 --seed 0
    python -m tests.torture --only coco,voc --start 17 --count 1

The same seed gives the same attacks; how many depends on the time. The exit code is 1 where there
is a traceback, a wrong bit or a hang; each is told with the command that shows it again.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.torture.harness import carry_out
from tests.torture.kinds import ATTACKS
from tests.torture.record import Attempt, findings, table
from tests.torture.warm import warm


def main() -> int:
    options = _options()
    warm()
    folder = Path(tempfile.mkdtemp(prefix="torture-", dir=_fast_folder()))
    made: list[Attempt] = []
    began = time.monotonic()
    try:
        for one in carry_out(
            [ATTACKS[kind] for kind in options.only],
            options.seed,
            folder,
            minutes=options.minutes,
            start=options.start,
            count=options.count,
            jobs=options.jobs,
        ):
            made.append(one)
            if options.verbose or one.finding:
                text = f"{one.kind} {one.number}: {one.verdict} ({one.seconds:.1f} s) {one.detail}"
                print(text, file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    lines = findings(made)
    print("\n".join([*lines, *([""] if lines else []), table(made, ATTACKS)]))
    print(f"\nseed {options.seed}, {(time.monotonic() - began) / 60:.1f} minutes")
    if options.json:
        options.json.write_text(json.dumps([one.to_json() for one in made], indent=1) + "\n")
    return 1 if lines else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=_kinds, default=list(ATTACKS), metavar="KIND,…")
    parser.add_argument("--start", type=int, default=0, help="number of the first attempt")
    parser.add_argument("--count", type=int, help="attempts of each kind, whatever the time")
    parser.add_argument("--jobs", type=int, default=1, help="attempts at once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all attempts, as JSON")
    parser.add_argument("--keep", action="store_true", help="keep the folder of the files")
    parser.add_argument("--verbose", action="store_true", help="a line for each attempt")
    return parser.parse_args()


def _kinds(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in ATTACKS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown {unknown[0]!r}; one of {', '.join(ATTACKS)}")
    return names


def _fast_folder() -> str | None:
    """A folder in memory, where there is one."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > 2**30 else None


if __name__ == "__main__":
    sys.exit(main())
