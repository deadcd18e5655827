"""The threads of a worker, with jobs that only wait and say that they did."""

import threading
import time

import pytest

from steady_queue.processes import crew as module
from steady_queue.processes.crew import Crew
from steady_queue.processes.started import StartedJobs
from steady_queue.queries import ClaimedJob, Outcome
from tests.conftest import PATIENCE

SHORT, LONG = 0.001, 10.0


class Script:
    """Performs jobs: each says in which thread it began, and ends when it may."""

    def __init__(self):
        self.began = []
        self.changed = threading.Condition()
        self.held_up = set()
        self.ran = SHORT

    def perform(self, job, received_at):
        with self.changed:
            self.began.append((job.id, threading.current_thread().name))
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: job.id not in self.held_up, PATIENCE)
        return Outcome(job, 0.0, self.ran, None)

    def until_began(self, *jobs):
        with self.changed:
            assert self.changed.wait_for(lambda: set(jobs) <= set(dict(self.began)), PATIENCE)

    def let_go(self):
        with self.changed:
            self.held_up.clear()
            self.changed.notify_all()


@pytest.fixture
def script(monkeypatch):
    script = Script()
    monkeypatch.setattr(module, "Performer", lambda *arguments: script)
    yield script
    script.let_go()


@pytest.fixture
def rung():
    return threading.Event()


@pytest.fixture
def crew(script, rung):
    def make(threads=2):
        return Crew(threads, "w", StartedJobs.private(threads), rung.set)

    return make


def job(id, slot=None, **more):
    empty = dict.fromkeys(ClaimedJob._fields)
    key = slot and f"key {slot}"
    return ClaimedJob(**{**empty, "id": id, "claim": 1, "slot": slot, "limit_key": key, **more})


def until_ended(crew, rung, *jobs):
    """Take outcomes until those of these jobs were among them; in order."""
    ended = []
    while not set(jobs) <= set(ended):
        assert rung.wait(PATIENCE)
        rung.clear()
        ended += [outcome.job.id for outcome in crew.finished()]
    return ended


def learn_that_limited_jobs_are_short(crew, rung):
    for number in range(100, 120):
        crew.start([job(number, 7)])
        until_ended(crew, rung, number)


def test_jobs_of_one_slot_run_in_one_thread_one_after_the_other(script, crew, rung):
    script.held_up = {1, 2}
    one = crew()
    one.start([job(1, 7), job(2, 8), job(3, 7), job(4, 8), job(5, 7)])
    script.until_began(1, 2)
    assert len(script.began) == 2
    script.let_go()
    until_ended(one, rung, 1, 2, 3, 4, 5)
    threads = dict(script.began)
    assert threads[1] == threads[3] == threads[5] != threads[2] == threads[4]
    assert [id for id, _ in script.began if id in (1, 3, 5)] == [1, 3, 5]
    assert one.held == 0


def test_the_loop_is_woken_when_the_last_of_a_slot_has_ended(script, crew, rung):
    script.held_up = {3}
    one = crew(1)
    one.seconds_each = SHORT
    one.start([job(1, 7), job(2, 7), job(3, 7)])
    script.until_began(3)
    assert not rung.is_set()
    assert one.waiting
    script.let_go()
    assert rung.wait(PATIENCE)
    assert [outcome.job.id for outcome in one.finished()] == [1, 2, 3]
    assert not one.waiting


def test_followers_are_asked_for_when_limited_jobs_are_short(script, crew, rung):
    one = crew(1)
    assert one.followers() == 0
    learn_that_limited_jobs_are_short(one, rung)
    assert one.followers() > 10
    script.ran = LONG
    one.start([job(20)])
    until_ended(one, rung, 20)
    assert one.followers() > 10
    one.start([job(21, 7)])
    until_ended(one, rung, 21)
    assert one.followers() == 0


def test_those_behind_a_long_job_are_given_back_though_other_threads_go_on(
    script, crew, rung, monkeypatch
):
    monkeypatch.setattr(module, "FOLLOWS_WITHIN", PATIENCE)
    script.held_up = {1}
    one = crew()
    learn_that_limited_jobs_are_short(one, rung)
    one.start([job(1, 7), job(2, 7), job(3, 7)])
    script.until_began(1)
    given_back, until = [], time.monotonic() + PATIENCE
    while not given_back and time.monotonic() < until:
        one.start([job(number := len(script.began))])
        until_ended(one, rung, number)
        given_back = one.stalled()
    assert [left.id for left in given_back] == [2, 3]
    assert (one.held, one.jobs, one.followers()) == (1, [1], 0)
    script.let_go()
    assert until_ended(one, rung, 1) == [1]
    assert {2, 3}.isdisjoint(dict(script.began))


def test_nobody_follows_long_after_the_claim(script, crew, rung, monkeypatch):
    monkeypatch.setattr(module, "FOLLOWS_WITHIN", -1.0)
    one = crew(1)
    one.start([job(1, 7), job(2, 7)])
    assert until_ended(one, rung, 1) == [1]
    assert [left.id for left in one.stalled()] == [2]
    assert one.held == 0


def test_nobody_follows_when_others_may_have_the_job(script, crew, rung):
    script.held_up = {1}
    one = crew(1)
    one.start([job(1, 7), job(2, 7)])
    script.until_began(1)
    one.lease(time.monotonic() - 1)
    script.let_go()
    assert until_ended(one, rung, 1) == [1]
    assert [left.id for left in one.give_back()] == [2]


def test_all_that_has_not_started_is_given_back(script, crew, rung):
    script.held_up = {1}
    one = crew(1)
    one.start([job(1, 7), job(2, 8), job(3, 7), job(4, 8), job(5, suspect=True)])
    script.until_began(1)
    assert sorted(left.id for left in one.give_back()) == [2, 3, 4, 5]
    assert (one.held, one.jobs) == (1, [1])
    assert not one.waiting
    script.let_go()
    assert until_ended(one, rung, 1) == [1]
