from dataclasses import replace
from typing import Any

from detnet.report.detector_table import detector_table
from detnet.report.results import Result
from detnet.report.results_page import results_page


def result(detector: str, backbone: str, **changes: Any) -> Result:
    """A run whose AP85 is 0.125 and whose rarest class is the lowest."""
    scores = {
        **{name: 0.5 for name in ("AP", "AP50", "AP75", "APs", "APm")},
        "APl": None,
        "by_iou_and_size": {"all": {"AP": {"mean": 0.5, "50": 0.5, "85": 0.125}}},
        "per_class": {
            "disc": {"AP": 0.75, "AP50": 1.0},
            "bar": {"AP": 0.25, "AP50": 0.625},
            "none": {"AP": None, "AP50": None},
        },
    }
    config = {"detector": detector, "backbone": backbone, "width": 0.5, "batch_size": 8, "seed": 0}
    config["min_sizes"] = [240, 320]
    made = Result(
        name=f"{detector}-{backbone}", data="cells", config=config,
        environment={"command": ["detnet", "train"]}, scores=scores, curve=(),
        iterations=500, best_iteration=500, seconds=60.0,
    )  # fmt: skip
    return replace(made, **changes)


BOTH = [result(d, b) for d in ("ssd", "fcos") for b in ("resnet50", "detnet59")]


def test_runs_stand_by_detector_and_backbone() -> None:
    cost = {"params": 5_040_000, "images_per_s": 12.34}
    names = ["fcos-resnet50", "fcos-detnet59"]
    comparison = {"names": names, "cost": {"models": [None, cost]}, "differences": []}
    lines = results_page(BOTH, comparisons=[comparison]).splitlines()
    at = lines.index("### Detectors and backbones")
    assert "4,000 images seen by each, width 0.5, from scratch." in lines[at + 2]
    assert lines[at + 6 : at + 8] == [
        "| fcos | detnet59 | 320 | 50.0 | 50.0 | 12.5 | – | 25.0, 62.5 (bar) | 5.0 M | 12.3 |",
        "| fcos | resnet50 | 320 | 50.0 | 50.0 | 12.5 | – | 25.0, 62.5 (bar) | – | – |",
    ]
    assert [line[:9] for line in lines[at + 8 : at + 10]] == ["| ssd | d", "| ssd | r"]


def test_only_equal_budgets_are_set_side_by_side() -> None:
    longer = [replace(one, iterations=501) for one in BOTH[:2]]
    assert detector_table([*longer, *BOTH[2:]], ()) == ""
    assert detector_table([*longer, *BOTH], ()).count("###") == 1


def test_one_detector_or_one_backbone_makes_no_table() -> None:
    assert detector_table(BOTH[:2], ()) == ""
    assert detector_table(BOTH[::2], ()) == ""


def test_of_two_runs_alike_the_last_is_told() -> None:
    again = replace(BOTH[0], name="again", scores={**BOTH[0].scores, "AP": 0.625})
    table = detector_table([*BOTH, again], ())
    assert "| ssd | resnet50 | 320 | 62.5 |" in table and table.count("| ssd | resnet50 |") == 1
