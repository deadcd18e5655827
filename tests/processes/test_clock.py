"""A host whose clock is wrong, or jumps: what is due is the database's affair."""

from datetime import timedelta
from pathlib import Path

import pytest

from steady_queue import recurring_task
from tests.app.tasks import noop, speak, tell_time

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
EVERY_SECOND = "* * * * * * *"
WRONG_BY = ["+1h", "-1h"]

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(LIBRARY is None, reason="needs Debian's package libfaketime"),
]


@pytest.fixture
def clock(tmp_path):
    """How far the clock on the wall of a node is off, as it is read at each look."""
    file = tmp_path / "clock"
    file.write_text("+0")
    return file


@pytest.fixture
def start(node, watch, clock):
    def start():
        environment = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        one = node(env=environment)
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
    clock.write_text(off)
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
    for off in [*WRONG_BY, "+0"]:
        clock.write_text(off)
        count = len(runs(watch))
        watch.until(lambda more=count + 2: len(runs(watch)) >= more, "two runs")
    recurring_task.unschedule("tick")
    assert all(run_at <= enqueued_at for run_at, enqueued_at in runs(watch))
    total = len(runs(watch))
    watch.until_states(successful=total)
    assert one.children() == children
