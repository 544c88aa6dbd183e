"""Measures an exported detector in its own runtime, as `evaluate` does a model of torch's."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from detnet.data.folders import Split
from detnet.errors import InputError
from detnet.evaluation.detector import score_results
from detnet.evaluation.files import DetectorScores
from detnet.files import make_writable
from detnet.inference.engines.predictor import open_engine
from detnet.inference.engines.record import read_export
from detnet.inference.engines.results import engine_results
from detnet.training.detection.evaluate import (
    Track,
    load_for,
    place_of_scores,
    with_voc,
    write_files,
)


def evaluate_export(
    folder: Path,
    split: Split,
    *,
    model: Path | None = None,
    output: Path | None = None,
    measures: Mapping[str, Any] | None = None,
    submission: Path | None = None,
    metric: str = "coco",
    track: Track | None = None,
) -> DetectorScores:
    """Evaluates an exported folder in its own runtime, as `evaluate_file` does a model of torch's.

    Args:
        folder: as `detnet export` writes it.
        split: see `evaluate_file`, as the rest.
        model: the run or model file that the export stands in for: scores are written where its
            own would be; None for the export itself.

    Raises:
        InputError: the folder cannot be used, or its categories are not the data's.
        OSError: the scores' folder cannot be written to.
    """
    record = read_export(folder)
    used, annotations, truths = load_for(
        split, record.categories, masks="masks" in record.finds, categories_of=str(folder)
    )
    if annotations.keypoints is None and (measures or {}).get("sigmas"):
        raise InputError("sigmas are for keypoints, which this detector does not find")
    owner = model or folder
    place = output or (place_of_scores(owner, split) if owner.is_dir() else None)
    if place:
        make_writable(place)
    results = engine_results(
        open_engine(folder), annotations, score_threshold=record.thresholds.score, track=track
    )
    scores = replace(
        score_results(results, truths, measures or {}), split=used, images=len(annotations)
    )
    scores = with_voc(scores, truths, metric)
    write_files(scores, truths, place, submission)
    return scores
