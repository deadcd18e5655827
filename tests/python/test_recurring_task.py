from datetime import UTC, datetime, timedelta

import pytest

from steady_queue import recurring_task
from steady_queue.processes.scheduler import jitter, new_job, next_runs
from steady_queue.queries import DueTask
from steady_queue.recurring_task import recurring
from tests.app.tasks import noop


@pytest.fixture(autouse=True)
def _no_declarations(monkeypatch):
    monkeypatch.setattr(recurring_task, "declarations", {})


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"schedule": "61 * * * *"}, "61"),
        ({"key": ""}, "key"),
        ({"priority": 101}, "between -100 and 100, got 101"),
        ({"timezone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"missed": "never"}, "'never'"),
        ({"jitter": timedelta(seconds=-1)}, "jitter"),
    ],
)
def test_what_cannot_work_is_refused_where_it_is_declared(bad, said):
    with pytest.raises(ValueError, match=said):
        recurring(**{"schedule": "* * * * *", "key": "k", **bad})(noop)


def test_it_is_applied_outside_task():
    with pytest.raises(TypeError, match=r"put it above @task\(\)"):
        recurring("* * * * *", key="k")(lambda: None)


def test_a_key_used_twice_is_refused_and_both_places_are_named():
    recurring("* * * * *", key="k")(noop)
    with pytest.raises(ValueError, match=rf"used twice: at {__file__}:\d+ and at {__file__}:\d+"):
        recurring("0 * * * *", key="k")(noop)


def test_one_task_may_have_several_schedules():
    recurring("* * * * *", key="a")(recurring("0 * * * *", key="b")(noop))
    assert sorted(recurring_task.declarations) == ["a", "b"]


def due(**more):
    base = DueTask(
        "k",
        "tests.app.tasks.noop",
        "0 * * * *",
        "UTC",
        '{"args":[],"kwargs":{}}',
        None,
        None,
        "default",
        timedelta(0),
        "latest",
        None,
        None,
        datetime(2026, 1, 1, 12, 30, tzinfo=UTC),
    )
    return base._replace(**more)


def hour(number):
    return datetime(2026, 1, 1, number, tzinfo=UTC)


def test_a_new_schedule_runs_from_its_next_time_on():
    assert next_runs(due()) == (None, hour(13))


def test_a_run_in_time_is_followed_by_the_next():
    now = hour(12) + timedelta(milliseconds=3)
    assert next_runs(due(next_run_at=hour(12), now=now)) == (hour(12), hour(13))


@pytest.mark.parametrize(
    ("missed", "runs"),
    [("latest", (hour(12), hour(13))), ("skip", (None, hour(13))), ("all", (hour(3), hour(4)))],
)
def test_runs_missed_in_an_outage_are_made_up_for_as_stated(missed, runs):
    assert next_runs(due(next_run_at=hour(3), missed=missed)) == runs


def test_jitter_is_within_its_span_and_the_same_everywhere():
    one = due(jitter=timedelta(minutes=5))
    spans = {jitter(one, hour(h)) for h in range(24)}
    assert len(spans) == 24
    assert all(timedelta(0) <= span < timedelta(minutes=5) for span in spans)
    assert jitter(one, hour(1)) == jitter(one, hour(1))


def test_queue_and_priority_are_the_tasks_own_unless_given():
    job = new_job(due(task="tests.app.tasks.urgent"), None)
    assert (job.queue, job.priority) == ("mail", 7)
    job = new_job(due(task="tests.app.tasks.urgent", queue="q", priority=0), None)
    assert (job.queue, job.priority) == ("q", 0)


def test_a_limited_task_keeps_its_limit():
    arguments = '{"args":["k"],"kwargs":{}}'
    job = new_job(due(task="tests.app.tasks.limited", arguments=arguments), None)
    assert job.limit_key == "tests.app.tasks.limited: k"


def test_a_task_that_is_gone_is_enqueued_to_fail_visibly():
    assert new_job(due(task="tests.app.tasks.gone"), None).task == "tests.app.tasks.gone"
