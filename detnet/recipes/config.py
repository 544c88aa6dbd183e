"""The settings of a training run: one flat, typed dataclass, from defaults, a file and options.

Nothing here imports torch: `detnet train --help` answers at once.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from detnet.errors import InputError
from detnet.tables import unknown_name

_NOT_NEGATIVE = (
    "lr",
    "lr_batch",
    "weight_decay",
    "clip_norm",
    "warmup_iterations",
    "warmup_factor",
    "repeat_threshold",
    "patience",
    "workers",
    "seed",
)


@dataclass(frozen=True)
class TrainConfig:
    """Everything a detection run depends on; the defaults are DetNet's recipe for COCO.

    Args:
        data: data set folder, in COCO's or Roboflow's layout.
        train_annotations: annotation file instead of the folder's own, with train_images.
        train_images: image folder of train_annotations.
        val_annotations: annotation file to evaluate on, with val_images.
        val_images: image folder of val_annotations.
        train_split: split to train on.
        val_split: split to evaluate on; "none" for no evaluation.
        backbone: name of a backbone.
        detector: name of a detector.
        width: factor on all channel counts of backbone, pyramid and heads.
        stride_in: convolution that carries a block's stride, 1x1 by the papers, 3x3 for
            torchvision's weights.
        norm: frozen, batch or sync batch norm; auto takes frozen with weights and sync from
            scratch.
        frozen: parts of the backbone held still, of stem, c2 …; the paper holds the stem when
            fine-tuning.
        weights: model file or run folder to begin from; its class layers are left out where
            categories differ.
        detector_options: further options of the detector, as box_head, proposals, roi_levels.
        min_sizes: short side of training images in pixels; one of several is drawn per image.
        max_size: limit of the long side in pixels.
        test_min_size: short side in evaluation; the last of min_sizes by default.
        flip: probability of a left-right mirror image.
        flip_vertical: probability of an upside-down image.
        color_jitter: strength of brightness, contrast and saturation changes, 0 to 1.
        aspect_grouping: batch wide images with wide ones and tall with tall.
        repeat_threshold: show images of classes rarer than this fraction of images more often; 0
            for never.
        skip_empty: leave images without objects out of training.
        batch_size: images per step, of all processes and accumulated batches together.
        accumulate: batches whose mean gradient makes one step.
        iterations: steps of the run; give this or epochs.
        epochs: passes over the training images.
        lr: learning rate for lr_batch images a step, scaled linearly to batch_size.
        lr_batch: images that lr is meant for; 0 takes lr as it is.
        schedule: course of the learning rate after warm-up, step, cosine, linear or constant.
        steps: when the rate is divided by ten, as iterations or, below 1, as fractions of the run.
        warmup: constant (the paper's), linear or none.
        warmup_iterations: length of the warm-up.
        warmup_factor: factor on the rate during, or at the beginning of, the warm-up.
        momentum: of SGD.
        weight_decay: of SGD.
        clip_norm: largest norm of the whole gradient; 0 leaves it alone.
        ema: share of the old average that a step keeps of the averaged weights, as 0.999; 0 for
            none.
        precision: fp32, bf16, or auto for bf16 where the device is fast at it; losses are always
            fp32.
        workers: processes that read images, per training process.
        device: cpu, cuda, or auto.
        seed: of everything random.
        log_every: iterations between lines of metrics.jsonl.
        checkpoint_every: iterations between checkpoints.
        evaluate_every: epochs between evaluations.
        val_loss: compute the losses on the evaluation split, too.
        best_metric: score of which the best model is kept.
        patience: evaluations without a better score before stopping early; 0 for never.
        tensorboard: write TensorBoard files, too (extra "track").
    """

    data: str = ""
    train_annotations: str | None = None
    train_images: str | None = None
    val_annotations: str | None = None
    val_images: str | None = None
    train_split: str = "train"
    val_split: str = "val"
    backbone: str = "detnet59"
    detector: str = "faster_rcnn_fpn"
    width: float = 1.0
    stride_in: Literal["1x1", "3x3"] = "1x1"
    norm: Literal["auto", "frozen", "batch", "sync"] = "auto"
    frozen: list[str] = field(default_factory=list)
    weights: str | None = None
    detector_options: dict[str, Any] = field(default_factory=dict)
    min_sizes: list[int] = field(default_factory=lambda: [800])
    max_size: int = 1333
    test_min_size: int | None = None
    flip: float = 0.5
    flip_vertical: float = 0.0
    color_jitter: float = 0.0
    aspect_grouping: bool = True
    repeat_threshold: float = 0.0
    skip_empty: bool = False
    batch_size: int = 16
    accumulate: int = 1
    iterations: int | None = None
    epochs: float | None = None
    lr: float = 0.02
    lr_batch: int = 16
    schedule: Literal["step", "cosine", "linear", "constant"] = "step"
    steps: list[float] = field(default_factory=lambda: [2 / 3, 8 / 9])
    warmup: Literal["constant", "linear", "none"] = "constant"
    warmup_iterations: int = 500
    warmup_factor: float = 0.3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip_norm: float = 0.0
    ema: float = 0.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    workers: int = 2
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0
    log_every: int = 10
    checkpoint_every: int = 250
    evaluate_every: float = 1.0
    val_loss: bool = True
    best_metric: str = "AP"
    patience: int = 0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.iterations is not None and self.epochs is not None:
            raise InputError("give iterations or epochs, not both")
        lengths = {"iterations": self.iterations, "epochs": self.epochs}
        counts = {
            "batch_size": self.batch_size,
            "accumulate": self.accumulate,
            "log_every": self.log_every,
            "checkpoint_every": self.checkpoint_every,
            "evaluate_every": self.evaluate_every,
            **{name: value for name, value in lengths.items() if value is not None},
        }
        for name, count in counts.items():
            if count <= 0:
                raise InputError(f"{name} must be positive, got {count}")
        if not self.min_sizes or min(self.min_sizes) < 1:
            raise InputError(
                f"min_sizes must be one or more positive numbers, got {self.min_sizes}"
            )
        for name in ("ema", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        for name in ("flip", "flip_vertical", "color_jitter"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        for name in _NOT_NEGATIVE:
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must not be negative, got {getattr(self, name)}")

    @property
    def length(self) -> dict[str, float]:
        """The run's length in the unit given; by default the paper's 180,000 iterations."""
        if self.epochs is not None:
            return {"epochs": self.epochs}
        return {"iterations": self.iterations or 180_000}


def option_help() -> dict[str, str]:
    """What each field of `TrainConfig` means, read from its docstring."""
    text = (TrainConfig.__doc__ or "").partition("Args:")[2]
    items = re.findall(r"^ {8}(\w+): (.+(?:\n {12}.+)*)", text, re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in items}


def presets() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    folder = Path(str(files("detnet.recipes") / "presets"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def make_config(source: str | None, changes: Mapping[str, Any]) -> TrainConfig:
    """Puts a run's settings together: the defaults, then a preset or file, then single changes.

    Args:
        source: a preset's name or a YAML file; None for the defaults alone.
        changes: field -> value; `detector_options` are merged, all else is replaced.

    Raises:
        InputError: an unknown preset or field (with the nearest), a value of the wrong kind.
    """
    values = _read(source) if source else {}
    for name in ("iterations", "epochs"):
        if name in changes:  # a length on the command line replaces the file's, in whatever unit
            values.pop("epochs" if name == "iterations" else "iterations", None)
    inherited = values.get("detector_options") or {}
    if changes.get("detector", values.get("detector")) != values.get("detector"):
        inherited = _fitting(inherited, str(changes["detector"]))
    merged = {**inherited, **changes.get("detector_options", {})}
    values = {**values, **changes, "detector_options": merged}
    return _typed(values, where=source or "options")


def _fitting(options: Mapping[str, Any], detector: str) -> dict[str, Any]:
    """Those of a file's options that another detector than the file's has, too."""
    from detnet.detectors import DETECTORS  # needs torch; only where a file's detector is changed
    from detnet.detectors.build import option_defaults

    if detector not in DETECTORS:
        raise InputError(unknown_name("detector", detector, DETECTORS))
    known = option_defaults(detector)
    return {name: value for name, value in options.items() if name in known}


def read_config(path: Path) -> TrainConfig:
    """Reads the settings that a run wrote into its folder."""
    return _typed(_load_yaml(path), where=str(path))


def dump_config(config: TrainConfig) -> str:
    """The settings as flat YAML, in the order of the fields."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)


def write_config(config: TrainConfig, path: Path) -> None:
    """Writes the settings with absolute paths, so that a run can be resumed from anywhere."""
    places = (
        "data",
        "train_annotations",
        "train_images",
        "val_annotations",
        "val_images",
        "weights",
    )
    absolute: dict[str, Any] = {
        name: str(Path(getattr(config, name)).resolve()) for name in places if getattr(config, name)
    }
    path.write_text(dump_config(replace(config, **absolute)), encoding="utf-8")


def _read(source: str) -> dict[str, Any]:
    known = presets()
    if source in known:
        return _load_yaml(known[source])
    if not Path(source).is_file():
        if source.endswith((".yaml", ".yml")):
            raise InputError(f"{source}: no such settings file")
        raise InputError(unknown_name("preset", source, known))
    return _load_yaml(Path(source))


def _load_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not YAML: {reason}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: no settings, but a {type(values).__name__}")
    return values


def _typed(values: Mapping[str, Any], *, where: str) -> TrainConfig:
    """Checks names and kinds; jsonargparse knows unions, lists and literals."""
    from jsonargparse import ArgumentError, ArgumentParser

    names = [entry.name for entry in fields(TrainConfig)]
    for name in values:
        if name not in names:
            raise InputError(f"{where}: {unknown_name('setting', name, names)}")
    lists = [entry.name for entry in fields(TrainConfig) if str(entry.type).startswith("list")]
    values = {
        name: [value] if name in lists and not isinstance(value, list | tuple) else value
        for name, value in values.items()
    }
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(TrainConfig, "run")
    try:
        checked = parser.parse_object({"run": values})
    except (ArgumentError, TypeError, ValueError) as error:
        raise InputError(f"{where}: {_mistake(str(error))}") from error
    return TrainConfig(**checked.run.as_dict())


def _mistake(message: str) -> str:
    """Says a wrong kind of value in one line."""
    text = " ".join(message.replace("run.", "").replace("a typing.Literal", "one of ").split())
    match = re.search(r'[Kk]ey "(\w+)"(.*)', text)
    return f"setting {match[1]}{match[2]}" if match else text
