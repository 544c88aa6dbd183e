"""A supernet taken over from another search: the same scores, and what does not fit is refused."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from detnet.data.classification.shards import index_images
from detnet.errors import InputError
from detnet.report.search.page import write_search_page
from detnet.report.search.state import read_search
from detnet.report.search.summary import summarise
from detnet.report.search.text import format_search
from detnet.search.config import SearchConfig
from detnet.search.phases import run_phases
from detnet.search.reuse import check_supernet
from detnet.search.run import SearchRun
from tests.search.small_search import SPACE, settings, write_classes, write_data

Event = dict[str, Any]


def go(values: dict[str, Any] | None, run: Path, only: str | None = None, **changes: Any) -> str:
    """Carries a search out, or goes on with it, and gives its notes."""
    torch.set_num_threads(1)
    events: list[Event] = []
    config = None if values is None else SearchConfig.make(None, {**values, **changes})
    options: dict[str, Any] = {"resume": config is None, "only": only, "estimate": False}
    assert run_phases(config, run, on_event=events.append, **options)
    return "\n".join(event["text"] for event in events if event["event"] == "note")


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("places")
    return settings(write_data(folder / "data"), write_classes(folder / "classes"))


@pytest.fixture(scope="module")
def first(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search whose supernet is pre-trained."""
    run = tmp_path_factory.mktemp("first") / "run"
    go(values, run, "pretrain")
    return run


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def scores(run: Path) -> dict[Any, Any]:
    return {
        (one.generation, one.slot): (one.path, one.score) for one in read_search(run).candidates
    }


def test_a_pretrained_supernet_is_taken_over(
    values: dict[str, Any], first: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    changes = {"detector": "fcos", **plain(values), "pretrain": {**values["pretrain"], "lr": 0.5}}
    changes["single_steps"] = 3
    notes = go(values, run, "pretrain", supernet=str(first), **changes)
    drawn = first / "pretrain" / "paths.json", run / "pretrain" / "paths.json"
    assert drawn[0].read_bytes() == drawn[1].read_bytes(), "how its paths were drawn comes along"
    assert "single_steps 0, not 3" in notes
    model = run / "pretrain" / "model.safetensors"
    assert model.read_bytes() == (first / "pretrain" / "model.safetensors").read_bytes()
    assert "trained with lr 0.02, not 0.5" in notes and "pretrain: done before" in notes
    assert f"that of {first / 'pretrain'}, pre-trained in 4 iterations" in notes
    taken = SearchRun.open(run).taken_supernet
    assert taken is not None and taken.sha256 == sha256(model)
    assert taken.source == str(first / "pretrain") and taken.phase == "pretrain"
    state = read_search(run)
    assert taken.told in format_search(state)
    assert summarise(state)["supernet"]["sha256"] == taken.sha256
    page = write_search_page(tmp_path / "page.html", state).read_text()
    assert taken.sha256[:12] in page and str(first / "pretrain") in page


def test_what_was_taken_over_needs_its_source_no_more(
    values: dict[str, Any], first: Path, tmp_path: Path
) -> None:
    source, run = tmp_path / "source", tmp_path / "run"
    shutil.copytree(first, source)
    go(values, run, "pretrain", supernet=str(source))
    shutil.rmtree(source)
    assert "pretrain: done before" in go(None, run, "pretrain")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0.25}, "has width 0.5, this search 0.25"),
        ({"space": {**SPACE, "stem_channels": 12}, "max_macs": None}, "is one of another space"),
        ({"from_scratch": True}, "is pre-trained, which from_scratch leaves out"),
        ({"pretrain": {"pixel_mean": [0.5, 0.5, 0.5]}}, "learned images with pixel_mean 0.485, "),
        (
            {"guide": "classification"},
            "kept other images apart, by guide detection, this one by cl",
        ),
        ({"supernet": "nowhere"}, "nowhere: there is no such run folder"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_begins(
    values: dict[str, Any], first: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as refused:
        go({**values, "supernet": str(first), **changes}, tmp_path / "run")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_other_classes_are_refused(values: dict[str, Any], first: Path, tmp_path: Path) -> None:
    other = tmp_path / "classes"
    shutil.copytree(values["pretrain_data"], other)
    for split in ("train", "val"):
        (other / split / "dog").rename(other / split / "horse")
    config = SearchConfig.make(
        None, {**values, "pretrain_data": str(other), "supernet": str(first)}
    )
    with pytest.raises(InputError, match="learned 2 classes, dog among them, which are not the 2 "):
        check_supernet(SearchRun(tmp_path / "run", config))
    (other / "train" / "horse").rename(other / "train" / "dog")
    next((other / "train" / "dog").iterdir()).unlink()
    assert check_supernet(SearchRun(tmp_path / "run", config)) == [
        f"the supernet taken over has seen other images of the classes than {other / 'train'}"
    ]


def test_a_supernet_that_is_not_complete(
    values: dict[str, Any], first: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(first, source)
    (source / "pretrain" / "model.safetensors").unlink()
    with pytest.raises(InputError, match="its training is not complete; go on with it first, `det"):
        go(values, tmp_path / "run", supernet=str(source))
    written = yaml.safe_load((source / "pretrain" / "config.yaml").read_text())
    text = yaml.safe_dump({**written, "backbone": "resnet50", "backbone_options": {}})
    (source / "pretrain" / "config.yaml").write_text(text)
    with pytest.raises(InputError, match="is a run of resnet50, of no supernet"):
        go(values, tmp_path / "run", supernet=str(source))


@pytest.mark.slow
def test_scores_are_those_of_a_whole_search(
    values: dict[str, Any], first: Path, tmp_path: Path
) -> None:
    """The search that pre-trained it, one that took it over, one that took the fine-tuned one."""
    whole, reused, again = (tmp_path / name for name in ("whole", "reused", "again"))
    shutil.copytree(first, whole)
    for phase in ("finetune", "search"):
        go(None, whole, phase)
    go(values, reused, supernet=str(first / "pretrain"))
    go(values, again, "search", supernet=str(whole / "finetune"))
    assert scores(whole) and scores(whole) == scores(reused) == scores(again)
    assert (reused / "winner" / "train" / "model.safetensors").is_file()
    assert not (again / "pretrain").exists()
    assert [one.folder for one in read_search(again).phases][0] == "finetune"
    go(values, tmp_path / "random", "search", supernet=str(whole / "finetune"), method="random")
    for changes, message in (
        ({"seed": 1}, "its search kept other images apart, by seed 0, this one by 1"),
        ({"detector": "fcos", **plain(values)}, "was fine-tuned under faster_rcnn_fpn, this sea"),
        ({"guide": "classification"}, "is fine-tuned; classification as the guide takes one"),
        ({"data": str(write_data(tmp_path / "other", train=10))}, "was for other data than this"),
    ):
        with pytest.raises(InputError, match=message):
            go({**values, **changes}, tmp_path / "none", supernet=str(whole / "finetune"))
    assert not (tmp_path / "none").exists()


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """The groups without options of a detector."""
    return {name: {**values[name], "detector_options": {}} for name in ("finetune", "retrain")}


@pytest.mark.slow
def test_with_classification_as_the_guide_it_has_left_out_the_same_images(
    values: dict[str, Any], tmp_path: Path
) -> None:
    by_classes = {**values, "guide": "classification"}
    first = tmp_path / "first"
    go(by_classes, first, "pretrain")
    go(by_classes, tmp_path / "second", "pretrain", supernet=str(first), detector="retinanet",
       **plain(values))  # fmt: skip
    models = [run / "pretrain" / "model.safetensors" for run in (first, tmp_path / "second")]
    assert models[0].read_bytes() == models[1].read_bytes()
    with pytest.raises(InputError, match="kept other images apart, by seed 0, this one by 1"):
        go({**by_classes, "seed": 1}, tmp_path / "third", supernet=str(first))
    # An image that the validation split has, too, is never kept apart, so that others are.
    other = tmp_path / "classes"
    shutil.copytree(values["pretrain_data"], other)
    place = json.loads((first / "data" / "classes.json").read_text())["search"][0]
    image = index_images(other / "train").image_path(place)
    shutil.copy(image, other / "val" / image.parent.name / "copy.png")
    with pytest.raises(InputError, match="kept other images apart .*is the validation split the s"):
        go({**by_classes, "pretrain_data": str(other)}, tmp_path / "fourth", supernet=str(first))
