import json
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError

from steady_queue import queries, recurring_task
from steady_queue.management import look
from steady_queue.management.layout import span
from tests.app.tasks import noop
from tests.django.command import Terminal, refusal, run

pytestmark = pytest.mark.django_db(transaction=True)

ERROR = {
    "exception_class": "shop.Broken",
    "message": "no \x1b[31mpaper",
    "traceback": "line 1\nline 2",
}


@pytest.fixture
def busy(queue, sql):
    """A queue with something of everything; the jobs by state."""
    worker = queue.process()
    failed = queue.enqueue("shop.print", queue="mail")
    queue.finish(queue.claim(worker), error=json.dumps(ERROR))
    running, blocked = queue.enqueue_limited("printer", queue="mail", count=2)
    queue.claim(worker)
    scheduled = queue.enqueue(queue="mail", run_after="2999-01-01")
    ready = queue.enqueue("shop.other", queue="web", args='["secret"]')
    sql("select steady_queue_pause_queue('web')")
    recurring_task.schedule(noop, "0 3 * * *", "nightly")
    sql("update steady_queue_recurring_tasks set next_run_at = '2999-01-01 00:00+00'")
    return {
        "failed": failed, "running": running, "blocked": blocked, "scheduled": scheduled,
        "ready": ready,
    }  # fmt: skip


def test_status_shows_everything_on_one_screen(busy):
    said = run("status")
    lines = [line.split() for line in said.splitlines()]
    assert ["mail", "0", "1", "1", "1", "0", "0.0", "-", "no"] in lines
    [web] = [line for line in lines if line[:1] == ["web"]]
    assert (web[1], web[-1]) == ("1", "yes")
    assert any(line[:3] == ["shop.print", "shop.Broken", "1"] for line in lines)
    assert any(line[1:3] == ["worker", "test"] for line in lines)
    assert any(line[:3] == ["printer", "1", "1"] for line in lines)
    assert any(line[:1] == ["nightly"] and "2999-01-01" in line for line in lines)
    titles = [line for line in said.splitlines() if line and not line.startswith(" ")][1:]
    assert titles == list(look.STATUS.values())


def test_status_says_that_there_is_nothing():
    assert run("status").count("\n  none") == 4


def test_status_as_json_has_the_same_figures_with_spans_in_seconds(busy):
    status = json.loads(run("status", "--json"))
    assert set(status) == set(queries.STATUS) == set(look.STATUS)
    mail = next(q for q in status["queues"] if q["queue"] == "mail")
    assert [mail[s] for s in ("ready", "scheduled", "blocked", "running")] == [0, 1, 1, 1]
    assert status["schedules"][0]["next_run_at"] == "2999-01-01T00:00:00+00:00"
    assert isinstance(status["processes"][0]["silent_for"], float)


def test_status_is_read_in_one_snapshot(busy, django_assert_num_queries):
    with django_assert_num_queries(3 + len(queries.STATUS)) as captured:
        run("status")
    assert "repeatable read read only" in captured[1]["sql"]


def interrupt_after(times):
    waits = []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == times:
            raise KeyboardInterrupt

    return waits, wait


def test_watch_shows_it_again_until_it_is_interrupted(busy, monkeypatch):
    waits, wait = interrupt_after(3)
    monkeypatch.setattr(look, "wait", wait)
    out = Terminal()
    with pytest.raises(look.CommandError, match="interrupted") as raised:
        run("status", "--watch", "0.5", out=out)
    assert raised.value.returncode == 130
    assert waits == [0.5, 0.5, 0.5]
    assert out.getvalue().count("shop.print") == 3


def test_watch_outlives_a_database_that_is_away(monkeypatch):
    _, wait = interrupt_after(2)
    monkeypatch.setattr(look, "wait", wait)
    shown = iter([OperationalError("gone\nfor now"), "back"])

    def read():
        found = next(shown)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(look, "_status_text", read)
    out = Terminal()
    with pytest.raises(look.CommandError):
        run("status", "--watch", out=out)
    assert out.getvalue() == f"{look.CLEAR_SCREEN}gone\n{look.CLEAR_SCREEN}back\n"


@pytest.mark.parametrize("bad", ["0", "-1", "x", "nan", "inf"])
def test_a_bad_span_is_refused(bad):
    expected = f"expected a number of seconds above 0, got '{bad}'"
    assert expected in refusal("status", f"--watch={bad}")
    assert expected in refusal("health", f"--max-age={bad}")


def listed(*arguments):
    return [int(line.split()[0]) for line in run("jobs", *arguments).splitlines()[1:]]


def test_jobs_lists_the_newest_first(busy):
    assert listed() == sorted(busy.values(), reverse=True)


def test_jobs_can_be_chosen_by_state_queue_and_task(busy):
    for state, job in busy.items():
        assert listed("--state", state) == [job]
    assert listed("--queue", "web") == [busy["ready"]]
    assert listed("--task", "shop.print") == [busy["failed"]]
    assert run("jobs", "--queue", "web", "--state", "failed") == "no such jobs\n"


def test_jobs_says_when_there_may_be_more(busy):
    lines = run("jobs", "--limit", 2).splitlines()
    assert len(lines) == 4
    assert lines[-1] == "the newest 2: --limit shows more"


@pytest.mark.parametrize(
    "arguments", [("--state", "odd"), ("--limit", "0"), ("--limit", "many"), ("--limit", "9" * 20)]
)
def test_bad_choices_of_jobs_are_refused(arguments):
    assert f"'{arguments[1]}'" in refusal("jobs", *arguments)


def test_show_tells_all_about_a_failure_but_no_escape_of_a_terminals(busy):
    said = run("show", busy["failed"])
    assert "  state: failed\n" in said
    assert "  enqueued in queue mail, priority 0\n" in said
    assert "attempt 1: shop.Broken: no \\x1b[31mpaper\n  line 1\n  line 2\n" in said
    assert "\x1b" not in said


def test_show_tells_the_arguments_only_when_asked(busy):
    assert "secret" not in run("show", busy["ready"])
    assert '  arguments: {"args" : ["secret"], "kwargs" : {}}\n' in run(
        "show", busy["ready"], "--arguments"
    )


def test_show_tells_arguments_that_python_cannot_read(queue):
    job = queue.enqueue(args=f"[{'9' * 5000}]")
    assert "9" * 5000 in run("show", job, "--arguments")


def test_show_refuses_an_unknown_job():
    assert refusal("show", 987654).startswith("no such job: 987654")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"), (9.94, "9.9 s"), (12, "12 s"), (60, "1 min"), (3725, "1 h 2 min"),
        (90061, "1 d 1 h"), (-90, "-1 min 30 s"),
    ],
)  # fmt: skip
def test_spans_are_told_in_their_largest_units(seconds, text):
    assert span(timedelta(seconds=seconds)) == text


def test_moments_are_told_in_the_projects_zone(queue):
    job = queue.enqueue(run_after=datetime(2999, 7, 1, tzinfo=UTC))
    assert "  run after: 2999-07-01 02:00:00 CEST\n" in run("show", job)
