"""``@times_out``, and how a worker stops tasks that run for too long."""

from __future__ import annotations

import ctypes
import logging
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from traceback import format_stack
from typing import Any

import psycopg
from django.db import Error, connections

import steady_queue
from steady_queue.logs import about
from steady_queue.queries import ClaimedJob
from steady_queue.task import SteadyQueueTask, is_own_task, is_timeout

logger = logging.getLogger("steady_queue")

STOPS_WITHIN = 3.0
"""Seconds after its timeout within which a task has to stop, before it costs its process."""

CANCEL_WITHIN = 2.0
"""Seconds that the cancelling of a query may take."""


class TaskTimeout(Exception):
    """The task ran for longer than its timeout."""


def times_out(*, after: timedelta) -> Callable[[SteadyQueueTask], SteadyQueueTask]:
    """Raise TaskTimeout in the task when it has run for so long. Applied outside ``@task()``::

        @times_out(after=timedelta(minutes=5))
        @task()
        def import_orders(path: str): ...

    The same as ``@task(timeout=timedelta(minutes=5))``, which Django 6.1 takes. Without either,
    ``steady_queue.default_task_timeout`` holds. A query that runs on one of Django's connections is
    cancelled. A task that has not stopped 3 seconds later costs its process: the worker lets its
    other tasks run for up to ``shutdown_timeout``, records this one as timed out, and is replaced.

    Raises ValueError where the decorator is used, unless ``after`` is a positive timedelta.
    """
    if not is_timeout(after):
        raise ValueError(f"expected after to be a positive timedelta, got {after!r}")

    def time_out(task: SteadyQueueTask) -> SteadyQueueTask:
        if not is_own_task("@times_out", task):
            return task
        return replace(task, timeout=after)

    return time_out


def timeout_of(task: SteadyQueueTask) -> timedelta | None:
    return task.timeout or steady_queue.default_task_timeout


class Deadline:
    """The end of one call in one thread: made and ended there, kept by the worker's loop.

    The two meet without a lock that an exception could leave locked: the thread says ``ended``
    before it asks whether the loop was about to raise, and the loop says ``due`` before it asks
    whether the thread has ended.
    """

    def __init__(self, job: ClaimedJob, result: Any, timeout: timedelta) -> None:
        self.job = job
        self.result = result
        self.timeout = timeout
        self.began_at = time.monotonic()
        self.at = self.began_at + timeout.total_seconds()
        self.due = self.settled = self.ended = False
        self._thread = threading.get_ident()
        # Made here, where Django would make them: each belongs to its thread.
        self._connections = connections.all()

    def error(self) -> TaskTimeout:
        return TaskTimeout(f"the task ran for more than {self.timeout}")

    def where(self) -> str:
        """What the thread does now, as a traceback would show it."""
        frame = sys._current_frames().get(self._thread)
        return "".join(format_stack(frame)) if frame else ""

    def enforce(self) -> None:
        """Once, from the loop: raise TaskTimeout in the thread, and wake it from its query."""
        self.due = True
        if not self.ended:
            _raise_in(self._thread, TaskTimeout)
            if querying := [c for c in map(_querying, self._connections) if c is not None]:
                threading.Thread(target=self._cancel, args=(querying,), daemon=True).start()
                return
        self.settled = True

    def end(self) -> None:
        """From the thread: when this returns, no exception is on its way and no query cancelled."""
        self.ended = True
        if self.due:
            while not self.settled:
                time.sleep(0.001)
            _raise_in(self._thread, None)

    def drop_connections(self) -> None:
        """Whatever was interrupted may have been amid something with them."""
        for connection in self._connections:
            if connection.connection is not None:
                connection.close()

    def _cancel(self, querying: list[Any]) -> None:
        try:
            for connection in querying:
                connection.cancel_safe(timeout=CANCEL_WITHIN)
        except Exception as error:
            logger.warning(
                "cancel failed: job=%s reason=%r",
                self.job.id,
                str(error).strip(),
                extra=about(self.job, self.result.worker_ids[-1]),
            )
        finally:
            self.settled = True


class Timeouts:
    """The deadlines of a worker's threads. ``notice`` wakes its loop, from one of them."""

    def __init__(self, notice: Callable[[], None]) -> None:
        self._notice = notice
        self._running: set[Deadline] = set()
        self._look_at = float("inf")

    def call(
        self, job: ClaimedJob, result: Any, timeout: timedelta, call: Callable[[], Any]
    ) -> Any:
        """``call()``, in the calling thread; raises TaskTimeout in it when it takes too long."""
        deadline = Deadline(job, result, timeout)
        try:
            self._begin(deadline)
            return call()
        except TaskTimeout as error:
            if deadline.due and not error.args:
                error.args = deadline.error().args
            raise
        except (psycopg.Error, Error) as error:
            # A transaction that was interrupted while it ended says so instead.
            if deadline.due and _comes_of_timeout(error):
                raise deadline.error() from error
            raise
        finally:
            # Not in a function of its own: the exception can come where one begins.
            while True:
                try:
                    deadline.end()
                    break
                except TaskTimeout:
                    # It came when the call was over. There is no second one.
                    continue
            self._end(deadline)

    def _begin(self, deadline: Deadline) -> None:
        self._running.add(deadline)
        if deadline.at < self._look_at:
            self._notice()

    def _end(self, deadline: Deadline) -> None:
        self._running.discard(deadline)
        if deadline.due:
            deadline.drop_connections()

    def enforce(self) -> None:
        """From the loop: raise what is due."""
        # Until the end of this, threads that begin make the loop look once more.
        self._look_at = float("inf")
        moments = [self._enforce(deadline) for deadline in self._running.copy()]
        self._look_at = min(moments, default=float("inf"))

    def left(self) -> float:
        """Seconds until there is more to do."""
        return max(0.0, self._look_at - time.monotonic())

    def stuck(self) -> list[Deadline]:
        """Those whose task did not stop though it was told to."""
        return [d for d in self._running.copy() if d.due and _is_stuck(d)]

    def _enforce(self, deadline: Deadline) -> float:
        """The moment at which to look at this one again."""
        if deadline.at > time.monotonic():
            return deadline.at
        if not deadline.due:
            deadline.enforce()
        return float("inf") if _is_stuck(deadline) else deadline.at + STOPS_WITHIN


def _comes_of_timeout(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, TaskTimeout):
        error = error.__cause__ or error.__context__
    return error is not None


def _is_stuck(deadline: Deadline) -> bool:
    return deadline.at + STOPS_WITHIN <= time.monotonic()


def _raise_in(thread: int, exception: type[BaseException] | None) -> None:
    """Raise in a thread, at the next instruction of its Python code; None: what is not raised yet
    is raised no more."""
    raised = ctypes.py_object() if exception is None else ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)


def _querying(connection: Any) -> Any:
    """The psycopg connection behind one of Django's, if it waits for the server."""
    inner = connection.connection
    if not hasattr(inner, "cancel_safe"):
        return None
    return inner if inner.info.transaction_status.name == "ACTIVE" else None
