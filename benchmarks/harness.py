"""Times two ways of doing the same work in turns, and keeps the result with its circumstances.

    python benchmarks/train_step.py --threads 2 --repeats 5

Each script prints its numbers and adds one JSON line to `benchmarks/results/NAME.jsonl`.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torchvision

RESULTS = Path(__file__).parent / "results"


def arguments(description: str, **defaults: int) -> argparse.Namespace:
    """Reads `--threads`, `--repeats` and a script's own whole numbers, and sets the threads."""
    parser = argparse.ArgumentParser(description=description)
    for name, value in {"threads": 2, "repeats": 5, **defaults}.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=int, default=value, help="%(default)s"
        )
    parsed = parser.parse_args()
    torch.set_num_threads(parsed.threads)
    return parsed


def compare(
    name: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    *,
    repeats: int,
    facts: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Runs both in turns after one unmeasured run each, prints and keeps their medians.

    In turns, so that whatever else the machine does falls on both alike.

    Args:
        name: of the results file.
        ours: what is to be faster.
        theirs: the reference.
        repeats: measured runs of each.
        facts: anything else worth keeping: sizes, losses, deviations.

    Returns:
        The line as written: `ours_s` and `theirs_s` are medians, `ratio` is theirs over ours.
    """
    ours(), theirs()
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(repeats):
        for key, run in (("ours", ours), ("theirs", theirs)):
            start = time.perf_counter()
            run()
            times[key].append(time.perf_counter() - start)
    medians = {key: statistics.median(values) for key, values in times.items()}
    line = keep(
        name,
        ratio=round(medians["theirs"] / medians["ours"], 3),
        ours_s=round(medians["ours"], 5),
        theirs_s=round(medians["theirs"], 5),
        ours_fastest_s=round(min(times["ours"]), 5),
        theirs_fastest_s=round(min(times["theirs"]), 5),
        repeats=repeats,
        **(facts or {}),
    )
    print(
        f"{name}: ours {medians['ours']:.4f} s, theirs {medians['theirs']:.4f} s, "
        f"{line['ratio']:.2f} times as fast"
    )
    return line


def keep(name: str, **facts: Any) -> dict[str, Any]:
    """Adds one line of facts and circumstances to a results file, and returns it."""
    line = {"name": name, **facts, **_circumstances()}
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
