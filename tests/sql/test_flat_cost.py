"""A claim touches as many buffers beside millions of rows, or a forgotten transaction, as without."""

import json

import pytest

from steady_queue import queries

pytestmark = pytest.mark.slow

MOST = 1.2
"""How many times the buffers of a claim with FEW ready jobs a claim may touch."""

FEW, MANY, CHURNED = 1_000, 200_000, 20_000

ENQUEUE = """
    select count(*) from steady_queue_enqueue_jobs(
      'default', array_fill('t'::text, array[%(n)s]), array_fill('default'::text, array[%(n)s]),
      array_fill(0::smallint, array[%(n)s]), array_fill('{}'::json, array[%(n)s]))
"""


@pytest.fixture
def churn(other, lanes):
    lanes("default")
    return Churn(other)


class Churn:
    def __init__(self, other):
        self.session = other(autocommit=True)
        self.worker = queries.register_process(self.session, "worker", "w", None, "h", 1)
        self.enqueue(FEW)

    def enqueue(self, count):
        self.session.execute(ENQUEUE, {"n": count})

    def run(self, count):
        """Jobs that come and go while FEW others wait, as a worker does it."""
        finished = []
        for number in range(count // 500 + 1):
            self.enqueue(500)
            _, jobs = queries.finish_and_claim_jobs(
                self.session, self.worker, finished, True, ["*"], 500
            )
            finished = [queries.Outcome(j.id, j.claim, 0, 0, None, None, j) for j in jobs]
            if number % 2 == 0:
                queries.advance_marks(self.session)
        queries.finish_and_claim_jobs(self.session, self.worker, finished, True, ["*"], 0)

    def buffers(self):
        """Of one claim of ten, which is undone; the best of three."""
        self.session.execute("vacuum analyze")
        return min(self._buffers() for _ in range(3))

    def _buffers(self):
        with self.session.transaction(force_rollback=True):
            [(plan,)] = self.session.execute(
                "explain (analyze, buffers, format json) "
                "select * from steady_queue_claim_jobs(%s, '{*}', 10)",
                [self.worker],
            ).fetchall()
        node = (plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]
        assert node["Actual Rows"] == 10
        return node["Shared Hit Blocks"] + node["Shared Read Blocks"]


def test_beside_many_ready_jobs(churn):
    few = churn.buffers()
    churn.enqueue(MANY)
    assert churn.buffers() <= MOST * few


def test_beside_many_ended_jobs(churn):
    few = churn.buffers()
    churn.session.execute(
        """
        with ended as (
          insert into steady_queue_jobs (task, queue, priority, arguments)
          select 't', 'default', 0, '{}' from generate_series(1, %s) returning id)
        insert into steady_queue_outcomes (job, status, attempt, lost_starts, finished_at)
        select id, 'successful', 1, 0, clock_timestamp() from ended""",
        [MANY],
    )
    assert churn.buffers() <= MOST * few


def test_while_an_old_snapshot_is_held(churn, other):
    few = churn.buffers()
    reader = other()
    reader.execute("set transaction isolation level repeatable read")
    reader.execute("select count(*) from steady_queue_ready")
    churn.run(CHURNED)
    assert churn.buffers() <= MOST * few


def test_while_a_transaction_that_writes_elsewhere_is_left_open(churn, other):
    few = churn.buffers()
    writer = other()
    writer.execute("create temporary table elsewhere as select 1")
    churn.run(CHURNED)
    assert churn.buffers() <= MOST * few
