"""`detnet weights` tells what a file is and writes it for other projects."""

import json
from pathlib import Path

import pytest
import torch

from detnet.backbones import BACKBONES
from detnet.backbones.base import Classifier
from detnet.backbones.files import ClassifierInfo, load_classifier, save_classifier
from detnet.backbones.weights.pretrained import layout_named
from detnet.cli import main


@pytest.fixture
def resnet(tmp_path: Path) -> Path:
    """A classifier of ours on a narrow ResNet-50 that has its stride in the 3×3."""
    torch.manual_seed(0)
    options = {"width": 0.125, "stride_in": "3x3", "norm": "batch"}
    model = Classifier(BACKBONES["resnet50"](**options), 3)
    path = tmp_path / "own.safetensors"
    save_classifier(path, ClassifierInfo("resnet50", ("a", "b", "c"), options), model.state_dict())
    return path


def test_what_a_file_is(resnet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", str(resnet), "--for", "detnet59", "--width", "0.125"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split("  ")[0]: line.partition("  ")[2].strip() for line in lines}
    assert rows["backbone"] == "resnet50, width 0.125" and rows["stride in"] == "3x3"
    assert "RGB, mean 123.7" in rows["images"] and "detnet59" in rows["begins"]
    counts = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("c")}
    assert counts["c4"] == ["95", "0", "0", "0"] and counts["c6"] == ["0", "50", "0", "0"]


def test_json(resnet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", str(resnet), "--json", "--for", "resnet50", "--width", "0.125"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["layout"] == "detnet" and len(found["sha256"]) == 64
    assert found["fills"]["fresh"] == []
    assert sorted(found["fills"]["left_over"]) == ["fc.bias", "fc.weight"]


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("torchvision", "a.pth"),
        ("torchvision", "a.safetensors"),
        ("detectron", "a.pkl"),
        ("detnet", "b.safetensors"),
    ],
)
def test_written_and_read_again(
    layout: str, name: str, resnet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once through another project's file and back gives the same model file."""
    there, back = tmp_path / name, tmp_path / "back.safetensors"
    assert main(["weights", str(resnet), "--export", layout, str(there)]) == 0
    said = capsys.readouterr().out
    assert ("stride_in is 3x3 here and 1x1 in Detectron's" in said) == (layout == "detectron")
    assert main(["weights", str(there), "--export", "detnet", str(back)]) == 0
    (mine, info), (theirs, again) = load_classifier(resnet), load_classifier(back)
    assert len(again.classes) == 3 and again.backbone == "resnet50"
    assert again.options["width"] == info.options["width"]
    if layout == "detectron":  # its norm has no statistics
        blobs = (layout_named(layout).from_ours(m.backbone.state_dict()) for m in (mine, theirs))
        a, b = blobs
        assert a.keys() == b.keys() and all(torch.equal(v, b[n]) for n, v in a.items())
        assert (again.options["stride_in"], again.channel_order) == ("1x1", "bgr")
        return
    assert again.options["stride_in"] == "3x3"
    a, b = mine.state_dict(), theirs.state_dict()
    assert all(torch.equal(value, b[key]) for key, value in a.items())


def test_a_backbone_alone_becomes_a_model_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(BACKBONES["detnet59"](width=0.125).state_dict(), tmp_path / "a.pth")
    out = str(tmp_path / "a.safetensors")
    assert main(["weights", str(tmp_path / "a.pth"), "--export", "detnet", out]) == 0
    assert main(["weights", out]) == 0
    assert "a backbone on detnet59 of width 0.125" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--for", "detnet95"], "did you mean 'detnet59'"),
        (["--for", "resnet50"], "the width is another"),
        (["--export", "torchvison", "a.pth"], "did you mean 'torchvision'"),
        (["--export", "detnet_pytorch", "a.pth"], "own.safetensors: DetNet_pytorch has DetNets"),
        (["--export", "torchvision", "a.onnx"], "must end in one of .safetensors, .pth"),
        (["--export", "detnet", "a.pth"], "ends in .safetensors"),
        (["--push", "nobody"], "write OWNER/NAME"),
        (["--private"], "--private goes with --push"),
        (["--width", "1.0"], "--width goes with --for"),
        (["--overwrite", "--for", "resnet50"], "--overwrite goes with --export"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], said: str, resnet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", str(resnet), *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("detnet: error: ") and err.count("\n") == 1
    assert said in err


def test_a_pickle_that_would_run_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert main(["weights", str(tmp_path / "bad.pkl")]) == 2
    assert "asks for os.system, which could run code" in capsys.readouterr().err


def test_a_file_that_is_there_is_not_overwritten(
    resnet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = resnet.read_bytes()
    assert main(["weights", str(resnet), "--export", "detnet", str(resnet)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert resnet.read_bytes() == before
