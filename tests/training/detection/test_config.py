from dataclasses import fields
from pathlib import Path

import pytest

from detnet.errors import InputError
from detnet.training.detection.config import TrainConfig
from detnet.training.resolve import resolve
from detnet.training.settings import dump_config, option_help, presets, write_config


def test_defaults_are_the_papers_recipe() -> None:
    config = TrainConfig()
    assert (config.backbone, config.detector) == ("detnet59", "faster_rcnn_fpn")
    assert (config.lr, config.lr_batch, config.batch_size) == (0.02, 16, 16)
    assert (config.momentum, config.weight_decay) == (0.9, 1e-4)
    assert (config.min_sizes, config.max_size, config.flip) == ([800], 1333, 0.5)
    assert config.length == {"iterations": 180_000}
    assert [round(180_000 * step) for step in config.steps] == [120_000, 160_000]
    assert (config.warmup, config.warmup_iterations) == ("constant", 500)
    assert config.lr * config.warmup_factor == pytest.approx(0.006)


def test_every_field_is_explained() -> None:
    assert list(option_help(TrainConfig)) == [entry.name for entry in fields(TrainConfig)]
    assert option_help(TrainConfig)["stride_in"].endswith("network, 1x1 from scratch.")


@pytest.mark.parametrize("name", presets())
def test_presets_are_complete_settings(name: str) -> None:
    assert TrainConfig.make(name, {}) != TrainConfig() or name.startswith("detnet59")


def test_file_and_changes(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("epochs: 12\nlr: 0.1\ndetector_options: {box_head: 4conv1fc, roi_batch: 64}\n")
    config = TrainConfig.make(
        str(path), {"lr": 0.2, "iterations": 7, "detector_options": {"roi_batch": 9}}
    )
    assert (config.lr, config.epochs, config.iterations) == (0.2, None, 7)
    assert config.detector_options == {"box_head": "4conv1fc", "roi_batch": 9}
    assert TrainConfig.make(None, {"min_sizes": 320}).min_sizes == [320]
    write_config(config, tmp_path / "copy.yaml")
    assert TrainConfig.read(tmp_path / "copy.yaml") == config


def test_a_files_options_follow_the_detector() -> None:
    """The presets' proposal counts mean nothing to RetinaNet; one's own options stay."""
    assert TrainConfig.make("small", {}).detector_options["roi_batch"] == 128
    changed = TrainConfig.make(
        "small", {"detector": "retinanet", "detector_options": {"nonsense": 1}}
    )
    assert changed.detector_options == {"nonsense": 1}
    masks = TrainConfig.make("small", {"detector": "mask_rcnn_fpn"})
    assert masks.detector_options["roi_batch"] == 128


def test_what_a_setting_settled_follows_it(tmp_path: Path) -> None:
    """In the settings that --print-config prints, or a run keeps, nothing is left open."""
    path = tmp_path / "printed.yaml"
    write_config(resolve(TrainConfig.make("small", {})).config, path)
    assert "test_min_size: 240" in path.read_text()
    config = TrainConfig.make(str(path), {"min_sizes": [160, 96], "weight_decay": 0.5})
    assert resolve(config).config.test_min_size == 96
    assert (config.norm_weight_decay, config.bias_weight_decay) == (None, None)
    assert TrainConfig.make(str(path), {"lr": 1}).test_min_size == 240
    own = TrainConfig.make(str(path), {"min_sizes": 96, "test_min_size": 128})
    assert own.test_min_size == 128
    path.write_text("weight_decay: 1e-3\nnorm_weight_decay: 0\nmin_sizes: 96\ntest_min_size: 128\n")
    config = TrainConfig.make(str(path), {"weight_decay": 0.5, "min_sizes": 64})
    assert (config.norm_weight_decay, config.test_min_size) == (0, 128)


def test_the_preset_and_the_departures_from_it_are_recorded(tmp_path: Path) -> None:
    assert TrainConfig.make(None, {"lr": 0.5}).preset == ""
    assert TrainConfig.make("small", {"data": "here"}).departures == {}
    same = TrainConfig.make("small", {}).batch_size
    options = {"roi_batch": 128, "box_head": "4conv1fc"}
    config = TrainConfig.make("small", {"lr": 0.5, "batch_size": same, "detector_options": options})
    assert config.preset == "small"
    assert config.departures == {"lr": 0.5, "detector_options": {"box_head": "4conv1fc"}}
    write_config(config, tmp_path / "mine.yaml")
    again = TrainConfig.make(str(tmp_path / "mine.yaml"), {"seed": 3})
    assert again.preset == "small" and again.departures == config.departures | {"seed": 3}


def test_places_are_written_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_config(TrainConfig(data="scenes"), tmp_path / "run.yaml")
    assert TrainConfig.read(tmp_path / "run.yaml").data == str(tmp_path / "scenes")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("start.pth", "HERE/start.pth"),
        ("start.pth#sha256=ab", "HERE/start.pth#sha256=ab"),
        ("hub:me/small", "hub:me/small"),
        ("hub:me/small@main:a.safetensors#sha256=ab", "hub:me/small@main:a.safetensors#sha256=ab"),
    ],
)
def test_weights_are_written_so_that_they_are_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, kept: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_config(TrainConfig(weights=given), tmp_path / "run.yaml")
    found = TrainConfig.read(tmp_path / "run.yaml").weights
    assert found == kept.replace("HERE", str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batchsize": 3}, "did you mean 'batch_size'"),
        ({"batch_size": "many"}, "setting batch_size must be a whole number, got 'many'"),
        ({"epochs": "long"}, "setting epochs must be a finite number or null, got 'long'"),
        ({"frozen": [1]}, r"setting frozen must be a list of texts, got \[1\]"),
        ({"norm": "group"}, "setting norm must be 'auto', .* or 'sync', got 'group'"),
        ({"epochs": 3, "iterations": 5}, "epochs, not both"),
        ({"batch_size": 0}, "batch_size must be positive, got 0"),
        ({"steps": [0.5, -1]}, r"steps must be positive and finite, got \[0.5, -1.0\]"),
        ({"steps": [float("inf")]}, r"steps must be positive and finite, got \[inf\]"),
        ({"steps": [float("nan")]}, r"steps must be positive and finite, got \[nan\]"),
        ({"ema": 1.0}, "ema must lie in"),
        ({"min_sizes": []}, "min_sizes"),
        ({"flip": 2}, r"flip must lie in \[0, 1\], got 2"),
        ({"lr": -1}, "lr must not be negative"),
        ({"lr": float("nan")}, "lr must not be negative, got nan"),
        ({"clip_norm": -1}, "clip_norm must not be negative"),
        ({"momentum": 1}, "momentum must lie in"),
        ({"norm_momentum": 0}, r"norm_momentum must lie in \(0, 1\], got 0"),
        ({"norm_settled": 1.5}, r"norm_settled must lie in \[0, 1\], got 1.5"),
        ({"norm_shift": "weight"}, "norm_shift must be 'norm' or 'bias', got 'weight'"),
        ({"workers": -1}, "workers must not be negative"),
        ({"lr": None}, "options: setting lr must be a finite number, got nothing"),
        ({"detector_options": None}, "setting detector_options must be an object, got nothing"),
        ({"seed": 2**64}, "seed must be at most 9223372036854775807, got 18446744073709551616"),
    ],
)
def test_mistakes_are_one_line(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        TrainConfig.make(None, changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", "no settings, but a list$"),
        ("", "no settings, but nothing$"),
        ("lr: [\n", "not YAML"),
        ("leraning_rate: 1\n", "unknown setting 'leraning_rate'"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=f"my.yaml.*{message}"):
        TrainConfig.make(str(path), {})


@pytest.mark.parametrize("text", ["preset: small\nlr: 0.01\n", "config: small\n"])
def test_a_file_that_names_a_preset_without_its_settings_is_refused(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "my.yaml").write_text(text)
    told = "my.yaml: a settings file does not begin from preset small; give --config small with"
    with pytest.raises(InputError, match=told):
        TrainConfig.make(str(tmp_path / "my.yaml"), {})


def test_options_of_a_wrong_kind_are_told_under_another_detector(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("detector_options:\n- roi_batch: 64\n")
    with pytest.raises(InputError, match="my.yaml: setting detector_options must be an object"):
        TrainConfig.make(str(path), {"detector": "retinanet"})


def test_unknown_preset_and_missing_file() -> None:
    with pytest.raises(InputError, match="unknown preset 'smal'; did you mean 'small'"):
        TrainConfig.make("smal", {})
    with pytest.raises(InputError, match="nowhere.yaml: no such settings file"):
        TrainConfig.make("nowhere.yaml", {})


def test_dump_is_flat_and_in_order() -> None:
    lines = dump_config(TrainConfig()).splitlines()
    names = [line.split(":")[0] for line in lines if not line.startswith(("-", " "))]
    assert names == [entry.name for entry in fields(TrainConfig)]


def test_a_wrong_option_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("lr: 0.1\nflip:\n")
    with pytest.raises(InputError, match=r"mine.yaml: setting flip must .*, got nothing"):
        TrainConfig.make(str(tmp_path / "mine.yaml"), {})
    (tmp_path / "mine.yaml").write_text("lr: 0.1\n")
    with pytest.raises(InputError, match=r"^options: setting iterations must .*, got 1.5"):
        TrainConfig.make(str(tmp_path / "mine.yaml"), {"iterations": 1.5})


@pytest.mark.parametrize("length", [{"iterations": 900}, {"epochs": 12.0}])
def test_a_recipes_steps_follow_another_length(length: dict[str, float]) -> None:
    recipe = TrainConfig.make("detnet59_faster_rcnn_fpn_2x", {})
    shorter = TrainConfig.make("detnet59_faster_rcnn_fpn_2x", length)
    assert recipe.steps == [120_000, 160_000] and recipe.length == {"iterations": 180_000}
    assert shorter.length == length and shorter.steps == [0.666667, 0.888889]
    assert shorter.departures == length
    own = TrainConfig.make("detnet59_faster_rcnn_fpn_2x", {**length, "steps": [500]})
    assert own.steps == [500]


def test_steps_behind_the_end_are_not_reached_by_another_length(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("iterations: 100\nsteps: [0.5, 80, 100]\n")
    assert TrainConfig.make(str(tmp_path / "mine.yaml"), {"iterations": 10}).steps == [0.5, 0.8]
    assert TrainConfig.make(str(tmp_path / "mine.yaml"), {}).steps == [0.5, 80, 100]
