"""The data of a campaign: the same for all its runs, whenever they begin."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnet.campaign.config import PRETRAIN, VariantTraining
from detnet.data.classification.shards import index_images
from detnet.data.folders import Split
from detnet.data.reading import fingerprint_files
from detnet.detectors import DETECTORS
from detnet.errors import InputError
from detnet.training.classification.evaluate import split_folder
from detnet.training.detection.config import TrainConfig, find_train, find_val
from detnet.training.detection.model_and_data import load_data
from detnet.training.run_config import RunConfig

_Reading = tuple[str, tuple[Path, ...]]  # a variant, and the files that it reads


@dataclass(frozen=True, kw_only=True)
class DataRecord:
    """Data as they were when the first run began.

    Args:
        fingerprint: of annotations, or of classes and names of images.
        images: to train on.
        classes: of their objects or of themselves; None in a plan of an earlier version.
    """

    fingerprint: str
    images: int
    classes: int | None = None


def look_at_data(
    variants: Sequence[VariantTraining], known: Mapping[str, DataRecord], where: str, folder: Path
) -> dict[str, DataRecord]:
    """Looks at all data once, and refuses others than before.

    Args:
        known: as they were when the first run began, by name.
        where: the campaign's file, for the error.
        folder: the campaign's, for the error.

    Raises:
        InputError: data that cannot be read, that changed, that hold nothing to compare on or not
            what a detector needs, or that variants read from different files.
    """
    found: dict[str, DataRecord] = {}
    first: dict[str, _Reading] = {}  # who was looked at first, by name
    loaded: set[tuple[str, frozenset[str]]] = set()
    for name, variant, settings in _readings(variants):
        try:
            reading = variant, _files(settings)
            _require_same_files(first.setdefault(name, reading), reading)
            fresh = name not in found and name not in known  # it is loaded to be counted
            if name not in found:
                found[name] = require_same(settings, name, known.get(name), folder)
            if isinstance(settings, TrainConfig):
                needs = name, frozenset(DETECTORS[settings.detector].targets)
                if needs not in loaded and not fresh:
                    load_data(settings)
                loaded.add(needs)
        except InputError as error:
            record = name if name == PRETRAIN else f"data: {name}"
            raise InputError(f"{where}: {record}: {error}") from error
    return found


def _readings(variants: Sequence[VariantTraining]) -> Iterator[tuple[str, str, RunConfig]]:
    """The data's name, the variant's, and the settings of each training."""
    for one in variants:
        yield one.data, one.variant, one.train
        if one.pretrain is not None:
            yield PRETRAIN, one.variant, one.pretrain


def _require_same_files(first: _Reading, other: _Reading) -> None:
    """Refuses variants that would be trained or compared on different files of one data set."""
    if first[1] != other[1]:
        told = (f"{variant} {' and '.join(map(str, files))}" for variant, files in (first, other))
        raise InputError(f"variants read different files there: {'; '.join(told)}")


def require_same(
    settings: RunConfig, name: str, known: DataRecord | None, folder: Path
) -> DataRecord:
    """Refuses data that changed since the first run.

    Args:
        name: in the campaign; of pre-training "pretrain".
        known: as they were; None if no run has begun.
        folder: the campaign's, for the error.

    Raises:
        InputError: as `look_at_data`.
    """
    print_ = _fingerprint(settings)
    if known is None:
        return DataRecord(fingerprint=print_, **_count(settings))
    if known.fingerprint != print_:
        raise InputError(
            f"{settings.data}: changed since the first run of {folder} (plan.json: data: {name}); "
            "put back what was there, or begin a campaign in another folder"
        )
    return known


def _files(settings: RunConfig) -> tuple[Path, ...]:
    """Annotations to train on and to compare on, or the folder of classes."""
    if isinstance(settings, TrainConfig):
        train, val = _splits(settings)
        return train.annotations, val.annotations
    return (_class_folder(settings),)


def _splits(settings: TrainConfig) -> tuple[Split, Split]:
    if not settings.data and not settings.train_annotations:
        raise InputError("give a folder, or settings that hold data")
    train, val = find_train(settings), find_val(settings)
    if val is None:
        place = settings.data or train.annotations
        raise InputError(f"{place}: no split {settings.val_split!r} to compare on")
    return train, val


def _fingerprint(settings: RunConfig) -> str:
    if isinstance(settings, TrainConfig):
        return " ".join(map(fingerprint_files, _splits(settings)))
    return _images(settings).fingerprint()


def _count(settings: RunConfig) -> dict[str, int]:
    if isinstance(settings, TrainConfig):
        data = load_data(settings)
        assert data.truths is not None and data.split is not None  # `_splits` saw to it
        if data.truths.bbox.crowd.all():
            where = data.split.annotations
            raise InputError(f"{where}: has no object to compare on; crowds do not count")
        return {"images": len(data.train), "classes": len(data.train.categories)}
    images = _images(settings)
    return {"images": len(images), "classes": len(images.classes)}


def _images(settings: RunConfig) -> Any:
    return index_images(_class_folder(settings))


def _class_folder(settings: RunConfig) -> Path:
    if not settings.data:
        raise InputError("data: give a folder with train/CLASS/image.jpg")
    return split_folder(Path(settings.data), settings.train_split)
