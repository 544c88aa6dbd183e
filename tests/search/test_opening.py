"""How a search is opened: what is done and due, and what a refused one leaves behind."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.search.config import SearchConfig
from detnet.search.opening import is_done, phases_of
from detnet.search.phases import join, run_phases
from detnet.search.records import Winner, write_record
from detnet.search.run import SearchRun
from detnet.search.trainings import retrain_config
from detnet.training.settings import write_config
from tests.search.small_search import SPACE, settings, write_classes, write_data


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("places")
    return write_data(folder / "data"), write_classes(folder / "classes")


@pytest.fixture
def values(places: tuple[Path, Path]) -> dict[str, Any]:
    return settings(*places)


def configured(values: dict[str, Any], **changes: Any) -> SearchConfig:
    return SearchConfig.make(None, {**values, **changes})


def begin(config: SearchConfig, run: Path, only: str | None = None) -> bool:
    return run_phases(config, run, only=only, estimate=False, on_event=print)


def resume(run: Path, only: str | None = None) -> bool:
    return run_phases(None, run, only=only, resume=True, estimate=False, on_event=print)


def test_a_phase_has_its_turn(values: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    SearchRun.create(run, configured(values))
    for phase, missing in (("finetune", "pretrain"), ("search", "pretrain"), ("retrain", "pretr")):
        with pytest.raises(InputError, match=f"{phase} needs what {missing}.*--phase {missing}"):
            resume(run, only=phase)
    with pytest.raises(InputError, match="search needs what pretrain makes"):
        join(run, on_event=print)


def test_phases_that_a_search_has_not(values: dict[str, Any], tmp_path: Path) -> None:
    assert phases_of(configured(values, from_scratch=True)) == ("finetune", "search", "retrain")
    by_classes = configured(values, guide="classification")
    assert phases_of(by_classes) == ("pretrain", "search", "retrain")
    SearchRun.create(tmp_path / "run", by_classes)
    with pytest.raises(InputError, match="classification as the guide has no phase finetune"):
        resume(tmp_path / "run", only="finetune")


def test_a_folder_of_another_search(
    values: dict[str, Any], tmp_path: Path, places: tuple[Path, Path]
) -> None:
    run = tmp_path / "run"
    SearchRun.create(run, configured(values))
    with pytest.raises(InputError, match="holds a run already"):
        begin(configured(values), run)
    other = {**SPACE, "stem_channels": 12}
    text = yaml.safe_dump({**yaml.safe_load((run / "config.yaml").read_text()), "space": other})
    (run / "config.yaml").write_text(text)
    with pytest.raises(InputError, match="began with another space"):
        resume(run)
    with pytest.raises(InputError, match="there is no such run folder"):
        resume(tmp_path / "none")


def test_a_refused_search_leaves_no_folder(values: dict[str, Any], tmp_path: Path) -> None:
    run, val = tmp_path / "run", Path(values["data"])
    own = {
        "search_annotations": str(val / "annotations/instances_val.json"),
        "search_images_folder": str(val / "val"),
    }
    with pytest.raises(InputError, match="are validation images, too"):
        begin(configured(values, **own), run)
    assert not run.exists()
    for phase in ("finetune", "retrain"):
        with pytest.raises(InputError, match="which is not complete; begin with --phase pretrain$"):
            begin(configured(values), run, phase)
        assert not run.exists()


def test_a_refused_search_leaves_what_was_there(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    notes = [tmp_path / "notes.txt", tmp_path / "data" / "notes.txt"]
    for path in notes:
        path.write_text("mine")
    with pytest.raises(InputError, match="begin with --phase pretrain$"):
        begin(configured(values), tmp_path, "search")
    assert sorted(tmp_path.rglob("*")) == sorted([tmp_path / "data", *notes])


def test_more_generations_are_searched_and_may_find_another_winner(
    values: dict[str, Any], tmp_path: Path
) -> None:
    run = SearchRun(tmp_path, configured(values, generations=2))
    found = {"macs": 1.0, "params": 1.0, "score": 0.1, "generation": 1, "slot": 0}
    write_record(tmp_path / "winner.json", Winner(path="0 1 2 3", **found, generations=2))
    trained = RunFolder.create(tmp_path / "winner" / "train")
    write_config(retrain_config(run.config, tmp_path, "0 1 2 3", None), trained.config)
    trained.model.touch()
    trained.log({"event": "end"})
    assert is_done(run, "search") and is_done(run, "retrain")
    more = SearchRun(tmp_path, configured(values, generations=3))
    assert not is_done(more, "search") and not is_done(more, "retrain")
    write_record(tmp_path / "winner.json", Winner(path="0 1 2 3", **found, generations=3))
    assert is_done(more, "search") and is_done(more, "retrain")
    write_record(tmp_path / "winner.json", Winner(path="3 1 2 3", **found, generations=3))
    assert is_done(more, "search") and not is_done(more, "retrain")
