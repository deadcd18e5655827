"""What a monitor may ask over HTTP, and who may."""

import json
import re
import sys

import pytest
from django.db import OperationalError, ProgrammingError, connections
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

import steady_queue
from steady_queue import queries
from tests.django.command import refusal, run

TOKEN = "a token of this test's"
GUARDED = ["metrics", "stats.json"]
ALL = [*GUARDED, "health"]


@pytest.fixture
def token(transactional_db, monkeypatch):
    monkeypatch.setattr(steady_queue, "monitoring_token", TOKEN)


@pytest.fixture
def worker(transactional_db, sql):
    sql("select steady_queue_register_process('worker', 'w', null, 'host', 1, '{*}', 3)")


def ask(what, token=None, scheme="Bearer", method="get", **query):
    headers = {} if token is None else {"Authorization": f"{scheme} {token}"}
    return getattr(Client(), method)(f"/steady-queue/{what}", query, headers=headers)


def away(*arguments):
    raise OperationalError("connection refused\nIs the server running?")


def missing(*arguments):
    raise ProgrammingError('relation "steady_queue_queues" does not exist\nLINE 3')


# The token.


@pytest.mark.parametrize("unset", [None, ""])
@pytest.mark.parametrize("what", GUARDED)
def test_without_a_token_in_the_settings_all_is_closed_and_says_what_to_set(
    what, unset, monkeypatch
):
    monkeypatch.setattr(steady_queue, "monitoring_token", unset)
    for sent in (None, "", "guessed"):
        answer = ask(what, sent)
        assert answer.status_code == 403
        assert "set steady_queue.monitoring_token" in answer.json()["error"]


def test_the_token_opens_and_nothing_else_does(worker, token):
    for what in ALL:
        assert ask(what, TOKEN).status_code == 200
        assert ask(what, TOKEN, scheme="bearer").status_code == 200
        for wrong in ("", "guessed", TOKEN + "x", TOKEN.upper(), "\u00e9"):
            answer = ask(what, wrong)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert TOKEN not in answer.text


def test_without_the_token_nothing_is_shown(token):
    for what in GUARDED:
        assert ask(what).status_code == 401
        assert ask(what, TOKEN, scheme="Basic").status_code == 401


def test_only_reading_is_allowed_and_nothing_is_cached(worker, token):
    for what in ALL:
        assert ask(what, TOKEN, method="post").status_code == 405
        assert "no-store" in ask(what, TOKEN).headers["Cache-Control"]


def test_logins_and_transactions_around_each_request_do_not_matter(
    worker, token, monkeypatch, settings
):
    logins = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, logins]
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    assert [ask(what, TOKEN).status_code for what in ALL] == [200, 200, 200]


# Health.


def test_health_says_in_one_word_whether_to_anybody(sql, token):
    answer = ask("health")
    assert (answer.status_code, answer.json()) == (503, {"healthy": False})
    sql("select steady_queue_register_process('worker', 'w', null, 'host', 1, '{*}', 3)")
    answer = ask("health")
    assert (answer.status_code, answer.json()) == (200, {"healthy": True})
    assert ask("health", "credentials", scheme="Basic").status_code == 200


def test_health_looks_further_only_for_who_has_the_token(worker, token):
    for more in ({"deep": ""}, {"max_age": "300"}):
        assert ask("health", **more).status_code == 401
        assert ask("health", TOKEN, **more).json() == {"healthy": True}


def test_health_gives_the_reason_that_the_command_line_gives(token):
    answer = ask("health", TOKEN)
    assert (answer.status_code, answer.json()["reason"]) == (503, refusal("health"))


def test_health_wants_jobs_to_wait_no_longer_than_it_is_told(worker, queue, sql, lanes, token):
    lanes("default")
    queue.enqueue()
    sql("update steady_queue_jobs set enqueued_at = clock_timestamp() - interval '5 min'")
    assert ask("health", TOKEN, max_age=86400).status_code == 200
    answer = ask("health", TOKEN, max_age=60)
    assert answer.status_code == 503
    assert answer.json()["reason"].startswith("a ready job of queue default has waited for 00:05:")


def test_health_looks_deeper_when_told_and_counts_what_it_finds(worker, queue, sql, token):
    for _ in range(5):
        queue.enqueue()
    sql("update steady_queue_ready set holds_until = '2999-01-01'")
    assert ask("health", TOKEN).status_code == 200
    answer = ask("health", TOKEN, deep="")
    assert answer.status_code == 503
    assert answer.json()["reason"] == "a slot belongs to its job: 5 found"
    assert refusal("health", "--deep").startswith("a slot belongs to its job: ")


def test_what_health_cannot_understand_is_refused(token):
    for query, error in [
        ({"max_age": "x"}, "expected max_age to be a number of seconds above 0, got 'x'"),
        ({"max_age": "-1"}, "expected max_age to be a number of seconds above 0, got '-1'"),
        ({"deep": "0"}, "expected deep without a value, got '0'"),
        ({"max-age": "60"}, "unknown parameter 'max-age'; known: deep, max_age"),
    ]:
        answer = ask("health", TOKEN, **query)
        assert (answer.status_code, answer.json()) == (400, {"error": error})


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (away, "the database cannot be reached: connection refused"),
        (
            missing,
            'relation "steady_queue_queues" does not exist; has manage.py migrate run?',
        ),
    ],
)
def test_without_its_database_the_queue_is_not_healthy(fault, reason, monkeypatch, token):
    monkeypatch.setattr(queries, "health", fault)
    assert ask("health", TOKEN).json() == {"healthy": False, "reason": reason}
    answer = ask("health")
    assert (answer.status_code, answer.json()) == (503, {"healthy": False})


# Figures.


@pytest.fixture
def busy(worker, queue, sql, lanes):
    """Jobs of some states; arguments, errors and limit keys with something in them."""
    lanes("default", "mail")
    failed = {"exception_class": "builtins.ValueError", "message": "secret", "traceback": "secret"}
    process = queue.process()
    queue.enqueue("shop.tasks.fail", args='["secret"]')
    queue.finish(queue.claim(process), error=json.dumps(failed))
    queue.enqueue_limited("secret", count=3)
    queue.claim(process)
    queue.enqueue("t", "mail", args='["secret"]')


def test_stats_are_those_of_the_command_line_without_limit_keys(busy, token):
    said = ask("stats.json", TOKEN)
    shown = json.loads(run("status", "--json"))
    assert said.headers["Content-Type"] == "application/json"
    assert said.json().keys() == shown.keys()
    ready = {row["queue"]: row["ready"] for row in said.json()["queues"]}
    assert (ready["default"], ready["mail"]) == (0, 1)
    for name, rows in said.json().items():
        for row, same in zip(rows, shown[name], strict=True):
            moves = {"oldest_wait", "silent_for", "up_for", "limit_key"}
            assert {k: v for k, v in row.items() if k not in moves} == {
                k: v for k, v in same.items() if k not in moves
            }
    [limit] = said.json()["limits"]
    assert limit.keys() == {"held", "blocked", "blocked_since"}


def test_what_is_in_arguments_and_errors_is_not_shown(busy, token):
    for what in GUARDED:
        assert "secret" not in ask(what, TOKEN).text
        assert "mail" in ask(what, TOKEN).text


def test_figures_say_why_they_cannot_be_read(monkeypatch, token):
    for what, name in (("stats.json", "status"), ("metrics", "metrics")):
        monkeypatch.setattr(queries, name, away)
        answer = ask(what, TOKEN)
        assert (answer.status_code, answer.json()) == (503, {"error": "connection refused"})


# Metrics.


def samples(**headers):
    """Value by name and labels."""
    answer = Client().get(
        "/steady-queue/metrics", headers={"Authorization": f"Bearer {TOKEN}", **headers}
    )
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_metrics_tell_of_queues_and_processes_what_the_views_tell(busy, sql, token):
    sql("select steady_queue_pause_queue('mail')")
    sql("update steady_queue_jobs set enqueued_at = now() - interval '1 hour' where queue = 'mail'")
    found = samples()
    of = {
        (queue, state): found["steady_queue_jobs", queue, state]
        for queue in ("default", "mail")
        for state in ("ready", "scheduled", "blocked", "running")
    }
    assert {key: count for key, count in of.items() if count} == {
        ("default", "blocked"): 2, ("default", "running"): 1, ("mail", "ready"): 1,
    }  # fmt: skip
    assert found["steady_queue_oldest_wait_seconds", "default"] == 0
    assert found["steady_queue_oldest_wait_seconds", "mail"] >= 3600
    assert found["steady_queue_queue_paused", "mail"] == 1
    assert found["steady_queue_queue_paused", "default"] == 0
    assert found["steady_queue_worker_threads",] == 3
    assert found["steady_queue_processes", "worker"] == 2
    assert found["steady_queue_processes", "scheduler"] == 0


def test_processes_that_fell_silent_are_not_counted(worker, sql, token):
    sql("update steady_queue_processes set heartbeat_at = clock_timestamp() - interval '50 s'")
    found = samples()
    assert (found["steady_queue_processes", "worker"], found["steady_queue_worker_threads",]) == (
        0, 0,
    )  # fmt: skip


FIGURES = """
    select steady_queue_add_figures(json_build_array(json_build_object(
      'queue', 'mail', 'task', 'shop.tasks.send', 'finished', 3, 'failed', 1,
      'waited', 0.5, 'ran', 7.25,
      'waits', array_fill(0, array[4]) || 2 || array_fill(0, array[17]),
      'runs', array_fill(0, array[21]) || 3)))
"""


def test_metrics_count_what_was_done_by_queue_and_task_and_never_fall(sql, token):
    sql(FIGURES)
    sql("update steady_queue_figures set minute = minute - interval '30 days'")
    sql("select steady_queue_compact_figures()")
    sql(FIGURES)
    found = samples()

    def of(name, *le):
        return found[f"steady_queue_{name}", *le, "mail", "shop.tasks.send"]

    assert (of("jobs_finished_total"), of("jobs_failed_total")) == (6, 2)
    assert (of("job_wait_seconds_count"), of("job_wait_seconds_sum")) == (4, 1)
    assert (of("job_run_seconds_count"), of("job_run_seconds_sum")) == (6, 14.5)
    waits = [of("job_wait_seconds_bucket", le) for le in ("0.01", "0.02", "5000.0", "+Inf")]
    assert waits == [0, 4, 4, 4]
    runs = [of("job_run_seconds_bucket", le) for le in ("0.001", "5000.0", "+Inf")]
    assert runs == [0, 0, 6]


def test_a_task_that_only_lost_starts_counts_without_a_wait(sql, token):
    sql("insert into steady_queue_figures (minute, queue, task, finished, failed) "
        "values (now(), 'mail', 't', 1, 1)")  # fmt: skip
    found = samples()
    assert found["steady_queue_jobs_failed_total", "mail", "t"] == 1
    assert found["steady_queue_job_run_seconds_bucket", "+Inf", "mail", "t"] == 0


def test_metrics_tell_when_schedules_ran_and_will(sql, token):
    for key in ("nightly", "resting", "gone"):
        sql("select steady_queue_schedule_task(%s, 't', '0 3 * * *')", key)
    sql(
        "update steady_queue_recurring_tasks set last_run_at = to_timestamp(1000), "
        "next_run_at = case key when 'nightly' then to_timestamp(2000) else 'infinity' end"
    )
    sql("select steady_queue_pause_recurring_task('resting')")
    sql("select steady_queue_unschedule_task('gone')")
    found = samples()
    name = "steady_queue_recurring_{}_run_timestamp_seconds".format
    assert found[name("last"), "nightly"] == found[name("last"), "resting"] == 1000
    assert found[name("next"), "nightly"] == 2000
    assert (name("next"), "resting") not in found
    assert found["steady_queue_recurring_paused", "resting"] == 1
    assert not [key for key in found if "gone" in key]


def test_names_may_hold_anything(queue, token):
    odd = 'a "quoted" \\ \n name \U0001f4ec'
    queue.enqueue(queue=odd)
    assert samples()["steady_queue_jobs", odd, "ready"] == 1


def test_metrics_come_in_the_format_that_is_asked_for(token):
    plain = ask("metrics", TOKEN)
    assert plain.headers["Content-Type"].startswith("text/plain; version=")
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/openmetrics-text"}
    open_metrics = Client().get("/steady-queue/metrics", headers=headers)
    assert open_metrics.headers["Content-Type"].startswith("application/openmetrics-text")
    assert open_metrics.text.endswith("# EOF\n")


def test_without_the_package_metrics_say_what_to_install(monkeypatch, token):
    monkeypatch.delitem(sys.modules, "steady_queue.metrics", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    answer = ask("metrics", TOKEN)
    assert answer.status_code == 501
    assert "pip install 'steady-queue[metrics]'" in answer.json()["error"]


def test_metrics_do_not_read_the_history(sql):
    sql(
        "insert into steady_queue_jobs (task, queue, priority, arguments) "
        "select 't', 'q', 0, '{}' from generate_series(1, 20000)"
    )
    sql(
        "insert into steady_queue_outcomes (job, status, attempt, lost_starts, finished_at) "
        "select id, 'successful', 1, 0, now() from steady_queue_jobs"
    )
    sql("analyze steady_queue_jobs, steady_queue_outcomes")
    for statement in queries.METRICS.values():
        asked = statement.replace("%s", "interval '30 seconds'")
        plan = "\n".join(line for (line,) in sql(f"explain {asked}"))
        assert "Scan" in plan
        assert not re.search(r"Seq Scan on steady_queue_(outcomes|errors)", plan), plan
