import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from detnet.backbones import BACKBONES
from detnet.coco.categories import Categories
from detnet.data.scenes import write_scenes
from detnet.detectors import DETECTORS, option_defaults
from detnet.detectors.base import info_of
from detnet.detectors.files import save_model
from detnet.engine.optim import sgd
from detnet.evaluation.metrics import ALL_SIZES
from detnet.search.config import SearchConfig
from detnet.search.trainings import finetune_config, retrain_config
from detnet.training.catalogue import (
    COLUMNS,
    FROM_SCRATCH,
    IOU_COLUMNS,
    PUBLISHED,
    RECIPES,
    Published,
)
from detnet.training.classification import train as pretrain
from detnet.training.classification.config import PretrainConfig
from detnet.training.detection import train as detect
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.model_and_data import build_detector, load_data
from detnet.training.settings import presets

OURS = ("demo", "small", "small_keypoints")
TRAINED = [name for name, row in RECIPES.items() if row.command == "train" and name not in OURS]
PRETRAINED = [name for name, row in RECIPES.items() if row.command == "pretrain"]
HEAD_AND_BORDER = {"head_init": "detectron", "rpn_straddle": 0}  # Detectron's
ONE_STEP: dict[str, Any] = {
    "width": 0.125,
    "batch_size": 2,
    "iterations": 1,
    "lr": 1e-4,
    "workers": 0,
    "precision": "fp32",
    "device": "cpu",
    "log_every": 1,
}


def test_every_preset_is_in_the_list_and_the_other_way_round() -> None:
    assert set(presets()) == {*TRAINED, *OURS}
    assert set(presets("pretrain")) == set(PRETRAINED)
    searches = {name for name, row in RECIPES.items() if row.command == "search"}
    assert {f"search/{name}" for name in presets("search")} == searches


def test_the_paper_s_rows_are_there() -> None:
    published = {name: row.published for name, row in RECIPES.items()}
    assert published["detnet59_faster_rcnn_fpn_2x"] == {"AP": 40.2, "AP50": 61.7}
    assert published["resnet101_faster_rcnn_fpn_2x_detectron"] == {"AP": 39.8, "AP50": 62.0}
    assert published["detnet59_mask_rcnn_fpn_2x"] == {"segm_AP": 37.1, "segm_AP50": 60.0}
    assert published["detnet59_faster_rcnn_fpn_scratch"] == {"AP": 36.3, "AP50": 56.5}
    assert published["detnet59_imagenet"] == {"top-1 error": 23.5}


@pytest.mark.parametrize("name", [name for name in TRAINED if name.endswith("_detectron")])
def test_detectron_s_settings_differ_where_they_are_said_to(name: str) -> None:
    literal = TrainConfig.make(name.removesuffix("_detectron"), {})
    other = TrainConfig.make(name, {})
    assert (literal.frozen, other.frozen) == (["stem"], ["stem", "c2"])
    assert (literal.warmup, other.warmup) == ("constant", "linear")
    assert (other.bias_lr_factor, other.bias_weight_decay) == (2.0, 0.0)
    per_level = {
        **{"proposals": "per_level", "pre_nms_train": 2000, "post_nms_train": 2000},
        **{"pre_nms_test": 1000, "post_nms_test": 1000},
    }
    assert literal.detector_options == {**HEAD_AND_BORDER, "post_nms_images": 2}
    assert other.detector_options == {**per_level, **literal.detector_options}
    assert literal.skip_empty and other.skip_empty
    assert (literal.lr, literal.steps, literal.iterations) == (
        other.lr,
        other.steps,
        other.iterations,
    )


def test_cascades_and_trainings_from_scratch_follow_detectron_too() -> None:
    for backbone in ("resnet50", "resnet101", "detnet59"):
        config = TrainConfig.make(f"{backbone}_cascade_rcnn_fpn", {})
        assert (config.bias_lr_factor, config.bias_weight_decay) == (2.0, 0.0)
        assert config.skip_empty
        assert HEAD_AND_BORDER.items() <= config.detector_options.items()
        assert "post_nms_images" not in config.detector_options  # one image a device
    for backbone in ("resnet50", "detnet59"):
        config = TrainConfig.make(f"{backbone}_faster_rcnn_fpn_scratch", {})
        assert (config.norm, config.detector_options["pyramid_norm"]) == ("sync", "sync")
        assert HEAD_AND_BORDER.items() <= config.detector_options.items()


DETNAS = [name for name in TRAINED if RECIPES[name].source.startswith("DetNAS")]


@pytest.mark.parametrize("name", DETNAS)
def test_detnas_s_optimizer(name: str) -> None:
    """Every "bias" at twice the rate without decay; running statistics that move by 0.01."""
    config = TrainConfig.make(name, {})
    assert (config.norm, config.norm_shift, config.norm_momentum) == ("sync", "bias", 0.01)
    model = on_meta(config)
    optimizer = sgd(
        model,
        lr=config.lr,
        weight_decay=config.weight_decay,
        norm_weight_decay=config.norm_weight_decay,
        bias_weight_decay=config.bias_weight_decay,
        bias_lr_factor=config.bias_lr_factor,
        norm_shift=config.norm_shift,
    )
    names = {parameter: name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        kinds = {names[parameter].endswith("bias") for parameter in group["params"]}
        (is_bias,) = kinds
        expected = (2 * config.lr, 0.0) if is_bias else (config.lr, 1e-4)
        assert (group["initial_lr"], group["weight_decay"]) == expected


SEARCHES = [name.removeprefix("search/") for name in RECIPES if name.startswith("search/")]


@pytest.mark.parametrize("name", [name for name in SEARCHES if "nas_" in name])
def test_detnas_s_optimizer_in_its_searches(name: str) -> None:
    """The release has momentum 0.1 in the search, 0.01 in the winner's own training."""
    places = {"search_annotations": "split.json", "search_images_folder": "images"}
    config = SearchConfig.make(name, places)
    phases = [retrain_config(config, Path("run"), "0000", None)]
    if not config.by_classes:
        phases.append(finetune_config(config, Path("run")))
    momenta = [phase.norm_momentum for phase in phases]
    assert momenta == [0.01, None][: len(phases)]
    for phase in phases:
        assert (phase.norm_shift, phase.bias_lr_factor, phase.bias_weight_decay) == ("bias", 2, 0)
        assert phase.skip_empty
        if phase.detector == "faster_rcnn_fpn":
            assert HEAD_AND_BORDER.items() <= phase.detector_options.items()


def on_meta(config: TrainConfig) -> nn.Module:
    """The detector of a recipe without memory for its weights."""
    with torch.device("meta"):
        return build_detector(config, Categories((1, 2), ("one", "other")))


@pytest.mark.parametrize("name", [*TRAINED, *OURS])
def test_a_detection_recipe_s_network_can_be_built(name: str) -> None:
    config = TrainConfig.make(name, {})
    assert option_defaults(config.detector).keys() >= config.detector_options.keys()
    model = on_meta(config)
    for option, value in config.detector_options.items():
        assert info_of(model).options[option] == value


DOCS = Path(__file__).parents[2] / "docs"


def rows_of_the_papers() -> list[list[str]]:
    """The cells of the two tables of rows in docs/papers.md."""
    text = (DOCS / "papers.md").read_text()
    part = text.partition("## Every row of the two papers")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")]
    return [row for row in rows if not set(row[0]) <= {"-", "|"} and row[-1] != "preset"]


def test_every_row_of_the_papers_names_presets_that_exist_or_needs_none() -> None:
    known = {name.removeprefix("search/") for name in RECIPES}
    rows = rows_of_the_papers()
    tables = Counter(row[0] for row in rows if row[0].isdigit())
    # ImageNet's errors have lines of their own: 3 + 3, and one of NoProj.
    assert tables == {"1": 6, "2": 2, "3": 2, "4": 2, "5": 3, "6": 2, "7": 7, "8": 5}
    assert len(rows) - sum(tables.values()) == 6 + 4 * 4 + 1
    for row in rows:
        named = [name for name in re.findall(r"`([^`]+)`", row[-1]) if " " not in name]
        assert all("=" in name or ":" in name or name in known for name in named), row
        assert named or row[-1].startswith("needs none: "), row


def test_the_printed_numbers_of_the_rows_are_those_of_the_presets() -> None:
    checked = 0
    for row in rows_of_the_papers():
        number = re.match(r"[\d.]+", row[-2] if row[0].isdigit() else row[1])
        printed = float(number.group()) if number else None
        first = re.search(r"`([^`]+)`", row[-1])
        if first is None or row[0] in "34" or row[2] == "unverified":
            continue
        recipe = RECIPES.get(first[1]) or RECIPES[f"search/{first[1]}"]
        if row[0] in {"1", "2", "5", "6", "8"} and "as in" not in row[-1]:
            assert printed in recipe.published.values(), row
            checked += 1
        elif not row[0].isdigit():
            numbers = {float(found) for found in re.findall(r"[\d.]+", row[1])}
            assert numbers & set(recipe.published.values()), row
            checked += 1
    assert checked >= 15


def test_unverified_numbers_are_in_no_preset() -> None:
    unverified = [row for row in rows_of_the_papers() if row[2] == "unverified"]
    assert len(unverified) == 2 + 3 * 4 + 1
    for row in unverified:
        for name in re.findall(r"`(\w+)`", row[-1]):
            if "random" not in row[0]:
                assert not (RECIPES.get(name) or RECIPES[f"search/{name}"]).published, name


def test_every_preset_is_named_in_the_docs() -> None:
    text = "".join(path.read_text() for path in sorted(DOCS.glob("*.md")))
    named = set(re.findall(r"`(\w+)`", text))
    assert {name.removeprefix("search/") for name in RECIPES} <= named


def steps_of(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == "step"]


def calm(model: nn.Module) -> nn.Module:
    """Lets a residual network's blocks add little: undrawn batch norms do not hold values down."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("bn3.weight"):
                value.fill_(0.1)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_a_detection_recipe_takes_a_step(name: str, scenes: Path, tmp_path: Path) -> None:
    fewer = {"pre_nms_train": 200, "post_nms_train": 50, "pre_nms_test": 50, "post_nms_test": 10}
    fewer |= {"roi_batch": 16}
    known = option_defaults(TrainConfig.make(name, {}).detector)
    changes = {
        **ONE_STEP,
        "data": str(scenes),
        "min_sizes": [96],
        "test_min_size": 96,
        "max_size": 128,
        "detector_options": {key: value for key, value in fewer.items() if key in known},
    }
    if "keypoints" in DETECTORS[TrainConfig.make(name, {}).detector].targets:
        write_scenes(tmp_path / "scenes", train=4, val=2, size=(160, 120), keypoints=True)
        changes["data"] = str(tmp_path / "scenes")
    config = TrainConfig.make(name, changes)
    if config.norm == "frozen":
        train = load_data(config).train
        model = build_detector(config, train.categories, train.keypoint_layout)
        save_model(tmp_path / "begin.safetensors", calm(model))
        changes["weights"] = str(tmp_path / "begin.safetensors")
        config = TrainConfig.make(name, changes)
    assert detect.train(config, tmp_path / "run", on_event=lambda event: None)
    (step,) = steps_of(tmp_path / "run")
    assert np.isfinite(step["loss"])
    assert (tmp_path / "run" / "best.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", PRETRAINED)
def test_a_pretraining_recipe_takes_a_step(name: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("cat", "dog"):
            folder = tmp_path / "data" / split / kind
            folder.mkdir(parents=True)
            for index in range(2):
                pixels = random.integers(0, 256, (40, 56, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.jpg")
    changes = {**ONE_STEP, "data": str(tmp_path / "data"), "image_size": 32}
    config = PretrainConfig.make(name, changes)
    assert pretrain.pretrain(config, tmp_path / "run", on_event=lambda event: None)
    (step,) = steps_of(tmp_path / "run")
    assert np.isfinite(step["loss"])


EVERY = [*(one for several in PUBLISHED.values() for one in several), *FROM_SCRATCH.values()]


@pytest.mark.parametrize("one", EVERY, ids=lambda one: f"{one.name} {one.where[:7]}")
def test_every_row_is_whole(one: Published) -> None:
    assert len(one.headline) == len(COLUMNS)
    for _, rows in one.by_iou_and_size.values():
        assert tuple(rows) == ALL_SIZES
        for row in rows.values():
            assert len(row) == len(IOU_COLUMNS)
            assert list(row[1:]) == sorted(row[1:], reverse=True), "a stricter overlap finds less"


@pytest.mark.parametrize("backbone", ["resnet50", "detnet59"])
def test_table_3_and_table_1_agree(backbone: str) -> None:
    one = PUBLISHED["faster_rcnn_fpn", backbone][0]
    for key, size in (("AP", "all"), ("APs", "small"), ("APm", "medium"), ("APl", "large")):
        assert one.score(key) == one.cell("AP", size, "mean")
    assert one.score("AP50") == one.cell("AP", "all", "50")


def test_the_papers_argument_is_in_its_numbers() -> None:
    resnet, detnet = (PUBLISHED["faster_rcnn_fpn", b][0] for b in ("resnet50", "detnet59"))

    def gain(metric: str, size: str, column: str) -> float:
        cells = [one.cell(metric, size, column) for one in (detnet, resnet)]
        assert None not in cells
        return cells[0] - cells[1]  # type: ignore[operator]

    assert gain("AP", "large", "85") == pytest.approx(0.055)
    assert gain("AR", "small", "50") == pytest.approx(0.064)
    assert gain("AR", "large", "85") == pytest.approx(0.061)


def test_names_are_ours() -> None:
    for detector, backbone in [*PUBLISHED, *FROM_SCRATCH]:
        assert detector in DETECTORS and backbone in BACKBONES


def test_what_the_paper_leaves_out() -> None:
    one = PUBLISHED["faster_rcnn_fpn", "resnet101"][0]
    assert one.score("AR100") is None and one.cell("AP", "all", "50") is None
    assert PUBLISHED["faster_rcnn_fpn", "detnet59"][0].cell("AP", "tiny", "50") is None
