"""One step of a process at a time: what it does before it sleeps, and for how long it may."""

import psycopg
import pytest

from steady_queue import queries
from steady_queue.configuration import Dispatcher as DispatcherOptions
from steady_queue.configuration import Worker as WorkerOptions
from steady_queue.listener import Listener
from steady_queue.processes.dispatcher import Dispatcher
from steady_queue.processes.scheduler import Scheduler
from steady_queue.processes.started import StartedJobs
from steady_queue.processes.worker import Worker
from tests.conftest import PATIENCE


@pytest.fixture
def session(other):
    return other(autocommit=True)


@pytest.fixture
def at_rest(transactional_db):
    """Lets a process look until it is armed, and ``done`` where it has to prove something too."""
    made = []

    def go(process, done=lambda: True):
        made.append(process)
        seconds = process.step()
        while not (process.listener.armed and done()):
            process.wait(seconds)
            seconds = process.step()
        return process

    yield go
    for process in made:
        process.listener.close()
        process.database.close()


@pytest.fixture
def waiting(transactional_db):
    """Listeners of workers of any queue: one that has waited for longer than all others."""
    made = [Listener(["queue:*"], ["*"])]
    assert made[0].arm()
    yield made
    for listener in made:
        listener.close()


@pytest.fixture
def worker(lanes, session, at_rest):
    lanes("default")
    number = queries.register_process(session, "worker", "w", None, "here", 1)
    process = Worker(WorkerOptions(threads=1), StartedJobs.private(1), name="w", process_id=number)
    return at_rest(process, lambda: process._look_at > 0)


@pytest.fixture
def dispatcher(at_rest):
    process = Dispatcher(DispatcherOptions(), name="d")
    return at_rest(process, lambda: process.listener.proven)


def enqueue(session, count=1):
    for _ in range(count):
        session.execute("select steady_queue_enqueue('t')")


def lose_connection_once(process, monkeypatch):
    def connection():
        monkeypatch.undo()
        raise psycopg.OperationalError("away")

    monkeypatch.setattr(process.database, "connection", connection)
    with pytest.raises(psycopg.OperationalError):
        process.step()


def test_a_worker_does_not_sleep_on_what_came_with_the_answer_that_all_is_quiet(
    worker, session, monkeypatch
):
    is_quiet = queries.is_quiet

    def too_early(connection, names):
        answer = is_quiet(connection, names)
        enqueue(session)
        connection.execute("select 1")
        return answer

    monkeypatch.setattr(queries, "is_quiet", too_early)
    worker._look_at = 0.0
    assert worker.step() == 0


def test_a_worker_that_cannot_stand_in_line_does_not_sleep_as_if_it_would_be_told(
    worker, monkeypatch
):
    def join_lines(*arguments):
        raise psycopg.errors.InsufficientPrivilege("no")

    monkeypatch.setattr(queries, "join_lines", join_lines)
    worker.listener.step_aside()
    for _ in range(2):
        worker._look_at = 0.0
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            worker.step()


def test_a_worker_that_fills_up_unasked_leaves_what_was_announced_to_those_behind(
    waiting, worker, session
):
    ahead, behind = waiting[0], Listener(["queue:*"], ["*"])
    waiting.append(behind)
    assert behind.arm()
    enqueue(session, 3)
    worker.listener.connection.execute("select 1")
    worker._look_at = 0.0
    worker.step()
    ahead.step_aside()
    behind.connection.execute("select 1")
    assert behind.drain()


def test_a_worker_that_cannot_claim_leaves_its_place_to_those_behind(
    worker, session, waiting, monkeypatch
):
    def claim(*arguments):
        raise psycopg.errors.LockNotAvailable("the table is locked")

    ahead, behind = waiting[0], Listener(["queue:*"], ["*"])
    waiting.append(behind)
    assert behind.arm()
    ahead.step_aside()
    monkeypatch.setattr(queries, "finish_and_claim_jobs", claim)
    enqueue(session)
    for listener in (worker.listener, behind):
        listener.connection.execute("select 1")
    assert not behind.drain()
    worker._step()
    behind.connection.execute("select 1")
    assert behind.drain()


def test_a_dispatcher_remembers_what_it_heard_until_it_has_looked(dispatcher, monkeypatch):
    dispatcher._dispatch_at = float("inf")
    dispatcher.listener._heard.add("scheduled")
    lose_connection_once(dispatcher, monkeypatch)
    looks = []
    monkeypatch.setattr(queries, "dispatch_jobs", lambda *_: looks.append(1) or (0, None))
    dispatcher.step()
    assert looks


def test_a_dispatcher_looks_ever_more_rarely_for_a_due_job_that_is_locked(
    dispatcher, session, other
):
    session.execute("select steady_queue_enqueue('t', run_after => now() + interval '1 hour')")
    session.execute("update steady_queue_scheduled set run_after = now()")
    other().execute("select from steady_queue_scheduled for update")
    connection = dispatcher.database.connection()
    dispatcher.rest.begin_anew()
    seconds = [dispatcher._dispatch(connection) for _ in range(4)]
    assert seconds == [0.005, 0.01, 0.02, 0.04]


def test_a_scheduler_that_waits_for_a_producer_reads_what_is_sent_meanwhile(
    at_rest, other, session
):
    other().execute("select steady_queue_announce('recurring')")
    scheduler = at_rest(Scheduler(name="s"))
    scheduler.watch(scheduler.listener.connection)
    session.execute("select steady_queue_announce('recurring')")
    assert scheduler._selector.select(PATIENCE)
    scheduler.step()
    assert not scheduler._selector.select(0)
