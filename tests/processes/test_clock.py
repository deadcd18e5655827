"""A host whose clock is wrong, or jumps: what is due is the database's affair."""

from datetime import timedelta

import pytest

from steady_queue import recurring_task
from tests.app.tasks import noop, speak, tell_time
from tests.processes.clock import LIBRARY, RIGHT, WRONG_BY, environment, move

EVERY_SECOND = "* * * * * * *"

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(LIBRARY is None, reason="needs Debian's package libfaketime"),
]


@pytest.fixture
def clock(tmp_path):
    """How far the clock on the wall of a node is off."""
    file = tmp_path / "clock"
    move(file, RIGHT)
    return file


@pytest.fixture
def start(node, watch, clock):
    def start():
        one = node(env=environment(clock))
        watch.until_idle(3)
        return one

    return start


def runs(watch):
    return watch.rows(
        "select run_at, enqueued_at from steady_queue_recurring_executions order by run_at"
    )


@pytest.mark.parametrize("off", WRONG_BY)
def test_a_deferred_task_is_performed_at_its_time_by_a_host_whose_clock_is_wrong(
    start, watch, clock, off
):
    move(clock, off)
    start()
    tell_time.enqueue()
    watch.until(watch.heard, "the time")
    assert watch.value("select abs(extract(epoch from word::timestamptz - at)) > 3000 from heard")
    result = speak.using(run_after=timedelta(seconds=1)).enqueue("later")
    watch.hear("later")
    assert not watch.value("select at < %s from heard where word = 'later'", result.task.run_after)


def test_schedules_go_on_through_jumps_of_the_hosts_clock(start, watch, clock):
    one = start()
    children = one.children()
    recurring_task.schedule(noop, EVERY_SECOND, "tick")
    for off in [*WRONG_BY, RIGHT]:
        move(clock, off)
        count = len(runs(watch))
        watch.until(lambda more=count + 2: len(runs(watch)) >= more, "two runs")
    recurring_task.unschedule("tick")
    assert all(run_at <= enqueued_at for run_at, enqueued_at in runs(watch))
    total = len(runs(watch))
    watch.until_states(successful=total)
    assert one.children() == children
