"""What a claim of ten costs beside much else: ``make bench-long``.

Each state beside a queue with 1,000 ready jobs and nothing else in a database of its own on the
same server, claim by claim in turns. At the end jobs come and go for an hour. ``--pace`` leaves
room for other work on the machine: the ratios hold, the hour sees fewer jobs.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from steady_queue import queries
from tests.benchmarks import field

# isort: split
from django.db import connection as django_connection

from steady_queue.processes.dispatcher import PRUNE_BATCH
from tests.conftest import connect
from tests.sql.churn import Churn

READY, MILLION, CHURNED, PIECE = 1_000_000, 1_000_000, 60_000, 2_000
CLAIMS, ROUNDS = 200, 5
TURN, TURNS = 1.0, 60
"""Seconds of a turn with retention or without, and how many of each; it deletes a batch in one."""

OLD_SNAPSHOT = (
    "set transaction isolation level repeatable read; select from steady_queue_jobs limit 1"
)
WRITER = "create temporary table elsewhere as select 1"
SIZES = """
    select relname, pg_total_relation_size(oid) / 1024 from pg_class
    where relname in ('steady_queue_ready', 'steady_queue_running', 'steady_queue_lanes')
    order by relname
"""


class Pair:
    """The queue that much is done to, and the plain one."""

    def __init__(self, churn: Churn, plain: Churn) -> None:
        self.churn, self.plain = churn, plain

    def claims(self) -> tuple[float, float]:
        """Milliseconds, medians of claims that take turns: of the queue, and of the plain one."""
        both = [(self.churn.seconds(), self.plain.seconds()) for _ in range(CLAIMS)]
        here, there = (statistics.median(figures) * 1000 for figures in zip(*both, strict=True))
        return here, there

    def compare(self, what: str) -> None:
        figures = [self.claims() for _ in range(ROUNDS)]
        field.report(f"claim, {what}", [here for here, _ in figures], "ms")
        ratio = statistics.median(here / there for here, there in figures)
        buffers = f"{self.churn.buffers()} buffers beside {self.plain.buffers()}"
        print(f"  {ratio:.2f} of a plain one, {buffers}", flush=True)


def beside(statement: str, pair: Pair, what: str) -> None:
    """After jobs that came and went while a transaction was left open."""
    with connect() as other:
        other.execute(statement)
        pair.churn.run(CHURNED)
        pair.compare(what)
    pair.churn.session.execute("vacuum analyze")


def paced(churn: Churn, count: int, pace: float) -> None:
    """``pace`` jobs a second at most."""
    began = time.monotonic()
    for done in range(PIECE, count + 1, PIECE):
        churn.run(PIECE)
        time.sleep(max(0.0, began + done / pace - time.monotonic()))


def hour(pair: Pair, seconds: float, pace: float) -> None:
    """Looks while jobs come and go, summed up."""
    ratios, buffers, sizes = [], [], [_sizes(pair.churn)]
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        paced(pair.churn, CHURNED, pace)
        here, there = pair.claims()
        ratios.append(here / there)
        buffers.append(pair.churn.buffers())
    sizes.append(_sizes(pair.churn))
    print(
        f"claim, {seconds:.0f} s of churn, {len(ratios) * CHURNED:,} jobs: {len(ratios)} looks:"
        f" first {ratios[0]:.2f} of a plain one, median {statistics.median(ratios):.2f},"
        f" worst {max(ratios):.2f}, last {ratios[-1]:.2f};"
        f" buffers {buffers[0]}, at most {max(buffers)}, last {buffers[-1]}"
    )
    for name, first in sizes[0].items():
        print(f"  {name}: {first:,} kB before, {sizes[1][name]:,} kB after", flush=True)


def _sizes(churn: Churn) -> dict[str, int]:
    """kB, indexes included, of the tables that claims work on."""
    return dict(churn.session.execute(SIZES).fetchall())


def retention(churn: Churn, cut: float) -> None:
    """What goes on while each second's ended jobs are deleted as a dispatcher does, and without."""
    works: dict[str, Callable[[], object]] = {
        "claim of ten": churn.seconds,
        "500 jobs enqueued, claimed and finished": lambda: churn.run(500),
    }
    beside = f"beside retention of {PRUNE_BATCH / TURN:,.0f} jobs a second"
    with connect(autocommit=True) as session, ThreadPoolExecutor(1) as pool:
        for what, work in works.items():
            ratios, busy = [], []
            for _ in range(TURNS):
                without = _turn(work)
                pruning = pool.submit(_prune, session, cut)
                ratios.append(_turn(work) / without)
                busy.append(pruning.result() * 1000)
            field.report(f"{what}, {beside}", ratios, "of one without")
            field.report(f"  a batch of {PRUNE_BATCH:,}", busy, "ms")


def _turn(work: Callable[[], object]) -> float:
    """Seconds that one takes, the mean."""
    began, count = time.monotonic(), 0
    while time.monotonic() < began + TURN:
        work()
        count += 1
    return (time.monotonic() - began) / count


def _prune(session: Any, cut: float) -> float:
    """The seconds that it takes to delete a batch of what ended before ``cut``."""
    began = time.monotonic()
    age = timedelta(seconds=began - cut)
    assert queries.prune(session, age, None, PRUNE_BATCH) == PRUNE_BATCH
    return time.monotonic() - began


def begin(session: Any) -> Churn:
    queries.ensure_lanes(session, [("default", 0)])
    churn = Churn(session, 1000)
    session.execute("vacuum analyze")
    return churn


@contextmanager
def pair_of_queues(watch: Any) -> Iterator[Pair]:
    """The plain one in a copy of the database, to which nobody may be connected meanwhile."""
    name = django_connection.settings_dict["NAME"]
    django_connection.close()
    watch.connection.close()
    with connect(dbname="postgres", autocommit=True) as session:
        session.execute(f'create database plain template "{name}"')
    with connect(autocommit=True) as one, connect(dbname="plain", autocommit=True) as other:
        yield Pair(begin(one), begin(other))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--churn", type=float, default=3600, help="seconds of it at the end, 0 for none"
    )
    parser.add_argument("--pace", type=float, default=math.inf, help="its jobs a second at most")
    parser.add_argument("--ended", type=int, default=10, help="millions of ended jobs")
    given = parser.parse_args()
    with field.watched() as watch, pair_of_queues(watch) as pair:
        field.say_load()
        session = pair.churn.session
        pair.compare("1,000 ready")
        beside(OLD_SNAPSHOT, pair, f"after {CHURNED:,} jobs under an old snapshot")
        beside(WRITER, pair, f"after {CHURNED:,} jobs beside a writer left open")
        pair.churn.enqueue(READY)
        session.execute("vacuum analyze")
        pair.compare(f"{READY:,} ready")
        pair.churn.end(MILLION)
        cut = time.monotonic()
        for _ in range(given.ended - 1):
            pair.churn.end(MILLION)
        session.execute("vacuum analyze")
        pair.compare(f"{given.ended * MILLION:,} ended besides")
        retention(pair.churn, cut)
        if given.churn:
            hour(pair, given.churn, given.pace)
        field.say_load()


if __name__ == "__main__":
    main()
