"""A minute of one-second schedules on two nodes whose schedulers are killed all the time."""

import os
import signal
from itertools import pairwise

import pytest

from steady_queue import recurring_task
from tests.app.tasks import noop

pytestmark = [pytest.mark.processes, pytest.mark.slow]

EVERY_SECOND = "* * * * * * *"
KEYS = ["tick", "tock"]
RUNS = 50
"""Runs beside which schedulers are killed one by one."""
TAKEN_OVER = 2
"""Seconds between two runs, and from a run's time to its job, while one scheduler lives: it holds
the same cursor and sleeps to the same moment, so that one second is what should be; another one
for a machine so busy that a look comes late, and finds one run missed (``missed="latest"``)."""
RESTARTED = 6
"""The same when both die: the first death after STEADY_AFTER (10 s) is answered at once, and a
fresh interpreter imports Django, connects and looks, in about 1 s; several on a busy machine."""


def runs(watch, key):
    return watch.rows(
        "select run_at, enqueued_at, job from steady_queue_recurring_executions "
        "where key = %s and job is not null order by run_at",
        key,
    )


def until_runs(watch, count):
    """More runs than there are now; not one ``until``, whose patience is for one event."""
    for more in range(len(runs(watch, KEYS[0])) + 1, count + 1):
        watch.until(lambda more=more: len(runs(watch, KEYS[0])) >= more, f"run {more}")


def kill(nodes):
    pids = [pid for node in nodes for pid in node.pids("scheduler")]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return len(pids)


def until_both(watch):
    # Its process is gone from the table once its supervisor has seen it die.
    watch.until(lambda: len(watch.processes("scheduler")) == 2, "two schedulers")
    watch.until_idle(6)


def test_schedulers_killed_for_a_minute_enqueue_every_run_once(node, watch):
    nodes = [node(), node()]
    until_both(watch)
    for key in KEYS:
        recurring_task.schedule(noop, EVERY_SECOND, key)
    killed = 0
    while (done := len(runs(watch, KEYS[0]))) < RUNS:
        until_runs(watch, done + 3)
        # The other one lives: how long a child rests that dies all the time is another promise.
        until_both(watch)
        killed += kill([nodes[killed % 2]])
    one_by_one = len(runs(watch, KEYS[0]))
    until_both(watch)
    until_runs(watch, len(runs(watch, KEYS[0])) + 12)
    assert kill(nodes) == 2
    until_runs(watch, len(runs(watch, KEYS[0])) + 3)
    for key in KEYS:
        recurring_task.unschedule(key)
    assert killed >= 6

    for key in KEYS:
        rows = runs(watch, key)
        times = [at for at, _, _ in rows]
        late = [(enqueued - at).total_seconds() for at, enqueued, _ in rows]
        gaps = [(b - a).total_seconds() for a, b in pairwise(times)]
        assert all(gap.is_integer() and gap >= 1 for gap in gaps)
        assert max(gaps[:one_by_one], default=0) <= TAKEN_OVER
        assert max(late[:one_by_one], default=0) <= TAKEN_OVER
        assert max(gaps) <= RESTARTED
        assert max(late) <= RESTARTED
    wrong = watch.rows(
        "select e.job from steady_queue_recurring_executions e "
        "left join steady_queue_jobs j on j.id = e.job "
        "group by e.job having count(*) <> 1 or count(j.id) <> 1"
    )
    assert wrong == []
    total = watch.value("select count(*) from steady_queue_recurring_executions")
    assert watch.value("select count(*) from steady_queue_jobs") == total
    watch.until_states(successful=total)
