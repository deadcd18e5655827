from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from django.core.checks import CheckMessage
from django.db import connections
from django.tasks import Task, TaskResult, TaskResultStatus
from django.tasks.backends.base import BaseTaskBackend
from django.tasks.exceptions import InvalidTask
from django.tasks.signals import task_enqueued
from django.utils import timezone

import steady_queue
from steady_queue import checks, queries
from steady_queue.arguments import Arguments
from steady_queue.concurrency import limit_duration, limit_key
from steady_queue.crash_points import reach
from steady_queue.task import SteadyQueueTask, is_storable

type Result = TaskResult[Any, Any]
type Call = tuple[SteadyQueueTask, Sequence[Any], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SteadyQueueResult(TaskResult):  # type: ignore[type-arg, misc]
    """Django's TaskResult, whose arguments may be more than JSON."""

    lost_starts: int = 0
    """How many starts were lost with their process. ``attempts`` and ``errors`` leave them out."""

    def __post_init__(self) -> None:
        """Keeps the arguments as given: Django's would refuse dates and model instances."""


class SteadyQueueBackend(BaseTaskBackend):
    """Stores tasks in PostgreSQL, in the caller's own transaction."""

    task_class = SteadyQueueTask
    supports_defer = True
    supports_async_task = False
    supports_get_result = False
    supports_priority = True

    def validate_task(self, task: Task[Any, Any]) -> None:
        """Raises InvalidTask for what cannot be enqueued."""
        super().validate_task(task)
        if not isinstance(task, SteadyQueueTask):
            raise InvalidTask(
                f"{task.module_path} was declared for another backend; declare it with "
                f"@task(backend={self.alias!r})"
            )
        name = task.queue_name
        if not isinstance(name, str) or not 0 < len(name) <= 300 or not is_storable(name):
            raise InvalidTask(f"expected a queue name of 1 to 300 characters, got {name!r:.400}")

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Result:
        """Enqueue one task, in the transaction that is open on the queue's database, if one is.

        Raises InvalidTask, and SerializationError for arguments that cannot be kept exactly;
        nothing is stored then.
        """
        return self.enqueue_all([(task, args, kwargs)])[0]

    def enqueue_all(self, calls: Iterable[Call]) -> list[Result]:
        """Enqueue many tasks, given as (task, args, kwargs), in one statement.

        Returns their results in order. All of them are enqueued or, when one is refused, none.
        """
        calls = list(calls)
        if not calls:
            return []
        for task in {id(task): task for task, _, _ in calls}.values():
            self.validate_task(task)
        jobs = [as_job(*call) for call in calls]
        if steady_queue.tracing:
            from steady_queue.traces import traced_enqueue

            stored = traced_enqueue(jobs, self._store)
        else:
            stored = self._store(jobs)
        results: list[Result] = [
            self._result(*call, *row) for call, row in zip(calls, stored, strict=True)
        ]
        for result in results:
            task_enqueued.send_robust(type(self), task_result=result)
        return results

    def _store(self, jobs: Sequence[queries.NewJob]) -> list[tuple[int, datetime]]:
        """Ids and moments."""
        with connections[steady_queue.database].cursor() as cursor:
            reach("enqueue.before")
            if len(jobs) == 1:
                stored = [queries.enqueue_job(cursor, self.alias, jobs[0])]
            else:
                stored = queries.enqueue_jobs(cursor, self.alias, jobs)
            reach("enqueue.after")
            return stored

    async def aenqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> NoReturn:
        """Not supported: an async caller has no transaction that enqueueing could be part of."""
        raise NotImplementedError(
            "steady_queue does not enqueue from async code, where no transaction can be open; "
            "use `await sync_to_async(task.enqueue)(...)`. supports_async_task will say so when "
            "that changes."
        )

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        return checks.check_backend(self)

    def _result(
        self,
        task: SteadyQueueTask,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        job: int,
        enqueued_at: datetime,
    ) -> SteadyQueueResult:
        return SteadyQueueResult(
            task=task,
            id=str(job),
            status=TaskResultStatus.READY,
            enqueued_at=enqueued_at,
            started_at=None,
            finished_at=None,
            last_attempted_at=None,
            args=list(args),
            kwargs=dict(kwargs),
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )


def as_job(task: SteadyQueueTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> queries.NewJob:
    """The row of one call. Raises SerializationError."""
    arguments = Arguments.serialize(args, kwargs)
    key = limit_key(task, args, kwargs)
    return queries.NewJob(
        task.module_path,
        task.queue_name,
        int(task.priority),
        arguments,
        _aware(task.run_after),
        key,
        task.concurrency_limit if key else None,
        limit_duration(task) if key else None,
        task.concurrency_conflict if key else None,
    )


def _aware(moment: datetime | None) -> datetime | None:
    """Naive moments, which Django allows where USE_TZ is False, are in TIME_ZONE."""
    if moment is not None and timezone.is_naive(moment):
        return timezone.make_aware(moment, timezone.get_default_timezone())
    return moment
