"""A model file of ours that is written again says of its network what it said before."""

from pathlib import Path
from typing import Any

import pytest
import torch

from detnet.backbones import build_backbone
from detnet.backbones.base import Classifier
from detnet.backbones.files import ClassifierInfo, load_classifier, save_classifier
from detnet.backbones.model_file import read_file, write
from detnet.backbones.weights.export import export, inspect_weights
from detnet.backbones.weights.pretrained import open_weights
from detnet.detectors import create
from detnet.detectors.files import save_model
from detnet.errors import InputError

PATH = "2120 2112 33130031 3132"  # detnasnet_300m's
SEARCHED = {"space": "detnas_small", "path": PATH}


@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        ("resnet50", {"width": 0.3, "stride_in": "3x3", "norm": "batch"}),
        ("detnasnet_300m", {"width": 0.3}),
        ("searched", {"width": 1.0, **SEARCHED}),  # by its shapes detnasnet_300m
    ],
)
def test_a_classifier_stays_what_it_is(
    tmp_path: Path, backbone: str, options: dict[str, Any]
) -> None:
    there, again = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    info = ClassifierInfo(backbone, ("a", "b"), options, input_size=32, short_side=37)
    model = Classifier(build_backbone(backbone, **options), 2)
    save_classifier(there, info, model.state_dict())
    source = open_weights(there)
    found = inspect_weights(there, source)
    assert (found.backbone, found.width) == (backbone, options["width"])
    assert export(source, "detnet", again) == []
    other, written = load_classifier(again)
    assert written == info
    assert all(torch.equal(v, other.state_dict()[n]) for n, v in model.state_dict().items())


def test_a_detectors_backbone_keeps_its_space(tmp_path: Path) -> None:
    there, again = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    options = {"width": 0.25, "stride_in": "1x1", "backbone_options": SEARCHED}
    save_model(there, create("retinanet", backbone="searched", num_classes=2, **options))
    export(open_weights(there), "detnet", again)
    header = read_file(again, weights=False).header
    assert (header["kind"], header["backbone"]) == ("backbone", "searched")
    assert header["options"] == {"width": 0.25, "stride_in": "1x1", **SEARCHED}


def test_a_header_whose_backbone_options_are_none(tmp_path: Path) -> None:
    options = {"width": 1.0, "backbone_options": "detnas_small"}
    header = {"detector": "fcos", "backbone": "searched", "num_classes": 2, "options": options}
    write(tmp_path / "a.safetensors", {"backbone.backbone.stem.bn.bias": torch.ones(1)}, header)
    with pytest.raises(InputError, match="option backbone_options must be an object, found 'detn"):
        open_weights(tmp_path / "a.safetensors")
