"""Our own names, as in a state dict that was saved alone."""

from collections.abc import Mapping

from torch import Tensor

from detnet.backbones.weights.layout import Layout, State


def _same(state: Mapping[str, Tensor]) -> State:
    return dict(state)


LAYOUT = Layout(
    name="detnet",
    title="detnet's own",
    anchor="stem.conv.weight",
    to_ours=_same,
    from_ours=_same,
)
