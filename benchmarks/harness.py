"""Times two ways of doing the same work in turns, and keeps the result with its circumstances.

    python benchmarks/train_step.py --threads 2 --repeats 5

Each script prints its numbers and adds one JSON line to `benchmarks/results/NAME.jsonl`; with
`--dry-run` it only prints. Ours runs as the program would on this machine: in the type that
`choose_precision` gives for "auto". Beside the ratio to the reference stands the share of what the
machine can do, which is the pace of its own large matrix product in that type, with as many threads
and in turns with the rest.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torchvision
from machine import (
    MatrixProduct,
    Work,
    gflops,
    instructions,
    own_precision,
    precision_name,
    seconds,
    share,
)

from detnet.cli.__main__ import wait_briefly

RESULTS = Path(__file__).parent / "results"

_dry_run = False


def arguments(description: str, **defaults: int) -> argparse.Namespace:
    """Reads `--threads`, `--repeats` and a script's own whole numbers, and sets the threads."""
    parser = argparse.ArgumentParser(description=description)
    for name, value in {"threads": 2, "repeats": 5, **defaults}.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=int, default=value, help="%(default)s"
        )
    parsed = parse(parser)
    torch.set_num_threads(parsed.threads)
    return parsed


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Reads what every script takes beside its own, and says what kind of machine this is."""
    global _dry_run
    parser.add_argument("--dry-run", action="store_true", help="print the result, keep no line")
    parsed = parser.parse_args()
    _dry_run = parsed.dry_run
    print(f"{_processor()}, {instructions()}: networks run in {precision_name(own_precision())}")
    return parsed


def compare(
    name: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    *,
    repeats: int,
    work: Work | None = None,
    facts: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Runs both in turns after one unmeasured run each, prints and keeps their medians.

    In turns, so that whatever else the machine does falls on both alike.

    Args:
        name: of the results file.
        ours: what is to be faster.
        theirs: the reference.
        repeats: measured runs of each.
        work: what ours computes, for its share of what the machine can do; None where it is not
            multiplication that takes the time.
        facts: anything else worth keeping: sizes, losses, deviations.

    Returns:
        The line as written: `ours_s` and `theirs_s` are medians, `ratio` is theirs over ours.
    """
    ours(), theirs()
    product = None if work is None else MatrixProduct(work.dtype)
    times: dict[str, list[float]] = {"ours": [], "theirs": [], "product": []}
    for _ in range(repeats):
        for key, run in (("ours", ours), ("theirs", theirs), ("product", product)):
            if run is not None:
                times[key].append(seconds(run)[0])
    return _keep_ratio(name, times, repeats, _with_share(work, product, times) | (facts or {}))


def compare_apart(
    name: str,
    ours: Callable[[], Callable[[], Any]],
    theirs: Callable[[], Callable[[], Any]],
    *,
    threads: int,
    repeats: int,
    work: Work | None = None,
    facts: Callable[[Any, Any], dict[str, Any]],
) -> dict[str, Any]:
    """Does what `compare` does, but each side runs in a process of its own.

    That is how people run them, and what one side sets for its process (how freed memory is kept)
    must not help or hurt the other.

    Args:
        ours, theirs: functions of a module, which build what is then run and timed.
        work: as `compare` takes it; the matrix product runs in the process that asks.
        facts: makes facts of what the first run of each side returned.
    """
    context = multiprocessing.get_context("spawn")
    ends, processes = {}, []
    for key, make in (("ours", ours), ("theirs", theirs)):
        ends[key], other = context.Pipe()
        processes.append(context.Process(target=_serve, args=(other, make, threads), daemon=True))
        with _waiting_as_the_program() if key == "ours" else nullcontext():
            processes[-1].start()
        other.close()  # or a side that dies would be waited for
    first = {}
    for key, end in ends.items():
        end.send(True)
        first[key] = end.recv()[1]
    product = None if work is None else MatrixProduct(work.dtype)
    times: dict[str, list[float]] = {"ours": [], "theirs": [], "product": []}
    for _ in range(repeats):
        for key, end in ends.items():
            end.send(True)
            times[key].append(end.recv()[0])
        if product is not None:
            times["product"].append(seconds(product)[0])
    for end in ends.values():
        end.send(False)
    for process in processes:
        process.join()
    found = facts(first["ours"], first["theirs"])
    return _keep_ratio(name, times, repeats, _with_share(work, product, times) | found)


@contextmanager
def _waiting_as_the_program() -> Iterator[None]:
    """Processes that are started here inherit what `detnet` sets before it loads torch."""
    before = dict(os.environ)
    wait_briefly()
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]


def _serve(pipe: Any, make: Callable[[], Callable[[], Any]], threads: int) -> None:
    """Runs once for every True that comes, and answers with the seconds and what was returned."""
    torch.set_num_threads(threads)
    run = make()
    while pipe.recv():
        pipe.send(seconds(run))


def _with_share(
    work: Work | None, product: MatrixProduct | None, times: dict[str, list[float]]
) -> dict[str, Any]:
    if work is None or product is None:
        return {}
    pace = gflops(product.macs, statistics.median(times["product"]))
    return share(work, statistics.median(times["ours"]), pace)


def _keep_ratio(
    name: str, times: dict[str, list[float]], repeats: int, facts: dict[str, Any]
) -> dict[str, Any]:
    medians = {key: statistics.median(times[key]) for key in ("ours", "theirs")}
    line = keep(
        name,
        ratio=round(medians["theirs"] / medians["ours"], 3),
        ours_s=round(medians["ours"], 5),
        theirs_s=round(medians["theirs"], 5),
        ours_fastest_s=round(min(times["ours"]), 5),
        theirs_fastest_s=round(min(times["theirs"]), 5),
        repeats=repeats,
        **facts,
    )
    print(
        f"{name}: ours {medians['ours']:.4f} s, theirs {medians['theirs']:.4f} s, "
        f"{line['ratio']:.2f} times as fast"
    )
    if "share" in line:
        print(in_words(line))
    return line


def in_words(line: dict[str, Any]) -> str:
    """What `share` found, for people."""
    return (
        f"in {line['precision']}: {line['macs'] / 1e9:.4g} G multiply-adds, {line['gflops']:g} "
        f"GFLOP/s, {line['share']:.0%} of a matrix product's {line['product_gflops']:g}"
    )


def keep(name: str, **facts: Any) -> dict[str, Any]:
    """Adds one line of facts and circumstances to a results file, and returns it."""
    line = {"name": name, **facts, **_circumstances()}
    if _dry_run:
        return line
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    return line


def _circumstances() -> dict[str, Any]:
    return {
        "commit": _git("rev-parse", "--short=12", "HEAD")
        + ("+" if _git("status", "--porcelain", "--", "detnet", "benchmarks/*.py") else ""),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
        "device": _processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "instructions": instructions(),
        "threads": torch.get_num_threads(),
        # Above the number of threads others were at work, and with more than one thread the
        # times are then of little worth: every parallel region waits for its slowest thread.
        "load_average": round(os.getloadavg()[0], 1),
    }


def _git(*words: str) -> str:
    command = ["git", "-C", str(RESULTS.parent), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
