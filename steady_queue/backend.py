from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import batched, starmap
from typing import Any, NoReturn

from django.core.checks import CheckMessage
from django.tasks import Task, TaskResultStatus
from django.tasks.backends.base import BaseTaskBackend
from django.tasks.exceptions import InvalidTask
from django.tasks.signals import task_enqueued
from django.utils import timezone

import steady_queue
from steady_queue import checks, queries
from steady_queue.arguments import Arguments
from steady_queue.concurrency import limit_duration, limit_key
from steady_queue.crash_points import reach
from steady_queue.cursors import give_back, sending_ahead, take_cursor
from steady_queue.result import SteadyQueueResult, change_result, make_result
from steady_queue.task import SteadyQueueTask, is_storable

type Call = tuple[SteadyQueueTask, Sequence[Any], Mapping[str, Any]]
type Change = Callable[[queries.NewJob], queries.NewJob]

CHUNK = 250
"""Jobs of one statement. While the server stores them, the next ones and their results are made."""

FEW = 100
"""Jobs whose statement may stay in memory with the cursor until the next call."""


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

    def enqueue(
        self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> SteadyQueueResult:
        """Enqueue one task, in the transaction that is open on the queue's database, if one is.

        Raises InvalidTask, and SerializationError for arguments that cannot be kept exactly;
        nothing is stored then.
        """
        return self.enqueue_all([(task, args, kwargs)])[0]

    def enqueue_all(self, calls: Iterable[Call]) -> list[SteadyQueueResult]:
        """Enqueue many tasks, given as (task, args, kwargs).

        Returns their results in order. All of them are enqueued or, when one is refused, none.
        """
        calls = list(calls)
        if not calls:
            return []
        for task in _tasks_of(calls):
            self.validate_task(task)
        if steady_queue.tracing:
            from steady_queue.traces import traced_enqueue

            results = traced_enqueue(calls, self._store)
        else:
            results = self._store(calls)
        for result in results:
            task_enqueued.send_robust(type(self), task_result=result)
        return results

    def _store(
        self, calls: Sequence[Call], change: Change | None = None
    ) -> list[SteadyQueueResult]:
        """Results of the calls. What is stored of each is what ``change`` makes of it."""
        jobs: Iterable[queries.NewJob] = starmap(as_job, calls)
        if change:
            jobs = map(change, jobs)
        if len(calls) <= CHUNK:
            return self._receive(*self._send(calls, list(jobs)))
        if not _are_inert(calls):
            jobs = list(jobs)
        chunks = zip(batched(calls, CHUNK), batched(jobs, CHUNK), strict=True)
        with sending_ahead(steady_queue.database):
            sent = [self._send(*chunk) for chunk in chunks]
            return [result for chunk in sent for result in self._receive(*chunk)]

    def _send(
        self, calls: Sequence[Call], jobs: Sequence[queries.NewJob]
    ) -> tuple[Any, list[SteadyQueueResult]]:
        """The cursor by which the jobs were sent, and their results without what it answers."""
        cursor = take_cursor(steady_queue.database)
        reach("enqueue.before")
        if len(jobs) == 1:
            queries.enqueue_job(cursor, self.alias, jobs[0])
        else:
            queries.enqueue_jobs(cursor, self.alias, jobs)
        return cursor, [self._result(*call) for call in calls]

    def _receive(self, cursor: Any, results: list[SteadyQueueResult]) -> list[SteadyQueueResult]:
        ids, moment = queries.enqueued(cursor)
        if len(results) <= FEW:
            give_back(cursor)
        reach("enqueue.after")
        for result, job in zip(results, ids, strict=True):
            change_result(result, id=str(job), enqueued_at=moment)
        return results

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
    ) -> SteadyQueueResult:
        """Of a job that has no id yet."""
        return make_result(
            task=task,
            status=TaskResultStatus.READY,
            args=list(args),
            kwargs=dict(kwargs),
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )


def _are_inert(calls: Sequence[Call]) -> bool:
    """Whether to make their jobs runs no code of the project's, which might ask the database: the
    key of a limit may be a function, and a lazy argument is loaded."""
    _, args, kwargs = zip(*calls, strict=True)
    keys = (task.concurrency_key for task in _tasks_of(calls))
    return not any(map(callable, keys)) and Arguments.are_plain(args, kwargs)


def _tasks_of(calls: Sequence[Call]) -> Iterable[SteadyQueueTask]:
    """Each once."""
    return {id(task): task for task, _, _ in calls}.values()


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
