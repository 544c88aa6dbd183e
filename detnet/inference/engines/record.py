"""What an exported folder says of itself, `model.json`: read strictly, and without torch."""

import importlib.metadata
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from detnet.coco.keypoints import KeypointLayout
from detnet.errors import InputError
from detnet.files import read_json, sha256_of, write_json
from detnet.kinds import read_record
from detnet.tables import unknown_name

RECORD_FILE, CHECK_FILE = "model.json", "check.json"
VERSION = 1  # of the record; a later one is refused
NETWORKS = {"onnx": "model.onnx", "openvino": "model.xml"}
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}
# Exports were run with these; older ones were not tried.
LEAST = {"onnxruntime": "1.22", "openvino": "2025.2"}
PRECISIONS = {"onnx": ("fp32", "fp16", "int8"), "openvino": ("fp32", "fp16", "bf16", "int8")}
_ALL_PRECISIONS = ("fp32", "fp16", "bf16", "int8")


@dataclass(frozen=True)
class ImageInput:
    """How a picture becomes the network's input.

    Args:
        resize: "aspect" scales both sides alike, "square" makes both `min_size`.
        min_size: the short side is scaled to this, pixels …
        max_size: … unless the long side would exceed this.
        size: height and width, where the network takes one size only: a picture is scaled to fit
            and filled up at right and bottom; None for any.
        fill: what it is filled up with, RGB: the mean colour, of which the network makes 0.
        size_divisible: the network itself pads to multiples of this.
        pixel_mean: per channel in `channel_order`, of values in 0 … 1; the network normalises.
        pixel_std: likewise.
        channel_order: of the network's weights; it takes RGB and turns it itself.
    """

    resize: Literal["aspect", "square"]
    min_size: int
    max_size: int
    size: tuple[int, int] | None
    fill: tuple[int, int, int]
    size_divisible: int
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    channel_order: Literal["rgb", "bgr"]


@dataclass(frozen=True)
class Thresholds:
    """What is built into the network.

    Args:
        score: objects less sure than this are not given out.
        nms: of two boxes of a class that overlap more, the surer is kept.
        detections: at most so many in an image, D.
    """

    score: float
    nms: float
    detections: int


@dataclass(frozen=True)
class ExportSource:
    """The model that was exported.

    Args:
        name: of its file.
        sha256: of the file.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class ExportRecord:
    """All that a reader of the folder needs to know.

    Args:
        version: of this record's form.
        format: what kind of network it is.
        precision: of its weights and layers, as it was asked for.
        detector: of `DETECTORS`.
        backbone: as `create` takes it.
        finds: "boxes", and "masks" or "keypoints".
        categories: the data set's, with `id` and `name`, in the order of the labels 1 …; those
            with keypoints also `keypoints` and `skeleton`.
        images: how a picture becomes the network's input.
        thresholds: of the network.
        batch: images that the network takes at once.
        network: the file that the runtime reads.
        files: sha256 of each file of the network.
        source: what it was made from.
        runtime: the package that runs it, and the oldest version that can.
        versions: of the packages that made it.
        preprocessing: what a reader does before the network, in words.
        postprocessing: what a reader does after it, in words.
        kept_precise: for int8, the groups of layers that stayed in higher precision.
    """

    version: int
    format: Literal["onnx", "openvino"]
    precision: Literal["fp32", "fp16", "bf16", "int8"]
    detector: str
    backbone: str
    finds: tuple[Literal["boxes", "masks", "keypoints"], ...]
    categories: tuple[dict[str, Any], ...]
    images: ImageInput
    thresholds: Thresholds
    batch: int
    network: str
    files: dict[str, str]
    source: ExportSource
    runtime: dict[str, str]
    versions: dict[str, str]
    preprocessing: tuple[str, ...]
    postprocessing: tuple[str, ...]
    kept_precise: tuple[str, ...] = field(default=())

    @property
    def layout(self) -> KeypointLayout | None:
        """The named keypoints of its categories, None without any."""
        return KeypointLayout.from_json(self.categories, file="the export")

    def write(self, folder: Path) -> None:
        """Writes `model.json`."""
        write_json(folder / RECORD_FILE, asdict(self))


def is_export(path: str | Path) -> bool:
    """Whether a MODEL argument is an exported folder, whatever state it is in."""
    return (Path(path) / RECORD_FILE).is_file()


def read_export(folder: Path) -> ExportRecord:
    """Reads an exported folder's record, and checks its files and the runtime for them.

    Raises:
        InputError: it is no export, of a later version, damaged or changed since, or its runtime is
            missing or too old; in one line.
    """
    folder = Path(folder)
    if not is_export(folder):
        raise InputError(f"{folder}: holds no export ({RECORD_FILE})")
    place = folder / RECORD_FILE
    content = read_json(place)
    version = content.get("version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise InputError(
            f"{place}: of version {version}, and this detnet reads up to {VERSION}; install a "
            "newer one, or export again"
        )
    record = read_record(ExportRecord, content, str(place))
    _require_sound(record, str(place))
    for name, expected in record.files.items():
        _require_file(folder / name, expected)
    require_runtime(*next(iter(record.runtime.items())), folder)
    return record


def require_runtime(package: str, least: str, what: object) -> None:
    """Refuses to go on where a package is not installed, or is too old.

    Args:
        what: needs it, for the message.

    Raises:
        InputError: saying how to install it.
    """
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"{what}: needs {package}: pip install 'detnet[export]', or {package} alone"
        ) from None
    if _numbers(found) < _numbers(least):
        raise InputError(
            f"{what}: needs {package} {least} or newer, and {found} is installed: "
            f"pip install --upgrade {package}"
        )


def check_precision(format: str, precision: str) -> None:
    """Refuses a format or a precision that there is not.

    Raises:
        InputError: naming the nearest.
    """
    if format not in PRECISIONS:
        raise InputError(unknown_name("format", format, PRECISIONS))
    if precision not in PRECISIONS[format]:
        if precision in _ALL_PRECISIONS:
            other = next(name for name, own in PRECISIONS.items() if precision in own)
            raise InputError(
                f"{precision} is no precision of {format}, which has "
                f"{', '.join(PRECISIONS[format])}; take --format {other} for it"
            )
        raise InputError(unknown_name("precision", precision, PRECISIONS[format]))


def chosen_threads() -> int | None:
    """How many threads this process was given, None where nothing bounds them.

    `OMP_NUM_THREADS`, which torch goes by as well, or else the processors that it may run on where
    these are not all.

    Raises:
        InputError: the environment says no number.
    """
    text = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if text:
        if not text.isdigit() or not int(text):
            raise InputError(f"OMP_NUM_THREADS={text}: write a number of threads")
        return int(text)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return usable if usable != os.cpu_count() else None


def _require_sound(record: ExportRecord, where: str) -> None:
    """Refuses what is of the right kinds and still cannot be."""
    for number, category in enumerate(record.categories):
        if type(category.get("id")) is not int or not isinstance(category.get("name"), str):
            raise InputError(f"{where}: category {number} has no whole id and name")
    names = [record.network, *record.files]
    if any(Path(name).name != name or not name for name in names):
        raise InputError(f"{where}: names a file outside of its folder")
    if record.network not in record.files:
        raise InputError(f"{where}: says nothing of its network, {record.network}")
    if [*record.runtime] != [RUNTIMES[record.format]]:
        raise InputError(f"{where}: names no runtime of {record.format}")
    images, sizes = record.images, record.images.size or (1, 1)
    numbers = (record.batch, images.min_size, images.max_size, images.size_divisible, *sizes)
    if min(*numbers, record.thresholds.detections) < 1:
        raise InputError(f"{where}: sizes, batch and detections must be 1 or more")
    if not 0 <= record.thresholds.score <= 1:
        raise InputError(f"{where}: the score threshold must be in 0 … 1")


def _require_file(path: Path, expected: str) -> None:
    if not path.is_file():
        raise InputError(f"{path}: is missing; copy the whole folder, or export again")
    if sha256_of(path) != expected:
        raise InputError(
            f"{path}: is not the file that was exported (its SHA-256 differs from that in "
            f"{RECORD_FILE}); copy the folder again, or export again"
        )


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with: 2026.4.1-22982 is 2026, 4, 1."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()
