"""The database behind a search: SQLite in the run folder, PostgreSQL for many machines.

Optuna's storage does the work; what is added here makes it safe for workers that die at any
moment: claims that are atomic on SQLite too, a lock that death releases, heartbeats that outlive a
hiccup of the server, and errors in one line without the password.
"""

import contextlib
import os
import sqlite3
import warnings
import zlib
from collections.abc import Iterator
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from detnet.errors import InputError
from detnet.text import one_line

CONNECT_TIMEOUT_S = 5
_BUSY_S = 60  # how long a statement waits for SQLite's lock, held for milliseconds at a time
_LOCK_PATIENCE_S = 30
# The server's clock must not jump by an hour in spring, or every worker would look dead; and a
# machine that lost its network must not hold a lock for the two hours of TCP's default.
_POSTGRESQL_OPTIONS = (
    "-c timezone=utc -c idle_in_transaction_session_timeout=60000 "
    "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
)
_FAILURES = (StorageInternalError, SQLAlchemyError, sqlite3.Error)


class SearchStorage(optuna.storages.RDBStorage):
    """Optuna's database storage, whose heartbeat goes on after one that could not be recorded."""

    def record_heartbeat(self, trial_id: int) -> None:
        # Raised in the heartbeat's thread, an error would end it, and the candidate look dead.
        with contextlib.suppress(StorageInternalError):
            super().record_heartbeat(trial_id)


def parse_storage(storage: str) -> URL:
    """Reads a storage's URL; a plain path is an SQLite file.

    Raises:
        InputError: it is no URL, or of a database that is not served.
    """
    if "://" not in storage:
        return URL.create("sqlite", database=storage)
    try:
        url = make_url(storage)
    except (ArgumentError, ValueError) as error:
        scheme = storage.partition("://")[0]  # the rest may hold a password
        raise InputError(
            f"storage {scheme}://…: not a URL; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE "
            "or sqlite:///FILE"
        ) from error
    backend = url.drivername.partition("+")[0]
    if backend in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and url.database and url.database != ":memory:":
        return url.set(drivername="sqlite")
    raise InputError(
        f"storage {shown(url)}: give postgresql://USER:PASSWORD@HOST:PORT/DATABASE or sqlite:///FILE"
    )


def shown(url: URL) -> str:
    """A URL as it may be printed."""
    plain = url.set(drivername=url.drivername.partition("+")[0])
    return plain.render_as_string(hide_password=True)


def is_writable(url: URL) -> bool:
    """Whether an SQLite file and its folder may be written to; a server decides that itself."""
    path = Path(str(url.database))
    return url.drivername != "sqlite" or all(os.access(one, os.W_OK) for one in (path, path.parent))


def open_storage(url: URL, heartbeat_s: float, *, read_only: bool = False) -> SearchStorage:
    """Opens the database, making its tables where there are none; call it under the lock.

    Args:
        read_only: of an SQLite file that is there; nothing is written beside it either.
    """
    interval = max(1, ceil(heartbeat_s))
    # The URL is a template to Optuna.
    text = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    arguments: dict[str, Any] = {"connect_args": _connect_arguments(url), "pool_pre_ping": True}
    if read_only:
        arguments["creator"] = partial(_connect_to_read, Path(str(url.database)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = SearchStorage(
            text,
            engine_kwargs=arguments,
            heartbeat_interval=interval,
            # SQLite's clock has whole seconds.
            grace_period=2 * interval + 1,
        )
    if url.drivername == "sqlite" and not read_only:
        _lock_at_begin(storage.engine)
    return storage


def _connect_to_read(path: Path) -> sqlite3.Connection:
    # Reading in WAL mode takes two files beside the database, which SQLite would make. Where they
    # are not there nobody is writing, and it may be taken for a file that does not change.
    live = path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.absolute().as_uri()}?mode=ro{'' if live else '&immutable=1'}"
    return sqlite3.connect(uri, timeout=_BUSY_S, uri=True, check_same_thread=False)


def _connect_arguments(url: URL) -> dict[str, Any]:
    if url.drivername == "sqlite":
        return {"timeout": _BUSY_S}
    arguments: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_S}
    if "options" not in url.query:
        arguments["options"] = _POSTGRESQL_OPTIONS
    return arguments


def _lock_at_begin(engine: sqlalchemy.Engine) -> None:
    """Makes every SQLite transaction take the write lock at its begin.

    Optuna claims a trial by reading its state and then writing it, relying on SELECT … FOR UPDATE.
    SQLite knows no such thing: two workers would both read "waiting" and both run the candidate.
    """

    @sqlalchemy.event.listens_for(engine, "connect")
    def _leave_begin_to_us(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None
        # Without it every commit waits for the disk, and a candidate has ten. A crash of the
        # machine may cost the last ones, a killed worker none.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")

    @sqlalchemy.event.listens_for(engine, "begin")
    def _begin(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # the connections made before go by other rules


@contextlib.contextmanager
def reaching(url: URL) -> Iterator[None]:
    """Turns failures of the database into an `InputError`.

    Raises:
        InputError: the database cannot be reached, or its driver is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        raise InputError(
            f"storage {shown(url)}: PostgreSQL needs psycopg; pip install 'detnet[cluster]'"
        ) from error
    except _FAILURES as error:
        raise InputError(f"storage {shown(url)}: {_reason(error, url)}") from error


def _reason(error: BaseException, url: URL) -> str:
    """What the driver said, in one line, without the password."""
    origin: BaseException = error
    while isinstance(origin, StorageInternalError) and origin.__cause__ is not None:
        origin = origin.__cause__
    origin = getattr(origin, "orig", None) or origin
    text = one_line(origin)
    if url.password:
        text = text.replace(str(url.password), "***")
    if "unable to open database file" in text:
        text += "; is its folder there, and may it be written to?"
    if "is not a database" in text:
        text += "; give another file"
    return text[:400]


class Lock:
    """One process of a study at a time; whoever dies lets go of it.

    It spares doubled work and is no more than that: after `_LOCK_PATIENCE_S` of waiting for a
    process that is suspended, one goes on without it, and the study still comes out right.
    """

    def __init__(self, url: URL, name: str) -> None:
        self._url = url
        self._key = zlib.crc32(f"detnet search {name}".encode())
        self._engine: sqlalchemy.Engine | None = None

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._sqlite() if self._url.drivername == "sqlite" else self._postgresql():
            yield

    @contextlib.contextmanager
    def _sqlite(self) -> Iterator[None]:
        """Locks a second, empty database: Optuna writes to the first one meanwhile."""
        path = f"{self._url.database}.lock"
        connection = sqlite3.connect(path, timeout=_LOCK_PATIENCE_S, isolation_level=None)
        try:
            try:
                connection.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise
            yield
        finally:
            connection.close()

    @contextlib.contextmanager
    def _postgresql(self) -> Iterator[None]:
        if self._engine is None:
            self._engine = sqlalchemy.create_engine(
                self._url,
                poolclass=sqlalchemy.NullPool,
                connect_args=_connect_arguments(self._url),
            )
        with self._engine.connect() as connection:
            connection.execute(sqlalchemy.text(f"SET LOCAL lock_timeout = '{_LOCK_PATIENCE_S}s'"))
            query = sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)")
            with contextlib.suppress(sqlalchemy.exc.OperationalError):  # the lock's timeout
                connection.execute(query, {"key": self._key})
            yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps Optuna from writing to the terminal."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
