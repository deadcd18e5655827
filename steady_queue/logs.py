"""Which job a log record is about: in the library's own records, and in those that a task makes."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any

from steady_queue.queries import ClaimedJob

NAMES = ("job_id", "task", "queue", "attempt", "worker")
"""The attributes that records have."""

current: ContextVar[tuple[ClaimedJob, str] | None] = ContextVar("steady_queue_job", default=None)
"""The job that runs here, and the worker that runs it."""


class JobFilter(logging.Filter):
    """Gives each record ``job_id``, ``task``, ``queue``, ``attempt`` and ``worker``; drops none.

    They are those of the job that runs in the thread which logs, None where none does: formats may
    name them always. What a record has already, through ``extra``, it keeps. Put it on a handler
    in ``LOGGING``; the library's own records have the attributes without it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        running = current.get()
        known = about(*running) if running else dict.fromkeys(NAMES)
        record.__dict__.update(known | record.__dict__)
        return True


def about(job: ClaimedJob, worker: str) -> dict[str, Any]:
    """``extra`` of a record about a job that does not run where the record is made."""
    values = (job.id, job.task, job.queue, job.attempt + 1, worker)
    return dict(zip(NAMES, values, strict=True))
