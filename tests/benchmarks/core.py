"""How late one node is, and how often many look in vain: ``python -m tests.benchmarks.core``.

Every polling interval is 30 s or more. Latency is taken from before ``enqueue()`` to the task's
body, tasks enqueued one by one against an idle worker. Drains and idleness: ``compare``.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from tests.benchmarks import field

# isort: split
from steady_queue import recurring_task
from tests.app.tasks import noop, speak

ONE_BY_ONE = 40
PATIENT, NEVER = {"polling_seconds": 30}, {"polling_seconds": 3600}

COMPANY, JOBS = 50, 600
REPORTED_WITHIN = 12
"""Seconds within which idle sessions report what they have called."""

LOOKS = """
    select coalesce(sum(calls), 0)::integer from pg_stat_user_functions
    where funcname = 'steady_queue_claim_jobs'
"""
LATE = """
    select extract(epoch from e.enqueued_at - e.run_at) from steady_queue_recurring_executions e
    where e.key = 'tick'
"""


def latency(watch: Any) -> list[float]:
    """Milliseconds."""
    figures = []
    for number in range(ONE_BY_ONE):
        watch.until_idle(3)
        before = watch.value("select clock_timestamp()")
        speak.enqueue(f"latency {number}")
        watch.hear(f"latency {number}")
        at = watch.value("select at from heard where word = %s", f"latency {number}")
        figures.append((at - before).total_seconds() * 1000)
    return figures


def deferred(watch: Any) -> list[float]:
    """Milliseconds from the moment asked for to the task's body."""
    figures = []
    for number in range(10):
        result = speak.using(run_after=timedelta(seconds=0.3)).enqueue(f"deferred {number}")
        watch.hear(f"deferred {number}")
        at = watch.value("select at from heard where word = %s", f"deferred {number}")
        figures.append((at - result.task.run_after).total_seconds() * 1000)
    return figures


def ticks(watch: Any) -> list[float]:
    """Milliseconds from a run's time to its job."""
    recurring_task.schedule(noop, "* * * * * * *", "tick")
    watch.until(lambda: len(watch.rows(LATE)) >= 10, "ten ticks")
    recurring_task.unschedule("tick")
    return [float(late) * 1000 for (late,) in watch.rows(LATE)]


def company(watch: Any) -> float:
    """Looks in vain for each of some jobs, one each 50 ms, beside COMPANY idle processes.

    A job needs two: one that claims it, one that hands its outcome in.
    """
    watch.until_idle(COMPANY)
    time.sleep(REPORTED_WITHIN)
    before = watch.value(LOOKS)
    for _ in range(JOBS):
        noop.enqueue()
        time.sleep(0.05)
    watch.until_states(successful=JOBS)
    time.sleep(REPORTED_WITHIN)
    return (watch.value(LOOKS) - before) / JOBS - 2


def main() -> None:
    with field.watched() as watch:
        field.say_load()
        with field.node(watch, workers=[PATIENT]):
            field.report("enqueue to task body", latency(watch), "ms")
            field.report("lateness of deferred tasks", deferred(watch), "ms")
            field.report("lateness of a schedule's jobs", ticks(watch), "ms")
        field.empty(watch)
        with field.node(watch, "--only-work", workers=[{**NEVER, "processes": COMPANY}]):
            field.report(f"looks in vain for a job, of {COMPANY} processes", [company(watch)], "")
        field.say_load()


if __name__ == "__main__":
    main()
