"""Evaluation during training: which model is the best so far, and when to stop early."""

import contextlib
import time
from typing import Any

from detnet.training.run_state import Run, log, share_buffers


def evaluate_and_keep(run: Run, board: Any) -> None:
    """Scores the model as it is now, and keeps model and scores if they are the best so far.

    Without a validation split it does nothing.
    """
    if not run.task.source.val_images:
        return
    began = time.perf_counter()
    share_buffers(run)
    with run.ema.applied() if run.ema else contextlib.nullcontext():
        measured = run.task.evaluate(run.model, run.autocast)
    better = _note_score(run, measured.scores[run.config.best_metric])
    if better and run.process.main:
        run.task.save_model(run.folder.best, run.model, run.ema.model_state() if run.ema else None)
        measured.write(run.folder.evaluation)
    event = {
        "event": "evaluation",
        "iteration": run.progress.iteration,
        "epoch": run.progress.iteration / run.plan.per_epoch,
        **measured.scores,
        "best": better,
        "seconds": time.perf_counter() - began,
    }
    log(run, board, event)
    run.on_event(event)


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
