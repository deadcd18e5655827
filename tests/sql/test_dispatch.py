from datetime import timedelta

import pytest
from django.utils import timezone


def later(queue, **span):
    return queue.enqueue(run_after=timezone.now() + timedelta(**span))


def make_due(sql, *jobs):
    sql("update steady_queue_scheduled set run_after = now() where job = any(%s)", list(jobs))


def test_due_jobs_become_ready_and_the_next_due_time_is_told(queue, sql):
    due, waiting = later(queue, hours=1), later(queue, hours=2)
    make_due(sql, due)
    [(moved, next_due_in)] = sql("select * from steady_queue_dispatch_jobs(10)")
    assert moved == 1
    assert 7000 < next_due_in <= 7200
    assert queue.states(due, waiting) == ["ready", "scheduled"]


def test_nothing_scheduled_means_no_next_due_time(queue, sql):
    assert sql("select * from steady_queue_dispatch_jobs(10)") == [(0, None)]


def test_no_more_than_asked_is_moved(queue, sql):
    jobs = [later(queue, hours=1) for _ in range(3)]
    make_due(sql, *jobs)
    assert sql("select moved from steady_queue_dispatch_jobs(2)") == [(2,)]


def test_two_dispatchers_share_the_due_jobs_without_waiting(other, queue, sql):
    jobs = [later(queue, hours=1) for _ in range(4)]
    make_due(sql, *jobs)
    first, second = other(), other()
    second.execute("set local lock_timeout = '30s'")
    moved = [
        s.execute("select moved from steady_queue_dispatch_jobs(2)").fetchone()
        for s in (first, second)
    ]
    assert moved == [(2,), (2,)]


def test_a_limited_job_is_admitted_only_when_it_is_claimed(queue, sql):
    worker = queue.process()
    first, second = queue.enqueue_limited("k", count=2)
    sql("delete from steady_queue_ready")
    sql(
        "insert into steady_queue_scheduled (job, run_after) values (%s, now()), (%s, now())",
        first,
        second,
    )
    sql("select * from steady_queue_dispatch_jobs(10)")
    assert list(queue.claim(worker)) == [first]
    assert queue.state(second) == "blocked"


class TestPrune:
    @pytest.fixture(autouse=True)
    def _history(self, queue, sql):
        self.sql = sql
        worker = queue.process()
        self.success, self.failure = queue.enqueue(), queue.enqueue()
        claimed = queue.claim(worker)
        queue.finish({self.success: claimed[self.success]})
        error = '{"exception_class": "E", "message": "m", "traceback": "t"}'
        queue.finish({self.failure: claimed[self.failure]}, error=error)

    def age(self, span):
        self.sql("update steady_queue_outcomes set finished_at = finished_at - %s::interval", span)

    def prune(self, finished="1 day", failed="30 days"):
        return self.sql("select steady_queue_prune(%s::interval, %s::interval)", finished, failed)

    def left(self):
        return [job for (job,) in self.sql("select id from steady_queue_jobs")]

    def test_history_within_its_time_stays(self):
        assert self.prune() == [(0,)]

    def test_what_succeeded_goes_before_what_failed(self):
        self.age("2 days")
        assert self.prune() == [(1,)]
        assert self.left() == [self.failure]

    def test_failures_go_with_their_errors(self):
        self.age("31 days")
        assert self.prune() == [(2,)]
        assert self.left() == []
        assert self.sql("select count(*) from steady_queue_errors") == [(0,)]

    def test_history_without_a_limit_is_kept_for_ever(self):
        self.age("100 years")
        assert self.prune(None, None) == [(0,)]
