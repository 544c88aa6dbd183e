"""Exported folders in their runtimes: sizes, batches, masks, thresholds, and no torch."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import detnet
from detnet.coco.masks import decode_masks
from detnet.errors import InputError
from detnet.inference.augmentation import PredictionOptions
from detnet.inference.engines.predictor import EnginePredictor, open_engine
from tests.inference.engines.tiny import IMAGES, tiny_export

FORMATS = ["onnx", "openvino"]
BRIGHT = np.full((60, 100, 3), 204, np.uint8)  # 0.8


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("batch", [1, 2])
def test_images_of_any_size_in_any_number(tmp_path: Path, format: str, batch: int) -> None:
    engine = open_engine(tiny_export(tmp_path / "a", format, batch=batch, masks=True))
    images = [BRIGHT, BRIGHT[:, :41], BRIGHT // 20, BRIGHT[:50], BRIGHT]
    found = engine.detect(images, score_threshold=0.1)
    assert [len(each) for each in found] == [2, 2, 0, 2, 2]
    for each, image in zip(found, images, strict=True):
        height, width = image.shape[:2]
        corners = np.array([[0, 0, width / 2, height / 2], [width / 2, 0, width, height]])
        np.testing.assert_allclose(each.boxes, corners[: len(each)], atol=1e-4)
        np.testing.assert_allclose(each.scores, [0.8, 0.4][: len(each)], atol=1e-6)
        assert each.labels.tolist() == [2, 1][: len(each)]
        assert each.masks is not None and len(each.masks) == len(each)
        for mask, box in zip(each.masks, corners, strict=False):  # the right half of each box
            painted = decode_masks([mask["counts"].encode()], height, width)[0]
            middle = round((box[0] + box[2]) / 2)
            assert painted[5, middle + 3] and not painted[5, middle - 3]
    assert engine.detect([], score_threshold=0.1) == []
    assert engine.batch == batch and engine.name in ("onnxruntime", "openvino")
    assert engine.network_size(60, 100) == (48, 80)


@pytest.mark.parametrize("format", FORMATS)
def test_a_fixed_size(tmp_path: Path, format: str) -> None:
    images = replace(IMAGES, size=(64, 96))
    engine = open_engine(tiny_export(tmp_path / "a", format, images=images, masks=True))
    assert engine.network_size(60, 30) == engine.network_size(30, 60) == (64, 96)
    tall = np.full((80, 30, 3), 204, np.uint8)  # 24 of the 96 columns
    (found,) = engine.detect([tall], score_threshold=0.1)
    np.testing.assert_allclose(found.boxes[0], [0, 0, 30, 40], atol=1e-4)  # cut at its border
    assert (found.boxes[:, 2] <= 30).all()
    assert found.masks is not None  # the right half of a box of which half lies in the picture
    assert not decode_masks([found.masks[0]["counts"].encode()], 80, 30).any()


def test_load_gives_what_a_predictor_gives(tmp_path: Path) -> None:
    folder = tiny_export(tmp_path / "a", masks=True)
    model = detnet.load(folder, score_threshold=0.5)
    assert isinstance(model, EnginePredictor)
    assert model.class_names == ("cat", "dog") and model.category_ids == (7, 9)
    found = model.predict(BRIGHT)
    assert found.names == ("dog",) and found.category_ids == (9,) and found.size == (100, 60)
    assert found.masks is not None and found.masks.shape == (1, 60, 100)
    assert found.draw(BRIGHT).size == (100, 60)
    (record,) = found.to_coco(3)
    assert record["category_id"] == 9 and record["bbox"] == [0, 0, 50, 30]
    assert record["segmentation"]["size"] == [60, 100]
    assert model.predict_batch([]) == []
    with pytest.raises(InputError, match="was exported to leave out scores below 0.05"):
        detnet.load(folder, score_threshold=0.01).predict(BRIGHT)


def test_floats_beyond_one_are_refused_as_torch_does(tmp_path: Path) -> None:
    import torch

    model = detnet.load(tiny_export(tmp_path / "a"))
    with pytest.raises(InputError, match="floats lie in 0 … 1, got 255"):
        model.predict(torch.full((3, 60, 100), 255.0))


def test_keypoints_are_in_the_images_own_pixels(tmp_path: Path) -> None:
    model = detnet.load(tiny_export(tmp_path / "a", keypoints=True), score_threshold=0.1)
    found = model.predict(BRIGHT)  # 100 by 60 pixels, 80 by 48 for the network
    assert found.keypoints.shape == (2, 2, 3)
    np.testing.assert_allclose(found.keypoints[1], [[37.5, 25, 1], [50, 30, 1]], rtol=1e-6)
    assert (found.keypoint_scores == 7).all()
    assert found.layout.names == ("keypoint 1", "keypoint 2")
    assert found.to_coco(1)[1]["keypoints"][:2] == [37, 24.5]


def test_what_an_export_cannot_do_is_refused_by_name(tmp_path: Path) -> None:
    folder = tiny_export(tmp_path / "a")
    for options, name in [
        (PredictionOptions(soft_nms="linear"), "soft_nms"),
        (PredictionOptions(tta_flip=True), "tta_flip"),
    ]:
        with pytest.raises(InputError, match=f"leave {name} out"):
            detnet.load(folder, options=options)
        with pytest.raises(InputError, match=f"leave {name} out"):
            detnet.load(folder).predict(BRIGHT, options=options)
    with pytest.raises(InputError, match="runs on the CPU"):
        detnet.load(folder, device="cuda")
    with pytest.raises(InputError, match="the score threshold must be in 0 … 1, got 2"):
        detnet.load(folder, score_threshold=2)
    with pytest.raises(InputError, match="is an export for onnxruntime"):
        open_engine(folder, name="openvino")
    with pytest.raises(InputError, match="did you mean 'openvino'"):
        open_engine(folder, name="openvin")


@pytest.mark.parametrize("format", FORMATS)
def test_a_network_that_the_runtime_does_not_take(tmp_path: Path, format: str) -> None:
    folder = tiny_export(tmp_path / "a", format)
    network = next(folder.glob("model.[ox]*"))
    network.write_bytes(b"<no network>")
    from detnet.files import sha256_of
    from detnet.inference.engines.record import read_export

    content = (folder / "model.json").read_text()
    with pytest.raises(InputError, match="is not the file"):
        read_export(folder)
    for line in content.splitlines():
        if network.name in line and ":" in line and len(line) > 64:
            content = content.replace(line.split('"')[3], sha256_of(network))
    (folder / "model.json").write_text(content)
    with pytest.raises(InputError, match="does not take it") as caught:
        open_engine(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("format", FORMATS)
def test_no_torch_is_imported(tmp_path: Path, format: str) -> None:
    folder = tiny_export(tmp_path / "a", format, masks=True)
    code = (
        "import sys, numpy, detnet\n"
        f"found = detnet.load({str(folder)!r}).predict(numpy.full((60, 100, 3), 204, 'uint8'))\n"
        "assert found.names == ('dog',), found\n"
        "found.draw(numpy.zeros((60, 100, 3), 'uint8'))\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('torch', 'torchvision')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
