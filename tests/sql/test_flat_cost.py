"""A claim touches as many buffers beside millions of rows, or a forgotten transaction, as without."""

import pytest

from steady_queue import queries
from tests.sql.churn import Churn

pytestmark = pytest.mark.slow

MOST = 1.2
"""How many times the buffers of a claim with FEW ready jobs a claim may touch."""

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


def test_while_an_old_snapshot_is_held(churn, other):
    queries.ensure_lanes(churn.session, [(f"idle {number}", 0) for number in range(50)])
    few = buffers(churn)
    reader = other()
    reader.execute("set transaction isolation level repeatable read")
    reader.execute("select count(*) from steady_queue_ready")
    churn.run(CHURNED)
    assert buffers(churn) <= MOST * few


def test_while_a_transaction_that_writes_elsewhere_is_left_open(churn, other):
    few = buffers(churn)
    writer = other()
    writer.execute("create temporary table elsewhere as select 1")
    churn.run(CHURNED)
    assert buffers(churn) <= MOST * few
