import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import django
import psycopg
import pytest
from django.db import DatabaseError
from django.tasks import task
from django.tasks.exceptions import InvalidTask

import steady_queue
from steady_queue import timeouts
from steady_queue.timeouts import TaskTimeout, Timeouts, timeout_of, times_out
from tests.app.tasks import noop

MOMENT = timedelta(milliseconds=2)
JOB = SimpleNamespace(id=1)


@pytest.fixture
def watched(monkeypatch) -> Timeouts:
    """Without connections: threads of the test have none to lose."""
    monkeypatch.setattr(timeouts, "connections", SimpleNamespace(all=list))
    return Timeouts(notice=lambda: None)


def in_thread(run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_the_timeout_is_the_decorators_else_the_options_else_the_default(monkeypatch):
    assert timeout_of(noop) is None
    monkeypatch.setattr(steady_queue, "default_task_timeout", MOMENT)
    assert timeout_of(noop) == MOMENT
    assert timeout_of(times_out(after=2 * MOMENT)(noop)) == 2 * MOMENT


@pytest.mark.parametrize("bad", [timedelta(0), timedelta(-1), 5, None])
def test_what_is_no_timeout_is_refused_where_it_is_declared(bad):
    with pytest.raises(ValueError, match="positive timedelta"):
        times_out(after=bad)
    if bad is not None:
        with pytest.raises(InvalidTask, match="positive timedelta"):
            replace(noop, timeout=bad)


def test_only_tasks_can_time_out():
    with pytest.raises(TypeError, match=r"put it above @task\(\)"):
        times_out(after=MOMENT)(lambda: None)


@pytest.mark.skipif(django.VERSION < (6, 1), reason="@task passes no extra options on before 6.1")
def test_the_timeout_can_be_given_to_the_task_decorator():
    assert task(timeout=MOMENT)(noop.func).timeout == MOMENT


def test_a_call_that_ends_in_time_is_forgotten(watched):
    assert watched.call(JOB, None, timedelta(hours=1), lambda: "value") == "value"
    watched.enforce()
    assert watched.left() == float("inf")
    assert watched.stuck() == []


def test_the_loop_is_noticed_only_by_a_deadline_before_the_one_it_waits_for():
    noticed = []
    watched = Timeouts(lambda: noticed.append(True))

    def nested():
        watched.enforce()
        noticed.append("an hour")
        watched.call(JOB, None, timedelta(hours=2), lambda: None)
        watched.call(JOB, None, timedelta(minutes=1), lambda: None)

    watched.call(JOB, None, timedelta(hours=1), nested)
    assert noticed == [True, "an hour", True]


def test_an_exception_on_its_way_does_not_outlive_the_call(watched):
    """The thread is held by C code from before the exception until after the call has ended."""
    entered, leave = threading.Event(), threading.Lock()
    ends = []
    leave.acquire()

    def run():
        try:
            watched.call(JOB, None, MOMENT, lambda: (entered.set(), leave.acquire()))
            ends.append("in time")
        except TaskTimeout as error:
            ends.append(str(error))
        ends.append(sum(range(1000)))

    thread = in_thread(run)
    entered.wait()
    while not any(deadline.due for deadline in watched._running):
        watched.enforce()
    leave.release()
    thread.join()
    assert ends == [f"the task ran for more than {MOMENT}", 499500]
    assert watched._running == set()


def ends_of(watched, call):
    """What comes out of a call that is stopped by its timeout."""
    ends = []

    def run():
        try:
            watched.call(JOB, None, MOMENT, call)
        except Exception as exception:
            ends.append((type(exception), type(exception.__cause__)))

    thread = in_thread(run)
    while thread.is_alive():
        watched.enforce()
    return ends


@pytest.mark.parametrize("error", [DatabaseError, psycopg.OperationalError])
def test_a_transaction_that_could_not_end_for_the_timeout_has_timed_out(watched, error):
    """As one whose end was interrupted, too, with its driver busy."""

    def leave_a_transaction():
        try:
            while True:
                pass
        finally:
            raise error("can't change 'autocommit' now")

    assert ends_of(watched, leave_a_transaction) == [(TaskTimeout, error)]


@pytest.mark.parametrize("error", [DatabaseError, ValueError])
def test_a_task_that_stops_and_then_fails_has_failed(watched, error):
    def stop_and_fail():
        try:
            while True:
                pass
        except TaskTimeout:
            pass
        raise error

    assert ends_of(watched, stop_and_fail) == [(error, type(None))]


def test_a_call_that_has_ended_is_never_interrupted(watched):
    deadlines = []

    def run():
        deadline = timeouts.Deadline(JOB, None, MOMENT)
        deadlines.append(deadline)
        deadline.end()

    in_thread(run).join()
    deadline = timeouts.Deadline(JOB, None, MOMENT)
    deadline.end()
    deadline.enforce()
    assert sum(range(1000)) == 499500
    deadlines[0].enforce()
    assert deadlines[0].settled


def test_a_call_that_ends_while_it_is_interrupted_waits_for_the_exception(watched, monkeypatch):
    raise_in = timeouts._raise_in
    enforcing, raise_now, raised, ended = (threading.Event() for _ in range(4))
    seen, taken_back = [], []

    def slowly(thread, exception):
        if exception is None:
            taken_back.append(thread)
        else:
            enforcing.set()
            raise_now.wait()
        raise_in(thread, exception)

    def run():
        try:
            seen.append(watched.call(JOB, None, MOMENT, lambda: enforcing.wait() and "value"))
            ended.set()
            raised.wait()
            seen.append(sum(range(1000)))
        except TaskTimeout:
            seen.append("interrupted elsewhere")

    def enforce():
        while not enforcing.is_set():
            watched.enforce()
        raised.set()

    monkeypatch.setattr(timeouts, "_raise_in", slowly)
    threads = [in_thread(run), in_thread(enforce)]
    enforcing.wait()
    # As long as the loop has not raised, the call does not end.
    while not all(deadline.ended for deadline in watched._running):
        pass
    assert not ended.is_set()
    raise_now.set()
    for thread in threads:
        thread.join()
    assert seen == ["value", 499500]
    assert len(taken_back) == 1


@pytest.mark.slow
def test_a_timeout_at_the_very_end_meets_nothing_but_its_call(watched):
    """A thousand calls that end about when they are interrupted, and innocent code between them."""
    failures, timed_out, done = [], [], threading.Event()

    def spin(seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass

    def run():
        try:
            for number in range(1000):
                try:
                    watched.call(JOB, None, MOMENT, lambda n=number: spin(0.0015 + n % 10 / 1e4))
                except TaskTimeout:
                    timed_out.append(number)
                spin(0.0002)
        except BaseException as error:
            failures.append(error)
        finally:
            done.set()

    in_thread(run)
    while not done.is_set():
        watched.enforce()
        done.wait(min(watched.left(), 0.0005))
    assert failures == []
    assert 0 < len(timed_out) < 1000
    assert watched._running == set()
