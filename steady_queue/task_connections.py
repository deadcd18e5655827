"""Django's connections, as tasks leave them in the thread that runs one after the other.

They are kept from task to task: reconnecting would cost more than most tasks.
"""

from __future__ import annotations

import threading
from typing import Any

from django.db import connections
from django.db.backends.signals import connection_created
from django.utils.connection import ConnectionDoesNotExist


class _Opened(threading.local):
    """The calling thread's connections that were opened at least once."""

    def __init__(self) -> None:
        self.connections: list[Any] = list(connections.all(initialized_only=True))


_opened = _Opened()


def _note(connection: Any, **_: Any) -> None:
    if connection not in _opened.connections:
        _opened.connections.append(connection)


# Asking Django's handler for them costs as much as a short task does.
connection_created.connect(_note)


def check() -> None:
    """Like the start of a request: a connection that died while the thread was idle is dropped."""
    for connection in _open():
        if not connection.is_usable():
            connection.close()


def tidy() -> None:
    """Like the end of a request: one that a task left in a transaction or broken is closed, which
    rolls it back."""
    for connection in _open():
        if connection.in_atomic_block or not _is_idle(connection):
            # Django would wait for the end of an atomic block that nobody is in any more.
            connection.in_atomic_block = connection.closed_in_transaction = False
            connection.savepoint_ids, connection.atomic_blocks = [], []
            connection.needs_rollback = False
            connection.close()
        if connection.settings_dict["CONN_MAX_AGE"] == 0:
            connection.close_at = None
        connection.close_if_unusable_or_obsolete()


def _open() -> list[Any]:
    """Those that Django would give to the next task; a task may have made others for itself."""
    try:
        return [
            connection
            for connection in _opened.connections
            if connection.connection is not None and connections[connection.alias] is connection
        ]
    except ConnectionDoesNotExist:
        # Of an alias that somebody had made for a while.
        return [c for c in connections.all(initialized_only=True) if c.connection is not None]


def _is_idle(connection: Any) -> bool:
    status = getattr(getattr(connection.connection, "info", None), "transaction_status", None)
    return status is None or status.name == "IDLE"
