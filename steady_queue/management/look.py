"""What a person sees: rows of the views of ``sql/schema/90_views.sql``."""

from __future__ import annotations

import json
import threading
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError, connections
from django.db.models import TextField
from django.db.models.functions import Cast
from django.utils import timezone

import steady_queue
from steady_queue import queries
from steady_queue.actions import STATES
from steady_queue.cron import Cron, find_zone
from steady_queue.health import explain
from steady_queue.management.arguments import count, job_id, seconds
from steady_queue.management.layout import cell, for_json, moment, plain, printable, table
from steady_queue.models import JobError, JobState, RecurringTask

LISTED = ("id", "state", "task", "queue", "priority", "attempt", "enqueued_at", "finished_at")

SHOWN = (
    "state", "task", "queue", "priority", "attempt", "lost_starts", "process", "limit_key",
    "backend", "enqueued_at", "run_after", "claimed_at", "started_at", "finished_at",
)  # fmt: skip

CLEAR_SCREEN = "\033[2J\033[H"

wait = threading.Event().wait


def add_status_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs; spans in seconds")
    parser.add_argument(
        "--watch",
        nargs="?",
        type=seconds,
        const=timedelta(seconds=2),
        metavar="SECONDS",
        help="show it again and again, every 2 seconds unless said otherwise",
    )


def add_jobs_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--state", choices=STATES)
    parser.add_argument("--queue")
    parser.add_argument("--task")
    parser.add_argument("--limit", type=count, default=20, help="how many at most; 20")


def add_show_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("job", type=job_id, metavar="ID")
    parser.add_argument("--arguments", action="store_true", help="show the arguments too")


def status(
    command: BaseCommand, json: bool = False, watch: timedelta | None = None, **options: Any
) -> None:
    read = _status_json if json else _status_text
    if watch is None:
        command.stdout.write(read())
        return
    while True:
        shown = _or_why_not(read)
        command.stdout.write(shown if json else CLEAR_SCREEN + shown)
        command.stdout.flush()
        wait(watch.total_seconds())


def _or_why_not(read: Callable[[], str]) -> str:
    """What there is to show. A database that is away does not end the watch."""
    try:
        return read()
    except (DatabaseError, InterfaceError) as error:
        connections[steady_queue.database].close()
        return explain(error)


def _status_json() -> str:
    return json.dumps(queries.status(steady_queue.database), default=for_json)


def _status_text() -> str:
    parts = queries.status(steady_queue.database)
    sections = ["\n".join([title, *_indented(parts[name])]) for name, title in STATUS.items()]
    return "\n\n".join([moment(timezone.now()), *sections])


STATUS = {
    "queues": "Queues",
    "failures": "Failures of the last hour",
    "processes": "Processes",
    "limits": "Limits that jobs wait for",
    "schedules": "Next schedules",
}


def _indented(rows: list[dict[str, Any]]) -> Iterator[str]:
    for line in table(rows) if rows else ["none"]:
        yield f"  {line}"


def jobs(
    command: BaseCommand,
    state: str | None,
    queue: str | None,
    task: str | None,
    limit: int,
    **options: Any,
) -> None:
    wanted = {"state": state, "queue": queue, "task": task}
    found = JobState.objects.using(steady_queue.database).filter(
        **{name: value for name, value in wanted.items() if value is not None}
    )
    rows = list(found.order_by("-pk").values(*LISTED)[:limit])
    for line in table(rows) if rows else ["no such jobs"]:
        command.stdout.write(line)
    if len(rows) == limit:
        command.stdout.write(f"the newest {limit}: --limit shows more")


def show(command: BaseCommand, job: int, arguments: bool, **options: Any) -> None:
    # As text: rows made by SQL may hold what Python cannot read.
    text = Cast("arguments", TextField())
    found = JobState.objects.using(steady_queue.database).filter(pk=job).annotate(text=text)
    row = found.values(*SHOWN, *(["text"] if arguments else [])).first()
    if row is None:
        raise CommandError(f"no such job: {job}; what ended long ago is no longer kept")
    said = [f"job {job}", *_fields(row), *_timeline(job), *_errors(job)]
    command.stdout.write("\n".join(said))


def _fields(row: dict[str, Any]) -> Iterator[str]:
    if "text" in row:
        row["arguments"] = row.pop("text")
    for name, value in row.items():
        if value is not None:
            yield f"  {name.replace('_', ' ')}: {plain(value)}"


def _timeline(job: int) -> Iterator[str]:
    yield "timeline"
    for at, event in queries.job_timeline(steady_queue.database, job):
        yield f"  {moment(at)}  {printable(event)}"


def _errors(job: int) -> Iterator[str]:
    errors = JobError.objects.using(steady_queue.database).filter(job_id=job).order_by("pk")
    for error in errors:
        yield f"{error}: {printable(error.exception_class)}: {cell(error.message)}"
        for line in printable(error.traceback, lines=True).splitlines():
            yield f"  {line}"


def recurring(command: BaseCommand, **options: Any) -> None:
    # Without next_run_at, which is infinite for a schedule that rests: Python cannot read it.
    tasks = RecurringTask.objects.using(steady_queue.database).defer("next_run_at")
    for task in tasks.order_by("key"):
        state = "removed" if task.removed_at else "paused" if task.paused_at else "on"
        said = f"{task.key}  {task.schedule}  {task.timezone}  {task.task}  {state}"
        command.stdout.write(printable(said))
        for line in _upcoming(task) if state == "on" else ():
            command.stdout.write(f"    {line}")


def _upcoming(task: RecurringTask) -> Iterator[str]:
    """The next three runs; of a schedule made by SQL, that it cannot be read."""
    try:
        zone = find_zone(task.timezone)
        for run in Cron(task.schedule, zone).upcoming(timezone.now(), 3):
            yield f"{run.astimezone(zone):%a %Y-%m-%d %H:%M:%S %Z}"
    except ValueError as error:
        yield f"unreadable: {printable(str(error))}"
