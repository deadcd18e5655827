"""Sessions of a test's own, each in a transaction until it commits."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from tests.conftest import PATIENCE, Queue


class Session(Queue):
    """The SQL functions in a session of its own. A call that waits for a lock fails."""

    def __init__(self, connection: Any) -> None:
        super().__init__(self._run)
        self.connection = connection
        connection.execute("set lock_timeout = '30s'")
        connection.commit()

    def _run(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(statement, arguments or None)
        return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, *arguments: Any) -> Any:
        return self.run(statement, *arguments)[0][0]

    def commit(self) -> None:
        self.connection.commit()

    def rollback(self) -> None:
        self.connection.rollback()

    def release(self, claimed: dict[int, int]) -> list[int]:
        """The jobs that were not released."""
        release = "select * from steady_queue_release_jobs(%s::bigint[], %s::bigint[])"
        return [job for (job,) in self.run(release, list(claimed), list(claimed.values()))]

    def recover(self, process: int, started: list[int] | None = None) -> int | None:
        recover = "select steady_queue_recover_jobs(%s, %s::bigint[], 'E', 'm')"
        return self.value(recover, process, started)

    def discard(self, *jobs: int) -> int:
        return self.value("select steady_queue_discard_jobs(%s::bigint[])", list(jobs))

    def run_now(self, *jobs: int) -> int:
        return self.value("select steady_queue_run_jobs_now(%s::bigint[])", list(jobs))

    def dispatch(self, count: int = 100) -> int:
        return self.value("select moved from steady_queue_dispatch_jobs(%s)", count)

    def maintain(self) -> None:
        self.run("select steady_queue_maintain_limits()")

    @contextmanager
    def waiting(self, call: Any, *arguments: Any) -> Any:
        """The call's result to come; inside, it waits for a lock that another session has."""
        self.connection.execute("set lock_timeout = 0")
        self.connection.commit()
        with ThreadPoolExecutor(1) as pool:
            result: Future[Any] = pool.submit(call, *arguments)
            yield result
            result.result(PATIENCE)
