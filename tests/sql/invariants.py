"""What must be true of the queue's tables at any time: queries that return the violating rows.

The numbers are those of the project's rules. Each query names the job or the key first, and reads
one snapshot: run them together with ``violations``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

STATES = """
    select job, 'ready' as state from steady_queue_ready
    union all select job, 'scheduled' from steady_queue_scheduled
    union all select job, 'blocked' from steady_queue_blocked
    union all select job, 'running' from steady_queue_running
    union all select job, status from steady_queue_outcomes
"""

HOLDERS = """
    select job, limit_key from steady_queue_running where holds_until > clock_timestamp()
    union all
    select job, limit_key from steady_queue_ready where holds_until > clock_timestamp()
"""

AHEAD = 400
"""Jobs that a worker may hold beyond its threads (crew.MOST_AHEAD)."""

INVARIANTS: dict[str, str] = {
    "1 every job is in exactly one state": f"""
        select coalesce(j.id, s.job)::text as subject, array_agg(s.state)::text as found
        from steady_queue_jobs j full join ({STATES}) s on s.job = j.id
        group by 1 having count(s.state) <> 1 or count(j.id) <> 1""",
    "2 what runs has an owner, a claim and an attempt": """
        select r.job::text, format('claim %s process %s', r.claim, r.process)
        from steady_queue_running r
        where r.claim is null or r.process is null or r.claimed_at is null or r.attempt < 0
          or r.claimed_at > clock_timestamp()""",
    "3 holders of a key are at most the largest limit among them": f"""
        select h.limit_key, format('%s holders, limit %s', count(*), max(j.limit_to))
        from ({HOLDERS}) h join steady_queue_jobs j on j.id = h.job
        group by h.limit_key having count(*) > max(j.limit_to)""",
    "3 a limited job that runs has a slot, and nobody else": """
        select r.job::text, format('key %s until %s', r.limit_key, r.holds_until)
        from (
          select job, limit_key, holds_until, true as runs from steady_queue_running
          union all select job, limit_key, holds_until, false from steady_queue_ready
        ) r join steady_queue_jobs j on j.id = r.job
        where r.limit_key is distinct from j.limit_key
          or (r.limit_key is null and r.holds_until is not null)
          or (r.runs and r.limit_key is not null and r.holds_until is null)""",
    "3 a limit in use has its lock": """
        select u.limit_key, 'no semaphore'
        from (
          select limit_key from steady_queue_running where limit_key is not null
          union select limit_key from steady_queue_blocked
          union select limit_key from steady_queue_ready where holds_until is not null
        ) u
        where not exists (select from steady_queue_semaphores s where s.limit_key = u.limit_key)""",
    "4 nobody is blocked while a slot is free": f"""
        select f.limit_key, format('job %s of limit %s, held %s', f.job, f.limit_to, f.held)
        from (
          select distinct on (b.limit_key) b.limit_key, b.job, j.limit_to,
            (select count(*) from ({HOLDERS}) h where h.limit_key = b.limit_key) as held
          from steady_queue_blocked b join steady_queue_jobs j on j.id = b.job
          where not exists (select from steady_queue_pauses p where p.queue = j.queue)
          order by b.limit_key, b.priority desc, b.job
        ) f
        where f.held < f.limit_to""",
    "5 what runs belongs to a registered process": """
        select r.job::text, format('process %s', r.process)
        from steady_queue_running r
        where not exists (select from steady_queue_processes p where p.id = r.process)""",
    "7 no process holds more jobs than it may": f"""
        select p.id::text, format('%s jobs, %s threads', count(*), p.threads)
        from steady_queue_processes p join steady_queue_running r on r.process = p.id
        group by p.id, p.threads having count(*) > greatest(p.threads, 1) + {AHEAD}""",
    "10 no ready row stands below its lane's mark": """
        select r.job::text, format('position %s, mark %s', r.position, l.mark)
        from steady_queue_ready r join steady_queue_lanes l on l.id = r.lane
        where r.position < l.mark""",
    "10 every ready row is in a lane of its own queue and priority": """
        select r.job::text, format('lane %s', r.lane)
        from steady_queue_ready r join steady_queue_jobs j on j.id = r.job
        left join steady_queue_lanes l on l.id = r.lane
        where r.lane <> 0 and (l.id is null or l.queue <> j.queue or l.priority <> j.priority
          or l.express <> (r.holds_until is not null))""",
}

DRAINED = f"select s.job::text, s.state from ({STATES}) s where s.state in ('ready', 'scheduled', 'blocked', 'running')"
"""8: after a drain only what has ended remains."""


def violations(
    run: Callable[[str], list[tuple[Any, ...]]], without: Collection[str] = ()
) -> list[tuple[str, str, str]]:
    """Name of the invariant, job or key, and what was found: of one snapshot.

    ``without`` names numbers that do not hold yet, such as 5 before a sweep.
    """
    return run(
        " union all ".join(
            f"select '{name.replace(chr(39), chr(39) * 2)}', v.subject, v.found "
            f"from ({query}) as v(subject, found)"
            for name, query in INVARIANTS.items()
            if name.split()[0] not in without
        )
    )
