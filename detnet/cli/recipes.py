"""Lists the recipes of the papers, or tells what some would cost on this machine.

    detnet recipes
    detnet recipes detnet59_faster_rcnn_fpn_2x resnet50_faster_rcnn_fpn_2x
    detnet train --config detnet59_faster_rcnn_fpn_2x --data COCO --output RUN --weights FILE

With names, a training step of each is taken on made-up images and timed. A search, search/NAME, is
run by `detnet search --config NAME`, which says at its start what it will take.
"""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from detnet.text import count, duration, lay_out

if TYPE_CHECKING:
    from detnet.training.catalogue import Recipe

_SEARCHES = "`detnet search` says at its start what each phase will take"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("names", metavar="NAME", nargs="*", help="recipes to measure a step of")
    parser.add_argument(
        "--measure",
        action="store_true",
        help="measure all that are listed but searches; takes some minutes",
    )
    parser.add_argument(
        "--images", type=int, default=1, help="images of a measured step, at once (default: 1)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: what is there")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints the list, or the measured costs."""
    from detnet.errors import InputError
    from detnet.tables import unknown_name
    from detnet.training.catalogue import RECIPES

    for name in args.names:
        if name not in RECIPES:
            raise InputError(unknown_name("recipe", name, RECIPES))
    if args.images < 1:
        raise InputError(f"--images must be positive, got {args.images}")
    rows = {name: _facts(name, RECIPES[name]) for name in args.names or RECIPES}
    _add_macs(rows)
    if args.names or args.measure:
        from detnet.cli.progress import track

        for name in track(list(rows), what="recipes", total=len(rows)):
            if rows[name]["command"] != "search":
                rows[name] |= _measured(name, images=args.images, device=args.device)
            elif not args.names:
                continue
            if not args.json:
                print(_page(name, rows[name]), flush=True)
        left_out = sum(row["command"] == "search" for row in rows.values())
        if left_out:
            print(f"searches are not measured ({left_out}): {_SEARCHES}", file=sys.stderr)
    if args.json:
        print(json.dumps({"recipes": rows}))
    elif not (args.names or args.measure):
        print(_table(rows))
    return 0


def _facts(name: str, recipe: "Recipe") -> dict[str, Any]:
    """What the preset and the paper say, without torch."""
    settings = recipe.settings(name)
    search = recipe.command == "search"
    training = settings["retrain"] if search else settings  # of a search: the winner's
    return {
        "command": recipe.command,
        "source": recipe.source,
        "published": recipe.published,
        "data": recipe.data,
        "note": recipe.note,
        "detector": settings.get("detector"),
        "backbone": settings["space"] if search else settings.get("backbone", "detnet59"),
        "length": {key: training[key] for key in ("iterations", "epochs") if key in training},
        "batch_size": training.get("batch_size"),
        **({"max_macs": settings.get("max_macs")} if search else {}),
    }


def _add_macs(rows: dict[str, dict[str, Any]]) -> None:
    """Multiply-adds of each backbone as the papers give them: at 224×224, with classifier.

    A search has none, but a limit on its networks' bodies.
    """
    from detnet.backbones.cost import backbone_cost

    found: dict[str, int] = {}
    for row in rows.values():
        if row["command"] == "search":
            continue
        backbone = row["backbone"]
        if backbone not in found:
            found[backbone] = backbone_cost(backbone).classifier.macs
        row["macs"] = found[backbone]


def _measured(name: str, *, images: int, device: str | None) -> dict[str, Any]:
    """Measures in a process of its own, whose largest memory is that of this recipe alone."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from dataclasses import asdict

    from detnet.training.estimate import estimate

    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        found = pool.submit(estimate, name, images=images, device=device).result()
    return {"measured": asdict(found)}


def _table(rows: dict[str, dict[str, Any]]) -> str:
    cells = [("recipe", "published", "G MACs at 224", "length")]
    for name, row in rows.items():
        macs = f"{row['macs'] / 1e9:.2f}" if "macs" in row else f"≤ {row['max_macs'] / 1e9:.2f}"
        cells.append((name, _numbers(row["published"]), macs, _length(row["length"])))
    kinds = [row["data"].partition(",")[0].partition(" train2017")[0] for row in rows.values()]
    names = ["data", *kinds]
    sources = ["paper", *(row["source"] for row in rows.values())]
    lines, width = lay_out(cells, left={0}).splitlines(), max(map(len, names))
    body = [
        f"{line}  {kind.ljust(width)}  {source}"
        for line, kind, source in zip(lines, names, sources, strict=True)
    ]
    return "\n".join([*body, "", "`detnet recipes NAME` measures what one would take here."])


def _page(name: str, row: dict[str, Any]) -> str:
    measured = _measured_facts(row) if "measured" in row else [("what it takes", _SEARCHES)]
    facts = [
        ("stands for", row["source"]),
        ("published", _numbers(row["published"])),
        ("data", row["data"]),
        ("length", f"{_length(row['length'])} of {row['batch_size']} images"),
        *measured,
        ("note", row["note"] or "-"),
    ]
    lines = [f"  {what.ljust(13)}  {text}" for what, text in facts]
    return "\n".join([name, *lines, ""])


def _measured_facts(row: dict[str, Any]) -> list[tuple[str, str]]:
    cost = row["measured"]
    network = " on ".join(part for part in (row["detector"], row["backbone"]) if part)
    height, width = cost["image_size"]
    at_once = f"{count(cost['images'], 'image')} at once"
    where = f"{cost['images']} × {height}×{width} on {cost['device']}"
    return [
        ("network", f"{network}, {cost['params'] / 1e6:.1f} M parameters"),
        ("multiply-adds", f"{cost['macs'] / 1e9:.1f} G an image, {cost['counted']}"),
        ("a step here", f"{cost['step_s']:.2f} s for {where}"),
        ("memory", f"{cost['peak_bytes'] / 2**30:.1f} GiB with {at_once}"),
        ("the whole run", f"{duration(cost['total_s'])} here, without reading and evaluation"),
    ]


def _numbers(published: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.1f}" for name, value in published.items()) or "-"


def _length(length: dict[str, float]) -> str:
    return "  ".join(f"{value:,} {unit}" for unit, value in length.items()) or "-"
