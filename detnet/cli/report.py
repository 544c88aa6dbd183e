"""Writes a run's page (scores, errors, curves, pictures), or RESULTS.md from several runs.

    detnet report runs/a
    detnet report runs/a --follow              # while it trains; the open page renews itself
    detnet report runs/a runs/b --results-table RESULTS.md --curves docs/curves --compared a-to-b

The page is RUN/report.html, one file that needs no network: open it with any browser. RUN may be
an exported folder that was evaluated; its latest evaluation is shown.
"""

import argparse
from pathlib import Path

from detnet.errors import InputError

_EVERY_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run folder, or exported one")
    parser.add_argument(
        "--results-table", metavar="FILE", help="write one Markdown page about all runs instead"
    )
    parser.add_argument(
        "--curves",
        metavar="DIR",
        help="with --results-table: draw scores by epoch into this folder",
    )
    parser.add_argument(
        "--compared",
        metavar="DIR",
        action="append",
        default=[],
        help="with --results-table: what `detnet compare --output DIR` found; may be given again",
    )
    parser.add_argument(
        "--pictures", type=int, default=18, help="how many pictures a page shows (default: 18)"
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="write the page again whenever the run has something new, until it ends",
    )
    parser.add_argument(
        "--every",
        type=float,
        metavar="SECONDS",
        help=f"how often --follow looks (default: {_EVERY_S:g})",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the pages and says where they are."""
    from detnet.inference.engines.record import is_export

    runs = [Path(run) for run in args.runs]
    _check(args)
    exports = [run for run in runs if is_export(run)]
    if exports and (args.follow or args.results_table):
        raise InputError(
            f"{exports[0]}: is an export, which keeps nothing of a training; give its run, or "
            "leave --follow and --results-table out for a page of its scores"
        )
    if args.results_table:
        from detnet.report.results_page import write_results_page

        table = Path(args.results_table)
        curves = Path(args.curves) if args.curves else None
        write_results_page(table, runs, curves=curves, compared=[Path(c) for c in args.compared])
        print(f"wrote {table}")
        return 0

    from detnet.report.run import follow_page, make_page

    if args.follow:
        said = False
        every = _EVERY_S if args.every is None else args.every
        for page in follow_page(runs[0], every=every, count=args.pictures):
            if not said:
                print(f"look at {page}; it is kept up to date until the run ends", flush=True)
            said = True
        print("the run has ended")
        return 0
    for run in runs:
        print(f"look at {make_page(run, count=args.pictures)}")
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.pictures < 0:
        raise InputError(f"--pictures {args.pictures}: give 0 or more")
    if (args.curves or args.compared) and not args.results_table:
        raise InputError("--curves and --compared go with --results-table FILE")
    if not args.follow:
        if args.every is not None:
            raise InputError("--every is how often --follow looks; give both")
        return
    if len(args.runs) > 1:
        raise InputError("--follow takes one run; start the command once for each")
    if args.results_table:
        raise InputError("give either --follow or --results-table")
    if args.every is not None and not 0 < args.every < float("inf"):
        raise InputError(f"--every {args.every:g}: give a number of seconds above 0")
