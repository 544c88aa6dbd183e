"""A network of a few nodes in an exported folder: what readers are tested on without a detector.

In each image it finds two objects of label 2, then 1. The first covers the upper left quarter, the
second the right half; the first is as sure as the image's mean is bright, the second half as sure.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from detnet.files import sha256_of
from detnet.inference.engines.openvino import keep_silent
from detnet.inference.engines.record import (
    LEAST,
    NETWORKS,
    RUNTIMES,
    VERSION,
    ExportRecord,
    ExportSource,
    ImageInput,
    Thresholds,
)

CATEGORIES = ({"id": 7, "name": "cat"}, {"id": 9, "name": "dog"})
IMAGES = ImageInput(
    "aspect", 48, 80, None, (128, 102, 76), 32, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), "rgb"
)


def tiny_network(
    path: Path, *, batch: int = 1, masks: bool = False, keypoints: bool = False
) -> None:
    """Writes the network as ONNX."""
    quarters = np.array([[0, 0, 0.5, 0.5], [0.5, 0, 1, 1]], np.float32)
    values = {
        "quarters": np.repeat(quarters[None], batch, 0),
        "order": np.array([3, 2, 3, 2]),  # of the shape: width, height, twice
        "share": np.array([1, 0.5], np.float32) / 255,
        "labels": np.repeat(np.array([[2, 1]]), batch, 0),
        "count": np.full(batch, 2),
        "axes": np.array([1, 2, 3]),
        "flat": np.array([batch, 1]),
    }
    if masks:
        ramp = np.linspace(0, 1, 28, dtype=np.float32)[None, None, None, :]
        values["masks"] = np.broadcast_to(ramp, (batch, 2, 28, 28)).copy()
    if keypoints:  # in the network's pixels
        points = np.array([[[1, 2], [3, 4]], [[30, 20], [40, 24]]], np.float32)
        values["keypoints"] = np.repeat(points[None], batch, 0)
        values["keypoint_scores"] = np.full((batch, 2, 2), 7, np.float32)
    nodes = [
        helper.make_node("Shape", ["images"], ["shape"]),
        helper.make_node("Gather", ["shape", "order"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["size"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["quarters", "size"], ["boxes"]),
        helper.make_node("Cast", ["images"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers", "axes"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "flat"], ["column"]),
        helper.make_node("Mul", ["column", "share"], ["scores"]),
    ]
    shapes: dict[str, Any] = {
        "boxes": (TensorProto.FLOAT, [batch, 2, 4]),
        "scores": (TensorProto.FLOAT, [batch, 2]),
        "labels": (TensorProto.INT64, [batch, 2]),
        "count": (TensorProto.INT64, [batch]),
    }
    if masks:
        shapes["masks"] = (TensorProto.FLOAT, [batch, 2, 28, 28])
    if keypoints:
        shapes["keypoints"] = (TensorProto.FLOAT, [batch, 2, 2, 2])
        shapes["keypoint_scores"] = (TensorProto.FLOAT, [batch, 2, 2])
    for name in ("labels", "count", "masks", "keypoints", "keypoint_scores"):
        if name in values:  # an output may not be a constant itself
            values[f"{name}_given"] = values.pop(name)
            nodes.append(helper.make_node("Identity", [f"{name}_given"], [name]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [batch, 3, "H", "W"])],
        [helper.make_tensor_value_info(name, *kind) for name, kind in shapes.items()],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def tiny_export(
    folder: Path,
    format: Any = "onnx",
    *,
    precision: Any = "fp32",
    batch: int = 1,
    masks: bool = False,
    keypoints: bool = False,
    images: ImageInput = IMAGES,
) -> Path:
    """Writes an exported folder with that network."""
    folder.mkdir(parents=True)
    network = folder / NETWORKS[format]
    tiny_network(network.with_suffix(".onnx"), batch=batch, masks=masks, keypoints=keypoints)
    if format == "openvino":
        keep_silent()
        import openvino

        source = network.with_suffix(".onnx")
        openvino.save_model(openvino.Core().read_model(source), network, compress_to_fp16=False)
        source.unlink()
    ExportRecord(
        version=VERSION,
        format=format,
        precision=precision,
        detector="faster_rcnn_fpn",
        backbone="resnet50",
        finds=("boxes", *["masks"] * masks, *["keypoints"] * keypoints),
        categories=CATEGORIES,
        images=images,
        thresholds=Thresholds(score=0.05, nms=0.5, detections=2),
        batch=batch,
        network=network.name,
        files={each.name: sha256_of(each) for each in sorted(folder.iterdir())},
        source=ExportSource("best.safetensors", "0" * 64),
        runtime={RUNTIMES[format]: LEAST[RUNTIMES[format]]},
        versions={},
        preprocessing=(),
        postprocessing=(),
    ).write(folder)
    return folder
