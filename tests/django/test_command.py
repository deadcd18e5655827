from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from steady_queue import embedded, recurring_task
from steady_queue.signals import queue_paused, queue_resumed
from tests.app.tasks import noop
from tests.conftest import Queue
from tests.django.command import run

pytestmark = pytest.mark.django_db


def test_pause_and_resume_say_what_they_did_and_send_their_signals():
    sent = []

    def hear(signal, queue_name, changed, **kwargs):
        sent.append((signal, queue_name, changed))

    queue_paused.connect(hear)
    queue_resumed.connect(hear)
    try:
        said = [run("pause", "mail"), run("pause", "mail"), run("resume", "mail")]
    finally:
        queue_paused.disconnect(hear)
        queue_resumed.disconnect(hear)
    assert said == ["mail: paused\n", "mail: was paused already\n", "mail: resumed\n"]
    assert sent == [
        (queue_paused, "mail", True),
        (queue_paused, "mail", False),
        (queue_resumed, "mail", True),
    ]


def test_recurring_lists_the_next_three_runs_in_the_schedules_own_zone():
    recurring_task.schedule(noop, "30 9 * * *", "morning", timezone="America/New_York")
    recurring_task.schedule(noop, "@hourly", "hourly")
    recurring_task.pause("hourly")
    hourly, morning, *runs = run("recurring").splitlines()
    assert hourly.endswith("tests.app.tasks.noop  paused")
    assert morning == "morning  30 9 * * *  America/New_York  tests.app.tasks.noop  on"
    assert len(runs) == 3
    assert all(" 09:30:00 E" in line for line in runs)


@pytest.mark.parametrize(
    ("schedule", "zone", "reason"),
    [
        ("every day", "UTC", "every day"),
        ("0 3 * * *", "Mars/Base", "expected timezone to name a time zone, got 'Mars/Base'"),
        ("0 3 * * *", "Europe", "expected timezone to name a time zone, got 'Europe'"),
    ],
)
def test_recurring_says_which_schedules_cannot_be_read(schedule, zone, reason, sql):
    sql("select steady_queue_schedule_task('odd', 't', %s, %s)", schedule, zone)
    sql("select steady_queue_schedule_task('rests', 't', '0 3 * * *')")
    sql("update steady_queue_recurring_tasks set next_run_at = 'infinity'")
    _, unreadable, _, *runs = run("recurring").splitlines()
    assert unreadable.startswith("    unreadable: ")
    assert reason in unreadable
    assert len(runs) == 3


def test_recurring_lets_no_escape_of_a_terminals_through():
    recurring_task.schedule(noop, "@hourly", "\x1b[2J")
    recurring_task.pause("\x1b[2J")
    assert run("recurring").startswith("\\x1b[2J  @hourly")


def test_check_finds_nothing_in_a_healthy_queue(transactional_db):
    noop.enqueue()
    assert run("check") == run("check", "--deep") == "nothing found\n"


def test_check_prints_a_line_for_each_violation_and_fails(transactional_db, sql):
    first, second = noop.enqueue(), noop.enqueue()
    sql("update steady_queue_ready set holds_until = '2999-01-01'")
    out = StringIO()
    with pytest.raises(CommandError, match="2 found"):
        call_command("steady_queue", "check", stdout=out)
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    for job in (first, second):
        assert any(line.startswith(f"a slot belongs to its job: {job.id}: ") for line in lines)


def test_check_finds_a_job_in_no_state_when_it_reads_the_history(transactional_db, sql):
    noop.enqueue()
    sql("delete from steady_queue_ready")
    assert run("check") == "nothing found\n"
    with pytest.raises(CommandError):
        run("check", "--deep")


def test_check_knows_the_projects_settings(transactional_db, sql, monkeypatch, settings):
    noop.enqueue()
    queue = Queue(sql)
    queue.claim(queue.process())
    sql("update steady_queue_processes set heartbeat_at = clock_timestamp() - interval '50 min'")
    with pytest.raises(CommandError):
        run("check")
    monkeypatch.setattr("steady_queue.process_alive_threshold", timedelta(minutes=60))
    assert run("check") == "nothing found\n"
    queue.enqueue_limited("k", count=2)
    queue.claim(queue.process())
    ran_out = "set holds_until = clock_timestamp() - interval '50 min' where limit_key is not null"
    sql(f"update steady_queue_running {ran_out}")
    sql("update steady_queue_blocked set blocked_at = clock_timestamp() - interval '90 min'")
    with pytest.raises(CommandError):
        run("check")
    maintained_each_hour = {"concurrency_maintenance_interval": timedelta(minutes=60)}
    settings.STEADY_QUEUE = {"dispatchers": [maintained_each_hour]}
    assert run("check") == "nothing found\n"


def test_check_reads_one_snapshot_and_writes_nothing(transactional_db):
    with CaptureQueriesContext(connection) as captured:
        run("check")
    begin, isolation, check, commit = [query["sql"].lower() for query in captured]
    assert (begin, commit) == ("begin", "commit")
    assert isolation == "set transaction isolation level repeatable read read only"
    assert "steady_queue_check" in check


def test_only_work_and_only_dispatch_exclude_each_other():
    with pytest.raises(CommandError, match="exclude each other"):
        run("start", "--only-work", "--only-dispatch")


def test_embedded_says_so_when_there_is_no_such_server(monkeypatch):
    monkeypatch.setattr(embedded, "started", {})
    with pytest.raises(CommandError, match="no database of DATABASES is an embedded server"):
        run("embedded", "status")


def test_embedded_tells_whether_the_server_runs():
    if not embedded.started:
        pytest.skip("the tests run on a server named by DATABASE_URL")
    assert "running with pid" in run("embedded", "status")
