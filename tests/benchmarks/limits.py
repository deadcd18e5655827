"""How fast slots of a limit are handed over: ``python tests/benchmarks/limits.py``.

On an embedded server of its own in a temporary folder, with one node of 2 worker processes of 8
threads. Each figure is the median of three, from the commit of the jobs to the last outcome. The
jobs of 0.1 s also write two rows each: a little is added to the ideal.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ROUNDS = 3
JOBS = 5000
OPTIONS = {"workers": [{"threads": 8, "processes": 2, "polling_seconds": 20}]}

if __name__ == "__main__":
    # Before Django reads its settings. The workers inherit the server's folder.
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    FOLDER = tempfile.mkdtemp(prefix="sq-bench-")
    os.environ["TEST_POSTGRES_PATH"] = FOLDER
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"

    import django

    django.setup()

from django.db import transaction  # noqa: E402

from steady_queue.concurrency import limits_concurrency  # noqa: E402


def seconds_for(watch: Any, task: Any, to: int, keys: str, each: int, *args: Any) -> float:
    """From the commit of so many jobs a key until all of them have ended."""
    watch.connection.execute("truncate steady_queue_outcomes, steady_queue_jobs")
    watch.until_idle(3)
    limited = [limits_concurrency(key=key, to=to)(task) for key in keys]
    with transaction.atomic():
        for _ in range(each):
            for one in limited:
                one.enqueue(*args)
    began = time.monotonic()
    # Looking costs: a hundred times or so in all.
    look_every = 0.005 if task.name == "nap" else 0.05
    while watch.value("select count(*) from steady_queue_outcomes") < each * len(keys):
        for _ in watch.connection.notifies(timeout=look_every, stop_after=1):
            pass
    seconds = time.monotonic() - began
    failed = watch.rows("select exception_class, message from steady_queue_failed_jobs limit 1")
    if failed:
        raise SystemExit(f"a job failed: {failed[0]}")
    return seconds


def report(what: str, figures: list[float], unit: str) -> None:
    spread = ", ".join(f"{figure:.3g}" for figure in sorted(figures))
    print(f"{what}: {statistics.median(figures):.3g} {unit}  ({spread})", flush=True)


def main(folder: str) -> None:
    from django.core.management import call_command

    from steady_queue import embedded
    from tests.app.tasks import nap, noop
    from tests.conftest import connect
    from tests.processes.conftest import Node, Watch

    call_command("migrate", run_syncdb=True, verbosity=0)
    connection = connect(autocommit=True)
    watch = Watch(connection)
    # Django logs two lines a job to where the test settings' handler writes.
    with open(Path(folder) / "node.log", "wb") as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
    node = Node(watch, ("--skip-recurring",), OPTIONS, {})
    try:
        watch.until_idle(3)
        print(f"load {os.getloadavg()}")
        naps = [seconds_for(watch, nap, 2, "abc", 8, 0.1) for _ in range(ROUNDS)]
        report("24 jobs of 0.1 s over 3 keys of 2 slots (ideal 0.4)", naps, "s")
        for to in (1, 4):
            times = [seconds_for(watch, noop, to, "k", JOBS) for _ in range(ROUNDS)]
            report(f"{JOBS} jobs on one key, to={to}", [JOBS / t for t in times], "jobs/s")
        print(f"load {os.getloadavg()}")
    finally:
        node.stop()
        connection.close()
        embedded.stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(FOLDER)
