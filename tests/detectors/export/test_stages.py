"""Each node of an exported graph is named by the stage that it belongs to."""

from collections import defaultdict
from pathlib import Path

import pytest

from detnet.detectors import create
from detnet.detectors.export.stages import STAGES
from detnet.detectors.export.to_onnx import write_onnx

onnx = pytest.importorskip("onnx", reason="needs the export extra")
pytest.importorskip("onnxscript", reason="needs the export extra")


@pytest.mark.slow  # 10 s each
@pytest.mark.parametrize(
    ("detector", "stages"),
    [
        ("faster_rcnn_fpn", STAGES),
        ("retinanet", [name for name in STAGES if name != "proposals"]),
        ("ssd", [name for name in STAGES if name not in ("pyramid", "proposals")]),
    ],
)
def test_nodes_are_named_by_stages(detector: str, stages: list[str], tmp_path: Path) -> None:
    model = create(detector, backbone="detnet59", num_classes=3, width=0.125).eval()
    write_onnx(model, tmp_path / "model.onnx", image_size=(96, 128))
    nodes = onnx.load(tmp_path / "model.onnx").graph.node
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for node in nodes:
        kinds[node.name.partition("/")[0]].append(node.op_type)
    assert [name for name in STAGES if name in kinds] == list(stages)
    assert set(kinds) == set(stages)
    assert len({node.name for node in nodes}) == len(nodes)
    convolutions = {name: kinds[name].count("Conv") for name in stages}
    assert convolutions["backbone"] >= 60 and not convolutions["post-processing"]
    if "pyramid" in stages:
        assert convolutions["pyramid"] >= 8
    assert "NonMaxSuppression" in kinds["post-processing"]
    if "proposals" in stages:
        assert kinds["heads"].count("RoiAlign") == 4 and "NonMaxSuppression" in kinds["proposals"]
        assert kinds["heads"].count("Gemm") == 4
