"""The schema as Django migrates it, empties it and reads it."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connections, router, transaction
from django.test import TransactionTestCase
from django.utils import timezone

import steady_queue
from steady_queue import queries
from steady_queue.models import Job, JobState
from steady_queue.sql_files import sql_folder
from tests.app.tasks import noop, speak
from tests.conftest import Queue, connect

OURS = apps.get_app_config("steady_queue")
MODELS = list(OURS.get_models())
QUEUE_TABLES = """
    select relname from pg_class
    where relnamespace = current_schema()::regnamespace and starts_with(relname, 'steady_queue')
    union all
    select proname from pg_proc
    where pronamespace = current_schema()::regnamespace and starts_with(proname, 'steady_queue')
"""
OLD_TABLES = [
    "job", "failedexecution", "pause", "process", "claimedexecution", "readyexecution",
    "recurringtask", "recurringexecution", "scheduledexecution", "semaphore", "blockedexecution",
]  # fmt: skip


class OnlyTheQueue:
    """Keeps the tables of other apps out of the queue's database."""

    def allow_migrate(self, db, app_label, **hints):
        return False if db == "second" and app_label != "steady_queue" else None


@pytest.fixture
def second(db, monkeypatch, settings):
    """An empty database, named by ``steady_queue.database``; runs statements in it."""
    entry = dict(connections["default"].settings_dict)
    entry["NAME"] += "_second"
    owner = connect(autocommit=True)
    owner.execute(f'drop database if exists "{entry["NAME"]}" with (force)')
    owner.execute(f'create database "{entry["NAME"]}"')
    connections.settings["second"] = entry
    settings.DATABASE_ROUTERS = [
        "steady_queue.db_router.SteadyQueueRouter",
        f"{__name__}.OnlyTheQueue",
    ]
    # The test case knows nothing of this alias and would forbid it to connect by itself.
    connections["second"].connect()

    def run(statement, *arguments):
        with connections["second"].cursor() as cursor:
            cursor.execute(statement, arguments or None)
            return cursor.fetchall() if cursor.description else []

    with monkeypatch.context() as patch:
        patch.setattr(steady_queue, "database", "second")
        yield run
    connections["second"].close()
    del connections["second"], connections.settings["second"]
    owner.execute(f'drop database "{entry["NAME"]}" with (force)')
    owner.close()


def migrate(*arguments, **options):
    call_command("migrate", *arguments, verbosity=0, **{"database": "second", **options})


def enqueued_and_claimed(run):
    """Whether a job enqueued now is the one that is claimed next."""
    queue = Queue(run)
    number = int(noop.enqueue().id)
    return list(queue.claim(queue.process())) == [number]


# Migrating.


def test_the_models_need_no_further_migration(db):
    call_command("makemigrations", "steady_queue", check=True, dry_run=True, verbosity=0)


@pytest.mark.parametrize("backwards", [False, True])
def test_sqlmigrate_shows_the_sql_that_runs(db, backwards):
    shown = StringIO()
    call_command("sqlmigrate", "steady_queue", "0001", backwards=backwards, stdout=shown)
    name = "0001_queue.reverse.sql" if backwards else "0001_queue.sql"
    assert (sql_folder() / "migrations" / name).read_text().strip() in shown.getvalue()


def test_each_sql_migration_belongs_to_a_django_migration_and_has_its_reverse():
    folder = sql_folder() / "migrations"
    names = {path.name.removesuffix(".sql") for path in folder.glob("*.sql")}
    forwards = {name for name in names if not name.endswith(".reverse")}
    assert names == forwards | {f"{name}.reverse" for name in forwards}
    known = {path.stem for path in (sql_folder().parent / "steady_queue/migrations").glob("0*.py")}
    assert forwards <= known


def test_migrating_to_zero_removes_everything_and_migrating_again_brings_it_back(second):
    migrate("steady_queue")
    there = sorted(second(QUEUE_TABLES))
    Queue(second).enqueue()
    migrate("steady_queue", "zero")
    assert second(QUEUE_TABLES) == []
    migrate("steady_queue")
    assert sorted(second(QUEUE_TABLES)) == there
    assert second("select count(*) from steady_queue_jobs") == [(0,)]
    assert enqueued_and_claimed(second)


def test_migrating_makes_the_lanes_of_the_tasks_that_are_known(second):
    migrate("steady_queue")
    assert ("default", 0) in second("select queue, priority from steady_queue_lanes")
    noop.enqueue()
    assert second("select count(*) from steady_queue_ready where lane = 0") == [(0,)]


def test_migrating_another_app_first_does_not_need_our_tables(second):
    migrate("contenttypes")
    assert not queries.is_installed("second")
    migrate("steady_queue")
    assert queries.is_installed("second")


def test_what_the_old_package_left_is_neither_in_the_way_nor_touched(second):
    second(
        "create table django_migrations (id bigint primary key generated always as identity, "
        "app varchar(255) not null, name varchar(255) not null, applied timestamptz not null)"
    )
    second(
        "insert into django_migrations (app, name, applied) "
        "values ('steady_queue', '0001_initial', now())"
    )
    for name in OLD_TABLES:
        second(f"create table steady_queue_{name} (id bigserial primary key, job_id bigint)")
        second(f"insert into steady_queue_{name} (job_id) values (1)")
    migrate("steady_queue")
    assert enqueued_and_claimed(second)
    migrate("steady_queue", "zero")
    for name in OLD_TABLES:
        assert second(f"select id from steady_queue_{name}") == [(1,)]


# A database of the queue's own.


def test_with_the_router_the_tables_are_in_the_queues_database_only(second, sql):
    migrate("steady_queue")
    for model in MODELS:
        assert router.db_for_read(model) == router.db_for_write(model) == "second"
        assert router.allow_migrate_model("second", model)
        assert not router.allow_migrate_model("default", model)
    assert router.db_for_write(apps.get_model("auth.User")) == "default"


def test_with_the_router_jobs_are_written_to_and_read_from_the_queues_database(second, sql):
    migrate("steady_queue")
    job = int(speak.enqueue("a").id)
    assert second("select id from steady_queue_jobs") == [(job,)]
    assert sql("select count(*) from steady_queue_jobs") == [(0,)]
    [read] = JobState.objects.all()
    assert (read.pk, read.state, read.arguments) == (job, "ready", {"args": ["a"], "kwargs": {}})
    assert Job.objects.db == "second"


# Emptying.


def all_tables(run):
    return [
        name
        for (name,) in run(
            "select relname from pg_class where relkind = 'r' "
            "and relnamespace = current_schema()::regnamespace "
            "and starts_with(relname, 'steady_queue')"
        )
    ]


@pytest.mark.parametrize("inhibit_post_migrate", [False, True])
def test_after_flush_the_queue_is_empty_and_works(transactional_db, sql, inhibit_post_migrate):
    before = fill(sql)
    call_command("flush", interactive=False, verbosity=0, inhibit_post_migrate=inhibit_post_migrate)
    for table in all_tables(sql):
        if table != "steady_queue_lanes":
            assert sql(f"select count(*) from {table}") == [(0,)], table
    assert enqueued_and_claimed(sql)
    [(number,)] = sql("select id from steady_queue_jobs")
    assert number > max(before.values())


def test_flush_makes_the_lanes_of_known_tasks_again(transactional_db, sql):
    call_command("flush", interactive=False, verbosity=0)
    assert ("default", 0) in sql("select queue, priority from steady_queue_lanes")


def test_a_worker_that_a_flush_has_forgotten_is_told_so(transactional_db, queue):
    worker = queue.process()
    call_command("flush", interactive=False, verbosity=0)
    noop.enqueue()
    with pytest.raises(Exception, match=f"process {worker} is not registered"):
        queue.claim(worker)
    assert queue.process() > worker


class TestCasesThatCommit(TransactionTestCase):
    """Each of them finds what the others flushed."""

    def run_statement(self, statement, *arguments):
        with connections["default"].cursor() as cursor:
            cursor.execute(statement, arguments or None)
            return cursor.fetchall() if cursor.description else []

    def assert_works(self):
        assert not Job.objects.exists()
        with transaction.atomic():
            assert enqueued_and_claimed(self.run_statement)
        assert Job.objects.count() == 1

    def test_the_first_finds_a_working_queue(self):
        self.assert_works()

    def test_the_second_finds_a_working_queue(self):
        self.assert_works()


# Reading.


def fill(run):
    """A row in every table and view; the jobs by their states."""
    queue = Queue(run)
    worker = queue.process()
    made = {}
    made["running"], made["blocked"] = queue.enqueue_limited("k", queue="limits", count=2)
    queue.claim(worker, "limits")
    made["failed"] = queue.enqueue()
    error = {"exception_class": "builtins.ValueError", "message": "boom", "traceback": "Traceback"}
    queue.finish(queue.claim(worker), json.dumps(error))
    made["ready"] = queue.enqueue(args='[1, {"two": [null, 3.5]}]', kwargs='{"a": "é"}')
    made["scheduled"] = queue.enqueue(run_after=timezone.now() + timedelta(hours=1))
    run("select steady_queue_pause_queue('mail')")
    run(
        "insert into steady_queue_recurring_tasks (key, task, schedule, timezone) "
        "values ('nightly', 't', '0 3 * * *', 'UTC')"
    )
    run(
        "insert into steady_queue_recurring_executions (key, run_at, job) "
        "values ('nightly', now(), %s)",
        made["ready"],
    )
    run("select steady_queue_ensure_lanes('{default}', '{0}')")
    run("""select steady_queue_add_figures('[{"queue": "mail", "task": "t", "finished": 1,
      "failed": 0, "waited": 0, "ran": 0.5, "waits": [1], "runs": [0, 1]}]')""")
    return made


BY_THE_CLOCK = ("oldest_wait", "finished_per_minute")


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_each_model_reads_what_sql_wrote_in_one_query(sql, django_assert_num_queries, model):
    fill(sql)
    fields = [f for f in model._meta.concrete_fields if f.column and f.attname not in BY_THE_CLOCK]
    columns = ", ".join(field.column for field in fields)
    stored = sql(f"select {columns} from {model._meta.db_table}")
    assert stored
    with django_assert_num_queries(1):
        rows = list(model.objects.all())
    read = [tuple(getattr(row, field.attname) for field in fields) for row in rows]
    assert sorted(read, key=repr) == sorted(stored, key=repr)


def test_a_job_leads_to_its_state_and_its_errors(sql):
    made = fill(sql)
    failed = Job.objects.get(pk=made["failed"])
    assert (failed.outcome.status, failed.job_errors.get().message) == ("failed", "boom")
    assert Job.objects.get(pk=made["running"]).runningjob.limit_key == "k"
    assert Job.objects.get(readyjob__isnull=False).pk == made["ready"]
