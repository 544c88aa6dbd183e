"""Takes part in a search as one more worker, on this machine or another.

    detnet search worker runs/s
    detnet search worker runs/s --storage postgresql://USER@HOST/NAME
    CUDA_VISIBLE_DEVICES=1 detnet search worker runs/s

RUN must hold the fine-tuned supernet; on another machine, a copy of the folder or the same one
shared. SQLite in the run folder serves the workers of one machine; for several, give all of them
one PostgreSQL database, here or as `storage` in the settings. Workers may join, be stopped with
Ctrl-C, or die at any time: a worker's candidate goes to another.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder of a search")
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="where the study is, as postgresql://USER@HOST/NAME (default: where the settings say, "
        "or RUN/study.db)",
    )


def run(args: argparse.Namespace) -> int:
    """Scores candidates until the search is over or this worker is stopped."""
    from detnet.cli.search.telling import SearchScreen
    from detnet.search.phases import join

    # A URL may hold a password, so it is not shown again.
    storage = " --storage URL" if args.storage else ""
    with SearchScreen(again=f"detnet search worker {args.run}{storage}") as screen:
        over = join(args.run, storage=args.storage, on_event=screen)
    code = screen.finish(over)
    if code == 0:
        print(f"the search is over; go on with: detnet search --resume {args.run}")
    return code
