"""A search's page from its folder: what is there is shown, what is missing is left out."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from detnet.backbones.detnas import SMALL
from detnet.backbones.spaces.shuffle_space import ShuffleSpace, ShuffleStage
from detnet.backbones.spaces.space import Space, read_space
from detnet.errors import InputError
from detnet.report.search.page import write_search_page
from detnet.report.search.state import read_search
from detnet.report.search.summary import summarise
from detnet.search.costs.constraints import Constraints, Costs, Limits
from detnet.search.methods.method import make_method
from detnet.search.records import Winner, write_record
from detnet.search.study.study import Candidate, load_study, objectives_of, open_study
from detnet.search.study.worker import work
from tests.report.test_page import Checker

TINY = ShuffleSpace(8, (ShuffleStage("c2", 1, 16), ShuffleStage("c3", 2, 32)), tail_channels=64)


def write_search(run: Path, table: Space = SMALL, **changes: Any) -> Path:
    """A search's folder as the search leaves it at its start."""
    run.mkdir(parents=True)
    settings = {
        "data": "/somewhere/bccd",
        "space": table.to_json(),
        "detector": "faster_rcnn_fpn",
        "method": "evolution",
        "population": 4,
        "generations": 2,
        "max_macs": 300e6,
        "width": 1.0,
        "cost_image_size": [224, 224],
        "from_scratch": False,
    }
    (run / "config.yaml").write_text(yaml.safe_dump({**settings, **changes}))
    (run / "space.json").write_text(json.dumps(table.to_json()))
    (run / "environment.json").write_text(json.dumps({"commit": "abc"}))
    return run


def write_training(run: Path, *, ended: bool) -> None:
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump({"iterations": 4, "batch_size": 2}))
    events: list[dict[str, Any]] = [
        {"event": "step", "iteration": n, "loss": 1.0 / n, "images_per_s": 3.0} for n in (1, 2)
    ]
    events += [{"event": "end", "iteration": 2, "seconds": 5.0}] if ended else []
    (run / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def test_before_the_first_candidate(tmp_path: Path) -> None:
    run = write_search(tmp_path / "run")
    write_training(run / "pretrain", ended=True)
    write_training(run / "finetune", ended=False)
    (run / "winner" / "train").mkdir(parents=True)  # its data are being read
    page, summary = make_search_page(run)
    assert page == run / "search.html" and not (run / "study.db").exists()
    assert summary["state"] == "not begun"
    states = {one["folder"]: one["state"] for one in summary["phases"]}
    assert states["pretrain"] == "complete" and states["finetune"] == "under way"
    assert states["winner/train"] == "not begun"
    text = Checker(page.read_text(encoding="utf-8")).text
    assert "The search has not begun" in text and "under way (50%)" in text


def make_search_page(
    run: Path, *, output: Path | None = None, storage: str | None = None
) -> tuple[Path, dict[str, Any]]:
    """What `detnet search show` makes: the page, and its JSON."""
    state = read_search(run, storage=storage)
    return write_search_page(output or run / "search.html", state), summarise(state)


def score_all(
    run: Path,
    *,
    stop_after: int | None = None,
    name: str = "random",
    objectives: tuple[str, ...] = (),
) -> None:
    """Lets a worker score candidates; some fail."""
    seen: list[Candidate] = []

    def score(candidate: Candidate, report: Any) -> tuple[float, ...]:
        seen.append(candidate)
        if sum(candidate.path) % 3 == 1:
            raise RuntimeError("no luck")
        costs = constraints.costs_of(candidate.path)
        return (0.2 + sum(candidate.path) / 1000, *(costs[one] for one in objectives))

    constraints = Constraints(TINY, Costs(TINY), Limits(None, None, None), None)
    sizes = {"population": 4, "generations": 2, "mutations": 2, "crossovers": 2}
    method = make_method(name, constraints, seed=0, objectives=objectives, **sizes)
    with open_study(str(run / "study.db"), objectives=("score", *objectives)) as study:
        work(
            study,
            method,
            score,
            constraints=constraints,
            retries=1,
            stop=lambda: stop_after is not None and len(seen) >= stop_after,
            on_event=lambda event: None,
            worker="w1",
        )


def test_while_candidates_are_scored_and_after(tmp_path: Path) -> None:
    run = write_search(tmp_path / "run", TINY)
    score_all(run, stop_after=2)
    with load_study(str(run / "study.db")):  # as another process at work on it has it open
        page, early = make_search_page(run)
    assert early["state"] == "going on" and early["count"]["waiting"] >= 1
    assert "the state so far" in Checker(page.read_text(encoding="utf-8")).text
    score_all(run)
    page, late = make_search_page(run, output=tmp_path / "elsewhere.html")
    assert page == tmp_path / "elsewhere.html" and late["state"] == "ended"
    assert late["count"]["done"] + late["count"]["failed"] == 8
    failed = [one for one in late["candidates"] if one["state"] == "failed"]
    assert failed
    assert all("no luck" in one["error"] and one["attempts"] == 2 for one in failed)
    done = [one for one in late["candidates"] if one["state"] == "done"]
    assert late["best"]["score"] == max(one["score"] for one in done)
    assert all(one["worker"] == "w1" and one["costs"]["macs"] > 0 for one in done)
    winner = Winner(path=done[-1]["path"], macs=1, params=1, score=0.1, generation=1, slot=0)
    write_record(run / "winner.json", winner)
    assert make_search_page(run)[1]["best"]["path"] == done[-1]["path"]


def test_a_search_for_a_front_opens(tmp_path: Path) -> None:
    run = write_search(tmp_path / "run", TINY, method="nsga2", objectives=["macs"])
    score_all(run, name="nsga2", objectives=("macs",))
    with load_study(str(run / "study.db")) as study:
        assert objectives_of(study) == ("score", "macs")
    _, summary = make_search_page(run)
    done = [one for one in summary["candidates"] if one["state"] == "done"]
    assert summary["state"] == "ended" and len(done) >= 2
    assert summary["best"]["score"] == max(one["score"] for one in done)


def test_studies_that_do_not_fit(tmp_path: Path) -> None:
    run = write_search(tmp_path / "run")
    score_all(run, stop_after=1)
    with pytest.raises(InputError, match="the study is of another space: generation 0, slot 0"):
        make_search_page(run)
    (run / "study.db").unlink()
    (run / "study.db").touch()
    assert "has not begun" in make_search_page(run)[1]["notes"][0]
    with pytest.raises(InputError, match="gone.db: no such file"):
        make_search_page(run, storage=str(tmp_path / "gone.db"))
    own = write_search(tmp_path / "own", storage=str(tmp_path / "later.db"))
    assert "later.db" in make_search_page(own)[1]["notes"][0]


def test_a_search_from_scratch_has_no_pre_training(tmp_path: Path) -> None:
    record = read_search(write_search(tmp_path / "run", from_scratch=True))
    assert [row.folder for row in record.phases] == ["finetune", "winner/train"]


def test_a_search_guided_by_classes_has_no_fine_tuning(tmp_path: Path) -> None:
    record = read_search(write_search(tmp_path / "run", guide="classification"))
    assert [row.folder for row in record.phases] == ["pretrain", "winner/pretrain", "winner/train"]


def test_the_folder_keeps_its_own_table(tmp_path: Path) -> None:
    run = write_search(tmp_path / "run", TINY, space="/gone/own.yaml")
    assert len(read_search(run).space.genes) == 3
    assert read_space(json.loads((run / "space.json").read_text())) == TINY


@pytest.mark.parametrize("place", ["winner.json", "validate/validation.json"])
def test_damaged_files_are_named(tmp_path: Path, place: str) -> None:
    run = write_search(tmp_path / "run")
    path = run / place
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"path": ')
    with pytest.raises(InputError, match=path.name):
        make_search_page(run)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone: there is no such run folder"):
        make_search_page(tmp_path / "gone")
    (tmp_path / "config.yaml").write_text("detector: retinanet\n")
    with pytest.raises(InputError, match="holds no search"):
        make_search_page(tmp_path)
