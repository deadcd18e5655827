"""Named races, each with two real sessions.

A session whose call waits for a lock fails (``Session``): what is promised never to wait does not.
Where a person waits, the test goes on once the database says that he does.
"""

import json
import time

import psycopg
import pytest

from tests.conftest import PATIENCE
from tests.sql.sessions import Session

ERROR = json.dumps({"exception_class": "E", "message": "m", "traceback": "t"})


@pytest.fixture(autouse=True)
def _lanes(transactional_db, lanes):
    lanes("default", "mail")


@pytest.fixture
def session(other):
    return lambda: Session(other())


@pytest.fixture
def one(session):
    return session()


@pytest.fixture
def two(session):
    return session()


@pytest.fixture
def worker(queue):
    return queue.process()


@pytest.fixture
def until_it_waits(other):
    """Waits until a session waits for a lock."""
    watcher = other(autocommit=True)
    waits = "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s"

    def until(session):
        pid, deadline = session.connection.info.backend_pid, time.monotonic() + PATIENCE
        while watcher.execute(waits, (pid,)).fetchone() != (True,):
            assert time.monotonic() < deadline, "the session does not wait"

    return until


@pytest.fixture
def nothing_is_violated(other):
    yield
    [*found] = other().execute("select * from steady_queue_check(p_deep => true)")
    assert found == []


pytestmark = pytest.mark.usefixtures("nothing_is_violated")


def limited(queue, count=1, **more):
    """Jobs of a key whose semaphore is there: its first use is a race of its own."""
    queue.run("insert into steady_queue_semaphores values ('k') on conflict do nothing")
    return queue.enqueue_limited("k", count=count, **more)


class TestClaims:
    def test_a_claim_that_waited_while_its_process_was_called_dead_takes_nothing(
        self, queue, worker, one, two, until_it_waits
    ):
        def claim_meanwhile():
            one.run("lock table steady_queue_ready in access exclusive mode")
            with two.waiting(two.claim, worker):
                until_it_waits(two)
                queue.run("delete from steady_queue_processes where id = %s", worker)
                one.commit()

        queue.enqueue()
        with pytest.raises(psycopg.Error, match="is not registered"):
            claim_meanwhile()

    def test_two_claims_share_no_job(self, queue, worker, one, two):
        jobs = [queue.enqueue() for _ in range(4)]
        claimed = [*one.claim(worker, count=2), *two.claim(worker, count=2)]
        assert claimed == jobs
        one.rollback()
        two.commit()
        assert list(one.claim(worker)) == jobs[:2]
        one.commit()

    @pytest.mark.parametrize("known", [True, False])
    def test_two_claims_of_one_key_admit_one(self, queue, worker, one, two, known):
        jobs = limited(queue, 2) if known else queue.enqueue_limited("new", count=2)
        # The second is free to take, but somebody is deciding about its key.
        assert [list(one.claim(worker, count=1)), list(two.claim(worker))] == [jobs[:1], []]
        one.commit()
        two.commit()
        assert two.claim(worker) == {}
        two.commit()
        assert queue.states(*jobs) == ["running", "blocked"]

    def test_two_claims_make_the_lane_of_a_queue_never_seen_once(self, queue, worker, one, two):
        job = queue.enqueue(queue="new")
        assert [list(one.claim(worker)), list(two.claim(worker))] == [[job], []]
        one.commit()
        two.commit()
        assert queue.run("select count(*) from steady_queue_lanes where queue = 'new'") == [(2,)]

    def test_a_claim_that_sorts_waits_for_no_mark_that_is_being_moved(
        self, queue, worker, one, two
    ):
        job = queue.enqueue()
        queue.run("update steady_queue_ready set lane = 0")
        one.run("select steady_queue_advance_marks('{default}', '{0}')")
        assert list(two.claim(worker)) == [job]
        two.commit()
        one.commit()


class TestFinish:
    def test_blocking_against_finishing_leaves_nobody_behind(self, queue, worker, one, two):
        holder, waiter = limited(queue, 2)
        running = queue.claim(worker, count=1)
        # The claim parks the waiter and is still open when the holder's end is handed in.
        assert one.claim(worker) == {}
        assert two.finish_limited(running, "k") == {holder: "busy"}
        one.commit()
        two.commit()
        assert two.finish_limited(running, "k") == {}
        two.commit()
        assert list(one.claim(worker)) == [waiter]
        one.commit()

    def test_finishing_against_blocking_leaves_nobody_behind(self, queue, worker, one, two):
        limited(queue)
        running = queue.claim(worker)
        [waiter] = limited(queue)
        assert one.finish_limited(running, "k") == {}
        # Somebody is deciding about the key: the waiter stays where it is.
        assert two.claim(worker) == {}
        two.commit()
        assert queue.state(waiter) == "ready"
        one.commit()
        assert list(two.claim(worker)) == [waiter]
        two.commit()

    def test_a_person_who_holds_the_key_holds_nobody_else_up(self, queue, worker, one, two):
        [job], free = limited(queue), queue.enqueue()
        running = queue.claim(worker)
        one.run("select * from steady_queue_semaphores for update")
        assert two.finish_limited(running, "k") == {job: "busy"}
        two.commit()
        assert queue.states(job, free) == ["running", "successful"]

    def test_a_limit_lowered_from_five_to_two_drains(self, queue, worker, one, two):
        limited(queue, 5, to=5)
        holders = list(queue.claim(worker).items())
        [old], late = limited(queue, to=5), limited(queue, 3, to=2)
        assert queue.claim(worker) == {}
        assert one.finish_limited(dict(holders[:2]), "k") == {}
        assert two.finish_limited(dict(holders[2:4]), "k") == {
            job: "busy" for job, _ in holders[2:4]
        }
        one.commit()
        # Of the three free slots of five only one is free of two.
        assert queue.states(old, *late) == ["ready", "blocked", "blocked", "blocked"]
        assert two.finish_limited(dict(holders[2:4]), "k") == {}
        two.commit()
        assert queue.states(old, *late) == ["ready", "blocked", "blocked", "blocked"]
        assert one.finish_limited(dict(holders[4:]), "k") == {}
        one.commit()
        assert queue.states(old, *late) == ["ready", "ready", "blocked", "blocked"]
        assert two.finish_limited(two.claim(worker), "k") == {}
        two.commit()
        assert queue.states(old, *late) == ["successful", "successful", "ready", "ready"]


class TestRecover:
    @pytest.mark.parametrize("key", ["k", None])
    def test_recovering_against_finishing_ends_the_job_once(self, queue, worker, one, two, key):
        [job] = limited(queue) if key else [queue.enqueue()]
        running = queue.claim(worker)
        assert one.finish_limited(running, "k") == {}
        assert two.recover(worker) is None
        two.commit()
        one.commit()
        assert two.recover(worker) == 0
        two.commit()
        assert queue.state(job) == "successful"

    @pytest.mark.parametrize("key", ["k", None])
    def test_finishing_against_recovering_comes_too_late(self, queue, worker, one, two, key):
        [job] = limited(queue) if key else [queue.enqueue()]
        running = queue.claim(worker)
        assert one.recover(worker) == 1
        assert two.finish_limited(running, "k") == {job: "busy"}
        two.commit()
        one.commit()
        [lost_starts] = queue.run("select lost_starts from steady_queue_ready")
        assert lost_starts == (1,)
        assert list(queue.claim(queue.process())) == [job]
        assert two.finish_limited(running, "k") == {job: "stale"}
        two.commit()
        assert queue.state(job) == "running"

    @pytest.mark.parametrize("key", ["k", None])
    def test_claiming_against_recovering_takes_what_was_put_back(
        self, queue, worker, one, two, key
    ):
        [job] = limited(queue) if key else [queue.enqueue()]
        [stale] = queue.claim(worker).values()
        another = queue.process()
        one.recover(worker)
        assert two.claim(another) == {}
        two.commit()
        one.commit()
        claimed = two.claim(another)
        assert list(claimed) == [job]
        assert claimed[job] > stale
        two.commit()

    def test_recovering_against_blocking_leaves_nobody_behind(self, queue, worker, one, two):
        holder, waiter = limited(queue, 2)
        queue.claim(worker, count=1)
        another = queue.process()
        # The claim parks the waiter: somebody is deciding about the key.
        assert one.claim(another) == {}
        assert two.recover(worker, []) is None
        two.commit()
        one.commit()
        assert queue.states(holder, waiter) == ["running", "blocked"]
        assert two.recover(worker, []) == 1
        two.commit()
        assert queue.states(holder, waiter) == ["ready", "ready"]
        assert list(queue.claim(another)) == [waiter]

    def test_what_a_process_claims_while_it_is_removed_is_put_back_by_a_sweep(
        self, queue, worker, one, two
    ):
        first, second = queue.enqueue(), queue.enqueue()
        queue.claim(worker, count=1)
        assert list(one.claim(worker)) == [second]
        assert two.recover(worker, []) == 1
        two.commit()
        one.commit()
        sweeper = steady(queue)
        assert sweep(two, sweeper) == [worker]
        two.commit()
        assert queue.states(first, second) == ["ready", "ready"]

    def test_a_process_that_another_is_removing_is_not_waited_for(self, queue, worker, one, two):
        assert one.recover(worker, []) == 0
        assert two.recover(worker, []) is None
        two.commit()
        one.commit()
        assert two.recover(worker, []) == 0
        two.commit()

    def test_a_sweep_names_a_process_once_it_is_removed(self, queue, worker, one, two):
        queue.run("update steady_queue_processes set heartbeat_at = '2000-01-01'")
        job = queue.enqueue()
        queue.claim(worker)
        one.run("select from steady_queue_running for update")
        sweeper = steady(queue)
        assert sweep(two, sweeper) == []
        two.commit()
        one.commit()
        assert sweep(two, sweeper) == [worker]
        two.commit()
        assert queue.state(job) == "ready"

    def test_releasing_against_recovering_puts_the_job_back_once(self, queue, worker, one, two):
        job = queue.enqueue()
        running = queue.claim(worker)
        assert one.release(running) == []
        assert two.recover(worker, []) is None
        two.commit()
        one.commit()
        assert two.recover(worker, []) == 0
        two.commit()
        assert queue.run("select job from steady_queue_ready") == [(job,)]

    def test_recovering_against_releasing_puts_the_job_back_once(self, queue, worker, one, two):
        job = queue.enqueue()
        running = queue.claim(worker)
        assert one.recover(worker, []) == 1
        assert two.release(running) == [job]
        one.commit()
        two.commit()
        assert queue.run("select job from steady_queue_ready") == [(job,)]


class TestFollow:
    """A leader and its follower run in one slot, and two more stand in line."""

    @pytest.fixture(autouse=True)
    def _slot(self, queue, worker):
        _, *self.jobs = limited(queue, 5)
        self.leader, self.follower, *self.line = self.jobs
        running = queue.claim(worker)
        _, self.claimed = queue.finish_and_claim(running, worker, followers=1)
        assert queue.slots() == [[self.leader, self.follower]]

    def of(self, *jobs):
        return {job: self.claimed[job] for job in jobs}

    def test_recovering_against_finishing_the_leader_hands_the_slot_over_once(
        self, queue, worker, one, two
    ):
        assert one.finish_limited(self.of(self.leader), "k") == {}
        assert two.recover(worker, [self.follower]) is None
        two.commit()
        one.commit()
        assert two.recover(worker, [self.follower]) == 1
        two.commit()
        assert queue.states(*self.jobs) == ["successful", "ready", "ready", "blocked"]

    def test_finishing_the_follower_against_recovering_comes_too_late(
        self, queue, worker, one, two
    ):
        assert one.recover(worker, [self.leader]) == 2
        assert two.finish_limited(self.of(self.follower), "k") == {self.follower: "busy"}
        two.commit()
        one.commit()
        assert two.finish_limited(self.of(self.follower), "k") == {self.follower: "stale"}
        two.commit()
        assert queue.states(*self.jobs) == ["ready", "ready", "ready", "blocked"]

    @pytest.mark.parametrize("place", [0, 1])
    def test_one_of_them_that_a_person_has_locked_keeps_the_slot(
        self, queue, worker, one, two, place
    ):
        held, ended = self.jobs[place], self.jobs[1 - place]
        one.run("select * from steady_queue_running where job = %s for update", held)
        refused, claimed = two.finish_and_claim(self.claimed, worker)
        assert (refused, claimed) == ({held: "busy"}, {})
        two.commit()
        one.commit()
        assert queue.states(held, ended, *self.line) == [
            "running", "successful", "blocked", "blocked"
        ]  # fmt: skip
        _, claimed = two.finish_and_claim(self.of(held), worker)
        two.commit()
        assert list(claimed) == self.line

    def test_given_back_beside_one_that_a_person_has_locked_they_keep_no_slot(
        self, queue, worker, one, two
    ):
        one.run("select * from steady_queue_running where job = %s for update", self.follower)
        assert two.release(self.claimed) == [self.follower]
        two.commit()
        one.commit()
        assert queue.claim(queue.process()) == {}
        assert two.release(self.of(self.follower)) == []
        two.commit()
        assert list(queue.claim(worker)) == [self.follower]

    def test_a_job_that_is_being_discarded_does_not_follow(self, queue, worker, one, two):
        next_leader, discarded = self.line
        [last] = limited(queue)
        assert queue.claim(worker) == {}
        one.discard(discarded)
        _, claimed = two.finish_and_claim(self.claimed, worker)
        assert list(claimed) == [next_leader, last]
        two.commit()
        one.commit()

    def test_nobody_follows_under_a_key_that_another_is_deciding_about(
        self, queue, worker, one, two
    ):
        queue.finish_limited(self.claimed, "k")
        one.run("select * from steady_queue_semaphores for update")
        _, claimed = two.finish_and_claim({}, worker)
        assert list(claimed) == self.line[:1]
        two.commit()
        one.commit()


def steady(queue):
    """A supervisor that may call others dead."""
    sweeper = queue.process("supervisor")
    queue.run(
        "update steady_queue_processes set steady_since = '2000-01-01' where id = %s", sweeper
    )
    return sweeper


def sweep(session, sweeper):
    return [p for (p,) in session.run("select * from steady_queue_sweep(%s, '30 s')", sweeper)]


class TestSweeps:
    @pytest.fixture(autouse=True)
    def _job(self, queue, worker):
        self.job = queue.enqueue()
        queue.claim(worker)
        self.sweepers = [steady(queue), steady(queue)]

    def charged(self, queue):
        return queue.run("select job, lost_starts from steady_queue_ready")

    def test_two_sweeps_charge_the_job_of_a_silent_process_once(self, queue, worker, one, two):
        queue.run(
            "update steady_queue_processes set heartbeat_at = '2000-01-01' where id = %s", worker
        )
        assert [sweep(one, self.sweepers[0]), sweep(two, self.sweepers[1])] == [[worker], []]
        two.commit()
        one.commit()
        assert sweep(two, self.sweepers[1]) == []
        two.commit()
        assert self.charged(queue) == [(self.job, 1)]

    def test_two_sweeps_charge_the_job_of_no_process_once(self, queue, worker, one, two):
        queue.run("delete from steady_queue_processes where id = %s", worker)
        assert [sweep(one, self.sweepers[0]), sweep(two, self.sweepers[1])] == [[worker], []]
        two.commit()
        one.commit()
        assert sweep(two, self.sweepers[1]) == []
        two.commit()
        assert self.charged(queue) == [(self.job, 1)]


class TestDiscard:
    def test_discarding_against_a_claim_waits_and_leaves_what_runs(
        self, queue, worker, one, two, until_it_waits
    ):
        job = queue.enqueue()
        one.claim(worker)
        with two.waiting(two.discard, job) as discarded:
            until_it_waits(two)
            one.commit()
            assert discarded.result() == 0
        two.commit()
        assert queue.state(job) == "running"

    def test_discarding_against_a_claim_that_is_rolled_back_ends_the_job(
        self, queue, worker, one, two, until_it_waits
    ):
        job = queue.enqueue()
        one.claim(worker)
        with two.waiting(two.discard, job) as discarded:
            until_it_waits(two)
            one.rollback()
            assert discarded.result() == 1
        two.commit()
        assert queue.state(job) == "discarded"

    def test_claiming_against_a_discard_passes_the_job_over(self, queue, worker, one, two):
        first, second = queue.enqueue(), queue.enqueue()
        assert one.discard(first) == 1
        assert list(two.claim(worker)) == [second]
        two.commit()
        one.commit()
        assert queue.state(first) == "discarded"

    def test_a_blocked_job_that_is_being_discarded_is_passed_over(self, queue, worker, one, two):
        _, discarded, third = limited(queue, 3)
        running = queue.claim(worker)
        one.discard(discarded)
        assert two.finish_limited(running, "k") == {}
        one.commit()
        two.commit()
        queue.run("select steady_queue_maintain_limits()")
        assert list(queue.claim(worker)) == [third]

    def test_discarding_a_job_that_is_just_handed_a_slot_leaves_it(
        self, queue, worker, one, two, until_it_waits
    ):
        _, second = limited(queue, 2)
        running = queue.claim(worker)
        assert one.finish_limited(running, "k") == {}
        with two.waiting(two.discard, second) as discarded:
            until_it_waits(two)
            one.commit()
            assert discarded.result() == 0
        two.commit()
        assert queue.state(second) == "ready"

    def test_dispatching_against_a_discard_passes_the_job_over(self, queue, one, two):
        job = scheduled(queue)
        assert one.discard(job) == 1
        assert two.dispatch() == 0
        two.commit()
        one.commit()
        assert queue.state(job) == "discarded"

    def test_discarding_a_job_that_is_just_dispatched_leaves_it(
        self, queue, one, two, until_it_waits
    ):
        job = scheduled(queue)
        assert one.dispatch() == 1
        with two.waiting(two.discard, job) as discarded:
            until_it_waits(two)
            one.commit()
            assert discarded.result() == 0
        two.commit()
        assert queue.state(job) == "ready"

    def test_running_a_job_now_against_its_dispatch_makes_it_ready_once(
        self, queue, one, two, until_it_waits
    ):
        job = scheduled(queue)
        assert one.dispatch() == 1
        with two.waiting(two.run_now, job) as moved:
            until_it_waits(two)
            one.commit()
            assert moved.result() == 0
        two.commit()
        assert queue.run("select job from steady_queue_ready") == [(job,)]


def scheduled(queue):
    """A job that has become due."""
    job = queue.enqueue(run_after="2999-01-01")
    queue.run("update steady_queue_scheduled set run_after = clock_timestamp()")
    return job


class TestPause:
    def test_pausing_against_a_claim_leaves_what_was_claimed(self, queue, worker, one, two):
        first, second = queue.enqueue(), queue.enqueue()
        assert list(one.claim(worker, count=1)) == [first]
        assert two.value("select steady_queue_pause_queue('default')")
        two.commit()
        one.commit()
        assert one.claim(worker) == {}
        one.commit()
        assert queue.states(first, second) == ["running", "ready"]

    def test_claiming_goes_on_until_the_pause_is_committed(self, queue, worker, one, two):
        first, second = queue.enqueue(), queue.enqueue()
        assert one.value("select steady_queue_pause_queue('default')")
        assert list(two.claim(worker, count=1)) == [first]
        two.commit()
        one.commit()
        assert two.claim(worker) == {}
        two.commit()
        assert queue.states(first, second) == ["running", "ready"]

    def handed(self, queue, worker):
        """A ready job of the queue mail that was handed a slot, and one that waits for it."""
        limited(queue)
        running = queue.claim(worker)
        [holder] = queue.enqueue_limited("k", queue="mail")
        [waiter] = limited(queue)
        queue.claim(worker)
        queue.finish_limited(running, "k")
        return holder, waiter

    def test_a_slot_that_is_just_claimed_is_not_taken_by_a_pause(self, queue, worker, one, two):
        holder, waiter = self.handed(queue, worker)
        assert list(one.claim(worker)) == [holder]
        queue.run("select steady_queue_pause_queue('mail')")
        two.maintain()
        two.commit()
        one.commit()
        assert queue.states(holder, waiter) == ["running", "blocked"]

    def test_claiming_against_maintenance_of_a_paused_queue_takes_no_slot(
        self, queue, worker, one, two
    ):
        holder, waiter = self.handed(queue, worker)
        queue.run("select steady_queue_pause_queue('mail')")
        one.maintain()
        queue.run("select steady_queue_resume_queue('mail')")
        assert two.claim(worker) == {}
        two.commit()
        one.commit()
        assert list(two.claim(worker)) == [waiter]
        two.commit()
        assert queue.state(holder) == "blocked"
