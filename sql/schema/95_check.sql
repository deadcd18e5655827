-- What must be true of the queue at any time. Each function returns what is not, read in one
-- snapshot: nothing, while the queue is healthy. They read what has not ended; only
-- steady_queue_lost_jobs reads the history.

-- Jobs that are in two states at once, or in one although nobody asked for them.
create function steady_queue_misplaced_jobs() returns table (job bigint, found text)
language sql stable
begin atomic
  with unfinished as (
    select r.job, 'ready' as state from steady_queue_ready r
    union all
    select s.job, 'scheduled' from steady_queue_scheduled s
    union all
    select b.job, 'blocked' from steady_queue_blocked b
    union all
    select r.job, 'running' from steady_queue_running r
  )
  select u.job, concat_ws(', ', string_agg(u.state, ', ' order by u.state), max(o.status),
    case when count(j.id) = 0 then 'not in steady_queue_jobs' end)
  from unfinished u
  left join steady_queue_outcomes o on o.job = u.job
  left join steady_queue_jobs j on j.id = u.job
  group by u.job
  having count(*) > 1 or count(o.job) > 0 or count(j.id) = 0;
end;
comment on function steady_queue_misplaced_jobs is 'Jobs in two states, or in one without having been enqueued.';


-- Jobs that are in no state, and outcomes of jobs that nobody asked for. Reads the whole history.
create function steady_queue_lost_jobs() returns table (job bigint, found text)
language sql stable
begin atomic
  select j.id, 'in no state'
  from steady_queue_jobs j
  where not exists (select from steady_queue_outcomes o where o.job = j.id)
    and not exists (select from steady_queue_ready r where r.job = j.id)
    and not exists (select from steady_queue_scheduled s where s.job = j.id)
    and not exists (select from steady_queue_blocked b where b.job = j.id)
    and not exists (select from steady_queue_running r where r.job = j.id)
  union all
  select o.job, o.status || ', not in steady_queue_jobs'
  from steady_queue_outcomes o
  where not exists (select from steady_queue_jobs j where j.id = o.job);
end;
comment on function steady_queue_lost_jobs is 'Jobs in no state, and outcomes without a job. Reads the whole history.';


-- Running jobs whose attempt, claim time or claim number cannot be. A number above the sequence's
-- (from a restore without it) will be given again: the fence has a hole there.
create function steady_queue_misclaimed_jobs() returns table (job bigint, found text)
language sql stable
begin atomic
  select r.job, format('claim %s at %s, attempt %s, lost starts %s',
    r.claim, r.claimed_at, r.attempt, r.lost_starts)
  from steady_queue_running r
  where r.claim > (select last_value from steady_queue_claims)
    or r.claimed_at > clock_timestamp()
    or r.attempt < 0
    or r.lost_starts < 0;
end;
comment on function steady_queue_misclaimed_jobs is 'Running jobs with an impossible claim.';


-- Limit keys that more jobs hold than the largest limit among them allows. Jobs past their duration
-- are left out.
create function steady_queue_exceeded_limits() returns table (limit_key text, found text)
language sql stable
begin atomic
  select h.limit_key, format('held by %s, limit %s',
    count(distinct h.slot) + count(*) filter (where h.slot is null), max(j.limit_to))
  from (
    select r.job, r.limit_key, r.slot from steady_queue_running r
    where r.limit_key is not null and r.holds_until > clock_timestamp()
    union all
    select r.job, r.limit_key, null from steady_queue_ready r
    where r.holds_until > clock_timestamp()
  ) h
  join steady_queue_jobs j on j.id = h.job
  group by h.limit_key
  having count(distinct h.slot) + count(*) filter (where h.slot is null) > max(j.limit_to);
end;
comment on function steady_queue_exceeded_limits is 'Limit keys with more holders than their limit.';


-- Jobs that run without the slot of their limit, or have a slot that is not of their limit.
create function steady_queue_misheld_slots() returns table (job bigint, found text)
language sql stable
begin atomic
  select h.job, format('%s with limit %s, counted under %s until %s',
    h.state, coalesce(j.limit_key, 'none'), coalesce(h.limit_key, 'none'), coalesce(h.holds_until::text, 'never'))
  from (
    select r.job, 'running' as state, r.limit_key, r.slot, r.holds_until from steady_queue_running r
    union all
    select r.job, 'ready', r.limit_key, null, r.holds_until from steady_queue_ready r
  ) h
  join steady_queue_jobs j on j.id = h.job
  where h.limit_key is distinct from j.limit_key
    or (h.limit_key is null and h.holds_until is not null)
    or (h.state = 'running' and h.limit_key is not null and (h.slot is null or h.holds_until is null))
    or (h.limit_key is null and h.slot is not null);
end;
comment on function steady_queue_misheld_slots is 'Jobs without the slot that they should hold, or with another.';


-- Jobs that share a slot although they are not of one claim and one limit key: two threads would run
-- them at once.
create function steady_queue_shared_slots() returns table (slot bigint, found text)
language sql stable
begin atomic
  select r.slot, format('jobs %s of process %s', string_agg(r.job::text, ', ' order by r.job),
    string_agg(distinct r.process::text, ' and '))
  from steady_queue_running r
  where r.slot is not null
  group by r.slot
  having count(distinct (r.claim, r.process, r.limit_key)) > 1;
end;
comment on function steady_queue_shared_slots is 'Slots in which jobs of several claims or limit keys run.';


-- Limit keys with a free slot although somebody has been blocked for more than 2 s. A slot whose
-- holder is past its duration may stay free until the next maintenance, p_maintained_every later.
create function steady_queue_idle_slots(p_maintained_every interval)
returns table (limit_key text, found text)
language sql stable
begin atomic
  select k.limit_key, format('job %s blocked for %s, held by %s, limit %s',
    f.job, clock_timestamp() - f.blocked_at, h.held, f.limit_to)
  from (select distinct b.limit_key from steady_queue_blocked b) k
  cross join lateral (
    select b.job, b.blocked_at, j.limit_to
    from steady_queue_blocked b
    join steady_queue_jobs j on j.id = b.job
    where b.limit_key = k.limit_key
      and not exists (select from steady_queue_pauses p where p.queue = j.queue)
    order by b.priority desc, b.job
    limit 1
  ) f
  cross join lateral (
    select (
      select count(distinct r.slot) from steady_queue_running r
      where r.limit_key = k.limit_key
        and r.holds_until > clock_timestamp() - p_maintained_every - interval '2 seconds')
    + (
      select count(*) from steady_queue_ready r
      where r.limit_key = k.limit_key
        and r.holds_until > clock_timestamp() - p_maintained_every - interval '2 seconds') as held
  ) h
  where f.blocked_at < clock_timestamp() - interval '2 seconds' and h.held < f.limit_to;
end;
comment on function steady_queue_idle_slots is 'Limit keys with a free slot that a blocked job should have been given.';


-- Running jobs whose process is not registered, or was silent for 5 s longer than p_alive_threshold:
-- they should have been put back.
create function steady_queue_abandoned_jobs(p_alive_threshold interval)
returns table (job bigint, found text)
language sql stable
begin atomic
  select r.job, format('process %s %s', r.process,
    coalesce('silent for ' || (clock_timestamp() - p.heartbeat_at), 'not registered'))
  from steady_queue_running r
  left join steady_queue_processes p on p.id = r.process
  where coalesce(p.heartbeat_at, r.claimed_at)
    < clock_timestamp() - p_alive_threshold - interval '5 seconds';
end;
comment on function steady_queue_abandoned_jobs is 'Running jobs of dead processes that nobody has put back.';


-- Scheduled jobs that were due more than 5 s ago.
create function steady_queue_overdue_jobs() returns table (job bigint, found text)
language sql stable
begin atomic
  -- Compared with clock_timestamp, which is volatile, the index would not be used.
  select s.job, format('due %s ago', clock_timestamp() - s.run_after)
  from steady_queue_scheduled s
  where s.run_after < statement_timestamp() - interval '5 seconds';
end;
comment on function steady_queue_overdue_jobs is 'Scheduled jobs that should have become ready.';


-- Ready jobs that wait for more than 15 s although a live worker serves their queue and has had
-- nothing to do. Looked at are the first hundred of each lane. When a job entered is known of those
-- that were ready from the start; others entered before the first job was enqueued behind them. A
-- producer whose transaction stayed open for so long looks the same, for a moment.
create function steady_queue_passed_over_jobs(p_alive_threshold interval)
returns table (job bigint, found text)
language sql stable
begin atomic
  with idle as materialized (
    select p.id, p.queues
    from steady_queue_processes p
    where p.kind = 'worker'
      and p.started_at < clock_timestamp() - interval '15 seconds'
      and p.heartbeat_at > clock_timestamp() - p_alive_threshold
      and not exists (select from steady_queue_running r where r.process = p.id)
  )
  select r.job, format('ready for %s in queue %s beside process %s',
    clock_timestamp() - e.entered_at, j.queue, i.process)
  from (select 0 as lane union all select l.id from steady_queue_lanes l) l
  cross join lateral (
    select r.job, r.position
    from steady_queue_ready r
    where r.lane = l.lane and exists (select from idle)
    order by r.position
    limit 100
  ) r
  join steady_queue_jobs j on j.id = r.job
  cross join lateral (
    select case
      when r.position = j.id then j.enqueued_at
      else (select n.enqueued_at from steady_queue_jobs n where n.id > r.position order by n.id limit 1)
    end
  ) e(entered_at)
  cross join lateral (
    select min(i.id)
    from idle i
    cross join unnest(i.queues) as q(pattern)
    where j.queue = q.pattern
      or (right(q.pattern, 1) = '*' and starts_with(j.queue, left(q.pattern, -1)))
  ) i(process)
  where e.entered_at < clock_timestamp() - interval '15 seconds'
    and i.process is not null
    and not exists (select from steady_queue_pauses p where p.queue = j.queue);
end;
comment on function steady_queue_passed_over_jobs is 'Ready jobs that an idle worker should have claimed.';


-- Processes that hold more jobs than they may: a worker its threads, as many as it claims ahead at
-- most (1,600), and as many whose outcomes are on their way; others none.
create function steady_queue_overloaded_processes() returns table (process bigint, found text)
language sql stable
begin atomic
  select p.id, format('%s with %s threads holds %s jobs', p.kind, p.threads, count(*))
  from steady_queue_running r
  join steady_queue_processes p on p.id = r.process
  group by p.id
  having count(*) > case when p.kind = 'worker' then p.threads + 3200 else 0 end;
end;
comment on function steady_queue_overloaded_processes is 'Processes that hold more jobs than they may.';


-- Ready jobs that claims do not see or serve out of turn: below the mark of their lane, in a lane
-- that is not there or not theirs, or at a position that was not given out yet.
create function steady_queue_unreachable_jobs() returns table (job bigint, found text)
language sql stable
begin atomic
  select r.job, format('lane %s (%s, priority %s), mark %s, position %s',
    r.lane, coalesce(l.queue, 'missing'), l.priority, l.mark, r.position)
  from steady_queue_ready r
  join steady_queue_jobs j on j.id = r.job
  left join steady_queue_lanes l on l.id = r.lane
  where (r.lane <> 0 and (l.queue, l.priority) is distinct from (j.queue, j.priority))
    or r.position < l.mark
    or r.position > (select last_value from steady_queue_positions);
end;
comment on function steady_queue_unreachable_jobs is 'Ready jobs that claims do not see or serve out of turn.';


-- All of the above: what should be true, the job, limit key or process of which it is not, and what
-- was found. p_alive_threshold is process_alive_threshold, p_maintained_every the dispatchers'
-- concurrency_maintenance_interval. With p_deep the whole history is read too.
create function steady_queue_check(
  p_alive_threshold interval default '30 seconds',
  p_maintained_every interval default '30 seconds',
  p_deep boolean default false
) returns table (invariant text, subject text, found text)
language sql stable
begin atomic
  select 'a job is in one state', v.job::text, v.found
  from steady_queue_misplaced_jobs() v
  union all
  select 'a job is in one state', v.job::text, v.found
  from steady_queue_lost_jobs() v where p_deep
  union all
  select 'a running job has a claim', v.job::text, v.found
  from steady_queue_misclaimed_jobs() v
  union all
  select 'a limit is kept', v.limit_key, v.found
  from steady_queue_exceeded_limits() v
  union all
  select 'a slot belongs to its job', v.job::text, v.found
  from steady_queue_misheld_slots() v
  union all
  select 'jobs in a slot are of one claim', v.slot::text, v.found
  from steady_queue_shared_slots() v
  union all
  select 'a free slot is handed over', v.limit_key, v.found
  from steady_queue_idle_slots(p_maintained_every) v
  union all
  select 'a running job has a live process', v.job::text, v.found
  from steady_queue_abandoned_jobs(p_alive_threshold) v
  union all
  select 'a due job is dispatched', v.job::text, v.found
  from steady_queue_overdue_jobs() v
  union all
  select 'a ready job is claimed', v.job::text, v.found
  from steady_queue_passed_over_jobs(p_alive_threshold) v
  union all
  select 'a process holds what it may', v.process::text, v.found
  from steady_queue_overloaded_processes() v
  union all
  select 'a ready job can be reached', v.job::text, v.found
  from steady_queue_unreachable_jobs() v;
end;
comment on function steady_queue_check is
  'Violations of what must be true of the queue. The history too: select * from steady_queue_check(p_deep => true).';


create view steady_queue_violations as
select c.invariant, c.subject, c.found
from steady_queue_check() c;
comment on view steady_queue_violations is
  'What is wrong with the queue, if anything, with the default settings: empty while it is healthy.';
