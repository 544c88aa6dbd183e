"""Hostile model files: every lie of a header is one line that names the file, to every reader."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import detnet
from detnet.backbones import BACKBONES
from detnet.backbones.base import Classifier
from detnet.backbones.files import ClassifierInfo, load_classifier, read_classifier, save_classifier
from detnet.backbones.model_file import kind_of, read_file
from detnet.cli import main
from detnet.coco.categories import Categories
from detnet.data.scenes import write_scenes
from detnet.detectors import create
from detnet.detectors.files import load_model, read_info, save_model
from detnet.errors import InputError
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.model_and_data import build_detector
from detnet.training.pretrained import load_detector_weights, open_named
from detnet.training.resolve import resolve
from tests.backbones.hostile_headers import CLASSIFIER, DETECTOR, RAW, TEXTS

Case = tuple[Callable[[bytes], bytes], str]
"""See `hostile_headers`."""

EVERYWHERE = {f"raw: {name}": case for name, case in RAW.items()} | TEXTS


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    torch.manual_seed(0)
    model = create("retinanet", backbone="detnet59", num_classes=3, width=0.125, min_size=96)
    model.info.categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    path = tmp_path_factory.mktemp("models") / "whole.safetensors"
    save_model(path, model)
    return path.read_bytes()


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    info = ClassifierInfo("detnet59_noproj", ("a", "b", "c"), {"width": 0.125})
    state = Classifier(BACKBONES[info.backbone](**info.options), 3).state_dict()
    path = tmp_path_factory.mktemp("models") / "whole.safetensors"
    save_classifier(path, info, state)
    return path.read_bytes()


def refused(path: Path, message: str, read: Callable[[Path], object]) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: ") and "\n" not in said and len(said) < 1000


@pytest.mark.parametrize("case", EVERYWHERE.values(), ids=EVERYWHERE)
def test_no_reader_takes_a_broken_header(tmp_path: Path, detector: bytes, case: Case) -> None:
    make, message = case
    path = tmp_path / "a.safetensors"
    path.write_bytes(make(detector))
    for read in (read_file, kind_of, read_info, detnet.load):
        refused(path, message, read)
    # Weights may be other files, too, so that what is no .safetensors is taken for one of those.
    refused(path, f"{message}|no whole pickle", lambda place: open_named(str(place)))


@pytest.mark.parametrize("case", DETECTOR.values(), ids=DETECTOR)
def test_no_detector_of_a_lying_header(tmp_path: Path, detector: bytes, case: Case) -> None:
    make, message = case
    path = tmp_path / "a.safetensors"
    path.write_bytes(make(detector))
    refused(path, message, detnet.load)


TAKEN = ("num_classes in words", "10^9 classes", "width 1e9", "two means", "frozen in one word")


@pytest.mark.parametrize("case", [DETECTOR[name] for name in TAKEN], ids=TAKEN)
def test_weights_of_a_lying_header(
    tmp_path: Path, detector: bytes, case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(case[0](detector))
    code = main(["weights", str(path), "--export", "detnet", str(tmp_path / "b.safetensors")])
    assert code in (0, 2) and len(capsys.readouterr().err.splitlines()) == (code == 2)
    changes = {"data": "-", "weights": str(path), "width": 0.125, "norm": "sync"}
    config = TrainConfig.make(None, changes)
    try:
        resolved = resolve(config)
        assert resolved.weights is not None
        model = build_detector(resolved.config, Categories((1, 2), ("a", "b")))
        load_detector_weights(model, resolved.weights)
    except InputError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("case", CLASSIFIER.values(), ids=CLASSIFIER)
def test_no_classifier_of_a_lying_header(tmp_path: Path, classifier: bytes, case: Case) -> None:
    make, message = case
    path = tmp_path / "a.safetensors"
    path.write_bytes(make(classifier))
    refused(path, message, load_classifier)
    if "fit" not in message:
        refused(path, message, read_classifier)


def test_every_command_says_it_in_one_line(
    tmp_path: Path, detector: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    data, path = tmp_path / "data", tmp_path / "a.safetensors"
    write_scenes(data, train=1, val=1)
    image = next(iter((data / "val").iterdir()))
    for make, message in (TEXTS["a backbone that is a number"], RAW["offsets overlap"]):
        path.write_bytes(make(detector))
        for command in (
            ["evaluate", path, "--data", data],
            ["predict", path, image, "--output", tmp_path / "out"],
            ["inspect", path, image, "--output", tmp_path / "out"],
            ["weights", path],
            ["train", "--data", data, "--weights", path, "--output", tmp_path / "run"],
        ):
            assert main([str(part) for part in command]) == 2, command
            said = capsys.readouterr().err.splitlines()
            assert len(said) == 1 and message in said[0] and str(path) in said[0], (command, said)
    assert not (tmp_path / "run").exists()


def test_a_sound_file_is_read(tmp_path: Path, detector: bytes, classifier: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(detector)
    assert read_info(path).categories[1] == {"id": 2, "name": "b"}
    assert load_model(path).info == read_info(path)
    found = read_file(path)
    assert found.numbers == sum(value.numel() for value in found.tensors.values()) > 10**5
    assert not read_file(path, weights=False).tensors
    path.write_bytes(classifier)
    assert load_classifier(path)[1].classes == ("a", "b", "c")
