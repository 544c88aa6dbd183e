"""The settings that every kind of training has; each kind adds its own. Needs no torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from detnet.engine.launch import image_readers
from detnet.errors import InputError
from detnet.kinds import LARGEST, require_not_negative, require_positive, require_shares
from detnet.training.settings import Settings

Run = TypeVar("Run", bound="RunConfig")
PAPERS_STRIDE: Literal["1x1"] = "1x1"
_POSITIVE = (
    *("batch_size", "accumulate", "log_every", "checkpoint_every", "evaluate_every"),
    *("iterations", "epochs", "threads"),
)
_NOT_NEGATIVE = (
    *("lr", "lr_batch", "weight_decay", "norm_weight_decay", "bias_weight_decay"),
    *("bias_lr_factor", "clip_norm", "warmup_iterations", "warmup_factor"),
    *("patience", "workers", "seed"),
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
        norm_settled: share of the run's steps after which batch norms go by their running
            statistics, as they do at evaluation; 1 for never.
        clip_norm: largest norm of the whole gradient; 0 leaves it alone.
        ema: share of the old average that a step keeps of the averaged weights, as 0.999; 0 for
            none.
        precision: fp32, bf16, fp16 (for GPUs without bf16; the loss is scaled), or auto for bf16
            where the device is fast at it; losses are always fp32.
        tf32: let a GPU round the factors of fp32 products to 10 bits, which is faster; what must be
            precise in bf16, such as the scores of anchors, is then rounded, too.
        compile: compile backbone and pyramid by torch.compile, which takes minutes at first and
            needs a C++ compiler; sums are rounded otherwise.
        workers: processes that read images, per training process; by default its share of this
            machine's cores, at most 8.
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

    # Settings that follow another one unless they are given, and what is due by it.
    followers: ClassVar[dict[str, tuple[str, Callable[[Any], Any]]]] = {
        "norm_weight_decay": ("weight_decay", lambda decay: decay),
        "bias_weight_decay": ("weight_decay", lambda decay: decay),
    }
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
    norm_settled: float = 1.0
    clip_norm: float = 0.0
    ema: float = 0.0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    tf32: bool = False
    compile: bool = False
    workers: int = field(default_factory=image_readers)
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
        require_positive(self, *_POSITIVE)
        for name in ("ema", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if self.norm_momentum is not None and not 0 < self.norm_momentum <= 1:
            raise InputError(f"norm_momentum must lie in (0, 1], got {self.norm_momentum}")
        if not all(0 < step < float("inf") for step in self.steps):
            raise InputError(f"steps must be positive and finite, got {self.steps}")
        require_shares(self, "flip", "color_jitter", "norm_settled")
        if self.seed > LARGEST:
            raise InputError(f"seed must be at most {LARGEST}, got {self.seed}")
        require_not_negative(self, *_NOT_NEGATIVE)

    @classmethod
    def fitting(cls, values: Mapping[str, Any], changes: Mapping[str, Any]) -> Mapping[str, Any]:
        """A file's settings without those that followed one which is changed."""
        known = [(n, *how) for n, how in cls.followers.items() if how[0] in changes]
        led = [name for name, other, due in known if values.get(name) == due(values.get(other))]
        return {name: value for name, value in values.items() if name not in led}

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
