"""RESULTS.md, its curves and its comparisons, from run folders."""

import os
from collections.abc import Sequence
from pathlib import Path

from detnet.files import write_text
from detnet.report.origin import comparisons
from detnet.report.result_curves import write_curves
from detnet.report.results import Result, read_result
from detnet.report.results_page import read_comparison, results_page
from detnet.search.run import SearchRun, is_search
from detnet.training.detection.config import TrainConfig, read_config
from detnet.training.published import Published

_PADDED = 32  # sides of a batch are multiples of it


def write_results_page(
    page: Path, runs: Sequence[Path], *, curves: Path | None, compared: Sequence[Path]
) -> None:
    """Writes the page about finished runs.

    Args:
        page: Markdown file.
        runs: of detectors and classifiers, and of searches.
        curves: folder for a picture for each kind of run and data set, which the page shows; None
            for none.
        compared: what `detnet compare --output` left.

    Raises:
        InputError: a folder that holds no finished, evaluated run, or no comparison.
    """
    searches = [SearchRun.look(run) for run in runs if is_search(run)]
    runs = [run for run in runs if not is_search(run)]
    results = [read_result(run) for run in runs]
    published = {
        result.name: _published(run, result) for run, result in zip(runs, results, strict=True)
    }
    pictures = write_curves(results, curves) if curves else {}
    named = {
        key: Path(os.path.relpath(path, page.parent)).as_posix() for key, path in pictures.items()
    }
    former = {
        result.name: former_rules(read_config(run / "config.yaml"))
        for run, result in zip(runs, results, strict=True)
        if not result.classifier
    }
    text = results_page(
        results,
        published=published,
        comparisons=[read_comparison(path) for path in compared],
        curves=named,
        searches=searches,
        former=former,
    )
    write_text(page, text)


def former_rules(config: TrainConfig) -> list[str]:
    """The options in which a run kept a rule from before they were there, where that mattered.

    Settings that do not name one are of a run that was begun before. Where a detector's levels all
    divide images padded to multiples of 32, its anchors are the same under both rules.
    """
    # Needs torch, which other pages do without.
    from detnet.detectors import DETECTORS
    from detnet.detectors.cost import detector_cost
    from detnet.detectors.weights import TORCHVISION_RULES

    kept = [
        name
        for name in DETECTORS[config.detector].weight_options
        if config.detector_options.get(name, TORCHVISION_RULES[name]) == TORCHVISION_RULES[name]
    ]
    if "anchor_strides" in kept:
        options = {"backbone_options": config.backbone_options, **config.detector_options}
        cost = detector_cost(
            config.detector, backbone=config.backbone, image_size=(64, 96), **options
        )
        if all(_PADDED % level.stride == 0 for level in cost.head_levels):
            kept.remove("anchor_strides")
    return kept


def _published(run: Path, result: Result) -> list[Published]:
    if result.classifier:
        return []
    config = read_config(run / "config.yaml")
    command = [str(word) for word in result.environment.get("command", [])]
    return [comparison.published for comparison in comparisons(config, command)]
