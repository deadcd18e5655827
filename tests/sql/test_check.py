"""Each kind of damage, done by hand, is found under the name of what it breaks."""

import pytest

from steady_queue.processes.crew import MOST_AHEAD

READY = "insert into steady_queue_ready (lane, position, job) values (0, nextval('steady_queue_positions'), %s)"
AGO = "clock_timestamp() - interval '%s seconds'"


@pytest.fixture
def check(sql):
    """The invariants that do not hold, and of what."""

    def run(**arguments):
        named = ", ".join(f"{name} => %s" for name in arguments)
        return sql(
            f"select invariant, subject from steady_queue_check({named}) order by 1, 2",
            *arguments.values(),
        )

    return run


@pytest.fixture
def worker(queue):
    return queue.process()


@pytest.fixture
def running(queue, worker):
    job = queue.enqueue()
    queue.claim(worker)
    return job


@pytest.fixture
def in_every_state(queue, worker):
    queue.enqueue()
    queue.finish(queue.claim(worker))
    queue.enqueue_limited("k", to=2, count=5)
    queue.claim(worker)
    queue.enqueue_limited("handed", count=3)
    queue.finish_limited(queue.claim(worker), "handed")
    queue.enqueue(run_after="2999-01-01")
    queue.enqueue(queue="new", priority=7)


def test_a_healthy_queue_has_no_violations(in_every_state, check, sql):
    states = "select array_agg(distinct state order by state) from steady_queue_all_jobs"
    assert sql(states) == [(["blocked", "ready", "running", "scheduled", "successful"],)]
    assert check(p_deep=True) == []
    assert sql("select * from steady_queue_violations") == []


def test_the_view_says_what_was_found(running, sql):
    sql(READY, running)
    assert sql("select * from steady_queue_violations") == [
        ("a job is in one state", str(running), "ready, running")
    ]


@pytest.mark.parametrize(
    "damage",
    [
        READY,
        "insert into steady_queue_scheduled (job, run_after) values (%s, '2999-01-01')",
        "insert into steady_queue_blocked (job, limit_key, priority) values (%s, 'k', 0)",
        "insert into steady_queue_outcomes values (%s, 'failed', 0, 0, null, null, null, now())",
        "delete from steady_queue_jobs where id = %s",
    ],
)
def test_a_running_job_that_is_elsewhere_too_or_was_never_asked_for(running, check, sql, damage):
    sql(damage, running)
    assert ("a job is in one state", str(running)) in check()


def test_a_job_twice_in_one_table(queue, check, sql):
    job = queue.enqueue()
    sql(READY, job)
    assert check() == [("a job is in one state", str(job))]


def test_a_job_in_no_state_is_found_by_a_deep_check(queue, check, sql):
    job = queue.enqueue()
    sql("delete from steady_queue_ready")
    assert check() == []
    assert check(p_deep=True) == [("a job is in one state", str(job))]


def test_an_outcome_of_no_job_is_found_by_a_deep_check(queue, worker, check, sql):
    job = queue.enqueue()
    queue.finish(queue.claim(worker))
    sql("delete from steady_queue_jobs")
    assert check() == []
    assert check(p_deep=True) == [("a job is in one state", str(job))]


@pytest.mark.parametrize(
    "damage",
    [
        "claim = claim + 1",
        "claimed_at = clock_timestamp() + interval '1 hour'",
        "attempt = -1",
        "lost_starts = -1",
    ],
)
def test_a_claim_that_cannot_be(running, check, sql, damage):
    sql(f"update steady_queue_running set {damage}")
    assert check() == [("a running job has a claim", str(running))]


class TestLimits:
    @pytest.fixture(autouse=True)
    def _queue(self, queue, worker, check, sql):
        self.queue, self.worker, self.check, self.sql = queue, worker, check, sql

    def run_one_of(self, count, **limit):
        jobs = self.queue.enqueue_limited("k", count=count, **limit)
        self.queue.claim(self.worker)
        return jobs

    def hand_one_over(self):
        """The job that is ready and holds the slot of k."""
        self.queue.enqueue_limited("k", count=2)
        self.queue.finish_limited(self.queue.claim(self.worker), "k")
        return self.sql("select job from steady_queue_ready")[0][0]

    def run_in_another_key(self):
        self.queue.enqueue_limited("l", queue="other")
        [job] = self.queue.claim(self.worker, "other")
        self.sql("update steady_queue_jobs set limit_key = 'k' where id = %s", job)
        self.sql("update steady_queue_running set limit_key = 'k' where job = %s", job)

    def test_more_hold_a_key_than_its_limit(self):
        self.run_one_of(1)
        self.run_in_another_key()
        assert self.check() == [("a limit is kept", "k")]

    def test_a_job_that_was_handed_a_slot_counts(self):
        self.hand_one_over()
        self.run_in_another_key()
        assert self.check() == [("a limit is kept", "k")]

    def test_the_largest_limit_among_the_holders_counts(self):
        self.run_one_of(2, to=2)
        self.sql(
            "update steady_queue_jobs set limit_to = 1 where id = (select min(id) from steady_queue_jobs)"
        )
        assert self.check() == []

    def test_a_holder_past_its_duration_does_not_count(self):
        self.run_one_of(1)
        self.run_in_another_key()
        self.sql(
            "update steady_queue_running set holds_until = clock_timestamp() where job = (select min(job) from steady_queue_running)"
        )
        assert self.check() == []

    @pytest.mark.parametrize(
        "damage",
        [
            "limit_key = 'l'",
            "limit_key = null, holds_until = null",
            "holds_until = null",
            "slot = null",
            "limit_key = null, holds_until = null, slot = 7",
        ],
    )
    def test_a_running_job_without_the_slot_of_its_limit(self, damage):
        [job] = self.run_one_of(1)
        self.sql(f"update steady_queue_running set {damage}")
        assert self.check() == [("a slot belongs to its job", str(job))]

    @pytest.mark.parametrize("column", ["claim", "process"])
    def test_jobs_of_two_claims_or_processes_in_one_slot(self, column):
        [first, _] = self.run_one_of(2, to=2)
        self.sql("update steady_queue_running set slot = 7, claim = 1, process = 1")
        self.sql(f"update steady_queue_running set {column} = 2 where job = %s", first)
        assert self.check() == [("jobs in a slot are of one claim", "7")]

    def test_a_ready_job_with_a_slot_of_no_limit(self):
        job = self.queue.enqueue()
        self.sql("update steady_queue_ready set holds_until = '2999-01-01'")
        assert self.check() == [("a slot belongs to its job", str(job))]

    def free_the_slot(self, seconds):
        self.run_one_of(2)
        self.sql("delete from steady_queue_running")
        self.sql(f"update steady_queue_blocked set blocked_at = {AGO % seconds}")

    def test_a_job_is_blocked_beside_a_free_slot(self):
        self.free_the_slot(3)
        assert self.check() == [("a free slot is handed over", "k")]
        self.sql("select steady_queue_maintain_limits()")
        assert self.check() == []

    def test_a_job_may_be_blocked_beside_a_free_slot_for_a_moment(self):
        self.free_the_slot(-3600)
        assert self.check() == []

    def test_a_job_of_a_paused_queue_may_be_blocked_beside_a_free_slot(self):
        self.free_the_slot(3)
        self.sql("select steady_queue_pause_queue('default')")
        assert self.check() == []

    @pytest.mark.parametrize(
        ("seconds", "found"), [(1, []), (40, [("a free slot is handed over", "k")])]
    )
    def test_a_slot_that_ran_out_is_free_until_maintenance(self, seconds, found):
        self.run_one_of(2)
        self.sql(f"update steady_queue_blocked set blocked_at = {AGO % 100}")
        self.sql(f"update steady_queue_running set holds_until = {AGO % seconds}")
        assert self.check() == found
        assert self.check(p_maintained_every="1 h") == []


class TestProcesses:
    @pytest.fixture(autouse=True)
    def _age(self, worker, check, sql):
        self.worker, self.check, self.sql = worker, check, sql
        self.age("heartbeat_at", 0)

    def age(self, column, seconds):
        self.sql(f"update steady_queue_processes set {column} = {AGO % seconds}")

    def test_a_running_job_of_a_process_that_was_silent_for_too_long(self, running):
        self.age("heartbeat_at", 5)
        assert self.check() == []
        self.age("heartbeat_at", 36)
        assert self.check() == [("a running job has a live process", str(running))]
        assert self.check(p_alive_threshold="1 h") == []

    def test_a_running_job_of_a_process_that_is_not_registered(self, running):
        self.sql("delete from steady_queue_processes")
        assert self.check() == []
        self.sql(f"update steady_queue_running set claimed_at = {AGO % 36}")
        assert self.check() == [("a running job has a live process", str(running))]

    def hold(self, count):
        self.sql(
            "insert into steady_queue_running "
            "select job, 1, %s, 0, 0, false, null, null, null, now() from generate_series(1, %s) job",
            self.worker,
            count,
        )
        return [found for found in self.check() if "holds" in found[0]]

    def test_a_worker_that_holds_more_than_its_threads_and_what_it_claims_ahead(self):
        self.sql("update steady_queue_processes set threads = 3")
        most = 3 + 2 * MOST_AHEAD
        assert self.hold(most) == []
        self.sql("delete from steady_queue_running")
        assert self.hold(most + 1) == [("a process holds what it may", str(self.worker))]

    def test_a_dispatcher_that_holds_a_job(self):
        self.sql("update steady_queue_processes set kind = 'dispatcher'")
        assert self.hold(1) == [("a process holds what it may", str(self.worker))]


@pytest.mark.parametrize(("seconds", "found"), [(0, False), (6, True)])
def test_a_scheduled_job_that_is_overdue(queue, check, sql, seconds, found):
    job = queue.enqueue(run_after="2999-01-01")
    sql(f"update steady_queue_scheduled set run_after = {AGO % seconds}")
    assert check() == [("a due job is dispatched", str(job))] * found


class TestReady:
    """A ready job beside a worker that has had nothing to do for a while."""

    @pytest.fixture(autouse=True)
    def _idle_worker(self, queue, check, sql, lanes):
        lanes("default", "mail")
        self.queue, self.check, self.sql = queue, check, sql
        self.worker = queue.process()
        self.serve("{default}")
        sql(f"update steady_queue_processes set started_at = {AGO % 20}")

    def serve(self, queues):
        self.sql("update steady_queue_processes set queues = %s::text[]", queues)

    def enqueue(self, seconds=16, queue="default"):
        job = self.queue.enqueue(queue=queue)
        self.sql(f"update steady_queue_jobs set enqueued_at = {AGO % seconds} where id = %s", job)
        return job

    def passed_over(self, *jobs):
        return [("a ready job is claimed", str(job)) for job in jobs]

    def test_it_waits_for_too_long(self):
        job = self.enqueue()
        assert self.check() == self.passed_over(job)

    def test_it_may_wait_for_a_while(self):
        self.enqueue(1)
        assert self.check() == []

    @pytest.mark.parametrize(
        ("queues", "served"), [("{*}", True), ("{de*}", True), ("{mail,ma*}", False)]
    )
    def test_only_queues_that_the_worker_serves_count(self, queues, served):
        self.serve(queues)
        job = self.enqueue()
        assert self.check() == self.passed_over(*[job] * served)

    @pytest.mark.parametrize(("queues", "served"), [("{*}", True), ("{default}", False)])
    def test_a_queue_never_seen_before_counts_if_it_is_served(self, queues, served):
        self.serve(queues)
        job = self.enqueue(queue="new")
        assert self.check() == self.passed_over(*[job] * served)

    def test_a_paused_queue_does_not_count(self):
        self.enqueue()
        self.sql("select steady_queue_pause_queue('default')")
        assert self.check() == []

    @pytest.mark.parametrize(
        "excuse",
        [
            f"started_at = {AGO % 1}",
            f"heartbeat_at = {AGO % 31}",
            "kind = 'dispatcher'",
        ],
    )
    def test_a_worker_that_is_new_or_silent_or_none_does_not_count(self, excuse):
        self.enqueue()
        self.sql(f"update steady_queue_processes set {excuse}")
        assert self.check() == []

    def test_a_busy_worker_does_not_count(self):
        self.queue.enqueue()
        self.queue.claim(self.worker)
        self.enqueue()
        assert self.check() == []

    def put_back(self):
        job = self.enqueue()
        self.queue.claim(self.worker)
        self.sql("select steady_queue_disown_jobs(%s, '{}')", self.worker)
        return job

    def test_when_a_job_was_put_back_is_told_by_the_one_behind_it(self):
        job = self.put_back()
        assert self.check() == []
        behind = self.enqueue(1)
        assert self.check() == []
        self.sql(f"update steady_queue_jobs set enqueued_at = {AGO % 16} where id = %s", behind)
        assert self.check() == self.passed_over(job, behind)

    @pytest.mark.parametrize(
        "damage",
        [
            "update steady_queue_lanes set mark = 10^9",
            "update steady_queue_ready set lane = 10^9",
            "update steady_queue_ready set lane = (select min(id) from steady_queue_lanes where queue = 'mail')",
            "update steady_queue_lanes set priority = 300 where queue = 'default' and priority = 0",
            "update steady_queue_ready set position = 10^9",
        ],
    )
    def test_a_ready_job_that_claims_do_not_see(self, damage):
        job = self.enqueue(0)
        self.sql(damage)
        assert self.check() == [("a ready job can be reached", str(job))]
