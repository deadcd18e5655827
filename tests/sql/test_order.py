"""What goes back to ready does so in one order, whatever the planner makes of the join with jobs."""

import pytest

COUNT = 60


@pytest.fixture
def worker(queue):
    return queue.process()


@pytest.fixture
def claimed(queue, worker, sql):
    """Running jobs whose rows in jobs lie the other way round, joined by hash."""
    for _ in range(COUNT):
        queue.enqueue()
    claimed = queue.claim(worker, count=COUNT)
    sql("create temporary table backwards on commit drop as table steady_queue_jobs")
    sql("delete from steady_queue_jobs")
    sql("insert into steady_queue_jobs select * from backwards order by id desc")
    sql("analyze steady_queue_jobs")
    sql("set local enable_nestloop = off")
    sql("set local enable_mergejoin = off")
    return claimed


def ready(sql):
    return [job for (job,) in sql("select job from steady_queue_ready order by position")]


def test_released_jobs_are_put_back_in_order(sql, claimed):
    sql("select steady_queue_release_jobs(%s, %s)", list(claimed), list(claimed.values()))
    assert ready(sql) == sorted(claimed)


def test_recovered_jobs_are_put_back_in_order(sql, worker, claimed):
    sql("select steady_queue_recover_jobs(%s, '{}', '', '')", worker)
    assert ready(sql) == sorted(claimed)
