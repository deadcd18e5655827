import pytest

ERROR = '{"exception_class": "E", "message": "m", "traceback": "t"}'


@pytest.fixture
def worker(queue):
    return queue.process()


def test_a_failed_job_can_be_retried_with_its_count_anew_and_its_errors_kept(queue, worker, sql):
    job = queue.enqueue()
    queue.finish(queue.claim(worker), error=ERROR)
    assert sql("select steady_queue_retry_jobs(array[%s])", job) == [(1,)]
    assert sql("select job, attempt from steady_queue_ready") == [(job, 0)]
    assert sql("select count(*) from steady_queue_errors") == [(1,)]


def test_only_failed_and_discarded_jobs_are_retried(queue, worker, sql):
    done = queue.enqueue()
    queue.finish(queue.claim(worker))
    running = queue.enqueue()
    queue.claim(worker)
    ready = queue.enqueue()
    assert sql("select steady_queue_retry_jobs(array[%s, %s, %s])", done, running, ready) == [(0,)]
    assert queue.states(done, running, ready) == ["successful", "running", "ready"]


def test_a_waiting_job_can_be_discarded_and_never_runs(queue, worker, sql):
    ready = queue.enqueue()
    later = queue.enqueue(run_after="2999-01-01")
    assert sql("select steady_queue_discard_jobs(array[%s, %s])", ready, later) == [(2,)]
    assert queue.states(ready, later) == ["discarded", "discarded"]
    assert queue.claim(worker) == {}


def test_a_running_job_is_not_discarded(queue, worker, sql):
    job = queue.enqueue()
    queue.claim(worker)
    assert sql("select steady_queue_discard_jobs(array[%s])", job) == [(0,)]
    assert queue.state(job) == "running"


def test_discarding_against_a_claim_ends_the_job_once(other, queue):
    worker = queue.process()
    job = queue.enqueue()
    claimer, person = other(), other()
    claimer.execute("select * from steady_queue_claim_jobs(%s, '{*}', 5)", (worker,))
    claimer.commit()
    assert person.execute("select steady_queue_discard_jobs(array[%s])", (job,)).fetchone() == (0,)


def test_pausing_and_resuming_tell_whether_they_changed_anything(sql):
    assert sql("select steady_queue_pause_queue('q')") == [(True,)]
    assert sql("select steady_queue_pause_queue('q')") == [(False,)]
    assert sql("select steady_queue_resume_queue('q')") == [(True,)]
    assert sql("select steady_queue_resume_queue('q')") == [(False,)]


def test_a_scheduled_job_can_run_now_and_keeps_its_attempts(queue, worker, sql):
    later = queue.enqueue(run_after="2999-01-01")
    retried = queue.enqueue()
    retry = '{"exception_class": "E", "message": "m", "traceback": "t", "retry_in": 9999}'
    queue.finish(queue.claim(worker), error=retry)
    assert queue.states(later, retried) == ["scheduled", "scheduled"]
    assert sql("select steady_queue_run_jobs_now(array[%s, %s])", later, retried) == [(2,)]
    assert queue.states(later, retried) == ["ready", "ready"]
    # In the order in which they were due.
    assert list(queue.claim(worker)) == [retried, later]
    assert sql("select attempt from steady_queue_running order by job") == [(0,), (1,)]


def test_only_scheduled_jobs_are_run_now(queue, worker, sql):
    running, *blocked = queue.enqueue_limited("k", count=2)
    queue.claim(worker)
    ready = queue.enqueue()
    jobs = [running, *blocked, ready]
    assert sql("select steady_queue_run_jobs_now(%s)", jobs) == [(0,)]
    assert queue.states(*jobs) == ["running", "blocked", "ready"]


def test_a_limited_job_that_runs_now_still_waits_for_its_limit(queue, worker, sql):
    queue.enqueue_limited("k")
    queue.claim(worker)
    [job] = queue.enqueue_limited("k")
    sql("with r as (delete from steady_queue_ready returning job) "
        "insert into steady_queue_scheduled (job, run_after) select job, '2999-01-01' from r")  # fmt: skip
    assert sql("select steady_queue_run_jobs_now(array[%s])", job) == [(1,)]
    assert queue.claim(worker) == {}
    assert queue.state(job) == "blocked"


def test_a_copy_has_all_that_was_asked_but_its_time(queue, sql):
    [limited] = queue.enqueue_limited("k", to=3, queue="limits", priority=7)
    later = queue.enqueue(queue="mail", args="[1]", run_after="2999-01-01", backend="other")
    copies = sql("select steady_queue_enqueue_copy(array[%s, %s, 0])", limited, later)
    assert len(copies) == 2
    asked = (
        "select task, backend, queue, priority, arguments::text, limit_key, limit_to, limit_for, "
        "limit_conflict from steady_queue_jobs where id = any (%s) order by backend"
    )
    assert sql(asked, [job for (job,) in copies]) == sql(asked, [limited, later])
    assert queue.states(*(job for (job,) in copies)) == ["ready", "ready"]
    assert queue.state(later) == "scheduled"


def test_of_no_job_there_is_no_copy(sql):
    assert sql("select steady_queue_enqueue_copy(array[0])") == []
