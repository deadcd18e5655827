"""Enqueueing many more jobs than one statement takes."""

import time

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, OperationalError, connection, transaction
from django.tasks import default_task_backend, task
from django.utils.functional import SimpleLazyObject

from steady_queue.arguments import Arguments, SerializationError
from steady_queue.backend import CHUNK
from steady_queue.concurrency import limits_concurrency
from tests.app.tasks import limited, noop
from tests.conftest import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)

JOBS = "select count(*) from steady_queue_jobs"

WAITING = """
    select from pg_locks where relation = 'steady_queue_jobs'::regclass and not granted
"""

REFUSE = """
    alter table steady_queue_jobs add constraint refused check (arguments #>> '{args,1}' <> %s)
"""


@limits_concurrency(key=lambda number: str(User.objects.update(first_name=str(number))))
@task()
def one_a_user(number):
    pass


def names(count):
    return [(limited, (f"key {number % 40}", number), {}) for number in range(count)]


@pytest.mark.parametrize("options", [{}, {"prepare_threshold": 2}, {"server_side_binding": True}])
def test_ten_thousand_limited_jobs_are_enqueued_in_order(sql, connect_with, options):
    connect_with(**options)
    results = default_task_backend.enqueue_all(names(10_000))
    assert [result.args[1] for result in results] == list(range(10_000))
    stored = sql("select id, arguments::text from steady_queue_jobs order by id")
    assert [int(result.id) for result in results] == [job for job, _ in stored]
    assert [Arguments.deserialize(text)[0][1] for _, text in stored] == list(range(10_000))
    assert all(result.enqueued_at for result in results)


def test_what_one_statement_takes_is_one_statement(db, django_assert_num_queries):
    with django_assert_num_queries(1):
        default_task_backend.enqueue_all(names(CHUNK))
    with django_assert_num_queries(4):
        default_task_backend.enqueue_all(names(CHUNK + 1))


def plain(count):
    return [(noop, (None, number), {}) for number in range(count)]


@pytest.fixture
def when_serialized(monkeypatch):
    """Does something when the arguments of the job of this number are made."""

    def when_serialized(number, act):
        def serialize(args, kwargs):
            if args[1] == number:
                act()
            return as_usual(args, kwargs)

        as_usual = Arguments.serialize
        monkeypatch.setattr(Arguments, "serialize", serialize)

    return when_serialized


def test_the_next_chunk_is_made_while_the_server_stores_the_one_before(other, when_serialized):
    """The server waits for us with the first before the arguments of the last job are made."""
    blocker, watcher = other(), other(autocommit=True)
    blocker.execute("lock table steady_queue_jobs in share mode")

    def until_the_server_waits():
        deadline = time.monotonic() + PATIENCE
        while not watcher.execute(WAITING).fetchall():
            assert time.monotonic() < deadline
        blocker.commit()

    when_serialized(CHUNK, until_the_server_waits)
    assert len(default_task_backend.enqueue_all(plain(CHUNK + 1))) == CHUNK + 1


@pytest.fixture(params=["by itself", "in a transaction"])
def in_transaction(request, transactional_db):
    if request.param == "by itself":
        yield
    else:
        with transaction.atomic():
            yield
            # It can be gone on with.
            noop.enqueue(0, "after")


@pytest.mark.parametrize(
    "bad", [(noop, ("a\x00b",), {}), (noop, (object(),), {}), (limited, (), {})]
)
def test_when_one_of_the_last_chunk_is_refused_none_is_stored(sql, in_transaction, bad):
    with pytest.raises((SerializationError, TypeError)):
        default_task_backend.enqueue_all([*plain(CHUNK * 3), bad])
    assert sql(JOBS) == [(0,)]


@pytest.mark.parametrize("refused", [0, CHUNK, CHUNK * 3])
def test_when_the_database_refuses_a_chunk_none_is_stored(sql, in_transaction, enqueued, refused):
    calls = plain(CHUNK * 3 + 1)
    with connection.cursor() as cursor:
        cursor.execute(REFUSE, [str(refused)])
    with pytest.raises(IntegrityError, match="refused"):
        default_task_backend.enqueue_all(calls)
    with connection.cursor() as cursor:
        cursor.execute("alter table steady_queue_jobs drop constraint refused")
    assert sql(JOBS) == [(0,)]
    assert enqueued == []
    assert len(default_task_backend.enqueue_all(calls)) == len(calls)


def test_a_key_may_ask_the_database_and_write_to_it(sql):
    User.objects.create(username="ada")
    default_task_backend.enqueue_all([(one_a_user, (n,), {}) for n in range(CHUNK + 1)])
    [(key,)] = sql("select distinct limit_key from steady_queue_jobs")
    assert key == f"{one_a_user.module_path}: 1"


def test_a_lazy_argument_may_ask_the_database_and_write_to_it(sql):
    def load():
        [user] = User.objects.iterator()
        user.first_name = "Ada"
        user.save()
        return user

    User.objects.create(username="ada")
    default_task_backend.enqueue_all([*names(CHUNK), (noop, ([SimpleLazyObject(load)],), {})])
    assert User.objects.get().first_name == "Ada"
    assert sql(JOBS) == [(CHUNK + 1,)]


def test_wrappers_see_how_many_rows_a_statement_gave(db):
    counts = []

    def count(execute, sql, params, many, context):
        answer = execute(sql, params, many, context)
        counts.append(context["cursor"].rowcount)
        return answer

    with connection.execute_wrapper(count):
        default_task_backend.enqueue_all(names(CHUNK + 1))
    assert counts == [1, 1]


def test_a_connection_lost_between_chunks_is_an_error_and_stores_none(other, when_serialized, sql):
    session = other(autocommit=True)
    when_serialized(
        CHUNK,
        lambda: session.execute(
            "select pg_terminate_backend(%s, 10000)", [connection.connection.info.backend_pid]
        ),
    )
    with pytest.raises(OperationalError):
        default_task_backend.enqueue_all(plain(CHUNK * 3))
    connection.close()
    assert sql(JOBS) == [(0,)]
