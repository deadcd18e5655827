create view steady_queue_all_jobs as
select j.id, s.state, j.task, j.queue, j.priority, j.arguments, j.enqueued_at,
  coalesce(s.run_after, j.run_after) as run_after, s.claimed_at, s.started_at, s.finished_at, s.attempt, s.lost_starts, s.process, j.limit_key,
  j.backend
from (
  select job, 'ready' as state,
    null::timestamptz as run_after, null::timestamptz as claimed_at, null::timestamptz as started_at,
    null::timestamptz as finished_at, attempt, lost_starts, null::bigint as process
  from steady_queue_ready
  union all
  select job, 'scheduled', run_after, null, null, null, attempt, lost_starts, null
  from steady_queue_scheduled
  union all
  select job, 'blocked', null, null, null, null, attempt, lost_starts, null
  from steady_queue_blocked
  union all
  select job, 'running', null, claimed_at, null, null, attempt, lost_starts, process
  from steady_queue_running
  union all
  select job, status, null, claimed_at, started_at, finished_at, attempt, lost_starts, process
  from steady_queue_outcomes
) as s
join steady_queue_jobs j on j.id = s.job;
comment on view steady_queue_all_jobs is
  'Every job with its one state: ready, scheduled, blocked, running, successful, failed or discarded.';


create view steady_queue_queues as
with ready as (
  select l.queue, w.jobs, w.oldest
  from steady_queue_lanes l
  cross join lateral (
    select count(*) as jobs,
      -- Known of what was ready from the start. What came later, retried or at its time, came before
      -- the first job that was enqueued behind it.
      (select case when r.position = j.id then j.enqueued_at else coalesce((
         select n.enqueued_at from steady_queue_jobs n where n.id > r.position order by n.id limit 1),
         j.run_after) end
       from steady_queue_ready r join steady_queue_jobs j on j.id = r.job
       where r.lane = l.id order by r.position limit 1) as oldest
    from steady_queue_ready r
    where r.lane = l.id
  ) as w
  union all
  select j.queue, 1, j.enqueued_at
  from steady_queue_ready r join steady_queue_jobs j on j.id = r.job
  where r.lane = 0
), counted as (
  select queue, jobs as ready, 0 as scheduled, 0 as blocked, 0 as running, oldest from ready
  union all
  select j.queue, 0, count(*), 0, 0, null
  from steady_queue_scheduled s join steady_queue_jobs j on j.id = s.job group by j.queue
  union all
  select j.queue, 0, 0, count(*), 0, null
  from steady_queue_blocked b join steady_queue_jobs j on j.id = b.job group by j.queue
  union all
  select j.queue, 0, 0, 0, count(*), null
  from steady_queue_running r join steady_queue_jobs j on j.id = r.job group by j.queue
  union all
  select queue, 0, 0, 0, 0, null from steady_queue_pauses
)
select c.queue, sum(c.ready)::bigint as ready, sum(c.scheduled)::bigint as scheduled,
  sum(c.blocked)::bigint as blocked, sum(c.running)::bigint as running,
  clock_timestamp() - min(c.oldest) as oldest_wait,
  exists (select from steady_queue_pauses p where p.queue = c.queue) as paused
from counted c
group by c.queue;
comment on view steady_queue_queues is
  'Each queue: jobs ready, scheduled, blocked and running, how long the first in line has waited, whether it is paused.';


create view steady_queue_running_jobs as
select r.job as id, j.task, j.queue, j.priority, clock_timestamp() - r.claimed_at as running_for,
  r.attempt + 1 as attempt, r.lost_starts, p.name as process, p.host, p.pid, r.limit_key
from steady_queue_running r
join steady_queue_jobs j on j.id = r.job
left join steady_queue_processes p on p.id = r.process
order by r.claimed_at;
comment on view steady_queue_running_jobs is 'What runs now, on which process, the longest running first.';


create view steady_queue_failed_jobs as
select o.job as id, j.task, j.queue, o.finished_at as failed_at, e.exception_class, e.message,
  o.attempt, o.lost_starts, e.traceback, j.arguments
from steady_queue_outcomes o
join steady_queue_jobs j on j.id = o.job
left join lateral (
  select e.* from steady_queue_errors e where e.job = o.job order by e.id desc limit 1
) as e on true
where o.status = 'failed'
order by o.finished_at desc;
comment on view steady_queue_failed_jobs is
  'Failures with their last error, newest first. To run one again: select steady_queue_retry_jobs(array[id]).';


create view steady_queue_due_jobs as
select s.job as id, j.task, j.queue, s.run_after, s.run_after - clock_timestamp() as due_in,
  s.attempt + 1 as attempt
from steady_queue_scheduled s
join steady_queue_jobs j on j.id = s.job
order by s.run_after, s.job;
comment on view steady_queue_due_jobs is 'What is due next.';


create view steady_queue_limits as
select b.limit_key,
  (select h.held from steady_queue_slots_held(array[b.limit_key]) h) as held,
  count(*) as blocked, min(b.blocked_at) as blocked_since
from steady_queue_blocked b
group by b.limit_key;
comment on view steady_queue_limits is 'Limit keys that jobs wait for: slots held, jobs blocked, since when.';


create view steady_queue_alive_processes as
select p.id, p.kind, p.name, p.host, p.pid, p.queues, p.threads,
  clock_timestamp() - p.heartbeat_at as silent_for, clock_timestamp() - p.started_at as up_for,
  (select count(*) from steady_queue_running r where r.process = p.id) as running
from steady_queue_processes p
order by p.supervisor nulls first, p.id;
comment on view steady_queue_alive_processes is 'Registered processes, how long since their last heartbeat, and what they hold.';


create view steady_queue_recurring as
select t.key, t.schedule, t.timezone, t.task, t.queue, t.next_run_at, t.last_run_at,
  e.job as last_job, s.state as last_state, t.paused_at is not null as paused, t.removed_at,
  t.owner, t.description
from steady_queue_recurring_tasks t
left join lateral (
  select e.job from steady_queue_recurring_executions e
  where e.key = t.key and e.job is not null order by e.run_at desc limit 1
) as e on true
left join steady_queue_all_jobs s on s.id = e.job
order by t.key;
comment on view steady_queue_recurring is
  'Schedules with their next and last run, and how the last run ended.';


create view steady_queue_recent_failures as
select j.task, e.exception_class, count(*) as failures, max(o.finished_at) as last_failed_at,
  max(o.job) as last_job
from steady_queue_outcomes o
join steady_queue_jobs j on j.id = o.job
left join lateral (
  select e.exception_class from steady_queue_errors e where e.job = o.job order by e.id desc limit 1
) as e on true
where o.status = 'failed'
  -- Compared with clock_timestamp, which is volatile, the index would not be used.
  and o.finished_at > statement_timestamp() - interval '1 hour'
group by j.task, e.exception_class
order by count(*) desc, max(o.finished_at) desc;
comment on view steady_queue_recent_failures is
  'What failed for good within the last hour, by task and exception, the most frequent first.';


-- What happened to a job, and what will: each moment that is known of it, in order.
create function steady_queue_job_timeline(p_job bigint)
returns table (at timestamptz, event text)
language sql stable
begin atomic
  select t.at, t.event
  from (
    select 1, j.enqueued_at, 'enqueued in queue ' || j.queue || ', priority ' || j.priority
    from steady_queue_jobs j where j.id = p_job
    union all
    select 2, j.run_after, 'to run, as enqueued'
    from steady_queue_jobs j where j.id = p_job and j.run_after is not null
    union all
    select 3, e.failed_at, case e.attempt
      when 0 then 'start lost with process ' || coalesce(e.process::text, 'unknown')
      else 'attempt ' || e.attempt || ' failed on process ' || coalesce(e.process::text, 'unknown')
    end || ': ' || e.exception_class
    from steady_queue_errors e where e.job = p_job
    union all
    select 4, s.run_after, 'due for attempt ' || s.attempt + 1
    from steady_queue_scheduled s where s.job = p_job
    union all
    select 4, b.blocked_at, 'blocked by limit ' || b.limit_key
    from steady_queue_blocked b where b.job = p_job
    union all
    select 4, r.claimed_at, 'claimed by process ' || r.process || ', attempt ' || r.attempt + 1
    from steady_queue_running r where r.job = p_job
    union all
    select 5, o.claimed_at, 'claimed by process ' || coalesce(o.process::text, 'unknown')
    from steady_queue_outcomes o where o.job = p_job and o.claimed_at is not null
    union all
    select 6, o.started_at, 'started'
    from steady_queue_outcomes o where o.job = p_job and o.started_at is not null
    union all
    select 7, o.finished_at, o.status
    from steady_queue_outcomes o where o.job = p_job
  ) as t(step, at, event)
  order by t.at, t.step;
end;
comment on function steady_queue_job_timeline is
  'What happened to a job, moment by moment: select * from steady_queue_job_timeline(42).';


-- Of the functions those whose comment shows a call of them: the others are called by steady_queue
-- itself. Whatever is added for people is listed once its comment has an example.
create view steady_queue_help as
select h.kind, h.name, h.arguments, h.help
from (
  select 'view' as kind, c.relname::text as name, '' as arguments,
    obj_description(c.oid, 'pg_class') as help
  from pg_class c
  where c.relkind = 'v' and starts_with(c.relname, 'steady_queue_')
    and c.relnamespace = (select t.relnamespace from pg_class t where t.oid = 'steady_queue_jobs'::regclass)
  union all
  select 'function', p.proname::text, pg_get_function_arguments(p.oid),
    obj_description(p.oid, 'pg_proc')
  from pg_proc p
  where starts_with(p.proname, 'steady_queue_')
    and strpos(obj_description(p.oid, 'pg_proc'), p.proname || '(') > 0
    and p.pronamespace = (select t.relnamespace from pg_class t where t.oid = 'steady_queue_jobs'::regclass)
) as h
order by h.kind desc, h.name;
comment on view steady_queue_help is 'The views and functions that a person may want, and what each is for.';
