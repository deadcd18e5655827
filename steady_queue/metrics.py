"""The figures of the queue as metrics, in the words of Prometheus. Needs ``prometheus-client``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

import steady_queue
from steady_queue import queries
from steady_queue.actions import UNFINISHED
from steady_queue.processes.figures import BOUNDS

type Row = dict[str, Any]

LIMITS = [*map(floatToGoString, BOUNDS), "+Inf"]


def exposition(accept: str) -> tuple[bytes, str]:
    """All metrics as text, and its content type: what the header ``Accept`` prefers.

    Raises DatabaseError when they cannot be read.
    """
    registry = CollectorRegistry()
    registry.register(_Collector())
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Collector(Collector):
    def collect(self) -> Iterator[Metric]:
        threshold = steady_queue.process_alive_threshold
        yield from families(queries.metrics(steady_queue.database, threshold))

    def describe(self) -> Iterator[Metric]:
        """Nothing: the database is not asked before somebody asks."""
        return iter(())


def families(parts: dict[str, list[Row]]) -> Iterator[Metric]:
    """The metrics of what ``queries.metrics`` has found."""
    yield from _of_queues(parts["queues"])
    yield from _of_processes(parts["processes"])
    yield from _of_schedules(parts["schedules"])
    yield from _of_tasks(parts["totals"])


def _of_queues(rows: Sequence[Row]) -> Iterator[Metric]:
    jobs = _gauge("jobs", "Jobs that have not ended, by state.", "queue", "state")
    waits = _gauge("oldest_wait_seconds", "How long the first ready job has waited.", "queue")
    paused = _gauge("queue_paused", "Whether nothing is claimed from the queue.", "queue")
    for row in rows:
        for state in UNFINISHED:
            jobs.add_metric([row["queue"], state], row[state])
        wait = row["oldest_wait"]
        waits.add_metric([row["queue"]], max(wait.total_seconds(), 0.0) if wait else 0.0)
        paused.add_metric([row["queue"]], row["paused"])
    yield from (jobs, waits, paused)


def _of_processes(rows: Sequence[Row]) -> Iterator[Metric]:
    alive = _gauge("processes", "Processes that were heard from of late.", "kind")
    threads = _gauge("worker_threads", "Jobs that may run at once.")
    for row in rows:
        alive.add_metric([row["kind"]], row["alive"])
        if row["kind"] == "worker":
            threads.add_metric([], row["threads"])
    yield from (alive, threads)


def _of_schedules(rows: Sequence[Row]) -> Iterator[Metric]:
    last = _gauge("recurring_last_run_timestamp_seconds", "When the schedule last ran.", "key")
    following = _gauge("recurring_next_run_timestamp_seconds", "When it is next due.", "key")
    paused = _gauge("recurring_paused", "Whether the schedule is paused.", "key")
    for row in rows:
        paused.add_metric([row["key"]], row["paused"])
        for family, moment in ((last, row["last_run_at"]), (following, row["next_run_at"])):
            if moment:
                family.add_metric([row["key"]], moment.timestamp())
    yield from (last, following, paused)


def _of_tasks(rows: Sequence[Row]) -> Iterator[Metric]:
    labels = ("queue", "task")
    finished = _counter("jobs_finished", "Jobs that have run and ended, however.", *labels)
    failed = _counter("jobs_failed", "Jobs that failed for good.", *labels)
    waits = _histogram("job_wait_seconds", "From when a job could run to its first start.", *labels)
    runs = _histogram("job_run_seconds", "How long each attempt ran.", *labels)
    for row in rows:
        of = [row["queue"], row["task"]]
        finished.add_metric(of, row["finished"])
        failed.add_metric(of, row["failed"])
        waits.add_metric(of, _buckets(row["waits"]), row["waited"])
        runs.add_metric(of, _buckets(row["runs"]), row["ran"])
    yield from (finished, failed, waits, runs)


def _buckets(counts: Sequence[int]) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus has them."""
    return list(zip(LIMITS, accumulate(counts or [0] * len(LIMITS)), strict=True))


def _gauge(name: str, help: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"steady_queue_{name}", help, labels=labels)


def _counter(name: str, help: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"steady_queue_{name}", help, labels=labels)


def _histogram(name: str, help: str, *labels: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"steady_queue_{name}", help, labels=labels)
