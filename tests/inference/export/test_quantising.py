"""Which layers are quantised, which stay, and weights in half the bits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from detnet.inference.engines.openvino import keep_silent
from detnet.inference.export.quantising import (
    QuantisedLayers,
    _ignored_names,
    choose_layers,
    find_layers,
    halve_weights,
    quantise,
)


def network(path: Path) -> None:
    """images / 255 -> conv a -> relu -> conv b -> conv scores -> TopK; b -> conv c -> conv boxes"""
    generator = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["images"], ["numbers"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Div", ["numbers", "whole"], ["x"], name="divide"),
    ]
    weights = {"whole": np.array(255, np.float32), "k": np.array([4])}

    def conv(name: str, source: str, channels: tuple[int, int], scope: str) -> None:
        weights[f"w_{name}"] = generator.normal(0, 0.2, (*channels, 3, 3)).astype(np.float32)
        node = helper.make_node(
            "Conv", [source, f"w_{name}"], [name], name=f"conv_{name}", pads=[1] * 4
        )
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scope)
        nodes.append(node)

    conv("a", "x", (16, 3), "['', 'model', 'model.backbone.stages.c2.0.conv1', 'conv2d']")
    nodes.append(helper.make_node("Relu", ["a"], ["r"], name="relu"))
    conv("b", "r", (16, 16), "['', 'model', 'model.backbone.stages.c3.0.conv1', 'conv2d_1']")
    conv("scores", "b", (1, 16), "['', 'model', 'model.head.scores', 'conv2d_2']")
    conv("c", "b", (8, 16), "['', 'model', 'model.head.tower', 'conv2d_3']")
    conv("boxes", "c", (4, 8), "['', 'model', 'model.head.boxes', 'conv2d_4']")
    nodes.append(helper.make_node("TopK", ["scores", "k"], ["best", "at"], name="top"))
    inputs = [helper.make_tensor_value_info("images", TensorProto.UINT8, [1, 3, 16, 24])]
    outputs = [
        helper.make_tensor_value_info("best", TensorProto.FLOAT, [1, 1, 16, 4]),
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 4, 16, 24]),
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def test_last_layers_and_what_is_no_layer_stay(tmp_path: Path) -> None:
    network(tmp_path / "n.onnx")
    found = find_layers(tmp_path / "n.onnx")
    assert found.groups == {
        "backbone.c2": ("conv_a",),
        "backbone.c3": ("conv_b",),
        "head.tower": ("conv_c",),
    }
    assert set(found.ignored) == {"cast", "divide", "conv_scores", "conv_boxes", "top"}


LAYERS = QuantisedLayers({"a": ("1",), "b": ("2",), "c": ("3",)}, ())


def chosen(costs: dict[str, float], bound: float) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    asked: list[tuple[str, ...]] = []

    def measure(kept: Sequence[str]) -> float:
        asked.append(tuple(kept))
        return -sum(cost for name, cost in costs.items() if name not in kept)

    return choose_layers(LAYERS, measure, bound=bound, tell=lambda line: None), asked


def test_groups_that_cost_most_stay_in_higher_precision() -> None:
    costs = {"a": 0.001, "b": 0.02, "c": 0.004}
    assert chosen(costs, 0.03) == ((), [()])
    kept, asked = chosen(costs, 0.006)
    assert kept == ("b",) and asked == [(), ("a",), ("b",), ("c",)]
    kept, asked = chosen(costs, 0.002)
    assert kept == ("b", "c") and asked[-1] == ("b", "c")
    kept, asked = chosen(costs, 0.0)
    assert kept == ("b", "c") and len(asked) <= 2 * len(costs)


def test_weights_in_fp16_are_half_as_large(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    network(tmp_path / "n.onnx")
    halve_weights(tmp_path / "n.onnx", tmp_path / "h.onnx")
    halved = onnx.load(str(tmp_path / "h.onnx"))
    kinds = {each.name: each.data_type for each in halved.graph.initializer}
    assert kinds["w_b_fp16"] == TensorProto.FLOAT16  # 2304 numbers
    assert kinds["w_a"] == kinds["whole"] == TensorProto.FLOAT  # 432 and 1
    images = np.random.default_rng(1).integers(0, 256, (1, 3, 16, 24), dtype=np.uint8)
    first, other = (
        onnxruntime.InferenceSession(str(tmp_path / name)).run(None, {"images": images})
        for name in ("n.onnx", "h.onnx")
    )
    assert not np.array_equal(first[1], other[1])
    np.testing.assert_allclose(first[1], other[1], rtol=0.01, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_layers_in_int8_give_nearly_the_same(tmp_path: Path, suffix: str) -> None:
    keep_silent()
    import openvino

    network(tmp_path / "n.onnx")
    generator = np.random.default_rng(1)
    samples = [generator.integers(0, 256, (1, 3, 16, 24), dtype=np.uint8) for _ in range(8)]
    layers = find_layers(tmp_path / "n.onnx")
    target = tmp_path / f"q{suffix}"
    quantise(tmp_path / "n.onnx", target, samples, ignored=layers.ignored)
    exact, rough = (
        openvino.Core().compile_model(str(path), "CPU")({"images": samples[0]})["boxes"]
        for path in (tmp_path / "n.onnx", target)
    )
    assert not np.array_equal(exact, rough)
    assert np.abs(exact - rough).max() < 0.1 * np.abs(exact).max()
    kinds = {each.get_type_name() for each in openvino.Core().read_model(str(target)).get_ops()}
    assert "FakeQuantize" in kinds


def test_names_with_their_stage_before_them_are_found_in_openvino() -> None:
    class Operation:
        def __init__(self, name: str) -> None:
            self.get_friendly_name = lambda: name

    class Network:
        def get_ops(self) -> list[Operation]:
            names = (
                "heads/conv_1",
                "heads/conv_1/WithoutBiases",
                "heads/conv_12",
                "proposals/conv_1",
            )
            return [Operation(name) for name in names]

    found = _ignored_names(Network(), ["heads/conv_1"])
    assert found == ["heads/conv_1", "heads/conv_1/WithoutBiases"]
