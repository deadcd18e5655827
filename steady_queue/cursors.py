"""The cursor by which applications enqueue: Django's, kept from one call to the next."""

from __future__ import annotations

from typing import Any

from django.db import connections
from django.db.backends.postgresql.base import Cursor, ServerBindingCursor
from django.utils.asyncio import async_unsafe

_KEPT = "_steady_queue_cursor"


@async_unsafe
def kept_cursor(database: str) -> Any:
    """What ``connections[database].cursor()`` gives, made once for each connection to the server.

    To make one takes a tenth of the time of an enqueue: the driver's caches begin empty. Where
    somebody counts, logs or forbids cursors, a new one is asked for. Leave it open.
    """
    connection = connections[database]
    if connection.queries_logged or "cursor" in vars(connection):
        return connection.cursor()
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    connection.validate_thread_sharing()
    made_for = (connection.connection, connection.timezone)
    kept_for, cursor = vars(connection).get(_KEPT, (None, None))
    if kept_for != made_for:
        cursor = _make(connection)
        setattr(connection, _KEPT, (made_for, cursor))
    return cursor


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
