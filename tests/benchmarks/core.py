"""Latency, drain and idleness of one node: ``python -m tests.benchmarks.core``.

Every polling interval is 30 s or more. Latency is taken from before ``enqueue()`` to the task's
body, tasks enqueued one by one against an idle worker; a drain from the worker's start, the first
claim of an idle machine, to the last outcome.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from tests.benchmarks import field

from django.tasks import default_task_backend  # isort: skip

from steady_queue import recurring_task
from tests.app.tasks import noop, speak

ONE_BY_ONE = 40
DRAINED = 20_000
IDLE_FOR = 20.0
ROUNDS = 3
PATIENT = {"polling_seconds": 30}
CONFIGURATIONS = {
    "default configuration": [PATIENT],
    "2 processes of 3 threads": [{**PATIENT, "processes": 2}],
}

LATE = """
    select extract(epoch from e.enqueued_at - e.run_at) from steady_queue_recurring_executions e
    where e.key = 'tick'
"""
TRANSACTIONS = """
    select xact_commit + xact_rollback from pg_stat_database where datname = current_database()
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


def idle(watch: Any) -> float:
    """Transactions a second of the whole database, the looks of this program left out."""
    watch.until_idle(3)
    before = watch.value(TRANSACTIONS)
    # What is measured is that nothing happens.
    time.sleep(IDLE_FOR)
    return (watch.value(TRANSACTIONS) - before - 1) / IDLE_FOR


def drain(watch: Any, workers: list[dict[str, Any]]) -> float:
    """Jobs a second."""
    field.empty(watch)
    with field.node(watch, "--skip-recurring", workers=workers):
        watch.rows("select steady_queue_pause_queue('default')")
        for _ in range(DRAINED // 1000):
            default_task_backend.enqueue_all([(noop, (), {})] * 1000)
        watch.connection.execute("vacuum analyze")
        began = time.monotonic()
        watch.rows("select steady_queue_resume_queue('default')")
        field.until_ended(watch, DRAINED, 0.05)
        return DRAINED / (time.monotonic() - began)


def main() -> None:
    with field.watched() as watch:
        field.say_load()
        with field.node(watch, workers=[PATIENT]):
            field.report("enqueue to task body", latency(watch), "ms")
            field.report("lateness of deferred tasks", deferred(watch), "ms")
            field.report("lateness of a schedule's jobs", ticks(watch), "ms")
            field.report("idle node", [idle(watch)], "transactions/s")
        for name, workers in CONFIGURATIONS.items():
            figures = [drain(watch, workers) for _ in range(ROUNDS)]
            field.report(f"drain of {DRAINED}, {name}", figures, "jobs/s")
        field.say_load()


if __name__ == "__main__":
    main()
