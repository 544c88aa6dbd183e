"""A search on a real PostgreSQL server: workers that are killed, and what can go wrong with it."""

import pytest

from detnet.errors import InputError
from detnet.search.study.study import load_study, open_study, read_candidates
from tests.search.players import kill_at_random, outcome, play, start
from tests.search.postgres import PASSWORD, QUOTED, server, storage
from tests.search.study.test_worker import expected

__all__ = ["server", "storage"]  # fixtures

pytestmark = pytest.mark.slow
pytest.importorskip("psycopg", reason="PostgreSQL needs the extra `cluster`")


def test_one_worker(storage: str) -> None:
    with open_study(storage, heartbeat_s=1, identity={"seed": 3}) as study:
        assert play(study)
        assert outcome(study) == expected(2)
        assert len(study.get_trials()) == 12


def test_three_workers_that_start_at_once(storage: str) -> None:
    workers = [start(storage, name, 3, 0.05) for name in "abc"]
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    with load_study(storage) as study:
        assert outcome(study) == expected(3)
        assert len(study.get_trials()) == 18, "nothing is scored twice"
        assert {one.worker for one in read_candidates(study)} == set("abc")


def test_workers_killed_at_random(storage: str) -> None:
    assert kill_at_random(storage, kills=12, generations=6, seed=4) > 6
    with load_study(storage) as study:
        assert outcome(study) == expected(6)


@pytest.mark.parametrize("statement", [5, 60, 100, 140, 180, 220, 260, 300, 340])
def test_a_worker_killed_at_a_statement(storage: str, statement: int) -> None:
    import psycopg

    worker = start(storage, "victim", 1, 0.0, statement)
    worker.join(60)
    with open_study(storage, heartbeat_s=1, identity={"seed": 3}) as study:
        with psycopg.connect(storage) as connection:
            connection.execute(
                "UPDATE trial_heartbeats SET heartbeat = heartbeat - interval '1 hour'"
            )
        assert play(study, generations=1)
        assert outcome(study) == expected(1)
        assert len(study.get_trials()) <= 7


def test_two_searches_in_one_database(storage: str) -> None:
    with open_study(storage, "one") as one, open_study(storage, "two") as two:
        assert play(one, generations=1) and play(two, generations=1)
        assert outcome(one) == outcome(two) == expected(1)


def test_a_wrong_password_or_database_is_one_line_without_the_password(storage: str) -> None:
    for wrong in (storage.replace(QUOTED, "wrong-secret"), f"{storage}x"):
        with pytest.raises(InputError) as caught:
            open_study(wrong)
        text = str(caught.value)
        assert "\n" not in text
        assert not any(secret in text for secret in ("wrong-secret", PASSWORD, QUOTED))
