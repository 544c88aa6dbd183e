"""A PostgreSQL server for tests: a real one, Debian's, that starts and ends with them."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

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
