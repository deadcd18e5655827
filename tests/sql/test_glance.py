"""What pages read every few seconds costs the same however many jobs there are."""

import pytest

from tests.sql.test_views import ERROR

MOST = 10_000


@pytest.fixture
def crowd(sql, lanes):
    """More jobs of each waiting state than are counted, and a longer history."""
    lanes("crowd")
    sql("""insert into steady_queue_jobs (task, queue, priority, arguments)
      select 't', 'crowd', 0, '{}' from generate_series(1, 50000)""")
    [(first,)] = sql("select min(id) from steady_queue_jobs")
    enter = "select id, {} from steady_queue_jobs where id - {} between {} and {}"
    sql("insert into steady_queue_ready (job, lane, position) "
        + enter.format("steady_queue_lane_of('crowd', 0::smallint, false), id", first, 0, 11_999))  # fmt: skip
    sql("insert into steady_queue_scheduled (job, run_after) "
        + enter.format("'2999-01-01'", first, 12_000, 23_999))  # fmt: skip
    sql("insert into steady_queue_blocked (job, limit_key, priority) "
        + enter.format("'k', 0", first, 24_000, 35_999))  # fmt: skip
    sql("insert into steady_queue_outcomes (job, status, attempt, lost_starts, finished_at) "
        + enter.format("'successful', 1, 0, now()", first, 36_000, 50_000))  # fmt: skip
    sql("analyze steady_queue_jobs, steady_queue_ready, steady_queue_scheduled, "
        "steady_queue_blocked, steady_queue_outcomes")  # fmt: skip


READ = """
    select relname, seq_tup_read + coalesce(idx_tup_fetch, 0) from pg_stat_xact_user_tables
    where relname in ('steady_queue_jobs', 'steady_queue_outcomes', 'steady_queue_ready',
      'steady_queue_scheduled', 'steady_queue_blocked')
"""


def reads(sql, statement):
    """How many rows of each big table are read, in vain or not."""
    before = dict(sql(READ))
    sql(statement)
    return {name: count - before[name] for name, count in sql(READ)}


def test_a_glance_counts_no_further_than_ten_thousand(crowd, sql):
    read = "select ready, scheduled, blocked from {} where queue = 'crowd'"
    assert sql(read.format("steady_queue_queues")) == [(12_000, 12_000, 12_000)]
    assert sql(read.format("steady_queue_queues_at_a_glance")) == [(MOST, MOST, MOST)]
    waits = "select blocked from {} where limit_key = 'k'"
    assert sql(waits.format("steady_queue_limits")) == [(12_000,)]
    assert sql(waits.format("steady_queue_limits_at_a_glance")) == [(MOST,)]


@pytest.mark.parametrize(
    "view",
    [
        "queues_at_a_glance", "limits_at_a_glance", "running_jobs_at_a_glance", "recurring",
        "alive_processes", "throughput", "failed_jobs limit 10",
    ],
)  # fmt: skip
def test_no_glance_reads_a_big_table_from_end_to_end(crowd, sql, view):
    # Of the jobs, those of scheduled and of blocked, and some more.
    for name, rows in reads(sql, f"select * from steady_queue_{view}").items():
        assert rows < (2.1 if name == "steady_queue_jobs" else 1.1) * MOST, name


def test_a_job_is_found_by_its_time_with_a_handful_of_looks(queue, sql):
    jobs = [queue.enqueue() for _ in range(9)]
    for job, hour in zip(jobs, (1, 2, 2, 3, 5, 8, 8, 8, 9), strict=True):
        sql(
            "update steady_queue_jobs set enqueued_at = %s where id = %s",
            f"2026-01-01 {hour:02}:00Z",
            job,
        )
    sql("delete from steady_queue_jobs where id = any (%s)", [jobs[1], jobs[6]])
    since = "select steady_queue_first_job_since(%s)"
    for moment, found in {
        "00:30": 0,
        "01:00": 0,
        "01:30": 2,
        "04:00": 4,
        "06:00": 5,
        "08:30": 8,
        "09:00": 8,
    }.items():
        assert sql(since, f"2026-01-01 {moment}Z") == [(jobs[found],)], moment
    assert sql(since, "2026-01-01 09:30Z") == [(None,)]


def test_of_no_jobs_none_is_found_by_its_time(sql):
    assert sql("select steady_queue_first_job_since(now())") == [(None,)]


def test_the_state_of_a_job_is_known_in_each_state(queue, sql):
    worker = queue.process()
    running, blocked = queue.enqueue_limited("k", count=2)
    queue.claim(worker)
    failed = queue.enqueue()
    queue.finish(queue.claim(worker), error=ERROR)
    scheduled, ready = queue.enqueue(run_after="2999-01-01"), queue.enqueue()
    for job in (running, blocked, failed, scheduled, ready):
        assert sql("select steady_queue_state_of(%s)", job) == [(queue.state(job),)]
    assert sql("select steady_queue_state_of(0)") == [(None,)]


def test_a_limit_shows_who_holds_it_and_who_is_next(queue, sql):
    worker = queue.process()
    holder, *blocked = queue.enqueue_limited("k", count=3)
    queue.claim(worker)
    [other] = queue.enqueue_limited("held only")
    queue.claim(worker)
    assert sql("select limit_key, held, blocked, holders, next_job "
               "from steady_queue_limits_at_a_glance order by limit_key desc") == [
        ("k", 1, 2, [holder], blocked[0]),
        ("held only", 1, 0, [other], None),
    ]  # fmt: skip


def test_a_process_shows_as_many_jobs_as_it_has_threads(queue, sql):
    worker = queue.process()
    sql("update steady_queue_processes set threads = 2 where id = %s", worker)
    jobs = [queue.enqueue() for _ in range(3)]
    queue.claim(worker)
    sql("update steady_queue_running set claimed_at = now() + job * interval '1 s'")
    rows = sql("select process, id, task from steady_queue_running_jobs_at_a_glance")
    assert rows == [(worker, job, "t") for job in jobs[:2]]


def test_failures_and_throughput_of_a_queue_come_from_the_figures(queue, sql):
    queue.enqueue(queue="mail")
    sql("""insert into steady_queue_figures (minute, queue, task, finished, failed) values
      (date_trunc('minute', now()), 'mail', 't', 600, 3),
      (date_trunc('minute', now()) - interval '30 minutes', 'mail', 't', 100, 2),
      (date_trunc('minute', now()) - interval '2 hours', 'mail', 't', 100, 9)""")
    read = "select failed, finished_per_minute between 120 and 150 from steady_queue_queues"
    assert sql(f"{read} where queue = 'mail'") == [(5, True)]
