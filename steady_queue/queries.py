"""One function for each SQL function, with the same name: the only module that calls them.

Functions that the application calls take the alias of a Django database and run in its current
transaction. Those that processes call take a psycopg connection of the queue's own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import psycopg
from django.db import connections, transaction
from django.db.backends.utils import CursorWrapper

type Connection = psycopg.Connection[tuple[Any, ...]]


class NewJob(NamedTuple):
    """A job to enqueue; ``arguments`` is JSON."""

    task: str
    queue: str
    priority: int
    arguments: str
    run_after: datetime | None
    limit_key: str | None
    limit_to: int | None
    limit_for: timedelta | None
    limit_conflict: str | None


class ClaimedJob(NamedTuple):
    """A job that this process runs next. ``attempt`` counts the earlier ones that failed.

    Jobs in the same ``slot`` of their limit run one after the other, in order.
    """

    id: int
    claim: int
    task: str
    backend: str
    queue: str
    priority: int
    arguments: str
    attempt: int
    lost_starts: int
    suspect: bool
    limit_key: str | None
    slot: int | None
    run_after: datetime | None
    enqueued_at: datetime
    claimed_at: datetime
    errors: list[dict[str, str]] | None
    workers: list[str] | None


class Outcome(NamedTuple):
    """How a job ended. Spans in seconds; ``error`` is JSON for steady_queue_finish_jobs."""

    job: ClaimedJob
    waited: float
    ran: float
    error: str | None


ENQUEUE_JOB = """
    select id, enqueued_at from steady_queue_enqueue_job(
      %s, %s, %s, %s::smallint, %s::json, %s, %s, %s, %s, %s)
"""
ENQUEUE_PLAIN_JOB = """
    select id, enqueued_at from steady_queue_enqueue_job(%s, %s, %s, %s::smallint, %s::json)
"""


def enqueue_job(cursor: Any, backend: str, job: NewJob) -> None:
    """With a cursor of Django's or of psycopg's, which knows the id then: ``enqueued``."""
    if job.run_after or job.limit_key:
        cursor.execute(ENQUEUE_JOB, (backend, *job))
    else:
        cursor.execute(ENQUEUE_PLAIN_JOB, (backend, *job[:4]))


ENQUEUE_JOBS = """
    select array_agg(id), min(enqueued_at) from steady_queue_enqueue_jobs(
      %s, %s::text[], %s::text[], %s::smallint[], %s::json[], %s::timestamptz[],
      %s::text[], %s::integer[], %s::interval[], %s::text[])
"""


def enqueue_jobs(cursor: Any, backend: str, jobs: Sequence[NewJob]) -> None:
    """With a cursor of Django's or of psycopg's, which knows the ids then: ``enqueued``."""
    tasks, queues, priorities, arguments, *rare = zip(*jobs, strict=True)
    columns = (
        _text_array(tasks),
        _text_array(queues),
        _array(priorities),
        _text_array(arguments),
        # Most jobs have neither a time nor a limit: null stands for an array of nulls.
        *(list(column) if any(column) else None for column in rare),
    )
    cursor.execute(ENQUEUE_JOBS, (backend, *columns))


def enqueued(cursor: Any) -> tuple[list[int], datetime]:
    """Ids of what was enqueued with this cursor, in order, and their moment."""
    # One statement, one moment; one array is read faster than rows.
    ids, moment = cursor.fetchone()
    return ids if isinstance(ids, list) else [ids], moment


def ensure_lanes(cursor: Any, lanes: Collection[tuple[str, int]]) -> None:
    """Make the lanes of these (queue, priority) pairs. With a cursor of either kind."""
    cursor.execute(
        "select steady_queue_ensure_lanes(%s::text[], %s::smallint[])",
        ([queue for queue, _ in lanes], [priority for _, priority in lanes]),
    )


def pause_queue(database: str, queue: str) -> bool:
    """False when it was paused already."""
    return bool(_steer(database, "select steady_queue_pause_queue(%s)", queue))


def resume_queue(database: str, queue: str) -> bool:
    """False when it was not paused."""
    return bool(_steer(database, "select steady_queue_resume_queue(%s)", queue))


def retry_jobs(database: str, jobs: Sequence[int]) -> int:
    """How many failed or discarded jobs are ready again."""
    return int(_steer(database, "select steady_queue_retry_jobs(%s::bigint[])", list(jobs)))


def discard_jobs(database: str, jobs: Sequence[int]) -> int:
    """How many waiting jobs ended without running."""
    return int(_steer(database, "select steady_queue_discard_jobs(%s::bigint[])", list(jobs)))


def run_jobs_now(database: str, jobs: Sequence[int]) -> int:
    """How many scheduled jobs are ready."""
    return int(_steer(database, "select steady_queue_run_jobs_now(%s::bigint[])", list(jobs)))


def enqueue_copy(database: str, jobs: Sequence[int]) -> list[int]:
    """The numbers of the copies."""
    rows = _rows(database, "select steady_queue_enqueue_copy(%s::bigint[])", list(jobs))
    return [copy for (copy,) in rows]


def first_job_since(database: str, moment: datetime) -> int | None:
    """The first job that was enqueued at that moment or later; None when there is none."""
    [(job,)] = _rows(database, "select steady_queue_first_job_since(%s)", moment)
    return None if job is None else int(job)


def _steer(database: str, statement: str, argument: Any) -> Any:
    with connections[database].cursor() as cursor:
        cursor.execute(statement, (argument,))
        return cursor.fetchone()[0]


def oldest_release(database: str) -> str:
    """The last migration of the oldest release that works on the database's schema."""
    return str(_rows(database, "select steady_queue_oldest_release()")[0][0])


def is_installed(database: str) -> bool:
    """Whether the queue's tables are there: false before the first migrate."""
    with connections[database].cursor() as cursor:
        cursor.execute("select to_regclass('steady_queue_jobs') is not null")
        return bool(cursor.fetchone()[0])


class Violation(NamedTuple):
    """What should be true, the job, limit key or process of which it is not, and what was found."""

    invariant: str
    subject: str
    found: str


def check(
    database: str, alive_threshold: timedelta, maintained_every: timedelta, deep: bool
) -> list[Violation]:
    """What is wrong in one snapshot; with ``deep`` the whole history is read too."""
    with _snapshot(database) as cursor:
        arguments: tuple[Any, ...] = (alive_threshold, maintained_every, deep)
        cursor.execute("select * from steady_queue_check(%s, %s, %s)", arguments)
        return [Violation._make(row) for row in cursor.fetchall()]


@contextmanager
def _snapshot(database: str) -> Iterator[CursorWrapper]:
    with (
        transaction.atomic(using=database, durable=True),
        connections[database].cursor() as cursor,
    ):
        cursor.execute("set transaction isolation level repeatable read read only")
        yield cursor


STATUS = {
    "queues": """
        select queue, ready, scheduled, blocked, running, failed, finished_per_minute,
          oldest_wait, paused
        from steady_queue_queues order by queue""",
    "failures": """
        select task, exception_class, failures, last_failed_at, last_job
        from steady_queue_recent_failures limit 10""",
    "processes": """
        select id, kind, name, host, pid, queues, threads, running, silent_for, up_for
        from steady_queue_alive_processes""",
    "limits": """
        select limit_key, held, blocked, blocked_since
        from steady_queue_limits order by blocked desc, limit_key limit 10""",
    "schedules": """
        select key, schedule, timezone, task, next_run_at, last_state
        from steady_queue_recurring
        where removed_at is null and not paused and next_run_at < 'infinity'
        order by next_run_at, key limit 10""",
}


DASHBOARD = {
    "now": "select clock_timestamp() as now",
    "queues": """
        select queue, ready, scheduled, blocked, running, failed, finished_per_minute,
          oldest_wait, paused
        from steady_queue_queues_at_a_glance order by queue limit 200""",
    "processes": """
        select id, kind, name, host, pid, queues, threads, running, silent_for, up_for
        from steady_queue_alive_processes limit 200""",
    "running": """
        select process, id, task, running_for
        from steady_queue_running_jobs_at_a_glance limit 1000""",
    "schedules": """
        select key, schedule, timezone, task, next_run_at, last_run_at, last_job, last_state, paused
        from steady_queue_recurring where removed_at is null limit 200""",
    "limits": """
        select limit_key, held, blocked, holders, next_job, next_blocked_at
        from steady_queue_limits_at_a_glance
        order by blocked desc, held desc, limit_key limit 50""",
    "failures": """
        select id, task, queue, failed_at, exception_class
        from steady_queue_failed_jobs limit 10""",
}


def dashboard(database: str) -> dict[str, list[dict[str, Any]]]:
    """What a page that is read every few seconds shows: rows under the names of DASHBOARD, at a
    cost that does not rise with the number of jobs."""
    with connections[database].cursor() as cursor:
        return {name: _dicts(cursor, statement) for name, statement in DASHBOARD.items()}


class Throughput(NamedTuple):
    """What was done from ``at`` on, for one step."""

    at: datetime
    finished: int
    failed: int
    wait_p50: timedelta | None
    wait_p95: timedelta | None
    run_p50: timedelta | None
    run_p95: timedelta | None


def throughput_of(
    database: str, span: timedelta, step: timedelta, queue: str | None
) -> list[Throughput]:
    """Of one queue, or of all together; steps in which nothing ended are left out."""
    statement = "select * from steady_queue_throughput_of(%s, %s, %s)"
    return [Throughput._make(row) for row in _rows(database, statement, span, step, queue)]


def status(database: str) -> dict[str, list[dict[str, Any]]]:
    """What is going on, in one snapshot: rows, each by column, under the names of STATUS."""
    with _snapshot(database) as cursor:
        return {name: _dicts(cursor, statement) for name, statement in STATUS.items()}


METRICS = {
    "queues": """
        select queue, ready, scheduled, blocked, running, oldest_wait, paused
        from steady_queue_queues order by queue""",
    "processes": """
        select k.kind, count(p.id) as alive, coalesce(sum(p.threads), 0) as threads
        from unnest(array['supervisor', 'worker', 'dispatcher', 'scheduler'])
          with ordinality as k(kind, place)
        left join steady_queue_alive_processes p on p.kind = k.kind and p.silent_for <= %s
        group by k.kind, k.place order by k.place""",
    "schedules": """
        select key, paused, last_run_at, nullif(next_run_at, 'infinity') as next_run_at
        from steady_queue_recurring where removed_at is null order by key""",
    "totals": """
        select queue, task, finished, failed, waited, ran, waits, runs
        from steady_queue_totals""",
}


def metrics(database: str, alive_threshold: timedelta) -> dict[str, list[dict[str, Any]]]:
    """What is counted, in one snapshot: rows, each by column, under the names of METRICS."""
    arguments = {"processes": (alive_threshold,)}
    with _snapshot(database) as cursor:
        return {
            name: _dicts(cursor, statement, arguments.get(name))
            for name, statement in METRICS.items()
        }


def _dicts(
    cursor: CursorWrapper, statement: str, arguments: tuple[Any, ...] | None = None
) -> list[dict[str, Any]]:
    cursor.execute(statement, arguments)
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def job_timeline(database: str, job: int) -> list[tuple[datetime, str]]:
    """What happened to a job, and when, in order."""
    return _rows(database, "select * from steady_queue_job_timeline(%s)", job)


def health(database: str, alive_threshold: timedelta, max_wait: timedelta | None) -> list[str]:
    """What is wrong right now; with ``max_wait`` ready jobs that wait for longer, too."""
    statement = "select problem from steady_queue_health(%s, %s::interval)"
    return [problem for (problem,) in _rows(database, statement, alive_threshold, max_wait)]


def doctor(database: str, pooled: bool) -> list[tuple[str, str]]:
    """What makes the queue slow, or will, and what to do about each."""
    statement = "select finding, remedy from steady_queue_doctor(p_pooled => %s)"
    return _rows(database, statement, pooled)


def _rows(database: str, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
    with connections[database].cursor() as cursor:
        cursor.execute(statement, arguments)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


FINISH_JOBS = """
    select job, refusal from steady_queue_finish_jobs(
      %s::bigint[], %s::bigint[], %s::float8[], %s::float8[], %s::json[], %s::text[], %s)
"""
CLAIM_JOBS = "select * from steady_queue_claim_jobs(%s, %s::text[], %s)"
FINISH_AND_CLAIM_JOBS = """
    select * from steady_queue_finish_and_claim_jobs(
      %s::bigint[], %s::bigint[], %s::float8[], %s::float8[], %s::json[], %s::text[], %s,
      %s, %s::text[], %s, %s)
"""


def finish_and_claim_jobs(
    connection: Connection,
    process: int,
    finished: Sequence[Outcome],
    keep: bool,
    queues: list[str],
    count: int,
    followers: int = 0,
) -> tuple[dict[int, str], list[ClaimedJob]]:
    """Hand in what has finished and take up to ``count`` jobs, in one round trip and one commit.

    Each of them that takes over a slot of a limit may bring so many ``followers`` along.

    Returns the outcomes that were refused, job to reason, and the jobs.
    """
    claim = (process, queues, count)
    if not finished:
        rows = connection.execute(CLAIM_JOBS, claim).fetchall()
    elif not count:
        rows = connection.execute(FINISH_JOBS, _finish_arguments(finished, keep)).fetchall()
        connection.commit()
        return dict(rows), []
    else:
        arguments = (*_finish_arguments(finished, keep), *claim, followers)
        rows = connection.execute(FINISH_AND_CLAIM_JOBS, arguments).fetchall()
    connection.commit()
    jobs = [ClaimedJob._make(row) for row in rows]
    refused = {job.id: job.task for job in jobs if job.claim is None}
    return refused, [job for job in jobs if job.claim is not None] if refused else jobs


def _finish_arguments(finished: Sequence[Outcome], keep: bool) -> tuple[Any, ...]:
    jobs, waited, ran, errors = zip(*finished, strict=True)
    return (
        _array([job.id for job in jobs]),
        _array([job.claim for job in jobs]),
        _array(waited),
        _array(ran),
        list(errors) if any(errors) else None,
        list({job.limit_key for job in jobs if job.limit_key is not None}) or None,
        keep,
    )


def _array(numbers: Iterable[float]) -> str:
    """As PostgreSQL reads one. The driver's way looks at each element, and takes ten times as
    long."""
    return f"{{{','.join(map(str, numbers))}}}"


def _text_array(texts: Iterable[str]) -> str:
    escaped = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return '{"' + '","'.join(escaped) + '"}'


def release_jobs(connection: Connection, jobs: Sequence[ClaimedJob]) -> list[int]:
    """Put claimed jobs that were not started back to ready. Those that were not put back."""
    rows = connection.execute(
        "select steady_queue_release_jobs(%s::bigint[], %s::bigint[])",
        ([job.id for job in jobs], [job.claim for job in jobs]),
    ).fetchall()
    connection.commit()
    return [job for (job,) in rows]


def disown_jobs(connection: Connection, process: int, known: Sequence[int]) -> int | None:
    """How many jobs, claimed by this process without its hearing of it, were put back.

    None: some are left, call again.
    """
    statement = "select steady_queue_disown_jobs(%s, %s::bigint[])"
    disowned: int | None = _value(connection, statement, process, list(known))
    return disowned


def is_quiet(connection: Connection, queues: list[str]) -> bool:
    """Whether a worker of these queues that waits may sleep."""
    return bool(_value(connection, "select steady_queue_is_quiet(%s::text[])", queues))


def producers_ended(connection: Connection, topics: list[str]) -> bool:
    """Whether no producer can have missed that the caller waits for these topics."""
    return bool(_value(connection, "select steady_queue_producers_ended(%s::text[])", topics))


def move_marks(connection: Connection, lanes: Collection[tuple[str, int]]) -> bool:
    """Of the lanes of these (queue, priority) pairs. Whether old versions of lanes pile up."""
    # Nothing waits for the disk, or a replica: a mark that a crash takes back is a lower one.
    statement = """
        select steady_queue_move_marks(%s::text[], %s::smallint[]),
          set_config('synchronous_commit', 'off', true)
    """
    queues, priorities = zip(*lanes, strict=True) if lanes else ((), ())
    return bool(_value(connection, statement, list(queues), list(priorities)))


def start_waiting(connection: Connection, topics: list[str]) -> None:
    """From now on producers of these topics notify. On the LISTEN connection."""
    connection.execute("select steady_queue_start_waiting(%s::text[])", (topics,))


def stop_waiting(connection: Connection, topics: list[str]) -> None:
    connection.execute("select steady_queue_stop_waiting(%s::text[])", (topics,))


def join_lines(
    connection: Connection, topics: list[str], lost: list[int]
) -> list[tuple[str, int, list[int]]]:
    """Topic, ticket and the tickets ahead of it. On the LISTEN connection."""
    return connection.execute(
        "select topic, ticket, ahead from steady_queue_join_lines(%s::text[], %s::integer[])",
        (topics, lost),
    ).fetchall()


def leave_lines(connection: Connection, topics: list[str], tickets: list[int]) -> None:
    connection.execute(
        "select steady_queue_leave_lines(%s::text[], %s::integer[])", (topics, tickets)
    )


def ahead_in_line(connection: Connection, topic: str, ticket: int) -> list[int]:
    """The tickets that came before."""
    return list(_value(connection, "select steady_queue_ahead_in_line(%s, %s)", topic, ticket))


def topics_to_wait_for(queues: Iterable[str]) -> list[str]:
    """What a worker of these queues waits for: their names, or any queue for a prefix."""
    return sorted({"queue:*" if queue.endswith("*") else f"queue:{queue}" for queue in queues})


def dispatch_jobs(connection: Connection, count: int) -> tuple[int, float | None]:
    """How many due jobs were moved to ready, and in how many seconds the next is due."""
    cursor = connection.execute("select * from steady_queue_dispatch_jobs(%s)", (count,))
    moved, next_due_in = cursor.fetchall()[0]
    connection.commit()
    return moved, None if next_due_in is None else float(next_due_in)


def maintain_limits(connection: Connection, count: int) -> int:
    """How many unused limit keys were forgotten, ``count`` at most."""
    return int(_value(connection, "select steady_queue_maintain_limits(%s)", count))


def prune(
    connection: Connection, finished: timedelta | None, failed: timedelta | None, count: int
) -> int:
    """How many ended jobs were deleted."""
    return int(
        _value(
            connection,
            "select steady_queue_prune(%s::interval, %s::interval, %s)",
            finished,
            failed,
            count,
        )
    )


def add_figures(connection: Connection, figures: str) -> bool:
    """Add what was counted, as JSON; False when the table is locked: again later."""
    return bool(_value(connection, "select steady_queue_add_figures(%s::json)", figures))


def compact_figures(connection: Connection, count: int) -> int:
    """How many rows were taken to make fewer of them."""
    return int(_value(connection, "select steady_queue_compact_figures(%s)", count))


def sync_recurring_tasks(
    connection: Connection, owner: str, declared_ago: timedelta, tasks: str
) -> bool:
    """Take over what a project declares, as JSON; False when a newer declaration is stored."""
    statement = "select steady_queue_sync_recurring_tasks(%s, clock_timestamp() - %s, %s::json)"
    return bool(_value(connection, statement, owner, declared_ago, tasks))


SCHEDULE_TASK = """
    select steady_queue_schedule_task(
      %s, %s, %s, %s, %s::json, %s, %s, %s, %s::interval, %s, %s)
"""


def schedule_task(database: str, *columns: Any) -> None:
    """Make or change a schedule at run time; the columns in the function's order."""
    with connections[database].cursor() as cursor:
        cursor.execute(SCHEDULE_TASK, columns)


def unschedule_task(database: str, key: str) -> bool:
    """False when there is no such schedule."""
    return bool(_steer(database, "select steady_queue_unschedule_task(%s)", key))


def pause_recurring_task(database: str, key: str) -> bool:
    """False when it is paused already, or there is none."""
    return bool(_steer(database, "select steady_queue_pause_recurring_task(%s)", key))


def resume_recurring_task(database: str, key: str) -> bool:
    """False when it is not paused."""
    return bool(_steer(database, "select steady_queue_resume_recurring_task(%s)", key))


def run_recurring_task_now(database: str, key: str) -> bool:
    """False when there is no such schedule."""
    return bool(_steer(database, "select steady_queue_run_recurring_task_now(%s)", key))


class DueTask(NamedTuple):
    """A schedule that a scheduler has to look at. ``now`` is the database's clock."""

    key: str
    task: str
    schedule: str
    timezone: str
    arguments: str
    queue: str | None
    priority: int | None
    backend: str
    jitter: timedelta
    missed: str
    next_run_at: datetime | None
    run_now_at: datetime | None
    now: datetime


def due_recurring_tasks(connection: Connection) -> list[DueTask]:
    rows = connection.execute("select * from steady_queue_due_recurring_tasks()").fetchall()
    connection.commit()
    return [DueTask._make(row) for row in rows]


def advance_recurring_task(
    connection: Connection,
    key: str,
    cursor: datetime | None,
    following: datetime | None,
    run_at: datetime | None,
) -> bool:
    """True for the one caller that enqueues the run, in the transaction that is open."""
    statement = (
        "select steady_queue_advance_recurring_task("
        "%s, %s::timestamptz, %s::timestamptz, %s::timestamptz)"
    )
    row = connection.execute(statement, (key, cursor, following, run_at)).fetchone()
    return bool(row and row[0])


def take_run_now(connection: Connection, key: str, run_at: datetime) -> bool:
    """True for one caller, in the transaction that is open."""
    row = connection.execute("select steady_queue_take_run_now(%s, %s)", (key, run_at)).fetchone()
    return bool(row and row[0])


def record_execution(connection: Connection, key: str, run_at: datetime, job: int) -> None:
    """Note which job a run became, in the transaction that is open."""
    connection.execute("select steady_queue_record_execution(%s, %s, %s)", (key, run_at, job))


def next_recurring_run_in(connection: Connection) -> float | None:
    """Seconds until the next schedule is due."""
    seconds = _value(connection, "select steady_queue_next_recurring_run_in()")
    return None if seconds is None else float(seconds)


def prune_recurring(connection: Connection, after: timedelta) -> None:
    _value(connection, "select steady_queue_prune_recurring(%s)", after)


def register_process(
    connection: Connection,
    kind: str,
    name: str,
    supervisor: int | None,
    host: str,
    pid: int,
    queues: Sequence[str] = (),
    threads: int = 0,
) -> int:
    """The number of the process."""
    return int(
        _value(
            connection,
            "select steady_queue_register_process(%s, %s, %s, %s, %s, %s::text[], %s)",
            kind,
            name,
            supervisor,
            host,
            pid,
            list(queues),
            threads,
        )
    )


def note_pid(connection: Connection, process: int, pid: int) -> None:
    _value(connection, "select steady_queue_note_pid(%s, %s)", process, pid)


HEARTBEAT_AND_SWEEP = """
    select 'gone', h, null::float8 from steady_queue_heartbeat(%s::bigint[], %s) as h
    union all
    select 'removed', s, null from steady_queue_sweep(%s, %s, %s) as s
    union all
    select 'silence', null, steady_queue_next_silence_in(%s)
"""


def heartbeat_and_sweep(
    connection: Connection,
    processes: Sequence[int],
    sweeper: int,
    alive_threshold: timedelta,
    max_lost_starts: int,
) -> tuple[list[int], list[int], float]:
    """Say that processes live, and sweep. Those of them that are no longer registered; others that
    were found silent for too long, and removed; seconds until the next may be found so."""
    sweep = (sweeper, alive_threshold, max_lost_starts)
    arguments = (list(processes), alive_threshold, *sweep, alive_threshold)
    *rows, (_, _, silence_in) = connection.execute(HEARTBEAT_AND_SWEEP, arguments).fetchall()
    connection.commit()
    gone, removed = ([p for kind, p, _ in rows if kind == k] for k in ("gone", "removed"))
    return gone, removed, float("inf") if silence_in is None else silence_in


def recover_jobs(
    connection: Connection,
    process: int,
    started: Sequence[int] | None,
    exception_class: str,
    message: str,
    max_lost_starts: int,
) -> int | None:
    """Remove a process; how many jobs it held. None: some are left, call again."""
    recovered: int | None = _value(
        connection,
        "select steady_queue_recover_jobs(%s, %s::bigint[], %s, %s, %s)",
        process,
        None if started is None else list(started),
        exception_class,
        message,
        max_lost_starts,
    )
    return recovered


def _value(connection: Connection, statement: str, *arguments: Any) -> Any:
    row = connection.execute(statement, arguments).fetchone()
    connection.commit()
    return row[0] if row else None
