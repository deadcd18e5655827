"""How fast slots of a limit are handed over: ``python -m tests.benchmarks.limits``.

One node of 2 worker processes of 8 threads. Each figure is taken from the commit of the jobs to the
last outcome. The jobs of 0.1 s also write two rows each: a little is added to the ideal.
"""

from __future__ import annotations

import time
from typing import Any

from tests.benchmarks import field

from django.db import transaction  # isort: skip

from steady_queue.concurrency import limits_concurrency
from tests.app.tasks import nap, noop

ROUNDS = 3
JOBS = 5000
WORKERS = [{"threads": 8, "processes": 2, "polling_seconds": 20}]


def seconds_for(watch: Any, task: Any, to: int, keys: str, each: int, *args: Any) -> float:
    """From the commit of so many jobs a key until all of them have ended."""
    field.empty(watch)
    watch.until_idle(3)
    limited = [limits_concurrency(key=key, to=to)(task) for key in keys]
    with transaction.atomic():
        for _ in range(each):
            for one in limited:
                one.enqueue(*args)
    began = time.monotonic()
    field.until_ended(watch, each * len(keys), 0.005 if task.name == "nap" else 0.05)
    return time.monotonic() - began


def main() -> None:
    with field.watched() as watch, field.node(watch, "--skip-recurring", workers=WORKERS):
        field.say_load()
        naps = [seconds_for(watch, nap, 2, "abc", 8, 0.1) for _ in range(ROUNDS)]
        field.report("24 jobs of 0.1 s over 3 keys of 2 slots (ideal 0.4)", naps, "s")
        for to in (1, 4):
            times = [seconds_for(watch, noop, to, "k", JOBS) for _ in range(ROUNDS)]
            field.report(f"{JOBS} jobs on one key, to={to}", [JOBS / t for t in times], "jobs/s")
        field.say_load()


if __name__ == "__main__":
    main()
