from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from django.conf import settings
from django.tasks.base import TASK_MAX_PRIORITY, TASK_MIN_PRIORITY

import steady_queue
from steady_queue import configuration, queries
from steady_queue.arguments import Arguments
from steady_queue.cron import Cron, find_zone
from steady_queue.task import SteadyQueueTask, find_task, is_own_task

type Missed = Literal["latest", "skip", "all"]


@dataclass(frozen=True, kw_only=True)
class Recurring:
    """A schedule and the task that it enqueues. Raises ValueError or TypeError for bad ones."""

    key: str
    task: SteadyQueueTask
    schedule: str
    timezone: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    queue_name: str | None = None
    priority: int | None = None
    jitter: timedelta = timedelta(0)
    missed: Missed = "latest"
    description: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.key, str) or not self.key:
            raise ValueError(f"expected key to be a non-empty string, got {self.key!r}")
        if self.missed not in ("latest", "skip", "all"):
            raise ValueError(
                f"expected missed to be 'latest', 'skip' or 'all', got {self.missed!r}"
            )
        if not isinstance(self.jitter, timedelta) or self.jitter < timedelta(0):
            raise ValueError(f"expected jitter to be a timedelta of 0 or more, got {self.jitter!r}")
        low, high = TASK_MIN_PRIORITY, TASK_MAX_PRIORITY
        if self.priority is not None and not low <= self.priority <= high:
            raise ValueError(f"expected priority between {low} and {high}, got {self.priority!r}")
        Cron(self.schedule, find_zone(self.timezone))

    def columns(self) -> dict[str, Any]:
        """The row of steady_queue_recurring_tasks."""
        return {
            "key": self.key,
            "task": self.task.module_path,
            "schedule": self.schedule,
            "timezone": self.timezone,
            "arguments": json.loads(Arguments.serialize(self.args, self.kwargs)),
            "queue": self.queue_name,
            "priority": self.priority,
            "backend": self.task.backend,
            "jitter": f"{self.jitter.total_seconds()} seconds",
            "missed": self.missed,
            "description": self.description,
        }


@dataclass(frozen=True)
class Declaration:
    """A schedule in the code, and the place that declares it."""

    recurring: Recurring
    place: str


declarations: dict[str, Declaration] = {}
"""What this project's code declares, by key."""


def recurring(
    schedule: str,
    key: str,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    queue_name: str | None = None,
    priority: int | None = None,
    description: str | None = None,
    *,
    timezone: str | None = None,
    jitter: timedelta = timedelta(0),
    missed: Missed = "latest",
) -> Callable[[SteadyQueueTask], SteadyQueueTask]:
    """Enqueue the task on a cron schedule. Applied outside ``@task()``, and stackable::

        @recurring(schedule="0 9 * * *", args=("Alice",), key="greet_alice")
        @recurring(schedule="0 12 * * *", args=("Bob",), key="greet_bob")
        @task()
        def greet(name: str): ...

    ``schedule`` is a crontab expression: five fields, six with a year at the end, seven with
    seconds at the start, or ``@daily`` and the like (:class:`steady_queue.cron.Cron` has the
    details). It is in ``TIME_ZONE``, or in the ``timezone`` given. ``key`` is unique in the code
    base. ``queue_name`` and ``priority`` default to the task's own. ``jitter`` delays each run by
    a span of up to that long, the same on each host. ``missed`` says what becomes of runs that
    fell into an outage: ``"latest"`` makes up for the last of them, ``"skip"`` for none, ``"all"``
    for each.

    Raises ValueError or TypeError, when the module is imported, for what cannot work: a schedule
    that cannot be read, a key used twice (both places are named).
    """
    frame = sys._getframe(1)
    place = f"{frame.f_code.co_filename}:{frame.f_lineno}"

    def declare(task: SteadyQueueTask) -> SteadyQueueTask:
        if not is_own_task("@recurring", task):
            return task
        declared = Recurring(
            key=key,
            task=task,
            schedule=schedule,
            timezone=timezone or settings.TIME_ZONE,
            args=tuple(args or ()),
            kwargs=dict(kwargs or {}),
            queue_name=queue_name,
            priority=priority,
            jitter=jitter,
            missed=missed,
            description=description or "",
        )
        _declare(Declaration(declared, place))
        return task

    return declare


def _declare(declaration: Declaration) -> None:
    key = declaration.recurring.key
    known = declarations.get(key)
    # The same place again is the same module, imported once more.
    if known and known.place != declaration.place:
        raise ValueError(
            f"recurring key {key!r} is used twice: at {known.place} and at {declaration.place}"
        )
    declarations[key] = declaration


def declared_tasks(configured: Sequence[configuration.RecurringTask] | None = None) -> str:
    """What the code, or else STEADY_QUEUE, declares: JSON for steady_queue_sync_recurring_tasks."""
    if configured is None:
        declared = [declaration.recurring for declaration in declarations.values()]
    else:
        declared = [_from_configuration(item) for item in configured]
    return json.dumps([item.columns() for item in declared])


def _from_configuration(item: configuration.RecurringTask) -> Recurring:
    return Recurring(
        key=item.key,
        task=find_task(item.class_name),
        schedule=item.schedule,
        timezone=settings.TIME_ZONE,
        args=item.args,
        kwargs=item.kwargs,
        queue_name=item.queue_name,
        priority=item.priority,
        description=item.description or "",
    )


def owner() -> str:
    """Whose code declares: the package of the settings module."""
    return (settings.SETTINGS_MODULE or "").partition(".")[0]


def schedule(
    task: SteadyQueueTask,
    schedule: str,
    key: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    queue_name: str | None = None,
    priority: int | None = None,
    description: str = "",
    *,
    timezone: str | None = None,
    jitter: timedelta = timedelta(0),
    missed: Missed = "latest",
) -> None:
    """Make, or change, a schedule at run time, as part of the caller's transaction.

    Parameters as for :func:`recurring`. Raises what it raises, and a database error for a key that
    the code declares.
    """
    made = Recurring(
        key=key,
        task=task,
        schedule=schedule,
        timezone=timezone or settings.TIME_ZONE,
        args=args,
        kwargs=kwargs or {},
        queue_name=queue_name,
        priority=priority,
        jitter=jitter,
        missed=missed,
        description=description,
    )
    columns = made.columns()
    arguments = json.dumps(columns.pop("arguments"))
    queries.schedule_task(
        steady_queue.database,
        columns["key"],
        columns["task"],
        columns["schedule"],
        columns["timezone"],
        arguments,
        columns["queue"],
        columns["priority"],
        columns["backend"],
        columns["jitter"],
        columns["missed"],
        columns["description"],
    )


def unschedule(key: str) -> bool:
    """Remove a schedule made at run time; False when there is none."""
    return queries.unschedule_task(steady_queue.database, key)


def run_now(key: str) -> bool:
    """Let a schedule's task run once, now; False when there is no such schedule."""
    return queries.run_recurring_task_now(steady_queue.database, key)


def pause(key: str) -> bool:
    """Stop a schedule; False when it is paused already, or there is none."""
    return queries.pause_recurring_task(steady_queue.database, key)


def resume(key: str) -> bool:
    """Let a paused schedule go on, from now; False when it is not paused."""
    return queries.resume_recurring_task(steady_queue.database, key)
