"""Lists the recipes of the papers, or tells what some would cost on this machine.

    detnet recipes
    detnet recipes detnet59_faster_rcnn_fpn_2x resnet50_faster_rcnn_fpn_2x
    detnet recipes detnet59_faster_rcnn_fpn_2x --devices 8 --memory 16
    detnet recipes search/detnas_fpn_300m --devices 8
    detnet train --config detnet59_faster_rcnn_fpn_2x --data COCO --output RUN --weights FILE

With names, a training step of each is taken on made-up images and timed. With --devices nothing is
timed: what each of so many devices gets is told, images and memory and hours, all by arithmetic. A
search, search/NAME, is run by `detnet search --config NAME`, which says at its start what it will
take here.
"""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from detnet.engine.launch import image_readers
from detnet.text import count, duration, gibibytes, lay_out

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from detnet.search.plan import SearchPlan
    from detnet.training.catalogue import Recipe
    from detnet.training.plan import DevicePlan

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
    parser.add_argument(
        "--devices", type=int, metavar="N", help="say what each of N devices gets, by arithmetic"
    )
    parser.add_argument(
        "--memory", type=float, metavar="GIB", help="of each device, to see what fits"
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
    _require_devices(args)
    rows = {name: _facts(name, RECIPES[name]) for name in args.names or RECIPES}
    _add_macs(rows)
    if args.devices:
        return _plan(args, rows)
    if args.names or args.measure:
        from detnet.cli.progress import track

        for name in track(list(rows), what="recipes", total=len(rows)):
            if rows[name]["command"] != "search":
                print(_beforehand(name, args), file=sys.stderr, flush=True)
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


def _require_devices(args: argparse.Namespace) -> None:
    from detnet.errors import InputError

    for name in ("devices", "memory"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise InputError(f"--{name} must be positive, got {value:g}")
    if args.memory and not args.devices:
        raise InputError("--memory goes with --devices N")
    if args.devices and not args.names:
        raise InputError("--devices takes names of recipes; `detnet recipes` lists them")


def _plan(args: argparse.Namespace, rows: dict[str, dict[str, Any]]) -> int:
    """Prints what each of several devices gets."""
    from dataclasses import asdict

    from detnet.cli.progress import track
    from detnet.training.plan import DevicePlan

    limit = args.memory * 2**30 if args.memory else None
    for name in track(list(rows), what="recipes", total=len(rows)):
        found = _planned(name, rows[name]["command"], args.devices, limit)
        if args.json:
            rows[name]["plan"] = asdict(found)
        elif isinstance(found, DevicePlan):
            print(_page(name, rows[name], _planned_facts(found, limit)), flush=True)
        else:
            print(_page(name, rows[name], _searched_facts(found, limit)), flush=True)
    if args.json:
        print(json.dumps({"recipes": rows}))
    return 0


def _planned(
    name: str, command: str, devices: int, limit: float | None
) -> "DevicePlan | SearchPlan":
    if command == "search":
        from detnet.search.config import SearchConfig
        from detnet.search.plan import plan_search
        from detnet.training.catalogue import SEARCH

        searched = SearchConfig.make(name.removeprefix(SEARCH), {})
        return plan_search(searched, devices=devices, limit=limit)

    from detnet.training.classification.config import PretrainConfig
    from detnet.training.detection.config import TrainConfig
    from detnet.training.plan import plan_training

    kind = TrainConfig if command == "train" else PretrainConfig
    return plan_training(kind.make(name, {}), devices=devices, limit=limit)


def _searched_facts(plan: "SearchPlan", limit: float | None) -> list[tuple[str, str]]:
    rows = []
    for title, each in plan.trainings.items():
        facts = _planned_facts(each, limit)[:-1]  # the arithmetic is told once
        rows += [(title.replace("_", " "), "")] + [(f"  {what}", text) for what, text in facts]
    text = (
        f"{plan.candidates:,} candidates × {plan.images:,} images, one worker on each device; "
        f"some {duration(plan.scoring_s)}"
    )
    return [*rows, ("search", text), ("in all", f"some {duration(plan.seconds)}"), _arithmetic()]


def _planned_facts(plan: "DevicePlan", limit: float | None) -> list[tuple[str, str]]:
    memory = plan.memory
    batch = plan.devices * plan.images * plan.accumulate
    times = f" {plan.accumulate} times" if plan.accumulate > 1 else ""
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "momentum": memory.optimizer,
        "kept for the backward pass": memory.activations,
        "reserve": memory.reserve,
    }
    told = ", ".join(f"{name} {size / 2**30:.2g}" for name, size in parts.items())
    rows = [
        (
            f"on {count(plan.devices, 'device')}",
            f"{count(memory.images, 'image')} at once on each{times}, {batch} a step",
        ),
        (
            "learning rate",
            f"{plan.lr:g}; with another --batch-size in proportion, {2 * plan.lr:g} at {2 * batch}",
        ),
        ("memory", f"{gibibytes(memory.total)} of each ({told})"),
    ]
    if limit is not None:
        rows.append((f"in {gibibytes(limit)}", _fit(plan)))
    readers = image_readers(plan.devices)
    rows.append(("workers", f"{readers} to read images for each, by the cores of this machine"))
    text = f"{plan.shown:,.0f} images, {plan.macs:.2g} multiply-adds"
    return [*rows, ("the whole run", f"{text}; some {duration(plan.seconds)}"), _arithmetic()]


def _fit(plan: "DevicePlan") -> str:
    if plan.fits is None:
        return "does not fit, not even one image at once"
    if plan.fits == plan.accumulate:
        return "fits"
    images = plan.images * plan.accumulate // plan.fits
    return f"does not fit; --accumulate {plan.fits} does, {count(images, 'image')} at once"


def _arithmetic() -> tuple[str, str]:
    from detnet.training.plan import TBYTES, TFLOPS

    text = (
        f"not measured: a device is taken to do {TFLOPS:g} TFLOP/s and to move {TBYTES:g} TB/s in "
        "a training step; reading, waiting and evaluation are not counted"
    )
    return "estimates", text


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
    from dataclasses import asdict

    from detnet.errors import InputError

    fresh = multiprocessing.get_context("spawn")
    ours, theirs = fresh.Pipe(duplex=False)
    process = fresh.Process(target=_send_estimate, args=(theirs, name, images, device), daemon=True)
    process.start()
    theirs.close()  # else the end of the process would not be heard
    try:
        found = ours.recv()
    except EOFError:
        raise InputError(f"{name}: the measuring process was ended; is memory short?") from None
    finally:
        process.join()
    if isinstance(found, Exception):
        raise found
    return {"measured": asdict(found)}


def _send_estimate(pipe: "Connection", name: str, images: int, device: str | None) -> None:
    """Measures, and ends at once where the command that asked for it was ended."""
    import multiprocessing
    import os
    import threading

    from detnet.training.estimate import estimate

    def end_with_parent() -> None:
        if (parent := multiprocessing.parent_process()) is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        pipe.send(estimate(name, images=images, device=device))
    except Exception as error:  # it is the command's to tell
        pipe.send(error)


def _beforehand(name: str, args: argparse.Namespace) -> str:
    """Says what is measured, since a network of full size takes minutes on a processor."""
    from detnet.training.estimate import measured_size

    height, width = measured_size(name)
    return f"measuring a training step of {name} at {args.images} × {height}×{width} …"


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


def _page(name: str, row: dict[str, Any], planned: list[tuple[str, str]] | None = None) -> str:
    measured = _measured_facts(row) if "measured" in row else [("what it takes", _SEARCHES)]
    measured = planned or measured
    facts = [
        ("stands for", row["source"]),
        ("published", _numbers(row["published"])),
        ("data", row["data"]),
        ("length", f"{_length(row['length'])} of {row['batch_size']} images"),
        *measured,
        ("note", row["note"] or "-"),
    ]
    width = max(len(what) for what, _ in facts)
    lines = [f"  {what.ljust(width)}  {text}".rstrip() for what, text in facts]
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
        ("memory", f"{gibibytes(cost['peak_bytes'])} with {at_once}"),
        ("the whole run", f"{duration(cost['total_s'])} here, without reading and evaluation"),
    ]


def _numbers(published: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.1f}" for name, value in published.items()) or "-"


def _length(length: dict[str, float]) -> str:
    return "  ".join(f"{value:,} {unit}" for unit, value in length.items()) or "-"
