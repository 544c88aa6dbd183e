"""A campaign small enough to be run: thin networks on made-up scenes, a few steps."""

from dataclasses import replace
from typing import Any

import numpy as np

from detnet.campaign.carry_out import LAST, RunOutcome
from detnet.campaign.plan import RESULT, Campaign
from detnet.campaign.runs import CampaignRun
from detnet.data.reading import load_scored
from detnet.engine.runs import RunFolder
from detnet.evaluation.detector import score_results
from detnet.evaluation.files import write_scores
from detnet.evaluation.results import Results
from detnet.search.records import write_record
from detnet.training.detection.config import TrainConfig, find_val

TRAIN: dict[str, Any] = {
    "norm": "sync",
    "min_sizes": [96],
    "max_size": 128,
    "batch_size": 2,
    "iterations": 4,
    "evaluate_every": 1,
    "checkpoint_every": 1,
    "log_every": 1,
    "lr": 0.01,
    "lr_batch": 0,
    "workers": 0,
    "detector_options": {"post_nms_train": 20, "post_nms_test": 10, "roi_batch": 16},
}
PRETRAIN: dict[str, Any] = {
    "data": "classes",
    "image_size": 32,
    "batch_size": 2,
    "iterations": 2,
    "checkpoint_every": 1,
    "workers": 0,
    "val_split": "none",
}
VARIANTS = {
    "detnet59": {"backbone": "detnet59", "width": 0.125},
    "resnet50": {"backbone": "resnet50", "width": 0.125},
}
CAMPAIGN: dict[str, Any] = {
    "data": {"scenes": "scenes"},
    "pretrain": PRETRAIN,
    "train": TRAIN,
    "variants": VARIANTS,
    "seeds": 2,
    "heartbeat_s": 1,
    "resamples": 100,
    "questions": ["detnet59 over resnet50: AP", "resnet50 over detnet59: AP50 less AP85"],
}


def pretend(campaign: Campaign, run: CampaignRun, *, skill: float) -> None:
    """Leaves what a finished run leaves: detections beside the objects, the better the nearer.

    Args:
        skill: share of the objects that are found; the boxes are as much nearer to them.
    """
    place = campaign.place(run)
    seconds = 60.0 + run.seed
    if run.kind == "pretrain":
        write_record(place / RESULT, RunOutcome(seconds=seconds))
        return
    config = run.config()
    assert isinstance(config, TrainConfig)
    split = find_val(config)
    assert split is not None
    truth = load_scored(split)[2]
    random = np.random.default_rng([run.seed, len(run.variant), round(100 * skill)])
    boxes, scores = truth.bbox.boxes.copy(), []
    for box in boxes:
        moved = random.normal(0, 0.25 * (1 - skill), 4) * np.tile(box[2:], 2)
        box += [*moved[:2], *abs(moved[2:])]
        scores.append(random.uniform(0.5, 1) * (random.random() < skill) + 0.01)
    found = Results(
        truth.bbox.image_ids[truth.bbox.images],
        truth.bbox.category_ids[truth.bbox.categories],
        np.array(scores),
        boxes,
    )
    scored = replace(score_results(found, truth, {}), split=split)
    write_scores(scored, place / LAST)
    write_record(place / RESULT, RunOutcome(scores=scored.headline, seconds=seconds))
    folder = RunFolder(place)
    for epoch in (1, 2):
        for number in range(3):
            iteration = 3 * epoch + number - 2
            step = {"event": "step", "iteration": iteration, "epoch": iteration / 3}
            folder.log({**step, "loss": 2 / iteration})
        ap = (scored.headline["AP"] or 0) * epoch / 2
        folder.log({"event": "evaluation", "iteration": 3 * epoch, "epoch": epoch, "AP": ap})
