"""Jobs that wait for a thread, and whose lease runs out meanwhile."""

import threading
import time
from types import SimpleNamespace

import pytest

from steady_queue.processes.crew import Crew
from tests.conftest import PATIENCE


def job(number, suspect=False):
    return SimpleNamespace(id=number, suspect=suspect, slot=None)


@pytest.fixture
def noticed():
    return threading.Semaphore(0)


@pytest.fixture
def begun():
    """The jobs that a thread begins with, at which it stays."""
    return []


@pytest.fixture
def crew(noticed, begun):
    """Of one thread, whose lease has run out."""

    def note(slot, number):
        begun.append(number)
        noticed.release()
        threading.Event().wait()

    one = Crew(1, "worker", SimpleNamespace(note=note), noticed.release)
    one.lease(time.monotonic() - 1)
    return one


def test_jobs_that_find_no_lease_are_left_and_no_longer_held(crew, noticed, begun):
    jobs = [job(1), job(2)]
    crew.start(jobs)
    for _ in jobs:
        assert noticed.acquire(timeout=PATIENCE)
    assert begun == []
    assert crew.held == 2
    assert crew.overdue() == jobs
    assert (crew.held, crew.jobs, crew.overdue()) == (0, [], [])


def test_suspects_that_find_no_lease_make_room_one_after_the_other(crew, noticed, begun):
    jobs = [job(1, suspect=True), job(2, suspect=True)]
    crew.start(jobs)
    for one in jobs:
        assert crew.room() == 0
        assert noticed.acquire(timeout=PATIENCE)
        assert crew.overdue() == [one]
    assert begun == []
    assert crew.held == 0
    assert crew.room() > 0


def test_a_new_lease_is_only_for_what_comes_after_it(crew, noticed, begun):
    held_up, go_on = threading.Event(), threading.Event()

    def notice():
        held_up.set()
        go_on.wait(PATIENCE)
        noticed.release()

    crew._notice = notice
    crew.start([job(1)])
    assert held_up.wait(PATIENCE)
    crew.start([job(2)])
    crew.lease(float("inf"))
    crew.start([job(3)])
    go_on.set()
    for _ in range(3):
        assert noticed.acquire(timeout=PATIENCE)
    assert [one.id for one in crew.overdue()] == [1, 2]
    assert begun == [3]
