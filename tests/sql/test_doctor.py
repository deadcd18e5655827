"""What the doctor is to find is done to the database; the thresholds are moved, never the time."""

import pytest
from psycopg import sql as compose

AGO = "clock_timestamp() - interval '%s seconds'"


def health(sql, **arguments):
    named = ", ".join(f"{name} => %s::interval" for name in arguments)
    rows = sql(f"select problem from steady_queue_health({named})", *arguments.values())
    return [problem for (problem,) in rows]


def serve(sql, *queues):
    sql("select steady_queue_register_process('worker', 'w', null, 'host', 1, %s, 3)", list(queues))


def make_older(sql, *jobs):
    for job in jobs:
        sql(f"update steady_queue_jobs set enqueued_at = {AGO % 600} where id = %s", job)


def test_health_wants_a_live_worker(queue, sql):
    problem = "no worker was heard from within 00:00:30"
    assert health(sql) == [problem]
    queue.process("supervisor")
    assert health(sql) == [problem]
    serve(sql, "*")
    assert health(sql) == []
    sql(f"update steady_queue_processes set heartbeat_at = {AGO % 40}")
    assert health(sql) == [problem]
    assert health(sql, p_alive_threshold="1 minute") == []


@pytest.mark.parametrize("sorted_into_lanes", [False, True])
def test_health_names_the_served_queues_whose_jobs_wait(queue, sql, lanes, sorted_into_lanes):
    if sorted_into_lanes:
        lanes("mail", "web", "paused", "unserved")
    serve(sql, "mail", "we*", "paused")
    jobs = [queue.enqueue(queue=name) for name in ("mail", "web", "paused", "unserved")]
    sql("select steady_queue_pause_queue('paused')")
    assert health(sql, p_max_wait="5 minutes") == []
    make_older(sql, *jobs)
    found = health(sql, p_max_wait="5 minutes")
    assert sorted(problem.split(" has waited ")[0] for problem in found) == [
        "a ready job of queue mail",
        "a ready job of queue web",
    ]
    assert health(sql, p_max_wait="1 hour") == health(sql) == []


def test_health_takes_a_job_retried_by_hand_for_new(queue, sql, lanes):
    lanes("default")
    serve(sql, "*")
    job = queue.enqueue()
    queue.finish(
        queue.claim(queue.process()),
        error='{"exception_class": "E", "message": "", "traceback": ""}',
    )
    make_older(sql, job)
    sql("select steady_queue_retry_jobs(array[%s])", job)
    assert health(sql, p_max_wait="5 minutes") == []
    make_older(sql, queue.enqueue())
    assert len(health(sql, p_max_wait="5 minutes")) == 1


def findings(sql, call, *arguments):
    rows = sql(f"select finding, remedy from {call}", *arguments)
    assert all(remedy for _, remedy in rows)
    return [finding for finding, _ in rows]


def test_the_doctor_finds_nothing_in_a_healthy_database(sql):
    found = findings(sql, "steady_queue_doctor(p_open_for => '1 day')")
    # Other tests leave dead rows behind.
    assert [finding for finding in found if " rows" not in finding] == []


@pytest.fixture
def autovacuum_off(transactional_db, sql):
    sql("alter table steady_queue_ready set (autovacuum_enabled = off)")
    yield
    sql("alter table steady_queue_ready reset (autovacuum_enabled)")


def test_the_doctor_looks_at_everything(other, sql, autovacuum_off):
    idle = other()
    idle.execute("select 1")
    sql("select steady_queue_register_process('worker', 'w', null, 'h', 1, '{*}', 9000)")
    found = findings(sql, "steady_queue_doctor(p_open_for => '0 s')")
    assert any(f"session {idle.info.backend_pid} " in finding for finding in found)
    assert "autovacuum is off for steady_queue_ready" in found
    assert any("may need 9002 connections" in finding for finding in found)
    found = findings(sql, "steady_queue_doctor(p_pooled => true)")
    assert not any("may need" in finding for finding in found)


def test_the_doctor_finds_dead_rows_and_wasted_space(other, queue):
    session = other(autocommit=True)
    session.execute("vacuum full steady_queue_scheduled")
    queue.enqueue(run_after="2999-01-01")
    session.execute("delete from steady_queue_scheduled")
    if session.info.server_version >= 150000:
        session.execute("select pg_stat_force_next_flush()")

    def found(dead_rows, size):
        rows = session.execute(
            "select finding from steady_queue_bloated_tables(%s, %s) "
            "where finding like 'steady_queue_scheduled %%'",
            (dead_rows, size),
        )
        return [finding for (finding,) in rows]

    assert any("dead rows" in finding for finding in found(0, 2**40))
    assert any(" for 0 rows" in finding for finding in found(10**6, 0))
    assert found(10**6, 2**40) == []


def test_the_doctor_finds_a_transaction_left_open_and_how_to_end_it(other, sql):
    idle = other()
    idle.execute("select 1")
    pid = idle.info.backend_pid
    rows = sql("select finding, remedy from steady_queue_old_snapshots('0 s')")
    [(finding, remedy)] = [row for row in rows if f"session {pid} " in row[0]]
    assert "application test) is idle in transaction, its transaction open for" in finding
    assert f"select pg_terminate_backend({pid})" in remedy
    rows = sql("select finding from steady_queue_old_snapshots('1 day')")
    assert rows == []


def test_the_doctor_says_when_it_cannot_see_other_sessions(other, sql):
    other().execute("select 1")
    role = compose.Identifier("doctor_without_sight")
    session = other()
    session.execute(compose.SQL("create role {}").format(role))
    session.execute(compose.SQL("set local role {}").format(role))
    rows = session.execute("select finding from steady_queue_old_snapshots('0 s')").fetchall()
    session.rollback()
    assert rows == [("what other sessions do is hidden from doctor_without_sight",)]


def test_the_doctor_finds_autovacuum_switched_off_or_lax(sql):
    sql("alter table steady_queue_ready set (autovacuum_enabled = off)")
    sql("alter table steady_queue_running reset (autovacuum_vacuum_scale_factor)")
    assert findings(sql, "steady_queue_lax_vacuum()") == [
        "autovacuum is off for steady_queue_ready",
        "autovacuum of steady_queue_running waits for a share of its rows",
    ]
    for (remedy,) in sql("select remedy from steady_queue_lax_vacuum()"):
        sql(remedy)
    assert findings(sql, "steady_queue_lax_vacuum()") == []


def test_the_doctor_counts_the_connections_in_use(sql):
    [finding] = findings(sql, "steady_queue_scarce_connections(p_share => 0)")
    assert finding.endswith("connections are in use")
    assert findings(sql, "steady_queue_scarce_connections(p_share => 1)") == []


def test_the_doctor_counts_the_connections_that_processes_may_need(sql):
    sql("select steady_queue_register_process('supervisor', 's', null, 'h', 1)")
    sql("select steady_queue_register_process('worker', 'w', null, 'h', 1, '{*}', 9000)")
    [finding] = findings(sql, "steady_queue_scarce_connections(p_share => 1)")
    assert "may need 9003 connections" in finding
    assert findings(sql, "steady_queue_scarce_connections(p_pooled => true, p_share => 1)") == []


def test_the_doctor_looks_at_the_queue_of_notifications(sql):
    assert findings(sql, "steady_queue_unread_notifications()") == []
    [finding] = findings(sql, "steady_queue_unread_notifications(-1)")
    assert finding == "the queue of notifications is 0% full"


def test_the_doctor_knows_every_table_whose_rows_come_and_go(sql):
    rows = sql(
        "select oid::regclass::text from pg_class "
        "where relnamespace = current_schema()::regnamespace and starts_with(relname, 'steady_queue_') "
        "and reloptions @> array['autovacuum_vacuum_scale_factor=0'] order by 1"
    )
    assert rows == sql("select name::text from steady_queue_hot_tables() order by 1")
