"""The optimizer, the learning rate's course and the moving average of the weights."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from detnet.kinds import require_choice

ScheduleKind = Literal["step", "cosine", "linear", "constant"]
WarmupKind = Literal["constant", "linear", "none"]
NormShift = Literal["norm", "bias"]

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


def sgd(
    model: nn.Module,
    *,
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    norm_weight_decay: float | None = None,
    bias_weight_decay: float | None = None,
    bias_lr_factor: float = 1.0,
    norm_shift: NormShift = "norm",
    fused: bool = False,
) -> torch.optim.SGD:
    """Stochastic gradient descent on what the model has to train.

    Args:
        norm_weight_decay: for scale and shift of normalisation layers; None: as the weights.
        bias_weight_decay: for the other biases; None: as the weights.
        bias_lr_factor: the other biases' learning rate over `lr`; Detectron's recipes use 2.
        norm_shift: "norm" gives a normalisation layer's shift the rate and decay of its scale,
            "bias" those of the other biases, as recipes have it that go by a parameter's name.
        fused: takes the step in one launch and obeys `found_inf`, for accelerators; rounds
            otherwise than the plain one.

    Raises:
        ValueError: everything is frozen, or `norm_shift` is none of these.
    """
    require_choice("norm_shift", norm_shift, get_args(NormShift))
    norm_decay = weight_decay if norm_weight_decay is None else norm_weight_decay
    bias_decay = weight_decay if bias_weight_decay is None else bias_weight_decay
    settings = {
        "weight": (lr, weight_decay),
        "norm": (lr, norm_decay),
        "bias": (lr * bias_lr_factor, bias_decay),
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for kind, parameter in _trained(model, norm_shift):
        groups.setdefault(settings[kind], []).append(parameter)
    if not groups:
        raise ValueError("the model has nothing to train: all its parameters are frozen")
    return torch.optim.SGD(
        [
            {"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ],
        lr=lr,
        momentum=momentum,
        fused=fused or None,  # None leaves the choice among the plain ones to torch
    )


def _trained(model: nn.Module, norm_shift: NormShift) -> Iterator[tuple[str, nn.Parameter]]:
    """Each parameter not frozen, once, as "weight", "norm" or "bias", in the model's order."""
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            norm = isinstance(module, _NORMS)
            if name == "bias" and (not norm or norm_shift == "bias"):
                yield "bias", parameter
            else:
                yield ("norm" if norm else "weight"), parameter


@dataclass(frozen=True)
class Schedule:
    """The learning rate's course over a run, as a factor of its base value.

    The defaults are the paper's: a constant 0.3 for the first 500 iterations, then steps.

    Args:
        iterations: length of the run, where "cosine" and "linear" reach zero.
        kind: the course; warm-up multiplies it.
        steps: iterations from which on the rate is smaller by `gamma`, ascending; for "step" only.
        warmup_factor: of the whole warm-up if that is "constant", of its beginning if "linear".

    Raises:
        ValueError: a number is out of range, or a name unknown.

    Paper: Li et al. 2018, arXiv:1804.06215, Section 4.1.
    """

    iterations: int
    kind: ScheduleKind = "step"
    steps: tuple[int, ...] = ()
    gamma: float = 0.1
    warmup_iterations: int = 500
    warmup: WarmupKind = "constant"
    warmup_factor: float = 0.3

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, get_args(ScheduleKind))
        require_choice("warmup", self.warmup, get_args(WarmupKind))
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {self.iterations}")
        if list(self.steps) != sorted(set(self.steps)):
            raise ValueError(f"steps must ascend, got {self.steps}")
        if self.warmup_iterations < 0:
            raise ValueError(f"warmup_iterations must not be negative: {self.warmup_iterations}")

    def factor(self, iteration: int) -> float:
        """The factor of the step taken after `iteration` others."""
        return self._warmup(iteration) * self._course(iteration)

    def _warmup(self, iteration: int) -> float:
        if self.warmup == "none" or iteration >= self.warmup_iterations:
            return 1.0
        if self.warmup == "constant":
            return self.warmup_factor
        done = iteration / self.warmup_iterations
        return self.warmup_factor + (1 - self.warmup_factor) * done

    def _course(self, iteration: int) -> float:
        if self.kind == "step":
            return self.gamma ** sum(iteration >= step for step in self.steps)
        done = min(iteration / self.iterations, 1.0)
        if self.kind == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        return 1 - done if self.kind == "linear" else 1.0


class Ema:
    """A moving average of a model's weights and of its floating-point buffers.

    The average looks back over few steps at first, min(decay, (1 + n) / (10 + n)) after n of them,
    so that a short run does not carry its first random weights to the end.

    Args:
        model: the bare model, not its data-parallel wrapper.
        decay: share of the old average that a step keeps, in [0, 1).

    Raises:
        ValueError: the decay does not lie in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self.decay = decay
        self.updates = 0
        self._model = model
        self._average = {name: value.clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, bad: Tensor | None = None) -> None:
        """Takes the model's present weights in.

        Args:
            bad: 1.0 on the device where the average is to stay as it is, else 0.0.
        """
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for name, value in self._model.state_dict().items():
            if value.is_floating_point():
                averages.append(self._average[name])
                values.append(value)
            else:
                self._average[name].copy_(value)
        if bad is None:
            torch._foreach_lerp_(averages, values, 1 - decay)
            return
        changes = torch._foreach_sub(values, averages)
        torch._foreach_mul_(changes, (1 - decay) * (1 - bad))
        torch._foreach_add_(averages, changes)

    def buffers(self) -> list[Tensor]:
        """The averages of the model's buffers that are saved, not copied."""
        return [self._average[n] for n, _ in self._model.named_buffers() if n in self._average]

    @contextmanager
    def applied(self) -> Iterator[nn.Module]:
        """Lends the model with the averaged weights in it; its own return at the end."""
        own = {name: value.clone() for name, value in self._model.state_dict().items()}
        self._model.load_state_dict(self._average)
        try:
            yield self._model
        finally:
            self._model.load_state_dict(own)

    def model_state(self) -> dict[str, Tensor]:
        """The averaged weights under the model's own names, not copied."""
        return dict(self._average)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "average": self.model_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts the averaged weights back.

        Raises:
            ValueError: the averaged weights are another model's.
        """
        average = state["average"]
        if average.keys() != self._average.keys():
            odd = sorted(average.keys() ^ self._average.keys())
            raise ValueError(f"the averaged weights are another model's: {', '.join(odd[:3])} …")
        self.updates = state["updates"]
        for name, value in average.items():
            self._average[name].copy_(value)
