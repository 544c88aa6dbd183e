"""A search on a real PostgreSQL server: workers that are killed, and what can go wrong with it."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.search.study.test_worker import expected

from detnet.errors import InputError
from detnet.search.study.records import read_candidates
from detnet.search.study.study import load_study, open_study
from tests.search.players import kill_at_random, outcome, play, start

pytestmark = pytest.mark.slow
pytest.importorskip("psycopg", reason="PostgreSQL needs the extra `cluster`")

PASSWORD = "pass%word {1}"
QUOTED = "pass%25word%20%7B1%7D"


def _programs() -> Path:
    """The folder of initdb and pg_ctl, of Debian's package, which is installed where it may be."""
    if not (found := _installed()) and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["update"], ["install", "-y", "--no-install-recommends", "postgresql"]):
            subprocess.run(
                ["apt-get", "-qq", *command],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                capture_output=True,
                timeout=300,
            )
        found = _installed()
    if found is None:
        pytest.skip("PostgreSQL is not installed, and could not be: apt-get install postgresql")
    return found


def _installed() -> Path | None:
    if on_path := shutil.which("initdb"):
        return Path(on_path).parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server of its own on a free port: its URL without the database's name."""
    programs = _programs()
    # PostgreSQL refuses root, and its user must reach the folder, which pytest's are closed to.
    folder = Path(tempfile.mkdtemp(prefix="detnet-postgres-"))
    user: dict[str, int] = {}
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        user = {"user": account.pw_uid, "group": account.pw_gid}
        os.chown(folder, account.pw_uid, account.pw_gid)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def call(name: str, *arguments: str) -> None:
        subprocess.run([programs / name, *arguments], cwd=folder, check=True, timeout=120, **user)

    secret = folder / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    try:
        options = ["--auth=scram-sha-256", "--username=me", f"--pwfile={secret}", "--no-sync"]
        call("initdb", "--pgdata", "data", "--encoding=UTF8", *options)
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c fsync=off"
        call("pg_ctl", "start", "-w", "-D", "data", "-l", "log", "-o", settings)
        try:
            yield f"postgresql://me:{QUOTED}@127.0.0.1:{port}"
        finally:
            call("pg_ctl", "stop", "-D", "data", "-m", "immediate")
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def storage(server: str, request: pytest.FixtureRequest) -> str:
    """An empty database of its own."""
    import psycopg

    name = f"db{abs(hash(request.node.name))}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{server}/{name}"


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
