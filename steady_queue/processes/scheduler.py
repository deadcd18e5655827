from __future__ import annotations

import logging
import random
import time
from datetime import datetime, timedelta
from typing import Any

import psycopg

from steady_queue import queries
from steady_queue.arguments import Arguments
from steady_queue.backend import as_job
from steady_queue.connections import LOST
from steady_queue.crash_points import reach
from steady_queue.cron import Cron, find_zone
from steady_queue.listener import Listener, Rest
from steady_queue.processes.loop import Loop
from steady_queue.queries import Connection, DueTask, NewJob
from steady_queue.task import as_enqueued, find_task

logger = logging.getLogger("steady_queue")

LOOK_EVERY = 60.0
"""Seconds after which the clock on the wall is looked at again: a laptop may have slept."""

LATE = timedelta(seconds=10)
"""How late a run is still on time: not missed, so that "skip" does not skip it."""

PRUNE_EVERY = 3600.0
KEEP_EXECUTIONS = timedelta(days=7)


class Scheduler(Loop):
    """Enqueues recurring tasks at their times: each run once, however many schedulers there are."""

    kind = "scheduler"

    def __init__(self, **process: Any) -> None:
        super().__init__(**process)
        self.listener = Listener(["recurring"])
        self.rest = Rest(self.listener, LOOK_EVERY)
        self._prune_at = time.monotonic()

    def step(self) -> float:
        self.listener.drain()
        connection = self.database.connection()
        self._prune(connection)
        next_run_in = queries.next_recurring_run_in(connection)
        if next_run_in is not None and next_run_in <= 0:
            self._look_at_due(connection)
            return 0.0
        seconds = self.rest.until_proven(connection)
        if seconds is None:
            seconds = self.rest.poll()
        self.watch(self.listener.connection)
        return seconds if next_run_in is None else min(seconds, next_run_in)

    def _look_at_due(self, connection: Connection) -> None:
        for due in queries.due_recurring_tasks(connection):
            try:
                self._look_at(connection, due)
            except LOST:
                raise
            except psycopg.Error as error:
                # It rests until it is made anew; the others go on.
                logger.error("refused: key=%s reason=%r", due.key, str(error))
                queries.advance_recurring_task(connection, due.key, due.next_run_at, None, None)
                connection.commit()

    def shut_down(self) -> int:
        self.listener.close()
        self.database.close()
        return 0

    def _look_at(self, connection: Connection, due: DueTask) -> None:
        with connection.transaction():
            self._enqueue_due(connection, due)
        reach("schedule.after_commit")

    def _enqueue_due(self, connection: Connection, due: DueTask) -> None:
        if due.run_now_at is not None:
            if queries.take_run_now(connection, due.key, due.run_now_at):
                self._enqueue(connection, due, due.run_now_at, delay=timedelta(0))
            return
        try:
            run_at, following = next_runs(due)
        except ValueError as error:
            # Made by SQL: nobody could check it. It rests until it is made anew.
            logger.error("unreadable: key=%s reason=%r", due.key, str(error))
            run_at = following = None
        won = queries.advance_recurring_task(
            connection, due.key, due.next_run_at, following, run_at
        )
        if won and run_at is not None:
            self._enqueue(connection, due, run_at, delay=jitter(due, run_at))

    def _enqueue(
        self, connection: Connection, due: DueTask, run_at: datetime, delay: timedelta
    ) -> None:
        job = new_job(due, run_at + delay if delay else None)
        cursor = connection.cursor()
        queries.enqueue_job(cursor, due.backend, job)
        [number], _ = queries.enqueued(cursor)
        reach("schedule.before_commit")
        queries.record_execution(connection, due.key, run_at, number)
        logger.info(
            "enqueued: key=%s run_at=%s job=%s",
            due.key,
            run_at.isoformat(),
            number,
            extra={"job_id": number, "task": job.task, "queue": job.queue},
        )

    def _prune(self, connection: Connection) -> None:
        if time.monotonic() >= self._prune_at:
            queries.prune_recurring(connection, KEEP_EXECUTIONS)
            self._prune_at = time.monotonic() + PRUNE_EVERY


def next_runs(due: DueTask) -> tuple[datetime | None, datetime | None]:
    """The run to enqueue now, if any, and the cursor after it.

    A schedule that was not worked out yet has no run now. One whose cursor lies in the past has
    missed runs: all of them are made up for, one by one, or only the last, or none.
    """
    cron = Cron(due.schedule, find_zone(due.timezone))
    if due.next_run_at is None:
        return None, cron.next(due.now)
    if due.missed == "all":
        return due.next_run_at, cron.next(due.next_run_at)
    run_at = due.next_run_at
    for run_at in cron.between(due.next_run_at, due.now):  # noqa: B007, the last one counts
        pass
    missed = due.now - run_at > LATE
    return None if missed and due.missed == "skip" else run_at, cron.next(run_at)


def jitter(due: DueTask, run_at: datetime) -> timedelta:
    """A span of up to the schedule's jitter: the same for one run wherever it is computed."""
    return due.jitter * random.Random(f"{due.key} {run_at.timestamp()}").random()


def new_job(due: DueTask, run_after: datetime | None) -> NewJob:
    """The job of a run. What stands in the way of it is left for the job to fail of, visibly."""
    try:
        return _new_job(due, run_after)
    except Exception as error:
        logger.warning("enqueued to fail: key=%s reason=%r", due.key, str(error))
        queue, priority = due.queue or "default", due.priority or 0
        return NewJob(due.task, queue, priority, due.arguments, run_after, None, None, None, None)


def _new_job(due: DueTask, run_after: datetime | None) -> NewJob:
    task = find_task(due.task)
    queue = due.queue or task.queue_name
    priority = task.priority if due.priority is None else due.priority
    args, kwargs = Arguments.deserialize(due.arguments)
    return as_job(as_enqueued(task, due.backend, queue, priority, run_after), args, kwargs)
