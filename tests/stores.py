"""SQLite stores of MLflow: a test has one of its own, and what all of them need is made once a process."""

from collections.abc import Callable
from contextlib import suppress
from functools import cache, wraps
from sqlite3 import DatabaseError
from typing import Any
from weakref import WeakSet

import mlflow.store.db.utils as databases
from mlflow import MlflowClient
from mlflow.store.model_registry import sqlalchemy_store as registry
from sqlalchemy import Engine, event

FOR_A_CONNECTION = ("foreign_keys = ON", "busy_timeout = 20000", "case_sensitive_like = true")
"""What MLflow sets in every session."""
NEVER_SURVIVING_A_POWER_CUT = ("synchronous = OFF", "journal_mode = MEMORY")


ENGINES: WeakSet[Engine] = WeakSet()
"""Those of this process."""


def forget_connections() -> None:
    """In a forked child: connections are its parent's, and to close one here would end it there."""
    for engine in ENGINES:
        engine.dispose(close=False)


def share_what_every_database_needs() -> None:
    """Read MLflow's migrations once, compile a statement once, set a connection up once, and wait for no disk.

    MLflow imports its 68 migrations with every store to know the newest, sets a connection up with every session, and
    reads a model with each tag, lest it be a prompt; SQLAlchemy compiles each statement anew for every database.
    """
    MlflowClient._raise_if_prompt = lambda *_: None
    databases._get_latest_schema_revision = cache(databases._get_latest_schema_revision)
    databases.create_sqlalchemy_engine = _alike(databases.create_sqlalchemy_engine)
    databases._get_managed_session_maker = _set_up_before(databases._get_managed_session_maker)
    registry._get_managed_session_maker = databases._get_managed_session_maker


def _alike(create: Callable[[str], Engine]) -> Callable[[str], Engine]:
    """Engines of SQLite with one dialect, by which SQLAlchemy knows a compiled statement again."""
    first: list[Engine] = []

    @wraps(create)
    def engine_of(uri: str) -> Engine:
        engine = create(uri)
        if engine.dialect.name == "sqlite":
            first.append(engine)
            engine.dialect = engine.pool._dialect = first[0].dialect
            engine._compiled_cache = first[0]._compiled_cache
            event.listen(engine, "connect", _set_up)
        ENGINES.add(engine)
        return engine

    return engine_of


def _set_up(connection: Any, _record: object) -> None:
    """A file that is no database is MLflow's to find: one that cannot be connected to is tried for 100 s."""
    with suppress(DatabaseError):
        for pragma in (*FOR_A_CONNECTION, *NEVER_SURVIVING_A_POWER_CUT):
            connection.execute(f"PRAGMA {pragma}")


def _set_up_before(make: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """Sessions whose connections ``_set_up`` has set up: of no database that MLflow would set up."""
    return wraps(make)(lambda sessions, kind: make(sessions, "" if kind == "sqlite" else kind))
