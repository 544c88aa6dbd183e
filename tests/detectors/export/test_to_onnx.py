"""The ONNX file gives the detections of the detector, in both runtimes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from detnet.detectors import DETECTORS
from detnet.detectors.base import Detector
from detnet.detectors.export.to_onnx import write_onnx
from detnet.errors import InputError
from detnet.inference.fuse import fuse
from tests.contracts import check_form, sure_detector


def run_onnxruntime(path: Path) -> Callable[[Tensor], Sequence[Tensor]]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: [
        torch.from_numpy(values) for values in session.run(None, {"images": images.numpy()})
    ]


def run_openvino(path: Path) -> Callable[[Tensor], Sequence[Tensor]]:
    openvino = pytest.importorskip("openvino")
    model = openvino.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: [torch.from_numpy(v) for v in model([images.numpy()]).values()]


def check_file(model: Detector, path: Path, *, batch: int = 1) -> None:
    write_onnx(fuse(model), path, batch=batch)
    for runtime in (run_onnxruntime, run_openvino):
        check_form(model, runtime(path), batch=batch)


def test_file_equals_detector(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    check_file(sure_detector("retinanet", backbone="resnet50"), tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet50", "detnet59", "detnasnet_300m"])
@pytest.mark.parametrize("detector", list(DETECTORS))
def test_every_file_equals_its_detector(detector: str, backbone: str, tmp_path: Path) -> None:
    model = sure_detector(detector, backbone=backbone)
    check_file(model, tmp_path / "model.onnx", batch=2)


@pytest.mark.slow
@pytest.mark.parametrize("detector", ["mask_rcnn_fpn", "keypoint_rcnn_fpn", "fcos"])
def test_images_without_detections_and_of_one_pixel(detector: str, tmp_path: Path) -> None:
    model = sure_detector(detector, backbone="detnet59")
    model.post_processor.score_thresh = 1.0
    if detector == "fcos":
        model.class_thresh = 1.0
    path = tmp_path / "model.onnx"
    names = write_onnx(fuse(model), path)
    for runtime in (run_onnxruntime, run_openvino):
        run = runtime(path)
        for size in ((70, 45), (1, 1)):
            images = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
            found = dict(zip(names, run(images), strict=True))
            assert found["count"].tolist() == [0] and (found["scores"] < 0).all()
            assert not any(values.any() for name, values in found.items() if name != "scores")


@pytest.mark.slow
def test_a_file_of_one_size(tmp_path: Path) -> None:
    model = sure_detector("faster_rcnn_fpn", backbone="resnet50")
    write_onnx(fuse(model), tmp_path / "model.onnx", image_size=(130, 100))
    for runtime in (run_onnxruntime, run_openvino):
        check_form(model, runtime(tmp_path / "model.onnx"), sizes=[(130, 100)])


def test_sizes_that_are_none_are_refused(tmp_path: Path) -> None:
    model = sure_detector("retinanet", backbone="resnet50")
    with pytest.raises(InputError, match="must be 1 or more, got 0"):
        write_onnx(model, tmp_path / "model.onnx", batch=0)
