from datetime import timedelta

import pytest

from steady_queue import queries


@pytest.fixture
def worker(queue):
    return queue.process()


def recover(sql, process, started, most=3):
    return sql(
        "select steady_queue_recover_jobs(%s, %s::bigint[], 'x.ProcessExitError', 'killed', %s)",
        process,
        started,
        most,
    )


def ready(sql):
    return sql("select job, lost_starts, suspect from steady_queue_ready order by job")


def test_jobs_that_were_not_started_are_put_back_as_they_were(queue, worker, sql):
    job = queue.enqueue()
    queue.claim(worker)
    assert recover(sql, worker, []) == [(1,)]
    assert ready(sql) == [(job, 0, False)]


def test_the_only_job_that_was_started_is_charged(queue, worker, sql):
    guilty, innocent = queue.enqueue(), queue.enqueue()
    queue.claim(worker)
    recover(sql, worker, [guilty])
    assert ready(sql) == [(guilty, 1, True), (innocent, 0, False)]
    assert sql("select job, exception_class, message from steady_queue_errors") == [
        (guilty, "x.ProcessExitError", "killed")
    ]


@pytest.mark.parametrize("started", [None, "both"])
def test_when_several_were_started_each_is_a_suspect_and_none_is_charged(
    queue, worker, sql, started
):
    jobs = [queue.enqueue(), queue.enqueue()]
    queue.claim(worker)
    recover(sql, worker, jobs if started else None)
    assert ready(sql) == [(job, 0, True) for job in jobs]


def test_a_job_that_takes_its_process_down_too_often_is_failed_and_can_be_inspected(queue, sql):
    job = queue.enqueue()
    for _ in range(3):
        worker = queue.process()
        queue.claim(worker)
        recover(sql, worker, [job])
    assert queue.state(job) == "failed"
    assert sql("select lost_starts, attempt, exception_class from steady_queue_failed_jobs") == [
        (3, 0, "x.ProcessExitError")
    ]


def test_recovery_removes_the_process(queue, worker, sql):
    recover(sql, worker, [])
    assert sql("select count(*) from steady_queue_processes") == [(0,)]


def test_a_heartbeat_names_those_that_were_removed(queue, worker, sql):
    assert sql("select * from steady_queue_heartbeat(array[%s, 0], '30 s')", worker) == [(0,)]


def test_a_supervisor_speaks_for_all_of_its_processes_and_sweeps_in_one_call(other, queue, sql):
    sweeper, silent = queue.process("supervisor"), queue.process()
    sql("update steady_queue_processes set steady_since = '2000-01-01' where id = %s", sweeper)
    sql("update steady_queue_processes set heartbeat_at = '2000-01-01' where id = %s", silent)
    gone, removed, silence_in = queries.heartbeat_and_sweep(
        other(autocommit=True), [sweeper, 0], sweeper, timedelta(days=1), 3
    )
    assert (gone, removed) == ([0], [silent])
    assert 0 < silence_in <= 86400


class TestSweep:
    @pytest.fixture(autouse=True)
    def _sweeper(self, queue, sql):
        self.queue, self.sql = queue, sql
        self.sweeper = queue.process("supervisor")

    def age(self, process, seconds, column="heartbeat_at"):
        self.sql(
            f"update steady_queue_processes set {column} = {column} - %s * interval '1 s' "
            "where id = %s",
            seconds,
            process,
        )

    def sweep(self):
        return [
            p for (p,) in self.sql("select * from steady_queue_sweep(%s, '30 s')", self.sweeper)
        ]

    def test_the_jobs_of_a_silent_process_are_put_back(self):
        silent, loud = self.queue.process(), self.queue.process()
        job = self.queue.enqueue()
        self.queue.claim(silent)
        self.age(silent, 31)
        self.age(self.sweeper, 31, "steady_since")
        assert self.sweep() == [silent]
        assert self.queue.state(job) == "ready"
        assert self.sql("select count(*) from steady_queue_processes where id = %s", loud) == [(1,)]

    def test_nobody_is_called_dead_by_a_sweeper_that_was_away_itself(self):
        silent = self.queue.process()
        self.age(silent, 31)
        for column in ("heartbeat_at", "steady_since"):
            self.age(self.sweeper, 100, column)
        # It comes back after the outage: its steadiness begins anew.
        self.sql("select * from steady_queue_heartbeat(array[%s], '30 s')", self.sweeper)
        assert self.sweep() == []

    def test_a_heartbeat_in_time_keeps_a_sweeper_steady(self):
        self.age(self.sweeper, 100, "steady_since")
        self.age(self.sweeper, 1)
        self.sql("select * from steady_queue_heartbeat(array[%s], '30 s')", self.sweeper)
        silent = self.queue.process()
        self.age(silent, 31)
        assert self.sweep() == [silent]

    def test_the_next_silence_is_that_of_whoever_spoke_last_of_all(self):
        next_silence = "select round(steady_queue_next_silence_in('30 s'))::integer"
        silent = self.queue.process()
        self.age(silent, 23)
        assert self.sql(next_silence) == [(7,)]
        self.age(silent, 10)
        assert self.sql(next_silence) == [(-3,)]
        self.sql("delete from steady_queue_processes")
        assert self.sql(next_silence) == [(None,)]

    def test_jobs_of_a_process_that_is_not_registered_at_all_are_put_back(self):
        gone = self.queue.process()
        job = self.queue.enqueue()
        self.queue.claim(gone)
        self.sql("delete from steady_queue_processes where id = %s", gone)
        self.age(self.sweeper, 31, "steady_since")
        assert self.sweep() == [gone]
        assert self.queue.state(job) == "ready"
