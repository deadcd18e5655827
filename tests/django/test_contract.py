"""Django's own contract for task backends, as its test suite tests it, kept by this backend."""

import copy
import dataclasses
import logging
import pickle
from datetime import datetime, timedelta

import django
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction
from django.tasks import Task, TaskResultStatus, default_task_backend, task, task_backends
from django.tasks.exceptions import InvalidTask, InvalidTaskBackend
from django.tasks.signals import task_enqueued
from django.utils import timezone
from django.utils.module_loading import import_string

from steady_queue.backend import SteadyQueueBackend
from steady_queue.concurrency import limits_concurrency
from steady_queue.task import SteadyQueueTask
from tests.app.tasks import limited, noop, tell_context

OURS = "steady_queue.backend.SteadyQueueBackend"
WHOLE_NUMBER = "priority must be a whole number between -100 and 100"
NO_RESULTS = "does not support retrieving or refreshing results"
pickles = pytest.mark.skipif(django.VERSION < (6, 1), reason="Django 6.0 does not pickle tasks")


@task
def bare():
    pass


@task(priority=7, queue_name="mail")
def urgent():
    pass


@task()
def answer():
    return 42


@limits_concurrency(key="same for all")
@task()
def limited_by_text():
    pass


def without_context():
    pass


def context_comes_second(order, context):
    pass


async def coroutine():
    pass


class Holder:
    def method(self):
        pass


class OtherBackend(SteadyQueueBackend):
    pass


@pytest.fixture
def tasks(settings):
    """Sets TASKS; the backends are made anew."""

    def change(**backends):
        settings.TASKS = {
            alias: {"BACKEND": OURS, "QUEUES": [], **options} for alias, options in backends.items()
        }

    return change


def test_the_default_backend_is_the_one_in_tasks():
    assert default_task_backend == task_backends["default"]
    assert isinstance(task_backends["default"], SteadyQueueBackend)
    assert (default_task_backend.alias, default_task_backend.options) == ("default", {})


def test_it_says_what_it_supports():
    backend = task_backends["default"]
    assert backend.supports_defer
    assert backend.supports_priority
    assert not backend.supports_async_task
    assert not backend.supports_get_result


@pytest.mark.parametrize("one", [bare, urgent, noop, limited, tell_context])
def test_each_form_of_the_decorator_makes_a_task(one):
    assert isinstance(one, Task)
    assert type(one) is SteadyQueueTask
    assert one.get_backend() is task_backends["default"]


def test_a_task_knows_its_name_and_its_path():
    assert (noop.name, noop.module_path) == ("noop", "tests.app.tasks.noop")
    assert import_string(limited.module_path) is limited


def test_what_the_decorator_is_given_are_the_tasks_defaults():
    assert (bare.priority, bare.queue_name, bare.run_after) == (0, "default", None)
    assert (urgent.priority, urgent.queue_name, urgent.backend) == (7, "mail", "default")


def test_the_decorator_refuses_a_time_that_would_be_fixed_at_import():
    with pytest.raises(TypeError, match="run_after"):
        task(run_after=timezone.now())(without_context)


def test_using_makes_a_copy_and_leaves_the_task_alone():
    assert noop.using() == noop
    assert noop.using() is not noop
    assert noop.using(priority=1).priority == 1
    assert noop.using(queue_name="mail").queue_name == "mail"
    assert (noop.priority, noop.queue_name) == (0, "default")


def test_using_can_be_chained():
    now = timezone.now()
    later = noop.using(run_after=now)
    urgent_later = later.using(priority=10)
    assert (urgent_later.priority, urgent_later.run_after) == (10, now)
    assert later.priority == 0


def test_using_keeps_priority_zero_over_the_tasks_own():
    assert urgent.using(priority=0).priority == 0


def test_using_keeps_the_limit():
    assert limited.using(priority=3).concurrency_limit == limited.concurrency_limit == 2


def test_using_takes_a_span_as_a_moment_from_now():
    before = timezone.now()
    moment = noop.using(run_after=timedelta(minutes=5)).run_after
    assert before <= moment - timedelta(minutes=5) <= timezone.now()


def test_using_refuses_what_it_does_not_know():
    with pytest.raises(TypeError, match="prio"):
        noop.using(prio=1)


def test_an_unknown_backend_is_refused():
    with pytest.raises(InvalidTaskBackend, match="'unknown' doesn't exist"):
        noop.using(backend="unknown")


def test_a_backend_that_cannot_be_imported_is_refused(tasks):
    tasks(default={}, missing={"BACKEND": "does.not.exist"})
    with pytest.raises(InvalidTaskBackend, match=r"Could not find backend 'does\.not\.exist'"):
        noop.using(backend="missing")


def test_without_backends_nothing_is_enqueued(settings):
    settings.TASKS = {}
    with pytest.raises(InvalidTaskBackend):
        noop.enqueue()


@pytest.mark.parametrize("priority", [-100, -1, 0, 1, 100])
def test_priorities_from_minus_100_to_100_are_taken(priority):
    assert noop.using(priority=priority).priority == priority


@pytest.mark.parametrize("priority", [-101, 101, 3.1])
def test_other_priorities_are_refused(priority):
    with pytest.raises(InvalidTask, match=WHOLE_NUMBER):
        noop.using(priority=priority)


def test_a_naive_time_is_refused_where_times_have_zones():
    with pytest.raises(InvalidTask, match="run_after must be an aware datetime"):
        noop.using(run_after=datetime(2999, 1, 1))


@pytest.mark.parametrize("function", [any, Holder().method])
def test_a_function_that_a_worker_could_not_find_is_refused(function):
    with pytest.raises(InvalidTask, match="must be defined at a module level"):
        task()(function)


def test_a_function_inside_a_function_is_refused():
    def inner():
        pass

    with pytest.raises(InvalidTask, match="must be defined at a module level"):
        task()(inner)


def test_a_coroutine_is_refused():
    with pytest.raises(InvalidTask, match="does not support async Tasks"):
        task()(coroutine)


@pytest.mark.parametrize("function", [without_context, context_comes_second])
def test_a_context_needs_a_first_argument_of_that_name(function):
    with pytest.raises(InvalidTask, match="does not have a first argument of 'context'"):
        task(takes_context=True)(function)


def test_a_task_can_be_called_directly():
    assert answer.call() == 42
    assert async_to_sync(answer.acall)() == 42


def test_queues_is_default_only_unless_it_is_given(settings):
    settings.TASKS = {"default": {"BACKEND": OURS}}
    assert default_task_backend.queues == {"default"}
    with pytest.raises(InvalidTask, match="Queue 'mail' is not valid for backend"):
        noop.using(queue_name="mail")


def test_queues_names_those_that_are_taken(tasks):
    tasks(default={"QUEUES": ["default", "mail"]})
    assert noop.using(queue_name="mail").queue_name == "mail"
    with pytest.raises(InvalidTask, match="Queue 'other' is not valid for backend"):
        noop.using(queue_name="other")


def test_an_empty_queues_takes_any_queue(tasks):
    tasks(default={"QUEUES": ["default"]}, open={"QUEUES": []})
    assert noop.using(queue_name="other", backend="open").queue_name == "other"


def test_a_task_is_validated_again_when_it_is_enqueued(tasks, sql):
    mail = noop.using(queue_name="mail")
    tasks(default={"QUEUES": ["default"]})
    with pytest.raises(InvalidTask, match="Queue 'mail' is not valid for backend"):
        mail.enqueue()
    assert sql("select count(*) from steady_queue_jobs") == [(0,)]


def test_enqueueing_returns_a_result_that_is_ready(db):
    before = timezone.now()
    result = noop.enqueue(1, two=3)
    assert result.task == noop
    assert result.status == TaskResultStatus.READY
    assert result.id.isdigit()
    assert timezone.is_aware(result.enqueued_at)
    assert abs(result.enqueued_at - before) < timedelta(minutes=1)
    assert (result.started_at, result.finished_at, result.last_attempted_at) == (None, None, None)
    assert (result.args, result.kwargs) == ([1], {"two": 3})
    assert (result.backend, result.errors, result.worker_ids) == ("default", [], [])
    assert (result.attempts, result.is_finished) == (0, False)
    with pytest.raises(ValueError, match="Task has not finished yet"):
        result.return_value  # noqa: B018


@pytest.mark.parametrize(
    ("one", "stored"),
    [
        (bare, ("default", 0)),
        (urgent, ("mail", 7)),
        (urgent.using(priority=-5), ("mail", -5)),
        (bare.using(queue_name="reports"), ("reports", 0)),
    ],
)
def test_a_task_is_stored_with_its_path_queue_and_priority(sql, one, stored):
    result = one.enqueue()
    [row] = sql("select id, task, queue, priority, backend from steady_queue_jobs")
    assert row == (int(result.id), one.module_path, *stored, "default")


def test_a_task_is_enqueued_at_once_and_not_on_commit(sql):
    with transaction.atomic():
        result = noop.enqueue()
        assert result.enqueued_at is not None
        assert sql("select count(*) from steady_queue_jobs") == [(1,)]


def test_the_backend_itself_enqueues_too(sql):
    result = default_task_backend.enqueue(noop, (1,), {"two": 2})
    assert (result.args, result.kwargs) == ([1], {"two": 2})
    assert sql("select id from steady_queue_jobs") == [(int(result.id),)]


def test_a_result_made_quickly_has_the_fields_that_the_constructor_gives_one(db):
    result = noop.enqueue()
    values = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    del values["_return_value"]
    assert type(result)(**values) == result


def test_the_arguments_of_a_result_are_copies_of_the_callers(db):
    args, kwargs = [1], {"two": 2}
    result = default_task_backend.enqueue(noop, args, kwargs)
    args.append(3)
    kwargs["four"] = 4
    assert (result.args, result.kwargs) == ([1], {"two": 2})


def test_an_argument_that_is_not_supported_is_a_type_error(sql):
    with pytest.raises(TypeError, match=r"args\[0\]"):
        noop.enqueue(object())
    assert sql("select count(*) from steady_queue_jobs") == [(0,)]


def test_aenqueue_says_that_it_is_not_supported_and_what_to_do(sql):
    with pytest.raises(NotImplementedError, match=r"sync_to_async\(task\.enqueue\)") as raised:
        async_to_sync(noop.aenqueue)(1)
    assert "supports_async_task" in str(raised.value)
    assert sql("select count(*) from steady_queue_jobs") == [(0,)]


def test_what_aenqueue_says_to_do_works(sql):
    async def caller():
        return await sync_to_async(noop.enqueue)(1)

    result = async_to_sync(caller)()
    assert sql("select id from steady_queue_jobs") == [(int(result.id),)]


def test_results_cannot_be_read_back_by_id():
    with pytest.raises(NotImplementedError, match=NO_RESULTS):
        default_task_backend.get_result("123")
    with pytest.raises(NotImplementedError, match=NO_RESULTS):
        noop.get_result("123")
    with pytest.raises(NotImplementedError, match=NO_RESULTS):
        async_to_sync(default_task_backend.aget_result)("123")
    with pytest.raises(NotImplementedError, match=NO_RESULTS):
        async_to_sync(noop.aget_result)("123")


def test_results_cannot_be_refreshed(db):
    result = noop.enqueue()
    with pytest.raises(NotImplementedError, match=NO_RESULTS):
        result.refresh()
    with pytest.raises(NotImplementedError, match=NO_RESULTS):
        async_to_sync(result.arefresh)()


def test_enqueueing_is_logged_by_django(db, caplog):
    with caplog.at_level(logging.DEBUG, logger="django.tasks"):
        result = noop.enqueue("a secret")
    [record] = [r for r in caplog.records if r.name == "django.tasks"]
    assert f"id={result.id} path=tests.app.tasks.noop enqueued" in record.getMessage()
    assert "secret" not in record.getMessage()


def test_task_enqueued_is_sent_by_the_backend_class_with_the_finished_result(db, enqueued):
    result = noop.enqueue(1)
    [(sender, heard)] = enqueued
    assert sender is SteadyQueueBackend
    assert heard is result
    assert (heard.id, heard.enqueued_at) != ("", None)


def test_a_backend_of_ones_own_is_the_sender_of_its_tasks(db, tasks, enqueued):
    tasks(default={"BACKEND": f"{__name__}.OtherBackend"})
    noop.enqueue()
    assert [sender for sender, _ in enqueued] == [OtherBackend]


def test_a_receiver_that_raises_changes_nothing(sql, enqueued):
    def bad(**kwargs):
        raise RuntimeError("a bad receiver")

    task_enqueued.connect(bad)
    try:
        result = noop.enqueue()
    finally:
        task_enqueued.disconnect(bad)
    assert sql("select id from steady_queue_jobs") == [(int(result.id),)]
    assert len(enqueued) == 1


def test_nothing_is_sent_for_a_task_that_is_refused(db, enqueued):
    with pytest.raises(TypeError):
        noop.enqueue(object())
    assert enqueued == []


def test_each_of_two_backends_marks_its_own_jobs(tasks, sql):
    tasks(default={}, mail={"QUEUES": ["mail"]})
    first = noop.enqueue()
    second = noop.using(backend="mail", queue_name="mail").enqueue()
    assert (first.backend, second.backend) == ("default", "mail")
    assert sql("select id, backend from steady_queue_jobs order by id") == [
        (int(first.id), "default"),
        (int(second.id), "mail"),
    ]
    with pytest.raises(InvalidTask, match="Queue 'default' is not valid for backend"):
        noop.using(backend="mail")


def test_a_task_may_go_to_another_backend_for_once(tasks, sql):
    tasks(default={}, dummy={"BACKEND": "django.tasks.backends.dummy.DummyBackend"})
    noop.using(backend="dummy").enqueue()
    assert len(task_backends["dummy"].results) == 1
    assert sql("select count(*) from steady_queue_jobs") == [(0,)]


def test_a_task_declared_for_another_backend_is_enqueued_or_clearly_refused(tasks, sql):
    tasks(default={}, dummy={"BACKEND": "django.tasks.backends.dummy.DummyBackend"})
    plain = task(backend="dummy")(without_context)
    stored = 1
    try:
        plain.using(backend="default").enqueue()
    except InvalidTask:
        stored = 0
    assert sql("select count(*) from steady_queue_jobs") == [(stored,)]


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, dataclasses.replace])
@pytest.mark.parametrize("one", [noop, urgent, limited, noop.using(run_after=timedelta(days=1))])
def test_a_copy_of_a_task_is_equal_to_it(make, one):
    copied = make(one)
    assert copied == one
    assert type(copied) is SteadyQueueTask


@pickles
@pytest.mark.parametrize(
    "one", [noop, urgent, limited_by_text, noop.using(run_after=timedelta(days=1), priority=4)]
)
def test_a_task_comes_back_from_a_pickle(one):
    assert pickle.loads(pickle.dumps(one)) == one


@pickles
def test_a_task_limited_by_a_callable_comes_back_from_a_pickle():
    assert pickle.loads(pickle.dumps(limited)) == limited


@pickles
def test_a_result_comes_back_from_a_pickle(db):
    result = noop.enqueue(1, moment=timezone.now())
    assert pickle.loads(pickle.dumps(result)) == result


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, dataclasses.replace])
def test_a_copy_of_a_result_is_equal_to_it(make, db):
    result = noop.enqueue(1, moment=timezone.now())
    assert make(result) == result
    assert make(result) is not result


@pytest.mark.parametrize("name", ["id", "status", "lost_starts", "colour"])
def test_a_result_is_frozen(name, db):
    result = noop.enqueue()
    before = dataclasses.asdict(result)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(result, name, "another")
    assert dataclasses.asdict(result) == before


@pickles
@pytest.mark.parametrize("path", ["does.not.exist.fake_task", "builtins.any"])
def test_a_pickle_of_something_else_is_not_made_a_task(path):
    with pytest.raises(ValueError, match=f"Expected '{path}' to point to a Task"):
        SteadyQueueTask._reconstruct({"func": path})
