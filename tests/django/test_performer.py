"""One job, performed: everything after the claim is inside the attempt."""

import asyncio
import json
import logging
import sys
from contextvars import ContextVar
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, connections, transaction
from django.tasks import TaskResultStatus, task
from django.tasks.base import TaskError
from django.tasks.signals import task_finished, task_started
from django.utils import timezone, translation

from steady_queue.arguments import Arguments
from steady_queue.backend import SteadyQueueBackend
from steady_queue.performer import MAX_ERROR, Performer
from steady_queue.queries import ClaimedJob
from tests.app.models import Heard
from tests.app.tasks import POISONS, fail, limited, noop, return_this

OURS = "steady_queue.backend.SteadyQueueBackend"
ENQUEUED_AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
CLAIMED_AT = ENQUEUED_AT + timedelta(seconds=2)
said = []
flavour = ContextVar("flavour", default="plain")


class OwnBackend(SteadyQueueBackend):
    pass


@task()
def tell(*args, **kwargs):
    said.append((args, kwargs))


@task(takes_context=True)
def tell_context(context, *args):
    result = context.task_result
    said.append(
        {
            "attempt": context.attempt,
            "lost_starts": result.lost_starts,
            "args": (tuple(result.args), args),
            "id": result.id,
            "status": result.status,
            "enqueued_at": result.enqueued_at,
            "started_at": result.started_at,
            "last_attempted_at": result.last_attempted_at,
            "finished_at": result.finished_at,
            "worker_ids": list(result.worker_ids),
            "errors": list(result.errors),
            "backend": result.backend,
            "task": result.task,
        }
    )


@task()
def add(a, b):
    return a + b


@task()
def poison(kind):
    POISONS[kind]()


@task()
def be_different():
    translation.activate("ar")
    timezone.activate("Pacific/Apia")
    flavour.set("vanilla")


@task()
def tell_surroundings():
    said.append((translation.get_language(), timezone.get_current_timezone_name(), flavour.get()))


@task()
def tell_session():
    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid(), current_setting('search_path')")
        said.append(cursor.fetchone())


@task()
def hear(word, durable=False):
    with transaction.atomic(durable=durable):
        Heard.objects.create(word=word)
        transaction.on_commit(lambda: said.append(f"{word} committed"))


def enter_atomic_block():
    transaction.atomic().__enter__()
    Heard.objects.create(word="never committed")
    transaction.on_commit(lambda: said.append("never committed"))


def abort_transaction():
    enter_atomic_block()
    with connection.cursor() as cursor:
        cursor.execute("select 1 / 0")


def turn_autocommit_off():
    connection.set_autocommit(False)


def close_in_atomic_block():
    enter_atomic_block()
    connection.close()


LEFTOVERS = {
    "a transaction": POISONS["transaction"],
    "an atomic block": enter_atomic_block,
    "an aborted transaction": abort_transaction,
    "autocommit turned off": turn_autocommit_off,
    "a connection closed behind Django's back": POISONS["closed connection"],
    "a connection closed in an atomic block": close_in_atomic_block,
}


@task()
def leave(what):
    LEFTOVERS[what]()


@task()
def read(user):
    said.append(user.username)


@pytest.fixture(autouse=True)
def _nothing_said():
    said.clear()


@pytest.fixture
def performer():
    # A thread of a worker begins without connections; tests that need none may open none.
    connections.close_all()
    yield Performer("worker 1")
    for one in connections.all(initialized_only=True):
        # Whatever a failed test has left.
        one.in_atomic_block = one.closed_in_transaction = False
        one.atomic_blocks = []
        one.close()


@pytest.fixture
def signals():
    """Connects receivers to task_started and task_finished until the test ends."""
    connected = []

    def connect(signal, receiver):
        signal.connect(receiver, weak=False)
        connected.append((signal, receiver))

    yield connect
    for signal, receiver in connected:
        signal.disconnect(receiver)


def job(task, *args, path=None, **changes):
    """The job as a claim would return it."""
    return ClaimedJob(
        **{
            **dict.fromkeys(ClaimedJob._fields),
            "id": 7,
            "claim": 70,
            "task": path or task.module_path,
            "backend": "default",
            "queue": "mail",
            "priority": 5,
            "arguments": Arguments.serialize(args, {}),
            "attempt": 0,
            "lost_starts": 0,
            "suspect": False,
            "enqueued_at": ENQUEUED_AT,
            "claimed_at": CLAIMED_AT,
            **changes,
        }
    )


def perform(performer, *arguments, **changes):
    """The error of the outcome, or None."""
    outcome = performer.perform(job(*arguments, **changes), performer._ended_at)
    return outcome.error and json.loads(outcome.error)


# The call.


def test_the_outcome_names_the_job_as_it_was_claimed(performer):
    claimed = job(noop, limit_key="k: 1")
    outcome = performer.perform(claimed, performer._ended_at)
    assert (outcome.job, outcome.error) == (claimed, None)
    assert outcome.waited >= 0
    assert outcome.ran >= 0


def test_the_task_gets_its_arguments_as_they_were_given(performer):
    moment = datetime(2026, 1, 31, tzinfo=UTC)
    arguments = Arguments.serialize((1, moment), {"pair": (1, 2)})
    assert perform(performer, tell, arguments=arguments) is None
    assert said == [((1, moment), {"pair": (1, 2)})]


def test_a_claimed_job_is_performed_and_its_outcome_recorded(transactional_db, queue, performer):
    user = User.objects.create(username="ada")
    number = int(read.enqueue(user).id)
    claim = "select * from steady_queue_claim_jobs(%s, '{*}', 1)"
    [claimed] = map(ClaimedJob._make, queue.run(claim, queue.process()))
    outcome = performer.perform(claimed, performer._ended_at)
    assert said == ["ada"]
    assert queue.finish({number: outcome.job.claim}, outcome.error) == {}
    assert queue.state(number) == "successful"


@pytest.mark.parametrize("run_after", ["-infinity", "infinity", "0044-03-15 12:00 BC"])
def test_a_time_that_python_cannot_read_is_refused_by_the_database(queue, run_after):
    with pytest.raises(IntegrityError), transaction.atomic():
        queue.enqueue(run_after=run_after)


@pytest.mark.parametrize("attempt", [0, 2])
def test_a_task_that_takes_its_context_sees_the_attempt_and_the_result(performer, attempt):
    later = CLAIMED_AT - timedelta(seconds=1)
    earlier = TaskError(exception_class_path="builtins.ValueError", traceback="as it was")
    told = {"errors": [asdict(earlier)] * attempt, "workers": ["worker 0"] * attempt}
    outcome = performer.perform(
        job(tell_context, "a", attempt=attempt, lost_starts=1, run_after=later, **told),
        performer._ended_at,
    )
    [seen] = said
    one = seen.pop("task")
    started_at = CLAIMED_AT + timedelta(seconds=outcome.waited)
    assert seen == {
        "attempt": attempt + 1,
        "lost_starts": 1,
        "args": (("a",), ("a",)),
        "id": "7",
        "status": TaskResultStatus.RUNNING,
        "enqueued_at": ENQUEUED_AT,
        "started_at": started_at,
        "last_attempted_at": started_at,
        "finished_at": None,
        "worker_ids": [*["worker 0"] * attempt, "worker 1"],
        "errors": [earlier] * attempt,
        "backend": "default",
    }
    assert (one.queue_name, one.priority, one.run_after) == ("mail", 5, later)
    assert one.func is tell_context.func


def test_what_todays_settings_would_refuse_is_performed_as_it_was_enqueued(performer, settings):
    settings.TASKS = {"default": {"BACKEND": OURS, "QUEUES": ["default"]}}
    assert perform(performer, tell, "a") is None
    assert said == [(("a",), {})]


def test_a_limited_task_is_performed_like_any_other(transactional_db, performer):
    assert perform(performer, limited, "k") is None
    assert Heard.objects.count() == 2


@pytest.mark.parametrize("kind", ["big", "not json"])
def test_whatever_a_task_returns_it_has_succeeded(performer, kind):
    assert perform(performer, return_this, kind) is None


# Failures.


@pytest.mark.parametrize(
    ("kind", "path", "message"),
    [
        ("sys.exit", "builtins.SystemExit", "3"),
        ("interrupt", "builtins.KeyboardInterrupt", ""),
        ("generator exit", "builtins.GeneratorExit", ""),
        ("cancelled", "asyncio.exceptions.CancelledError", ""),
        ("own base exception", "tests.app.tasks.Rude", "rude"),
        ("memory", "builtins.MemoryError", ""),
        ("recursion", "builtins.RecursionError", "maximum recursion depth exceeded"),
    ],
)
def test_whatever_a_task_raises_is_its_failure_and_no_one_elses(performer, kind, path, message):
    error = perform(performer, poison, kind)
    assert error["exception_class"] == path
    assert error["message"].startswith(message)
    assert "Traceback (most recent call last):" in error["traceback"]
    assert perform(performer, tell) is None


def test_the_traceback_shows_where_and_no_values(performer):
    error = perform(performer, fail, "the message")
    assert error["traceback"].rstrip().endswith("ValueError: the message")
    assert 'tests/app/tasks.py", line' in error["traceback"]
    assert "a secret" not in perform(performer, add, "a secret", 1)["traceback"]


def test_a_changed_signature_is_a_failure(performer):
    error = perform(performer, add, 1, 2, 3)
    assert error["exception_class"] == "builtins.TypeError"
    assert "takes 2 positional arguments but 3 were given" in error["message"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("tests.app.tasks.renamed", "is not a task: it was renamed or removed"),
        ("tests.app.tasks.say", "is not decorated with @task()"),
        ("tests.app.gone.task", "no module tests.app.gone"),
        ("os.system", "is not a task"),
        ("antigravity.webbrowser", "is outside the installed apps; add its app to INSTALLED_APPS"),
        ("noop", "is outside the installed apps"),
    ],
)
def test_a_path_that_leads_to_no_task_is_a_failure_and_imports_nothing(performer, path, message):
    error = perform(performer, noop, path=path)
    assert error["exception_class"] == "steady_queue.task.UnknownTaskClassError"
    assert message in error["message"]
    assert "antigravity" not in sys.modules


def test_an_unknown_backend_is_a_failure_that_names_it(performer):
    error = perform(performer, noop, backend="gone")
    assert error["exception_class"] == "steady_queue.task.UnknownTaskClassError"
    assert "no backend 'gone' in TASKS; add it, or discard the job" in error["message"]


def test_a_row_that_is_gone_is_a_failure_that_names_it(transactional_db, performer):
    user = User.objects.create(username="ada")
    arguments = Arguments.serialize((user,), {})
    key = user.pk
    user.delete()
    error = perform(performer, read, arguments=arguments)
    assert error["exception_class"] == "steady_queue.arguments.DeserializationError"
    assert f"auth.User with pk {key} no longer exists" in error["message"]


@pytest.mark.parametrize("arguments", ["", "[]", '{"args": 1, "kwargs": {}}', '{"args": [NaN]}'])
def test_malformed_arguments_are_a_failure(performer, arguments):
    error = perform(performer, noop, arguments=arguments)
    assert error["exception_class"] == "steady_queue.arguments.DeserializationError"


# What is kept of a failure.


def test_an_exception_that_cannot_say_what_it_is_is_a_failure_that_says_so(performer):
    error = perform(performer, poison, "unspeakable")
    assert error["exception_class"] == "tests.app.tasks.Unspeakable"
    assert error["message"] == "<Unspeakable.__str__ raised RuntimeError>"
    assert "Unspeakable: <exception str() failed>" in error["traceback"]


def test_what_is_kept_of_a_huge_error_is_capped_and_says_how_much_is_missing(performer):
    error = perform(performer, poison, "ten megabytes")
    for name in ("message", "traceback"):
        assert len(error[name]) < MAX_ERROR + 100
        assert "bytes left out ...]" in error[name]
    assert error["message"].startswith("xxx")
    assert error["traceback"].startswith("Traceback")


@pytest.mark.parametrize("character", ["🚀", "\x00", "\ud800"])
def test_what_is_kept_of_a_huge_error_is_capped_in_bytes(performer, character):
    arguments = json.dumps({"args": [character * 1_000_000], "kwargs": {}})
    error = perform(performer, fail, arguments=arguments)
    assert len(error["message"].encode()) < MAX_ERROR + 100


def test_an_error_is_stored_whatever_it_holds(transactional_db, queue, performer):
    number = queue.enqueue()
    claimed = queue.claim(queue.process())
    error = perform(performer, poison, "nul")
    assert error["message"] == "a\\x00b\\ud800c"
    assert queue.finish(claimed, json.dumps(error)) == {}
    assert queue.run("select message from steady_queue_errors where job = %s", number) == [
        (error["message"],)
    ]


# Signals.


def test_started_and_finished_are_sent_by_the_backend_class(performer, signals):
    heard = []
    for signal in (task_started, task_finished):
        signals(
            signal, lambda sender, task_result, **kw: heard.append((sender, task_result.status))
        )
    perform(performer, noop)
    assert heard == [
        (SteadyQueueBackend, TaskResultStatus.RUNNING),
        (SteadyQueueBackend, TaskResultStatus.SUCCESSFUL),
    ]


def test_a_backend_of_ones_own_is_the_sender_of_its_tasks(signals, settings):
    settings.TASKS = {"default": {"BACKEND": f"{__name__}.OwnBackend", "QUEUES": []}}
    heard = []
    for signal in (task_started, task_finished):
        signals(signal, lambda sender, **kwargs: heard.append(sender))
    perform(Performer("worker 1"), noop)
    assert heard == [OwnBackend, OwnBackend]


def test_finished_has_the_result_of_a_success(performer, signals):
    heard = []
    signals(task_finished, lambda task_result, **kw: heard.append((task_result, sys.exc_info())))
    perform(performer, add, 40, 2)
    [(result, exc_info)] = heard
    assert (result.status, result.return_value) == (TaskResultStatus.SUCCESSFUL, 42)
    assert result.finished_at >= result.started_at >= CLAIMED_AT
    assert (result.errors, result.attempts, exc_info[0]) == ([], 1, None)


def test_finished_has_the_error_of_a_failure_and_the_exception_at_hand(performer, signals):
    heard = []
    signals(task_finished, lambda task_result, **kw: heard.append((task_result, sys.exc_info())))
    perform(performer, fail, "boom")
    [(result, (kind, exception, _))] = heard
    assert result.status == TaskResultStatus.FAILED
    assert (kind, str(exception)) == (ValueError, "boom")
    [error] = result.errors
    assert error.exception_class is ValueError
    assert error.traceback.rstrip().endswith("ValueError: boom")
    assert result.finished_at >= result.started_at
    with pytest.raises(ValueError, match="Task failed"):
        result.return_value  # noqa: B018


def test_nothing_is_sent_for_a_job_that_leads_to_no_task(performer, signals):
    heard = []
    for signal in (task_started, task_finished):
        signals(signal, lambda **kwargs: heard.append(kwargs))
    assert perform(performer, noop, path="tests.app.tasks.renamed")
    assert heard == []


def test_django_logs_the_start_and_the_end_and_no_arguments(performer, caplog):
    with caplog.at_level(logging.DEBUG, logger="django.tasks"):
        perform(performer, tell, "a secret")
        perform(performer, fail, "boom")
    states = [r.getMessage().rpartition("state=")[2] for r in caplog.records]
    assert states == ["RUNNING", "SUCCESSFUL", "RUNNING", "FAILED"]
    assert "a secret" not in caplog.text
    assert caplog.records[-1].levelno == logging.ERROR
    assert caplog.records[-1].exc_info[0] is ValueError


@pytest.mark.parametrize("signal", [task_started, task_finished], ids=["started", "finished"])
@pytest.mark.parametrize(
    "raised",
    [
        RuntimeError("a bad receiver"),
        SystemExit(1),
        asyncio.CancelledError(),
    ],
    ids=repr,
)
def test_a_receiver_that_raises_changes_nothing(performer, signals, signal, raised):
    def receiver(**kwargs):
        raise raised

    signals(signal, receiver)
    try:
        assert perform(performer, tell) is None
        assert perform(performer, fail)["exception_class"] == "builtins.ValueError"
    except type(raised):
        pytest.fail("it came through")
    assert said == [((), {})]


# What a task leaves behind.


def test_language_time_zone_and_context_variables_end_with_the_task(performer):
    perform(performer, tell_surroundings)
    assert perform(performer, be_different) is None
    perform(performer, tell_surroundings)
    assert said[0] == said[1] == ("en-us", "Europe/Berlin", "plain")
    assert flavour.get() == "plain"


@pytest.mark.parametrize("what", LEFTOVERS)
def test_what_a_task_leaves_on_its_connection_is_rolled_back_and_gone_for_the_next(
    transactional_db, performer, what
):
    perform(performer, leave, what)
    assert perform(performer, hear, "next") is None
    assert list(Heard.objects.values_list("word", flat=True)) == ["next"]
    assert said == ["next committed"]
    assert connection.get_autocommit()
    assert not connection.in_atomic_block


@pytest.mark.parametrize("what", ["an atomic block", "an aborted transaction"])
def test_an_atomic_block_left_open_is_not_around_the_durable_one_of_the_next(
    transactional_db, performer, what
):
    perform(performer, leave, what)
    assert perform(performer, hear, "next", True) is None


def test_the_connection_is_kept_from_task_to_task(transactional_db, performer):
    assert connection.settings_dict["CONN_MAX_AGE"] == 0
    perform(performer, tell_session)
    perform(performer, fail)
    perform(performer, tell_session)
    assert said[0] == said[1]


def test_a_connection_that_died_while_the_thread_was_idle_is_replaced(
    transactional_db, performer, other, monkeypatch
):
    perform(performer, tell_session)
    other(autocommit=True).execute("select pg_terminate_backend(%s, 5000)", [said[0][0]])
    monkeypatch.setattr("steady_queue.performer.IDLE", -1.0)
    assert perform(performer, tell_session) is None
    assert said[0][0] != said[1][0]


def test_a_connection_that_died_under_a_task_is_replaced_for_the_next(
    transactional_db, performer, other
):
    perform(performer, tell_session)
    other(autocommit=True).execute("select pg_terminate_backend(%s, 5000)", [said[0][0]])
    error = perform(performer, tell_session)
    assert error["exception_class"] == "django.db.utils.OperationalError"
    assert perform(performer, tell_session) is None
