"""With every polling interval an hour, only events make anything happen."""

import os
import signal
from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.tasks import default_task_backend

from tests.app.tasks import gated, limited_gated, nap, noop, speak

pytestmark = pytest.mark.processes


def test_a_task_is_performed_when_its_transaction_commits(node, watch):
    node("--only-work")
    watch.until_idle()
    with transaction.atomic():
        speak.enqueue("committed")
    with transaction.atomic():
        speak.enqueue("rolled back")
        transaction.set_rollback(True)
    speak.enqueue("autocommitted")
    watch.until_states(successful=2)
    assert sorted(watch.heard()) == ["autocommitted", "committed"]


def test_tasks_that_were_there_before_the_worker_are_performed(node, watch):
    speak.enqueue("early")
    node("--only-work")
    watch.hear("early")


def test_a_deferred_task_is_performed_at_its_time_and_not_before(node, watch):
    node()
    watch.until_idle(2)
    result = speak.using(run_after=timedelta(seconds=1)).enqueue("deferred")
    watch.hear("deferred")
    early = watch.value("select min(at) < %s from heard", result.task.run_after)
    assert not early


def test_an_earlier_time_overtakes_a_later_one(node, watch):
    node()
    speak.using(run_after=timedelta(hours=1)).enqueue("in an hour")
    watch.until_idle(2)
    speak.using(run_after=timedelta(milliseconds=200)).enqueue("soon")
    watch.hear("soon")


def test_a_task_enqueued_by_sql_is_performed(node, watch):
    node("--only-work")
    watch.until_idle()
    with connection.cursor() as cursor:
        cursor.execute(
            """select steady_queue_enqueue('tests.app.tasks.speak', args => '["from psql"]')"""
        )
    watch.hear("from psql")


def test_a_queue_never_seen_wakes_a_worker_of_any_queue_and_of_its_prefix(node, watch):
    node("--only-work", workers=[{"queues": ["mail*"]}])
    watch.until_idle()
    speak.using(queue_name="mail_new").enqueue("new queue")
    watch.hear("new queue")


def test_a_paused_queue_rests_until_it_is_resumed(node, watch):
    node("--only-work")
    watch.until_idle()
    with connection.cursor() as cursor:
        cursor.execute("select steady_queue_pause_queue('default')")
        speak.enqueue("patient")
        noop.using(queue_name="other").enqueue()
        watch.until_states(ready=1, successful=1)
        watch.until_idle()
        cursor.execute("select steady_queue_resume_queue('default')")
    watch.hear("patient")


def test_every_one_of_many_tasks_is_performed_once(node, watch):
    node("--only-work", workers=[{"processes": 2, "threads": 4}])
    default_task_backend.enqueue_all([(speak, [number], {}) for number in range(500)])
    for number in range(500, 600):
        speak.enqueue(number)
    watch.until_states(successful=600)
    assert sorted(map(int, watch.heard())) == list(range(600))


def test_a_worker_goes_on_after_its_listening_connection_was_cut(node, watch):
    node("--only-work")
    watch.until_idle()
    watch.cut_sessions()
    speak.enqueue("after the cut")
    watch.hear("after the cut")


def test_jobs_enqueued_at_once_are_spread_over_all_that_have_room(node, watch):
    watch.close_gate()
    node("--only-work", workers=[{"processes": 3, "threads": 1}])
    watch.until_idle(3)
    default_task_backend.enqueue_all([(gated, [number], {}) for number in range(4)])
    watch.until_states(running=3, ready=1)
    watch.open_gate()
    watch.until_states(successful=4)


def test_a_job_whose_turn_it_is_for_a_stopped_worker_is_performed_by_the_next(node, watch):
    first = node("--only-work", workers=[{"processes": 2}])
    watch.until_idle(2)
    speak.enqueue("before")
    watch.until_states(successful=1)
    performer = watch.value(
        "select p.pid from steady_queue_processes p "
        "join steady_queue_outcomes o on o.process = p.id"
    )
    os.kill(performer, signal.SIGSTOP)
    speak.enqueue("meanwhile")
    watch.hear("meanwhile")
    # On a slow machine it was given up meanwhile.
    with suppress(ProcessLookupError):
        os.kill(performer, signal.SIGCONT)
    assert first.process.poll() is None


def test_flush_leaves_a_working_queue(node, watch):
    from django.core.management import call_command

    node("--only-work")
    watch.until_idle()
    call_command("flush", interactive=False, verbosity=0)
    speak.enqueue("after the flush")
    watch.hear("after the flush")


def test_jobs_claimed_ahead_are_given_back_when_the_threads_are_busy_with_something_long(
    node, watch
):
    first = node("--only-work", workers=[{"threads": 1}])
    default_task_backend.enqueue_all([(noop, [], {})] * 2000)
    watch.until_states(successful=2000)
    # It has learned that tasks are short, and claims ahead of its one thread.
    default_task_backend.enqueue_all([(nap, [3600], {}), *[(noop, [], {})] * 20])
    watch.hear("nap begins")
    node("--only-work", workers=[{"threads": 1}])
    watch.until_states(successful=2020, running=1)
    assert first.process.poll() is None


def test_a_blocked_job_of_a_resumed_queue_is_let_in_at_once(node, watch):
    never = {"polling_seconds": 3600, "concurrency_maintenance_seconds": 3600}
    watch.close_gate()
    node(dispatchers=[never])
    watch.until_idle(2)
    for word in ("one", "two"):
        limited_gated.enqueue(word)
    limited_gated.using(queue_name="mail").enqueue("three")
    watch.until_states(running=2, blocked=1)
    watch.rows("select steady_queue_pause_queue('mail')")
    watch.open_gate()
    watch.until_states(successful=2, blocked=1)
    watch.rows("select steady_queue_resume_queue('mail')")
    watch.until_states(successful=3)
