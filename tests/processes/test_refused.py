"""What a worker does about jobs and outcomes that the database does not take from it."""

import re

import pytest

from tests.app.tasks import fail, gated, noop, speak

pytestmark = pytest.mark.processes


@pytest.fixture
def unrecordable(watch):
    """A message that the table of errors does not take."""
    constraint = "alter table steady_queue_errors add constraint picky check (message <> 'odd')"
    watch.connection.execute(constraint)
    yield "odd"
    watch.connection.execute("alter table steady_queue_errors drop constraint picky")


def test_an_outcome_that_cannot_be_recorded_is_a_failure_that_says_so(
    node, watch, unrecordable, capfd
):
    for _ in range(5):
        noop.enqueue()
    fail.enqueue(unrecordable)
    node()
    watch.until_states(successful=5, failed=1)
    [(error, message)] = watch.rows("select exception_class, message from steady_queue_failed_jobs")
    assert error == "steady_queue.processes.OutcomeRefusedError"
    assert "picky" in message
    [(job, worker)] = watch.rows(
        "select job, process from steady_queue_outcomes where status = 'failed'"
    )
    about = rf"\[{job} tests.app.tasks.fail default 1 {worker}\]"
    assert re.search(rf"outcome refused: job={job} .*{about}", capfd.readouterr().err)


def test_a_running_job_that_a_person_has_locked_ends_when_it_is_let_go(node, watch, other):
    watch.close_gate()
    node(workers=[{"threads": 2}])
    gated.enqueue("held")
    watch.hear("held begins")
    person = other()
    person.execute("select * from steady_queue_running for update")
    watch.open_gate()
    watch.hear("held ends")
    speak.enqueue("not held up")
    watch.hear("not held up")
    watch.until_states(running=1, successful=1)
    person.commit()
    watch.until_states(successful=2)
