import os
import subprocess
import sys
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.db import OperationalError, connections

import steady_queue
from steady_queue import queries
from steady_queue.management import keep
from tests.conftest import PATIENCE
from tests.django.command import Terminal, refusal, run

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def old(queue, sql):
    """Five jobs that ended an hour ago."""
    for _ in range(5):
        queue.enqueue()
    queue.finish(queue.claim(queue.process()))
    sql("update steady_queue_outcomes set finished_at = finished_at - interval '1 hour'")


def test_prune_goes_on_until_all_that_is_old_is_deleted(old, queue, sql, monkeypatch):
    monkeypatch.setattr(steady_queue, "clear_finished_jobs_after", timedelta(minutes=30))
    monkeypatch.setattr(keep, "BATCH", 2)
    kept = queue.enqueue()
    said = run("prune", out=Terminal())
    assert "\r4 jobs deleted" in said
    assert said.endswith("\r\033[K5 jobs deleted\n")
    assert sql("select id from steady_queue_jobs") == [(kept,)]


def test_prune_keeps_what_the_settings_keep(old, monkeypatch):
    assert run("prune") == "0 jobs deleted\n"
    monkeypatch.setattr(steady_queue, "clear_finished_jobs_after", None)
    assert run("prune") == "0 jobs deleted\n"


@pytest.fixture
def worker(sql):
    [(number,)] = sql(
        "select steady_queue_register_process('worker', 'w', null, 'host', 1, '{*}', 3)"
    )
    return number


def test_health_wants_a_worker_that_was_heard_from(sql, monkeypatch):
    assert refusal("health") == "no worker was heard from within 00:00:30"
    sql("select steady_queue_register_process('worker', 'w', null, 'host', 1, '{*}', 3)")
    assert run("health") == "healthy\n"
    sql("update steady_queue_processes set heartbeat_at = clock_timestamp() - interval '50 min'")
    refusal("health")
    monkeypatch.setattr("steady_queue.process_alive_threshold", timedelta(minutes=60))
    assert run("health") == "healthy\n"


def test_health_wants_jobs_to_wait_no_longer_than_it_is_told(worker, queue, sql, lanes):
    lanes("default")
    queue.enqueue()
    sql("update steady_queue_jobs set enqueued_at = clock_timestamp() - interval '5 h'")
    assert run("health") == run("health", "--max-age", 86400) == "healthy\n"
    said = refusal("health", "--max-age", 60)
    assert said.startswith("a ready job of queue default has waited for 05:")


def test_health_looks_deeper_when_told_and_names_three_reasons_at_most(worker, queue, sql):
    for _ in range(5):
        queue.enqueue()
    sql("update steady_queue_ready set holds_until = '2999-01-01'")
    assert run("health") == "healthy\n"
    said = refusal("health", "--deep")
    assert said.count("a slot belongs to its job") == 3
    assert said.endswith("; and 2 more")


def test_on_a_terminal_it_says_that_it_reads_the_history_while_it_does(worker):
    for command in ("check", "health"):
        said = run(command, "--deep", out=Terminal())
        assert said.startswith("reading the whole history ...\r\033[K")
        assert said.endswith(run(command))
    assert "reading" not in run("check", "--deep")


def test_health_says_that_the_database_cannot_be_reached(monkeypatch):
    def away(*arguments):
        raise OperationalError("connection refused\nIs the server running?")

    monkeypatch.setattr(queries, "health", away)
    assert refusal("health") == "the database cannot be reached: connection refused"


def test_the_doctor_says_when_it_finds_nothing(monkeypatch):
    # Other tests leave dead rows behind.
    monkeypatch.setattr(queries, "doctor", lambda database, pooled: [])
    assert run("doctor") == "nothing found\n"


def test_the_doctor_prints_each_finding_with_what_to_do(sql):
    sql("alter table steady_queue_ready set (autovacuum_enabled = off)")
    out = StringIO()
    try:
        said = refusal("doctor", out=out)
    finally:
        sql("alter table steady_queue_ready reset (autovacuum_enabled)")
    lines = out.getvalue().splitlines()
    assert said == f"{len(lines)} found"
    assert (
        "autovacuum is off for steady_queue_ready: "
        "alter table steady_queue_ready reset (autovacuum_enabled)"
    ) in lines


def test_the_doctor_misses_a_direct_address_behind_a_pooler(monkeypatch):
    monkeypatch.setattr("steady_queue.listener.is_direct", lambda connection: False)
    out = StringIO()
    refusal("doctor", out=out)
    assert out.getvalue().splitlines()[-1] == (
        "DATABASES['default'] leads to a transaction pooler, so that workers poll: "
        "name an alias with a direct address in steady_queue.listen_database"
    )


def test_the_doctor_connects_where_the_processes_listen(monkeypatch):
    entry = {**connections["default"].settings_dict, "NAME": "no_such_database"}
    monkeypatch.setitem(connections.settings, "direct", entry)
    monkeypatch.setattr(steady_queue, "listen_database", "direct")
    out = StringIO()
    refusal("doctor", out=out)
    assert out.getvalue().splitlines()[-1].startswith("DATABASES['direct'] cannot be reached: ")


def steady_queue_process(*arguments, stdout=subprocess.PIPE, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "django", "steady_queue", *arguments],
        cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True,
        env={
            **os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings",
            "TEST_DATABASE_NAME": connections["default"].settings_dict["NAME"], **environment,
        },
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["show", "987654"], {}),
        (["show", "x"], {}),
        (["jobs", "--state", "odd"], {}),
        (["retry"], {}),
        (["--odd"], {}),
        (["health"], {"TEST_DATABASE_NAME": "no_such_database"}),
        (["status"], {"TEST_DATABASE_NAME": "no_such_database"}),
        # A database without the queue.
        (["status"], {"TEST_DATABASE_NAME": "template1"}),
        (["prune"], {"TEST_DATABASE_NAME": "template1"}),
    ],
)
def test_an_error_is_one_line_with_exit_status_1(arguments, environment):
    with steady_queue_process(*arguments, **environment) as process:
        stdout, stderr = process.communicate()
    assert process.returncode == 1
    assert len(stderr.splitlines()) == 1, stderr
    assert not stdout
    asks_for_migrate = stderr.endswith("; has manage.py migrate run?\n")
    assert asks_for_migrate == ("template1" in environment.values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["odd"], "invalid choice: 'odd'"),
        (["status", "--odd"], "unrecognized arguments: --odd"),
        (["pause", ""], "expected a queue name of 1 to 300 characters, got ''"),
        (["resume", "x" * 301], "expected a queue name of 1 to 300 characters, got 'xxx"),
    ],
)
def test_what_it_does_not_know_is_refused_in_one_line(arguments, said):
    assert said in refusal(*arguments)


def test_who_has_read_enough_of_it_ends_it_without_a_word():
    reader, writer = os.pipe()
    environment = {"PYTHONUNBUFFERED": ""}
    with steady_queue_process("status", "--watch", "0.1", stdout=writer, **environment) as process:
        os.close(writer)
        assert os.read(reader, 1)
        os.close(reader)
        assert process.wait(PATIENCE) == 141
        assert process.stderr.read() == ""
