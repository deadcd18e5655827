"""Enqueueing keeps a cursor of Django's, and hides nothing from those who watch them."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.test.utils import CaptureQueriesContext, override_settings

from steady_queue.backend import FEW
from steady_queue.cursors import give_back, take_cursor
from tests.app.tasks import noop

pytestmark = pytest.mark.django_db(transaction=True)

PREPARED = """
    select count(*) from pg_prepared_statements where statement like '%steady_queue_enqueue_job(%'
"""


def prepared():
    with connection.cursor() as cursor:
        cursor.execute(PREPARED)
        return cursor.fetchone()[0]


def cursor_in_use():
    cursor = take_cursor("default")
    give_back(cursor)
    return cursor


def test_one_cursor_serves_every_call_of_a_connection():
    assert cursor_in_use() is cursor_in_use()


def test_another_connection_to_the_server_has_another():
    first = cursor_in_use()
    connection.close()
    assert cursor_in_use() is not first
    noop.enqueue()


def test_who_enqueues_while_another_does_has_a_cursor_of_its_own():
    within = []

    def audit(execute, sql, params, many, context):
        answer = execute(sql, params, many, context)
        if not within:
            within.append(None)
            within[0] = noop.enqueue().id
        return answer

    noop.enqueue()
    with connection.execute_wrapper(audit):
        result = noop.enqueue()
    assert int(within[0]) == int(result.id) + 1


def test_an_engine_that_does_something_at_each_cursor_is_asked_each_time(monkeypatch):
    schemas = []
    ours = connections["default"]

    class OfATenant(type(ours)):
        def _cursor(self, name=None):
            schemas.append("tenant")
            return super()._cursor(name)

    noop.enqueue()
    monkeypatch.setattr(ours, "__class__", OfATenant)
    noop.enqueue()
    noop.enqueue()
    assert len(schemas) == 2


def test_whoever_replaces_the_cursors_of_the_engine_is_asked(monkeypatch):
    noop.enqueue()

    def forbidden(connection):
        raise AssertionError("no queries here")

    monkeypatch.setattr(BaseDatabaseWrapper, "cursor", forbidden)
    with pytest.raises(AssertionError, match="no queries here"):
        noop.enqueue()


def test_the_arguments_of_many_jobs_are_not_kept():
    kept = cursor_in_use()
    noop.get_backend().enqueue_all([(noop, [], {})] * FEW)
    assert cursor_in_use() is kept
    noop.get_backend().enqueue_all([(noop, [], {})] * (FEW + 1))
    assert cursor_in_use() is not kept


def test_a_connection_that_was_lost_is_replaced(other):
    noop.enqueue()
    [(pid,)] = other(autocommit=True).execute(
        "select pid from pg_stat_activity where pid = %s", [connection.connection.info.backend_pid]
    )
    other(autocommit=True).execute("select pg_terminate_backend(%s, 10000)", [pid])
    with pytest.raises(Exception, match="terminating connection"):
        noop.enqueue()
    connection.close_if_unusable_or_obsolete()
    assert noop.enqueue().id


@pytest.mark.parametrize("use_tz", [True, False])
def test_moments_are_in_the_time_zone_of_the_settings(use_tz):
    noop.enqueue()
    with override_settings(USE_TZ=use_tz, TASKS={"default": {**_backend(), "QUEUES": []}}):
        assert (noop.enqueue().enqueued_at.tzinfo is not None) == use_tz


def _backend():
    return {"BACKEND": "steady_queue.backend.SteadyQueueBackend"}


def test_queries_that_are_counted_show_it():
    noop.enqueue()
    with CaptureQueriesContext(connection) as queries:
        noop.enqueue()
    noop.enqueue()
    assert ["steady_queue_enqueue_job" in query["sql"] for query in queries] == [True]
    assert type(cursor_in_use()) is CursorWrapper


def test_wrappers_see_the_statement_and_may_refuse_it():
    seen = []

    def refuse(execute, sql, params, many, context):
        seen.append(sql)
        raise PermissionError

    noop.enqueue()
    with connection.execute_wrapper(refuse), pytest.raises(PermissionError):
        noop.enqueue()
    assert len(seen) == 1
    assert "steady_queue_enqueue_job" in seen[0]


def test_who_replaces_the_cursors_of_a_connection_is_asked(monkeypatch):
    noop.enqueue()

    def forbidden():
        raise AssertionError("no queries here")

    monkeypatch.setattr(connection, "cursor", forbidden)
    with pytest.raises(AssertionError, match="no queries here"):
        noop.enqueue()


def test_a_broken_transaction_refuses_it():
    noop.enqueue()
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(transaction.TransactionManagementError):
            noop.enqueue()


def test_async_code_is_refused_as_by_django():
    noop.enqueue()

    async def enqueue():
        noop.enqueue()

    with pytest.raises(SynchronousOnlyOperation):
        asyncio.run(enqueue())


def test_another_thread_may_not_use_it():
    async def elsewhere():
        return await sync_to_async(_foreign, thread_sensitive=False)(connections["default"])

    noop.enqueue()
    assert "thread" in asyncio.run(elsewhere())


def _foreign(foreign):
    connections["default"] = foreign
    try:
        cursor_in_use()
    except Exception as error:
        return str(error)


def test_statements_are_prepared_where_the_options_allow_it(connect_with):
    connect_with(prepare_threshold=2)
    for _ in range(4):
        noop.enqueue()
    assert prepared() == 1
    with transaction.atomic():
        noop.enqueue()
        transaction.set_rollback(True)
    assert noop.enqueue().id
    assert connection.connection.cursor_factory.__name__ == "Cursor"


def test_statements_are_not_prepared_by_default():
    for _ in range(8):
        noop.enqueue()
    assert prepared() == 0
