"""What became of some jobs, asked of the queue's tables and views. All of it works in psql too."""

from django.db import connection

STATES = """
    select state, count(*) from steady_queue_all_jobs where id = any (%s) group by state
"""

WAITS = """
    select w.queue,
      count(*) filter (where w.status = 'successful') as done,
      count(*) filter (where w.status = 'failed') as failed,
      percentile_cont(0.5) within group (order by w.ms) as median,
      percentile_cont(0.99) within group (order by w.ms) as almost_all
    from (
      select j.queue, o.status,
        extract(epoch from o.started_at - greatest(j.enqueued_at, j.run_after)) * 1000 as ms
      from steady_queue_jobs j
      join steady_queue_outcomes o on o.job = j.id
      where j.id = any (%s)
    ) as w
    group by w.queue
    order by w.queue
"""

FAILURES = """
    select task, exception_class, message, count(*)
    from steady_queue_failed_jobs where id = any (%s)
    group by task, exception_class, message
"""

NOT_AS_EXPECTED = """
    select e.id, e.task, e.state as expected, coalesce(j.state, 'lost') as state, f.exception_class
    from unnest(%s::bigint[], %s::text[], %s::text[]) as e(id, task, state)
    left join steady_queue_all_jobs j on j.id = e.id
    left join steady_queue_failed_jobs f on f.id = e.id
    where j.state is distinct from e.state
    order by e.id
"""


def rows(statement, *arguments):
    with connection.cursor() as cursor:
        cursor.execute(statement, arguments)
        return cursor.fetchall()
