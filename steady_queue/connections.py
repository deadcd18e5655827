"""The queue's own connections: never those of a task."""

from __future__ import annotations

import logging
import time
from functools import cached_property
from typing import Any

import psycopg
from django.db import connections
from psycopg.sql import SQL, Identifier
from psycopg_pool import ConnectionPool, PoolTimeout

import steady_queue
from steady_queue.queries import Connection

logger = logging.getLogger("steady_queue")

LOST = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)
"""What says that the database, or the connection to it, is away: drop it and try again."""

DIRECT_SESSION = """
    set session characteristics as transaction isolation level read committed;
    set time zone 'UTC';
"""

FORGET_LOST_CLIENTS = """
    select set_config('idle_in_transaction_session_timeout', %(patience)s, false),
      set_config('tcp_user_timeout', %(patience)s, false),
      set_config('tcp_keepalives_idle', '10s', false),
      set_config('tcp_keepalives_interval', '5s', false),
      set_config('tcp_keepalives_count', '3', false)
"""
"""What a lost client has locked is free again after the time for which it would have waited."""

PATIENCE = 20.0
"""Seconds to wait for a reply, unless ``tcp_user_timeout`` in OPTIONS says otherwise."""


class PatientConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for a reply for so long, then closes and raises OperationalError.

    Behind a proxy that has lost its server no sign of it may ever come: the proxy acknowledges
    what is sent to it, and every keepalive.
    """

    @cached_property
    def patience(self) -> float:
        """In seconds."""
        return _patience(self)

    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return super().wait(_within(self.patience, gen), *arguments, **options)
        except TimeoutError:
            self.close()
            raise psycopg.OperationalError(f"no reply within {self.patience:g} s") from None


def _patience(connection: Connection) -> float:
    milliseconds = int(connection.info.get_parameters().get("tcp_user_timeout") or 0)
    return milliseconds / 1000 or PATIENCE


def _within(seconds: float, gen: Any) -> Any:
    """The same steps as ``gen``; raises TimeoutError once nothing came for so long."""
    deadline = time.monotonic() + seconds
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > deadline:
                raise TimeoutError
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value


def connection_parameters(alias: str | None = None) -> dict[str, Any]:
    """What Django would connect with, asked anew at each connect: passwords may rotate."""
    parameters = connections[alias or steady_queue.database].get_connection_params()
    for django_only in ("cursor_factory", "context", "prepare_threshold"):
        parameters.pop(django_only, None)
    patience = {
        "connect_timeout": 10,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": int(PATIENCE * 1000),
    }
    return {"application_name": "steady_queue", **patience, **parameters}


def open_pool(size: int = 1) -> ConnectionPool[Connection]:
    """A pool of the queue's own connections. They connect in the background."""
    return ConnectionPool(
        kwargs=connection_parameters,
        connection_class=PatientConnection,
        configure=_configure,
        min_size=size,
        max_size=size,
        num_workers=1,
        open=True,
        # Longer than any outage: the pool would stop trying, silently.
        reconnect_timeout=365 * 86400.0,
        max_lifetime=365 * 86400.0,
    )


def is_pooled() -> bool:
    """Whether connections lead through a transaction pooler, as Django's setting says."""
    settings = connections[steady_queue.database].settings_dict
    return bool(settings.get("DISABLE_SERVER_SIDE_CURSORS"))


def _configure(connection: Connection) -> None:
    # The queue's calls need READ COMMITTED, whatever the server's default is.
    if is_pooled():
        # Nothing outlives a transaction.
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        connection.prepare_threshold = None
        _assume_role(connection, steady_queue.database)
    else:
        configure_direct(connection, steady_queue.database)


def configure_direct(connection: Connection, alias: str) -> None:
    """For a connection that leads straight to the server: what is set lasts as long as it does."""
    connection.autocommit = True
    connection.execute(DIRECT_SESSION)
    connection.execute(FORGET_LOST_CLIENTS, {"patience": f"{_patience(connection)}s"})
    connection.prepare_threshold = 0
    _assume_role(connection, alias)


def _assume_role(connection: Connection, alias: str) -> None:
    if role := connections[alias].settings_dict["OPTIONS"].get("assume_role"):
        connection.execute(SQL("set role {}").format(Identifier(role)))
        connection.commit()


class Database:
    """One connection of the queue's own, taken from a pool and replaced when it is lost."""

    def __init__(self) -> None:
        self._pool = open_pool()
        self._connection: Connection | None = None

    def connection(self, timeout: float = 2.0) -> Connection:
        """The connection; raises one of LOST when there is none within ``timeout`` seconds."""
        if self._connection is None or self._connection.closed:
            self.drop()
            try:
                self._connection = self._pool.getconn(timeout)
            except PoolTimeout:
                # The pool waits ever longer between its tries: a new one tries at once.
                self._pool.close(timeout=0)
                self._pool = open_pool()
                raise
        return self._connection

    def drop(self) -> None:
        """Give the connection up, closed: whatever state it was in, nothing of it remains."""
        if self._connection is not None:
            self._connection.close()
            self._pool.putconn(self._connection)
            self._connection = None

    def close(self) -> None:
        if self._connection is not None:
            self._pool.putconn(self._connection)
            self._connection = None
        self._pool.close()
