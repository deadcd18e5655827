import pytest

from tests.app.tasks import ask_again, give_up, limited_flaky, stubborn

pytestmark = pytest.mark.processes


def test_a_task_is_tried_again_until_it_succeeds_and_knows_its_attempts(node, watch):
    node()
    stubborn.enqueue(3)
    watch.until_states(successful=1)
    assert watch.heard() == ["attempt 1, 0 errors", "attempt 2, 1 errors", "attempt 3, 2 errors"]
    assert watch.rows("select attempt, lost_starts from steady_queue_outcomes") == [(3, 0)]


def test_a_task_that_never_succeeds_is_failed_and_keeps_each_error(node, watch):
    node()
    stubborn.enqueue(99)
    watch.until_states(failed=1)
    rows = watch.rows("select attempt, exception_class from steady_queue_errors order by id")
    assert rows == [(n, "builtins.OSError") for n in (1, 2, 3, 4)]


def test_a_discarded_task_is_no_failure_but_its_error_is_kept(node, watch):
    node()
    give_up.enqueue()
    watch.until_states(discarded=1)
    assert watch.value("select exception_class from steady_queue_errors") == "builtins.LookupError"


def test_a_task_that_asks_for_it_is_run_again(node, watch):
    node()
    ask_again.enqueue()
    watch.until_states(successful=1)
    assert watch.heard() == ["attempt 1", "attempt 2"]


def test_a_job_that_waits_for_its_retry_holds_no_slot(node, watch):
    node()
    limited_flaky.enqueue("first", fails=True)
    watch.until_states(scheduled=1)
    limited_flaky.enqueue("second", fails=False)
    watch.hear("second")
