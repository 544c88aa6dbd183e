"""Evaluation during training: which model is the best so far, and when to stop early."""

import contextlib
import time
from typing import Any

from detnet.detectors.files import save_model
from detnet.errors import InputError
from detnet.evaluation.coco import HEADLINE
from detnet.recipes.config import TrainConfig
from detnet.recipes.evaluate import evaluate_model, validation_losses, write_scores
from detnet.recipes.material import MASK_DETECTORS
from detnet.recipes.run_state import Run, log, share_buffers


def require_metric(config: TrainConfig) -> None:
    """Refuses a metric that no evaluation will have, before the first hours.

    Raises:
        InputError: naming those there are.
    """
    known = [*HEADLINE]
    if config.detector in MASK_DETECTORS:
        known += [f"segm_{name}" for name in HEADLINE]
    if config.best_metric not in known:
        raise InputError(
            f"best_metric must be one of {', '.join(known)}, got {config.best_metric!r}"
        )


def evaluate_and_keep(run: Run, board: Any) -> None:
    """Scores the model as it is now, and keeps model and scores if they are the best so far.

    Without a validation split it does nothing.
    """
    if run.material.val is None:
        return
    began = time.perf_counter()
    share_buffers(run)
    with run.ema.applied() if run.ema else contextlib.nullcontext():
        scores = evaluate_model(
            run.model,
            run.material.val,
            process=run.process,
            autocast=run.autocast,
            workers=run.config.workers,
        )
        losses = _losses(run) if run.config.val_loss else {}
    score = scores.headline[run.config.best_metric]
    better = _note_score(run, score)
    if better and run.process.main:
        save_model(run.folder.best, run.model, run.ema.model_state() if run.ema else None)
        write_scores(scores, run.folder.evaluation)
    event = {
        "event": "evaluation",
        "iteration": run.progress.iteration,
        "epoch": run.progress.iteration / run.plan.per_epoch,
        **scores.headline,
        **{f"val_{name}": value for name, value in losses.items()},
        "best": better,
        "seconds": time.perf_counter() - began,
    }
    log(run, board, event)
    run.watch(event)


def _losses(run: Run) -> dict[str, float]:
    assert run.material.val is not None  # asked by the caller
    return validation_losses(
        run.model,
        run.material.val,
        run.batches.batch_size,
        process=run.process,
        autocast=run.autocast,
        workers=run.config.workers,
        seed=run.config.seed,
    )


def _note_score(run: Run, score: float | None) -> bool:
    """Brings the progress up to date and says whether the score is the best so far."""
    progress = run.progress
    better = score is not None and (progress.best is None or score > progress.best)
    if better:
        progress.best, progress.best_iteration = score, progress.iteration
        progress.worse_in_a_row = 0
    else:
        progress.worse_in_a_row += 1
    progress.stopped_early = 0 < run.config.patience <= progress.worse_in_a_row
    return better
