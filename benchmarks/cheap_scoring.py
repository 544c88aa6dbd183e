"""Says how well the cheap way of scoring candidates ranks them, and what it saves.

    python benchmarks/cheap_scoring.py RUN --count 40

RUN is the folder of a search whose supernet is trained. Legal candidates are drawn at random before
any is scored. Each is scored on the whole search split under two seeds of the recalibration, and
the cheap way. r is Kendall's τ of the full way with itself under the other seed; the cheap way is
good enough where its τ with the full way is at least min(0.9, r - 0.05). What is scored goes into
RUN/cheap_scoring.jsonl at once, so that the script can be stopped and started again.
"""

import argparse
import hashlib
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from harness import keep, parse

from detnet.backbones.spaces.space import Space, read_space
from detnet.engine import distributed
from detnet.search.config import SearchConfig
from detnet.search.costs.constraints import Constraints, Costs, Limits
from detnet.search.methods.method import CandidateSampler
from detnet.search.scoring.evaluator import generator
from detnet.search.scoring.scorer import Scorer, make_scorer
from detnet.search.standalone.statistics import kendall_tau, tau_interval

WAYS = ("full", "other seed", "cheap")
SIZES = (
    *("recalibration_images", "recalibration_batch"),
    *("cheap_recalibration_images", "cheap_score_images", "cheap_proposals"),
)
_PURPOSE = 91  # of the draws of candidates


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    config = SearchConfig.read(arguments.run / "config.yaml")
    changes = {name: value for name, value in vars(arguments).items() if value and name in SIZES}
    config = replace(config, **changes)
    paths = draw(config, arguments.count, arguments.seed)
    process = distributed.setup(None if config.device == "auto" else config.device)
    scorer = make_scorer(config, arguments.run, process)
    supernet = _hash(scorer.evaluator.model)
    places = {
        way: Journal(
            arguments.run / "cheap_scoring.jsonl",
            {**_settings(config, way), "seed": config.seed, "supernet": supernet},
        )
        for way in WAYS
    }
    scorer.score(paths[0], "full"), scorer.score(paths[0], "cheap")  # reads the images
    for number, path in enumerate(paths, start=1):
        row = [places[way].once(path, scorer, way) for way in WAYS]
        print(f"{number}/{len(paths)}", *(f"{entry['score']:.4f}" for entry in row), flush=True)
    found = {way: [places[way].known[path] for path in paths] for way in WAYS}
    images = {"full": scorer.images("full"), "cheap": scorer.images("cheap")}
    sizes = {name: getattr(config, name) for name in SIZES}
    line = keep("cheap_scoring", scoring=config.scoring, **sizes, **summary(found, images))
    for name in ("r", "tau", "tau_interval", "threshold", "passes", "images", "seconds", "saved"):
        print(f"{name}: {line[name]}")


def draw(config: SearchConfig, count: int, seed: int) -> list[tuple[int, ...]]:
    """Draws legal candidates, all different, every one equally likely."""
    space: Space = read_space(config.space)
    height, width = config.cost_image_size
    costs = Costs(space, width=config.width, image_size=(height, width))
    limits = Limits(config.max_macs, config.max_params)
    sampler = CandidateSampler(Constraints(space, costs, limits), generator(seed, _PURPOSE), ())
    sampler.draw_random(count)
    return sampler.chosen


def summary(found: dict[str, list[dict[str, Any]]], images: dict[str, int]) -> dict[str, Any]:
    """Compares the rankings; candidates that gave no number by some way are left out and counted.

    Args:
        found: for each way an entry {"score", "seconds"} per candidate.
        images: of each way, per candidate.
    """
    scores = {way: [entry["score"] for entry in entries] for way, entries in found.items()}
    whole = [row for row in zip(*(scores[way] for way in WAYS), strict=True) if None not in row]
    full, other, cheap = (list(column) for column in zip(*whole, strict=True))
    r, tau = kendall_tau(full, other), kendall_tau(cheap, full)
    threshold = min(0.9, r - 0.05)
    seconds = {
        way: round(statistics.median(entry["seconds"] for entry in found[way]), 3)
        for way in ("full", "cheap")
    }
    return {
        "candidates": len(whole),
        "failed": len(found["full"]) - len(whole),
        "r": round(r, 4),
        "r_interval": [round(end, 4) for end in tau_interval(full, other)],
        "tau": round(tau, 4),
        "tau_interval": [round(end, 4) for end in tau_interval(cheap, full)],
        "threshold": round(threshold, 4),
        "passes": tau >= threshold,
        "images": images,
        "seconds": seconds,
        "saved": {
            "images": round(images["full"] / images["cheap"], 2),
            "seconds": round(seconds["full"] / seconds["cheap"], 2),
        },
        "score_range": [round(min(full), 4), round(max(full), 4)],
    }


class Journal:
    """Scores that were found by one way, kept in a file of JSON lines with others.

    Args:
        settings: what the scores depend on beside the path; those of other settings are not taken.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self._path, self._settings = path, settings
        self.known: dict[tuple[int, ...], dict[str, Any]] = {}
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines:
            entry = json.loads(line)
            if entry["settings"] == settings:
                self.known[tuple(entry["path"])] = entry

    def once(self, path: tuple[int, ...], scorer: Scorer, way: str) -> dict[str, Any]:
        """Scores a path, unless it is known."""
        if path not in self.known:
            start = time.perf_counter()
            if way == "other seed":
                value = scorer.score(path, "full", seed=scorer.config.seed + 1)
            else:
                value = scorer.score(path, "full" if way == "full" else "cheap")
            entry = {
                "path": list(path),
                "score": value if value == value else None,
                "seconds": time.perf_counter() - start,
                "settings": self._settings,
            }
            with self._path.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            self.known[path] = entry
        return self.known[path]


def _hash(model: torch.nn.Module) -> str:
    """By which a supernet that was trained further is told from the one before."""
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _settings(config: SearchConfig, way: str) -> dict[str, Any]:
    cheap = way == "cheap"
    used = {
        name: getattr(config, name)
        for name in SIZES
        if name.startswith("cheap_") == cheap or name.endswith("batch")
    }
    return {"way": way, **used}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--count", type=int, default=40, help="candidates, %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of their draws, %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="of torch, %(default)s")
    for name in SIZES:
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, help="instead of the search's own")
    return parse(parser)


if __name__ == "__main__":
    main()
