import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detnet.backbones.base import Classifier
from detnet.backbones.files import ClassifierInfo, save_classifier
from detnet.backbones.spaces.space import supernet_of_space
from detnet.engine.distributed import Process
from detnet.search.scoring.scorer import Scorer, make_scorer
from detnet.training.classification.config import PretrainConfig
from detnet.training.settings import write_config
from tests.search.conftest import SPACE, scoring_settings

PATH = (2, 1, 3, 0)


@pytest.fixture
def scorer(tmp_path: Path) -> Scorer:
    """Two classes of 10 images that differ in colour; every second image is kept apart."""
    draws = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (tmp_path / "images/train" / name).mkdir(parents=True)
        for number in range(10):
            pixels = draws.integers(60 * label, 160 + 90 * label, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"images/train/{name}/{number}.png")
    run = tmp_path / "run"
    (run / "pretrain").mkdir(parents=True)
    (run / "data").mkdir()
    (run / "data" / "classes.json").write_text(json.dumps({"search": list(range(0, 20, 2))}))
    config = PretrainConfig.make(None, {"data": str(tmp_path / "images"), "image_size": 32})
    write_config(config, run / "pretrain/config.yaml")
    torch.manual_seed(0)
    options = {"space": SPACE.to_json(), "width": 0.5, "stride_in": "1x1", "norm": "batch"}
    model = Classifier(supernet_of_space(**options), 2)
    info = ClassifierInfo("supernet", ("dark", "light"), options, 32, 36)
    save_classifier(run / "pretrain/model.safetensors", info, model.state_dict())
    settings = scoring_settings(
        guide="classification",
        recalibration_images=40,
        recalibration_batch=4,
        cheap_score_images=6,
    )
    return make_scorer(settings, run, Process(0, 1, torch.device("cpu")))


def test_the_score_is_the_share_told_right(scorer: Scorer) -> None:
    evaluator = scorer.evaluator
    assert (evaluator.train_images, evaluator.search_images, scorer.images()) == (
        10,
        10,
        50,
    )
    before = {name: value.clone() for name, value in evaluator.model.state_dict().items()}
    score = scorer.score(PATH, "full")
    assert score in {n / 10 for n in range(11)}
    scorer.score((0, 0, 0, 0), "full")
    assert scorer.score(PATH, "full") == score
    assert all(torch.equal(v, before[name]) for name, v in evaluator.model.state_dict().items())


def test_a_subset_has_as_many_of_each_class(scorer: Scorer) -> None:
    chosen = scorer.evaluator.subset(6, seed=1)
    assert chosen == scorer.evaluator.subset(6, seed=1) == sorted(set(chosen)) and len(chosen) == 6
    assert sum(index < 5 for index in chosen) == 3  # of the images kept apart the first 5 are dark
    assert scorer.score(PATH, "cheap") in {n / 6 for n in range(7)}


def test_a_classifier_that_gives_nan_has_no_score(scorer: Scorer) -> None:
    with torch.no_grad():
        scorer.evaluator.model.fc.bias[0] = torch.nan
    assert math.isnan(scorer.score(PATH, "full"))
