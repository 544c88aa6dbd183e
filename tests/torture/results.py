"""Mutated results files, scored by both engines, diagnosed, and by VOC's measure."""

import json
from pathlib import Path

from tests.torture.annotations import same_scores
from tests.torture.command import Found, call, finite_json, judge
from tests.torture.material import write_coco
from tests.torture.mutate_bytes import Random
from tests.torture.mutate_json import mutate_json
from tests.torture.record import ACCEPTED, FINDINGS


def base(folder: Path) -> None:
    write_coco(folder / "coco")


def attack(random: Random, base: Path, scratch: Path) -> Found:
    """Scores what is left of a sound results file."""
    truth = base / "coco" / "annotations" / "instances_train.json"
    content = json.loads((base / "coco" / "results.json").read_text())
    results = scratch / "results.json"
    results.write_bytes(mutate_json(random, content))
    found = same_scores(truth, results, ("bbox", "segm", "keypoints")[int(random.integers(3))])
    words = ("score", "--annotations", truth, "--results", results, "--json")
    for more in (("--diagnose",), ("--metric", "voc07"), ("--class-agnostic-recall",)):
        if found.verdict in FINDINGS or random.random() < 0.7:
            continue
        said = call(*words, *more)
        other = judge(said)
        if other.verdict == ACCEPTED:
            other = finite_json(said) or other
        found = other if other.verdict in FINDINGS else found
    results.unlink()
    return found
