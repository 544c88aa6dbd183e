"""What is compared: run folders that were evaluated, and results files, each with a short name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detnet.errors import InputError
from detnet.files import read_json
from detnet.training.detection.config import TrainConfig, read_config


@dataclass(frozen=True)
class Evaluated:
    """The results of one evaluation.

    Args:
        results: the file.
        ground_truth: fingerprint of what they were scored against; None if nobody wrote it down.
    """

    results: Path
    ground_truth: str | None


@dataclass(frozen=True)
class Entry:
    """One of the detectors that are compared.

    Args:
        name: short, and different from the others'.
        place: as it was given.
        evaluations: of a run folder, that on its own split first; the one results file.
        config: of a run folder that has one.
    """

    name: str
    place: Path
    evaluations: tuple[Evaluated, ...]
    config: TrainConfig | None = None

    @property
    def is_run(self) -> bool:
        return self.place.is_dir()


def find_entries(sources: Sequence[Path]) -> list[Entry]:
    """What the sources are, each with a name of its own.

    Raises:
        InputError: there is no such thing, or nothing that was evaluated.
    """
    if len(sources) < 2:
        raise InputError("a comparison needs at least two runs or results files")
    real = [source.resolve() for source in sources]
    for index, source in enumerate(sources):
        if real[index] in real[:index]:
            raise InputError(f"{source}: is given twice; compare it with another one")
    return [_entry(*pair) for pair in zip(sources, short_names(real), strict=True)]


def short_names(paths: Sequence[Path]) -> list[str]:
    """The ends of the paths, no longer than is needed to tell them apart."""
    stems = [path if path.is_dir() else path.with_suffix("") for path in paths]
    for length in range(1, max(len(stem.parts) for stem in stems) + 1):
        names = ["/".join(stem.parts[-length:]) for stem in stems]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _entry(place: Path, name: str) -> Entry:
    if place.suffix == ".safetensors":
        raise InputError(
            f"{place}: is a model; `detnet evaluate {place} --data DATA --output DIR` writes the "
            "results to compare, DIR/results.json"
        )
    if place.is_file():
        return Entry(name, place, (Evaluated(place, None),))
    if not place.is_dir():
        raise InputError(f"{place}: no such run folder or results file")
    folder = place / "evaluation"
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    evaluations = tuple(
        Evaluated(each / "results.json", None)
        for each in (folder, *inside, place)
        if (each / "results.json").is_file()
    )
    if not evaluations and _is_classifier(folder / "scores.json"):
        raise InputError(f"{place}: holds a classifier; detectors are compared here")
    if not evaluations:
        raise InputError(f"{place}: not evaluated yet; do `detnet evaluate {place} --data DATA`")
    config = read_config(place / "config.yaml") if (place / "config.yaml").is_file() else None
    return Entry(name, place, evaluations, config)


def _is_classifier(scores: Path) -> bool:
    """Whether an evaluation told errors of classes, and has no detections to compare."""
    return scores.is_file() and "top1" in read_json(scores)
