from dataclasses import replace
from datetime import timedelta

import django
import pytest
from django.tasks import task
from django.tasks.exceptions import InvalidTask

from steady_queue.concurrency import limits_concurrency
from steady_queue.retries import Retry, discard_on, exponential, retry_on, verdict
from tests.app.tasks import noop


def seconds(task, error, attempt):
    discard, retry_in = verdict(task, error, attempt)
    assert not discard
    return retry_in


def test_exponential_waits_grow_up_to_an_hour():
    waits = [exponential(n).total_seconds() for n in range(1, 10)]
    assert waits == [3, 18, 83, 258, 627, 1298, 2403, 3600, 3600]
    assert exponential(10**9) == timedelta(hours=1)


def test_an_error_that_is_not_named_is_a_failure():
    limited = retry_on(OSError)(noop)
    assert seconds(limited, ValueError(), 1) is None


def test_a_named_error_is_retried_until_the_attempts_are_used_up():
    tried = retry_on(OSError, attempts=3, wait=timedelta(seconds=7), jitter=0)(noop)
    assert [seconds(tried, ConnectionError(), n) for n in (1, 2, 3)] == [7, 7, None]


def test_jitter_spreads_the_wait_by_its_part():
    tried = retry_on(OSError, wait=timedelta(seconds=100), jitter=0.15)(noop)
    waits = {seconds(tried, OSError(), 1) for _ in range(200)}
    assert len(waits) > 100
    assert all(85 <= wait <= 115 for wait in waits)


def test_a_callable_is_asked_with_the_attempts_so_far():
    tried = retry_on(OSError, wait=lambda n: timedelta(minutes=n), jitter=0)(noop)
    assert [seconds(tried, OSError(), n) for n in (1, 4)] == [60, 240]


def test_the_outermost_decorator_that_fits_decides():
    tried = discard_on(FileNotFoundError)(retry_on(OSError, wait=timedelta(0))(noop))
    assert verdict(tried, FileNotFoundError(), 1) == (True, None)
    assert verdict(tried, PermissionError(), 1) == (False, 0)


def test_a_task_may_ask_to_be_retried_by_itself():
    assert seconds(noop, Retry(after=timedelta(seconds=5)), 99) == 5
    tried = retry_on(OSError, attempts=2)(noop)
    assert [seconds(tried, Retry(), n) for n in (1, 2)] == [0, None]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"attempts": 0}, "attempts"),
        ({"wait": "soon"}, "soon"),
        ({"jitter": 2}, "jitter"),
        ({"wait": timedelta(seconds=-1)}, "wait"),
    ],
)
def test_what_cannot_work_is_refused_where_it_is_declared(bad, said):
    with pytest.raises(ValueError, match=said):
        retry_on(OSError, **bad)


@pytest.mark.parametrize("decorator", [retry_on, discard_on])
def test_only_exception_classes_are_taken(decorator):
    with pytest.raises(ValueError, match="at least one"):
        decorator()
    with pytest.raises(TypeError, match="exception classes"):
        decorator("OSError")
    with pytest.raises(TypeError, match=r"put it above @task\(\)"):
        decorator(OSError)(lambda: None)


def test_a_wait_that_no_timestamp_can_hold_is_cut():
    tried = retry_on(OSError, wait=lambda attempt: timedelta.max, jitter=0)(noop)
    assert seconds(tried, OSError(), 1) == seconds(noop, Retry(timedelta.max), 1) == 36_500 * 86_400


def test_no_backoff_means_at_once():
    tried = replace(noop, max_attempts=2, backoff=timedelta(0))
    assert seconds(tried, ValueError(), 1) == 0


def test_tasks_of_another_backend_pass_through_unchanged(settings):
    settings.TASKS = {"default": {"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"}}
    plain = task()(noop.func)
    assert retry_on(OSError)(discard_on(OSError)(limits_concurrency(key="k")(plain))) is plain


def test_max_attempts_and_backoff_of_the_task_are_heeded():
    tried = replace(noop, max_attempts=2, backoff=timedelta(seconds=10))
    assert 8 < seconds(tried, ValueError(), 1) < 12
    assert seconds(tried, ValueError(), 2) is None
    with pytest.raises(InvalidTask, match="at least 1"):
        replace(noop, max_attempts=0)


@pytest.mark.skipif(django.VERSION < (6, 1), reason="@task passes no extra options on before 6.1")
def test_they_can_be_given_to_the_task_decorator():
    assert task(max_attempts=3)(noop.func).max_attempts == 3
