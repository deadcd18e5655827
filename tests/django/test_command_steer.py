import pytest

from steady_queue import recurring_task
from steady_queue.management import steer
from tests.app.tasks import noop
from tests.django.command import Terminal, refusal, run

pytestmark = pytest.mark.django_db

ERROR = '{"exception_class": "E", "message": "m", "traceback": "t"}'


@pytest.fixture
def worker(queue):
    return queue.process()


@pytest.fixture
def failed(queue, worker):
    def fail(*tasks, **more):
        jobs = [queue.enqueue(task, **more) for task in tasks]
        queue.finish(queue.claim(worker), error=ERROR)
        return jobs

    return fail


def test_retry_makes_failed_and_discarded_jobs_ready(queue, failed):
    first, second = failed("a", "b")
    third = queue.enqueue()
    run("discard", third)
    assert run("retry", first, second, third) == "3 of 3 jobs are ready again\n"
    assert queue.states(first, second, third) == ["ready"] * 3


def test_discard_ends_waiting_jobs(queue):
    ready, later = queue.enqueue(), queue.enqueue(run_after="2999-01-01")
    assert run("discard", ready, later, ready) == "2 of 2 jobs were discarded\n"
    assert queue.states(ready, later) == ["discarded", "discarded"]


def test_run_now_makes_scheduled_jobs_ready(queue):
    job = queue.enqueue(run_after="2999-01-01")
    assert run("run-now", job) == "1 of 1 jobs are ready now\n"
    assert queue.state(job) == "ready"


@pytest.mark.parametrize("name", ["retry", "discard", "run-now"])
def test_an_unknown_job_is_refused_and_nothing_is_changed(queue, failed, name):
    [broken] = failed("a")
    ready, later = queue.enqueue(), queue.enqueue(run_after="2999-01-01")
    jobs = (broken, ready, later)
    before = queue.states(*jobs)
    said = refusal(name, *jobs, 987654)
    assert said == "no such job: 987654; nothing was changed"
    assert queue.states(*jobs) == before


def test_jobs_in_another_state_are_left_alone_and_named(queue, worker, failed):
    [broken] = failed("a")
    ready = queue.enqueue()
    said = refusal("retry", broken, ready)
    assert said == f"1 of 2 jobs are ready again; left alone: {ready} is ready"
    assert queue.states(broken, ready) == ["ready", "ready"]
    queue.claim(worker)
    assert "0 of 1 jobs were discarded" in refusal("discard", ready)
    assert queue.state(ready) == "running"


def test_many_jobs_are_named_in_one_line(queue):
    said = refusal("discard", *range(900001, 900031))
    assert said.startswith("no such job: 900001, 900002")
    assert said.endswith("900010 and 20 more; nothing was changed")


@pytest.mark.parametrize("name", ["retry", "discard", "run-now", "show"])
@pytest.mark.parametrize("bad", ["x", "0", "1.5", "9" * 30, str(2**63)])
def test_what_is_not_the_number_of_a_job_is_refused(name, bad):
    assert f"expected the number of a job, got '{bad}'" in refusal(name, bad)


def test_all_failed_jobs_are_retried_by_queue_and_task(queue, failed, monkeypatch):
    monkeypatch.setattr(steer, "BATCH", 2)
    mail = failed("send", "send", "send", "print", queue="mail")
    web = failed("send", queue="web")
    assert run("retry", "--all-failed", "--queue", "none") == "0 of 0 jobs are ready again\n"
    said = run("retry", "--all-failed", "--queue", "mail", "--task", "send")
    assert said == "3 of 3 jobs are ready again\n"
    assert queue.states(*mail, *web) == ["ready", "ready", "ready", "failed", "failed"]
    assert run("retry", "--all-failed") == "2 of 2 jobs are ready again\n"
    assert queue.states(*mail, *web) == ["ready"] * 5


def test_discarded_jobs_are_not_retried_with_all_that_failed(queue):
    job = queue.enqueue()
    run("discard", job)
    assert run("retry", "--all-failed") == "0 of 0 jobs are ready again\n"
    assert queue.state(job) == "discarded"


def test_progress_is_shown_on_a_terminal(failed, monkeypatch):
    monkeypatch.setattr(steer, "BATCH", 1)
    failed("a", "b")
    said = run("retry", "--all-failed", out=Terminal())
    assert f"\r[{'#' * 15}{' ' * 15}] 1 of 2 jobs" in said
    assert f"\r[{'#' * 30}] 2 of 2 jobs" in said
    assert said.endswith("\r\033[K2 of 2 jobs are ready again\n")


def test_what_to_retry_and_to_run_has_to_be_said_once(queue, failed):
    [job] = failed("a")
    for arguments in ([], ["--queue", "mail"], [job, "--all-failed"]):
        assert "expected the numbers of jobs, or --all-failed" in refusal("retry", *arguments)
    assert "go with --all-failed" in refusal("retry", job, "--task", "a")
    for arguments in ([], [job, "--schedule", "nightly"]):
        assert "or --schedule KEY" in refusal("run-now", *arguments)
    assert queue.state(job) == "failed"


def test_run_now_lets_a_schedule_run(sql):
    recurring_task.schedule(noop, "@yearly", "yearly")
    assert run("run-now", "--schedule", "yearly").startswith("yearly: ")
    due = sql("select key from steady_queue_due_recurring_tasks() where run_now_at is not null")
    assert due == [("yearly",)]
    assert refusal("run-now", "--schedule", "nightly") == "no such schedule: nightly"
