from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from steady_queue import embedded, recurring_task
from steady_queue.signals import queue_paused, queue_resumed
from tests.app.tasks import noop

pytestmark = pytest.mark.django_db


def run(*arguments):
    out = StringIO()
    call_command("steady_queue", *arguments, stdout=out)
    return out.getvalue()


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
