"""The names of DetNAS's released networks (megvii-model/DetNAS and ShuffleNet-Series)."""

import re
from collections.abc import Mapping

from torch import Tensor

from detnet.backbones.weights.layout import RAW_BGR, Layout, State
from detnet.errors import InputError

_SUPERNET = re.compile(r"features\.\d+\.\d+\.")
# features.5.conv.1.interstellar2b_shufflenet_7x7_branch2b_s_bn.weight: block b of stage 2, unit 1,
# the norm after its depthwise ("s" for spatial) convolution.
_THEIRS = re.compile(
    r"features\.\d+\.(?:conv\.(?P<unit>\d)|proj_conv)\.(?P<kind>interstellar|bn)"
    r"(?P<stage>\d)(?P<block>[a-z])_(?:\w+_branch2[abc]|proj)(?P<layer>_s_bn|_s|)\.(?P<what>\w+)"
)
_OURS = re.compile(
    r"stages\.c(?P<stage>\d)\.(?P<block>\d+)\.(?:main\.(?P<unit>\d)|side)\."
    r"(?P<layer>depthwise|depthwise_bn|pointwise|pointwise_bn)\.(?P<what>\w+)"
)
_LAYERS = {
    ("interstellar", "_s"): "depthwise",
    ("interstellar", "_s_bn"): "depthwise_bn",
    ("interstellar", ""): "pointwise",
    ("bn", ""): "pointwise_bn",
}
_THEIR_LAYERS = {ours: theirs for theirs, ours in _LAYERS.items()}
_FIXED = {"first_conv.": "stem.", "last_conv.": "tail.", "fc.fc.": "fc."}


def from_detnas(state: Mapping[str, Tensor]) -> State:
    """Renames a released network's weights to ours.

    Raises:
        InputError: it is a supernet, whose channel shuffle is another.
    """
    if any(_SUPERNET.match(name) for name in state):
        raise InputError(
            "holds DetNAS's supernet, whose channels are shuffled in another way than its released "
            "networks'; only those are read"
        )
    return {_our_name(name): value for name, value in state.items()}


def to_detnas(state: Mapping[str, Tensor]) -> State:
    """Renames the weights of one of our DetNASNets to the release's names.

    Raises:
        InputError: it is a network of other blocks.
    """
    if not any(name.startswith("stages.c2.0.main.") for name in state):
        raise InputError("DetNAS has networks of its own blocks only")
    first = _first_places(state)
    renamed = {}
    for name, value in state.items():
        if match := _OURS.fullmatch(name):
            name = _their_name(match, first, _choice(state, match))
        else:
            for theirs, ours in _FIXED.items():
                if name.startswith(ours):
                    name = theirs + name.removeprefix(ours)
                    break
        renamed[name] = value
    return renamed


def _our_name(name: str) -> str:
    if match := _THEIRS.fullmatch(name):
        layer = _LAYERS.get((match["kind"], match["layer"]))
        if layer:
            block = ord(match["block"]) - ord("a")
            branch = "side" if match["unit"] is None else f"main.{match['unit']}"
            return f"stages.c{int(match['stage']) + 1}.{block}.{branch}.{layer}.{match['what']}"
    for theirs, ours in _FIXED.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _their_name(match: re.Match[str], first: Mapping[str, int], choice: str) -> str:
    stage, block = match["stage"], int(match["block"])
    kind, layer = _THEIR_LAYERS[match["layer"]]
    place = f"{int(stage) - 1}{chr(ord('a') + block)}"
    number = first[stage] + block
    if match["unit"] is None:
        return f"features.{number}.proj_conv.{kind}{place}_proj{layer}.{match['what']}"
    branch = f"{choice}_branch2{'abc'[int(match['unit'])]}"
    return f"features.{number}.conv.{match['unit']}.{kind}{place}_{branch}{layer}.{match['what']}"


def _choice(state: Mapping[str, Tensor], match: re.Match[str]) -> str:
    """The release's name for the kind of a block, by its depthwise convolutions."""
    units = f"stages.c{match['stage']}.{match['block']}.main"
    if f"{units}.0.depthwise.weight" in state:
        return "xception_3x3"
    side = state[f"{units}.1.depthwise.weight"].shape[-1]
    return f"shufflenet_{side}x{side}"


def _first_places(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Number of the first block of each stage, counted through the network."""
    blocks = {(m["stage"], int(m["block"])) for m in map(_OURS.fullmatch, state) if m}
    first, count = {}, 0
    for stage in sorted({stage for stage, _ in blocks}):
        first[stage] = count
        count += sum(1 for other, _ in blocks if other == stage)
    return first


LAYOUT = Layout(
    name="detnas",
    title="DetNAS's released network",
    marker="first_conv.conv.weight",
    to_ours=from_detnas,
    from_ours=to_detnas,
    options=RAW_BGR,
)
