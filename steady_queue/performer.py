"""Runs one job: everything after the claim is inside the attempt."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from contextvars import Context, copy_context
from datetime import datetime, timedelta
from traceback import format_exception
from typing import Any

from django.dispatch import Signal
from django.tasks import TaskContext, TaskResultStatus, task_backends
from django.tasks.base import TaskError
from django.tasks.signals import task_finished, task_started

import steady_queue
from steady_queue import task_connections
from steady_queue.arguments import Arguments
from steady_queue.crash_points import reach
from steady_queue.logs import current
from steady_queue.processes import OutcomeRefusedError
from steady_queue.queries import ClaimedJob, Outcome
from steady_queue.result import SteadyQueueResult, change_result, make_result
from steady_queue.retries import verdict
from steady_queue.task import UnknownTaskClassError, find_as_enqueued
from steady_queue.timeouts import Deadline, Timeouts, timeout_of

logger = logging.getLogger("steady_queue")

MAX_ERROR = 64 * 1024
"""Bytes of a traceback, and of a message, that are kept: the beginning and the end."""

IDLE = 5.0
"""Seconds after which a thread's database connections are checked before they are used again."""


_forks = 0
"""Forks between this process and the one that imported this module."""


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


class Performer:
    """Performs jobs in the calling thread; one for each thread. ``timeouts`` are all threads'."""

    def __init__(self, worker_id: str, timeouts: Timeouts | None = None) -> None:
        self._worker_id = worker_id
        self._timeouts = timeouts
        # Copied for each job: what a task sets (language, time zone, its own) ends with it.
        self._context: Context = copy_context()
        self._senders: dict[str, type] = self._context.run(
            lambda: {alias: type(task_backends[alias]) for alias in task_backends}
        )
        self._ended_at = time.monotonic()
        self._forks = _forks
        self._run: Callable[[ClaimedJob, datetime], str | None] = self._attempt
        if steady_queue.tracing:
            from steady_queue.traces import traced_attempt

            self._run = traced_attempt(self._attempt)

    def perform(self, job: ClaimedJob, received_at: float) -> Outcome:
        """Run the job, received at this moment of the monotonic clock. Raises nothing."""
        started = time.monotonic()
        if started - self._ended_at > IDLE:
            task_connections.check()
        started_at = job.claimed_at + timedelta(seconds=started - received_at)
        error = self._context.copy().run(self._run, job, started_at)
        reach("perform.after")
        task_connections.tidy()
        self._ended_at = ended = time.monotonic()
        return Outcome(job, started - received_at, ended - started, error)

    def _attempt(self, job: ClaimedJob, started_at: datetime) -> str | None:
        """The error as JSON, or None."""
        current.set((job, self._worker_id))
        result = None
        started = time.monotonic()
        try:
            result = self._result(job, started_at)
            self._send(task_started, result)
            reach("perform.before")
            value = self._call(job, result)
            change_result(result, _return_value=value, status=TaskResultStatus.SUCCESSFUL)
            error = None
        except BaseException as exception:
            error = _describe(exception)
            if result:
                error |= _verdict(result.task, exception, job.attempt + 1)
                again = error.get("retry_in") is not None
                change_result(
                    result, status=TaskResultStatus.READY if again else TaskResultStatus.FAILED
                )
                result.errors.append(
                    TaskError(
                        exception_class_path=error["exception_class"], traceback=error["traceback"]
                    )
                )
                self._finish(result, started_at, started)
            return json.dumps(error)
        self._finish(result, started_at, started)
        return None

    def _call(self, job: ClaimedJob, result: SteadyQueueResult) -> Any:
        timeout = timeout_of(result.task)  # type: ignore[arg-type]
        try:
            if not timeout or not self._timeouts:
                return _call(result)
            return self._timeouts.call(job, result, timeout, lambda: _call(result))
        finally:
            if _forks != self._forks:
                # The task forked, and came back twice: the job goes on in the other process.
                os._exit(0)

    def _finish(self, result: SteadyQueueResult, started_at: datetime, started: float) -> None:
        elapsed = timedelta(seconds=time.monotonic() - started)
        change_result(result, finished_at=started_at + elapsed)
        self._send(task_finished, result)

    def _send(self, signal: Signal, result: SteadyQueueResult) -> None:
        """Whatever a receiver raises, SystemExit included, changes nothing."""
        try:
            signal.send_robust(self._senders[result.backend], task_result=result)
        except BaseException:
            logger.exception("receiver raised: job=%s task=%s", result.id, result.task.module_path)

    def _result(self, job: ClaimedJob, started_at: datetime) -> SteadyQueueResult:
        backend = job.backend
        if backend not in self._senders:
            raise UnknownTaskClassError(
                f"no backend {backend!r} in TASKS; add it, or discard the job"
            )
        task = find_as_enqueued(job.task, backend, job.queue, job.priority, job.run_after)
        args, kwargs = Arguments.deserialize(job.arguments)
        return make_result(
            task=task,
            id=str(job.id),
            status=TaskResultStatus.RUNNING,
            enqueued_at=job.enqueued_at,
            started_at=started_at,
            last_attempted_at=started_at,
            args=args,
            kwargs=kwargs,
            backend=backend,
            errors=[TaskError(**error) for error in job.errors or ()],
            worker_ids=self._worker_ids(job),
            lost_starts=job.lost_starts,
        )

    def _worker_ids(self, job: ClaimedJob) -> list[str]:
        """One for each attempt; of very many, the first are no longer known by name."""
        known = job.workers or []
        return ["unknown"] * (job.attempt - len(known)) + known + [self._worker_id]


def unrecordable(outcome: Outcome, reason: Exception) -> Outcome:
    """A failure in the place of an outcome that PostgreSQL would not record."""
    error = _describe(OutcomeRefusedError(str(reason).strip()))
    return outcome._replace(error=json.dumps(error))


def timed_out(deadline: Deadline) -> Outcome:
    """The outcome of a task that did not stop when it was told to."""
    job, result, timeout = deadline.job, deadline.result, deadline.error()
    error = _describe(timeout) | _verdict(result.task, timeout, job.attempt + 1)
    error["traceback"] = _storable(deadline.where() + error["traceback"])
    waited = (result.started_at - job.claimed_at).total_seconds()
    ran = time.monotonic() - deadline.began_at
    return Outcome(job, waited, ran, json.dumps(error))


def _call(result: SteadyQueueResult) -> Any:
    task = result.task
    if task.takes_context:
        return task.call(TaskContext(task_result=result), *result.args, **result.kwargs)
    return task.func(*result.args, **result.kwargs)


def _verdict(task: Any, error: BaseException, attempt: int) -> dict[str, Any]:
    """What the task's decorators say; a callable of theirs that raises makes it a failure."""
    try:
        discard, retry_in = verdict(task, error, attempt)
    except BaseException as broken:
        error.add_note(f"and the wait of its retry raised {broken!r}")
        return _describe(error)
    return {"discard": discard, "retry_in": retry_in}


def _describe(exception: BaseException) -> dict[str, Any]:
    """Class path, message and traceback; whatever the exception's own methods do."""
    kind = type(exception)
    return {
        "exception_class": _storable(f"{kind.__module__}.{kind.__qualname__}"),
        "message": _storable(_text(exception)),
        "traceback": _storable(_traceback(exception)),
    }


def _text(exception: BaseException) -> str:
    try:
        return str(exception)
    except BaseException as error:
        return f"<{type(exception).__name__}.__str__ raised {type(error).__name__}>"


def _traceback(exception: BaseException) -> str:
    try:
        return "".join(format_exception(exception))
    except BaseException as error:
        return f"<the traceback could not be formatted: {type(error).__name__}>"


def _storable(text: str) -> str:
    """Text that PostgreSQL takes: capped, without NUL and lone surrogates."""
    kept = text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace")
    if len(kept) > MAX_ERROR:
        half = MAX_ERROR // 2 - 50
        left_out = b"\n[... %d bytes left out ...]\n" % (len(kept) - 2 * half)
        kept = kept[:half] + left_out + kept[-half:]
    return kept.decode("utf-8", "ignore")
