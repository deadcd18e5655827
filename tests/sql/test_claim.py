import pytest
from django.db import transaction

from steady_queue import queries


@pytest.fixture
def worker(queue):
    return queue.process()


def test_higher_priority_first_then_older_first(queue, worker):
    low, old, new, high = (queue.enqueue(priority=p) for p in (-1, 0, 0, 1))
    assert list(queue.claim(worker)) == [high, old, new, low]


def test_queues_are_served_in_the_order_listed(queue, worker):
    second = queue.enqueue(queue="b", priority=100)
    first = queue.enqueue(queue="a", priority=-100)
    queue.enqueue(queue="c")
    assert list(queue.claim(worker, "a", "b")) == [first, second]


def test_with_a_star_queues_of_one_priority_are_served_together_in_order_of_enqueueing(
    queue, worker, lanes
):
    lanes("a", "b")
    jobs = [queue.enqueue(queue=name) for name in "abbaab"]
    assert list(queue.claim(worker, "*")) == jobs


def test_a_prefix_serves_the_queues_that_begin_with_it(queue, worker):
    inside = [queue.enqueue(queue=name) for name in ("mail", "mail_in", "mail%")]
    queue.enqueue(queue="ma")
    assert sorted(queue.claim(worker, "mail*")) == inside


@pytest.mark.parametrize("name", ["it's", '"q"', "50%", "a*", "a_b", "📮", " ", "x" * 300, "\\"])
def test_any_name_works_as_a_queue(queue, worker, name):
    job = queue.enqueue(queue=name)
    queue.enqueue(queue="zebra")
    assert list(queue.claim(worker, name)) == [job]


def test_no_more_than_asked_is_claimed(queue, worker):
    jobs = [queue.enqueue() for _ in range(5)]
    assert list(queue.claim(worker, count=3)) == jobs[:3]
    assert list(queue.claim(worker, count=3)) == jobs[3:]
    assert queue.claim(worker) == {}


def test_claim_skips_jobs_of_paused_queues(queue, worker, sql):
    queue.enqueue(queue="mail")
    other = queue.enqueue()
    sql("select steady_queue_pause_queue('mail')")
    assert list(queue.claim(worker)) == [other]


def test_a_resumed_queue_is_served_again(queue, worker, sql):
    job = queue.enqueue(queue="mail")
    sql("select steady_queue_pause_queue('mail')")
    sql("select steady_queue_resume_queue('mail')")
    assert list(queue.claim(worker)) == [job]


def test_a_claimed_job_is_running_and_names_its_owner(queue, worker, sql):
    job = queue.enqueue()
    [(_, claim)] = queue.claim(worker).items()
    assert queue.state(job) == "running"
    assert sql("select process, claim from steady_queue_running") == [(worker, claim)]


def test_claim_numbers_are_never_used_again(queue, worker):
    queue.enqueue()
    queue.enqueue()
    first = queue.claim(worker, count=1)
    second = queue.claim(worker, count=1)
    assert set(first.values()).isdisjoint(second.values())


def test_a_process_that_is_not_registered_gets_nothing(queue):
    queue.enqueue()
    with pytest.raises(Exception, match="process 0 is not registered"), transaction.atomic():
        queue.claim(0)


def test_two_claims_at_once_share_the_jobs_without_waiting(other, queue, lanes):
    lanes("default")
    worker = queue.process()
    jobs = [queue.enqueue() for _ in range(4)]
    first, second = other(), other()
    statement = "select job from steady_queue_claim_jobs(%s, '{*}', 2)"
    claimed = [first.execute(statement, (worker,)).fetchall()]
    second.execute("set local lock_timeout = '30s'")
    claimed.append(second.execute(statement, (worker,)).fetchall())
    assert [job for rows in claimed for (job,) in rows] == jobs


def test_a_job_whose_row_was_deleted_is_forgotten(queue, worker, sql):
    job = queue.enqueue()
    sql("delete from steady_queue_jobs where id = %s", job)
    assert queue.claim(worker) == {}
    assert sql("select count(*) from steady_queue_running") == [(0,)]
    assert sql("select count(*) from steady_queue_ready") == [(0,)]


def test_jobs_of_a_queue_never_seen_get_a_lane_when_claimed(queue, worker, sql):
    job = queue.enqueue(queue="new", priority=7)
    assert sql("select lane from steady_queue_ready") == [(0,)]
    assert list(queue.claim(worker)) == [job]
    assert sql(
        "select queue, priority, express from steady_queue_lanes where queue = 'new' order by 3"
    ) == [("new", 7, False), ("new", 7, True)]


def test_lanes_that_are_being_made_elsewhere_are_not_waited_for(other, queue):
    worker = queue.process()
    queue.enqueue(queue="new")
    first, second = other(), other()
    first.execute("select steady_queue_sort_jobs()")
    second.execute("set local lock_timeout = '30s'")
    second.execute("select * from steady_queue_claim_jobs(%s, '{*}', 2)", (worker,))


def test_claims_use_the_index_they_were_given(queue, worker, sql):
    for _ in range(5):
        queue.enqueue()
    queue.claim(worker, count=1)
    read = "select seq_scan from pg_stat_xact_user_tables where relname = 'steady_queue_ready'"
    before = sql(read)
    queue.claim(worker, count=1)
    assert sql(read) == before


class TestMarks:
    """How far a lane was read: moved up only over what can no longer appear."""

    @pytest.fixture(autouse=True)
    def _lane(self, other, lanes):
        lanes("default")
        self.other = other
        self.session = other(autocommit=True)

    def advance(self):
        self.session.execute("select steady_queue_advance_marks('{default}', '{0}')")

    def settle(self):
        """Until no transaction of anybody's, autovacuum included, is as old as the note."""
        settled = """
            select pg_snapshot_xmin(pg_current_snapshot()) > max(noted_xid) from steady_queue_lanes"""
        while not self.session.execute(settled).fetchone()[0]:
            pass

    def mark(self):
        return self.session.execute(
            "select mark from steady_queue_lanes "
            "where queue = 'default' and priority = 0 and not express"
        ).fetchone()[0]

    def enqueue(self, session):
        return session.execute("select steady_queue_enqueue('t')").fetchone()[0]

    def test_a_mark_moves_in_two_steps(self):
        job = self.enqueue(self.session)
        self.session.execute("delete from steady_queue_ready")
        self.advance()
        assert self.mark() == 0
        self.enqueue(self.session)
        self.settle()
        self.advance()
        assert self.mark() == job + 1

    def test_a_mark_stops_at_the_first_row_that_is_there(self):
        first = self.enqueue(self.session)
        self.enqueue(self.session)
        self.advance()
        self.enqueue(self.session)
        self.settle()
        self.advance()
        assert self.mark() == first

    def test_a_mark_waits_for_a_producer_that_is_still_open(self):
        producer = self.other()
        early = self.enqueue(producer)
        for _ in range(3):
            self.enqueue(self.session)
            self.session.execute("delete from steady_queue_ready")
            self.advance()
        assert self.mark() <= early
        producer.commit()
        worker = queries.register_process(self.other(), "worker", "w", None, "h", 1)
        claimed = self.session.execute(
            "select job from steady_queue_claim_jobs(%s, '{*}', 5)", (worker,)
        ).fetchall()
        assert claimed == [(early,)]

    def test_a_mark_moves_beside_a_transaction_that_writes_elsewhere(self):
        writer = self.other()
        writer.execute("create temporary table elsewhere as select 1")
        job = self.enqueue(self.session)
        self.session.execute("delete from steady_queue_ready")
        self.advance()
        self.enqueue(self.session)
        self.advance()
        assert self.mark() == job + 1

    def test_it_goes_on_while_jobs_are_only_taken(self):
        worker = queries.register_process(self.other(), "worker", "w", None, "h", 1)
        jobs = [self.enqueue(self.session) for _ in range(6)]
        self.advance()
        self.advance()
        marks = [self.mark()]
        for _ in range(3):
            self.session.execute("select steady_queue_claim_jobs(%s, '{*}', 2)", (worker,))
            self.advance()
            marks.append(self.mark())
        assert marks == [jobs[0], jobs[2], jobs[4], jobs[5] + 1]

    def test_it_stands_still_where_nothing_was_taken_or_enqueued(self):
        self.enqueue(self.session)
        version = "select ctid from steady_queue_lanes order by id"
        self.advance()
        self.advance()
        rows = self.session.execute(version).fetchall()
        self.advance()
        assert self.session.execute(version).fetchall() == rows

    def test_a_transaction_id_from_before_a_restore_is_thrown_away(self):
        self.session.execute(
            "update steady_queue_lanes set noted_position = 10^12, noted_xid = '999999999999'"
        )
        self.advance()
        assert self.mark() == 0
        assert self.session.execute(
            "select count(*) from steady_queue_lanes where noted_xid = '999999999999'"
        ).fetchone() == (0,)

    def test_it_refuses_to_run_late_in_a_transaction(self):
        session = self.other()
        self.enqueue(session)
        with pytest.raises(Exception, match="transaction of its own"):
            session.execute("select steady_queue_advance_marks('{default}', '{0}')")

    def test_a_lane_goes_to_another_page_under_an_old_snapshot_only(self):
        assert not self.piles_up()
        reader = self.other()
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select count(*) from steady_queue_ready")
        assert self.piles_up()

    def test_its_commit_does_not_wait_for_the_disk(self):
        said = []
        self.session.execute("""
            create function pg_temp.say() returns trigger language plpgsql as $$
            begin
              raise notice '%', current_setting('synchronous_commit');
              return null;
            end $$;
            create constraint trigger say after update on steady_queue_lanes
              deferrable initially deferred for each row execute function pg_temp.say()
        """)
        self.session.add_notice_handler(lambda notice: said.append(notice.message_primary))
        self.enqueue(self.session)
        queries.move_marks(self.session, [("default", 0)])
        self.session.execute("drop trigger say on steady_queue_lanes")
        assert set(said) == {"off"}
        assert self.session.execute("show synchronous_commit").fetchone() == ("on",)

    def piles_up(self):
        """Whether any of many moves says so."""
        said = []
        for _ in range(150):
            self.enqueue(self.session)
            said.append(queries.move_marks(self.session, [("default", 0)]))
        return any(said)

    def test_claims_after_a_mark_moved_find_everything(self):
        worker = queries.register_process(self.other(), "worker", "w", None, "h", 1)
        expected, got = [], []
        for _ in range(20):
            expected += [self.enqueue(self.session) for _ in range(5)]
            got += self.session.execute(
                "select job from steady_queue_claim_jobs(%s, '{*}', 4)", (worker,)
            ).fetchall()
            self.advance()
        got += self.session.execute(
            "select job from steady_queue_claim_jobs(%s, '{*}', 400)", (worker,)
        ).fetchall()
        assert [job for (job,) in got] == expected
