-- The line: whoever waits longest comes when it is told of a job, the others only if it does not.
create sequence steady_queue_tickets as integer cycle;
comment on sequence steady_queue_tickets is
  'Tickets of processes that wait in line, one each time that one joins it.';

-- Not brin, which never forgets the lowest value of a range: where rows took the place of pruned ones,
-- all ranges would seem old.
drop index steady_queue_outcomes_finished;
create index steady_queue_outcomes_finished on steady_queue_outcomes (finished_at) where status = 'successful';


create or replace function steady_queue_line_key(p_topic text) returns integer
language sql immutable strict parallel safe
begin atomic
  select hashtext('steady_queue:line:' || p_topic) & 2147483647;
end;
comment on function steady_queue_line_key is 'The first half of the advisory locks that are the tickets of a topic''s line.';


create or replace function steady_queue_ahead_in_line(p_topic text, p_ticket integer) returns integer[]
language sql volatile strict
begin atomic
  select coalesce(array_agg(l.objid::bigint::integer), '{}')
  from pg_locks l
  where l.locktype = 'advisory'
    and l.database = (select d.oid from pg_database d where d.datname = current_database())
    and l.classid::bigint = steady_queue_line_key(p_topic)
    and l.objsubid = 2
    and l.objid::bigint < p_ticket;
end;
comment on function steady_queue_ahead_in_line is 'Who waits for this topic for longer than the holder of this ticket.';


create or replace function steady_queue_join_lines(p_topics text[], p_lost integer[] default '{}')
returns table (topic text, ticket integer, ahead integer[])
language plpgsql
set search_path from current
as $$
begin
  perform pg_notify('steady_queue', 'left ' || t) from unnest(p_lost) as t;
  for topic in select t from unnest(p_topics) as t order by t loop
    -- Else two that join at once might each be ahead of the other in its own eyes, or neither.
    perform pg_advisory_xact_lock(hashtextextended('steady_queue:line:' || topic, 0));
    ticket := nextval('steady_queue_tickets');
    perform pg_advisory_lock(steady_queue_line_key(topic), ticket);
    ahead := steady_queue_ahead_in_line(topic, ticket);
    return next;
  end loop;
end
$$;
comment on function steady_queue_join_lines is 'Takes a place at the end of each topic''s line of waiting processes.';


create or replace function steady_queue_leave_lines(p_topics text[], p_tickets integer[]) returns void
language plpgsql
set search_path from current
as $$
begin
  perform pg_advisory_unlock(steady_queue_line_key(l.topic), l.ticket),
    pg_notify('steady_queue', 'left ' || l.ticket)
  from unnest(p_topics, p_tickets) as l(topic, ticket);
end
$$;
comment on function steady_queue_leave_lines is 'Leaves the lines of waiting processes, and says so to those behind.';


create or replace function steady_queue_refuse_process(p_process bigint) returns void
language plpgsql
set search_path from current
as $$
begin
  raise exception 'process % is not registered', p_process
    using errcode = 'SQ001', hint = 'It was silent for too long and its jobs were put back: register anew.';
end
$$;
comment on function steady_queue_refuse_process is 'Raises SQ001: this process is not registered, or no longer.';


create or replace function steady_queue_claim_jobs(p_process bigint, p_queues text[], p_count integer)
returns setof steady_queue_claimed_job
language plpgsql
set search_path from current
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  v_claim bigint := nextval('steady_queue_claims');
  v_left integer := p_count;
  v_rank record;
  v_rows tid[];
  v_limited tid[];
  v_moved bigint;
  v_admitted tid[];
  v_parked text[];
  v_claimed integer;
begin
  if not exists (select from steady_queue_processes p where p.id = p_process) then
    perform steady_queue_refuse_process(p_process);
  end if;
  if exists (select from steady_queue_ready r where r.lane = 0) then
    perform steady_queue_sort_jobs();
  end if;
  for v_rank in
    select array_agg(s.lane) as lanes, array_agg(s.mark) as marks
    from steady_queue_lanes_to_serve(p_queues) s
    group by s.rank
    order by s.rank
  loop
    -- Again when limited jobs were moved away without filling the batch; each is moved once.
    for v_round in 1 .. 100 loop
      select
        array_agg(o.row_at) filter (where not o.undecided),
        array_agg(o.row_at) filter (where o.undecided)
      into v_rows, v_limited
      from (
        select r.row_at, r.undecided
        from unnest(v_rank.lanes, v_rank.marks) as l(lane, mark)
        cross join lateral (
          select r.ctid as row_at, r.position,
            -- A slot that was handed over and ran out before its job was claimed holds no more.
            r.limit_key is not null and coalesce(r.holds_until <= clock_timestamp(), true)
              as undecided
          from steady_queue_ready r
          where r.lane = l.lane and r.position >= l.mark
          order by r.position
          limit v_left
          for update skip locked
        ) r
        order by r.position
        limit v_left
      ) o;
      v_moved := 0;
      v_admitted := null;
      v_parked := null;
      if v_limited is not null then
        select a.admitted, a.moved, a.parked_keys into v_admitted, v_moved, v_parked
        from steady_queue_admit(v_limited) a;
        v_rows := v_rows || v_admitted;
      end if;
      return query
      with taken as (
        delete from steady_queue_ready r where r.ctid = any (v_rows)
        returning r.*, r.ctid = any (v_admitted) as admitted
      ), claimed as (
        select t.position, t.job, t.attempt, t.lost_starts, t.suspect, t.limit_key,
          -- A slot that was handed over is not prolonged, should it run out at this moment.
          case when t.admitted then clock_timestamp() + j.limit_for else t.holds_until end
            as holds_until,
          case when t.limit_key is not null then nextval('steady_queue_slot_numbers') end as slot,
          j.task, j.backend, j.queue, j.priority, j.arguments, j.run_after, j.enqueued_at,
          clock_timestamp() as claimed_at
        from taken t
        join steady_queue_jobs j on j.id = t.job
      ), running as (
        insert into steady_queue_running
          (job, claim, process, attempt, lost_starts, suspect, limit_key, slot, holds_until, claimed_at)
        select c.job, v_claim, p_process, c.attempt, c.lost_starts, c.suspect, c.limit_key, c.slot,
          c.holds_until, c.claimed_at
        from claimed c
      )
      select c.job, v_claim, c.task::text, c.backend, c.queue::text, c.priority::smallint,
        c.arguments::text, c.attempt, c.lost_starts, c.suspect, c.limit_key, c.slot,
        c.run_after::timestamptz, c.enqueued_at, c.claimed_at,
        past.errors, past.workers
      from claimed c
      left join lateral (
        select
          json_agg(json_build_object(
            'exception_class_path', e.exception_class, 'traceback', e.traceback) order by e.id) as errors,
          array_agg(e.process::text order by e.id) as workers
        from (
          -- The attempts since the last retry by hand, at most the latest 25.
          select e.* from steady_queue_errors e
          where c.attempt > 0 and e.job = c.job and e.attempt > 0
          order by e.id desc
          limit least(c.attempt, 25)
        ) e
      ) as past on true
      order by c.position;
      get diagnostics v_claimed = row_count;
      v_left := v_left - v_claimed;
      if v_parked is not null then
        perform steady_queue_hand_over(v_parked);
      end if;
      exit when v_left <= 0 or v_moved = 0;
    end loop;
    exit when v_left <= 0;
  end loop;
  -- While this call waited for a table that somebody had locked, its process may have been called
  -- dead, and recovered.
  if v_left < p_count
    and not exists (select from steady_queue_processes p where p.id = p_process)
  then
    perform steady_queue_refuse_process(p_process);
  end if;
end
$$;
comment on function steady_queue_claim_jobs is
  'Moves ready jobs to running for a process and returns them. Claim order is one line here and the index steady_queue_ready_claim.';


create or replace function steady_queue_prune(
  p_finished_after interval,
  p_failed_after interval,
  p_count integer default 5000
) returns bigint
language plpgsql
set search_path from current
as $$
declare
  v_jobs bigint[];
  v_finished_before timestamptz := clock_timestamp() - p_finished_after;
  v_failed_before timestamptz := clock_timestamp() - p_failed_after;
begin
  with pruned as (
    delete from steady_queue_outcomes o
    where o.ctid = any (array(
      (select o.ctid from steady_queue_outcomes o
       where o.status = 'successful' and o.finished_at < v_finished_before
       order by o.finished_at
       limit p_count
       for update skip locked)))
      or o.ctid = any (array(
      (select o.ctid from steady_queue_outcomes o
       where o.status <> 'successful' and o.finished_at < v_failed_before
       order by o.finished_at
       limit p_count
       for update skip locked)))
    returning o.job
  )
  select coalesce(array_agg(p.job), '{}') into v_jobs from pruned p;
  delete from steady_queue_errors e where e.job = any (v_jobs);
  delete from steady_queue_jobs j where j.id = any (v_jobs);
  return cardinality(v_jobs);
end
$$;
comment on function steady_queue_prune is
  'Deletes history past its time, some thousand jobs a call: select steady_queue_prune(''1 day'', ''30 days'').';


create or replace function steady_queue_next_recurring_run_in() returns double precision
language sql volatile
begin atomic
  select case
    when exists (select from steady_queue_due_recurring_tasks()) then 0
    else (
      select extract(epoch from min(t.next_run_at) - clock_timestamp())::double precision
      from steady_queue_recurring_tasks t
      where t.paused_at is null and t.removed_at is null and t.next_run_at < 'infinity')
  end;
end;
comment on function steady_queue_next_recurring_run_in is 'Seconds until a schedule is due; 0 when one is.';


create or replace function steady_queue_oldest_release() returns text
language sql immutable parallel safe
begin atomic
  select '0001_queue';
end;
comment on function steady_queue_oldest_release is 'The last migration of the oldest release that works on this schema.';


create or replace function steady_queue_recover_jobs(
  p_process bigint,
  p_started bigint[],
  p_exception_class text,
  p_message text,
  p_max_lost_starts integer default 3
) returns bigint
language plpgsql
set search_path from current
as $$
declare
  v_keys text[];
  v_started bigint[];
  v_count integer;
  v_recovered bigint;
  v_kind text;
begin
  select
    array_agg(r.job) filter (where p_started is null or r.job = any (p_started)),
    array_agg(distinct r.limit_key) filter (where r.limit_key is not null)
  into v_started, v_keys
  from steady_queue_running r
  where r.process = p_process;
  -- Of all that had started, not only of what is left by now.
  v_count := cardinality(coalesce(p_started, v_started));
  -- Keys before running rows.
  v_keys := steady_queue_lock_keys(v_keys);

  perform steady_queue_enter_ready();
  with lost as (
    delete from steady_queue_running r
    where r.job = any (array(
      select r.job from steady_queue_running r
      where r.process = p_process and (r.limit_key is null or r.limit_key = any (v_keys))
      order by r.job
      for update skip locked))
    returning r.*, coalesce(r.job = any (v_started), false) as started,
      coalesce(r.job = any (v_started) and v_count = 1, false) as charged
  ), failed as (
    insert into steady_queue_outcomes
      (job, status, attempt, lost_starts, process, claimed_at, finished_at)
    select l.job, 'failed', l.attempt, l.lost_starts + 1, l.process, l.claimed_at, clock_timestamp()
    from lost l
    where l.charged and l.lost_starts + 1 >= p_max_lost_starts
    returning job
  ), counted as (
    insert into steady_queue_figures (minute, queue, task, finished, failed)
    select date_trunc('minute', clock_timestamp()), j.queue, j.task, count(*), count(*)
    from failed f
    join steady_queue_jobs j on j.id = f.job
    group by j.queue, j.task
  ), explained as (
    insert into steady_queue_errors
      (job, attempt, process, failed_at, exception_class, message, traceback)
    select l.job, 0, l.process, clock_timestamp(), p_exception_class, p_message, ''
    from lost l
    where l.charged
  ), ready as (
    insert into steady_queue_ready (lane, position, job, attempt, lost_starts, suspect, limit_key)
    select l.lane, nextval('steady_queue_positions'), l.job,
      l.attempt, l.lost_starts + l.charged::integer, l.suspect or l.started, l.limit_key
    from (
      -- Ordered after the join: positions are given in this order.
      select steady_queue_lane_of(j.queue, j.priority, false) as lane, l.*
      from lost l
      join steady_queue_jobs j on j.id = l.job
      where not exists (select from failed f where f.job = l.job)
      order by l.job
    ) l
  )
  select count(*) into v_recovered from lost;

  if v_keys is not null then
    perform steady_queue_hand_over(v_keys);
  end if;
  if exists (select from steady_queue_running r where r.process = p_process) then
    return null;
  end if;
  delete from steady_queue_processes p
  where p.id in (
    select p.id from steady_queue_processes p where p.id = p_process for update skip locked)
  returning p.kind into v_kind;
  if not found and exists (select from steady_queue_processes p where p.id = p_process) then
    return null;
  end if;
  if v_kind = 'worker' then
    -- It may have stood in line before others, and left without a word.
    perform pg_notify('steady_queue', 'left');
  end if;
  return v_recovered;
end
$$;
comment on function steady_queue_recover_jobs is 'Removes a process and puts its jobs back, charging what it had started.';


create or replace function steady_queue_count_queues(p_most bigint)
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
