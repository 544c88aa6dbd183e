"""What it takes to read one project's weights and to write them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from detnet.backbones import PIXEL_MEAN, PIXEL_STD

State = dict[str, Tensor]

# What a network's weights were trained on: as in a detector's options.
IMAGE_OPTIONS = ("pixel_mean", "pixel_std", "channel_order")
IMAGENET_RGB: dict[str, Any] = {
    "pixel_mean": PIXEL_MEAN,
    "pixel_std": PIXEL_STD,
    "channel_order": "rgb",
}
_BYTE = 1 / 255
CAFFE_BGR: dict[str, Any] = {  # values 0 … 255 less these means
    "pixel_mean": (102.9801 * _BYTE, 115.9465 * _BYTE, 122.7717 * _BYTE),
    "pixel_std": (_BYTE, _BYTE, _BYTE),
    "channel_order": "bgr",
}
RAW_BGR: dict[str, Any] = {  # values 0 … 255 as they are
    "pixel_mean": (0.0, 0.0, 0.0),
    "pixel_std": (_BYTE, _BYTE, _BYTE),
    "channel_order": "bgr",
}


@dataclass(frozen=True)
class Layout:
    """One project's names for the weights of a network that we have, too.

    Args:
        name: by which it is asked for.
        title: whose it is, for messages.
        marker: a name that every file of this layout has, perhaps behind a prefix as "module.".
        to_ours: renames a state whose prefix is off; backbone names as `stem.conv.weight`, the
            classifier's as `fc.weight`. What it does not know keeps its name.
        from_ours: the inverse; raises InputError for a network that the project does not have.
        options: what its networks are built with and trained on, as a detector's options;
            `stride_in` is missing where it has no meaning.
    """

    name: str
    title: str
    marker: str
    to_ours: Callable[[Mapping[str, Tensor]], State]
    from_ours: Callable[[Mapping[str, Tensor]], State]
    options: Mapping[str, Any] = field(default_factory=dict)

    def prefix(self, state: Mapping[str, Tensor]) -> str | None:
        """What stands before this layout's names in a state; None where it is another layout."""
        for name in state:
            if name == self.marker or name.endswith(f".{self.marker}"):
                return name.removesuffix(self.marker)
        return None


def is_counter(name: str) -> bool:
    """Whether an entry only counts batches, which no evaluation needs."""
    return name.endswith("num_batches_tracked")
