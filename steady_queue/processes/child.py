"""Where a child begins: ``python -m steady_queue.processes.child``, a fresh interpreter.

Nothing is inherited by accident. What a child needs stands in one JSON argument; two files are
inherited on purpose, the lifeline (a pipe that the supervisor holds open for as long as it lives)
and the memory in which a worker notes what it has started.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

logger = logging.getLogger("steady_queue")

SWITCH_INTERVAL = 0.001
"""Seconds for which a thread keeps the interpreter: the loop's thread shares it with the tasks."""


@dataclass
class Assignment:
    """What a child is to do. ``options`` are those of its kind, as plain values."""

    kind: str
    name: str
    process_id: int
    lifeline: int
    started: int | None
    options: dict[str, Any]
    settings: str
    path: list[str]
    autoload: bool

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def main() -> None:
    assignment = Assignment(**json.loads(sys.argv[1]))
    sys.path[:] = assignment.path
    os.environ["DJANGO_SETTINGS_MODULE"] = assignment.settings

    import django

    django.setup()

    from steady_queue.processes.loop import EX_SOFTWARE, exit_now

    try:
        status = _run(assignment)
    except BaseException:
        # Not by the interpreter's own end, which waits for threads that tasks have started.
        logger.exception("broken: process=%s", assignment.name)
        status = EX_SOFTWARE
    exit_now(status)


def _run(assignment: Assignment) -> int:
    from steady_queue.tasks_modules import load

    if assignment.autoload:
        load()
    sys.setswitchinterval(SWITCH_INTERVAL)
    status: int = KINDS[assignment.kind](assignment).run()
    return status


def _worker(assignment: Assignment) -> Any:
    from steady_queue.configuration import Worker as Options
    from steady_queue.processes.started import StartedJobs
    from steady_queue.processes.worker import Worker

    options = Options(**_spans(assignment.options))
    assert assignment.started is not None
    started = StartedJobs(assignment.started, options.threads)
    return Worker(options, started, **_process(assignment))


def _dispatcher(assignment: Assignment) -> Any:
    from steady_queue.configuration import Dispatcher as Options
    from steady_queue.processes.dispatcher import Dispatcher

    return Dispatcher(Options(**_spans(assignment.options)), **_process(assignment))


def _scheduler(assignment: Assignment) -> Any:
    from steady_queue.processes.scheduler import Scheduler

    return Scheduler(**_process(assignment))


def _process(assignment: Assignment) -> dict[str, Any]:
    return {
        "name": assignment.name,
        "process_id": assignment.process_id,
        "lifeline": assignment.lifeline,
    }


def _spans(options: dict[str, Any]) -> dict[str, Any]:
    """Spans travel as seconds."""
    from datetime import timedelta

    return {
        name: timedelta(seconds=value) if name.endswith("_interval") else value
        for name, value in options.items()
    }


KINDS: dict[str, Callable[[Assignment], Any]] = {
    "worker": _worker,
    "dispatcher": _dispatcher,
    "scheduler": _scheduler,
}

if __name__ == "__main__":
    main()
