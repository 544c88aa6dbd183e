"""A study keeps what a search belongs to, and says in one line why it cannot be opened."""

import logging
import os
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from detnet.errors import InputError
from detnet.search.study.storage import parse_storage, shown
from detnet.search.study.study import (
    load_study,
    objectives_of,
    open_study,
    read_attempts,
    read_candidates,
)


def add(study: optuna.Study, generation: int, slot: int, attempt: int = 0, **options: object):
    attrs = {"generation": generation, "slot": slot, "attempt": attempt, "path": [1, 2]}
    attrs |= {"costs": {"macs": 5.0}} | options.pop("attrs", {})
    study.add_trial(optuna.create_trial(user_attrs=attrs, **options))


def test_candidates_come_by_generation_and_slot(tmp_path: Path) -> None:
    with open_study(str(tmp_path / "s.db")) as study:
        study.set_user_attr("retries", 1)
        add(study, 1, 0, state=TrialState.WAITING)
        add(study, 0, 1, state=TrialState.COMPLETE, value=0.5)
        add(study, 0, 0, state=TrialState.FAIL, attrs={"error": "boom", "worker": "a"})
        add(study, 0, 0, 1, state=TrialState.COMPLETE, value=0.25, attrs={"worker": "b"})
        first, second, third = read_candidates(study)
    assert (first.generation, first.slot, first.values) == (0, 0, (0.25,))
    assert (first.state, first.attempts, first.worker, first.error) == ("done", 2, "b", "boom")
    assert (second.slot, second.path) == (1, (1, 2))
    assert (third.generation, third.state, third.attempts) == (1, "waiting", 0)
    assert third.costs == {"macs": 5.0} and third.values is None


def test_a_double_of_an_attempt_does_not_count(tmp_path: Path) -> None:
    with open_study(str(tmp_path / "s.db")) as study:
        add(study, 0, 0, state=TrialState.RUNNING)
        add(study, 0, 0, state=TrialState.COMPLETE, value=9.0)
        assert [one.state for one in read_candidates(study)] == ["running"]
        assert len(read_attempts(study)[0, 0]) == 1


@pytest.mark.parametrize(
    ("errors", "deaths", "handed_back", "state"),
    [(2, 0, 0, "waiting"), (3, 0, 0, "failed"), (2, 9, 5, "waiting"), (0, 10, 0, "failed")],
)
def test_errors_deaths_and_hand_backs_are_counted_apart(
    tmp_path: Path, errors: int, deaths: int, handed_back: int, state: str
) -> None:
    kinds = [{"error": "x"}] * errors + [{}] * deaths + [{"handed_back": True}] * handed_back
    with open_study(str(tmp_path / "s.db")) as study:
        study.set_user_attr("retries", 2)
        for attempt, attrs in enumerate(kinds):
            add(study, 0, 0, attempt, state=TrialState.FAIL, attrs=attrs)
        (one,) = read_candidates(study)
    assert one.state == state
    assert one.attempts == errors + deaths


def test_another_search_is_refused(tmp_path: Path) -> None:
    storage = str(tmp_path / "s.db")
    open_study(storage, identity={"seed": 1, "space": "a"}).close()
    open_study(storage, identity={"space": "a", "seed": 1}).close()
    with pytest.raises(InputError, match="seed is 1 there and 2 here") as caught:
        open_study(storage, identity={"seed": 2, "space": "a"})
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="objectives"):
        open_study(storage, objectives=("score", "macs"))


def test_objectives_and_directions(tmp_path: Path) -> None:
    storage = str(tmp_path / "s.db")
    open_study(storage, objectives=("score", "macs", "latency_ms")).close()
    with load_study(storage) as study:
        assert objectives_of(study) == ("score", "macs", "latency_ms")
        assert [one.name for one in study.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]


@pytest.mark.parametrize("live", [False, True])
def test_looking_where_nothing_may_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, live: bool
) -> None:
    """In an archive, or at what others are still writing."""
    folder = tmp_path / "ä? #1 100%"
    folder.mkdir()
    storage = folder / "s.db"
    writer = open_study(str(storage))
    add(writer, 0, 0, state=TrialState.COMPLETE, value=0.5)
    if not live:
        writer.close()
        (folder / "s.db.lock").unlink()
    before = sorted(folder.iterdir())
    with monkeypatch.context() as patch:
        folder.chmod(0o555)
        if os.access(folder, os.W_OK):  # root's way; a mount would tell
            patch.setattr(os, "access", lambda path, mode, **_: mode != os.W_OK)
        with load_study(str(storage)) as study:
            (one,) = read_candidates(study)
    folder.chmod(0o755)
    writer.close()
    assert one.values == (0.5,)
    assert live or sorted(folder.iterdir()) == before


def test_looking_at_a_search_that_has_not_begun(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has not begun"):
        load_study(str(tmp_path / "s.db"))
    assert not list(tmp_path.iterdir())
    open_study(str(tmp_path / "s.db")).close()
    with pytest.raises(InputError, match="no study 'other'"):
        load_study(str(tmp_path / "s.db"), "other")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_text("this is not a database, only text of some length\n" * 50)
    with pytest.raises(InputError, match="not a database"):
        open_study(str(tmp_path / "s.db"))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is its folder there"):
        open_study(f"sqlite:///{tmp_path}/none/s.db")


def test_odd_letters_in_the_path(tmp_path: Path) -> None:
    folder = tmp_path / "ä {b} 100%"
    folder.mkdir()
    open_study(f"sqlite:///{folder}/s.db").close()
    assert (folder / "s.db").is_file()


def test_an_unreachable_server_is_one_line_soon_and_without_the_password() -> None:
    pytest.importorskip("psycopg", reason="PostgreSQL needs the extra `cluster`")
    begun = time.monotonic()
    with pytest.raises(InputError) as caught:
        open_study("postgresql://me:se%20cret@127.0.0.1:9/db")
    text = str(caught.value)
    assert time.monotonic() - begun < 10
    assert "127.0.0.1" in text and "\n" not in text
    assert "se cret" not in text and "se%20cret" not in text


@pytest.mark.parametrize(
    "storage", ["mysql://u:pw@h/d", "sqlite://", "redis://:pw@h", "postgresql://u:pw@h:x/d"]
)
def test_other_databases_are_refused_without_the_password(storage: str) -> None:
    with pytest.raises(InputError, match="postgresql://") as caught:
        parse_storage(storage)
    assert "pw" not in str(caught.value)


def test_what_is_shown_of_a_storage() -> None:
    assert shown(parse_storage("postgres://me:pw@h:5/d")) == "postgresql://me:***@h:5/d"
    assert shown(parse_storage("runs/a/study.db")) == "sqlite:///runs/a/study.db"


def test_nothing_is_printed_and_verbosity_is_left_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = optuna.logging.get_verbosity()
    open_study(str(tmp_path / "s.db")).close()
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before == logging.INFO
