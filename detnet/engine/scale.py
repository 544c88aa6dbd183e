"""Losses scaled up in fp16, whose smallest numbers are larger than many gradients."""

import torch
from torch import Tensor


class LossScale:
    """A factor on the loss that the device itself finds: no number of it is read by the host.

    It is halved where the gradient is not finite, of which no weight learns, and doubled after
    many steps without such. All factors are powers of two, so that nothing is rounded.

    Args:
        device: where the losses are.
        start: the first factor.
        patience: good steps in a row before it is doubled.

    Paper: Micikevicius et al. 2018, arXiv:1710.03740, Section 3.2.
    """

    def __init__(
        self, device: torch.device, *, start: float = 2.0**16, patience: int = 2000
    ) -> None:
        self.factor = torch.full((), start, device=device)
        self._good = torch.zeros((), device=device)
        self._patience = patience

    def remove(self, gradients: list[Tensor]) -> None:
        """Brings the gradients of a scaled loss back to their size, in place."""
        torch._foreach_mul_(gradients, 1 / self.factor)

    def update(self, skipped: Tensor) -> None:
        """Notes whether the step was skipped.

        Args:
            skipped: 1.0 or 0.0, on the device.
        """
        good = (self._good + 1) * (1 - skipped)
        grown = (good >= self._patience).float()
        self.factor.mul_((1 + grown) * (1 - skipped / 2))
        self._good.copy_(good * (1 - grown))

    def state(self) -> dict[str, Tensor]:
        """The tensors that it consists of, not copied."""
        return {"factor": self.factor, "good": self._good}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Puts `state` back."""
        for name, value in self.state().items():
            value.copy_(state[name])
