"""Named races with real sessions, and any interleaving of several.

Where a session is meant to wait, the test waits until it does. Where none may wait, a lock_timeout
says so.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import PATIENCE, Queue
from tests.sql.invariants import DRAINED, violations

RECOVER = "select steady_queue_recover_jobs(%s, %s::bigint[], 'E', 'm')"
HAND_OVER = "select steady_queue_maintain_limits()"


class Session(Queue):
    """A session of its own. What it does stays open until ``commit``."""

    def __init__(self, connection: Any) -> None:
        super().__init__(self._run)
        self.connection = connection
        self.commit, self.rollback = connection.commit, connection.rollback

    def _run(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(statement, arguments or None)
        return cursor.fetchall() if cursor.description else []

    def must_not_wait(self) -> None:
        self.run("set lock_timeout = '1s'")
        self.commit()

    def value(self, statement: str, *arguments: Any) -> Any:
        return self.run(statement, *arguments)[0][0]


class Waiting:
    """A call in a thread of its own, which waits for another session until that one lets it go."""

    def __init__(self, session: Session, call: Any, look: Session) -> None:
        self.error: BaseException | None = None
        self.result: Any = None
        self._thread = threading.Thread(target=self._call, args=(session, call), daemon=True)
        self._thread.start()
        pid = session.connection.info.backend_pid
        deadline = time.monotonic() + PATIENCE
        while not look.value(
            "select count(*) from pg_stat_activity where pid = %s and wait_event_type = 'Lock'", pid
        ):
            look.commit()
            if not self._thread.is_alive() or time.monotonic() > deadline:
                pytest.fail(f"expected the session to wait, got {self.result!r} {self.error!r}")
        look.commit()

    def _call(self, session: Session, call: Any) -> None:
        try:
            self.result = call()
            session.commit()
        except BaseException as error:
            self.error = error
            session.rollback()

    def end(self) -> Any:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        if self.error:
            raise self.error
        return self.result


@pytest.fixture
def sessions(other, lanes):
    lanes("default", "mail")
    made = [Session(other()) for _ in range(4)]
    for session in made:
        session.must_not_wait()
    yield made
    for session in made:
        session.rollback()


@pytest.fixture
def look(other):
    return Session(other(autocommit=True))


def may_wait(*sessions):
    for session in sessions:
        session.run("set lock_timeout = 0")
        session.commit()


def in_session(session, call, look):
    may_wait(session)
    return Waiting(session, call, look)


def recovering(session, process, started=None):
    return session.value(RECOVER, process, started)


class TestRecovering:
    def test_a_job_that_is_being_finished_is_not_recovered(self, sessions, look):
        finisher, recoverer, *_ = sessions
        job = look.enqueue()
        worker = look.process()
        claimed = look.claim(worker)
        assert finisher.finish(claimed) == {}
        waiting = in_session(recoverer, lambda: recovering(recoverer, worker), look)
        finisher.commit()
        assert waiting.end() == 0
        assert look.state(job) == "successful"
        assert violations(look.run) == []

    def test_a_limited_job_that_is_being_finished_is_left_to_the_next_recovery(
        self, sessions, look
    ):
        finisher, recoverer, *_ = sessions
        first, second = look.enqueue_limited("k", count=2)
        worker = look.process()
        claimed = look.claim(worker)
        assert finisher.finish_limited(claimed, "k") == {}
        assert recovering(recoverer, worker) == 0
        recoverer.commit()
        finisher.commit()
        assert look.states(first, second) == ["successful", "ready"]
        assert look.run("select id from steady_queue_processes") == [(worker,)]
        assert recovering(recoverer, worker) == 0
        recoverer.commit()
        assert look.run("select id from steady_queue_processes") == []
        assert violations(look.run) == []

    def test_a_job_that_is_being_recovered_is_not_finished(self, sessions, look):
        finisher, recoverer, *_ = sessions
        job = look.enqueue()
        worker = look.process()
        claimed = look.claim(worker)
        assert recovering(recoverer, worker) == 1
        waiting = in_session(finisher, lambda: finisher.finish(claimed), look)
        recoverer.commit()
        assert waiting.end() == {job: "stale"}
        assert look.state(job) == "ready"
        assert violations(look.run) == []

    def test_a_limited_job_that_is_being_recovered_is_busy_then_stale(self, sessions, look):
        finisher, recoverer, *_ = sessions
        first, second = look.enqueue_limited("k", count=2)
        worker = look.process()
        claimed = look.claim(worker)
        recovering(recoverer, worker, [])
        assert finisher.finish_limited(claimed, "k") == {first: "busy"}
        finisher.commit()
        recoverer.commit()
        assert finisher.finish_limited(claimed, "k") == {first: "stale"}
        finisher.commit()
        assert look.states(first, second) == ["ready", "ready"]
        assert violations(look.run) == []

    def test_recovery_beside_a_finish_of_the_same_key_hands_over_what_both_freed(
        self, sessions, look
    ):
        finisher, recoverer, *_ = sessions
        one, two, three, four = look.enqueue_limited("k", to=2, count=4)
        living, dying = look.process(), look.process()
        finished = look.claim(living, count=1)
        look.claim(dying)
        assert finisher.finish_limited(finished, "k") == {}
        # It leaves what it cannot lock, and never waits.
        assert recovering(recoverer, dying, []) == 0
        recoverer.commit()
        finisher.commit()
        assert recovering(recoverer, dying, []) == 1
        recoverer.commit()
        assert look.states(one, two, three, four) == ["successful", "ready", "ready", "ready"]
        assert list(look.claim(living)) == [three, four]
        assert violations(look.run) == []

    def test_two_recoveries_of_one_process_put_its_jobs_back_once(self, sessions, look):
        one, two, *_ = sessions
        job = look.enqueue()
        worker = look.process()
        look.claim(worker)
        assert recovering(one, worker) == 1
        waiting = in_session(two, lambda: recovering(two, worker), look)
        one.commit()
        assert waiting.end() == 0
        assert look.run("select job, lost_starts from steady_queue_ready") == [(job, 1)]
        assert violations(look.run) == []

    def test_finishing_several_jobs_while_they_are_recovered_does_not_deadlock(
        self, sessions, look
    ):
        finisher, recoverer, person, _ = sessions
        jobs = [look.enqueue() for _ in range(3)]
        worker = look.process()
        claimed = look.claim(worker)
        person.run("select from steady_queue_running where job = %s for update", jobs[1])
        # Each has the rows before the person's, in its own order, and then wants the others.
        backwards = dict(reversed(claimed.items()))
        finishing = in_session(finisher, lambda: finisher.finish(backwards), look)
        recovery = in_session(recoverer, lambda: recovering(recoverer, worker), look)
        person.rollback()
        finishing.end()
        recovery.end()
        assert violations(look.run) == []


class TestSweeping:
    @pytest.fixture(autouse=True)
    def _sweepers(self, sessions, look):
        self.sweepers = [look.process("supervisor") for _ in range(2)]
        look.run("update steady_queue_processes set steady_since = now() - interval '1 hour'")

    def silent(self, look):
        worker = look.process()
        look.run(
            "update steady_queue_processes set heartbeat_at = now() - interval '31 s' where id = %s",
            worker,
        )
        return worker

    def sweep(self, session, sweeper=0):
        rows = session.run("select * from steady_queue_sweep(%s, '30 s')", self.sweepers[sweeper])
        return [process for (process,) in rows]

    def test_a_heartbeat_that_comes_too_late_is_told_so(self, sessions, look):
        sweeper, worker, *_ = sessions
        job, silent = look.enqueue(), self.silent(look)
        claimed = look.claim(silent)
        assert self.sweep(sweeper) == [silent]
        beat = "select * from steady_queue_heartbeat(%s, '30 s')"
        waiting = in_session(worker, lambda: worker.run(beat, [silent]), look)
        sweeper.commit()
        assert waiting.end() == [(silent,)]
        assert look.finish(claimed) == {job: "stale"}
        with pytest.raises(psycopg.Error) as refused:
            look.claim(silent)
        assert refused.value.sqlstate == "SQ001"
        assert violations(look.run) == []

    def test_who_speaks_before_the_sweep_is_left_alone(self, sessions, look):
        sweeper, worker, *_ = sessions
        job, silent = look.enqueue(), self.silent(look)
        claimed = look.claim(silent)
        worker.run("select * from steady_queue_heartbeat(%s, '30 s')", [silent])
        assert self.sweep(sweeper) == []
        worker.commit()
        sweeper.commit()
        assert self.sweep(sweeper) == []
        assert look.finish(claimed) == {}
        assert look.state(job) == "successful"

    def test_what_a_claim_takes_while_its_process_is_recovered_comes_back(self, sessions, look):
        claimer, recoverer, sweeper, _ = sessions
        worker = look.process()
        job = look.enqueue()
        claimer.claim(worker)
        assert recovering(recoverer, worker) == 0
        recoverer.commit()
        claimer.commit()
        assert look.state(job) == "running"
        assert self.sweep(sweeper) == [worker]
        sweeper.commit()
        assert look.state(job) == "ready"
        assert violations(look.run) == []

    def test_two_sweeps_of_several_processes_share_them_without_waiting(self, sessions, look):
        one, two, *_ = sessions
        silent = [self.silent(look), self.silent(look)]
        for key, process in (("z", silent[0]), ("a", silent[1]), ("m", silent[1])):
            look.enqueue_limited(key)
            look.claim(process)
        assert self.sweep(one, 0) == silent
        assert self.sweep(two, 1) == []
        one.commit()
        two.commit()
        assert look.value("select count(*) from steady_queue_ready") == 3
        assert violations(look.run) == []


class TestLimits:
    def test_a_limit_lowered_beside_holders_admits_nobody_until_it_has_drained(
        self, sessions, look
    ):
        claimer, enqueuer, finisher, _ = sessions
        look.enqueue_limited("k", to=3, count=3)
        worker = look.process()
        holders = list(claimer.claim(worker).items())
        [late] = enqueuer.enqueue_limited("k", to=1)
        enqueuer.commit()
        assert finisher.claim(worker) == {}
        finisher.commit()
        claimer.commit()
        for holder in holders:
            assert look.claim(worker) == {}
            assert violations(look.run) == []
            finisher.finish_limited(dict([holder]), "k")
            finisher.commit()
        assert list(look.claim(worker)) == [late]

    def test_a_claim_under_way_is_not_undone_by_a_pause(self, sessions, look):
        claimer, person, *_ = sessions
        first, second = look.enqueue_limited("k", count=2)
        worker = look.process()
        claimed = claimer.claim(worker, count=1)
        person.run("select steady_queue_pause_queue('default')")
        person.commit()
        claimer.commit()
        assert look.finish_limited(claimed, "k") == {}
        assert look.claim(worker) == {}
        assert look.states(first, second) == ["successful", "ready"]
        assert violations(look.run) == []

    def test_who_discards_in_an_open_transaction_holds_no_finish_up(self, sessions, look):
        person, finisher, *_ = sessions
        first, second, third = look.enqueue_limited("k", count=3)
        worker = look.process()
        claimed = look.claim(worker)
        person.run("delete from steady_queue_blocked where job = %s", second)
        assert finisher.finish_limited(claimed, "k") == {}
        finisher.commit()
        person.rollback()
        assert look.states(first, second, third) == ["successful", "blocked", "ready"]
        assert violations(look.run) == []

    def test_a_discarded_job_gives_its_slot_to_the_next(self, sessions, look):
        first, second, third = look.enqueue_limited("k", count=3)
        look.finish_limited(look.claim(look.process()), "k")
        assert look.states(first, second, third) == ["successful", "ready", "blocked"]
        look.run("select steady_queue_discard_jobs(%s)", [second])
        assert look.state(third) == "ready"
        assert violations(look.run) == []

    def test_a_slot_handed_over_too_long_ago_is_won_again(self, sessions, look):
        _first, second, third = look.enqueue_limited("k", count=3)
        worker = look.process()
        look.finish_limited(look.claim(worker), "k")
        # Nobody claimed the second for so long that maintenance let the third in.
        look.run("update steady_queue_ready set holds_until = now() where job = %s", second)
        look.run(HAND_OVER)
        claimed = look.claim(worker)
        assert list(claimed) == [third]
        assert look.state(second) == "blocked"
        look.finish_limited(claimed, "k")
        assert list(look.claim(worker)) == [second]

    def test_who_waits_in_a_paused_queue_holds_nobody_up(self, sessions, look):
        worker = look.process()
        look.enqueue_limited("k", to=3)
        look.claim(worker)
        look.enqueue_limited("k", to=1, queue="mail")
        look.claim(worker)
        look.run("select steady_queue_pause_queue('mail')")
        [other] = look.enqueue_limited("k", to=3)
        [spare] = look.enqueue_limited("k", to=3, conflict="discard")
        assert set(look.claim(worker)) | set(look.claim(worker)) == {other, spare}

    @pytest.mark.xfail(
        strict=True, reason="a batch full of jobs whose key is locked ends the claim"
    )
    def test_a_person_who_holds_a_key_hides_nothing_behind_it(self, sessions, look):
        person, *_ = sessions
        worker = look.process()
        look.finish_limited(look.enqueue_limited("k") and look.claim(worker), "k")
        look.enqueue_limited("k", count=3)
        free = look.enqueue()
        person.run("select from steady_queue_semaphores for update")
        assert list(look.claim(worker, count=2)) == [free]


class TestSteering:
    def test_what_is_being_dispatched_is_not_discarded(self, sessions, look):
        dispatcher, person, *_ = sessions
        job = look.enqueue(run_after="2100-01-01")
        look.run("update steady_queue_scheduled set run_after = now()")
        dispatcher.run("select * from steady_queue_dispatch_jobs(10)")
        discard = "select steady_queue_discard_jobs(%s)"
        waiting = in_session(person, lambda: person.value(discard, [job]), look)
        dispatcher.commit()
        assert waiting.end() == 0
        assert look.state(job) == "ready"

    def test_what_is_being_discarded_is_not_dispatched(self, sessions, look):
        dispatcher, person, *_ = sessions
        job = look.enqueue(run_after="2100-01-01")
        look.run("update steady_queue_scheduled set run_after = now()")
        assert person.value("select steady_queue_discard_jobs(%s)", [job]) == 1
        assert dispatcher.value("select moved from steady_queue_dispatch_jobs(10)") == 0
        person.commit()
        assert look.state(job) == "discarded"

    def test_two_retries_at_once_make_a_job_ready_once(self, sessions, look):
        one, two, *_ = sessions
        job = look.enqueue()
        look.run("select steady_queue_discard_jobs(%s)", [job])
        retry = "select steady_queue_retry_jobs(%s)"
        assert one.value(retry, [job]) == 1
        waiting = in_session(two, lambda: two.value(retry, [job]), look)
        one.commit()
        assert waiting.end() == 0
        assert violations(look.run) == []

    @pytest.mark.parametrize("retry_first", [True, False])
    def test_what_is_being_retried_is_not_pruned_and_the_other_way_round(
        self, sessions, look, retry_first
    ):
        pruner, person, *_ = sessions
        job = look.enqueue()
        look.run("select steady_queue_discard_jobs(%s)", [job])
        prune, retry = "select steady_queue_prune('0', '0')", "select steady_queue_retry_jobs(%s)"
        if retry_first:
            assert person.value(retry, [job]) == 1
            assert pruner.value(prune) == 0
            person.commit()
            assert look.state(job) == "ready"
        else:
            assert pruner.value(prune) == 1
            waiting = in_session(person, lambda: person.value(retry, [job]), look)
            pruner.commit()
            assert waiting.end() == 0
        assert violations(look.run) == []


def test_claims_keep_the_lock_of_a_limit_that_maintenance_found_unused(sessions, look, request):
    """Maintenance looks, a claim takes the slot, maintenance deletes: the lock must remain."""
    claimer, maintainer, person, _ = sessions
    worker = look.process()
    look.finish_limited(look.enqueue_limited("k") and look.claim(worker), "k")
    request.addfinalizer(lambda: look.run(NO_PAUSES))
    look.run(PAUSES)
    [job] = look.enqueue_limited("k")
    person.run("select pg_advisory_lock(42)")
    maintainer.run("set role slow_reader")
    maintainer.commit()
    waiting = in_session(maintainer, lambda: maintainer.run(HAND_OVER), look)
    claimed = claimer.claim(worker)
    claimer.commit()
    person.run("select pg_advisory_unlock(42)")
    waiting.end()
    assert violations(look.run) == []
    if claimed:
        assert look.finish_limited(claimed, "k") == {}
    assert look.state(job) == ("successful" if claimed else "ready")


# Between the moment that a statement's snapshot is of and its first row, a role can be made to wait.
PAUSES = """
    create role slow_reader;
    grant all on all tables in schema public to slow_reader;
    create function wait_here() returns boolean language plpgsql volatile as
      $$ begin perform pg_advisory_xact_lock_shared(42); return true; end $$;
    alter table steady_queue_semaphores enable row level security;
    create policy wait_here on steady_queue_semaphores using (wait_here());
"""
NO_PAUSES = """
    drop policy if exists wait_here on steady_queue_semaphores;
    alter table steady_queue_semaphores disable row level security;
    drop function if exists wait_here();
    drop owned by slow_reader;
    drop role slow_reader;
"""


class Players:
    """Several connections, each a worker, whose transactions stay open across steps."""

    TABLES = (
        "jobs, ready, scheduled, blocked, running, outcomes, errors, semaphores, processes, lanes"
    )

    def __init__(self, look: Session, sessions: list[Session]) -> None:
        self.look, self.sessions = look, sessions
        tables = ", ".join(f"steady_queue_{table}" for table in self.TABLES.split(", "))
        look.run(f"truncate {tables}")
        self.processes = [look.process() for _ in sessions]
        self.claimed: list[dict[int, int]] = [{} for _ in sessions]
        self.open: list[list[Any]] = [[] for _ in sessions]
        self.recovering: set[int] = set()
        self.enqueued: set[int] = set()
        self.ended: list[int] = []

    def step(self, who: int, what: str, key: str | None, count: int) -> None:
        session = self.sessions[who]
        others_recover = self.recovering - {who}
        try:
            getattr(self, what)(who, session, key, count)
        except psycopg.errors.LockNotAvailable:
            # A recovery may meet the rows that their owner is finishing, and the other way round.
            assert what == "recover" or (what in ("finish", "release") and others_recover), what
            self.undo(who)
        except psycopg.Error as error:
            if error.sqlstate != "SQ001":
                raise
            self.undo(who)
            self.processes[who] = session.process()
            self.claimed[who] = {}
            session.commit()

    def undo(self, who: int) -> None:
        self.sessions[who].rollback()
        for kind, jobs in self.open[who]:
            if kind == "claim":
                for job in jobs:
                    self.claimed[who].pop(job, None)
            elif kind == "given":
                self.claimed[who] |= jobs
        self.open[who] = []
        self.recovering.discard(who)

    def commit(self, who: int, session: Session, *_: Any) -> None:
        session.commit()
        for kind, jobs in self.open[who]:
            if kind == "enqueue":
                self.enqueued |= set(jobs)
            elif kind == "ended":
                self.ended += jobs
        self.open[who] = []
        self.recovering.discard(who)

    def rollback(self, who: int, *_: Any) -> None:
        self.undo(who)

    def enqueue(self, who: int, session: Session, key: str | None, count: int) -> None:
        if key:
            jobs = session.enqueue_limited(key, to=LIMITS[key], count=count)
        else:
            jobs = [session.enqueue() for _ in range(count)]
        self.open[who].append(("enqueue", jobs))

    def claim(self, who: int, session: Session, key: Any, count: int) -> None:
        jobs = session.claim(self.processes[who], count=count)
        self.claimed[who] |= jobs
        self.open[who].append(("claim", jobs))

    def finish(self, who: int, session: Session, key: Any, count: int) -> None:
        given = dict(list(self.claimed[who].items())[:count])
        if not given:
            return
        refused = session.finish_limited(given, "k", "l")
        busy = {job for job, why in refused.items() if why == "busy"}
        given = {job: claim for job, claim in given.items() if job not in busy}
        for job in given:
            del self.claimed[who][job]
        self.open[who].append(("given", given))
        self.open[who].append(("ended", [job for job in given if job not in refused]))

    def release(self, who: int, session: Session, key: Any, count: int) -> None:
        given = dict(list(self.claimed[who].items())[:count])
        session.run(
            "select steady_queue_release_jobs(%s::bigint[], %s::bigint[])",
            list(given),
            list(given.values()),
        )
        for job in given:
            del self.claimed[who][job]
        self.open[who].append(("given", given))

    def recover(self, who: int, session: Session, key: Any, count: int) -> None:
        """Of the next player's process, who may be alive."""
        self.commit(who, session)
        session.run("set local lock_timeout = '30ms'")
        session.value(RECOVER, self.processes[(who + 1) % len(self.sessions)], [])
        session.run("set local lock_timeout = '1s'")
        self.recovering.add(who)

    def maintain(self, who: int, session: Session, *_: Any) -> None:
        session.run(HAND_OVER)

    def advance(self, who: int, session: Session, *_: Any) -> None:
        self.commit(who, session)
        session.run("select steady_queue_advance_marks()")

    def drain(self) -> None:
        """Everybody commits; what nobody owns is swept; one worker does the rest."""
        for who, session in enumerate(self.sessions):
            self.commit(who, session)
        for (gone,) in self.look.run("select distinct process from steady_queue_running"):
            self.look.value(RECOVER, gone, [])
        assert violations(self.look.run) == []
        worker = self.look.process()
        while claimed := self.look.claim(worker):
            assert violations(self.look.run) == []
            assert self.look.finish_limited(claimed, "k", "l") == {}
            self.ended += claimed
        assert self.look.run(DRAINED) == []
        assert sorted(self.ended) == sorted(self.enqueued)


LIMITS = {"k": 2, "l": 1}
STEPS = [
    *["enqueue", "claim", "claim", "finish", "finish", "release", "recover"],
    *["commit", "commit", "commit", "rollback", "maintain", "advance"],
]


@pytest.mark.slow
def test_any_interleaving_of_sessions_loses_nothing_and_keeps_the_limits(sessions, look):
    step = st.tuples(
        st.integers(0, 3),
        st.sampled_from(STEPS),
        st.sampled_from(["k", "k", "l", None]),
        st.integers(1, 4),
    )

    @settings(
        max_examples=100,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(3, 4), st.lists(step, min_size=20, max_size=60))
    def interleave(count: int, steps: list[Any]) -> None:
        for session in sessions:
            session.rollback()
        players = Players(look, sessions[:count])
        for who, *what in steps:
            players.step(who % count, *what)
            # 5: a claim may come through after its process was recovered. A sweep sees to it.
            assert violations(look.run, without="5") == []
        players.drain()

    interleave()
