import json
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torchvision.models.detection.image_list import ImageList

from detnet.detectors import create
from detnet.detectors.files import load_model, read_info, save_model
from detnet.detectors.weights import open_weights
from detnet.errors import InputError

OPTIONS = {
    "width": 0.125,
    "norm": "frozen",
    "frozen": ("stem",),
    "min_size": 96,
    "max_size": 160,
    "channel_order": "bgr",
    "pixel_mean": (0.0, 0.0, 0.0),
    "pixel_std": (1 / 255, 1 / 255, 1 / 255),
    "box_head": "4conv1fc",
}


def model_with_categories() -> torch.nn.Module:
    torch.manual_seed(0)
    model = create("faster_rcnn_fpn", backbone="detnet59_noproj", num_classes=3, **OPTIONS)
    model.info.categories = [{"id": 7, "name": "Katze"}, {"id": 3_000_000, "name": "été"}]
    return model.eval()


def test_a_file_needs_nothing_else(tmp_path: Path) -> None:
    model = model_with_categories()
    save_model(tmp_path / "a.safetensors", model)
    loaded = load_model(tmp_path / "a.safetensors")
    assert loaded.info == model.info == read_info(tmp_path / "a.safetensors")
    assert loaded.transform.options == model.transform.options
    assert not loaded.training and loaded.backbone.backbone.frozen == ("stem",)
    images = [torch.rand(3, 80, 120)]
    with torch.no_grad():
        expected, found = model(images)[0], loaded(images)[0]
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    for name in "abcdef":
        save_model(tmp_path / f"{name}.safetensors", model_with_categories())
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_other_weights_can_be_written(tmp_path: Path) -> None:
    model = model_with_categories()
    state = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    save_model(tmp_path / "a.safetensors", model, state)
    assert not any(value.any() for value in load_model(tmp_path / "a.safetensors").parameters())


def test_bad_files_are_one_line(tmp_path: Path) -> None:
    whole, bad = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_model(whole, model_with_categories())
    content = whole.read_bytes()

    class Trap:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "trapped"),)

    save_file({"x": torch.zeros(2)}, tmp_path / "plain.safetensors")
    cases = {
        content[: len(content) // 2]: "not a whole .safetensors file",
        b"": "not a whole .safetensors file",
        pickle.dumps(Trap()): "not a whole .safetensors file.*pickle",
        (tmp_path / "plain.safetensors").read_bytes(): "no model file of detnet's",
    }
    for data, message in cases.items():
        bad.write_bytes(data)
        with pytest.raises(InputError, match=message) as caught:
            load_model(bad)
        assert "\n" not in str(caught.value) and "b.safetensors" in str(caught.value)
    assert not (tmp_path / "trapped").exists()
    with pytest.raises(InputError, match="nothing.safetensors: no such model file"):
        load_model(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "format version 99"),
        ({"backbone": "resnet50"}, "weights do not fit"),
        ({"detector": "ssd9000"}, "unknown detector"),
    ],
)
def test_headers_that_cannot_be_used(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "a.safetensors"
    model = model_with_categories()
    save_model(path, model)
    header = {"format_version": 1, **vars(model.info), **change}
    save_file(load_file(path), path, metadata={"detnet": json.dumps(header)})
    with pytest.raises(InputError, match=message) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


SAVE = """
import resource, signal, sys
from pathlib import Path
from detnet.detectors import create
from detnet.detectors.files import save_model
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_model(Path(sys.argv[1]), create("retinanet", num_classes=3, width=0.125))
except OSError as error:
    print("refused:", error)
"""


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    assert resource.RLIMIT_FSIZE is not None
    path = tmp_path / "a.safetensors"
    save_model(path, model_with_categories())
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", SAVE, str(path)], capture_output=True, text=True)
    assert done.stdout.startswith("refused:"), done.stderr
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["a.safetensors"]


def without(path: Path, *names: str) -> None:
    """Takes options out of a file's header."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["detnet"])
    for name in names:
        del header["options"][name]
    save_file(load_file(path), path, metadata={"detnet": json.dumps(header)})


@pytest.mark.parametrize("rule", ["fixed", "torchvision"])
def test_the_rule_of_anchors_is_kept(tmp_path: Path, rule: str) -> None:
    path = tmp_path / "a.safetensors"
    options = {"num_classes": 3, "width": 0.125, "min_size": 200, "max_size": 330}
    model = create("retinanet", backbone="resnet50", **options, anchor_strides=rule).eval()
    save_model(path, model)
    loaded = load_model(path)
    assert loaded.info.options["anchor_strides"] == rule
    images = ImageList(torch.zeros(1, 3, 224, 352), [(200, 330)])
    sizes = ((28, 44), (14, 22), (7, 11), (4, 6), (2, 3))
    features = [torch.zeros(1, 1, *size) for size in sizes]
    (anchors,) = loaded.anchor_generator(images, features)
    last = (anchors[-9:, :2] + anchors[-9:, 2:]) / 2  # of P7's cell in row 1 and column 2
    x, y = (256, 128) if rule == "fixed" else (2 * (352 // 3), 224 // 2)
    assert torch.equal(last, torch.tensor([[x, y]]).float().expand(9, 2))
    without(path, "anchor_strides")
    with pytest.raises(InputError, match="says nothing of the option anchor_strides"):
        load_model(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    path = tmp_path / "a.safetensors"
    model = model_with_categories()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["rpn.head.conv.0.0.weight"][3, 1, 0, 0] = value
    save_model(path, model, state)
    message = r"a\.safetensors: rpn\.head\.conv\.0\.0\.weight has 1 of 9216 values that are NaN"
    for reads in (load_model, open_weights):  # load, evaluate, predict; train --weights
        with pytest.raises(InputError, match=message) as caught:
            reads(path)
        assert "\n" not in str(caught.value)
    torch.save({"state_dict": state}, tmp_path / "b.pth")
    with pytest.raises(InputError, match=r"b\.pth: rpn\.head\.conv\.0\.0\.weight has 1 of"):
        open_weights(tmp_path / "b.pth")
