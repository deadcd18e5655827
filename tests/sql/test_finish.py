import json

import pytest

ERROR = json.dumps(
    {"exception_class": "builtins.ValueError", "message": "boom", "traceback": "..."}
)


@pytest.fixture
def worker(queue):
    return queue.process()


def test_a_job_that_succeeded_is_successful(queue, worker):
    job = queue.enqueue()
    assert queue.finish(queue.claim(worker)) == {}
    assert queue.state(job) == "successful"


def test_a_job_that_raised_is_failed_and_keeps_its_error(queue, worker, sql):
    job = queue.enqueue()
    queue.finish(queue.claim(worker), error=ERROR)
    assert queue.state(job) == "failed"
    assert sql("select id, exception_class, message, attempt from steady_queue_failed_jobs") == [
        (job, "builtins.ValueError", "boom", 1)
    ]


def test_a_job_to_be_retried_is_scheduled_with_its_attempts_counted(queue, worker, sql):
    job = queue.enqueue()
    queue.finish(queue.claim(worker), error=json.dumps({**json.loads(ERROR), "retry_in": 3600}))
    assert queue.state(job) == "scheduled"
    assert sql("select attempt, run_after > now() from steady_queue_scheduled") == [(1, True)]
    assert sql("select count(*) from steady_queue_errors") == [(1,)]


def test_a_stale_claim_changes_nothing_and_is_told(queue, worker):
    job = queue.enqueue()
    [claim] = queue.claim(worker).values()
    assert queue.finish({job: claim - 1}) == {job: "stale"}
    assert queue.state(job) == "running"


def test_finishing_twice_is_stale_the_second_time(queue, worker):
    queue.enqueue()
    claimed = queue.claim(worker)
    queue.finish(claimed)
    assert set(queue.finish(claimed).values()) == {"stale"}


def test_a_worker_declared_dead_cannot_finish_what_another_got(queue, worker, sql):
    job = queue.enqueue()
    zombies = queue.claim(worker)
    sql("select steady_queue_recover_jobs(%s, '{}', '', '')", worker)
    another = queue.process()
    theirs = queue.claim(another)
    assert queue.finish(zombies, error=ERROR) == {job: "stale"}
    assert queue.state(job) == "running"
    assert queue.finish(theirs) == {}
    assert queue.state(job) == "successful"


def test_one_stale_job_does_not_keep_the_others_from_ending(queue, worker):
    jobs = [queue.enqueue() for _ in range(3)]
    claimed = queue.claim(worker)
    claimed[jobs[1]] += 1000
    assert queue.finish(claimed) == {jobs[1]: "stale"}
    assert queue.states(*jobs) == ["successful", "running", "successful"]


def test_without_history_what_succeeded_leaves_nothing_and_what_failed_stays(queue, worker, sql):
    queue.enqueue()
    queue.finish(queue.claim(worker), p_keep=False)
    assert sql("select count(*) from steady_queue_jobs") == [(0,)]
    failed = queue.enqueue()
    queue.finish(queue.claim(worker), error=ERROR, p_keep=False)
    assert queue.state(failed) == "failed"


def test_moments_are_counted_from_the_claim_on_the_databases_clock(queue, worker, sql):
    queue.enqueue()
    queue.finish(queue.claim(worker))
    [(waited, ran)] = sql(
        "select extract(epoch from started_at - claimed_at), extract(epoch from finished_at - started_at) "
        "from steady_queue_outcomes"
    )
    assert (float(waited), float(ran)) == (0.0, 0.1)


def test_a_released_job_is_ready_again_with_nothing_charged(queue, worker, sql):
    job = queue.enqueue()
    [(_, claim)] = queue.claim(worker).items()
    assert sql("select * from steady_queue_release_jobs(array[%s], array[%s])", job, claim) == []
    assert sql("select job, attempt, lost_starts from steady_queue_ready") == [(job, 0, 0)]


def test_a_stale_release_changes_nothing_and_is_told(queue, worker, sql):
    job = queue.enqueue()
    queue.claim(worker)
    assert sql("select * from steady_queue_release_jobs(array[%s], array[0])", job) == [(job,)]
    assert queue.state(job) == "running"


def test_finishing_reads_no_table_from_end_to_end(queue, worker, sql):
    for _ in range(3):
        queue.enqueue()
    claimed = queue.claim(worker)
    read = "select seq_scan from pg_stat_xact_user_tables where relname = 'steady_queue_running'"
    before = sql(read)
    queue.finish(claimed)
    assert sql(read) == before


def test_what_a_process_claimed_without_hearing_of_it_is_put_back(queue, worker, sql):
    known, unheard = queue.enqueue(), queue.enqueue()
    other = queue.process()
    theirs = queue.enqueue()
    queue.claim(worker, count=2)
    queue.claim(other)
    assert sql("select steady_queue_disown_jobs(%s, array[%s])", worker, known) == [(1,)]
    assert queue.states(known, unheard, theirs) == ["running", "ready", "running"]
    assert sql("select lost_starts, suspect from steady_queue_ready") == [(0, False)]


def test_without_history_the_errors_of_earlier_attempts_go_too(queue, worker, sql):
    job = queue.enqueue()
    queue.finish(queue.claim(worker), error=json.dumps({**json.loads(ERROR), "retry_in": 0}))
    sql("select * from steady_queue_dispatch_jobs(10)")
    queue.finish(queue.claim(worker), p_keep=False)
    assert sql("select count(*) from steady_queue_errors where job = %s", job) == [(0,)]


@pytest.fixture
def claimed_two(other, queue, worker):
    """Two running jobs and their claims, and a person who has locked the first."""
    for _ in range(2):
        queue.enqueue()
    claimed = queue.claim(worker)
    person = other()
    person.execute("select * from steady_queue_running where job = %s for update", (min(claimed),))
    return claimed, person


def test_a_job_that_a_person_has_locked_does_not_hold_the_others_up(claimed_two, queue):
    claimed, person = claimed_two
    locked, free = claimed
    assert queue.finish(claimed) == {locked: "busy"}
    assert queue.states(locked, free) == ["running", "successful"]
    person.commit()
    assert queue.finish({locked: claimed[locked]}) == {}
    assert queue.state(locked) == "successful"


def test_a_locked_job_is_not_released_and_that_is_told(claimed_two, queue, sql):
    claimed, _person = claimed_two
    locked, free = claimed
    release = "select * from steady_queue_release_jobs(%s, %s)"
    arguments = (list(claimed), list(claimed.values()))
    assert sql(release, *arguments) == [(locked,)]
    assert queue.states(locked, free) == ["running", "ready"]


def test_disowning_says_that_a_locked_job_is_left(claimed_two, queue, worker, sql):
    claimed, person = claimed_two
    assert sql("select steady_queue_disown_jobs(%s, '{}')", worker) == [(None,)]
    person.commit()
    assert sql("select steady_queue_disown_jobs(%s, '{}')", worker) == [(1,)]
    assert queue.states(*claimed) == ["ready", "ready"]
