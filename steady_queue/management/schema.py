"""Whether the schema in the database is the one that this code was written for."""

from __future__ import annotations

import pkgutil
import threading
from importlib import import_module
from time import monotonic
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

import steady_queue
from steady_queue import queries

PATIENCE = 60.0
"""Seconds to wait for migrations that somebody may be running just now."""

LOOK_EVERY = 1.0

APP = "steady_queue"

wait = threading.Event().wait


def wait_until_migrated(command: BaseCommand) -> None:
    """Return once the schema is there. Raises CommandError when it does not come, or is too new.

    A database that is away is no reason to refuse: the processes wait for it themselves.
    """
    try:
        _wait_for_pending(command)
        if newer := _newer():
            _look_at_newer(command, f"{', '.join(newer)} of {APP} is applied")
    except OperationalError:
        return


def _wait_for_pending(command: BaseCommand) -> None:
    deadline = monotonic() + PATIENCE
    said = False
    while pending := [name for name in _known() if name not in _applied()]:
        if monotonic() >= deadline:
            raise CommandError(
                f"migrations of {APP} are not applied: {', '.join(pending)}; run manage.py migrate"
            )
        if not said:
            command.stderr.write(f"waiting for migrations of {APP}: {', '.join(pending)}")
            said = True
        wait(LOOK_EVERY)


def _look_at_newer(command: BaseCommand, what: str) -> None:
    """A schema says which release it still has a place for."""
    if _known()[-1] < queries.oldest_release(steady_queue.database):
        raise CommandError(
            f"the schema is newer than this code: {what}; "
            "install the release that it is of, or migrate back with that release"
        )
    command.stderr.write(f"the schema is newer than this code, which still works on it: {what}")


def _newer() -> list[str]:
    """What was applied after our last one and is not known: earlier ones are of another package."""
    applied, known = _applied(), _known()
    last = max((applied[name] for name in known), default=None)
    if last is None:
        return []
    return [name for name, number in applied.items() if number > last and name not in known]


def _known() -> list[str]:
    module, _ = MigrationLoader.migrations_module(APP)
    # MIGRATION_MODULES may say None.
    path: Any = import_module(module).__path__ if module else []
    return sorted(m.name for m in pkgutil.iter_modules(path) if m.name[0] not in "_~")


def _applied() -> dict[str, int]:
    """The applied migrations of our app, and the numbers of their rows: the order."""
    recorder = MigrationRecorder(connections[steady_queue.database])
    applied = recorder.applied_migrations()
    return {name: row.pk for (app, name), row in applied.items() if app == APP}
