from datetime import timedelta

import pytest
from django.db import DataError, IntegrityError, transaction
from django.utils import timezone


def test_jobs_get_their_ids_in_the_order_given(sql):
    ids = sql(
        """select id from steady_queue_enqueue_jobs('default', array['a', 'b', 'c'],
          array['x', 'y', 'x'], array[0, 1, 2]::smallint[], array_fill('{}'::json, array[3]))"""
    )
    kept = dict(sql("select id, task from steady_queue_jobs"))
    assert [kept[job] for (job,) in ids] == ["a", "b", "c"]


def test_a_job_for_later_is_scheduled_and_one_for_the_past_is_ready(queue):
    later = queue.enqueue(run_after=timezone.now() + timedelta(hours=1))
    past = queue.enqueue(run_after=timezone.now() - timedelta(hours=1))
    assert queue.states(later, past) == ["scheduled", "ready"]


@pytest.mark.parametrize(
    "bad",
    [{"priority": 101}, {"priority": -101}, {"queue": ""}, {"queue": "x" * 301}, {"task": ""}],
)
def test_what_cannot_be_kept_is_refused(queue, bad):
    with pytest.raises(IntegrityError), transaction.atomic():
        queue.enqueue(**bad)


def test_arguments_over_a_mebibyte_are_refused(queue):
    with pytest.raises(IntegrityError), transaction.atomic():
        queue.enqueue(args=f'["{"x" * 1_048_576}"]')


@pytest.mark.parametrize(
    ("arguments", "named"), [({"args": "{}"}, "args"), ({"kwargs": "[]"}, "kwargs")]
)
def test_arguments_of_the_wrong_shape_are_named(queue, arguments, named):
    with pytest.raises(Exception, match=f"expected {named} to be a JSON"), transaction.atomic():
        queue.enqueue(**arguments)


def test_text_that_is_not_json_is_refused(queue):
    with pytest.raises(DataError), transaction.atomic():
        queue.enqueue(args="[1,")


def test_json_is_kept_to_the_letter(queue, sql):
    text = '[-0.0, 1E400, {"b":1, "a":2, "b":3}]'
    job = queue.enqueue(args=text)
    [(kept,)] = sql("select (arguments -> 'args')::text from steady_queue_jobs where id = %s", job)
    assert kept == text


def test_a_rolled_back_enqueue_leaves_nothing(other, sql):
    producer = other()
    producer.execute("select steady_queue_enqueue('t')")
    producer.rollback()
    assert sql("select count(*) from steady_queue_all_jobs") == [(0,)]


def enqueue_in_opposite_order(first, second, level):
    for session in (first, second):
        session.execute(f"set transaction isolation level {level}")
        session.execute("set local lock_timeout = '30s'")
    for one, two in (("a", "b"), ("b", "a")):
        first.execute("select steady_queue_enqueue('t', queue => %s)", (one,))
        second.execute("select steady_queue_enqueue('t', queue => %s)", (two,))
    first.commit()
    second.commit()


@pytest.mark.parametrize("level", ["read committed", "repeatable read"])
def test_producers_of_new_queues_in_opposite_order_neither_wait_nor_deadlock(other, level):
    enqueue_in_opposite_order(other(), other(), level)


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_producers_of_known_queues_do_not_get_into_each_others_way(other, lanes, level):
    lanes("a", "b")
    enqueue_in_opposite_order(other(), other(), level)


def test_producers_of_one_limit_neither_wait_nor_deadlock(other):
    statement = """select * from steady_queue_enqueue_jobs('default', '{t,t}', '{q,q}',
      '{0,0}', array_fill('{}'::json, array[2]), null, %s, '{1,1}', '{3 min,3 min}', '{block,block}')"""
    first, second = other(), other()
    for session, keys in ((first, ["k1", "k2"]), (second, ["k2", "k1"])):
        session.execute("set local lock_timeout = '30s'")
        session.execute(statement, (keys,))
    second.commit()
    first.commit()


def test_a_claim_in_flight_does_not_hold_an_enqueue_up(other):
    worker, producer = other(autocommit=True), other()
    worker.execute("select steady_queue_enqueue('t')")
    worker.execute("begin")
    worker.execute(
        "select * from steady_queue_claim_jobs("
        "steady_queue_register_process('worker', 'w', null, 'h', 1), '{*}', 5)"
    )
    producer.execute("set local lock_timeout = '30s'")
    producer.execute("select steady_queue_enqueue('t')")
    producer.commit()


def test_a_hostile_schema_earlier_in_the_callers_path_changes_nothing(other):
    caller = other()
    caller.execute("create schema hostile")
    caller.execute("create table hostile.steady_queue_jobs (like steady_queue_jobs)")
    caller.execute("create table pg_temp.steady_queue_ready (like steady_queue_ready)")
    caller.execute("set local search_path = hostile, public")
    caller.execute("select public.steady_queue_enqueue('t')")
    for table in ("hostile.steady_queue_jobs", "pg_temp.steady_queue_ready"):
        assert caller.execute(f"select count(*) from {table}").fetchone() == (0,)
