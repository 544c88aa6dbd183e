"""Shows a search: its progress, its front, its best network, what each stage prefers.

    detnet search show runs/s                  # writes runs/s/search.html and says the main things
    detnet search show runs/s --json           # everything as one JSON object

A search that goes on is shown as it is by now. The page is one file that needs no network.
"""

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder of a search")
    parser.add_argument(
        "--output", metavar="FILE", type=Path, help="the page (default: RUN/search.html)"
    )
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="where the study is, if not in the run folder, as postgresql://USER@HOST/NAME",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Writes the page, and prints the summary or the JSON."""
    from detnet.report.search.page import write_search_page
    from detnet.report.search.summary import read_search, summarise
    from detnet.report.search.text import format_search

    state = read_search(args.run, storage=args.storage)
    page = write_search_page(args.output or args.run / "search.html", state)
    if args.json:
        print(json.dumps({**summarise(state), "page": str(page)}, allow_nan=False))
        return 0
    print(format_search(state))
    print(f"\nlook at {page}")
    return 0
