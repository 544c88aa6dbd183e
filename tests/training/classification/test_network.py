"""What pre-training begins from: the network that weights ask for, and resuming without them."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from detnet.backbones import BACKBONES
from detnet.backbones.base import Classifier
from detnet.backbones.files import ClassifierInfo, load_classifier, save_classifier
from detnet.engine import checkpoint
from detnet.errors import InputError
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.network import TrainedClassifier, build_classifier
from detnet.training.classification.train import pretrain, resume
from detnet.training.pretrained import load_classifier_weights
from detnet.training.resolve import resolve
from tests.training.classification.test_train import KEPT, TINY, write_pictures
from tests.training.runs import Kill, assert_same_run, killed_after, quiet

MEAN, STD = (0.4, 0.45, 0.5), (0.25, 0.2, 0.3)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder, train=9, val=4)
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of red and green that wants its stride and its images otherwise."""
    torch.manual_seed(5)
    options = {"width": 0.125, "stride_in": "3x3", "norm": "batch"}
    model = Classifier(BACKBONES["resnet50"](**options), 2)
    info = ClassifierInfo("resnet50", ("green", "red"), options, 32, 37, MEAN, STD, "bgr")
    path = tmp_path_factory.mktemp("weights") / "start.safetensors"
    save_classifier(path, info, model.state_dict())
    return path


@pytest.fixture
def config(pictures: Path, start: Path) -> PretrainConfig:
    return PretrainConfig.make(None, {"data": str(pictures), "weights": str(start), **TINY})


def make(config: PretrainConfig) -> tuple[TrainedClassifier, list[str]]:
    resolved = resolve(config)
    model = build_classifier(resolved.config, ("green", "red"))
    weights = resolved.weights
    loaded = load_classifier_weights(model, model.info, weights) if weights is not None else []
    return model, [*resolved.notes, *loaded]


def test_all_is_carried_and_the_network_is_the_weights(config: PretrainConfig, start: Path) -> None:
    model, notes = make(config)
    source, info = load_classifier(start)
    for name, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert (model.info.pixel_mean, model.info.channel_order) == (MEAN, "bgr")
    assert model.info.options == info.options
    assert any("stride_in 3x3, as these weights have it" in note for note in notes)
    assert any("images as BGR" in note for note in notes)
    assert notes[-1].endswith("all there are")


def test_what_was_asked_for_stands_with_a_warning(config: PretrainConfig) -> None:
    asked = {"stride_in": "1x1", "channel_order": "rgb", "pixel_mean": [0.0, 0.0, 0.0]}
    model, notes = make(replace(config, **asked))
    assert model.info.options["stride_in"] == "1x1"
    found = (model.info.channel_order, model.info.pixel_mean, model.info.pixel_std)
    assert found == ("rgb", (0.0, 0.0, 0.0), STD)
    warned = [note.split()[1] for note in notes if note.startswith("warning: ")]
    assert warned == ["stride_in", "pixel_mean", "channel_order"]


def test_from_scratch_the_papers_network(config: PretrainConfig) -> None:
    scratch = replace(config, weights=None)
    model, notes = make(scratch)
    assert (notes, model.info.options["stride_in"]) == ([], "1x1")
    resolved = resolve(scratch).config
    assert (resolved.stride_in, resolved.channel_order) == ("1x1", "rgb")
    assert resolve(resolved).config == resolved


def test_settings_keep_what_the_weights_decided(config: PretrainConfig) -> None:
    model, _ = make(config)
    kept = replace(resolve(config).config, weights="gone.pth")
    again = resolve(kept, load_weights=False)
    assert again.config == kept and again.notes == []
    assert build_classifier(kept, ("green", "red")).info == model.info


def test_torchvisions_resnet_begins_a_detnet(config: PretrainConfig, tmp_path: Path) -> None:
    path = tmp_path / "resnet50.pth"
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), path)
    model, notes = make(replace(config, weights=str(path), backbone="detnet59", width=1.0))
    assert model.info.options["stride_in"] == "3x3"
    rows = {note.split()[0]: note.split()[1:] for note in notes if note.startswith("  ")}
    assert rows["c4"] == ["95", "0", "0", "0"] and rows["fc"] == ["0", "2", "0", "2"]
    with pytest.raises(InputError, match="the width is another"):
        make(replace(config, weights=str(path)))


@pytest.mark.parametrize(("after", "left"), [(1, True), (5, False)])
def test_resume_equals_uninterrupted(
    config: PretrainConfig, start: Path, tmp_path: Path, after: int, left: bool
) -> None:
    """The file is asked for again only where there is no checkpoint yet."""
    torch.set_num_threads(1)
    here = tmp_path / "here.safetensors"
    here.write_bytes(start.read_bytes())
    sha256 = hashlib.sha256(start.read_bytes()).hexdigest()
    config = replace(config, weights=f"{here}#sha256={sha256}", iterations=6)
    events: list[dict[str, Any]] = []
    assert pretrain(config, tmp_path / "whole", on_event=events.append)
    told = [event["text"] for event in events if event["event"] == "note"]
    assert any("tensors from" in text and text.endswith("all there are") for text in told)
    run = tmp_path / "run"
    with pytest.raises(Kill):
        pretrain(config, run, on_event=killed_after(after))
    kept = PretrainConfig.read(run / "config.yaml")
    assert kept.weights == config.weights
    assert (kept.stride_in, kept.pixel_mean, kept.channel_order) == ("3x3", list(MEAN), "bgr")
    if not left:
        here.unlink()
    assert (run / "last.ckpt").exists() is not left
    assert resume(run, on_event=quiet)
    assert_same_run(tmp_path / "whole", run, *KEPT)
    _, info = load_classifier(run / "best.safetensors")
    assert (info.options["stride_in"], info.pixel_std) == ("3x3", STD)
    assert checkpoint.load(run / "last.ckpt")["progress"]["iteration"] == 6


def test_another_sha256_leaves_no_run(config: PretrainConfig, tmp_path: Path) -> None:
    wrong = replace(config, weights=f"{config.weights}#sha256={64 * '0'}")
    with pytest.raises(InputError, match="its sha256 is"):
        pretrain(wrong, tmp_path / "run", on_event=quiet)
    assert not (tmp_path / "run").exists()


def test_mixed_images_are_taught_both_labels_by_their_shares() -> None:
    """Image i is mixed with the one before it, the first with the last."""
    torch.manual_seed(0)
    info = ClassifierInfo("resnet50", ("a", "b", "c", "d"), {"width": 0.125}, 32)
    model = TrainedClassifier(BACKBONES["resnet50"](width=0.125), info, 0.0).eval()
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    labels, shares = (0, 1, 3), (0.6, 1.0, 0.75)
    plain = {"color": (1.0, 1.0, 1.0, 0), "light": (0.0, 0.0, 0.0)}
    targets = [
        {**plain, "label": label, "share": share}
        for label, share in zip(labels, shares, strict=True)
    ]
    mean, std = (torch.tensor(value)[:, None, None] for value in (info.pixel_mean, info.pixel_std))
    inputs = (images / 255 - mean) / std
    losses = []
    with torch.no_grad():
        for at, share in enumerate(shares):
            mixed = share * inputs[at] + (1 - share) * inputs[at - 1]
            logs = model(mixed[None]).log_softmax(1)[0]
            losses.append(-share * logs[labels[at]] - (1 - share) * logs[labels[at - 1]])
        found = model(images, targets)["loss_classifier"]
    torch.testing.assert_close(found, torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)
