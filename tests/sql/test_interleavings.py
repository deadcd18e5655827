"""Random interleavings of four sessions: nobody waits who must not, and nothing is lost.

Each step begins a transaction with one function in it, or ends one. What the queue's own processes
call must not wait for anybody. A person's call may: taken by turns it is given up then, since
nobody would let it go on; in threads it waits, and a deadlock would show.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.sql.sessions import Session

pytestmark = pytest.mark.slow

SESSIONS = 4
STEPS = 400
QUEUES = ["a", "b", "new"]
LIMITS = {"k": 2, "l": 1}
RETRY = json.dumps({"exception_class": "E", "message": "m", "traceback": "t", "retry_in": 0})
REMOVED = ["SQ001"]
"""A process claims after its recovery."""
GIVES_UP = [psycopg.errors.LockNotAvailable.sqlstate]
HELD_BY_A_PERSON = ["ready", "running", "blocked", "scheduled", "semaphores", "lanes"]


class Actor(Session):
    """A session that plays whoever calls the queue, one call a transaction."""

    def __init__(self, connection: Any, world: World, seed: int, patience: str) -> None:
        super().__init__(connection)
        self.world, self.random, self.patience = world, random.Random(seed), patience
        self.open = False
        self.at_commit: list[Callable[[], None]] = []

    def step(self) -> str:
        if self.open:
            return self.end(self.random.random() < 0.7)
        name = self.random.choice([*CALLS, *OFTEN])
        self.open = True
        try:
            CALLS[name](self)
        except psycopg.DatabaseError as error:
            if error.sqlstate not in (GIVES_UP if name in BY_A_PERSON else REMOVED):
                raise
            self.end(False)
            return f"{name} given up"
        return name

    def end(self, commit: bool) -> str:
        if commit:
            self.commit()
            for change in self.at_commit:
                change()
        else:
            self.rollback()
        self.open, self.at_commit = False, []
        return "commit" if commit else "rollback"

    def on_commit(self, change: Callable[..., Any], *arguments: Any) -> None:
        self.at_commit.append(lambda: change(*arguments))

    def some(self, values: Any, most: int = 3) -> list[Any]:
        values = sorted(values.copy())
        return self.random.sample(values, min(self.random.randint(1, most), len(values)))

    # The application.

    def enqueue_some(self) -> None:
        if self.random.random() < 0.3:
            self.run("set transaction isolation level repeatable read")
        queue, key = self.random.choice(QUEUES), self.random.choice(["k", "k", "l", None])
        if key:
            jobs = self.enqueue_limited(key, LIMITS[key], queue, count=self.random.randint(1, 3))
        else:
            after = self.random.choice([None, "2999-01-01"])
            jobs = [self.enqueue(queue=queue, run_after=after)]
        self.on_commit(self.world.enqueued.update, jobs)

    # Workers.

    def claim_some(self) -> None:
        process = self.random.choice(self.world.processes)
        queues = self.random.choice([["*"], ["a"], ["b", "*"]])
        claimed = self.claim(process, *queues, count=self.random.randint(1, 4))
        self.on_commit(self.world.claimed.update, claimed)
        self.on_commit(self.world.claims.extend, claimed.values())

    def claims(self) -> dict[int, int]:
        known = self.world.claimed.copy()
        return {job: known[job] for job in self.some(known)}

    def finish_some(self) -> None:
        jobs = self.claims()
        error = self.random.choice([None, None, RETRY])
        refused = self.finish(jobs, error, p_limit_keys=list(LIMITS))
        for job in jobs:
            if refused.get(job) != "busy":
                self.on_commit(self.world.claimed.pop, job, None)

    def finish_and_claim_some(self) -> None:
        process, jobs = self.random.choice(self.world.processes), self.claims()
        queues = self.random.choice([["*"], ["a"], ["b", "*"]])
        refused, claimed = self.finish_and_claim(
            jobs,
            process,
            *queues,
            count=self.random.randint(1, 9),
            followers=self.random.randint(0, 3),
        )
        for job in set(jobs) - {job for job, refusal in refused.items() if refusal == "busy"}:
            self.on_commit(self.world.claimed.pop, job, None)
        self.on_commit(self.world.claimed.update, claimed)
        self.on_commit(self.world.claims.extend, claimed.values())

    def release_some(self) -> None:
        jobs = self.claims()
        for job in set(jobs) - set(self.release(jobs)):
            self.on_commit(self.world.claimed.pop, job, None)

    def disown_some(self) -> None:
        process, known = self.random.choice(self.world.processes), self.some(self.world.claimed, 9)
        self.run("select steady_queue_disown_jobs(%s, %s::bigint[])", process, known)

    # Supervisors and dispatchers.

    def recover_one(self) -> None:
        process = self.random.choice(self.world.processes)
        self.recover(process, self.random.choice([None, [], self.some(self.world.claimed)]))
        self.on_commit(self.world.replace, process)

    def sweep(self) -> None:
        self.run("select * from steady_queue_sweep(%s, '30 s')", self.world.sweeper)

    def dispatch_due(self) -> None:
        due = "update steady_queue_scheduled set run_after = clock_timestamp() where job in "
        self.run(f"{due} (select job from steady_queue_scheduled for update skip locked)")
        self.dispatch(self.random.randint(1, 5))

    def advance_marks(self) -> None:
        self.run("select steady_queue_advance_marks('{default}', '{0}')")

    # People, who may wait, and are waited for by nobody.

    def discard_some(self) -> None:
        self.be_patient()
        self.discard(*self.some(self.world.enqueued, 5))

    def retry_some(self) -> None:
        self.be_patient()
        jobs = self.some(self.world.enqueued, 5)
        self.run("select steady_queue_retry_jobs(%s::bigint[])", jobs)

    def pause_or_resume(self) -> None:
        self.be_patient()
        what = self.random.choice(["pause", "resume", "resume"])
        self.run(f"select steady_queue_{what}_queue(%s)", self.random.choice(QUEUES))

    def hold_rows(self) -> None:
        table = self.random.choice(HELD_BY_A_PERSON)
        self.run(f"select from steady_queue_{table} limit 2 for update skip locked")

    def be_patient(self) -> None:
        self.run(f"set local lock_timeout = '{self.patience}'")


BY_A_PERSON: dict[str, Callable[[Actor], None]] = {
    "discard": Actor.discard_some,
    "retry": Actor.retry_some,
    "pause or resume": Actor.pause_or_resume,
    "hold rows": Actor.hold_rows,
}
CALLS: dict[str, Callable[[Actor], None]] = {
    "enqueue": Actor.enqueue_some,
    "claim": Actor.claim_some,
    "finish": Actor.finish_some,
    "finish and claim": Actor.finish_and_claim_some,
    "release": Actor.release_some,
    "disown": Actor.disown_some,
    "recover": Actor.recover_one,
    "sweep": Actor.sweep,
    "dispatch": Actor.dispatch_due,
    "maintain": Actor.maintain,
    "advance marks": Actor.advance_marks,
    **BY_A_PERSON,
}
OFTEN = ["enqueue", "enqueue", "claim", "finish", "finish and claim"] * 2
"""The flow, beside one of each of the others."""


class World:
    """What was committed, as those who called know it."""

    def __init__(self, session: Session) -> None:
        self.session, self.lock = session, threading.RLock()
        self.enqueued: set[int] = set()
        self.claimed: dict[int, int] = {}
        self.claims: list[int] = []
        self.processes = [self.register("worker") for _ in range(3)]
        self.sweeper = self.register("supervisor")
        self.run(
            "update steady_queue_processes set steady_since = '2000-01-01' where id = %s",
            self.sweeper,
        )

    def run(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with self.lock:
            rows = self.session.run(statement, *arguments)
            self.session.commit()
            return rows

    def register(self, kind: str) -> int:
        with self.lock:
            process = self.session.process(kind)
            self.session.commit()
            return process

    def replace(self, process: int) -> None:
        """Its supervisor starts another in its place, if it is gone."""
        with self.lock:
            gone = not self.run("select id from steady_queue_processes where id = %s", process)
            if gone and process in self.processes:
                self.processes[self.processes.index(process)] = self.register("worker")

    def maintain(self) -> None:
        self.run("select * from steady_queue_sweep(%s, '30 s')", self.sweeper)
        self.run("select steady_queue_maintain_limits()")

    def violations(self) -> list[tuple[Any, ...]]:
        """As if all had been blocked for long, and nothing excused a free slot."""
        self.run("update steady_queue_blocked set blocked_at = '2000-01-01'")
        return self.run("select * from steady_queue_check('1 hour', interval '-2 seconds', true)")

    def drain(self) -> None:
        self.run("delete from steady_queue_pauses")
        self.run("update steady_queue_scheduled set run_after = clock_timestamp()")
        self.run("select steady_queue_dispatch_jobs(10000)")
        running = dict(self.run("select job, claim from steady_queue_running"))
        going = True
        while going:
            assert self.session.finish(running, p_limit_keys=list(LIMITS)) == {}
            self.maintain()
            running = self.session.claim(self.sweeper, count=10000)
            self.session.commit()
            going = bool(running)

    def ended_well(self) -> None:
        self.maintain()
        assert self.violations() == []
        self.drain()
        assert self.violations() == []
        ended = {job for (job,) in self.run("select job from steady_queue_outcomes")}
        assert ended == self.enqueued
        # A run in which little happens shows little.
        assert len(self.claims) > 5


@pytest.fixture
def world(other, lanes):
    lanes("a", "b")
    return World(Session(other()))


@pytest.fixture
def actors(other, world):
    def make(seed: int, patience: str) -> list[Actor]:
        return [Actor(other(), world, seed + i / SESSIONS, patience) for i in range(SESSIONS)]

    return make


@pytest.mark.parametrize("seed", range(20))
def test_nobody_waits_by_turns_and_nothing_is_lost(world, actors, seed):
    sessions, turns = actors(seed, "20ms"), random.Random(seed)
    for _ in range(STEPS):
        number = turns.randrange(SESSIONS)
        print(number, sessions[number].step())
    for session in sessions:
        session.end(commit=True)
    world.ended_well()


def test_nobody_waits_or_deadlocks_all_at_once_and_nothing_is_lost(world, actors):
    def steps(session: Actor) -> None:
        for _ in range(4 * STEPS):
            session.step()
        session.end(commit=True)

    with ThreadPoolExecutor(SESSIONS) as pool:
        for finished in [pool.submit(steps, session) for session in actors(0, "0")]:
            finished.result()
    world.ended_well()
