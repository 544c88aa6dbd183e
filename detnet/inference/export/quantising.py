"""Networks in fewer bits: weights in fp16, or layers in int8 where that costs little accuracy."""

import contextlib
import logging
import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detnet.errors import InputError
from detnet.inference.engines.openvino import keep_silent
from detnet.text import one_line

_HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What lies beyond these is another stage: proposals are chosen here, regions pooled.
_BORDERS = ("TopK", "NonMaxSuppression", "RoiAlign", "ScatterND", "ArgMax")
_SCOPES = "pkg.torch.onnx.name_scopes"
_SMALL = 1024  # weights of fewer numbers stay in fp32: biases, scales
_NO_TELEMETRY = "NNCF_CI"  # with it NNCF makes no object that could send anything
CALIBRATION_IMAGES = 128


@dataclass(frozen=True)
class QuantisedLayers:
    """Which layers of a network may be computed in int8.

    Args:
        groups: names of the graph's nodes by part of the detector, "backbone.c2", "rpn" …
        ignored: nodes that never may: decoding, suppression, and each stage's last layers.
    """

    groups: dict[str, tuple[str, ...]]
    ignored: tuple[str, ...]


def halve_weights(source: Path, target: Path) -> None:
    """Writes an ONNX network again with its large weights in fp16, cast up where they are used."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(source))
    wanted = {name for node in model.graph.node if node.op_type in _HEAVY for name in node.input}
    casts = []
    for weight in model.graph.initializer:
        if weight.name not in wanted or weight.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        if values.size < _SMALL or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name, half = weight.name, f"{weight.name}_fp16"
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), half))
        casts.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(target))


def find_layers(source: Path) -> QuantisedLayers:
    """Sorts the layers of an ONNX network by the part of the detector that they are of.

    A layer is a stage's last one where no other comes between it and the choice of boxes.

    Args:
        source: as `detnet.detectors.export` writes it, which notes each node's module.
    """
    import onnx

    nodes = list(onnx.load(str(source), load_external_data=False).graph.node)
    consumers: dict[str, list[int]] = defaultdict(list)
    makers: dict[str, int] = {}
    for index, node in enumerate(nodes):
        makers |= dict.fromkeys(node.output, index)
        for name in node.input:
            consumers[name].append(index)

    def leads_to_layers(index: int) -> bool:
        after = [each for name in nodes[index].output for each in consumers[name]]
        return any(_is_heavy(nodes[each]) or leads[each] for each in after)

    def comes_from_layers(index: int) -> bool:
        before = [makers[name] for name in nodes[index].input if name in makers]
        return any(_is_heavy(nodes[each]) or follows[each] for each in before)

    # Within a stage; the graph is in topological order, so what is asked for is known already.
    leads: dict[int, bool] = {}
    follows: dict[int, bool] = {}
    for index in reversed(range(len(nodes))):
        leads[index] = nodes[index].op_type not in _BORDERS and leads_to_layers(index)
    for index in range(len(nodes)):
        follows[index] = nodes[index].op_type not in _BORDERS and comes_from_layers(index)
    groups: dict[str, list[str]] = defaultdict(list)
    ignored = []
    for index, node in enumerate(nodes):
        if _is_heavy(node) and leads[index]:
            groups[_group(node)].append(node.name)
        elif not (leads[index] and follows[index]):
            ignored.append(node.name)
    return QuantisedLayers({name: tuple(own) for name, own in groups.items()}, tuple(ignored))


def _is_heavy(node: Any) -> bool:
    return node.op_type in _HEAVY


def _group(node: Any) -> str:
    """The part of the detector that a node is of, from the module that it was made of."""
    text = next((each.value for each in node.metadata_props if each.key == _SCOPES), "")
    modules = [part.strip(" '\"[]") for part in text.split(",")]
    path = (modules[-2] if len(modules) > 1 else "").split(".")
    path = [part for part in path if part not in ("", "model")]
    path = [part for part, before in zip(path, ["", *path], strict=False) if part != before]
    if "stages" in path:
        return ".".join(["backbone", *path[path.index("stages") + 1 :][:1]])
    return ".".join(path[:2]) or "other"


def quantise(
    source: Path,
    target: Path,
    samples: Sequence[np.ndarray],
    *,
    ignored: Sequence[str],
) -> None:
    """Writes a network with its layers in int8, calibrated on samples.

    Weights are held to 7 bits, for processors without VNNI add pairs of products in 16 bits.

    Args:
        source: the ONNX network in fp32.
        target: `.onnx`, or `.xml` for OpenVINO.
        samples: batches as the network takes them, (N, 3, H, W) uint8.
        ignored: names of nodes that stay as they are.

    Raises:
        InputError: NNCF cannot quantise it, with its reason.
    """
    with _silent():
        keep_silent()
        import nncf
        from nncf.quantization.advanced_parameters import (
            AdvancedQuantizationParameters,
            OverflowFix,
        )

        openvino = target.suffix == ".xml"
        network = _read(source, openvino=openvino)
        scope = _ignored_names(network, ignored) if openvino else list(ignored)
        try:
            quantised = nncf.quantize(
                network,
                nncf.Dataset(samples, lambda images: {"images": images}),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(samples),
                ignored_scope=nncf.IgnoredScope(names=scope, validate=False),
                advanced_parameters=AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE),
            )
        except (RuntimeError, ValueError, nncf.InternalError, nncf.ValidationError) as error:
            reason = one_line(error, 300)
            raise InputError(f"NNCF cannot quantise this network: {reason}") from error
        if openvino:
            keep_silent()
            import openvino as runtime

            runtime.save_model(quantised, target, compress_to_fp16=False)
        else:
            import onnx

            onnx.save(quantised, str(target))


def _read(source: Path, *, openvino: bool) -> Any:
    if openvino:
        keep_silent()
        import openvino as runtime

        return runtime.Core().read_model(str(source))
    import onnx

    return onnx.load(str(source))


def _ignored_names(network: Any, ignored: Sequence[str]) -> list[str]:
    """The names that OpenVINO gave to the nodes of an ONNX network, `NAME` or `NAME/PART`.

    NAME has a slash itself, behind its stage.
    """
    unwanted = set(ignored)
    names = [operation.get_friendly_name() for operation in network.get_ops()]
    return [name for name in names if not unwanted.isdisjoint((name, name.rpartition("/")[0]))]


def choose_layers(
    layers: QuantisedLayers,
    measure: Callable[[Sequence[str]], float],
    *,
    bound: float,
    tell: Callable[[str], None],
) -> tuple[str, ...]:
    """Finds which groups must stay in higher precision for accuracy to hold.

    First all are quantised. Where that costs too much, each group is left out alone, and then those
    that gave most are left out together, one more at a time, until it holds: at most twice as many
    measurements as there are groups.

    Args:
        measure: gives how much AP changes with these groups left out, a fraction.
        bound: how much lower it may be.

    Returns:
        the groups to be left out; none where all may be quantised.
    """
    whole = measure(())
    tell(f"all layers in int8: AP {100 * whole:+.2f}")
    if whole >= -bound or len(layers.groups) < 2:
        return ()
    alone = {}
    for name in layers.groups:
        alone[name] = measure((name,))
        tell(f"without {name}: AP {100 * alone[name]:+.2f}")
    order = sorted(alone, key=lambda name: -alone[name])
    for number in range(1, len(order)):
        chosen = tuple(order[:number])
        found = alone[order[0]] if number == 1 else measure(chosen)
        tell(f"without {', '.join(chosen)}: AP {100 * found:+.2f}")
        if found >= -bound:
            return chosen
    return tuple(order[:-1])


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Lets NNCF neither send nor print anything."""
    before = os.environ.get(_NO_TELEMETRY)
    os.environ[_NO_TELEMETRY] = "1"
    try:
        with warnings.catch_warnings(), open(os.devnull, "w") as nowhere:
            warnings.simplefilter("ignore")
            logging.getLogger("nncf").setLevel(logging.ERROR)
            with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                yield
    finally:
        if before is None:
            del os.environ[_NO_TELEMETRY]
        else:
            os.environ[_NO_TELEMETRY] = before
