from contextlib import closing

import pytest

from tests.chaos import history
from tests.chaos.judge import Judge
from tests.conftest import connect

JOB = """
    insert into steady_queue_jobs (task, queue, priority, arguments)
    values ('tests.chaos.tasks.work', 'default', 0, '{"args": ["token"]}') returning id
"""
FAILED = """
    insert into steady_queue_outcomes (job, status, attempt, lost_starts, finished_at)
    values (%s, 'failed', 1, 3, now())
"""
RUN = """
    insert into chaos_runs (run, job, token, attempt, process, pid, parent, started, ended)
    values (gen_random_uuid(), %s, 'token', 1, %s, %s, 1, %s, %s)
"""
SILENT = "insert into chaos_removals values (%s, 4, %s)"


@pytest.fixture
def past(db):
    """A connection whose history goes with it."""
    with closing(connect()) as connection:
        connection.execute(history.TABLES)
        yield connection


def job_with_runs(past, *runs):
    """Its number; each run is by a process of its own, the first by 1."""
    [(job,)] = past.execute(JOB).fetchall()
    for process, (started, ended) in enumerate(runs, 1):
        past.execute(RUN, [job, process, process, started, ended])
    return job


def judge(past):
    return Judge(past, [], {"token": "committed"}, {"token": "work"})


def misended(past, *thirds):
    """Of a job that two dead processes had begun, and then a third one."""
    past.execute(FAILED, [job_with_runs(past, (10, None), (20, None), *thirds)])
    return judge(past)._misended()


def test_a_job_may_fail_when_three_starts_were_cut_off(past):
    assert misended(past, (30, None)) == []


def test_a_job_may_fail_when_the_last_start_ended_after_its_process_was_called_dead(past):
    past.execute(SILENT, [3, 35])
    assert misended(past, (30, 36)) == []


def test_a_job_may_not_fail_when_a_start_of_a_living_process_ended(past):
    assert len(misended(past, (30, 36))) == 1


def duplicated(past, *runs):
    job_with_runs(past, *runs)
    one = judge(past)
    one._judge_reruns()
    return one.violations


def test_a_job_may_not_run_twice_while_both_are_heard_from(past):
    assert len(duplicated(past, (10, 11), (12, 13))) == 1


def test_a_job_may_run_again_when_the_process_that_ran_it_was_called_dead(past):
    past.execute(SILENT, [1, 12])
    assert duplicated(past, (10, 12), (12, 13)) == []


def test_a_process_may_begin_what_it_held_before_it_hears_that_it_was_called_dead(past):
    past.execute(SILENT, [2, 10])
    assert duplicated(past, (10, 11), (12, 13)) == []


def test_a_process_that_is_called_dead_later_may_not_run_what_another_ran(past):
    past.execute(SILENT, [2, 20])
    assert len(duplicated(past, (10, 11), (12, 13))) == 1
