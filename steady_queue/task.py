from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib import import_module
from typing import Any, Self

from django.apps import apps
from django.conf import settings
from django.tasks import Task, task_backends
from django.tasks.exceptions import InvalidTask
from django.utils import timezone
from django.utils.module_loading import import_string

known_lanes: set[tuple[str, int]] = set()
"""(queue, priority) of every task defined in this process."""


class UnknownTaskClassError(Exception):
    """The path stored with a job does not lead to a task of this project."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SteadyQueueTask(Task):  # type: ignore[type-arg]
    """A task of this backend: Django's, with a limit, retries, a timeout and relative times."""

    concurrency_key: str | Callable[..., str] | None = None
    concurrency_limit: int | None = None
    concurrency_duration: timedelta | None = None
    concurrency_group: str | None = None
    concurrency_conflict: str | None = None

    policies: tuple[Any, ...] = ()
    max_attempts: int | None = None
    backoff: timedelta | Callable[[int], timedelta] | None = None
    timeout: timedelta | None = None

    def __post_init__(self) -> None:
        # Not super(): a dataclass with slots is a new class, and Django 6.0's is called by name.
        Task.__post_init__(self)
        if self.max_attempts is not None and not self.max_attempts >= 1:
            raise InvalidTask(f"expected max_attempts of at least 1, got {self.max_attempts!r}")
        if self.timeout is not None and not is_timeout(self.timeout):
            raise InvalidTask(f"expected timeout to be a positive timedelta, got {self.timeout!r}")
        known_lanes.add((self.queue_name, int(self.priority)))

    def using(
        self,
        *,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: datetime | timedelta | None = None,
        backend: str | None = None,
    ) -> Self:
        """A copy with other defaults. ``run_after`` is a moment, or a span counted from now."""
        changes: dict[str, Any] = {
            "priority": priority,
            "queue_name": queue_name,
            "run_after": _moment(run_after),
            "backend": backend,
        }
        return replace(self, **{k: v for k, v in changes.items() if v is not None})

    def __reduce__(self) -> tuple[Any, ...]:
        """By its path and what ``using`` may change: keys and policies may hold functions."""
        return _restore, (
            self.module_path,
            self.backend,
            self.queue_name,
            self.priority,
            self.run_after,
        )


def _restore(path: str, *changes: Any) -> SteadyQueueTask:
    return as_enqueued(import_string(path), *changes)


def _moment(run_after: datetime | timedelta | None) -> datetime | None:
    if not isinstance(run_after, timedelta):
        return run_after
    moment = datetime.now(UTC) + run_after
    # Added before it is made local: a span is elapsed time, also over a clock change.
    return (
        moment if settings.USE_TZ else timezone.make_naive(moment, timezone.get_default_timezone())
    )


def is_own_task(decorator: str, task: Any) -> bool:
    """Whether the decorator has anything to say to the task: not where it is another backend's,
    such as the ImmediateBackend of a project's tests. Raises TypeError for what is no task."""
    if not isinstance(task, Task):
        raise TypeError(f"{decorator} needs a task, got {task!r}; put it above @task()")
    return isinstance(task, SteadyQueueTask)


def is_timeout(value: Any) -> bool:
    return isinstance(value, timedelta) and value > timedelta(0)


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can keep the text: it takes neither NUL nor lone surrogates."""
    try:
        return b"\x00" not in text.encode()
    except UnicodeEncodeError:
        return False


@lru_cache(maxsize=4096)
def find_task(path: str) -> SteadyQueueTask:
    """The task at a dotted path, imported when needed, within installed apps only.

    Raises UnknownTaskClassError when there is none: a path stored in a row never causes anything
    else to be imported.
    """
    from steady_queue.backend import SteadyQueueBackend

    module, _, name = path.rpartition(".")
    found = getattr(_import_tasks_module(module, path), name, None)
    if not isinstance(found, SteadyQueueTask):
        raise UnknownTaskClassError(
            f"{path} is not a task: it was renamed or removed, or is not decorated with @task(); "
            "put it back, or discard the job"
        )
    if not isinstance(task_backends[found.backend], SteadyQueueBackend):
        raise UnknownTaskClassError(f"{path} is a task of another backend, {found.backend!r}")
    return found


def _import_tasks_module(module: str, path: str) -> Any:
    if module in sys.modules:
        return sys.modules[module]
    installed = [config.name for config in apps.get_app_configs()]
    if not any(f"{module}.".startswith(f"{name}.") for name in installed):
        raise UnknownTaskClassError(
            f"{path} is outside the installed apps; add its app to INSTALLED_APPS"
        )
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            raise UnknownTaskClassError(f"{path} is not a task: no module {error.name}") from error
        raise


def find_as_enqueued(
    path: str, backend: str, queue: str, priority: int, run_after: datetime | None
) -> SteadyQueueTask:
    """The task at a dotted path, as it was enqueued. Raises UnknownTaskClassError."""
    if run_after is None:
        return _find_as_enqueued(path, backend, queue, priority)
    return as_enqueued(find_task(path), backend, queue, priority, run_after)


@lru_cache(maxsize=4096)
def _find_as_enqueued(path: str, backend: str, queue: str, priority: int) -> SteadyQueueTask:
    return as_enqueued(find_task(path), backend, queue, priority, None)


def as_enqueued(
    task: SteadyQueueTask, backend: str, queue: str, priority: int, run_after: datetime | None
) -> SteadyQueueTask:
    """The task as it was enqueued. Not validated again: today's settings may refuse yesterday's."""
    clone = object.__new__(type(task))
    for field in fields(task):
        object.__setattr__(clone, field.name, getattr(task, field.name))
    changes = (
        ("backend", backend),
        ("queue_name", queue),
        ("priority", priority),
        ("run_after", run_after),
    )
    for name, value in changes:
        object.__setattr__(clone, name, value)
    return clone
