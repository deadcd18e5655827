"""What cannot work is said by ``manage.py check``, with the way out."""

import re
import sys
from datetime import timedelta

import pytest
from django.core.checks import ERROR, WARNING, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connections
from django.db.utils import OperationalError

import steady_queue
from steady_queue.configuration import Configuration

OURS = "steady_queue.backend.SteadyQueueBackend"
ROUTER = "steady_queue.db_router.SteadyQueueRouter"
LITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}


@pytest.fixture
def alias():
    """Adds an alias to DATABASES until the test ends."""
    made = []

    def add(name, **entry):
        connections.settings[name] = {**connections.settings["default"], **entry}
        made.append(name)
        return name

    yield add
    for name in made:
        connections[name].close()
        # Those in memory stay open when they are closed.
        connections[name].connection = None
        del connections[name], connections.settings[name]


def found(databases=None):
    """Our messages, by the id's last part."""
    messages = run_checks(databases=databases)
    return {
        message.id.removeprefix("steady_queue."): message
        for message in messages
        if message.id and message.id.startswith("steady_queue.")
    }


def text(message):
    return f"{message.msg} {message.hint or ''}"


def the_only(databases=None):
    messages = found(databases)
    assert len(messages) == 1, messages
    return messages.popitem()


def test_a_clean_project_gives_no_messages(db):
    assert found() == {}
    assert found(["default"]) == {}


def test_manage_py_check_stops_at_an_error_of_ours(settings):
    settings.STEADY_QUEUE = {"wrokers": []}
    with pytest.raises(SystemCheckError, match=r"\(steady_queue\.E001\)"):
        call_command("check")


# E001: STEADY_QUEUE.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wrokers": []}, "unknown option STEADY_QUEUE.wrokers; known: dispatchers"),
        ({"workers": [{"thread": 3}]}, "unknown option workers.thread; known: polling_interval"),
        ({"dispatchers": [{"size": 3}]}, "unknown option dispatchers.size; known: batch_size"),
        ({"workers": [3]}, "expected workers to hold Worker, got 3"),
        ({"dispatchers": ["x"]}, "expected dispatchers to hold Dispatcher, got 'x'"),
        (["workers"], "expected STEADY_QUEUE to hold Options, got ['workers']"),
        ({"workers": [{"queues": []}]}, "expected a worker's queues to be names, got []"),
        ({"workers": [{"queues": [""]}]}, "expected a worker's queues to be names, got ['']"),
        ({"workers": [{"queues": [7]}]}, "expected a worker's queues to be names, got [7]"),
        ({"workers": [{"threads": 0}]}, "expected a worker's threads to be a positive int, got 0"),
        (
            {"workers": [{"threads": True}]},
            "expected a worker's threads to be a positive int, got True",
        ),
        (
            {"workers": [{"processes": -1}]},
            "expected a worker's processes to be a positive int, got -1",
        ),
        ({"workers": [{"polling_interval": 5}]}, "a worker's polling_interval"),
        ({"workers": [{"polling_interval": timedelta(0)}]}, "a worker's polling_interval"),
        ({"dispatchers": [{"polling_interval": 5}]}, "a dispatcher's polling_interval"),
        (
            {"dispatchers": [{"batch_size": 0}]},
            "a dispatcher's batch_size to be a positive int, got 0",
        ),
        (
            {"dispatchers": [{"concurrency_maintenance_interval": 30}]},
            "a dispatcher's concurrency_maintenance_interval",
        ),
        ({"workers": 5}, "workers"),
        ({"workers": None}, "workers"),
        ({"dispatchers": None}, "dispatchers"),
        ({"workers": [{"queues": 7}]}, "queues"),
    ],
    ids=repr,
)
def test_options_that_cannot_work_are_refused_by_their_path(settings, options, message):
    settings.STEADY_QUEUE = options
    name, said = the_only()
    assert (name, said.level) == ("E001", ERROR)
    assert said.msg.startswith("STEADY_QUEUE: ")
    assert message in said.msg


def test_a_number_for_a_span_is_refused_with_the_type_that_is_expected(settings):
    settings.STEADY_QUEUE = {"workers": [{"polling_interval": 5}]}
    assert "timedelta" in text(found()["E001"])


def test_options_that_cannot_work_are_refused_where_they_are_used(settings):
    settings.STEADY_QUEUE = {"workers": [{"thread": 3}]}
    with pytest.raises(ImproperlyConfigured, match=re.escape("unknown option workers.thread")):
        Configuration.from_settings()


@pytest.mark.parametrize(
    "options",
    [
        None,
        {},
        {"workers": [{"queues": "mail", "threads": 2}], "dispatchers": []},
        Configuration.Options(workers=[Configuration.Worker(queues=["mail", "low*"])]),
        {"workers": [Configuration.Worker(polling_interval=timedelta(milliseconds=1))]},
    ],
)
def test_options_may_be_objects_or_mappings_or_left_out(settings, options):
    settings.STEADY_QUEUE = options
    assert found() == {}
    assert all(isinstance(w, Configuration.Worker) for w in Configuration.from_settings().workers)


# E002, E003, E004: the database.


def test_a_database_that_is_not_configured_is_an_error(monkeypatch):
    monkeypatch.setattr(steady_queue, "database", "gone")
    said = found()["E002"]
    assert said.level == ERROR
    assert said.msg == "steady_queue.database is 'gone', which is not in DATABASES"


def test_an_address_for_listening_that_is_not_configured_is_an_error(monkeypatch):
    monkeypatch.setattr(steady_queue, "listen_database", "gone")
    said = found()["E002"]
    assert said.level == ERROR
    assert said.msg == "steady_queue.listen_database is 'gone', which is not in DATABASES"


def test_a_database_that_is_not_postgresql_is_an_error(db, monkeypatch, alias):
    monkeypatch.setattr(steady_queue, "database", alias("lite", **LITE))
    # Django asks it for JSON, and the test case would forbid it to connect by itself.
    connections["lite"].connect()
    said = found()["E003"]
    assert said.level == ERROR
    assert (
        "steady_queue needs PostgreSQL; DATABASES['lite'] is django.db.backends.sqlite3" in said.msg
    )
    assert "steady_queue.embedded.database(...)" in said.hint
    assert "E004" not in found(["lite"])


def test_a_server_that_is_too_old_is_an_error_that_names_its_version(db, monkeypatch):
    monkeypatch.setitem(vars(connections["default"]), "pg_version", 130_012)
    name, said = the_only(["default"])
    assert (name, said.level) == ("E004", ERROR)
    assert said.msg == "the database 'default' runs PostgreSQL 13; steady_queue needs 14"
    assert "Upgrade the server" in said.hint


def test_the_oldest_server_that_is_supported_is_no_error(db, monkeypatch):
    monkeypatch.setitem(vars(connections["default"]), "pg_version", 140_000)
    assert found(["default"]) == {}


def test_the_servers_version_is_asked_only_where_a_database_is_checked(monkeypatch):
    monkeypatch.setitem(vars(connections["default"]), "pg_version", 130_012)
    assert found() == {}


def test_a_server_that_is_away_is_not_our_error(db, monkeypatch):
    def away():
        raise OperationalError("no server")

    with monkeypatch.context() as patch:
        patch.setattr(connections["default"], "ensure_connection", away)
        assert found(["default"]) == {}


# E005: heartbeats.


def test_a_threshold_below_three_heartbeats_is_an_error(monkeypatch):
    monkeypatch.setattr(steady_queue, "process_heartbeat_interval", timedelta(seconds=10))
    monkeypatch.setattr(steady_queue, "process_alive_threshold", timedelta(seconds=29))
    name, said = the_only()
    assert (name, said.level) == ("E005", ERROR)
    assert "process_alive_threshold (0:00:29) is less than three times" in said.msg
    assert "process_heartbeat_interval (0:00:10)" in said.msg
    assert "make living processes lose their jobs" in said.hint
    monkeypatch.setattr(steady_queue, "process_alive_threshold", timedelta(seconds=30))
    assert found() == {}


# E009: tracing.


def test_tracing_without_its_package_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setattr(steady_queue, "tracing", True)
    assert found() == {}
    monkeypatch.delitem(sys.modules, "steady_queue.traces")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    name, said = the_only()
    assert (name, said.level) == ("E009", ERROR)
    assert "pip install 'steady-queue[opentelemetry]'" in said.msg
    monkeypatch.setattr(steady_queue, "tracing", False)
    assert found() == {}


# E006, E007, W001: TASKS.


def test_an_option_of_a_backend_is_an_error_with_its_path(settings):
    settings.TASKS = {
        "default": {"BACKEND": OURS, "QUEUES": []},
        "mail": {"BACKEND": OURS, "QUEUES": [], "OPTIONS": {"threads": 3}},
    }
    name, said = the_only()
    assert (name, said.level) == ("E006", ERROR)
    assert said.msg == "unknown option TASKS['mail']['OPTIONS']['threads']"
    assert "STEADY_QUEUE" in said.hint


def test_an_app_that_is_not_installed_is_an_error(settings):
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "steady_queue"]
    name, said = the_only()
    assert (name, said.level) == ("E007", ERROR)
    assert "steady_queue is not in INSTALLED_APPS" in said.msg


def test_an_app_that_is_installed_by_its_config_is_no_error(settings):
    config = "steady_queue.apps.SteadyQueueConfig"
    settings.INSTALLED_APPS = [
        config if app == "steady_queue" else app for app in settings.INSTALLED_APPS
    ]
    assert found() == {}


def test_worker_queues_that_the_backend_refuses_are_a_warning_that_names_them(settings):
    settings.TASKS = {"default": {"BACKEND": OURS}}
    settings.STEADY_QUEUE = {
        "workers": [{"queues": ["default", "reports", "low*"]}, {"queues": "a"}]
    }
    name, said = the_only()
    assert (name, said.level) == ("W001", WARNING)
    assert said.msg == (
        "workers serve a, reports, but TASKS['default']['QUEUES'] is ['default']: "
        "tasks for other queues are refused"
    )
    assert said.hint == "Set TASKS['default']['QUEUES'] to [] to allow any queue."


@pytest.mark.parametrize("queues", [[], ["default", "reports"]])
def test_worker_queues_that_the_backend_takes_are_no_warning(settings, queues):
    settings.TASKS = {"default": {"BACKEND": OURS, "QUEUES": queues}}
    settings.STEADY_QUEUE = {"workers": [{"queues": ["default", "reports"]}]}
    assert found() == {}


# W002, E008: a database of the queue's own.


def test_a_database_of_the_queues_own_is_a_warning_that_names_the_way_out(
    monkeypatch, settings, alias
):
    monkeypatch.setattr(steady_queue, "database", alias("queue"))
    settings.DATABASE_ROUTERS = [ROUTER]
    name, said = the_only()
    assert (name, said.level) == ("W002", WARNING)
    assert "the queue is in the database 'queue': enqueueing is not atomic" in said.msg
    assert "transaction.on_commit()" in said.hint


def test_a_database_of_the_queues_own_without_the_router_is_an_error(monkeypatch, alias):
    monkeypatch.setattr(steady_queue, "database", alias("queue"))
    messages = found()
    assert set(messages) == {"W002", "E008"}
    assert messages["E008"].level == ERROR
    assert "its models are not routed there" in messages["E008"].msg
    assert f"Add {ROUTER!r} to DATABASE_ROUTERS" in messages["E008"].hint
