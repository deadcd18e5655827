"""The cursor by which applications enqueue: Django's, kept from one call to the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connections, transaction
from django.db.backends.postgresql.base import Cursor, DatabaseWrapper, ServerBindingCursor
from django.db.backends.utils import CursorWrapper
from django.utils.asyncio import async_unsafe

_KEPT = "_steady_queue_cursor"


def _makers(kind: Any) -> tuple[Any, ...]:
    """What ``connection.cursor()`` consists of."""
    return (kind.cursor, kind._cursor, kind.create_cursor, kind._prepare_cursor, kind.make_cursor)


_DJANGOS = _makers(DatabaseWrapper)
_NAMES = frozenset(method.__name__ for method in _DJANGOS)


@async_unsafe
def take_cursor(database: str) -> Any:
    """What ``connections[database].cursor()`` gives, made once for each connection to the server.

    To make one takes a tenth of the time of an enqueue: the driver's caches begin empty. Where
    somebody counts, logs or forbids cursors, or makes them in another way, a new one is asked for.

    Nobody else's until ``give_back``: a wrapper, a signal handler or a thread that shares the
    connection may enqueue before the answer was read.
    """
    connection = connections[database]
    if _is_watched(connection):
        return connection.cursor()
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    connection.validate_thread_sharing()
    kept_for, cursor = vars(connection).pop(_KEPT, (None, None))
    return cursor if kept_for == _made_for(connection) else _make(connection)


def give_back(cursor: Any) -> None:
    """Keep it for the next call. Only what Django makes where nobody looks is kept."""
    if type(cursor) is CursorWrapper:
        setattr(cursor.db, _KEPT, (_made_for(cursor.db), cursor))


@contextmanager
def sending_ahead(database: str) -> Iterator[None]:
    """All or nothing of several statements, each sent before those before it were answered.

    In the transaction that is open, if one is. Where somebody watches, each waits for its answer:
    until then a cursor has no ``rowcount``.
    """
    with transaction.atomic(using=database):
        connection = connections[database]
        watched = _is_watched(connection) or connection.execute_wrappers
        if watched or not psycopg.Pipeline.is_supported():
            yield
        else:
            with connection.wrap_database_errors, connection.connection.pipeline():
                yield


def _made_for(connection: Any) -> tuple[Any, Any]:
    return connection.connection, connection.timezone


def _is_watched(connection: Any) -> bool:
    """True also for engines that do something at each cursor, as setting the schema of a tenant."""
    made_by_django = _NAMES.isdisjoint(vars(connection)) and _makers(type(connection)) == _DJANGOS
    return connection.queries_logged or not made_by_django


def _make(connection: Any) -> Any:
    """One that prepares its statements where ``prepare_threshold`` in OPTIONS allows it.

    Django's usual cursor writes values into the statement, so that no two are the same.
    """
    driver = connection.connection
    factory = driver.cursor_factory
    if factory is Cursor and driver.prepare_threshold is not None:
        driver.cursor_factory = ServerBindingCursor
    try:
        return connection.cursor()
    finally:
        driver.cursor_factory = factory
