"""What was read of a split as columns, and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, SupportsIndex, overload

import numpy as np

from detnet.coco.annotations import Annotations, FlatBytes
from detnet.coco.categories import Categories
from detnet.coco.ground_truth import GroundTruth, GroundTruths
from detnet.coco.keypoints import KeypointLayout
from detnet.coco.masks import RunLengths
from detnet.data.folders import Split
from detnet.data.kept.columns import Columns

_KINDS = ("bbox", "segm", "keypoints")


@dataclass(frozen=True, eq=False)
class Reading:
    """What was read of a split.

    Args:
        names: UTF-8, of all images of the file, also of those that were left out for being empty.
        repairs: as `load_annotations` tells them.
        truths: where it was read to be scored, too.
    """

    annotations: Annotations
    names: FlatBytes
    repairs: list[str]
    truths: GroundTruths | None = None


class MappedMasks(Sequence[RunLengths]):
    """Masks that become Python objects one by one, when they are asked for.

    Args:
        counts: compressed run lengths.
        sizes: (N, 2) int64, height and width.
    """

    def __init__(self, counts: FlatBytes, sizes: np.ndarray) -> None:
        self.counts, self.sizes = counts, sizes

    def __len__(self) -> int:
        return len(self.counts)

    @overload
    def __getitem__(self, at: SupportsIndex) -> RunLengths: ...
    @overload
    def __getitem__(self, at: slice) -> list[RunLengths]: ...
    def __getitem__(self, at: SupportsIndex | slice) -> RunLengths | list[RunLengths]:
        if isinstance(at, slice):
            return [self[index] for index in range(*at.indices(len(self)))]
        index = at.__index__()
        index += len(self) if index < 0 else 0
        return {"counts": self.counts[index], "size": self.sizes[index].tolist()}


def pack(reading: Reading) -> Columns:
    """Takes a reading apart into arrays, and what JSON can hold of the rest."""
    notes, arrays = reading.annotations, dict[str, np.ndarray]()
    _add(arrays, "annotations", notes)
    _add(arrays, "names", reading.names)
    layout = notes.keypoint_layout
    facts: dict[str, Any] = {
        "repairs": reading.repairs,
        "categories": [notes.categories.ids, notes.categories.names],
        "layout": [layout.names, layout.of_label, layout.edges] if layout else None,
        "truths": {},
    }
    for kind in _KINDS if reading.truths else ():
        truth: GroundTruth | None = getattr(reading.truths, kind)
        if truth is not None:
            _add(arrays, kind, truth)
            facts["truths"][kind] = [truth.names, truth.taken]
    return Columns(facts, arrays)


def unpack(columns: Columns, split: Split) -> Reading:
    """Puts a reading together again from its columns, without copying them.

    Args:
        split: whose it is; the images' names start from its folder.
    """
    facts, arrays = columns.facts, columns.arrays
    ids, names = facts["categories"]
    annotations = Annotations(
        path=split.annotations,
        images_folder=split.images,
        categories=Categories(tuple(ids), tuple(names)),
        keypoint_layout=KeypointLayout(*map(_tuples, facts["layout"])) if facts["layout"] else None,
        **{"masks": None, **_of(arrays, "annotations")},
    )
    truths = {}
    for kind, (names, taken) in facts["truths"].items():
        own = {"masks": None, **_of(arrays, kind)}
        truths[kind] = GroundTruth(names=tuple(names), taken=taken, **own)
    return Reading(
        annotations,
        FlatBytes(**_of(arrays, "names")),
        facts["repairs"],
        GroundTruths(**truths) if truths else None,
    )


def _add(arrays: dict[str, np.ndarray], name: str, record: Any) -> None:
    """The arrays of a dataclass, by their path."""
    for field in fields(record):
        value, path = getattr(record, field.name), f"{name}/{field.name}"
        if isinstance(value, np.ndarray):
            arrays[path] = value
        elif isinstance(value, FlatBytes):
            _add(arrays, path, value)
        elif field.name == "masks" and value is not None:
            _add(arrays, path, FlatBytes.of(mask["counts"] for mask in value))
            sizes = np.array([mask["size"] for mask in value], np.int64)
            arrays[f"{path}/sizes"] = sizes.reshape(-1, 2)


def _of(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, Any]:
    """The fields of a dataclass that are arrays, or made of them."""
    own: dict[str, Any] = {}
    for path, array in arrays.items():
        first, _, rest = path.removeprefix(f"{name}/").partition("/")
        if path.startswith(f"{name}/"):
            own.setdefault(first, {})[rest] = array
    return {field: _whole(parts) for field, parts in own.items()}


def _whole(parts: dict[str, np.ndarray]) -> Any:
    if "blob" not in parts:
        return parts[""]
    flat = FlatBytes(parts["blob"], parts["offsets"])
    return MappedMasks(flat, parts["sizes"]) if "sizes" in parts else flat


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
