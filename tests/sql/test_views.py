ERROR = '{"exception_class": "E", "message": "m", "traceback": "t"}'


def test_the_queues_view_counts_each_state(queue, sql):
    worker = queue.process()
    queue.enqueue_limited("k", queue="mail", count=3)
    queue.claim(worker)
    queue.enqueue(queue="mail")
    queue.enqueue(queue="mail", run_after="2999-01-01")
    sql("select steady_queue_pause_queue('mail')")
    [row] = sql(
        "select queue, ready, scheduled, blocked, running, paused, oldest_wait is not null "
        "from steady_queue_queues where queue = 'mail'"
    )
    assert row == ("mail", 1, 1, 2, 1, True, True)


def test_a_job_retried_by_hand_has_not_waited_since_it_was_enqueued(queue, sql, lanes):
    lanes("default")
    job = queue.enqueue()
    queue.finish(queue.claim(queue.process()), error=ERROR)
    sql("update steady_queue_jobs set enqueued_at = now() - interval '1 day'")
    sql("select steady_queue_retry_jobs(array[%s])", job)
    read = "select ready, oldest_wait from steady_queue_queues where queue = 'default'"
    assert sql(read) == [(1, None)]
    behind = queue.enqueue()
    sql("update steady_queue_jobs set enqueued_at = now() - interval '1 h' where id = %s", behind)
    [(ready, waited)] = sql(read)
    assert ready == 2
    assert 3600 <= waited.total_seconds() < 86400


def test_a_job_that_became_due_has_waited_since_then_or_less(queue, sql, lanes):
    lanes("default")
    queue.enqueue(run_after="2999-01-01")
    sql("update steady_queue_jobs set run_after = now() - interval '1 h'")
    sql("update steady_queue_scheduled set run_after = now() - interval '1 h'")
    sql("update steady_queue_jobs set enqueued_at = now() - interval '1 day'")
    sql("select steady_queue_dispatch_jobs(1)")
    [(waited,)] = sql("select oldest_wait from steady_queue_queues where queue = 'default'")
    assert 3600 <= waited.total_seconds() < 86400


def test_a_queue_never_claimed_from_is_in_the_queues_view(queue, sql):
    queue.enqueue(queue="new")
    queue.enqueue(queue="later", run_after="2999-01-01")
    read = "select queue, ready, scheduled from steady_queue_queues where queue in ('new', 'later')"
    assert sorted(sql(read)) == [("later", 0, 1), ("new", 1, 0)]


def test_every_job_is_in_exactly_one_state(queue, sql):
    worker = queue.process()
    jobs = [
        queue.enqueue(),
        *queue.enqueue_limited("k", count=2),
        queue.enqueue(run_after="2999-01-01"),
    ]
    queue.claim(worker)
    queue.enqueue()
    rows = sql("select id, count(*) from steady_queue_all_jobs group by id")
    assert {count for _, count in rows} == {1}
    assert {job for job, _ in rows} >= set(jobs)


def test_the_running_view_names_the_process(queue, sql):
    job = queue.enqueue()
    queue.claim(queue.process())
    assert sql("select id, process, host, attempt from steady_queue_running_jobs") == [
        (job, "test", "host", 1)
    ]


def test_the_due_view_lists_what_is_due_next_first(queue, sql):
    last, first = queue.enqueue(run_after="2999-01-02"), queue.enqueue(run_after="2999-01-01")
    assert [i for (i,) in sql("select id from steady_queue_due_jobs")] == [first, last]


def test_the_limits_view_says_who_waits_for_a_key(queue, sql):
    queue.enqueue_limited("k", to=2, count=5)
    queue.claim(queue.process())
    assert sql("select limit_key, held, blocked from steady_queue_limits") == [("k", 2, 3)]


def test_the_process_view_says_how_long_each_was_silent_and_what_it_holds(queue, sql):
    queue.enqueue()
    queue.claim(queue.process())
    [(name, running, silent)] = sql(
        "select name, running, silent_for < interval '1 minute' from steady_queue_alive_processes"
    )
    assert (name, running, silent) == ("test", 1, True)


def test_everything_that_psql_lists_has_a_comment(sql):
    missing = sql(
        """
        select c.relname from pg_class c
        where c.relnamespace = current_schema()::regnamespace and c.relname like 'steady_queue_%'
          and c.relkind in ('r', 'v', 'S') and obj_description(c.oid, 'pg_class') is null
          and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'i')
        union all
        select p.proname from pg_proc p
        where p.pronamespace = current_schema()::regnamespace and p.proname like 'steady_queue_%'
          and obj_description(p.oid, 'pg_proc') is null
        """
    )
    assert missing == []


def test_every_function_has_a_fixed_search_path_or_a_body_bound_at_creation(sql):
    loose = sql(
        """
        select p.proname from pg_proc p
        where p.pronamespace = current_schema()::regnamespace and p.proname like 'steady_queue_%'
          and p.prosqlbody is null
          and not coalesce(p.proconfig @> array['search_path=' || current_schema() || ', pg_temp'], false)
        """
    )
    assert loose == []


def test_recent_failures_are_counted_by_task_and_exception(queue, sql):
    worker = queue.process()
    for task in ("old", "often", "once", "often"):
        queue.enqueue(task)
    queue.finish(queue.claim(worker), error=ERROR)
    sql("update steady_queue_outcomes set finished_at = now() - interval '61 minutes' "
        "where job in (select id from steady_queue_jobs where task = 'old')")  # fmt: skip
    rows = sql("select task, exception_class, failures from steady_queue_recent_failures")
    assert rows == [("often", "E", 2), ("once", "E", 1)]


def timeline(sql, job):
    return [event for (event,) in sql("select event from steady_queue_job_timeline(%s)", job)]


def test_the_timeline_tells_what_happened_to_a_job_and_what_is_next(queue, sql):
    worker = queue.process()
    job = queue.enqueue(queue="mail", priority=3)
    queue.finish(queue.claim(worker), error=ERROR[:-1] + ', "retry_in": 60}')
    # It is said to have run for a tenth of a second that has not passed yet.
    sql("update steady_queue_errors set failed_at = clock_timestamp()")
    enqueued = "enqueued in queue mail, priority 3"
    failed = f"attempt 1 failed on process {worker}: E"
    assert timeline(sql, job) == [enqueued, failed, "due for attempt 2"]
    sql("select steady_queue_run_jobs_now(array[%s])", job)
    claimed = queue.claim(worker)
    assert timeline(sql, job)[2:] == [f"claimed by process {worker}, attempt 2"]
    queue.finish(claimed)
    assert timeline(sql, job)[2:] == [f"claimed by process {worker}", "started", "successful"]


def test_the_timeline_tells_of_lost_starts_limits_and_times(queue, sql):
    later = queue.enqueue(run_after="2999-01-01")
    assert timeline(sql, later)[1:] == ["to run, as enqueued", "due for attempt 1"]
    worker = queue.process()
    running, blocked = queue.enqueue_limited("k", count=2)
    queue.claim(worker)
    assert timeline(sql, blocked)[1:] == ["blocked by limit k"]
    sql("select steady_queue_recover_jobs(%s, %s::bigint[], 'Died', 'm')", worker, [running])
    assert timeline(sql, running)[1:] == [f"start lost with process {worker}: Died"]


def test_the_timeline_of_no_job_is_empty(sql):
    assert timeline(sql, 0) == []


def test_help_lists_every_view_and_the_functions_that_people_call(sql):
    functions = sql("select name from steady_queue_help where kind = 'function'")
    assert {name.removeprefix("steady_queue_") for (name,) in functions} == {
        "check", "discard_jobs", "doctor", "enqueue", "enqueue_copy", "first_job_since", "health",
        "job_timeline", "maintain_limits", "pause_queue", "pause_recurring_task", "prune",
        "resume_queue", "resume_recurring_task", "retry_jobs", "run_jobs_now",
        "run_recurring_task_now", "schedule_task", "state_of", "throughput_of", "unschedule_task",
    }  # fmt: skip
    views = sql("select name from steady_queue_help where kind = 'view'")
    assert views == sql(
        "select viewname::text from pg_views where schemaname = current_schema() "
        "and viewname like 'steady_queue_%' order by 1"
    )


def test_help_says_what_each_is_for_and_takes(sql):
    rows = sql(
        "select arguments, help from steady_queue_help where name = 'steady_queue_retry_jobs'"
    )
    assert rows == [
        (
            "p_jobs bigint[]",
            "Makes failed jobs ready again: select steady_queue_retry_jobs(array[42]).",
        )
    ]


def test_the_calls_that_help_shows_run(sql):
    for name, text in sql("select name, help from steady_queue_help where kind = 'function'"):
        shown = text.split(": ")[-1]
        assert name in shown
        sql(shown.removesuffix("."))
