-- Moves up to p_count due jobs from scheduled to ready. Returns how many it moved, and in how many
-- seconds the next one is due (null when there is none). Never waits.
create function steady_queue_dispatch_jobs(
  p_count integer,
  out moved bigint,
  out next_due_in double precision
)
language plpgsql
set search_path from current
set plan_cache_mode = force_generic_plan
as $$
declare
  -- In a variable: compared with a volatile function, the index would be read to its end.
  v_now timestamptz := clock_timestamp();
begin
  perform steady_queue_enter_ready();
  with due as (
    delete from steady_queue_scheduled s
    where s.ctid = any (array(
      select s.ctid from steady_queue_scheduled s
      where s.run_after <= v_now
      order by s.run_after, s.job
      limit p_count
      for update skip locked))
    returning s.*
  ), ready as (
    insert into steady_queue_ready (lane, position, job, attempt, lost_starts, suspect, limit_key)
    select d.lane, nextval('steady_queue_positions'), d.job, d.attempt, d.lost_starts, d.suspect,
      d.limit_key
    from (
      -- Ordered after the join: positions are given in this order.
      select steady_queue_lane_of(j.queue, j.priority, false) as lane, due.*, j.limit_key
      from due
      join steady_queue_jobs j on j.id = due.job
      order by due.run_after, due.job
    ) d
  )
  select count(*) into moved from due;

  select extract(epoch from s.run_after - clock_timestamp()) into next_due_in
  from steady_queue_scheduled s
  order by s.run_after
  limit 1;
end
$$;
comment on function steady_queue_dispatch_jobs is 'Moves due jobs from scheduled to ready and says when the next is due.';


-- The keys whose semaphores no job needs: nothing holds a slot of theirs or waits for one.
create function steady_queue_unused_keys() returns table (limit_key text)
language sql stable
begin atomic
  select s.limit_key from steady_queue_semaphores s
  where not exists (select from steady_queue_blocked b where b.limit_key = s.limit_key)
    and not exists (select from steady_queue_running r where r.limit_key = s.limit_key)
    and not exists (
      select from steady_queue_ready r
      where r.limit_key = s.limit_key and r.holds_until is not null);
end;
comment on function steady_queue_unused_keys is 'Limit keys that no job holds or waits for.';


-- Parks the ready jobs of paused queues that were handed a slot: it is free for others. Never waits.
create function steady_queue_park_paused() returns void
language sql volatile
begin atomic
  with parked as (
    delete from steady_queue_ready r
    where r.ctid = any (array(
      select r.ctid
      from steady_queue_pauses p
      join steady_queue_lanes l on l.queue = p.queue and l.express
      join steady_queue_ready r on r.lane = l.id and r.position >= l.mark
      for update of r skip locked))
    returning r.*
  )
  insert into steady_queue_blocked (job, limit_key, priority, attempt, lost_starts, suspect)
  select p.job, p.limit_key, j.priority, p.attempt, p.lost_starts, p.suspect
  from parked p
  join steady_queue_jobs j on j.id = p.job;
end;
comment on function steady_queue_park_paused is 'Takes the slots of ready jobs in paused queues.';


-- Lets blocked jobs into slots that nobody handed over: freed by a DELETE typed by a person, by a
-- raised limit, by a holder past its duration, by a paused or resumed queue. Then forgets up to
-- p_count keys that nobody uses, and returns how many. Never waits.
create function steady_queue_maintain_limits(p_count integer default 500) returns bigint
language plpgsql
set search_path from current
as $$
declare
  v_keys text[];
  v_last text := '';
  v_forgotten bigint;
begin
  delete from steady_queue_blocked b
  where b.ctid = any (array(
    select b.ctid from steady_queue_blocked b
    where not exists (select from steady_queue_jobs j where j.id = b.job)
    for update skip locked));
  perform steady_queue_park_paused();
  loop
    v_keys := array(
      select distinct b.limit_key from steady_queue_blocked b
      where b.limit_key > v_last order by b.limit_key limit p_count);
    exit when v_keys = '{}';
    v_last := v_keys[cardinality(v_keys)];
    perform steady_queue_hand_over(steady_queue_lock_keys(v_keys));
  end loop;

  v_keys := steady_queue_lock_keys(array(
    select u.limit_key from steady_queue_unused_keys() u order by u.limit_key limit p_count));
  -- A statement of its own: a claim may have used the key before we had its lock.
  delete from steady_queue_semaphores s
  using steady_queue_unused_keys() u
  where s.limit_key = any (v_keys) and u.limit_key = s.limit_key;
  get diagnostics v_forgotten = row_count;
  return v_forgotten;
end
$$;
comment on function steady_queue_maintain_limits is 'Hands over slots that became free without a finish: select steady_queue_maintain_limits().';


-- Deletes up to p_count jobs that ended longer than p_finished_after ago (p_failed_after for those
-- that failed), with their errors. Returns how many; null keeps them for ever.
create function steady_queue_prune(
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
