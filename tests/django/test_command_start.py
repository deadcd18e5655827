"""A start that waits for the schema, and refuses the wrong one."""

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder

from steady_queue.management import schema
from steady_queue.management.commands.steady_queue import Command
from tests.django.command import Terminal, refusal

pytestmark = pytest.mark.django_db

LAST = schema._known()[-1]


@pytest.fixture
def recorder():
    return MigrationRecorder(connection)


@pytest.fixture
def waits(monkeypatch):
    """What is called in place of each wait; the test's clock stands still."""
    called = []
    monkeypatch.setattr(schema, "wait", lambda seconds: called.pop(0)())
    return called


def start_with_schema():
    said = Terminal()
    schema.wait_until_migrated(Command(stderr=said, no_color=True))
    return said.getvalue()


def test_a_migrated_database_is_not_waited_for(waits):
    assert start_with_schema() == ""


def test_a_start_waits_for_the_migrations_and_says_so_once(recorder, waits):
    recorder.record_unapplied("steady_queue", LAST)
    waits += [lambda: None, lambda: recorder.record_applied("steady_queue", LAST)]
    assert start_with_schema() == f"waiting for migrations of steady_queue: {LAST}\n"
    assert waits == []


def test_a_start_is_refused_when_the_migrations_do_not_come(recorder, waits, monkeypatch):
    recorder.record_unapplied("steady_queue", LAST)
    now = iter([100.0, 159.0, 160.0])
    monkeypatch.setattr(schema, "monotonic", lambda: next(now))
    waits += [lambda: None]
    with pytest.raises(CommandError) as raised:
        start_with_schema()
    assert str(raised.value) == (
        f"migrations of steady_queue are not applied: {LAST}; run manage.py migrate"
    )
    assert waits == []


def test_a_newer_schema_that_has_a_place_for_this_release_is_taken(recorder):
    recorder.record_applied("steady_queue", "9999_newer")
    said = "the schema is newer than this code, which still works on it: 9999_newer of steady_queue"
    assert start_with_schema() == f"{said} is applied\n"


def test_a_newer_schema_that_has_none_is_refused(recorder):
    recorder.record_applied("steady_queue", "9999_newer")
    body = "language sql immutable as $$ select '9998_other' $$"
    with connection.cursor() as cursor:
        cursor.execute(
            f"create or replace function steady_queue_oldest_release() returns text {body}"
        )
    said = refusal("start")
    assert "the schema is newer than this code: 9999_newer of steady_queue is applied" in said


def test_migrations_of_the_earlier_package_are_not_newer(recorder):
    recorder.record_unapplied("steady_queue", LAST)
    recorder.record_applied("steady_queue", "0007_of_the_earlier_package")
    recorder.record_applied("steady_queue", LAST)
    assert start_with_schema() == ""


def test_a_database_that_is_away_is_left_to_the_processes(monkeypatch):
    def away():
        raise OperationalError

    monkeypatch.setattr(schema, "_applied", away)
    assert start_with_schema() == ""


def test_a_start_looks_at_the_schema_before_it_runs_anything(recorder, monkeypatch):
    recorder.record_unapplied("steady_queue", LAST)
    monkeypatch.setattr(schema, "PATIENCE", -1.0)
    with pytest.raises(CommandError, match=f"not applied: {LAST}"):
        call_command("steady_queue")
