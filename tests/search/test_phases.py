"""A search from phase to phase: what is refused at once, what is resumed, what comes out."""

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.search.config import SearchConfig
from detnet.search.phases import learnt_nothing, run_phases
from detnet.search.records import Winner
from detnet.search.run import SearchRun
from detnet.search.study.study import CandidateRecord
from detnet.training.classification.config import PretrainConfig
from detnet.training.detection.config import TrainConfig
from tests.search.small_search import AS_CLASSIFIER, SPACE, settings, write_classes, write_data

Event = dict[str, Any]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("places")
    return write_data(folder / "data"), write_classes(folder / "classes")


@pytest.fixture
def values(places: tuple[Path, Path]) -> dict[str, Any]:
    return settings(*places)


def configured(values: dict[str, Any], **changes: Any) -> SearchConfig:
    return SearchConfig.make(None, {**values, **changes})


def go(config: SearchConfig | None, run: Path, **options: Any) -> tuple[bool, list[Event]]:
    """Carries a search out and gives its events."""
    torch.set_num_threads(1)
    events: list[Event] = []
    begun = (run / "config.yaml").exists()
    done = run_phases(
        None if begun else config,
        run,
        resume=begun,
        **{"on_event": events.append, "estimate": False, **options},
    )
    return done, events


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_macs": 100}, "no network of this space has at most .* the smallest has 0.7"),
        ({"retrain": {"lrr": 1}}, "retrain: unknown setting 'lrr'; did you mean 'lr'"),
        ({"retrain": {"best_metric": "luck"}}, "retrain: best_metric must be one of"),
        ({"retrain": {"detector_options": {"box_hed": 1}}}, "retrain: unknown option .*box_head"),
        ({"retrain_pretrain": {"width": 1.0}}, "retrain_pretrain: width is decided by the search"),
        ({"pretrain": {"batch_size": 3, "accumulate": 2}}, "pretrain: batch_size 3 cannot be div"),
        ({"finetune": {"norm": "frozen"}}, "finetune: norm frozen would hold"),
        ({"finetune": {"norm_settled": 0.5}}, "finetune: norm_settled 0.5 would .* of no path"),
        ({"pretrain": {"norm_settled": 0.0}}, "pretrain: norm_settled 0 would have"),
        ({"single_steps": 2, "pretrain": {"ema": 0.9}}, "pretrain: ema 0.9 would average what all"),
        ({"finetune": {"val_split": "val"}}, "finetune: val_split is none or search"),
        ({"finetune": {"weights": "x"}}, "finetune: weights is decided by the search itself"),
        (
            {"retrain": {"patience": 2}},
            "retrain: patience would end a training by its scores on val",
        ),
        ({"finetune": {"val_split": "search", "patience": 2}}, "finetune: patience would end"),
        (
            {"validate": {"train": {"patience": 2}}},
            "validate: train: patience would end a training",
        ),
        ({"validate": {"train": {"epoch": 3}}}, "validate: train: unknown setting 'epoch'"),
        ({"detector": "retinanett"}, "unknown detector 'retinanett'; did you mean 'retinanet'"),
        ({"detector": "mask_rcnn_fpn"}, "guided by boxes"),
        ({"space": "detnas_smal"}, "^unknown space 'detnas_smal'; did you mean 'detnas_small'"),
        ({"data": ""}, "no data: give --data"),
        ({"data": "nowhere"}, "nowhere: no such folder"),
        ({"pretrain": {"train_split": 5}}, "pretrain: setting train_split must be a text, got 5"),
        ({"storage": "foo://x"}, "storage foo://x: give postgresql://"),
        ({"storage": "nowhere/s.db"}, "storage .*nowhere/s.db: there is no folder .*nowhere"),
        ({"search_images_folder": "x"}, "search_images_folder is that of search_annotations"),
        (
            {"guide": "classification", "val_split": "zzz"},
            "retrain: .*data: no annotations of the split 'zzz'",
        ),
        (
            {"retrain_pretrain": {**AS_CLASSIFIER, "train_split": "zzz"}},
            "retrain_pretrain: .*classes: has no folder 'zzz'",
        ),
        (
            {"retrain_pretrain": {**AS_CLASSIFIER, "val_split": "zzz"}},
            "retrain_pretrain: .*classes: has no folder 'zzz'",
        ),
        (
            {"validate": {"pretrain": {"val_split": "zzz"}}},
            "validate: pretrain: .*classes: has no folder 'zzz'",
        ),
        (
            {"validate": {"train": {"val_split": "zzz"}}},
            "validate: train: .*data: no annotations of the split 'zzz'",
        ),
        ({"pretrain_data": ""}, "no data to pre-train on: give --pretrain-data"),
        ({"guide": "classification", "from_scratch": True}, "needs the pre-training"),
        ({"mutations": 4}, "4 mutations and 1 crossovers do not fit a population of 4"),
        ({"pretrain_sampling": "bins"}, "bins from 290 M to 360 M multiply-adds miss the space"),
        (
            {"space": "detnet", "max_macs": None, "pretrain_sampling": "bins"},
            "bins are for DetNAS's spaces.*set pretrain_sampling to uniform",
        ),
        ({"single_steps": 50}, "^single_steps 50 would leave none of the [1-9] steps of pretrain"),
        ({"space": "detnet", "max_macs": None, "finetune_sampling": "fair"}, "has 2 and 3; choose"),
        ({"cost_image_size": [16, 16]}, "coarsest stride"),
    ],
)
def test_what_a_later_phase_would_stumble_over_is_refused_at_once(
    values: dict[str, Any], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        go(configured(values, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_space_that_does_not_fit_the_detector(values: dict[str, Any], tmp_path: Path) -> None:
    changes: dict[str, Any] = {"detector": "fcos", "space": {**SPACE, "rows": SPACE["rows"][:1]}}
    changes |= {
        group: {**values[group], "detector_options": {}} for group in ("finetune", "retrain")
    }
    with pytest.raises(InputError, match="finetune: .* takes the levels from number 3 on"):
        go(configured(values, max_macs=None, **changes), tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_the_winner_is_the_best_and_of_equals_the_earlier(
    values: dict[str, Any], tmp_path: Path
) -> None:
    run = SearchRun(tmp_path, configured(values))

    def record(slot: int, score: float | None) -> CandidateRecord:
        state: Any = "failed" if score is None else "done"
        found = None if score is None else (score,)
        path = (slot % 4, 0, 0, 0)
        costs = {"macs": 5.0, "params": 6.0}
        return CandidateRecord(
            path,
            found,
            costs,
            generation=0,
            slot=slot,
            state=state,
            seconds=1.0,
            worker="w",
            error=None,
            attempts=1,
        )

    records = [record(0, 0.1), record(1, None), record(2, 0.3), record(3, 0.3)]
    winner = run.write_winner(records)
    costs = {"macs": 5.0, "params": 6.0}
    place = {"generation": 0, "slot": 2, "generations": 2}
    assert winner == Winner(path="2 0 0 0", score=0.3, **costs, **place) == run.winner
    with pytest.raises(InputError, match="no candidate was scored"):
        run.write_winner(records[1:2])


def test_an_interrupted_pretraining_is_gone_on_with(values: dict[str, Any], tmp_path: Path) -> None:
    config = configured(
        values, pretrain_sampling="bins", bin_low=8e5, bin_high=1.2e6, bin_width=1e5
    )
    done, events = go(config, tmp_path / "whole", only="pretrain")
    assert done and losses(events) and not (tmp_path / "whole" / "finetune").exists()
    parts = tmp_path / "parts"
    first, before = go(config, parts, only="pretrain", on_event=interrupting(at("pretrain", 3)))
    assert first is False
    second, after = go(None, parts, only="pretrain")
    assert second is True
    assert losses(after) == losses(events)[3:]
    models = [tmp_path / name / "pretrain" / "model.safetensors" for name in ("whole", "parts")]
    assert models[0].read_bytes() == models[1].read_bytes()
    again, events = go(None, parts, only="pretrain")
    assert again and {"event": "note", "text": "pretrain: done before"} in events


def test_a_supernet_goes_on_with_the_settings_it_began_with(
    values: dict[str, Any], tmp_path: Path
) -> None:
    """What changes no weight may be otherwise; all else is refused, now or when it is complete."""
    run = tmp_path / "run"
    go(configured(values), run, only="pretrain", on_event=interrupting(at("pretrain", 1)))
    place = run / "config.yaml"
    written = yaml.safe_load(place.read_text())

    def refused(changes: dict[str, Any], message: str) -> None:
        place.write_text(yaml.safe_dump({**written, **changes}))
        with pytest.raises(InputError, match=f"^{run}/pretrain: was trained with {message}; resto"):
            go(None, run, only="pretrain")

    refused({"pretrain": {**values["pretrain"], "lr": 0.5}}, "lr 0.02, now it is 0.5")
    refused({"pretrain_sampling": "fair"}, "pretrain_sampling uniform, now it is fair")
    refused({"single_steps": 1}, "single_steps 0, now it is 1")
    free = {"log_every": 2, "tensorboard": False}
    changes = {"pretrain": {**values["pretrain"], **free}, "bin_low": 1e6, "finetune": {}}
    place.write_text(yaml.safe_dump({**written, **changes, "workers": 1}))
    assert go(None, run, only="pretrain")[0]
    metrics = RunFolder(run / "pretrain").read_metrics()
    assert [one["iteration"] for one in metrics if one["event"] == "step"] == [1, 2, 4]
    refused({"pretrain": {**values["pretrain"], "iterations": 5}}, "iterations 4, now it is 5")


def test_a_supernet_that_has_learnt_nothing_is_told(values: dict[str, Any], tmp_path: Path) -> None:
    config = configured(values, pretrain={**values["pretrain"], "lr": 1e-9})
    done, events = go(config, tmp_path / "run", only="pretrain")
    assert done and any("hardly learnt" in event.get("text", "") for event in events)
    metrics = tmp_path / "run/pretrain/metrics.jsonl"
    for loss, told in ((3.58, "its loss is 3.58, guessing's 3.69; try"), (3.4, "")):
        step = json.dumps({"event": "step", "loss": loss}) + "\n"
        metrics.write_text(10 * step.replace(str(loss), "9.9") + 10 * step)
        said = learnt_nothing(metrics.parent, classes=40)
        assert told in said and bool(said) == bool(told)


def test_a_signal_while_a_phase_is_finished_ends_the_search(
    values: dict[str, Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    at_the_end = interrupting(lambda event: event["event"] == "end")
    assert go(configured(values), run, on_event=at_the_end)[0] is False
    assert (run / "pretrain" / "model.safetensors").exists() and not (run / "finetune").exists()


@pytest.mark.slow
def test_the_whole_road_killed_everywhere(values: dict[str, Any], tmp_path: Path) -> None:
    """An uninterrupted search, and one that is stopped or killed in every phase, end alike."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    config = configured(values)
    done, events = go(config, whole, estimate=True)
    assert done
    assert any("decoded images are kept in memory" in str(event.get("text")) for event in events)
    rates = [event["hit_rate"] for event in events if event["event"] == "candidate"]
    assert rates[0] < 1 == rates[-1]
    for place in ("pretrain", "finetune", "search", "winner/pretrain", "winner/train"):
        assert go(config, parts, on_event=interrupting(at(place, 1)))[0] is False
        with pytest.raises(_Killed):  # a kill loses what came after the last checkpoint
            go(None, parts, on_event=killing(at(place, 3)))
    assert go(None, parts)[0]
    assert outcome(whole) == outcome(parts)
    assert (parts / "winner" / "train" / "evaluation" / "scores.json").is_file()
    first = PretrainConfig.read(parts / "winner" / "pretrain.yaml")
    second = TrainConfig.read(parts / "winner" / "train.yaml")
    path = json.loads((parts / "winner.json").read_text())["path"]
    assert first.backbone_options["path"] == second.backbone_options["path"] == path
    assert second.weights == str(parts / "winner" / "pretrain")


@pytest.mark.slow
def test_a_killed_search_goes_on(values: dict[str, Any], tmp_path: Path) -> None:
    """SIGKILL in the middle of the scoring; another process finishes to the same winner."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    config = configured(values, heartbeat_s=1, generations=3)
    assert go(config, whole)[0]
    for phase in ("pretrain", "finetune"):
        assert go(config, parts, only=phase)[0]
    command = [sys.executable, "-m", "detnet.cli", "search", "--resume", str(parts)]
    with subprocess.Popen([*command, "--no-estimate"], stderr=subprocess.DEVNULL) as process:
        while finished(parts / "study.db") < 3:
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
    assert go(None, parts)[0]
    assert outcome(whole) == outcome(parts)


@pytest.mark.slow
def test_without_pretraining(values: dict[str, Any], tmp_path: Path) -> None:
    changes = {"from_scratch": True, "pretrain_data": "", "single_steps": 2, "method": "nsga2"}
    assert go(configured(values, **changes), tmp_path / "run")[0]
    assert not (tmp_path / "run" / "pretrain").exists()
    assert TrainConfig.read(tmp_path / "run" / "winner" / "train.yaml").weights is None


@pytest.mark.slow
def test_classification_as_the_guide(values: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    done, events = go(configured(values, guide="classification"), run)
    assert done and not (run / "finetune").exists()
    starts = [event for event in events if event["event"] == "start"]
    assert [event["images"] for event in starts] == [12, 16, 12]  # 4 of 16 pictures kept apart
    assert 0 <= json.loads((run / "winner.json").read_text())["score"] <= 1


class _Killed(Exception):
    """Stands for a kill: nothing is saved on the way out."""


def at(place: str, number: int) -> Callable[[Event], bool]:
    """Makes what says True after a step of the training in a folder, or after some candidates."""
    folder, candidates = "", 0

    def now(event: Event) -> bool:
        nonlocal folder, candidates
        folder = event.get("folder", folder)
        candidates += event["event"] == "candidate"
        if place == "search":
            return event["event"] == "candidate" and candidates == number
        training = event["event"] == "progress" and folder.endswith(f"/{place}")
        return training and event["iteration"] == number

    return now


def interrupting(now: Callable[[Event], bool]) -> Callable[[Event], None]:
    def on_event(event: Event) -> None:
        if now(event):
            os.kill(os.getpid(), signal.SIGINT)

    return on_event


def killing(now: Callable[[Event], bool]) -> Callable[[Event], None]:
    def on_event(event: Event) -> None:
        if now(event):
            raise _Killed

    return on_event


def losses(events: list[Event]) -> list[float]:
    return [event["loss"] for event in events if event["event"] == "progress"]


def finished(study: Path) -> int:
    """Candidates that are scored."""
    if not study.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{study}?mode=ro", uri=True) as database:
            query = "SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'"
            return int(database.execute(query).fetchone()[0])
    except sqlite3.OperationalError:  # its tables are being made
        return 0
    finally:
        database.close()


def outcome(run: Path) -> dict[str, Any]:
    """All that a search must reach again: weights, scores, the winner."""
    from detnet.search.study.study import load_study, read_candidates

    with load_study(str(run / "study.db")) as study:
        scores = [(one.path, one.values) for one in read_candidates(study)]
    models = {
        name: hashlib.sha256((run / name / "model.safetensors").read_bytes()).hexdigest()
        for name in ("pretrain", "finetune", "winner/pretrain", "winner/train")
    }
    return {"scores": scores, "winner": (run / "winner.json").read_text(), **models}
