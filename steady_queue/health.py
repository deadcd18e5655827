"""Whether the queue does its work: what the command line says of it, and the monitoring views."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import psycopg
from django.db import DatabaseError, InterfaceError, OperationalError, ProgrammingError

import steady_queue
from steady_queue import queries
from steady_queue.configuration import Configuration, Dispatcher
from steady_queue.management.layout import printable

REASONS = 3
"""Reasons that are named, at most."""


def trouble(
    max_age: timedelta | None = None, deep: bool = False, naming: bool = True
) -> str | None:
    """Why the queue is not healthy, in one line; None when it is.

    With ``max_age`` a ready job of a queue that is served may wait for no longer; with ``deep``
    the whole history is read, for what must never be true. That is only counted unless ``naming``:
    it may be said of a limit key, which is made of arguments.
    """
    try:
        reasons = _reasons(max_age)
        if deep:
            reasons += _named() if naming else _counted()
    except OperationalError as error:
        return f"the database cannot be reached: {explain(error)}"
    except (DatabaseError, InterfaceError) as error:
        return explain(error)
    more = f"; and {len(reasons) - REASONS} more" if len(reasons) > REASONS else ""
    return printable("; ".join(reasons[:REASONS]) + more) or None


def violations(deep: bool) -> list[queries.Violation]:
    threshold = steady_queue.process_alive_threshold
    return queries.check(steady_queue.database, threshold, _maintained_every(), deep)


def explain(error: Exception) -> str:
    """What the database said, in one line."""
    said = printable(str(error).partition("\n")[0])
    if isinstance(error, ProgrammingError | psycopg.ProgrammingError):
        return f"{said}; has manage.py migrate run?"
    return said


def _reasons(max_age: timedelta | None) -> list[str]:
    threshold = steady_queue.process_alive_threshold
    return queries.health(steady_queue.database, threshold, max_age)


def _named() -> list[str]:
    return [": ".join(violation) for violation in violations(deep=True)]


def _counted() -> list[str]:
    found = Counter(violation.invariant for violation in violations(deep=True))
    return [f"{invariant}: {count} found" for invariant, count in found.items()]


def _maintained_every() -> timedelta:
    """The longest maintenance interval of this project's dispatchers."""
    dispatchers = Configuration.from_settings().dispatchers or [Dispatcher()]
    return max(d.concurrency_maintenance_interval for d in dispatchers)
