"""Tasks that run for too long: their threads are stopped, or their processes replaced."""

import re

import pytest
from django.tasks import default_task_backend

from tests.app.tasks import endless, endless_twice, gated, just_in_time, limited_endless, speak

pytestmark = [pytest.mark.processes, pytest.mark.slow]

FAILED = "select exception_class, message from steady_queue_failed_jobs"
TIMED_OUT = ("steady_queue.timeouts.TaskTimeout", "the task ran for more than 0:00:00.500000")
STOPPABLE = {"TEST_STOPS_WITHIN": "3600", "TEST_SHUTDOWN_TIMEOUT": "3600"}
STUCK = {**STOPPABLE, "TEST_STOPS_WITHIN": "0.1"}
"""As long as a task that ends can take: the worker waits for the event."""


@pytest.mark.parametrize("kind", ["loop", "query"])
def test_a_task_past_its_timeout_fails_and_its_thread_goes_on(node, watch, kind):
    one = node("--only-work", workers=[{"threads": 1}], env=STOPPABLE)
    watch.until_idle(1)
    pids = one.worker_pids()
    endless.enqueue(kind)
    speak.enqueue("next")
    watch.until_states(failed=1, successful=1)
    assert watch.rows(FAILED) == [TIMED_OUT]
    assert "in endless" in watch.value("select traceback from steady_queue_errors")
    assert watch.heard()[-1] == "next"
    assert one.worker_pids() == pids


def test_a_query_is_cancelled_on_the_server_too(node, watch):
    node("--only-work", env=STOPPABLE)
    endless.enqueue("query")
    watch.until_states(failed=1)
    asleep = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
    watch.until(lambda: watch.value(asleep) == 0, "the end of the query")


@pytest.mark.parametrize("kind", ["sleep", "swallow"])
def test_a_task_that_cannot_be_stopped_costs_its_process_and_no_neighbour(node, watch, kind):
    watch.close_gate()
    one = node("--only-work", workers=[{"threads": 3}], env=STUCK)
    watch.until_idle(1)
    pids = one.worker_pids()
    gated.enqueue("neighbour")
    watch.hear("neighbour begins")
    endless.enqueue(kind)
    watch.hear(f"{kind} begins")
    # A worker that stops no longer listens, and claims nothing.
    watch.until(lambda: watch.idle() == 0, "the end of claims")
    speak.enqueue("later")
    assert watch.states() == {"running": 2, "ready": 1}
    watch.open_gate()
    watch.until_states(failed=1, successful=2)
    assert watch.rows(FAILED) == [TIMED_OUT]
    assert watch.heard().count("neighbour begins") == 1
    assert watch.rows("select distinct attempt, lost_starts from steady_queue_outcomes") == [(1, 0)]
    assert one.worker_pids() not in ([], pids)


def test_neighbours_that_outlast_the_grace_are_put_back_without_charge(node, watch):
    watch.close_gate()
    node("--only-work", workers=[{"threads": 3}], env={**STUCK, "TEST_SHUTDOWN_TIMEOUT": "0.2"})
    for word in ("one", "two"):
        gated.enqueue(word)
        watch.hear(f"{word} begins")
    endless.enqueue("sleep")
    watch.until_states(failed=1, running=2)
    begun = ["one begins", "two begins"]
    watch.until(lambda: all(watch.heard().count(word) == 2 for word in begun), "the second starts")
    charged = "select count(*) from steady_queue_running where lost_starts > 0 or suspect"
    assert watch.value(charged) == 0
    watch.open_gate()
    watch.until_states(failed=1, successful=2)


def test_a_slot_of_a_task_that_cannot_be_stopped_is_handed_on(node, watch, capfd):
    node("--only-work", workers=[{"threads": 1}], env=STUCK)
    job = limited_endless.enqueue("sleep").id
    watch.hear("sleep begins")
    limited_endless.enqueue("nothing")
    watch.until_states(failed=1, successful=1)
    assert watch.rows(FAILED) == [TIMED_OUT]
    about = rf"\[{job} {limited_endless.module_path} default 1 \d+\]"
    assert re.search(rf"stuck: job={job} .*{about}", capfd.readouterr().err)


def test_a_timeout_is_retried_like_any_error(node, watch):
    node(env=STOPPABLE)
    endless_twice.enqueue()
    watch.until_states(successful=1)
    assert watch.rows("select attempt, exception_class from steady_queue_errors order by id") == [
        (1, TIMED_OUT[0]),
        (2, TIMED_OUT[0]),
    ]


def test_a_worker_that_stops_keeps_its_deadlines(node, watch):
    one = node("--only-work", env=STOPPABLE)
    endless.enqueue("loop")
    watch.until(lambda: watch.states() != {"ready": 1}, "the start")
    assert one.stop() == 0
    assert watch.rows(FAILED) == [TIMED_OUT]


def test_the_default_holds_for_tasks_that_say_nothing(node, watch):
    node("--only-work", env={**STOPPABLE, "TEST_TASK_TIMEOUT": "0.5"})
    watch.rows("select steady_queue_enqueue('tests.app.tasks.loop_forever')")
    watch.until_states(failed=1)
    assert watch.rows(FAILED) == [TIMED_OUT]


def test_a_timeout_that_comes_at_the_end_never_meets_the_next_task(node, watch):
    node("--only-work", workers=[{"threads": 2}], env=STOPPABLE)
    # One that is too late in any case.
    calls = [(just_in_time, [3600], {})]
    for number in range(150):
        calls += [(just_in_time, [0.017 + number % 7 / 1000], {}), (speak, [number], {})]
    default_task_backend.enqueue_all(calls)
    watch.until(lambda: sum(watch.states().values()) == sum(ended(watch)), "the end of all")
    assert sorted(map(int, watch.heard())) == list(range(150))
    tasks = watch.rows("select distinct task, exception_class from steady_queue_failed_jobs")
    assert tasks == [("tests.app.tasks.just_in_time", TIMED_OUT[0])]


def ended(watch):
    states = watch.states()
    return states.get("successful", 0), states.get("failed", 0)
