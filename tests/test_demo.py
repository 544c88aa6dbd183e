"""The demonstration end to end on a handful of scenes; `make demo` is the same with more."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from detnet import demo as module
from detnet.errors import InputError
from detnet.training.detection.config import TrainConfig


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.conftest import TINY

    monkeypatch.setattr(module, "TRAIN_SCENES", 4)
    monkeypatch.setattr(module, "VAL_SCENES", 2)
    monkeypatch.setattr(module, "_SIDES", (64, 32))
    monkeypatch.setattr(module, "_PACE_STEPS", 4)
    monkeypatch.setattr(module, "_LEAST_STEPS", 4)
    monkeypatch.setattr(module, "_UNTIMED_STEPS", 1)

    def tiny(place: Path, changes: Mapping[str, Any]) -> TrainConfig:
        options = {"post_nms_train": 40, **changes.get("detector_options", {})}
        return TrainConfig.make(
            None, {**TINY, **changes, "data": str(place), "detector_options": options}
        )

    monkeypatch.setattr(module, "_config", tiny)


def test_the_choice_is_told_and_stored_and_a_second_call_only_writes_the_page(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[dict[str, Any]] = []
    output = tmp_path / "demo"
    outcome = module.demo(output, None, on_event=events.append)
    assert outcome.page is not None and outcome.page.stat().st_size > 10_000
    told = [event["text"] for event in events if event["event"] == "note"]
    choice = module.Choice(**json.loads((output / "run-choice.json").read_text()))
    assert any(f"{choice.iterations} steps on images of {choice.side} pixels" in t for t in told)
    config = TrainConfig.read(outcome.run / "config.yaml")
    assert config.iterations == choice.iterations
    assert config.min_sizes == [choice.side]
    assert config.detector_options["post_nms_test"] == choice.proposals

    def again(*args: object, **options: object) -> float:
        raise AssertionError("the pace is measured a second time")

    monkeypatch.setattr(module, "measure_pace", again)
    trained = (outcome.run / "best.safetensors").stat().st_mtime_ns
    assert module.demo(output, None, minutes=99, on_event=events.append).page == outcome.page
    assert (outcome.run / "best.safetensors").stat().st_mtime_ns == trained
    assert TrainConfig.read(outcome.run / "config.yaml") == config


@pytest.mark.slow
def test_own_data(quick: None, scenes: Path, tmp_path: Path) -> None:
    outcome = module.demo(tmp_path / "demo", scenes, on_event=lambda event: None)
    assert outcome.run.name == f"run-{scenes.name}"
    assert not (tmp_path / "demo" / "scenes").exists()
    assert outcome.page is not None and "data:image" in outcome.page.read_text()


def _choose(small_s: float, large_s: float, *, minutes: float, gone_s: float = 0) -> module.Choice:
    """A machine whose steps take `small_s` at 160 pixels and `large_s` at 240."""
    pace = {160: small_s, 240: large_s}
    preset = TrainConfig.make("demo", {"data": "scenes"})
    return module.choose(preset, pace.__getitem__, minutes=minutes, clock=lambda: gone_s)


def test_a_fast_machine_does_the_whole_preset() -> None:
    preset = TrainConfig.make("demo", {"data": "scenes"})
    choice = _choose(0.05, 0.1, minutes=6)
    assert (choice.side, choice.iterations, choice.proposals) == (240, 1800, 300)
    changed = TrainConfig.make("demo", {"data": "scenes", **choice.settings(preset)})
    assert changed == preset


def test_a_slower_machine_gets_smaller_images_before_too_few_steps() -> None:
    choices = [_choose(slow / 2, slow, minutes=6) for slow in (0.1, 0.15, 0.25, 0.35, 0.4, 1.5)]
    assert [choice.side for choice in choices] == sorted((c.side for c in choices), reverse=True)
    assert {choice.side for choice in choices} == {240, 192, 160}
    for choice in choices[:-1]:
        assert choice.iterations >= module._ENOUGH_STEPS
    for choice in choices:
        assert choice.iterations * choice.step_s < 360


def test_time_that_is_gone_is_not_promised_twice() -> None:
    fresh, late = (_choose(0.2, 0.4, minutes=6, gone_s=gone) for gone in (0, 120))
    assert late.iterations * late.step_s < 240
    assert late.iterations < fresh.iterations or late.side < fresh.side


def test_more_minutes_buy_more() -> None:
    steps = [_choose(0.25, 0.45, minutes=minutes) for minutes in (2, 6, 60)]
    assert (steps[-1].side, steps[-1].iterations) == (240, 1800)
    assert steps[0].iterations < steps[1].iterations


@pytest.mark.parametrize(
    ("step_s", "minutes", "given"),
    [
        (0.1, None, 6),
        (0.25, None, 6),
        (0.32, None, 7),
        (0.36, None, 8),
        (9.0, None, 9),
        (0.36, 6, 6),
    ],
)
def test_a_slow_machine_takes_more_minutes_unless_told(
    step_s: float, minutes: float | None, given: float
) -> None:
    preset, asked = TrainConfig.make("demo", {"data": "x"}), list[int]()

    def pace(side: int) -> float:
        asked.append(side)
        return step_s * side / 160

    choice = module.choose_patiently(preset, pace, minutes=minutes, clock=lambda: 5.0)
    assert choice.minutes == given and len(asked) == len(set(asked)), "each side is tried once"
    assert (choice.iterations >= 1000) == (step_s < 0.36 or (step_s, minutes) == (0.36, None))
    assert f"to end within {given} minutes" in choice.told(preset)


@pytest.mark.parametrize("minutes", [0, 0.5, -3, float("nan"), float("inf")])
def test_too_few_minutes_are_refused(minutes: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="minutes must be at least 1"):
        module.demo(tmp_path / "demo", None, minutes=minutes, on_event=lambda event: None)
    assert not (tmp_path / "demo").exists()


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="not for torchrun"):
        module.demo(tmp_path / "demo", None, on_event=lambda event: None)
    assert not (tmp_path / "demo").exists()
