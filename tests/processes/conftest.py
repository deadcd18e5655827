from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from django.db import connections

from tests.app import GATE
from tests.conftest import PATIENCE, connect

ROOT = Path(__file__).parents[2]

# Only in the test database: says that something a test may wait for has changed.
SAY_CHANGES = """
create or replace function say_change() returns trigger language plpgsql as
  $$ begin notify changed; return null; end $$;
"""
WATCHED = ["outcomes", "processes", "running", "ready", "scheduled", "blocked"]

OF_TASKS = "of tasks"
"""What Django's sessions in the processes are called."""


@pytest.fixture(scope="session")
def changes_are_said(django_db_setup: None, django_db_blocker: Any) -> None:
    with django_db_blocker.unblock(), connect(autocommit=True) as connection:
        say_changes(connection)


def say_changes(connection: Any) -> None:
    connection.execute(SAY_CHANGES)
    for table in WATCHED:
        connection.execute(
            "create or replace trigger say_change after insert or delete "
            f"on steady_queue_{table} for each statement execute function say_change()"
        )
    connection.execute(
        "create or replace trigger say_pid after update of pid on steady_queue_processes "
        "for each statement execute function say_change()"
    )


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder for servers of other users than ours. Those of pytest are closed to all others,
    whenever a pytest starts."""
    with tempfile.TemporaryDirectory(prefix="steady-queue-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def watch(changes_are_said: None, transactional_db: None) -> Iterator[Watch]:
    connection = connect(autocommit=True)
    connection.execute("listen changed")
    yield Watch(connection)
    connection.close()


class Watch:
    """Looks at the test database, and waits for what should come."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def rows(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(statement, arguments or None).fetchall()

    def value(self, statement: str, *arguments: Any) -> Any:
        return self.rows(statement, *arguments)[0][0]

    def until(self, condition: Callable[[], Any], what: str = "the condition") -> Any:
        """Look now, and again whenever something has changed."""
        deadline = time.monotonic() + PATIENCE
        while not (found := condition()):
            left = deadline - time.monotonic()
            if left <= 0:
                pytest.fail(f"{what} did not come; jobs: {self.states()}, heard: {self.heard()}")
            # Not everything that is waited for is said: look twice a second besides.
            for _ in self.connection.notifies(timeout=min(left, 0.5), stop_after=1):
                pass
        return found

    def heard(self) -> list[str]:
        return [word for (word,) in self.rows("select word from heard order by id")]

    def hear(self, *words: str) -> None:
        self.until(lambda: set(words) <= set(self.heard()), f"hearing {words}")

    def states(self) -> dict[str, int]:
        return dict(self.rows("select state, count(*) from steady_queue_all_jobs group by 1"))

    def until_states(self, **states: int) -> None:
        self.until(lambda: self.states() == states, f"states {states}")

    def idle(self) -> int:
        """How many processes wait to be notified."""
        return self.value(
            "select count(distinct pid) from pg_locks where locktype = 'advisory' "
            "and granted and mode = 'ShareLock' and database = (select oid from pg_database "
            "where datname = current_database())"
        )

    def until_idle(self, workers: int = 1) -> None:
        """Until so many processes wait to be notified."""
        self.until(lambda: self.idle() >= workers, "an idle worker")

    def sessions(self) -> int:
        """How many the queue has on the server."""
        return self.value(
            "select count(*) from pg_stat_activity "
            "where application_name = 'steady_queue' and datname = current_database()"
        )

    def cut_sessions(self, *names: str, wait: float = 0.0) -> None:
        """End those of these names, the queue's by default; wait for each, so many seconds."""
        self.rows(
            "select pg_terminate_backend(pid, %s) from pg_stat_activity "
            "where application_name = any(%s) and datname = current_database()",
            int(wait * 1000),
            list(names or ["steady_queue"]),
        )

    def close_gate(self) -> None:
        """Tasks that pass the gate wait at it until it is opened, or this connection closes."""
        self.rows("select pg_advisory_lock(%s), pg_advisory_lock(%s)", GATE, GATE + 1)

    def open_gate(self, *starts: int) -> None:
        """For first starts, for second ones, or for both."""
        for start in starts or (1, 2):
            self.rows("select pg_advisory_unlock(%s)", GATE - 1 + start)

    def processes(self, kind: str) -> list[int]:
        return [
            i
            for (i,) in self.rows(
                "select id from steady_queue_processes where kind = %s order by id", kind
            )
        ]


@pytest.fixture
def node(watch: Watch) -> Iterator[Callable[..., Node]]:
    """Starts supervisors with these ``STEADY_QUEUE`` options, and kills what runs at the end."""
    nodes: list[Node] = []

    def start(*arguments: str, env: dict[str, str] | None = None, **options: Any) -> Node:
        nodes.append(Node(watch, arguments, options, env or {}))
        return nodes[-1]

    yield start
    for one in nodes:
        one.kill()
    # The server still executes what a killed process has sent: it ends before tables are emptied.
    watch.cut_sessions("steady_queue", OF_TASKS, wait=PATIENCE)


class Node:
    """A supervisor and its children, as ``manage.py steady_queue start`` runs them."""

    def __init__(
        self,
        watch: Watch | None,
        arguments: tuple[str, ...],
        options: dict[str, Any],
        env: dict[str, str],
        log: Any = None,
        root: Path = ROOT,
    ) -> None:
        self.watch = watch
        never = {"workers": [{"polling_seconds": 3600}], "dispatchers": [{"polling_seconds": 3600}]}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "django", "steady_queue", "start", *arguments],
            cwd=root,
            env={
                **os.environ,
                "PGAPPNAME": OF_TASKS,
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "TEST_DATABASE_NAME": env.get("TEST_DATABASE_NAME")
                or connections["default"].settings_dict["NAME"],
                "TEST_STEADY_QUEUE": json.dumps({**never, **options}),
                **env,
            },
            start_new_session=True,
            stdout=log,
            stderr=log,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(PATIENCE)

    def stop(self) -> int:
        """TERM, and the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def children(self) -> list[int]:
        """Process ids."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        if path.exists():
            return [int(pid) for pid in path.read_text().split()]
        listed = subprocess.run(
            ["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in listed.stdout.split()]

    def pids(self, kind: str) -> list[int]:
        return [pid for pid in self.children() if f'"kind": "{kind}"' in _command_line(pid)]

    def worker_pids(self) -> list[int]:
        return self.pids("worker")

    def kill(self) -> None:
        """Everything of it, at once."""
        for pid in self.children():
            _kill(pid)
        self.process.kill()
        self.process.wait()


def _command_line(pid: int) -> str:
    listed = subprocess.run(
        ["ps", "-o", "args=", "-ww", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listed.stdout


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    listed = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return bool(listed.stdout.strip()) and not listed.stdout.startswith("Z")
