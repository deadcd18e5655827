"""What announcing costs producers: ``python -m tests.benchmarks.notify``.

Sixteen connections enqueue one by one with pgbench, with announcing and without it, A B A B:
without means that ``steady_queue_announce`` does nothing. Beside them nobody, a worker that is idle
on another queue, and one whose threads are all busy; last with commits that wait a millisecond.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks import field

from django.db import connections  # isort: skip

from steady_queue import embedded
from tests.app.tasks import nap

CONNECTIONS, SECONDS, ROUNDS = 16, 3, 3
SCRIPT = """
    select id from steady_queue_enqueue_job(
      'default', 'tests.app.tasks.noop', 'default', 0::smallint, '{"args": [], "kwargs": {}}');
"""
SILENT = """
    create or replace function steady_queue_announce(p_topic text) returns void
    language plpgsql as $$ begin end $$
"""
BUSY = {"queues": ["default"], "polling_seconds": 3600}
ELSEWHERE = {"queues": ["elsewhere"], "polling_seconds": 3600}


def enqueued(script: str) -> float:
    """Jobs a second, of all connections together."""
    given = connections["default"].settings_dict
    said = subprocess.run(
        [
            embedded._binaries(18) / "pgbench",
            *("-n", "-M", "prepared", "-f", script, "-T", str(SECONDS)),
            *("-c", str(CONNECTIONS), "-j", "2", "-h", given["HOST"], "-p", given["PORT"]),
            *("-U", given["USER"], given["NAME"]),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return float(re.search(r"tps = ([\d.]+)", said)[1])


def occupy(watch: Any) -> None:
    """Every thread of the node runs something long, and its worker listens no more."""
    for number in range(3):
        nap.enqueue(3600, f"nap {number}")
    watch.hear(*(f"nap {number} begins" for number in range(3)))


def compare(watch: Any, script: str, what: str) -> None:
    announce = watch.value("select pg_get_functiondef('steady_queue_announce'::regproc)")
    loud, silent = [], []
    for _ in range(ROUNDS):
        for statement, figures in ((announce, loud), (SILENT, silent)):
            watch.connection.execute(statement)
            figures.append(enqueued(script))
            watch.connection.execute("truncate steady_queue_jobs, steady_queue_ready")
    watch.connection.execute(announce)
    field.report(f"enqueue, {what}", loud, "jobs/s")
    ratios = [a / b for a, b in zip(loud, silent, strict=True)]
    field.report("  of what it is without announcing", ratios, "")


def main() -> None:
    with field.watched() as watch, tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        Path(script.name).write_text(SCRIPT)
        field.say_load()
        compare(watch, script.name, "nobody works")
        with field.node(watch, "--skip-recurring", workers=[ELSEWHERE]):
            compare(watch, script.name, "a worker is idle on another queue")
        with field.node(watch, "--skip-recurring", workers=[BUSY]) as node:
            occupy(watch)
            compare(watch, script.name, "a worker is busy")
            watch.connection.execute("alter system set commit_delay = 1000")
            watch.connection.execute("alter system set commit_siblings = 0")
            watch.connection.execute("select pg_reload_conf()")
            compare(watch, script.name, "a worker is busy, 1 ms a flush")
            node.kill()
        field.say_load()


if __name__ == "__main__":
    main()
