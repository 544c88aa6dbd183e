"""Writes a run's page (scores, curves, pictures), or RESULTS.md from several runs.

detnet report runs/a
detnet report runs/a runs/b --results-table RESULTS.md
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run folder")
    parser.add_argument(
        "--results-table", metavar="FILE", help="write one Markdown page about all runs instead"
    )
    parser.add_argument(
        "--pictures", type=int, default=12, help="how many pictures a page shows (default: 12)"
    )


def run(args: argparse.Namespace) -> int:
    """Writes the pages and says where they are."""
    from detnet.report.results import read_result, results_table

    runs = [Path(run) for run in args.runs]
    if args.results_table:
        text = results_table([read_result(run) for run in runs])
        Path(args.results_table).write_text(text, encoding="utf-8")
        print(f"wrote {args.results_table}")
        return 0

    from detnet.recipes.pages import make_page

    for run in runs:
        print(f"look at {make_page(run, count=args.pictures)}")
    return 0
