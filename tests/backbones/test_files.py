"""A classifier's model file: whole, enough by itself, and refused in one line when it is not."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from detnet.backbones import BACKBONES
from detnet.backbones.base import Classifier
from detnet.backbones.files import (
    ClassifierInfo,
    load_classifier,
    read_classifier,
    save_classifier,
)
from detnet.backbones.model_file import kind_of, read, write
from detnet.errors import InputError

INFO = ClassifierInfo(
    "detnet59_noproj",
    ("Katze", "été", "7"),
    {"width": 0.125, "stride_in": "3x3", "norm": "sync"},
    input_size=64,
    short_side=73,
    pixel_mean=(0.1, 0.2, 0.3),
)


def model() -> Classifier:
    torch.manual_seed(0)
    return Classifier(BACKBONES[INFO.backbone](**INFO.options), 3).eval()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_classifier(tmp_path / "a.safetensors", INFO, model().state_dict())
    return tmp_path / "a.safetensors"


def test_a_file_needs_nothing_else(path: Path) -> None:
    loaded, info = load_classifier(path)
    assert info == INFO == read_classifier(path)
    assert not loaded.training and loaded.backbone.stride_in == "3x3"
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(loaded(images), model()(images))
    assert kind_of(path) == "classifier"
    assert [item.name for item in path.parent.iterdir()] == ["a.safetensors"]


def test_equal_models_give_equal_bytes(path: Path) -> None:
    for name in "bcd":
        save_classifier(path.with_name(f"{name}.safetensors"), INFO, model().state_dict())
    assert len({item.read_bytes() for item in path.parent.iterdir()}) == 1


def test_a_detectors_file_is_no_classifier(tmp_path: Path) -> None:
    from detnet.detectors import create
    from detnet.detectors.files import read_info, save_model

    file = tmp_path / "b.safetensors"
    save_model(file, create("retinanet", num_classes=3, width=0.125))
    assert kind_of(file) == "detector"
    with pytest.raises(InputError, match="holds a detector, and a classifier is asked for"):
        read_classifier(file)
    save_classifier(file, INFO, model().state_dict())
    with pytest.raises(InputError, match="holds a classifier, and a detector is asked for"):
        read_info(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "format version 99"),
        ({"backbone": "resnet50"}, "weights do not fit a resnet50"),
        ({"backbone": "vgg"}, "unknown backbone 'vgg'"),
        ({"classes": ["one"]}, "weights do not fit"),
    ],
)
def test_headers_that_cannot_be_used(path: Path, change: dict, message: str) -> None:
    header = {"format_version": 1, "kind": "classifier", **vars(INFO), **change}
    save_file(load_file(path), path, metadata={"detnet": json.dumps(header)})
    with pytest.raises(InputError, match=message) as caught:
        load_classifier(path)
    assert "\n" not in str(caught.value)


def test_bad_files_are_one_line(path: Path) -> None:
    content = path.read_bytes()
    for data, message in ((content[:999], "not a whole .safetensors"), (b"", "not a whole")):
        path.write_bytes(data)
        with pytest.raises(InputError, match=rf"a\.safetensors: {message}"):
            read_classifier(path)
    with pytest.raises(InputError, match="nothing.safetensors: no such model file"):
        kind_of(path.with_name("nothing.safetensors"))


def test_a_failed_write_leaves_the_old_file(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write(path, {"x": torch.zeros(2)}, {"kind": object()})
    assert path.read_bytes() == before
    assert read(path, "classifier").header["backbone"] == "detnet59_noproj"
    assert [item.name for item in path.parent.iterdir()] == ["a.safetensors"]
