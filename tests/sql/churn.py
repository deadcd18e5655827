"""Jobs that come and go while some others wait, as producers and a worker make them."""

from __future__ import annotations

import time
from typing import Any

from steady_queue import queries
from steady_queue.processes.marks import MOVE_AFTER

ENQUEUE = """
    select count(*) from steady_queue_enqueue_jobs(
      'default', array_fill('t'::text, array[%(n)s]), array_fill('default'::text, array[%(n)s]),
      array_fill(0::smallint, array[%(n)s]), array_fill('{}'::json, array[%(n)s]))
"""

ENDED = """
    with ended as (
      insert into steady_queue_jobs (task, queue, priority, arguments)
      select 't', 'default', 0, '{}' from generate_series(1, %s) returning id)
    insert into steady_queue_outcomes (job, status, attempt, lost_starts, finished_at)
    select id, 'successful', 1, 0, clock_timestamp() from ended
"""
HALF = MOVE_AFTER // 2

CLAIM = "select * from steady_queue_claim_jobs(%s, '{*}', 10)"


class Churn:
    """On one session in autocommit mode. ``waiting`` jobs are ready at any time."""

    def __init__(self, session: Any, waiting: int) -> None:
        self.session = session
        self.worker = queries.register_process(session, "worker", "w", None, "h", 1)
        self.enqueue(waiting)

    def enqueue(self, count: int) -> None:
        self.session.execute(ENQUEUE, {"n": count})

    def end(self, count: int) -> None:
        """Add so many jobs that have ended."""
        self.session.execute(ENDED, [count])

    def run(self, count: int, *, enqueue: bool = True) -> None:
        """So many come and go, or only go. Ends half way between two moves of the mark."""
        finished: list[queries.Outcome] = []
        for number in range(count // HALF):
            if enqueue:
                self.enqueue(HALF)
            _, jobs = queries.finish_and_claim_jobs(
                self.session, self.worker, finished, True, ["*"], HALF
            )
            finished = [queries.Outcome(job, 0, 0, None) for job in jobs]
            if number % 2 == 0:
                queries.move_marks(self.session, [("default", 0)])
        queries.finish_and_claim_jobs(self.session, self.worker, finished, True, ["*"], 0)

    def buffers(self) -> int:
        """Of one claim of ten, which is undone."""
        return self.buffers_of(CLAIM, 10, self.worker)

    def buffers_of(self, statement: str, rows: int = 1, *arguments: Any) -> int:
        """Of a statement, which is undone."""
        with self.session.transaction(force_rollback=True):
            [(plan,)] = self.session.execute(
                f"explain (analyze, buffers, format json) {statement}", arguments or None
            ).fetchall()
        node = plan[0]["Plan"]
        assert node["Actual Rows"] == rows
        return int(node["Shared Hit Blocks"] + node["Shared Read Blocks"])

    def seconds(self) -> float:
        """Of one claim of ten, which is undone."""
        with self.session.transaction(force_rollback=True):
            began = time.perf_counter()
            assert len(self.session.execute(CLAIM, [self.worker], prepare=True).fetchall()) == 10
            return time.perf_counter() - began
