"""A backbone and a detector written as a third party would, nothing of the package changed."""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest
import torch
from PIL import Image
from torch import nn

import detnet
from detnet.backbones import BACKBONES
from detnet.backbones.base import Classifier
from detnet.backbones.files import ClassifierInfo, load_classifier, save_classifier
from detnet.backbones.weights.loading import load_weights
from detnet.backbones.weights.pretrained import open_weights
from detnet.cli import main
from detnet.data.scenes import write_scenes
from detnet.detectors import DETECTORS, create
from detnet.detectors.files import load_model, save_model
from detnet.detectors.weights import load_into_detector
from detnet.errors import InputError
from detnet.inference.augmentation import PredictionOptions
from detnet.plugins import load_plugins
from tests.contracts import (
    check_backbone,
    check_class_layers,
    check_detector,
    check_extremes,
    scene,
)

HERE = Path(__file__).parent / "plugins"
SMALL = {"num_classes": 4, "width": 0.125, "min_size": 96, "max_size": 160}
USUAL = ("centres", "faster_rcnn", "retinanet", "ssd")  # the others by `make test-all`
PAIRS = [
    ("centres", "detnet59"),
    *(
        pytest.param(name, "plain", marks=[] if name in USUAL else pytest.mark.slow)
        for name in ("centres", *DETECTORS)
    ),
]


@pytest.fixture(autouse=True, scope="module")
def registered() -> Iterator[None]:
    known = dict(BACKBONES._homes), dict(DETECTORS._homes)
    load_plugins([f"{HERE}:my_backbone", f"{HERE}:my_detector"])
    yield
    for table, before in zip((BACKBONES, DETECTORS), known, strict=True):
        table._homes.clear()
        table._homes.update(before)
    for module in ("my_backbone", "my_detector"):
        sys.modules.pop(module)


@pytest.mark.parametrize("module", ["my_backbone", "my_detector"])
def test_forty_lines_are_enough(module: str) -> None:
    """Blanks, comments and docstrings are not counted, as nowhere in this project."""
    source = (HERE / f"{module}.py").read_text()
    docs = [node for node in ast.walk(ast.parse(source)) if is_docstring(node)]
    hidden = {line for node in docs for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    lines = dict(enumerate(source.splitlines(), 1))
    assert len([text for n, text in lines.items() if text.strip() and n not in hidden]) <= 40


def is_docstring(node: ast.AST) -> TypeGuard[ast.Expr]:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def test_the_backbone_keeps_the_contract() -> None:
    check_backbone(lambda: BACKBONES["plain"](width=0.25))


@pytest.mark.parametrize(("detector", "backbone"), PAIRS)
def test_detectors_keep_the_contract(detector: str, backbone: str) -> None:
    check_detector(lambda: create(detector, backbone=backbone, **SMALL))


def test_the_detector_keeps_the_other_contracts() -> None:
    check_class_layers("centres")
    check_extremes(lambda **size: create("centres", backbone="plain", **{**SMALL, **size}))


def step(model: nn.Module) -> None:
    images, targets = scene(masks=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    sum(model.train()(images, targets).values()).backward()
    optimizer.step()


def test_a_model_file_goes_around(tmp_path: Path) -> None:
    """Trained, saved, loaded, taken over by others, told the cost of, and predicting."""
    torch.manual_seed(0)
    model = create("centres", backbone="plain", frozen=("fine",), **SMALL)
    model.info.categories = [{"id": n, "name": f"thing {n}"} for n in (1, 2, 3)]
    step(model)
    path = tmp_path / "own.safetensors"
    save_model(path, model)
    loaded = load_model(path)
    state = loaded.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    weights = open_weights(path)
    other = create("faster_rcnn_fpn", backbone="plain", **SMALL)
    assert not {name for name in load_into_detector(other, weights).fresh if "backbone.b" in name}
    same = create("centres", backbone="plain", **SMALL)
    assert set(load_into_detector(same, weights).fresh) == {"classes.weight", "classes.bias"}
    with pytest.raises(InputError, match="do not fit in|width is another"):
        load_into_detector(create("retinanet", backbone="detnet59", **SMALL), weights)
    predictor = detnet.load(path, score_threshold=0.0)
    image = torch.rand(3, 96, 128)
    options = PredictionOptions(soft_nms="linear", tta_scales=(96, 64), tta_flip=True)
    for found in (predictor.predict(image), predictor.predict(image, options=options)):
        assert (
            found.size == (128, 96) and len(found.boxes) and set(found.labels.tolist()) <= {1, 2, 3}
        )


def test_a_classifier_goes_around(tmp_path: Path) -> None:
    model = Classifier(BACKBONES["plain"](width=0.25), 3)
    info = ClassifierInfo("plain", ("a", "b", "c"), {"width": 0.25}, 64, 72)
    save_classifier(tmp_path / "a.safetensors", info, model.state_dict())
    again, found = load_classifier(tmp_path / "a.safetensors")
    assert found == info
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(again(images), model.eval()(images))
    weights = open_weights(tmp_path / "a.safetensors")
    assert not load_weights(BACKBONES["plain"](width=0.25), weights).fresh
    with pytest.raises(InputError, match="channels in its first layer: the width is another"):
        load_weights(BACKBONES["plain"](width=0.5), weights)


def test_commands_tell_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "plain", "--width", "0.5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [level["name"] for level in told["features"]] == ["fine", "middle", "coarse", "coarsest"]
    assert told["macs"] > told["backbone_macs"] > 0
    assert main(["detectors", "--backbone", "plain", "--json"]) == 0
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)["detectors"]}
    assert found["centres"]["summary"].startswith("A detector without anchors")
    assert found["centres"]["levels"] == ["fine", "middle", "coarse", "coarsest"]
    assert found["retinanet"]["levels"] == ["middle", "coarse", "coarsest"]
    assert all(each["macs"] > 0 for each in found.values() if "problem" not in each)
    assert main(["detectors", "centres", "--json"]) == 0
    assert "min_size" in json.loads(capsys.readouterr().out)["options"]
    save_model(tmp_path / "a.safetensors", create("centres", backbone="plain", **SMALL))
    assert (
        main(["weights", str(tmp_path / "a.safetensors"), "--for", "plain", "--width", "0.125"])
        == 0
    )
    assert "begins     plain" in capsys.readouterr().out


def test_trained_evaluated_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By commands alone, with the modules named; what is read of a run is recorded in it."""
    scenes, run = tmp_path / "scenes", tmp_path / "run"
    write_scenes(scenes, train=4, val=2, size=(160, 120))
    plugins = ["--plugin", f"{HERE}:my_backbone", "--plugin", f"{HERE}:my_detector"]
    network = ["--detector", "centres", "--backbone", "plain", "--width", "0.25"]
    sizes = ["--min-sizes", "96", "--max-size", "128", "--batch-size", "2", "--iterations", "2"]
    quick = ["--workers", "1", "--warmup-iterations", "0", "--precision", "fp32", "--device", "cpu"]
    arguments = ["train", "--data", str(scenes), "--output", str(run)]
    assert main([*arguments, *plugins, *network, *sizes, *quick]) == 0
    assert "my_backbone" in (run / "config.yaml").read_text()
    data = ["--data", str(scenes), "--workers", "0", "--device", "cpu"]
    assert main(["evaluate", str(run), *data]) == 0
    assert main(["report", str(run)]) == 0
    other = shutil.copytree(run, tmp_path / "other")
    assert main(["compare", str(run), str(other), "--resamples", "100", "--json"]) == 0
    assert '"macs"' in capsys.readouterr().out


@pytest.mark.slow  # half a minute of processes that import torch
def test_a_model_file_brings_no_plugin_along(tmp_path: Path) -> None:
    """It is refused in one line that names the option, and read where the user names the module."""
    path, picture = tmp_path / "a.safetensors", tmp_path / "a.png"
    model = create("centres", backbone="plain", **SMALL)
    model.info.categories = [{"id": n, "name": f"thing {n}"} for n in (1, 2, 3)]
    save_model(path, model)
    Image.new("RGB", (128, 96)).save(picture)
    command = [sys.executable, "-m", "detnet", "predict", str(path), str(picture)]
    command += ["--output", str(tmp_path / "found")]
    plugins = ["--plugin", f"{HERE}:my_backbone", "--plugin", f"{HERE}:my_detector"]
    for given, said in (([], "'plain'"), (plugins[:2], "'centres'")):
        done = subprocess.run([*command, *given], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert said in done.stderr and "--plugin" in done.stderr
    done = subprocess.run([*command, *plugins], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
