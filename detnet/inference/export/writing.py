"""Exports a detector: the network, what is to be known of it, and what checking found, or nothing.

All is made in a hidden folder beside the output, which gets its name when everything is there and
checked; an error, Ctrl-C or SIGTERM leaves nothing.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from detnet.coco.annotations import Annotations
from detnet.detectors.base import Detector, info_of
from detnet.detectors.files import load_model
from detnet.errors import InputError
from detnet.evaluation.results import Results
from detnet.files import sha256_of
from detnet.inference.engines.base import Engine
from detnet.inference.engines.images import prepare
from detnet.inference.engines.openvino import keep_silent
from detnet.inference.engines.predictor import open_engine
from detnet.inference.engines.record import (
    LEAST,
    NETWORKS,
    RUNTIMES,
    ExportRecord,
    require_runtime,
)
from detnet.inference.engines.results import Track, engine_results, read_ahead
from detnet.inference.engines.torch import TorchEngine
from detnet.inference.export.checking import (
    PICTURE_FILE,
    CheckData,
    CheckReport,
    Tell,
    check_export,
    paired_precisions,
    spread,
)
from detnet.inference.export.differences import BOUNDS
from detnet.inference.export.folder import folder_beside, give_name
from detnet.inference.export.plan import ExportPlan, image_input, make_record
from detnet.inference.export.quantising import (
    CALIBRATION_IMAGES,
    QuantisedLayers,
    choose_layers,
    find_layers,
    halve_weights,
    quantise,
)
from detnet.inference.export.reference import reference_engine
from detnet.inference.fuse import fuse
from detnet.text import count, duration

_SHARE_IMAGES = 200  # at most, on which the layers' shares of AP are measured


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Args:
        folder: it.
        record: what its model.json says.
        check: what checking found.
        bytes: size of the network's files.
        seconds: that it took.
    """

    folder: Path
    record: ExportRecord
    check: CheckReport
    bytes: int
    seconds: float


@dataclass(frozen=True)
class ExportData:
    """A data set for an export.

    Args:
        val: what AP is measured on; of int8 a part of it, the layers are chosen on another.
        train: images that int8's layers are calibrated on; None for other precisions.
    """

    val: CheckData
    train: Annotations | None = None


def export_model(
    plan: ExportPlan, *, data: ExportData | None, tell: Tell, track: Track | None = None
) -> Exported:
    """Writes the folder and checks it against torch.

    Args:
        data: needed for int8, and to measure AP.
        tell: is called with a line at each step.
        track: wraps images to show progress.

    Raises:
        InputError: the model cannot be read or exported, something needed is not installed, int8
            without data, or the export differs from the model by more than its bounds.
    """
    train = data.train if data else None
    if plan.precision == "int8" and not train:
        raise InputError(
            "int8 needs training images to find each layer's range by: give --data DATA, the data "
            "set that the model was trained on"
        )
    _require_packages(plan)
    to_choose, to_tell = None, data.val if data else None
    if plan.precision == "int8" and to_tell:
        to_choose, to_tell = to_tell.divide(_SHARE_IMAGES)
    start = time.monotonic()
    model = load_model(plan.model)
    images = image_input(plan, model)
    torch = reference_engine(model, images)
    with folder_beside(plan.output) as folder:
        tell(f"writing {info_of(model).detector} as a graph; a minute or two, by its layers")
        layers = _write_network(plan, model, folder)
        record = make_record(plan, model, images)
        if layers is not None:
            assert train is not None and to_choose is not None  # asked for above
            record = _quantise(plan, folder, record, layers, torch, train, to_choose, tell, track)
        network = folder / "network.onnx"
        network.unlink(missing_ok=True)
        record = replace(record, files=_hashes(folder))
        record.write(folder)
        tell("checking it against torch" + (" and measuring AP of both" if data else ""))
        check = check_export(
            open_engine(folder),
            torch,
            precision=plan.precision,
            threshold=record.thresholds.score,
            limit=record.thresholds.detections,
            picture=folder / PICTURE_FILE,
            data=to_tell,
            track=track,
        )
        if check.failures:
            picture = plan.output.parent / f"{plan.output.resolve().name}-{PICTURE_FILE}"
            shutil.copyfile(folder / PICTURE_FILE, picture)
            raise InputError(
                f"{plan.output}: not made: the export differs from the model: "
                f"{'; '.join(check.failures)}; the worst image: {picture}; "
                f"{_remedy(plan, check)}"
            )
        check.write(folder)
        give_name(folder, plan.output)
    size = sum((plan.output / name).stat().st_size for name in record.files)
    return Exported(plan.output, record, check, size, round(time.monotonic() - start, 1))


def _remedy(plan: ExportPlan, check: CheckReport) -> str:
    """What to try where the export differs too much."""
    if plan.precision != "fp32":
        return "a higher --precision differs less, fp32 least"
    # Where it is unsure of everything, boxes that overlap by nearly the threshold are many.
    why = "rounding decides much in a model that has learnt little"
    more = "train it further" if check.pictures == "data" else "give --data DATA, what it learnt on"
    return f"{why}: {more}"


def _require_packages(plan: ExportPlan) -> None:
    """Before anything is computed."""
    what = f"exporting to {plan.format}"
    for name in ("onnx", "onnxscript"):
        require_runtime(name, "0", what)
    require_runtime(RUNTIMES[plan.format], LEAST[RUNTIMES[plan.format]], what)
    if plan.precision == "int8":
        require_runtime("nncf", "2.14", "int8")


def _write_network(plan: ExportPlan, model: Detector, folder: Path) -> QuantisedLayers | None:
    """Writes the network, but for int8 the one in fp32 alone, and gives its layers."""
    from detnet.detectors.export.to_onnx import write_onnx

    source, target = folder / "network.onnx", folder / NETWORKS[plan.format]
    write_onnx(fuse(model), source, batch=plan.batch, image_size=plan.image_size)
    if plan.precision == "int8":
        return find_layers(source)
    if plan.format == "openvino":
        keep_silent()
        import openvino

        network = openvino.Core().read_model(str(source))
        openvino.save_model(network, target, compress_to_fp16=plan.precision == "fp16")
    elif plan.precision == "fp16":
        halve_weights(source, target)
    else:
        source.rename(target)
    return None


def _quantise(
    plan: ExportPlan,
    folder: Path,
    record: ExportRecord,
    layers: QuantisedLayers,
    torch: TorchEngine,
    train: Annotations,
    val: CheckData,
    tell: Tell,
    track: Track | None,
) -> ExportRecord:
    """Writes the network in int8, the layers that cost too much left out, and says which.

    Args:
        train: to calibrate on.
        val: to choose layers on, none of it told of later.
    """
    samples = [
        prepare([picture] * plan.batch, record.images)
        for picture in read_ahead(train, spread(len(train), CALIBRATION_IMAGES))
    ]
    trial = _Int8Trial(plan, folder, record, layers, samples, val, tell, track)
    reference = trial.results(torch)
    tell(
        f"int8: calibrating {count(sum(map(len, layers.groups.values())), 'layer')} on "
        f"{count(len(samples), 'training image')}, choosing them on {len(val)} of "
        f"{count(len(val.annotations), 'validation image')}"
    )
    measure = partial(trial.measure, reference)
    kept = choose_layers(layers, measure, bound=BOUNDS["int8"].ap, tell=tell)
    if trial.written != kept:
        trial.write(kept)
    return replace(record, kept_precise=kept)


@dataclass
class _Int8Trial:
    """Writes a network in int8 with groups of layers left in fp32, and measures what that loses.

    Args:
        samples: (N, 3, H, W) uint8 each, to calibrate on.
        val: what it is measured on.

    Attributes:
        written: the groups left in fp32 by what is in the folder; None before the first.
    """

    plan: ExportPlan
    folder: Path
    record: ExportRecord
    layers: QuantisedLayers
    samples: Sequence[np.ndarray]
    val: CheckData
    tell: Tell
    track: Track | None
    written: tuple[str, ...] | None = None

    def results(self, engine: Engine) -> Results:
        """What an engine finds."""
        return engine_results(
            engine,
            self.val.annotations,
            score_threshold=self.record.thresholds.score,
            chosen=self.val.positions,
            track=self.track,
        )

    def write(self, kept: Sequence[str]) -> None:
        """Writes the network with these groups left in fp32."""
        groups = self.layers.groups
        names = [*self.layers.ignored, *(name for group in kept for name in groups[group])]
        source, target = self.folder / "network.onnx", self.folder / NETWORKS[self.plan.format]
        quantise(source, target, self.samples, ignored=names)
        replace(self.record, files=_hashes(self.folder)).write(self.folder)
        self.written = tuple(kept)

    def measure(self, reference: Results, kept: Sequence[str]) -> float:
        """Writes it, and gives its AP less the reference's, of the kind that loses most.

        Raises:
            InputError: there is nothing to be found on these images.
        """
        first, start = self.written is None, time.monotonic()
        self.write(kept)
        found = self.results(open_engine(self.folder))
        precisions = paired_precisions(self.val.truths, [reference, found])
        if not precisions:
            raise InputError(
                f"{self.val.annotations.path}: nothing is to be found on the {len(self.val)} "
                "images that int8's layers are chosen on"
            )
        if first:
            most = duration(2 * len(self.layers.groups) * (time.monotonic() - start))
            self.tell(f"should layers have to stay in fp32, finding them takes {most} at most")
        return min(one.difference for one in precisions)


def _hashes(folder: Path) -> dict[str, str]:
    names = [*NETWORKS.values(), "model.bin"]
    return {name: sha256_of(folder / name) for name in names if (folder / name).is_file()}
