"""All networks of a space in one, with shared weights: a single path is taken at a time."""

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from detnet.backbones.base import Backbone
from detnet.backbones.spaces.space import Space


class Supernet(Backbone):
    """A backbone whose path is open: every gene's choices are there, `path` says which work.

    Switching costs nothing, since nothing is copied or rebuilt. What the path leaves out takes no
    part in the forward pass and so has no gradient.

    Args:
        space: the table.
        path: the first path to take; the first choice of every gene by default.

    Paper: Chen et al. 2019, arXiv:1903.10979, Section 3; Guo et al. 2019, arXiv:1904.00420.
    """

    def __init__(self, space: Space, path: Sequence[int] | None = None) -> None:
        super().__init__()
        self.space = space
        self._path = space.check([0] * len(space.genes) if path is None else path)

    @property
    def path(self) -> tuple[int, ...]:
        """The path that `forward` takes."""
        return self._path

    def take(self, path: Sequence[int]) -> None:
        """Takes another path from now on.

        Raises:
            InputError: it does not fit the space.
        """
        self._path = self.space.check(path)

    @abstractmethod
    def weights_of(self, path: Sequence[int]) -> dict[str, Tensor]:
        """The weights of one network: they fit `space.network(path)`, and are not copied."""

    def spread(self) -> None:
        """Gives every choice that is off the path the weights of the one on it, as far as they fit.

        A supernet whose first steps all went along one path begins from there, its choices nearly
        interchangeable. Where choices share their weights anyway there is nothing to do.
        """


def find_supernet(model: nn.Module) -> Supernet | None:
    """Finds the supernet within a classifier or detector, None where there is none."""
    return next((module for module in model.modules() if isinstance(module, Supernet)), None)


def renamed(state: dict[str, Tensor], places: dict[str, str]) -> dict[str, Tensor]:
    """Takes from `state` what lies under the keys of `places`, renamed to their values.

    Args:
        places: prefix here -> prefix there, without the dot behind.
    """
    found = {}
    for name, value in state.items():
        for here, there in places.items():
            if name.startswith(f"{here}."):
                found[there + name[len(here) :]] = value
    return found
