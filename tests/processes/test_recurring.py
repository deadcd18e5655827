"""Schedules with seconds, real schedulers, and polling once an hour."""

import os
import signal
from itertools import pairwise

import pytest
from django.db import connection

from steady_queue import recurring_task
from tests.app.tasks import speak

pytestmark = pytest.mark.processes

EVERY_SECOND = "* * * * * * *"


def runs(watch):
    return [
        at
        for (at,) in watch.rows(
            "select run_at from steady_queue_recurring_executions order by run_at"
        )
    ]


def test_a_schedule_made_at_run_time_is_picked_up_at_once(node, watch):
    node()
    watch.until_idle(3)
    recurring_task.schedule(speak, EVERY_SECOND, "tick", args=["tick"], missed="all")
    watch.until(lambda: len(watch.heard()) >= 3, "three ticks")
    recurring_task.unschedule("tick")
    times = runs(watch)
    gaps = {(b - a).total_seconds() for a, b in pairwise(times)}
    assert gaps == {1.0}


def test_two_schedulers_enqueue_each_run_once_though_one_is_killed(node, watch):
    first, _second = node(), node()
    watch.until_idle(6)
    recurring_task.schedule(speak, EVERY_SECOND, "tick", args=["tick"], missed="all")
    for count in (2, 4):
        watch.until(lambda count=count: len(runs(watch)) >= count, f"{count} runs")
        for pid in first.pids("scheduler"):
            os.kill(pid, signal.SIGKILL)
    watch.until(lambda: len(runs(watch)) >= 6, "six runs")
    recurring_task.unschedule("tick")
    times = runs(watch)
    assert {(b - a).total_seconds() for a, b in pairwise(times)} == {1.0}
    jobs = watch.value("select count(distinct job) from steady_queue_recurring_executions")
    assert jobs == len(times)
    assert watch.value("select count(*) from steady_queue_jobs") == len(times)


def test_a_run_asked_for_from_psql_happens_now(node, watch):
    node()
    recurring_task.schedule(speak, "0 0 1 1 *", "yearly", args=["happy new year"])
    watch.until_idle(3)
    with connection.cursor() as cursor:
        cursor.execute("select steady_queue_run_recurring_task_now('yearly')")
    watch.hear("happy new year")


def test_a_paused_schedule_rests(node, watch):
    recurring_task.schedule(speak, EVERY_SECOND, "tick", args=["tick"])
    recurring_task.pause("tick")
    node()
    watch.until_idle(3)
    assert runs(watch) == []
    recurring_task.resume("tick")
    watch.hear("tick")


def test_a_schedule_that_cannot_be_read_rests_and_the_others_go_on(node, watch, capfd):
    for key, schedule, zone in [
        ("odd", "every day", "UTC"),
        ("nowhere", EVERY_SECOND, "Mars/Base"),
        ("a folder", EVERY_SECOND, "Europe"),
    ]:
        watch.rows("select steady_queue_schedule_task(%s, 't', %s, %s)", key, schedule, zone)
    recurring_task.schedule(speak, EVERY_SECOND, "tick", args=["tick"])
    node()
    watch.hear("tick")
    resting = "select key from steady_queue_recurring_tasks where next_run_at = 'infinity'"
    watch.until(lambda: len(watch.rows(resting)) == 3, "three that rest")
    said = capfd.readouterr().err
    assert said.count("unreadable: key=") == 3
    assert "died" not in said


def test_skip_recurring_starts_no_scheduler(node, watch):
    node("--skip-recurring")
    watch.until_idle(2)
    assert watch.processes("scheduler") == []
