from __future__ import annotations

import time
from typing import Any

import steady_queue
from steady_queue import queries
from steady_queue.configuration import Dispatcher as DispatcherOptions
from steady_queue.crash_points import reach
from steady_queue.listener import Listener, Rest
from steady_queue.processes.loop import Loop

PRUNE_EVERY, PRUNE_SELDOM = 60.0, 300.0
"""Seconds between two looks for history past its time, by whether the last one found any."""

PRUNE_BATCH = 5000
"""Jobs, or rows of figures, that one statement deletes at most."""


class Dispatcher(Loop):
    """Moves due jobs to ready at their moment; maintains limits and clears history."""

    kind = "dispatcher"

    def __init__(self, options: DispatcherOptions, **process: Any) -> None:
        super().__init__(**process)
        self.options = options
        self.listener = Listener(["scheduled", "limits"])
        self.rest = Rest(self.listener, options.polling_interval.total_seconds())
        self._dispatch_at = self._maintain_at = self._prune_at = time.monotonic()

    def step(self) -> float:
        if heard := self.listener.drain():
            # Due until all of it has been done: an error on the way leaves it so.
            self._dispatch_at = 0.0
        if "limits" in heard:
            # Slots came free without a finish.
            self._maintain_at = time.monotonic()
        connection = self.database.connection()
        if time.monotonic() >= self._dispatch_at:
            self._dispatch_at = 0.0
            self._dispatch_at = time.monotonic() + self._dispatch(connection)
        self._maintain(connection)
        return self._until_next()

    def _dispatch(self, connection: queries.Connection) -> float:
        """Seconds until it is to be done again, unless something is heard before."""
        moved, next_due_in = queries.dispatch_jobs(connection, self.options.batch_size)
        reach("dispatch.after")
        if moved:
            self.rest.begin_anew()
        is_overdue = next_due_in is not None and next_due_in <= 0
        seconds = self._rest_after(moved, is_overdue, connection)
        self.watch(self.listener.connection)
        return seconds if next_due_in is None or is_overdue else min(seconds, next_due_in)

    def shut_down(self) -> int:
        self.listener.close()
        self.database.close()
        return 0

    def _rest_after(self, moved: int, is_overdue: bool, connection: queries.Connection) -> float:
        if moved == self.options.batch_size:
            self.rest.after_full()
            return 0
        if (seconds := self.rest.until_proven(connection)) is not None:
            return seconds
        # One that is due and was left: somebody has locked it.
        return self.rest.look_again() if is_overdue else self.rest.poll()

    def _until_next(self) -> float:
        moments = [self._dispatch_at, self._prune_at]
        if self.options.concurrency_maintenance:
            moments.append(self._maintain_at)
        return max(0.0, min(moments) - time.monotonic())

    def _maintain(self, connection: queries.Connection) -> None:
        """The next time is set first: what fails is tried again then, and not before."""
        now = time.monotonic()
        if self.options.concurrency_maintenance and now >= self._maintain_at:
            interval = self.options.concurrency_maintenance_interval
            self._maintain_at = now + interval.total_seconds()
            count = self.options.batch_size
            if queries.maintain_limits(connection, count) >= count:
                self._maintain_at = now
        if now >= self._prune_at:
            self._prune_at = now + PRUNE_EVERY
            self._prune_at = now + self._prune(connection)

    def _prune(self, connection: queries.Connection) -> float:
        """Seconds until it is to be done again."""
        finished = steady_queue.clear_finished_jobs_after
        failed = steady_queue.clear_failed_jobs_after
        pruned = queries.prune(connection, finished, failed, PRUNE_BATCH)
        compacted = queries.compact_figures(connection, PRUNE_BATCH)
        if max(pruned, compacted) >= PRUNE_BATCH:
            return 0.0
        return PRUNE_EVERY if pruned or compacted else PRUNE_SELDOM
