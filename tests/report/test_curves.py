"""A run's course as charts: which there are, what their lines are called, and the best score."""

from typing import Any

from detnet.report.curves import Chart, training_charts


def events() -> list[dict[str, Any]]:
    """Ten steps and three evaluations, of which the second was the best."""
    steps = [
        {"event": "step", "iteration": n, "loss": 3 / n, "loss_mask": 1 / n, "loss_box_reg": 2 / n}
        for n in range(1, 11)
    ]
    found = {4: (0.25, 0.5), 7: (0.375, 0.25), 10: (0.3125, 0.4375)}
    evaluations = [
        {"event": "evaluation", "iteration": n, "AP": box, "segm_AP": mask, "val_loss": 1.5}
        for n, (box, mask) in found.items()
    ]
    return [*steps, *evaluations]


def charts(of: list[dict[str, Any]]) -> dict[str, Chart]:
    return {chart.title: chart for chart in training_charts(of)}


def test_only_what_was_logged_is_drawn() -> None:
    found = charts(events())
    assert list(found) == [
        "Loss", "Its parts", "Average precision on val", "Average precision of masks on val",
    ]  # fmt: skip
    assert [name for name, _ in found["Loss"].legend] == ["each step", "moving mean", "on val"]
    assert [name for name, _ in found["Its parts"].legend] == ["mask", "box_reg"]
    assert not charts([])


def test_the_best_score_is_named_wherever_it_was() -> None:
    found = charts(events())
    assert found["Average precision on val"].note == "best AP 37.5 at iteration 7"
    assert found["Average precision of masks on val"].note == "best AP 50.0 at iteration 4"
