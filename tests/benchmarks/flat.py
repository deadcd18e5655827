"""What a claim of ten costs beside much else: ``make benchlong``.

Each state beside the same queue with 1,000 ready jobs and nothing else, in turns. ``--churn`` says
for how many seconds jobs come and go at the end (an hour unless given).
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from steady_queue import queries
from tests.benchmarks import field
from tests.conftest import connect
from tests.sql.churn import Churn

READY, ENDED, CHURNED = 1_000_000, 10_000_000, 60_000
CLAIMS, ROUNDS = 200, 5
OLD_SNAPSHOT = (
    "set transaction isolation level repeatable read; select from steady_queue_jobs limit 1"
)
WRITER = "create temporary table elsewhere as select 1"


def measured(churn: Churn) -> float:
    """Milliseconds, the median of a number of claims."""
    return statistics.median(churn.seconds() for _ in range(CLAIMS)) * 1000


def compare(churn: Churn, plain: float, what: str) -> None:
    figures = [measured(churn) for _ in range(ROUNDS)]
    field.report(f"claim, {what}", figures, "ms")
    buffers = f"{churn.buffers()} buffers"
    print(f"  {statistics.median(figures) / plain:.2f} of a plain one, {buffers}", flush=True)


def beside(statement: str, churn: Churn, plain: float, what: str) -> None:
    """After jobs that came and went while a transaction was left open."""
    with connect() as other:
        other.execute(statement)
        churn.run(CHURNED)
        compare(churn, plain, what)


def hour(churn: Churn, seconds: float, plain: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        churn.run(CHURNED)
        compare(churn, plain, f"{int(ends - time.monotonic())} s before the end of a churn")


def begin(session: Any) -> Churn:
    queries.ensure_lanes(session, [("default", 0)])
    churn = Churn(session, 1000)
    session.execute("vacuum analyze")
    return churn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--churn", type=float, default=3600)
    given = parser.parse_args()
    with field.watched(), connect(autocommit=True) as session:
        field.say_load()
        churn = begin(session)
        plain = measured(churn)
        compare(churn, plain, "1,000 ready")
        beside(OLD_SNAPSHOT, churn, plain, f"after {CHURNED:,} jobs under an old snapshot")
        beside(WRITER, churn, plain, f"after {CHURNED:,} jobs beside a writer left open")
        churn.enqueue(READY)
        session.execute("vacuum analyze")
        compare(churn, plain, f"{READY:,} ready")
        for _ in range(ENDED // 1_000_000):
            churn.end(1_000_000)
        session.execute("vacuum analyze")
        compare(churn, plain, f"{ENDED:,} ended besides")
        hour(churn, given.churn, plain)
        field.say_load()


if __name__ == "__main__":
    main()
