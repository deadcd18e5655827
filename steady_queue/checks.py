"""System checks: what cannot work is said by ``manage.py check`` and at start."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.db.utils import OperationalError

import steady_queue
from steady_queue.configuration import Configuration

if TYPE_CHECKING:
    from steady_queue.backend import SteadyQueueBackend

OLDEST_SERVER = 140000


def check_backend(backend: SteadyQueueBackend) -> list[CheckMessage]:
    """Called by Django for each backend in ``TASKS``."""
    if missing := _check_installed():
        return missing
    return [
        *_check_options(backend),
        *_check_queues(backend),
        *_check_alias(backend),
    ]


def check_configuration(**kwargs: Any) -> list[CheckMessage]:
    """What ``STEADY_QUEUE`` and the settings of ``steady_queue`` say."""
    try:
        Configuration.from_settings()
    except (ImproperlyConfigured, TypeError) as error:
        return [Error(str(error), id="steady_queue.E001")]
    return [*_check_database_setting(), *_check_threshold(), *_check_tracing()]


def check_database(databases: Iterable[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """The server's version; run by ``migrate`` and ``check --database``."""
    alias = steady_queue.database
    if alias not in (databases or []) or connections[alias].vendor != "postgresql":
        return []
    try:
        connections[alias].ensure_connection()
    except OperationalError:
        return []
    version = connections[alias].pg_version  # type: ignore[attr-defined]
    if version >= OLDEST_SERVER:
        return []
    return [
        Error(
            f"the database {alias!r} runs PostgreSQL {version // 10000}; steady_queue needs 14",
            hint="Upgrade the server, or point steady_queue.database at a newer one.",
            id="steady_queue.E004",
        )
    ]


def _check_database_setting() -> list[CheckMessage]:
    if unknown := _check_known("database", "listen_database"):
        return unknown
    alias = steady_queue.database
    if connections[alias].vendor != "postgresql":
        return [
            Error(
                f"steady_queue needs PostgreSQL; DATABASES[{alias!r}] is "
                f"{connections[alias].settings_dict['ENGINE']}",
                hint="steady_queue.embedded.database(...) starts one without a server of yours.",
                id="steady_queue.E003",
            )
        ]
    return []


def _check_known(*names: str) -> list[CheckMessage]:
    return [
        Error(
            f"steady_queue.{name} is {alias!r}, which is not in DATABASES",
            id="steady_queue.E002",
        )
        for name in names
        if (alias := getattr(steady_queue, name)) is not None and alias not in connections.settings
    ]


def _check_threshold() -> list[CheckMessage]:
    interval, threshold = (
        steady_queue.process_heartbeat_interval,
        steady_queue.process_alive_threshold,
    )
    if threshold >= interval * 3:
        return []
    return [
        Error(
            f"steady_queue.process_alive_threshold ({threshold}) is less than three times "
            f"steady_queue.process_heartbeat_interval ({interval})",
            hint="One late heartbeat would make living processes lose their jobs.",
            id="steady_queue.E005",
        )
    ]


def _check_tracing() -> list[CheckMessage]:
    if not steady_queue.tracing:
        return []
    try:
        import_module("steady_queue.traces")
    except ImproperlyConfigured as error:
        return [Error(str(error), id="steady_queue.E009")]
    return []


def _check_options(backend: SteadyQueueBackend) -> list[CheckMessage]:
    return [
        Error(
            f"unknown option TASKS[{backend.alias!r}]['OPTIONS'][{name!r}]",
            hint="This backend takes no options; processes are configured by STEADY_QUEUE.",
            id="steady_queue.E006",
        )
        for name in backend.options
    ]


def _check_installed() -> list[CheckMessage]:
    if "steady_queue" in settings.INSTALLED_APPS or any(
        app.startswith("steady_queue.") for app in settings.INSTALLED_APPS
    ):
        return []
    return [
        Error(
            "steady_queue is not in INSTALLED_APPS: its tables would be missing",
            id="steady_queue.E007",
        )
    ]


def _check_queues(backend: SteadyQueueBackend) -> list[CheckMessage]:
    """QUEUES defaults to ["default"]: every other queue is refused at enqueue()."""
    try:
        workers = Configuration.from_settings().workers
    except (ImproperlyConfigured, TypeError):
        return []
    served = {q for worker in workers for q in worker.queues if not q.endswith("*")}
    unknown = sorted(served - backend.queues) if backend.queues else []
    if not unknown:
        return []
    return [
        Warning(
            f"workers serve {', '.join(unknown)}, but TASKS[{backend.alias!r}]['QUEUES'] is "
            f"{sorted(backend.queues)}: tasks for other queues are refused",
            hint=f"Set TASKS[{backend.alias!r}]['QUEUES'] to [] to allow any queue.",
            id="steady_queue.W001",
        )
    ]


def _check_alias(backend: SteadyQueueBackend) -> list[CheckMessage]:
    """Enqueueing is part of the caller's transaction only in one and the same database."""
    if steady_queue.database == "default":
        return []
    messages: list[CheckMessage] = [
        Warning(
            f"the queue is in the database {steady_queue.database!r}: enqueueing is not atomic "
            "with changes in 'default'",
            hint="Enqueue from transaction.on_commit(), or keep the queue in 'default'.",
            id="steady_queue.W002",
        )
    ]
    from steady_queue.models import Job

    if router.db_for_write(Job) != steady_queue.database:
        messages.append(
            Error(
                f"the queue is in the database {steady_queue.database!r}, but its models are not "
                "routed there",
                hint="Add 'steady_queue.db_router.SteadyQueueRouter' to DATABASE_ROUTERS.",
                id="steady_queue.E008",
            )
        )
    return messages
