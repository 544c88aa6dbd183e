from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from detnet.backbones import BACKBONES
from detnet.errors import InputError
from detnet.training.classification.config import PretrainConfig
from detnet.training.resolve import resolve
from detnet.training.settings import dump_config, option_help, presets, write_config
from detnet.training.task import learning_rate, training_schedule


def test_defaults_are_the_resnext_recipe() -> None:
    config = PretrainConfig()
    assert (config.lr, config.lr_batch, config.batch_size) == (0.1, 256, 256)
    assert (config.momentum, config.weight_decay) == (0.9, 1e-4)
    assert (config.image_size, config.short_side, config.min_area) == (224, 256, 0.08)
    assert (config.color_jitter, config.lighting, config.flip) == (0.4, 0.1, 0.5)
    assert (config.label_smoothing, config.mixup, config.ema) == (0, 0, 0)
    schedule = training_schedule(config, batches_per_epoch=5004)
    assert schedule.total == 100 * 5004
    assert schedule.lr.steps == (30 * 5004, 60 * 5004, 90 * 5004)
    factors = [schedule.lr.factor(epoch * 5004) for epoch in (0, 29, 30, 60, 90)]
    assert factors == pytest.approx([1, 1, 0.1, 0.01, 0.001])
    resnext = PretrainConfig.make("resnext", {"workers": 2, "checkpoint_every": 250, "epochs": 100})
    plain = PretrainConfig.make(None, {"epochs": 100})
    assert replace(resnext, preset="", departures={}) == plain


@pytest.mark.parametrize(
    "changes", [{"pixel_mean": [0.5]}, {"pixel_std": [1, 2]}, {"pixel_std": [1, 1, 0]}]
)
def test_images_have_three_channels(changes: dict) -> None:
    with pytest.raises(InputError, match="takes three"):
        PretrainConfig.make(None, changes)


def test_the_rate_follows_the_batch() -> None:
    lr, text = learning_rate(PretrainConfig.make(None, {"batch_size": 64}))
    assert lr == pytest.approx(0.025) and text.endswith("0.1 for 256 images, scaled to 64")


def test_every_field_is_explained() -> None:
    assert set(option_help(PretrainConfig)) == {entry.name for entry in fields(PretrainConfig)}
    assert option_help(PretrainConfig)["data"].startswith("folder with train/CLASS")


@pytest.mark.parametrize("name", presets("pretrain"))
def test_presets_are_settings_that_say_what_they_are(name: str) -> None:
    config = PretrainConfig.make(name, {})
    assert config.backbone in BACKBONES
    assert presets("pretrain")[name].read_text().startswith("# ")


def test_the_modern_preset_says_every_change() -> None:
    modern, plain = PretrainConfig.make("modern", {}), PretrainConfig.make("resnext", {})
    changed = {name for name in asdict(plain) if getattr(modern, name) != getattr(plain, name)}
    assert changed - {"steps", "preset"} == {
        "schedule", "warmup", "warmup_iterations", "warmup_factor", "norm_weight_decay",
        "bias_weight_decay", "label_smoothing", "mixup", "ema",
    }  # fmt: skip


def test_small_images_keep_the_proportion() -> None:
    assert PretrainConfig.make("small_images", {}).short_side == 73
    assert PretrainConfig.make("small_images", {"test_short_side": 64}).short_side == 64


def test_the_size_in_evaluation_follows_that_of_a_printed_file(tmp_path: Path) -> None:
    path = tmp_path / "printed.yaml"
    write_config(resolve(PretrainConfig.make("small_images", {})).config, path)
    assert PretrainConfig.make(str(path), {}).test_short_side == 73
    assert PretrainConfig.make(str(path), {"image_size": 128}).short_side == 146
    own = PretrainConfig.make(str(path), {"image_size": 32, "test_short_side": 40})
    assert own.short_side == 40
    path.write_text("image_size: 128\ntest_short_side: 128\n")
    assert PretrainConfig.make(str(path), {"image_size": 64}).short_side == 128


def test_settings_survive_the_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = PretrainConfig.make("modern", {"data": "pictures", "epochs": 3})
    write_config(config, tmp_path / "config.yaml")
    read = PretrainConfig.read(tmp_path / "config.yaml")
    assert read.data == str(tmp_path / "pictures")
    assert (read.mixup, read.epochs, read.iterations) == (0.2, 3, None)
    names = [line.split(":")[0] for line in dump_config(config).splitlines() if line[0] not in "- "]
    assert names == [entry.name for entry in fields(PretrainConfig)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"detector": "retinanet"}, "unknown setting 'detector'"),
        ({"norm": "frozen"}, "norm"),
        ({"image_size": 16}, "image_size must be at least 32, got 16"),
        ({"test_short_side": 200}, "test_short_side must be at least image_size 224"),
        ({"label_smoothing": 1}, "label_smoothing must lie in"),
        ({"min_area": 0}, "min_area must lie in"),
        ({"mixup": -1}, "mixup must not be negative"),
        ({"lighting": -0.1}, "lighting must not be negative"),
        ({"norm_weight_decay": -1}, "norm_weight_decay must not be negative"),
        ({"batch_size": 0}, "batch_size must be positive"),
    ],
)
def test_mistakes_are_one_line(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        PretrainConfig.make(None, changes)
    assert "\n" not in str(caught.value)
