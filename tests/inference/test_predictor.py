"""The predictor on real small detectors: forms of images, thresholds, files, COCO records."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detnet.detectors import create
from detnet.detectors.files import save_model
from detnet.errors import InputError
from detnet.inference.models import find_model, load
from detnet.inference.predictor import Predictor

CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 123456789012, "name": "dog"}]


def small_model(detector: str) -> torch.nn.Module:
    """Random weights, whose scores lie near 1 / 3: below the usual threshold, above a low one."""
    torch.manual_seed(0)
    model = create(
        detector, backbone="detnet59", num_classes=3, width=0.125, min_size=64, max_size=96
    )
    model.info.categories = CATEGORIES
    return model


@pytest.fixture(scope="module")
def mask_predictor() -> Predictor:
    return Predictor(small_model("mask_rcnn_fpn"), score_threshold=0.05)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def test_objects_are_in_the_images_own_pixels(
    mask_predictor: Predictor, pixels: np.ndarray
) -> None:
    found = mask_predictor.predict(pixels)
    assert len(found) >= 5
    assert found.size == (90, 60)
    assert found.boxes.shape == (len(found), 4) and found.boxes.dtype == torch.float32
    assert (found.boxes >= 0).all() and (found.boxes <= torch.tensor([90, 60, 90, 60])).all()
    assert found.masks is not None and found.masks.shape == (len(found), 60, 90)
    assert found.masks.dtype == torch.bool
    assert (found.scores.diff() <= 0).all() and (found.scores >= 0.05).all()
    for label, name, category_id in zip(
        found.labels.tolist(), found.names, found.category_ids, strict=True
    ):
        assert {"id": category_id, "name": name} == CATEGORIES[label - 1]


def test_every_form_of_an_image_gives_the_same_objects(
    mask_predictor: Predictor, pixels: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    expected = mask_predictor.predict(pixels)
    for form in (path, str(path), Image.fromarray(pixels), tensor):
        found = mask_predictor.predict(form)
        assert torch.equal(found.boxes, expected.boxes)
        assert torch.equal(found.scores, expected.scores)
    for kind in (torch.float64, torch.float16):
        assert len(mask_predictor.predict((tensor / 255).to(kind))) >= 5
    # Floats are not rounded when they are resized, so the scores differ a little.
    found = mask_predictor.predict(tensor / 255)
    torch.testing.assert_close(found.scores[:5], expected.scores[:5], rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.zeros((0, 10, 3), np.uint8), "must have pixels"),
        (torch.zeros(3, 0, 5), "must have pixels"),
        (torch.zeros(3, 4, 5, dtype=torch.int32), "uint8 or floats in .*, got torch.int32"),
        (torch.zeros(4, 4, 5), r"\(3, H, W\), got \(4, 4, 5\)"),
        (np.zeros((4, 5, 3)), "got float64"),
        ([np.zeros((4, 5, 3), np.uint8)] * 2, "one image is wanted, got 2; `predict_batch`"),
        (torch.full((3, 4, 5), 255.0), "floats lie in 0 … 1, got 255 … 255; divide them by 255"),
        (torch.full((3, 4, 5), -1.5), "got -1.5 … -1.5;"),
        (torch.full((3, 4, 5), float("nan")), "got nan … nan;"),
    ],
)
def test_what_is_no_image_is_refused(mask_predictor: Predictor, image: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        mask_predictor.predict(image)


def test_a_batch_of_sizes_gives_each_image_its_own(
    mask_predictor: Predictor, pixels: np.ndarray
) -> None:
    first, second = mask_predictor.predict_batch([pixels, np.ascontiguousarray(pixels[:, :40])])
    assert first.size == (90, 60) and second.size == (40, 60)
    assert second.masks is not None and second.masks.shape[1:] == (60, 40)
    assert mask_predictor.predict_batch([]) == []


@pytest.mark.parametrize("detector", ["faster_rcnn_fpn", "retinanet"])
def test_the_threshold_cuts_both_ways(detector: str, pixels: np.ndarray) -> None:
    predictor = Predictor(small_model(detector), score_threshold=0.0)
    everything = predictor.predict(pixels)
    assert len(everything) > 1 and everything.masks is None
    middle = float(everything.scores[len(everything) // 2])
    predictor.score_threshold = middle
    fewer = predictor.predict(pixels)
    assert 0 < len(fewer) < len(everything) and (fewer.scores >= middle).all()
    predictor.score_threshold = 1.0
    nothing = predictor.predict(pixels)
    assert len(nothing) == 0 and nothing.to_coco(1) == []
    assert nothing.draw(pixels).size == (90, 60)


@pytest.mark.processor
def test_bfloat16_finds_much_the_same_and_gives_float32(pixels: np.ndarray) -> None:
    model = small_model("mask_rcnn_fpn")
    exact = Predictor(model, score_threshold=0.0).predict(pixels)
    rough = Predictor(model, score_threshold=0.0, dtype=torch.bfloat16).predict(pixels)
    assert rough.boxes.dtype == rough.scores.dtype == torch.float32
    assert abs(float(rough.scores[0] - exact.scores[0])) < 0.05
    assert not torch.equal(rough.scores[:5], exact.scores[:5])


def test_the_type_is_chosen_before_the_weights_are_cast() -> None:
    predictor = Predictor(small_model("faster_rcnn_fpn"))
    with pytest.raises(AttributeError):
        predictor.dtype = torch.bfloat16  # type: ignore[misc]


def test_a_run_folder_gives_its_best_model(tmp_path: Path, pixels: np.ndarray) -> None:
    model = small_model("faster_rcnn_fpn")
    with pytest.raises(InputError, match="holds no model"):
        find_model(tmp_path)
    save_model(tmp_path / "model.safetensors", model)
    assert find_model(tmp_path).name == "model.safetensors"
    save_model(tmp_path / "best.safetensors", model)
    assert find_model(str(tmp_path)).name == "best.safetensors"

    loaded = load(tmp_path, score_threshold=0.05)
    expected = Predictor(model, score_threshold=0.05).predict(pixels)
    found = loaded.predict(pixels)
    assert loaded.class_names == ("cat", "dog")
    assert torch.equal(found.boxes, expected.boxes) and len(found) > 0


def test_cut_files_and_pickles_are_refused_in_one_line(tmp_path: Path) -> None:
    whole = tmp_path / "whole.safetensors"
    save_model(whole, small_model("faster_rcnn_fpn"))
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:5000])
    pickled = tmp_path / "model.pth"
    torch.save({"weight": torch.zeros(2)}, pickled)
    for path in (cut, pickled, tmp_path / "absent.safetensors"):
        with pytest.raises(InputError, match=path.name) as caught:
            load(path)
        assert "\n" not in str(caught.value)


def test_unusable_options_are_refused(tmp_path: Path) -> None:
    model = small_model("faster_rcnn_fpn")
    with pytest.raises(InputError, match="0 … 1"):
        Predictor(model, score_threshold=50)
    with pytest.raises(InputError, match="'abacus'"):
        Predictor(model, device="abacus")


def test_classes_without_names_are_numbered() -> None:
    model = small_model("faster_rcnn_fpn")
    model.info.categories = []
    predictor = Predictor(model)
    assert predictor.class_names == ("class 1", "class 2")
    assert predictor.category_ids == (1, 2)
    said = "Predictor('faster_rcnn_fpn', backbone='detnet59', classes=2, device='cpu', score_thr"
    assert repr(predictor).startswith(said)
