from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.db import connections
from django.tasks.signals import task_enqueued

from steady_queue import queries
from steady_queue.configuration import Options
from steady_queue.connections import connection_parameters
from steady_queue.processes import loop
from steady_queue.processes import supervisor as supervisor_module
from steady_queue.processes.supervisor import Supervisor

PATIENCE = 120.0
"""Seconds after which a test gives up waiting for an event. No test passes because time went by."""


def connect(**more: Any) -> psycopg.Connection[Any]:
    """A connection of the test's own to the test database, outside Django."""
    return psycopg.connect(**{**connection_parameters(), "application_name": "test", **more})


@pytest.fixture
def other(transactional_db: None) -> Iterator[Callable[..., psycopg.Connection[Any]]]:
    """Makes connections, each a session of its own."""
    opened: list[psycopg.Connection[Any]] = []

    def make(**more: Any) -> psycopg.Connection[Any]:
        opened.append(connect(**more))
        return opened[-1]

    yield make
    for connection in opened:
        connection.close()


@pytest.fixture
def connect_with(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Sets OPTIONS of Django's connection."""

    def connect_with(**options: Any) -> None:
        monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", options)
        connections["default"].close()

    yield connect_with
    monkeypatch.undo()
    connections["default"].close()


@pytest.fixture
def enqueued() -> Iterator[list[tuple[Any, Any]]]:
    """The (sender, result) of each task_enqueued."""
    heard: list[tuple[Any, Any]] = []

    def hear(sender: Any, task_result: Any, **kwargs: Any) -> None:
        heard.append((sender, task_result))

    task_enqueued.connect(hear)
    yield heard
    task_enqueued.disconnect(hear)


@pytest.fixture
def clock() -> SimpleNamespace:
    """What a process takes for the monotonic clock: it shows ``now``."""
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    return clock


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace) -> Iterator[Supervisor]:
    """Without a database, by this clock."""
    database = SimpleNamespace(connection=lambda: None)
    monkeypatch.setattr(loop, "Database", lambda: database)
    monkeypatch.setattr(supervisor_module, "time", clock)
    one = Supervisor(Options())
    yield one
    os.close(one._lifeline_read)
    os.close(one._lifeline_write)


@pytest.fixture
def sql(db: None) -> Callable[..., list[tuple[Any, ...]]]:
    """Runs a statement in the test's transaction; its rows."""

    def run(statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with connections["default"].cursor() as cursor:
            cursor.execute(statement, arguments or None)
            return cursor.fetchall() if cursor.description else []

    return run


@pytest.fixture
def queue(sql: Callable[..., list[tuple[Any, ...]]]) -> Queue:
    return Queue(sql)


class Queue:
    """The SQL functions as a test calls them, in whatever session ``run`` uses."""

    def __init__(self, run: Callable[..., list[tuple[Any, ...]]]) -> None:
        self.run = run

    def enqueue(
        self, task: str = "t", queue: str = "default", priority: int = 0, **more: Any
    ) -> int:
        names = "".join(f", {name} => %s" for name in more)
        [(job,)] = self.run(
            f"select steady_queue_enqueue(%s, queue => %s, priority => %s{names})",
            task,
            queue,
            priority,
            *more.values(),
        )
        return job

    def enqueue_limited(
        self,
        key: str,
        to: int = 1,
        queue: str = "default",
        priority: int = 0,
        conflict: str = "block",
        duration: str = "3 minutes",
        count: int = 1,
    ) -> list[int]:
        rows = self.run(
            """select id from steady_queue_enqueue_jobs('default', array_fill('t'::text, array[%s]),
              array_fill(%s::text, array[%s]), array_fill(%s::smallint, array[%s]),
              array_fill('{"args":[],"kwargs":{}}'::json, array[%s]), null,
              array_fill(%s::text, array[%s]), array_fill(%s, array[%s]),
              array_fill(%s::interval, array[%s]), array_fill(%s::text, array[%s]))""",
            count,
            queue,
            count,
            priority,
            count,
            count,
            key,
            count,
            to,
            count,
            duration,
            count,
            conflict,
            count,
        )
        return [job for (job,) in rows]

    def process(self, kind: str = "worker") -> int:
        [(number,)] = self.run(
            "select steady_queue_register_process(%s, 'test', null, 'host', 1)", kind
        )
        return number

    def claim(self, process: int, *queues: str, count: int = 10) -> dict[int, int]:
        """Job to claim number, in order."""
        rows = self.run(
            "select job, claim from steady_queue_claim_jobs(%s, %s::text[], %s)",
            process,
            list(queues or ["*"]),
            count,
        )
        return dict(rows)

    def finish_and_claim(
        self,
        claimed: dict[int, int],
        process: int,
        *queues: str,
        count: int = 10,
        followers: int = 10,
        keys: tuple[str, ...] = ("k", "l"),
    ) -> tuple[dict[int, str], dict[int, int]]:
        """The refused jobs, and why; job to claim number of those claimed, in order."""
        rows = self.run(
            "select job, claim, task from steady_queue_finish_and_claim_jobs("
            "%s::bigint[], %s::bigint[], %s::float8[], %s::float8[], null, %s::text[], true, "
            "%s, %s::text[], %s, %s)",
            list(claimed),
            list(claimed.values()),
            [0.0] * len(claimed),
            [0.1] * len(claimed),
            list(keys) or None,
            process,
            list(queues or ["*"]),
            count,
            followers,
        )
        refused = {job: refusal for job, claim, refusal in rows if claim is None}
        return refused, {job: claim for job, claim, _ in rows if claim is not None}

    def slots(self) -> list[list[int]]:
        """The running jobs that have a slot, by their slots."""
        rows = self.run(
            "select array_agg(job order by job) from steady_queue_running "
            "where limit_key is not null group by slot order by min(job)"
        )
        return [jobs for (jobs,) in rows]

    def finish(
        self, claimed: dict[int, int], error: str | None = None, **more: Any
    ) -> dict[int, str]:
        """The refused jobs, and why."""
        count = len(claimed)
        names = "".join(f", {name} => %s" for name in more)
        rows = self.run(
            "select * from steady_queue_finish_jobs(%s::bigint[], %s::bigint[], %s::float8[], "
            f"%s::float8[], %s::json[]{names})",
            list(claimed),
            list(claimed.values()),
            [0.0] * count,
            [0.1] * count,
            [error] * count,
            *more.values(),
        )
        return dict(rows)

    def finish_limited(self, claimed: dict[int, int], *keys: str) -> dict[int, str]:
        return self.finish(claimed, p_limit_keys=list(keys))

    def states(self, *jobs: int) -> list[str]:
        rows = dict(self.run("select id, state from steady_queue_all_jobs"))
        return [rows[job] for job in jobs]

    def state(self, job: int) -> str:
        return self.states(job)[0]


@pytest.fixture
def lanes(sql: Callable[..., list[tuple[Any, ...]]]) -> Callable[..., None]:
    """Makes the lanes of some queues at priority 0."""

    def make(*names: str) -> None:
        queries.ensure_lanes(connections["default"].cursor(), [(name, 0) for name in names])

    return make
