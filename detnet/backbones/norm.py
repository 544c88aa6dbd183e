"""The normalisation a backbone is built with: frozen, plain or synchronised batch norm."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

from detnet.backbones.sync import SyncBatchNorm
from detnet.errors import InputError

NormKind = Literal["frozen", "batch", "sync"]


def make_norm(kind: NormKind) -> Callable[[int], nn.Module]:
    """Gives what builds the normalisation of a layer from its number of channels.

    Args:
        kind: "frozen" keeps statistics and scale as loaded, for fine-tuning with few images per
            process; "batch" normalises each process's batch by itself; "sync" normalises over the
            batches of all processes, for training from scratch.

    Raises:
        InputError: `kind` is none of these.
    """
    layers: dict[str, Callable[[int], nn.Module]] = {
        "frozen": FrozenNorm,
        "batch": nn.BatchNorm2d,
        "sync": SyncBatchNorm,
    }
    if kind not in layers:
        raise InputError(f"norm must be one of {', '.join(layers)}, got {kind!r}")
    return layers[kind]


def set_momentum(model: nn.Module, momentum: float) -> None:
    """Sets the share of a new batch in the running statistics of all batch norms of a model.

    Args:
        momentum: in (0, 1]; torch's layers begin with 0.1. Frozen norms have none.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = momentum


class FrozenNorm(FrozenBatchNorm2d):
    """torchvision's frozen batch norm, which keeps half-precision input in half precision.

    torchvision's own multiplies by fp32 scales, so that under autocast every layer after it would
    get fp32 and half of the memory traffic saved would be lost.
    """

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )
