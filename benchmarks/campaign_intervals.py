"""Does a campaign's interval hold the true difference as often as it says? Simulated scores.

    python benchmarks/campaign_intervals.py

Detectors are made up whose truth is known: every image is easy or hard for all, for one variant and
for one seed, and every seed is better or worse than another; each object is found or not, with a
score, among false detections. AP is that of `detnet compare`, and the intervals are those of
`detnet campaign show`, beside what one might take instead. The true difference is the mean over all
campaigns of a kind; 1,000 of each take about ten minutes of one core.
"""

import argparse
from dataclasses import dataclass

import numpy as np
from harness import keep, parse

from detnet.campaign.statistics import SeedScores, crossed_difference
from detnet.evaluation.comparison.accumulation import average_precision
from detnet.evaluation.comparison.bootstrap import image_weights
from detnet.evaluation.matching import RankedDetections
from detnet.text import lay_out

OBJECTS = 4  # of an image
NAMES = ("held", "held_by_bootstrap", "held_by_images_alone", "width")
FALSE = 6  # detections of an image that find nothing


@dataclass(frozen=True)
class World:
    """How much what varies; in the units of a detection's score, whose own deviation is 1.

    Args:
        image: how hard an image is for everybody.
        taste: how much harder an image is for one of the variants.
        seed: how good a seed is.
        fare: how one seed fares on an image.
        other_seeds: factor on `seed` of the second variant.
        shared: share of the seed's variance that a pair of seeds has in common.
        paired: whether the interval takes seeds in pairs.
    """

    name: str
    image: float = 0.8
    taste: float = 0.3
    seed: float = 0.1
    fare: float = 0.4
    other_seeds: float = 1.0
    shared: float = 0.0
    paired: bool = False


WORLDS = (
    World("seeds and images alike"),
    World("seeds alone", taste=0.0, seed=0.25, fare=0.2),
    World("images alone", taste=0.6, seed=0.0, fare=0.0),
    World("each seed its own images", taste=0.0, seed=0.02, fare=1.0),
    World("one variant's seeds vary 3 times more", other_seeds=3.0),
    World("pairs of seeds share", seed=0.2, shared=0.7, paired=True),
    World("pairs of seeds share, nobody knows", seed=0.2, shared=0.7),
)


def simulate(
    world: World, seeds: int, images: int, random: np.random.Generator
) -> list[list[RankedDetections]]:
    """Detections of both variants' seeds on the same images."""
    hard = random.normal(0, world.image, images)
    common = random.normal(0, world.seed * world.shared**0.5, seeds)
    found = []
    for variant, factor in enumerate((1.0, world.other_seeds)):
        taste = random.normal(0, world.taste, images)
        own = random.normal(0, world.seed * factor * (1 - world.shared) ** 0.5, seeds)
        rows = []
        for seed in range(seeds):
            skill = 1.2 + 0.15 * (1 - variant) - hard + taste + own[seed] + common[seed]
            skill = skill + random.normal(0, world.fare, images)
            right = random.normal(skill[:, None], 1, (images, OBJECTS))
            false = random.normal(0, 1, (images, FALSE))
            scores = np.concatenate([right, false], 1).ravel()
            hit = np.zeros((images, OBJECTS + FALSE), bool)
            hit[:, :OBJECTS] = right > 0
            order = np.argsort(-scores, kind="stable")
            hits = np.flatnonzero(hit.ravel()[order])
            of = np.repeat(np.arange(images), OBJECTS + FALSE)[order]
            rows.append(RankedDetections(of[: hits[-1] + 1], hits))
        found.append(rows)
    return found


def precisions(rows: list[RankedDetections], weights: np.ndarray) -> np.ndarray:
    objects = OBJECTS * weights.sum(axis=0)
    return np.stack([average_precision(one, weights, objects) for one in rows])


def plain(first: SeedScores, other: SeedScores, random: np.random.Generator) -> tuple[float, float]:
    """What a bootstrap over seeds and images together gives, without any correction."""
    draws = first.drawn.shape[1]
    sides = []
    for side in (first, other):
        chosen = random.integers(0, len(side.values), (len(side.values), draws))
        sides.append(np.take_along_axis(side.drawn, chosen, 0).mean(0))
    low, high = np.quantile(sides[0] - sides[1], [0.025, 0.975])
    return float(low), float(high)


def coverage(
    world: World, seeds: int, *, campaigns: int, images: int, resamples: int
) -> tuple[float, float, float, float]:
    """Shares of intervals that hold the truth: a campaign's, a plain bootstrap's, that over images
    alone; and the mean width of a campaign's.
    """
    random = np.random.default_rng([seeds, images, len(world.name)])
    ones = np.ones((images, 1), np.float32)
    values, intervals = [], []
    for number in range(campaigns):
        weights = next(image_weights(images, resamples, number, resamples))
        first, other = (
            SeedScores(precisions(rows, ones)[:, 0].astype(float), precisions(rows, weights))
            for rows in simulate(world, seeds, images, random)
        )
        ours = crossed_difference(first, other, images=images, paired=world.paired)
        assert ours.interval is not None
        of_images = np.quantile(first.drawn.mean(0) - other.drawn.mean(0), [0.025, 0.975])
        values.append(ours.value)
        intervals.append((ours.interval, plain(first, other, random), tuple(of_images)))
    ends, truth = np.array(intervals), np.mean(values)
    held = ((ends[:, :, 0] <= truth) & (truth <= ends[:, :, 1])).mean(axis=0)
    return (*held.tolist(), float((ends[:, 0, 1] - ends[:, 0, 0]).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--campaigns", type=int, default=1000, help="of each kind")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--resamples", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5, 8])
    args = parse(parser)
    sizes = {name: getattr(args, name) for name in ("campaigns", "images", "resamples")}
    rows = [["what varies", "seeds", "campaign", "bootstrap", "images alone", "width in points"]]
    facts = []
    for world in WORLDS:
        for seeds in args.seeds:
            found = coverage(world, seeds, **sizes)
            shares = [f"{100 * share:.1f} %" for share in found[:3]]
            rows.append([world.name, str(seeds), *shares, f"{100 * found[3]:.1f}"])
            print("  ".join(rows[-1]), flush=True)
            facts.append(
                {"world": world.name, "seeds": seeds, **dict(zip(NAMES, found, strict=True))}
            )
    print(lay_out(rows, left=(0,)))
    keep("campaign_intervals", **sizes, found=facts)


if __name__ == "__main__":
    main()
