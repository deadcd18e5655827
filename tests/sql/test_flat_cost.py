"""A claim touches as many buffers beside millions of rows, or a forgotten transaction, as without,
and so does a look for history past its time."""

from datetime import timedelta

import pytest

from steady_queue import queries
from tests.sql.churn import Churn

pytestmark = pytest.mark.slow

MOST = 1.2
"""How many times the buffers of a claim with FEW ready jobs a claim may touch."""

MOST_LIMITED = 60
"""Buffers for each limited job of a claim, the locking of its limit included."""

FEW, MANY, CHURNED = 1_000, 200_000, 20_000


@pytest.fixture
def churn(other):
    session = other(autocommit=True)
    # Those of other tests: each costs a look.
    session.execute("truncate steady_queue_lanes")
    queries.ensure_lanes(session, [("default", 0)])
    return Churn(session, FEW)


def buffers(churn):
    churn.session.execute("vacuum analyze")
    return min(churn.buffers() for _ in range(3))


def test_beside_many_ready_jobs(churn):
    few = buffers(churn)
    churn.enqueue(MANY)
    assert buffers(churn) <= MOST * few


def test_beside_many_ended_jobs(churn):
    few = buffers(churn)
    churn.end(MANY)
    assert buffers(churn) <= MOST * few


@pytest.mark.parametrize("count", [50, 400])
def test_of_jobs_that_each_have_a_limit_of_their_own(churn, count):
    churn.session.execute("truncate steady_queue_ready")
    minute = timedelta(minutes=1)
    queries.enqueue_jobs(
        churn.session.cursor(),
        "default",
        [
            queries.NewJob("t", "default", 0, "{}", None, f"key {number}", 1, minute, "block")
            for number in range(count)
        ],
    )
    churn.session.execute("vacuum analyze")
    claim = "select * from steady_queue_claim_jobs(%s, '{*}', %s)"
    assert churn.buffers_of(claim, count, churn.worker, count) <= MOST_LIMITED * count


def hold_snapshot(other):
    reader = other()
    reader.execute("set transaction isolation level repeatable read")
    reader.execute("select count(*) from steady_queue_ready")


def test_while_an_old_snapshot_is_held(churn, other):
    queries.ensure_lanes(churn.session, [(f"idle {number}", 0) for number in range(50)])
    few = buffers(churn)
    hold_snapshot(other)
    churn.run(CHURNED)
    assert buffers(churn) <= MOST * few


def test_while_a_backlog_is_worked_off_under_an_old_snapshot(churn, other):
    few = buffers(churn)
    churn.enqueue(CHURNED)
    hold_snapshot(other)
    churn.run(CHURNED, enqueue=False)
    assert buffers(churn) <= MOST * few


def test_while_a_transaction_that_writes_elsewhere_is_left_open(churn, other):
    few = buffers(churn)
    writer = other()
    writer.execute("create temporary table elsewhere as select 1")
    churn.run(CHURNED)
    assert buffers(churn) <= MOST * few


def test_a_look_for_history_in_vain_where_rows_took_the_place_of_pruned_ones(churn):
    prune = "select steady_queue_prune('1 day', '1 day', 200000)"
    fruitless = {}
    for kept in (FEW, MANY // 4):
        churn.end(MANY // 4)
        churn.session.execute(
            "update steady_queue_outcomes set finished_at = now() - interval '1 week'"
        )
        churn.session.execute("vacuum analyze")
        while churn.session.execute(prune).fetchone() != (0,):
            churn.session.execute("vacuum steady_queue_outcomes")
        churn.end(kept)
        churn.session.execute("vacuum analyze")
        churn.session.execute(prune)
        fruitless[kept] = churn.buffers_of(prune)
    assert fruitless[MANY // 4] <= MOST * fruitless[FEW]
