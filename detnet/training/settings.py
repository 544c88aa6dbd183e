"""Settings of any kind: put together from defaults, a preset or file and options, read, written.

A kind is a frozen dataclass. Nothing here imports torch: `detnet train --help` answers at once.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import yaml

from detnet.errors import InputError
from detnet.files import read_yaml, write_text
from detnet.kinds import of_kind
from detnet.plugins import load_plugins
from detnet.tables import unknown_name

HUB = "hub:"  # begins the name of weights on a hub
SHA256 = "#sha256="  # stands behind a path or name, with what the file must be
_TABLES = ("space",)  # settings that hold a whole table, which is another one where it changes
_LENGTHS = ("iterations", "epochs")


@dataclass(frozen=True)
class Settings:
    """What settings of every kind say.

    Args:
        preset: that they were begun from; "" for none.
        departures: settings that were given otherwise than the preset has them.
        plugins: modules imported before anything else, which register names of the user's own.
    """

    preset_folder: ClassVar[str] = ""  # of those that come with the package
    preset: str = ""
    departures: dict[str, Any] = field(default_factory=dict)
    plugins: list[str] = field(default_factory=list)

    @classmethod
    def fitting(cls, values: Mapping[str, Any], changes: Mapping[str, Any]) -> Mapping[str, Any]:
        """A file's settings without those that lose their meaning by single changes."""
        return values

    def places(self) -> tuple[str, ...]:
        """The settings that are paths."""
        return ()


Config = TypeVar("Config", bound=Settings)

# What an option of its own on the command line, or none, stands for.
RECORDED = tuple(entry.name for entry in fields(Settings))


def option_help(kind: type[Settings]) -> dict[str, str]:
    """What each field means, read from the docstrings of the class and its bases."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        text = (base.__doc__ or "").partition("Args:")[2].partition("Raises:")[0]
        items = re.findall(r"^ {8}(\w+): (.+(?:\n {12}.+)*)", text, re.MULTILINE)
        found |= {name: " ".join(words.split()) for name, words in items}
    return found


def presets(folder: str = "") -> dict[str, Path]:
    """The recipes that come with the package, by name.

    Args:
        folder: of `presets/`, one for each kind of settings; detection's are at the top.
    """
    place = Path(str(files("detnet.training") / "presets")) / folder
    return {path.stem: path for path in sorted(place.glob("*.yaml"))}


def read_source(source: str, known: Mapping[str, Path]) -> dict[str, Any]:
    """Reads a preset by its name, or a YAML file.

    Raises:
        InputError: there is none, or it holds no settings.
    """
    if source in known:
        return read_yaml(known[source])
    if not Path(source).is_file():
        if source.endswith((".yaml", ".yml")):
            raise InputError(f"{source}: no such settings file")
        raise InputError(unknown_name("preset", source, known))
    return read_yaml(Path(source))


def make(kind: type[Config], source: str | None, changes: Mapping[str, Any]) -> Config:
    """Puts settings together: the defaults, then a preset or file, then single changes.

    Args:
        source: a preset's name or a YAML file; None for the defaults alone.
        changes: field -> value; settings in groups are merged one by one, all else is replaced.

    Raises:
        InputError: an unknown preset or field (with the nearest), a value of the wrong kind.
    """
    known, where = presets(kind.preset_folder), source or "options"
    values = read_source(source, known) if source else {}
    if of_kind(plugins := values.get("plugins", []), list[str]):
        load_plugins(plugins)
    values = {**kind.fitting(values, changes)}
    config = typed(kind, combine(values, changes), where=where)
    preset = source if source in known else config.preset
    own = [name for name in changes if name not in (*RECORDED, *config.places())]
    if not preset or not own:
        return replace(config, preset=preset)
    before = typed(kind, values, where=where)
    changed = {name: (getattr(before, name), getattr(config, name)) for name in own}
    departures = combine(config.departures, _different(changed))
    return replace(config, preset=preset, departures=departures)


def combine(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A file's settings with single changes, those of its groups one by one.

    A length replaces the file's, in whatever unit; plugins are added to the file's.
    """
    dropped = [name for name in _LENGTHS if any(other in changes for other in _LENGTHS)]
    found = {name: value for name, value in values.items() if name not in dropped}
    for name, change in changes.items():
        old = values.get(name)
        if name == "plugins":
            found[name] = [*dict.fromkeys([*(old or ()), *change])]
        elif isinstance(change, Mapping) and isinstance(old, Mapping) and name not in _TABLES:
            found[name] = combine(old, change)
        else:
            found[name] = change
    return found


def typed(kind: type[Config], values: Mapping[str, Any], *, where: str) -> Config:
    """Checks names and kinds of settings; jsonargparse knows unions, lists and literals.

    Raises:
        InputError: an unknown setting (with the nearest), a value of the wrong kind.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    names = [entry.name for entry in fields(kind)]
    for name in values:
        if name not in names:
            raise InputError(f"{where}: {unknown_name('setting', name, names)}")
    lists = [entry.name for entry in fields(kind) if str(entry.type).startswith("list")]
    values = {
        name: [value] if name in lists and not isinstance(value, list | tuple) else value
        for name, value in values.items()
    }
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "run")
    try:
        checked = parser.parse_object({"run": values})
    except (ArgumentError, TypeError, ValueError) as error:
        raise InputError(f"{where}: {_mistake(str(error))}") from error
    return kind(**checked.run.as_dict())


def read_config(kind: type[Config], path: Path) -> Config:
    """Reads the settings that a run wrote into its folder.

    Raises:
        InputError: not settings, or those of another kind of run.
    """
    values = read_yaml(path)
    known = [entry.name for entry in fields(kind)]
    strange = [name for name in values if name not in known]
    if strange:
        raise InputError(
            f"{path}: the settings of another kind of run ({strange[0]!r}); detectors are trained "
            "by `detnet train`, classifiers by `detnet pretrain`, searches run by `detnet search`"
        )
    return typed(kind, values, where=str(path))


def dump_config(config: Settings) -> str:
    """The settings as YAML, in the order of the fields."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)


def write_config(config: Settings, path: Path) -> None:
    """Writes the settings with absolute paths, so that a run can be resumed from anywhere."""
    write_text(path, dump_config(absolute(config)))


def absolute(config: Config) -> Config:
    """The settings with absolute paths; a sha256 behind one is kept, a name on a hub is none."""
    found: dict[str, Any] = {}
    for name in config.places():
        text = getattr(config, name)
        if text and not text.startswith(HUB):
            path, mark, digest = text.partition(SHA256)
            found[name] = f"{Path(path).resolve()}{mark}{digest}"
    return replace(config, **found)


def _different(pairs: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
    """What became of each setting that is another one than before, in groups one by one."""
    found = {}
    for name, (before, after) in pairs.items():
        if isinstance(before, Mapping) and isinstance(after, Mapping) and name not in _TABLES:
            after = _different({key: (before.get(key), value) for key, value in after.items()})
            before = {}
        if before != after:
            found[name] = after
    return found


def _mistake(message: str) -> str:
    """Says a wrong kind of value in one line."""
    text = " ".join(message.replace("run.", "").replace("a typing.Literal", "one of ").split())
    match = re.search(r'[Kk]ey "(\w+)"(.*)', text)
    return f"setting {match[1]}{match[2]}" if match else text


Run = TypeVar("Run", bound="RunConfig")

PAPERS_STRIDE: Literal["1x1"] = "1x1"

_NOT_NEGATIVE = (
    "lr",
    "lr_batch",
    "weight_decay",
    "norm_weight_decay",
    "bias_weight_decay",
    "bias_lr_factor",
    "clip_norm",
    "warmup_iterations",
    "warmup_factor",
    "patience",
    "workers",
    "seed",
)


@dataclass(frozen=True)
class RunConfig(Settings):
    """What every run depends on; each kind of run adds its own and sets its recipe's values.

    Args:
        data: data set folder.
        train_split: split to train on.
        val_split: split to evaluate on; "none" for no evaluation.
        backbone: name of a backbone.
        backbone_options: of a backbone that has any beyond width, stride_in and norm: the space
            and path of "searched", the space of "supernet".
        width: factor on all channel counts, of pyramid and heads too.
        stride_in: convolution that carries a block's stride, 1x1 (the papers') or 3x3
            (torchvision's); auto is that of the weights' network, 1x1 from scratch.
        weights: what to begin from, a file, a run folder, or hub:OWNER/NAME, with #sha256=HEX at
            the end to make sure of it; class layers are left out where the classes differ.
        flip: probability of a left-right mirror image.
        color_jitter: strength of brightness, contrast and saturation changes, 0 to 1.
        batch_size: images per step, of all processes and accumulated batches together.
        accumulate: batches whose mean gradient makes one step.
        iterations: steps of the run; give this or epochs.
        epochs: passes over the training images.
        lr: learning rate for lr_batch images a step, scaled linearly to batch_size.
        lr_batch: images that lr is meant for; 0 takes lr as it is.
        schedule: course of the learning rate after warm-up, step, cosine, linear or constant.
        steps: when the rate is divided by ten, as iterations or, below 1, as fractions of the run.
        warmup: constant (DetNet's paper's), linear or none.
        warmup_iterations: length of the warm-up.
        warmup_factor: factor on the rate during, or at the beginning of, the warm-up.
        momentum: of SGD.
        weight_decay: of SGD.
        norm_weight_decay: of the normalisation layers' scales and shifts; weight_decay by default.
        bias_weight_decay: of the other biases; weight_decay by default.
        bias_lr_factor: the other biases' learning rate over lr; Detectron's recipes use 2.
        norm_shift: whether the normalisation layers' shifts have the rate and decay of their
            scales, norm, or those of the other biases, bias, as in DetNAS's release.
        norm_momentum: share of a new batch in the batch norms' running statistics; by default the
            layers' own, 0.1.
        clip_norm: largest norm of the whole gradient; 0 leaves it alone.
        ema: share of the old average that a step keeps of the averaged weights, as 0.999; 0 for
            none.
        precision: fp32, bf16, or auto for bf16 where the device is fast at it; losses are always
            fp32.
        workers: processes that read images, per training process.
        threads: of the processor in each training process; found when the run begins, and kept when
            it is resumed, since other numbers add up in another order.
        device: cpu, cuda, or auto.
        seed: of everything random.
        log_every: iterations between lines of metrics.jsonl.
        checkpoint_every: iterations between checkpoints.
        evaluate_every: epochs between evaluations.
        best_metric: score of which the best model is kept.
        patience: evaluations without a better score before stopping early; 0 for never.
        tensorboard: write TensorBoard files, too (extra "track").

    Raises:
        InputError: a setting is out of its range, or iterations and epochs are both given.
    """

    data: str = ""
    train_split: str = "train"
    val_split: str = "val"
    backbone: str = "detnet59"
    backbone_options: dict[str, Any] = field(default_factory=dict)
    width: float = 1.0
    stride_in: Literal["auto", "1x1", "3x3"] = "auto"
    weights: str | None = None
    flip: float = 0.5
    color_jitter: float = 0.0
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
    norm_weight_decay: float | None = None
    bias_weight_decay: float | None = None
    bias_lr_factor: float = 1.0
    norm_shift: Literal["norm", "bias"] = "norm"
    norm_momentum: float | None = None
    clip_norm: float = 0.0
    ema: float = 0.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    workers: int = 2
    threads: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0
    log_every: int = 10
    checkpoint_every: int = 250
    evaluate_every: float = 1.0
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
            **({} if self.threads is None else {"threads": self.threads}),
        }
        for name, count in counts.items():
            if count <= 0:
                raise InputError(f"{name} must be positive, got {count}")
        for name in ("ema", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if self.norm_momentum is not None and not 0 < self.norm_momentum <= 1:
            raise InputError(f"norm_momentum must lie in (0, 1], got {self.norm_momentum}")
        self.check_shares("flip", "color_jitter")
        self.check_not_negative(*_NOT_NEGATIVE)

    @property
    def length(self) -> dict[str, float]:
        """The run's length in the unit given; by default the recipe's."""
        given = {"epochs": self.epochs, "iterations": self.iterations}
        found = {name: value for name, value in given.items() if value is not None}
        return found or self.default_length()

    @property
    def stride_place(self) -> Literal["1x1", "3x3"]:
        """`stride_in` where no weights ask for another: the papers'."""
        return PAPERS_STRIDE if self.stride_in == "auto" else self.stride_in

    def batch_of(self, processes: int) -> int:
        """Images of one batch of one of several processes.

        Raises:
            InputError: the batch cannot be divided.
        """
        parts = processes * self.accumulate
        if self.batch_size % parts:
            raise InputError(
                f"batch_size {self.batch_size} cannot be divided by {processes} processes × "
                f"{self.accumulate} accumulated batches"
            )
        return self.batch_size // parts

    def default_length(self) -> dict[str, float]:
        """The recipe's length."""
        return {"epochs": 1}

    def places(self) -> tuple[str, ...]:
        """The settings that are paths."""
        return ("data", "weights")

    def check_shares(self, *names: str) -> None:
        """Refuses shares that are none.

        Raises:
            InputError: one does not lie in [0, 1].
        """
        for name in names:
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must lie in [0, 1], got {getattr(self, name)}")

    def check_not_negative(self, *names: str) -> None:
        """Refuses negative numbers.

        Raises:
            InputError: one is negative.
        """
        for name in names:
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise InputError(f"{name} must not be negative, got {value}")
