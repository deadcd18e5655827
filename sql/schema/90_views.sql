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


-- Each queue, its jobs counted by state, no further than p_most of each (null: all). Of scheduled
-- and blocked jobs that is p_most of all queues together: what is due next, and who is first in line.
-- failed counts the last hour, finished_per_minute stands for the last five minutes (75_figures.sql).
create function steady_queue_count_queues(p_most bigint)
returns table (
  queue text, ready bigint, scheduled bigint, blocked bigint, running bigint, failed bigint,
  finished_per_minute double precision, oldest_wait interval, paused boolean
)
language sql stable
-- A table full of dead rows would be read from end to end for each lane.
set enable_seqscan = off
begin atomic
  with ready as (
    select l.queue, w.jobs, w.oldest
    from steady_queue_lanes l
    cross join lateral (
      select (
          select count(*) from (
            select from steady_queue_ready r
            where r.lane = l.id and r.position >= l.mark
            -- As in the index: else all lanes might be read for the jobs of one.
            order by r.position
            limit p_most
          ) r) as jobs,
        -- Known of what was ready from the start. What came later, retried or at its time, came
        -- before the first job that was enqueued behind it.
        (select case when r.position = j.id then j.enqueued_at else coalesce((
           select n.enqueued_at from steady_queue_jobs n where n.id > r.position order by n.id limit 1),
           j.run_after) end
         from steady_queue_ready r join steady_queue_jobs j on j.id = r.job
         where r.lane = l.id and r.position >= l.mark order by r.position limit 1) as oldest
    ) as w
    union all
    select j.queue, 1, j.enqueued_at
    from (
      select r.job from steady_queue_ready r where r.lane = 0 order by r.position limit p_most
    ) r
    join steady_queue_jobs j on j.id = r.job
  ), counted as (
    select r.queue, r.jobs as ready, 0 as scheduled, 0 as blocked, 0 as running, r.oldest from ready r
    union all
    -- Not joined: the whole history would be read for a few thousand queues of jobs.
    select (select j.queue from steady_queue_jobs j where j.id = s.job), 0, count(*), 0, 0, null
    from (select s.job from steady_queue_scheduled s order by s.run_after, s.job limit p_most) s
    group by 1
    union all
    select (select j.queue from steady_queue_jobs j where j.id = b.job), 0, 0, count(*), 0, null
    from (
      select b.job from steady_queue_blocked b
      order by b.limit_key, b.priority desc, b.job
      limit p_most
    ) b
    group by 1
    union all
    select (select j.queue from steady_queue_jobs j where j.id = r.job), 0, 0, 0, count(*), null
    from steady_queue_running r
    group by 1
    union all
    select p.queue, 0, 0, 0, 0, null from steady_queue_pauses p
  ), done as (
    select f.queue,
      sum(f.failed) as failed,
      sum(f.finished) filter (
        where f.minute >= date_trunc('minute', statement_timestamp()) - interval '4 minutes') as finished
    from steady_queue_figures f
    where f.minute > statement_timestamp() - interval '1 hour'
    group by f.queue
  )
  select c.queue,
    least(sum(c.ready), p_most)::bigint,
    sum(c.scheduled)::bigint,
    sum(c.blocked)::bigint,
    sum(c.running)::bigint,
    coalesce(max(d.failed), 0)::bigint,
    round(coalesce(max(d.finished), 0)
      / (4 + extract(second from statement_timestamp()) / 60), 1)::double precision,
    clock_timestamp() - min(c.oldest),
    exists (select from steady_queue_pauses p where p.queue = c.queue)
  from counted c
  left join done d on d.queue = c.queue
  -- Null is the queue of a job that somebody has deleted by hand.
  where c.queue is not null
  group by c.queue;
end;
comment on function steady_queue_count_queues is 'Counts the jobs of each queue, no further than so many.';


create view steady_queue_queues as
select q.queue, q.ready, q.scheduled, q.blocked, q.running, q.failed, q.finished_per_minute,
  q.oldest_wait, q.paused
from steady_queue_count_queues(null) q;
comment on view steady_queue_queues is
  'Each queue: jobs ready, scheduled, blocked and running, how many failed within the hour and finish a minute, how long the first in line has waited, whether it is paused.';


create view steady_queue_queues_at_a_glance as
select q.queue, q.ready, q.scheduled, q.blocked, q.running, q.failed, q.finished_per_minute,
  q.oldest_wait, q.paused
from steady_queue_count_queues(10000) q;
comment on view steady_queue_queues_at_a_glance is
  'The same as steady_queue_queues at the same cost however many jobs wait: it counts up to 10,000.';


create view steady_queue_running_jobs as
select r.job as id, j.task, j.queue, j.priority, clock_timestamp() - r.claimed_at as running_for,
  r.attempt + 1 as attempt, r.lost_starts, p.name as process, p.host, p.pid, r.limit_key
from steady_queue_running r
join steady_queue_jobs j on j.id = r.job
left join steady_queue_processes p on p.id = r.process
order by r.claimed_at;
comment on view steady_queue_running_jobs is 'What runs now, on which process, the longest running first.';


-- Of each process as many as it has threads: those that it claimed first, the others wait for one.
create view steady_queue_running_jobs_at_a_glance as
select r.process, r.job as id, j.task, j.queue, r.running_for
from (
  select r.process, r.job, clock_timestamp() - r.claimed_at as running_for,
    row_number() over (partition by r.process order by r.claimed_at, r.job) as place
  from steady_queue_running r
) r
join steady_queue_processes p on p.id = r.process and r.place <= p.threads
join steady_queue_jobs j on j.id = r.job
order by r.process, r.place;
comment on view steady_queue_running_jobs_at_a_glance is
  'What the threads of each process are busy with.';


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


-- Keys are found one by one along the index, so that a long line costs no more than a short one.
create view steady_queue_limits_at_a_glance as
with recursive awaited as (
  (select b.limit_key, 1 as place from steady_queue_blocked b order by b.limit_key limit 1)
  union all
  select (
      select b.limit_key from steady_queue_blocked b
      where b.limit_key > a.limit_key order by b.limit_key limit 1),
    a.place + 1
  from awaited a
  where a.limit_key is not null and a.place < 100
), keys as (
  select a.limit_key from awaited a where a.limit_key is not null
  union
  (select r.limit_key from steady_queue_running r where r.limit_key is not null limit 100)
)
select k.limit_key,
  (select h.held from steady_queue_slots_held(array[k.limit_key]) h) as held,
  (select count(*) from (
    select from steady_queue_blocked b where b.limit_key = k.limit_key
    order by b.priority desc, b.job limit 10000) b) as blocked,
  array(
    select r.job from steady_queue_running r
    where r.limit_key = k.limit_key order by r.claimed_at limit 5) as holders,
  n.job as next_job, n.blocked_at as next_blocked_at
from keys k
left join lateral (
  select b.job, b.blocked_at from steady_queue_blocked b
  where b.limit_key = k.limit_key
  order by b.priority desc, b.job
  limit 1
) n on true;
comment on view steady_queue_limits_at_a_glance is
  'Up to 100 limit keys that jobs wait for, and 100 that jobs hold: slots held, jobs blocked (up to 10,000), five that hold one and who is next.';


create view steady_queue_alive_processes as
select p.id, p.kind, p.name, p.host, p.pid, p.queues, p.threads,
  clock_timestamp() - p.heartbeat_at as silent_for, clock_timestamp() - p.started_at as up_for,
  coalesce(r.running, 0) as running
from steady_queue_processes p
left join (
  select r.process, count(*) as running from steady_queue_running r group by r.process
) as r on r.process = p.id
order by p.supervisor nulls first, p.id;
comment on view steady_queue_alive_processes is 'Registered processes, how long since their last heartbeat, and what they hold.';


-- The state of a job, without a look at the ready ones, which may be many: what is in no other state
-- is ready. Null when there is no such job.
create function steady_queue_state_of(p_job bigint) returns text
language sql stable
begin atomic
  select coalesce(
    (select o.status from steady_queue_outcomes o where o.job = p_job),
    (select 'running' from steady_queue_running r where r.job = p_job),
    (select 'scheduled' from steady_queue_scheduled s where s.job = p_job),
    (select 'blocked' from steady_queue_blocked b where b.job = p_job),
    (select 'ready' from steady_queue_jobs j where j.id = p_job));
end;
comment on function steady_queue_state_of is 'The state of a job: select steady_queue_state_of(42).';


-- Of a schedule that never runs again the next run is null: infinity is more than drivers can read.
create view steady_queue_recurring as
select t.key, t.schedule, t.timezone, t.task, t.queue,
  nullif(t.next_run_at, 'infinity') as next_run_at, t.last_run_at,
  e.job as last_job, steady_queue_state_of(e.job) as last_state, t.paused_at is not null as paused, t.removed_at,
  t.owner, t.description
from steady_queue_recurring_tasks t
left join lateral (
  select e.job from steady_queue_recurring_executions e
  where e.key = t.key and e.job is not null order by e.run_at desc limit 1
) as e on true
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


-- The first job that was enqueued at p_moment or later, found by halving: numbers rise with time,
-- but for transactions that stayed open in between. Null when there is none.
create function steady_queue_first_job_since(p_moment timestamptz) returns bigint
language plpgsql stable
set search_path from current
as $$
declare
  v_low bigint;
  v_high bigint;
  v_middle bigint;
  v_job steady_queue_jobs;
begin
  select min(j.id), max(j.id) + 1 into v_low, v_high from steady_queue_jobs j;
  while v_low < v_high loop
    v_middle := v_low + (v_high - v_low) / 2;
    select j.* into v_job from steady_queue_jobs j where j.id >= v_middle order by j.id limit 1;
    if v_job.enqueued_at < p_moment then
      v_low := v_job.id + 1;
    else
      v_high := v_middle;
    end if;
  end loop;
  return (select j.id from steady_queue_jobs j where j.id >= v_low order by j.id limit 1);
end
$$;
comment on function steady_queue_first_job_since is
  'The first job enqueued since a moment: select steady_queue_first_job_since(now() - interval ''1 hour'').';


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
