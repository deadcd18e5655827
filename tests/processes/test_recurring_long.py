"""One-second schedules on two nodes whose schedulers are killed all the time."""

import os
import signal
from datetime import timedelta
from itertools import pairwise

import pytest

from steady_queue import recurring_task
from tests.app.tasks import noop

pytestmark = [pytest.mark.processes, pytest.mark.slow]

EVERY_SECOND = "* * * * * * *"
SECOND = timedelta(seconds=1)
DEATHS = 4
"""Of schedulers, one by one; both die together after that."""
AT_ONCE = {"TEST_STEADY_AFTER": "0"}
"""Every death is the first, and is answered at once."""


def runs(watch, key):
    """When each run was due, and when it was enqueued."""
    return watch.rows(
        "select run_at, enqueued_at from steady_queue_recurring_executions "
        "where key = %s and job is not null order by run_at",
        key,
    )


def until_runs(watch, more):
    """One after the other: the patience of ``until`` is for one event."""
    count = len(runs(watch, "every"))
    for wanted in range(count + 1, count + more + 1):
        watch.until(lambda wanted=wanted: len(runs(watch, "every")) >= wanted, f"run {wanted}")


def kill_schedulers(watch, *nodes, away=timedelta(0)):
    """Kill them and wait until they are replaced and rest; when they were killed and were back.

    Their supervisors replace them no earlier than after ``away``.
    """
    pids = [watch.until(lambda n=node: n.pids("scheduler"), "a scheduler")[0] for node in nodes]
    for node in nodes:
        node.signal(signal.SIGSTOP)
    killed_at = watch.value("select clock_timestamp()")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    watch.until(lambda: watch.value("select clock_timestamp() - %s > %s", killed_at, away))
    for node in nodes:
        node.signal(signal.SIGCONT)
    # A scheduler arms after it has looked. Sessions of the killed ones may linger: only new count.
    watch.until(
        lambda: (
            watch.value(
                "select count(distinct pid) from pg_locks join pg_stat_activity using (pid) "
                "where locktype = 'advisory' and mode = 'ShareLock' and granted "
                "and datname = current_database() and backend_start > %s",
                killed_at,
            )
            >= len(nodes)
        ),
        "new schedulers",
    )
    return killed_at, watch.value("select clock_timestamp()")


def test_schedulers_killed_again_and_again_enqueue_every_run_once(node, watch):
    nodes = [node(env=AT_ONCE), node(env=AT_ONCE)]
    watch.until_idle(6)
    recurring_task.schedule(noop, EVERY_SECOND, "every", missed="all")
    recurring_task.schedule(noop, EVERY_SECOND, "latest")
    for killed in range(DEATHS):
        until_runs(watch, 1)
        kill_schedulers(watch, nodes[killed % 2])
    until_runs(watch, 1)
    dead = [kill_schedulers(watch, *nodes, away=away) for away in (0 * SECOND, 2 * SECOND)]
    until_runs(watch, 2)
    for key in ("every", "latest"):
        recurring_task.unschedule(key)

    # However late a busy machine looks: where all are asked for, none is missing and none is twice.
    due = [at for at, _ in runs(watch, "every")]
    assert {b - a for a, b in pairwise(due)} == {SECOND}

    # Where the latest is enough, a run is passed over only when the one after it was due, too, by
    # the time somebody looked; and who is back has caught up with the second in which all died.
    latest = runs(watch, "latest")
    assert all(0 < (b - a) / SECOND == int((b - a) / SECOND) for (a, _), (b, _) in pairwise(latest))
    assert all(enqueued >= at for at, enqueued in latest)
    assert max(b - a for (a, _), (b, _) in pairwise(latest)) > SECOND
    for killed_at, back_at in dead:
        caught_up = max(at for at, enqueued in latest if enqueued <= back_at)
        assert caught_up > killed_at - SECOND

    jobs = watch.value("select count(distinct job) from steady_queue_recurring_executions")
    assert watch.value("select count(*) from steady_queue_recurring_executions") == jobs
    assert watch.value("select count(*) from steady_queue_jobs") == jobs
    watch.until_states(successful=jobs)
