"""What a worker has done, counted in memory and written every few seconds."""

from __future__ import annotations

import json
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Container, Sequence
from contextlib import suppress
from math import inf
from typing import Any

import psycopg

from steady_queue import queries
from steady_queue.connections import Database
from steady_queue.queries import ClaimedJob, Outcome

WRITE_EVERY = 5.0
"""Seconds for which figures gather; those of a worker that is killed are lost."""

BOUNDS = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000,
    2000, 5000,
)  # fmt: skip
"""Those of the SQL function ``steady_queue_figure_bounds``, in seconds."""


class Counts:
    """Of one queue and task. ``waits`` and ``runs`` count by BOUNDS; spans in seconds."""

    __slots__ = ("failed", "finished", "ran", "runs", "waited", "waits")

    def __init__(self) -> None:
        self.finished = self.failed = 0
        self.waited = self.ran = 0.0
        self.waits = [0] * (len(BOUNDS) + 1)
        self.runs = [0] * (len(BOUNDS) + 1)

    def count(self, outcome: Outcome) -> None:
        job, started_after, ran, error = outcome
        self.ran += ran
        self.runs[bisect_left(BOUNDS, ran)] += 1
        if error is None:
            self.finished += 1
        else:
            self._count_error(json.loads(error))
        if not (job.attempt or job.lost_starts):
            # Not below 0, where the database's clock was set back.
            waited = max(0.0, _claimed_after(job) + started_after)
            self.waited += waited
            self.waits[bisect_left(BOUNDS, waited)] += 1

    def _count_error(self, error: dict[str, Any]) -> None:
        if error.get("retry_in") is None:
            self.finished += 1
            self.failed += not error.get("discard")

    def named(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


class Figures:
    """Counts outcomes that were recorded, and appends the sums to steady_queue_figures."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counts: defaultdict[tuple[str, str], Counts] = defaultdict(Counts)
        self._write_at = inf

    def count(self, finished: Sequence[Outcome], refused: Container[int] = ()) -> None:
        counts = self._counts
        for outcome in finished:
            job = outcome.job
            if job.id not in refused:
                counts[job.queue, job.task].count(outcome)
        if self._counts and self._write_at == inf:
            self._write_at = time.monotonic() + WRITE_EVERY

    def write_when_due(self) -> float:
        """Seconds until there is something to write; infinite when nothing was counted."""
        if (left := self._write_at - time.monotonic()) > 0:
            return left
        # What fails is tried again then, and not before.
        self._write_at = time.monotonic() + WRITE_EVERY
        self._write()
        return self._write_at - time.monotonic()

    def write_last(self) -> None:
        """At the end; a database that is away keeps nobody from ending."""
        with suppress(psycopg.Error):
            self._write()

    def _write(self) -> None:
        if self._counts and queries.add_figures(self._database.connection(), self._as_json()):
            self._counts.clear()
            self._write_at = inf

    def _as_json(self) -> str:
        return json.dumps(
            [
                {"queue": queue, "task": task, **counts.named()}
                for (queue, task), counts in self._counts.items()
            ]
        )


def _claimed_after(job: ClaimedJob) -> float:
    """Seconds between the moment from which the job could run and its claim."""
    if job.run_after is None:
        return (job.claimed_at - job.enqueued_at).total_seconds()
    # Ahead of its time when somebody let it run now.
    return max(0.0, (job.claimed_at - max(job.enqueued_at, job.run_after)).total_seconds())
