"""Detectors and backbones side by side, for RESULTS.md."""

from collections.abc import Mapping, Sequence
from typing import Any

from detnet.report.results import Result

_HEAD = (
    "detector",
    "backbone",
    "short side",
    "AP",
    "AP50",
    "AP85",
    "APl",
    "lowest class",
    "params",
    "images/s",
)


def detector_table(results: Sequence[Result], comparisons: Sequence[Mapping[str, Any]]) -> str:
    """Lays out the detectors that were trained on each of several backbones with one budget.

    Args:
        results: on one data set.
        comparisons: as `detnet compare` leaves them; parameters and images per second are those
            that it measured, of a run in several of them the last.

    Returns:
        a heading and a table; "" unless two detectors stand on two backbones each.
    """
    budgets: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        if not result.classifier:
            budgets.setdefault(_budget(result), []).append(result)
    costs = _costs(comparisons)
    return "\n\n".join(
        _table(group, costs)
        for alike in budgets.values()
        if len(_detectors(group := _on_several(alike))) > 1
    )


def _budget(result: Result) -> tuple[Any, ...]:
    """What two runs must share to stand in one table."""
    config = result.config
    return result.images_seen, config.get("width", 1.0), bool(config.get("weights"))


def _on_several(results: Sequence[Result]) -> list[Result]:
    """The last run of each pair of detector and backbone, of detectors with two backbones."""
    last = {(result.config["detector"], result.config["backbone"]): result for result in results}
    often = [detector for detector, _ in last]
    return [one for (detector, _), one in sorted(last.items()) if often.count(detector) > 1]


def _detectors(results: Sequence[Result]) -> set[str]:
    return {result.config["detector"] for result in results}


def _table(results: Sequence[Result], costs: Mapping[str, Mapping[str, Any]]) -> str:
    rows = ["| " + " | ".join(_HEAD) + " |", "|" + "---|" * len(_HEAD)]
    for result in results:
        scores, cost = result.scores, costs.get(result.name, {})
        by_iou = scores["by_iou_and_size"]["all"].get("AP", {})
        classes = scores["per_class"].items()
        scored = ((row["AP"], row["AP50"], name) for name, row in classes if row["AP"] is not None)
        lowest = min(scored, default=None)
        cells = [
            result.config["detector"],
            result.config["backbone"],
            _short_side(result.config),
            *(_percent(scores[name]) for name in ("AP", "AP50")),
            _percent(by_iou.get("85")),
            _percent(scores["APl"]),
            f"{_percent(lowest[0])}, {_percent(lowest[1])} ({lowest[2]})" if lowest else "–",
            f"{cost['params'] / 1e6:.1f} M" if cost else "–",
            f"{cost['images_per_s']:.1f}" if cost else "–",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    first = results[0]
    width = first.config.get("width", 1.0)
    begin = f"{first.images_seen:,} images seen by each, width {width:g}"
    began = "from pre-trained weights" if first.config.get("weights") else "from scratch"
    note = (
        "Of the class with the lowest AP its AP and AP50. Images per second as `detnet compare` "
        "found them, one at a time."
    )
    return f"### Detectors and backbones\n\n{begin}, {began}. {note}\n\n" + "\n".join(rows)


def _short_side(config: Mapping[str, Any]) -> str:
    """To which images are scaled when the detector is measured, in pixels."""
    side = config.get("test_min_size") or (config.get("min_sizes") or ["–"])[-1]
    return str(side)


def _costs(comparisons: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    found = {}
    for comparison in comparisons:
        models = comparison.get("cost", {}).get("models", [])
        for name, cost in zip(comparison["names"], models, strict=False):
            if cost is not None:
                found[name] = cost
    return found


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
