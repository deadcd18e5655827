"""Counting in the worker's memory."""

import json
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from steady_queue import queries
from steady_queue.processes import figures
from steady_queue.processes.figures import BOUNDS, Figures
from steady_queue.queries import ClaimedJob, Outcome

ENQUEUED_AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
CLAIMED_AT = ENQUEUED_AT + timedelta(seconds=2)
JOB = ClaimedJob(
    1, 1, "t", "default", "mail", 0, "{}", 0, 0, False, None, None, None, ENQUEUED_AT, CLAIMED_AT,
    None, None,
)  # fmt: skip


def outcome(job=1, waited=0.5, ran=0.02, error=None, **changes):
    error = None if error is None else json.dumps({"exception_class": "E", **error})
    return Outcome(JOB._replace(id=job, **changes), waited, ran, error)


class Table:
    """Takes what is written, unless ``trouble`` says otherwise."""

    def __init__(self):
        self.trouble = None
        self.written = []

    def connection(self):
        return self

    def add(self, connection, text):
        assert connection is self
        if isinstance(self.trouble, Exception):
            raise self.trouble
        if self.trouble is None:
            self.written += json.loads(text)
        return self.trouble is None


@pytest.fixture
def clock(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(figures.time, "monotonic", lambda: clock[0])
    return clock


@pytest.fixture
def table(monkeypatch, clock):
    table = Table()
    monkeypatch.setattr(queries, "add_figures", table.add)
    return table


@pytest.fixture
def counted(table):
    """Counts outcomes, and what is written of them."""

    def count(*outcomes, refused=()):
        counts = Figures(table)
        counts.count(outcomes, refused)
        counts.write_last()
        return table.written

    return count


def histogram(*places):
    return [places.count(place) for place in range(len(BOUNDS) + 1)]


def test_waits_and_runs_are_counted_by_queue_and_task(counted):
    shown = sorted(
        counted(outcome(), outcome(ran=9000), outcome(task="other"), outcome(queue="other")),
        key=lambda row: (row["queue"], row["task"]),
    )
    assert [(row["queue"], row["task"], row["finished"]) for row in shown] == [
        ("mail", "other", 1),
        ("mail", "t", 2),
        ("other", "t", 1),
    ]
    assert shown[1]["runs"] == histogram(BOUNDS.index(0.02), len(BOUNDS))
    assert shown[1]["waits"] == histogram(BOUNDS.index(5), BOUNDS.index(5))
    assert (shown[1]["waited"], shown[1]["ran"]) == (5.0, 9000.02)


@pytest.mark.parametrize(
    ("run_after", "waited"),
    [
        (None, 2.5),
        (ENQUEUED_AT - timedelta(days=1), 2.5),
        (ENQUEUED_AT + timedelta(seconds=1), 1.5),
        # Run now, by hand, ahead of its time.
        (ENQUEUED_AT + timedelta(days=1), 0.5),
    ],
)
def test_a_job_waits_from_when_it_could_run(counted, run_after, waited):
    [row] = counted(outcome(run_after=run_after))
    assert row["waited"] == waited


@pytest.mark.parametrize(
    ("error", "finished", "failed"),
    [
        (None, 1, 0),
        ({}, 1, 1),
        ({"retry_in": None, "discard": False}, 1, 1),
        ({"discard": True}, 1, 0),
        ({"retry_in": 0.0}, 0, 0),
    ],
)
def test_only_what_ends_is_finished_and_only_what_fails_for_good_failed(
    counted, error, finished, failed
):
    [row] = counted(outcome(error=error))
    assert (row["finished"], row["failed"], sum(row["runs"])) == (finished, failed, 1)


@pytest.mark.parametrize("earlier", ["attempt", "lost_starts"])
def test_only_the_first_start_has_waited(counted, earlier):
    [row] = counted(outcome(**{earlier: 1}))
    assert (sum(row["waits"]), row["waited"], sum(row["runs"])) == (0, 0, 1)


def test_an_outcome_that_was_refused_is_not_counted(counted):
    [row] = counted(outcome(1), outcome(2), refused={2: "busy"})
    assert row["finished"] == 1


def test_nothing_is_written_before_its_time_nor_twice(table, clock):
    counts = Figures(table)
    assert counts.write_when_due() == float("inf")
    counts.count([outcome()])
    assert counts.write_when_due() == figures.WRITE_EVERY
    assert table.written == []
    clock[0] += figures.WRITE_EVERY
    assert counts.write_when_due() == float("inf")
    assert [row["finished"] for row in table.written] == [1]
    counts.write_last()
    assert len(table.written) == 1


@pytest.mark.parametrize("trouble", ["locked", psycopg.OperationalError("away")])
def test_what_could_not_be_written_is_kept_and_written_later(table, clock, trouble):
    counts, table.trouble = Figures(table), trouble
    counts.count([outcome()])
    counts.write_last()
    clock[0] += figures.WRITE_EVERY
    try:
        assert counts.write_when_due() == figures.WRITE_EVERY
    except psycopg.OperationalError:
        assert counts.write_when_due() == figures.WRITE_EVERY
    assert table.written == []
    table.trouble = None
    counts.count([outcome()])
    clock[0] += figures.WRITE_EVERY
    counts.write_when_due()
    assert [row["finished"] for row in table.written] == [2]
