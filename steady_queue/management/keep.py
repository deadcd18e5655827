"""Keeping house: history that is pruned, and what is wrong with the queue or around it."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg
from django.core.management.base import BaseCommand, CommandError

import steady_queue
from steady_queue import embedded, listener, queries
from steady_queue.connections import Database, connection_parameters, is_pooled
from steady_queue.health import explain, trouble, violations
from steady_queue.management.arguments import seconds
from steady_queue.management.layout import Progress, patience, printable

BATCH = 5000
"""Jobs that are deleted in one transaction."""

READING = "reading the whole history"


def add_check_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--deep", action="store_true", help="read the whole history too")


def add_health_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--max-age",
        type=seconds,
        metavar="SECONDS",
        help="how long a ready job of a queue that is served may wait",
    )
    parser.add_argument("--deep", action="store_true", help="look for what must never be true too")


def add_embedded_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("action", choices=["stop", "status"])


def prune(command: BaseCommand, **options: Any) -> None:
    finished, failed = steady_queue.clear_finished_jobs_after, steady_queue.clear_failed_jobs_after
    progress = Progress(command.stdout, "jobs deleted")
    total, count = 0, BATCH
    with closing(Database()) as database:
        while count >= BATCH:
            count = queries.prune(database.connection(), finished, failed, BATCH)
            total += count
            progress.show(total)
    progress.end()
    command.stdout.write(f"{total} jobs deleted")


def check(command: BaseCommand, deep: bool, **options: Any) -> None:
    with patience(command.stdout, READING if deep else "looking"):
        wrong = violations(deep)
    for invariant, subject, found in wrong:
        command.stdout.write(printable(f"{invariant}: {subject}: {found}"))
    if wrong:
        raise CommandError(f"{len(wrong)} found that must not be")
    command.stdout.write("nothing found")


def health(command: BaseCommand, max_age: timedelta | None, deep: bool, **options: Any) -> None:
    with patience(command.stdout, READING if deep else "asking"):
        reason = trouble(max_age, deep)
    if reason:
        raise CommandError(reason)
    command.stdout.write("healthy")


def doctor(command: BaseCommand, **options: Any) -> None:
    findings = [*queries.doctor(steady_queue.database, is_pooled()), *_address_findings()]
    for finding, remedy in findings:
        command.stdout.write(printable(f"{finding}: {remedy}"))
    if findings:
        raise CommandError(f"{len(findings)} found")
    command.stdout.write("nothing found")


def _address_findings() -> Iterator[tuple[str, str]]:
    """Whether LISTEN works where the processes use it."""
    alias = steady_queue.listen_database or steady_queue.database
    try:
        with psycopg.connect(**connection_parameters(alias), autocommit=True) as connection:
            if not listener.is_direct(connection):
                yield (
                    f"DATABASES[{alias!r}] leads to a transaction pooler, so that workers poll",
                    "name an alias with a direct address in steady_queue.listen_database",
                )
    except psycopg.OperationalError as error:
        yield f"DATABASES[{alias!r}] cannot be reached", explain(error)


def server(command: BaseCommand, action: str, **options: Any) -> None:
    if not embedded.started:
        raise CommandError("no database of DATABASES is an embedded server")
    for path in list(embedded.started):
        if action == "stop":
            embedded.stop(path)
        status = embedded.status(path)
        state = f"running with pid {status.pid}" if status.running else "stopped"
        command.stdout.write(f"PostgreSQL {status.version} in {path}: {state}")
