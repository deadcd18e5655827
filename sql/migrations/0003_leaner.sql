create or replace function steady_queue_enqueue_job(
  p_backend text,
  p_task text,
  p_queue text,
  p_priority smallint,
  p_arguments json,
  p_run_after timestamptz default null,
  p_limit_key text default null,
  p_limit_to integer default null,
  p_limit_for interval default null,
  p_limit_conflict text default null,
  out id bigint,
  out enqueued_at timestamptz
)
language plpgsql
set search_path from current
set plan_cache_mode = force_generic_plan
set steady_queue.announce = 'later'
as $$
declare
  v_lane integer;
begin
  perform pg_current_xact_id(), steady_queue_enter_ready();
  insert into steady_queue_jobs as j (
    task, backend, queue, priority, arguments, run_after,
    limit_key, limit_to, limit_for, limit_conflict)
  values (
    p_task, p_backend, p_queue, p_priority, p_arguments, p_run_after,
    p_limit_key, p_limit_to, p_limit_for, p_limit_conflict)
  returning j.id, j.enqueued_at into id, enqueued_at;
  if p_run_after > enqueued_at then
    insert into steady_queue_scheduled (job, run_after) values (id, p_run_after);
    return;
  end if;
  -- Not by steady_queue_lane_of: what has a subquery stays a call, which costs more than the lookup.
  insert into steady_queue_ready (lane, position, job, limit_key)
  values (
    coalesce((
      select l.id from steady_queue_lanes l
      where l.queue = p_queue and l.priority = p_priority and not l.express), 0),
    id, id, p_limit_key)
  returning lane into v_lane;
  perform steady_queue_announce('queue:' || p_queue);
  if v_lane = 0 then
    perform steady_queue_announce('queue:*');
  end if;
end
$$;
comment on function steady_queue_enqueue_job is
  'Enqueues one job for a client that knows its limits. From psql: select steady_queue_enqueue(''shop.tasks.receipt'', args => ''[1]'').';


create or replace function steady_queue_announce(p_topic text) returns void
language sql volatile
begin atomic
  select case
    when pg_advisory_xact_lock_shared(steady_queue_producing_key(p_topic)) is null then null
    when steady_queue_is_awaited(p_topic)
      or (p_topic like 'queue:%' and steady_queue_is_awaited('queue:*'))
    then pg_notify('steady_queue', p_topic)
  end;
end;
comment on function steady_queue_announce is 'Sends NOTIFY steady_queue with this topic at commit, if somebody waits for it.';


create or replace function steady_queue_admit(
  p_rows tid[],
  out admitted tid[],
  out moved bigint,
  out parked_keys text[]
)
language plpgsql
set search_path from current
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  v_wanted text[];
  v_keys text[];
begin
  select array_agg(distinct r.limit_key) into v_wanted
  from steady_queue_ready r
  where r.ctid = any (p_rows);

  v_keys := steady_queue_lock_keys(v_wanted);

  -- A statement of its own, so that it sees what the last holder of the lock did.
  with candidates as materialized (
    select r.ctid as row_at, r.job, r.limit_key, r.attempt, r.lost_starts, r.suspect,
      j.priority, j.limit_to, j.limit_conflict,
      row_number() over (partition by r.limit_key order by r.position) as place
    from steady_queue_ready r
    join steady_queue_jobs j on j.id = r.job
    where r.ctid = any (p_rows) and r.limit_key = any (v_keys)
  ), held as materialized (
    -- One object, in which each row finds its key: a join of two lists would look at every pair.
    select jsonb_object_agg(h.limit_key, h.held) as by_key from steady_queue_slots_held(v_keys) h
  ), decided as materialized (
    select c.*, (h.by_key ->> c.limit_key)::bigint + c.place <= c.limit_to and not exists (
      -- Who came before goes before; not who is in a paused queue.
      select from steady_queue_blocked b
      join steady_queue_jobs j on j.id = b.job
      where b.limit_key = c.limit_key and b.priority >= c.priority
        and not exists (select from steady_queue_pauses p where p.queue = j.queue)) as fits
    from candidates c
    cross join held h
  ), gone as (
    delete from steady_queue_ready r
    where r.ctid = any (array(select d.row_at from decided d where not d.fits))
    returning r.job
  ), parked as (
    insert into steady_queue_blocked (job, limit_key, priority, attempt, lost_starts, suspect)
    select d.job, d.limit_key, d.priority, d.attempt, d.lost_starts, d.suspect
    from decided d
    where not d.fits and d.limit_conflict = 'block'
    returning limit_key
  ), discarded as (
    insert into steady_queue_outcomes (job, status, attempt, lost_starts, finished_at)
    select d.job, 'discarded', d.attempt, d.lost_starts, clock_timestamp()
    from decided d
    where not d.fits and d.limit_conflict = 'discard'
  )
  select
    (select array_agg(d.row_at) from decided d where d.fits),
    (select count(*) from gone),
    (select array_agg(distinct p.limit_key) from parked p)
  into admitted, moved, parked_keys;
end
$$;
comment on function steady_queue_admit is 'Gives limited jobs their slots, parks those that find none.';


create or replace function steady_queue_latest_errors(p_job bigint, p_attempts smallint)
returns table (id bigint, process bigint, exception_class text, traceback text)
language sql stable
begin atomic
  select e.id, e.process, e.exception_class, e.traceback
  from (
    -- By job first, whatever the planner thinks of an index in the order asked for.
    select e.id, e.process, e.exception_class, e.traceback
    from steady_queue_errors e
    where e.job = p_job and e.attempt > 0
    offset 0
  ) e
  order by e.id desc
  limit least(p_attempts, 25);
end;
comment on function steady_queue_latest_errors is 'The failed attempts that a claim tells the worker of.';


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
    -- Again when limited jobs were moved away without filling the batch; each is moved once. Not all of a
    -- long line in one call: its keys are locked meanwhile.
    for v_round in 1 .. least(100, 1 + 40000 / greatest(p_count, 1)) loop
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
        -- Not joined: most jobs have no errors, and a join would cost each of them a sort.
        case when c.attempt > 0 then (
          select json_agg(json_build_object(
            'exception_class_path', e.exception_class, 'traceback', e.traceback) order by e.id)
          from steady_queue_latest_errors(c.job, c.attempt) e) end,
        case when c.attempt > 0 then (
          select array_agg(e.process::text order by e.id)
          from steady_queue_latest_errors(c.job, c.attempt) e) end
      from claimed c
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


create or replace function steady_queue_pages_of_lanes(p_queues text[], p_priorities smallint[]) returns bigint[]
language sql volatile
begin atomic
  select array_agg((l.ctid::text::point)[0]::bigint order by l.id)
  from unnest(p_queues, p_priorities) as c(queue, priority)
  join steady_queue_lanes l on l.queue = c.queue and l.priority = c.priority;
end;
comment on function steady_queue_pages_of_lanes is 'In which page of the table of lanes each of them is.';


create or replace function steady_queue_move_marks(p_queues text[], p_priorities smallint[]) returns boolean
language plpgsql
set search_path from current
as $$
declare
  v_pages bigint[] := steady_queue_pages_of_lanes(p_queues, p_priorities);
begin
  perform steady_queue_advance_marks(p_queues, p_priorities);
  return v_pages is distinct from steady_queue_pages_of_lanes(p_queues, p_priorities);
end
$$;
comment on function steady_queue_move_marks is 'Advances marks, and says whether their old versions pile up.';


create or replace function steady_queue_next_silence_in(p_alive_threshold interval) returns double precision
language plpgsql
set search_path from current
as $$
begin
  return (
    select extract(epoch from min(p.heartbeat_at) + p_alive_threshold - clock_timestamp())
    from steady_queue_processes p);
end
$$;
comment on function steady_queue_next_silence_in is 'When the next sweep would find something.';


create or replace function steady_queue_overloaded_processes() returns table (process bigint, found text)
language sql stable
begin atomic
  select p.id, format('%s with %s threads holds %s jobs', p.kind, p.threads, count(*))
  from steady_queue_running r
  join steady_queue_processes p on p.id = r.process
  group by p.id
  having count(*) > case when p.kind = 'worker' then p.threads + 3200 else 0 end;
end;
comment on function steady_queue_overloaded_processes is 'Processes that hold more jobs than they may.';
