"""A server of the benchmark's own, a node on it, and a report of medians.

Import this before anything of Django's: it says which settings and which server are used.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = tempfile.mkdtemp(prefix="sq-bench-")

# The node's processes inherit both.
os.chdir(ROOT)
sys.path.insert(0, str(ROOT))
os.environ["TEST_POSTGRES_PATH"] = FOLDER
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"

import django  # noqa: E402

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402

from steady_queue import embedded  # noqa: E402
from tests.conftest import connect  # noqa: E402
from tests.processes.conftest import Node, Watch  # noqa: E402


@contextmanager
def watched() -> Iterator[Watch]:
    """The queue on an empty server; what its processes log goes to a file beside it."""
    call_command("migrate", run_syncdb=True, verbosity=0)
    # Django logs two lines a job to where the test settings' handler writes.
    shown = os.dup(sys.stderr.fileno())
    with open(Path(FOLDER) / "node.log", "wb") as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
    with connect(autocommit=True) as connection:
        connection.execute("alter system set max_connections = 200")
        connection.execute("alter system set track_functions = 'pl'")
    connections.close_all()
    embedded.stop(FOLDER)
    embedded.start(FOLDER)
    connection = connect(autocommit=True)
    try:
        yield Watch(connection)
    finally:
        os.dup2(shown, sys.stderr.fileno())
        connection.close()
        embedded.stop(FOLDER)
        shutil.rmtree(FOLDER, ignore_errors=True)


@contextmanager
def node(watch: Watch, *arguments: str, **options: Any) -> Iterator[Node]:
    """Started and idle."""
    one = Node(watch, arguments, options, {})
    try:
        workers = sum(worker.get("processes", 1) for worker in options.get("workers", [{}]))
        watch.until_idle(workers + _others(arguments))
        yield one
    finally:
        one.stop()


def _others(arguments: tuple[str, ...]) -> int:
    """Processes beside the workers that wait to be notified."""
    return 0 if "--only-work" in arguments else 1 if "--skip-recurring" in arguments else 2


def until_ended(watch: Watch, count: int, look_every: float) -> None:
    """Looking costs, too: rarely enough."""
    while watch.value("select count(*) from steady_queue_outcomes") < count:
        for _ in watch.connection.notifies(timeout=look_every, stop_after=1):
            pass
    failed = watch.rows("select exception_class, message from steady_queue_failed_jobs limit 1")
    if failed:
        raise SystemExit(f"a job failed: {failed[0]}")


def empty(watch: Watch) -> None:
    watch.connection.execute("truncate steady_queue_outcomes, steady_queue_jobs, heard")


def report(what: str, figures: list[float], unit: str) -> None:
    spread = f"{min(figures):.3g} to {max(figures):.3g}, {len(figures)} figures"
    print(f"{what}: median {statistics.median(figures):.3g} {unit} ({spread})", flush=True)


def say_load() -> None:
    """How busy the machine is besides: figures of a busy one say little."""
    print(f"load of the machine: {os.getloadavg()[0]:.2f}", flush=True)
