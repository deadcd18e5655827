-- The lanes of these queues that may hold ready rows, best first. p_queues lists names in order of
-- preference; a name that ends in * is a prefix, and * alone is any queue. Within one entry of the
-- list the higher priority goes first and, of the same priority, jobs that already have their slot;
-- lanes of the same rank are served together, in order of enqueueing. Paused queues are left out.
create function steady_queue_lanes_to_serve(p_queues text[])
returns table (rank bigint, lane integer, mark bigint)
language sql stable
begin atomic
  select dense_rank() over (order by m.place, l.priority desc, l.express desc), l.id, l.mark
  from steady_queue_lanes l
  cross join lateral (
    select min(q.place)
    from unnest(p_queues) with ordinality as q(pattern, place)
    where l.queue = q.pattern
      or (right(q.pattern, 1) = '*' and starts_with(l.queue, left(q.pattern, -1)))
  ) as m(place)
  where m.place is not null
    and not exists (select from steady_queue_pauses p where p.queue = l.queue)
    and exists (select from steady_queue_ready r where r.lane = l.id and r.position >= l.mark);
end;
comment on function steady_queue_lanes_to_serve is
  'The lanes of these queues that hold ready rows, in the order in which claims serve them.';


-- Moves jobs from lane 0 (pairs of queue and priority not seen before) to lanes of their own,
-- making them. One claimer at a time; the others go on without. Fresh positions: see the marks.
create function steady_queue_sort_jobs() returns void
language plpgsql
set search_path from current
as $$
begin
  if not pg_try_advisory_xact_lock(hashtextextended('steady_queue:lanes', 0)) then
    return;
  end if;
  perform steady_queue_enter_ready();
  insert into steady_queue_lanes (queue, priority, express)
  select j.queue, j.priority, e.express
  from (
    select r.job from steady_queue_ready r where r.lane = 0 order by r.position limit 10000
  ) r
  join steady_queue_jobs j on j.id = r.job
  cross join (values (false), (true)) as e(express)
  -- On its own, on conflict would wait for whoever moves the mark of one that is there.
  where not exists (
    select from steady_queue_lanes l
    where l.queue = j.queue and l.priority = j.priority and l.express = e.express)
  group by j.queue, j.priority, e.express
  on conflict do nothing;
  with unsorted as (
    delete from steady_queue_ready r
    where r.ctid = any (array(
      select r.ctid from steady_queue_ready r
      where r.lane = 0 order by r.position limit 10000 for update skip locked))
    returning r.*
  )
  insert into steady_queue_ready
    (lane, position, job, attempt, lost_starts, suspect, limit_key, holds_until)
  select u.lane, nextval('steady_queue_positions'), u.job, u.attempt, u.lost_starts, u.suspect,
    u.limit_key, u.holds_until
  from (
    -- Ordered after the joins: positions are given in this order.
    select l.id as lane, u.job, u.attempt, u.lost_starts, u.suspect, u.limit_key, u.holds_until
    from unsorted u
    join steady_queue_jobs j on j.id = u.job
    join steady_queue_lanes l
      on l.queue = j.queue and l.priority = j.priority and l.express = (u.holds_until is not null)
    order by u.position
  ) u;
end
$$;
comment on function steady_queue_sort_jobs is 'Gives jobs of queues and priorities not seen before a lane.';


-- How many slots of each key are taken: by running jobs, and by ready ones that were handed a slot.
-- Jobs that run one after the other in one slot count once, until the last of them has ended. A holder
-- past its guaranteed time no longer counts.
create function steady_queue_slots_held(p_keys text[])
returns table (limit_key text, held bigint)
language sql stable
begin atomic
  select k.limit_key,
    (select count(distinct r.slot) from steady_queue_running r
     where r.limit_key = k.limit_key and r.holds_until > clock_timestamp())
    + (select count(*) from steady_queue_ready r
       where r.limit_key = k.limit_key and r.holds_until > clock_timestamp())
  from unnest(p_keys) as k(limit_key);
end;
comment on function steady_queue_slots_held is 'How many slots of each limit key are taken now.';


-- Gives the free slots of these keys to the jobs blocked on them: highest priority first, then
-- oldest, leaving out paused queues. They enter the express lane already holding the slot. The
-- caller has locked the keys' semaphores.
create function steady_queue_hand_over(p_keys text[]) returns void
language plpgsql
set search_path from current
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
begin
  perform steady_queue_enter_ready();
  with free as materialized (
    select h.limit_key, h.held, (
      select j.limit_to
      from steady_queue_blocked b
      join steady_queue_jobs j on j.id = b.job
      where b.limit_key = h.limit_key
        and not exists (select from steady_queue_pauses p where p.queue = j.queue)
      order by b.priority desc, b.job
      limit 1) - h.held as slots
    from steady_queue_slots_held(p_keys) h
  ), first_in_line as materialized (
    select n.job, f.held,
      row_number() over (partition by f.limit_key order by n.priority desc, n.job) as place
    from free f
    cross join lateral (
      select b.job, b.priority
      from steady_queue_blocked b
      join steady_queue_jobs j on j.id = b.job
      where b.limit_key = f.limit_key
        and not exists (select from steady_queue_pauses p where p.queue = j.queue)
      order by b.priority desc, b.job
      limit greatest(f.slots, 0)
      -- One that somebody has locked, to discard it, is passed over.
      for update of b skip locked
    ) n
  ), lucky as materialized (
    -- A lowered limit is on the jobs enqueued since.
    select l.job
    from first_in_line l
    join steady_queue_jobs j on j.id = l.job
    where l.held + l.place <= j.limit_to
  ), unblocked as (
    delete from steady_queue_blocked b using lucky where b.job = lucky.job
    returning b.*
  )
  insert into steady_queue_ready
    (lane, position, job, attempt, lost_starts, suspect, limit_key, holds_until)
  select u.lane, nextval('steady_queue_positions'), u.job, u.attempt, u.lost_starts, u.suspect,
    u.limit_key, clock_timestamp() + u.limit_for
  from (
    -- Ordered after the join: positions are given in this order.
    select steady_queue_lane_of(j.queue, j.priority, true) as lane, u.*, j.limit_for
    from unblocked u
    join steady_queue_jobs j on j.id = u.job
    order by u.priority desc, u.job
  ) u;
end
$$;
comment on function steady_queue_hand_over is 'Moves blocked jobs into the free slots of their limit keys.';


-- Locks the semaphores of these keys, in order, leaving out those that somebody else holds.
-- Missing ones are made, under a try-lock: two callers that insert the same keys in opposite order
-- would deadlock on the index. Returns the keys it got. Never waits.
create function steady_queue_lock_keys(p_keys text[]) returns text[]
language plpgsql
set search_path from current
as $$
begin
  if exists (
    select from unnest(p_keys) as k(limit_key)
    where not exists (select from steady_queue_semaphores s where s.limit_key = k.limit_key))
    and pg_try_advisory_xact_lock(hashtextextended('steady_queue:semaphores', 0))
  then
    insert into steady_queue_semaphores (limit_key) select unnest(p_keys) on conflict do nothing;
  end if;
  return array(
    select s.limit_key from steady_queue_semaphores s
    where s.limit_key = any (p_keys)
    order by s.limit_key
    for update skip locked);
end
$$;
comment on function steady_queue_lock_keys is 'Locks what it can of these limit keys, without waiting.';


-- Decides about ready rows (given by their places, and locked by the caller) whose tasks are
-- limited: admits as many as their keys have free slots for, parks the others in blocked, or ends
-- them as discarded. Never waits: rows whose key somebody else is deciding about stay where they
-- are. Returns the places of the admitted rows, how many were moved away, and the keys of those
-- that were parked: once the admitted hold their slots, the caller hands over what is left.
create function steady_queue_admit(
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


-- What a worker needs to know of a job that it has claimed. errors and workers are those of earlier
-- attempts.
create type steady_queue_claimed_job as (
  job bigint,
  claim bigint,
  task text,
  backend text,
  queue text,
  priority smallint,
  arguments text,
  attempt smallint,
  lost_starts smallint,
  suspect boolean,
  limit_key text,
  slot bigint,
  run_after timestamptz,
  enqueued_at timestamptz,
  claimed_at timestamptz,
  errors json,
  workers text[]
);
comment on type steady_queue_claimed_job is 'A job as a claim returns it.';


-- The failed attempts of a job since the last retry by hand, at most the latest 25.
create function steady_queue_latest_errors(p_job bigint, p_attempts smallint)
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


create function steady_queue_refuse_process(p_process bigint) returns void
language plpgsql
set search_path from current
as $$
begin
  raise exception 'process % is not registered', p_process
    using errcode = 'SQ001', hint = 'It was silent for too long and its jobs were put back: register anew.';
end
$$;
comment on function steady_queue_refuse_process is 'Raises SQ001: this process is not registered, or no longer.';


-- Moves up to p_count ready jobs of these queues to running, owned by the process under one new
-- claim number, and returns them with their arguments and the errors of earlier attempts, in the
-- order in which they should start.
-- Never waits for another transaction; rows locked by others are skipped, so that an empty answer
-- does not mean that nothing is ready (steady_queue_is_quiet does).
-- Raises SQ001 when the process is not, or no longer, registered.
create function steady_queue_claim_jobs(p_process bigint, p_queues text[], p_count integer)
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


-- Lets blocked jobs follow those that claim p_claim has put into slots of these keys: they become
-- running under the same claim number and in the same slot, for the worker to run one after the
-- other. At most p_each for each slot and p_count in all, spread evenly.
-- Only who would be handed the slot next follows: from the front of the line, of the priority of the
-- job in the slot, and only while every slot of the key is taken, or others should have the job. Only
-- what is likely to go well: a first attempt, no suspect, of a queue that the worker serves, and with
-- a guarantee that outlasts by far the second for which a follower may wait for its turn (a worker
-- gives back those that waited longer). Never waits: keys and jobs that somebody has locked are left
-- out.
create function steady_queue_follow_jobs(
  p_claim bigint,
  p_keys text[],
  p_queues text[],
  p_each integer,
  p_count integer
) returns setof steady_queue_claimed_job
language plpgsql
set search_path from current
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  v_keys text[];
begin
  v_keys := steady_queue_lock_keys(array(
    select distinct r.limit_key from steady_queue_running r
    where r.limit_key = any (p_keys) and r.claim = p_claim));

  -- A statement of its own, so that it sees what the last holder of the lock did.
  return query
  with leaders as materialized (
    select r.limit_key, r.slot, r.process, j.priority,
      row_number() over (partition by r.limit_key, j.priority order by r.job) - 1 as place,
      count(*) over (partition by r.limit_key, j.priority) as count
    from steady_queue_running r
    join steady_queue_jobs j on j.id = r.job
    where r.limit_key = any (v_keys) and r.claim = p_claim and not r.suspect
      -- One whose slot is running out would be counted anew with its followers.
      and r.holds_until > clock_timestamp() + interval '1 second'
  ), line as (
    select n.*,
      row_number() over turn - 1 as place,
      n.priority = first_value(n.priority) over turn and bool_and(n.may) over turn as may_follow
    from steady_queue_slots_held(v_keys) h
    cross join lateral (
      select b.job, b.limit_key, b.priority, not b.suspect and b.attempt = 0
        -- No slot is free, and none was taken beyond a lowered limit.
        and j.limit_to = h.held and j.limit_for >= interval '10 seconds' and exists (
          select from unnest(p_queues) as q(pattern)
          where j.queue = q.pattern
            or (right(q.pattern, 1) = '*' and starts_with(j.queue, left(q.pattern, -1)))) as may
      from steady_queue_blocked b
      join steady_queue_jobs j on j.id = b.job
      where b.limit_key = h.limit_key
        and not exists (select from steady_queue_pauses p where p.queue = j.queue)
      order by b.priority desc, b.job
      limit p_each * (select count(*) from leaders l where l.limit_key = h.limit_key)
      -- One that somebody has locked, to discard it, is passed over.
      for update of b skip locked
    ) n
    window turn as (partition by n.limit_key order by n.priority desc, n.job)
  ), lucky as materialized (
    select f.job, f.place, l.slot, l.process
    from line f
    join leaders l on l.limit_key = f.limit_key and l.priority = f.priority
      and l.place = f.place % l.count and f.place < p_each * l.count
    where f.may_follow
    order by f.place, f.job
    limit p_count
  ), unblocked as (
    delete from steady_queue_blocked b using lucky
    where b.job = lucky.job
    returning b.job, b.attempt, b.lost_starts, b.suspect, b.limit_key, lucky.slot, lucky.process
  ), claimed as (
    select u.*, j.task, j.backend, j.queue, j.priority, j.arguments, j.run_after, j.enqueued_at,
      j.limit_for, clock_timestamp() as claimed_at
    from unblocked u
    join steady_queue_jobs j on j.id = u.job
  ), running as (
    insert into steady_queue_running
      (job, claim, process, attempt, lost_starts, suspect, limit_key, slot, holds_until, claimed_at)
    select c.job, p_claim, c.process, c.attempt, c.lost_starts, c.suspect, c.limit_key, c.slot,
      c.claimed_at + c.limit_for, c.claimed_at
    from claimed c
  )
  select c.job, p_claim, c.task::text, c.backend, c.queue::text, c.priority::smallint,
    c.arguments::text, c.attempt, c.lost_starts, c.suspect, c.limit_key, c.slot,
    c.run_after::timestamptz, c.enqueued_at, c.claimed_at, null::json, null::text[]
  from claimed c
  order by c.job;
end
$$;
comment on function steady_queue_follow_jobs is 'Claims blocked jobs to run one after the other in slots just taken.';


-- The topics to wait for on behalf of these queues: each listed name, and 'queue:*' where a prefix
-- stands in the list.
create function steady_queue_topics_to_wait_for(p_queues text[]) returns text[]
language sql immutable
begin atomic
  select array_agg(distinct 'queue:' || case when right(q, 1) = '*' then '*' else q end)
  from unnest(p_queues) as q;
end;
comment on function steady_queue_topics_to_wait_for is 'What a worker of these queues waits for.';


-- True when nothing can be ready for these queues: every producer that looked before the caller
-- started to wait has ended, and no ready row stands there, locked or not. The caller waits already.
create function steady_queue_is_quiet(p_queues text[]) returns boolean
language plpgsql
set search_path from current
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
begin
  if not steady_queue_producers_ended(
    steady_queue_topics_to_wait_for(p_queues) || array(
      select distinct 'queue:' || l.queue
      from steady_queue_lanes l, unnest(p_queues) as q(pattern)
      where right(q.pattern, 1) = '*' and starts_with(l.queue, left(q.pattern, -1))))
  then
    return false;
  end if;
  -- A statement of its own: it sees what those producers committed.
  return not exists (select from steady_queue_lanes_to_serve(p_queues))
    and not exists (select from steady_queue_ready r where r.lane = 0);
end
$$;
comment on function steady_queue_is_quiet is 'Whether a worker of these queues that waits may sleep.';


-- Where the mark of a lane may go once nothing can appear at or below the position noted for it: to what
-- stands first in the lane.
create function steady_queue_next_mark(p_lane integer, p_mark bigint, p_noted bigint) returns bigint
language sql stable
begin atomic
  select least(p_noted + 1, (
    select r.position from steady_queue_ready r
    where r.lane = p_lane and r.position >= p_mark
    order by r.position
    limit 1));
end;
comment on function steady_queue_next_mark is
  'The first position of a lane, or the one after that which was noted: nothing stands before it.';


-- Moves the marks of the lanes up, in two steps, so that claims do not walk over the dead entries
-- that an old snapshot, or a transaction that writes for long, keeps in the index. Whoever enters
-- ready takes the lock of positions and has its transaction id before it draws a position. So, with
-- S the last position given out and X a transaction id drawn after reading S, nothing at or below S
-- can appear any more once every transaction before X has ended, or once nobody holds the lock: the
-- first does not come while anybody writes for long, the second while producers never pause.
-- Only lanes of these (queue, priority) pairs, from which the caller has claimed: each move leaves a
-- dead row behind, and an old snapshot keeps those, too. Must be the first thing its transaction does.
create function steady_queue_advance_marks(p_queues text[], p_priorities smallint[]) returns void
language plpgsql
set search_path from current
as $$
declare
  v_last bigint;
  v_xid xid8;
  v_nobody_enters boolean;
begin
  if pg_current_xact_id_if_assigned() is not null then
    raise exception 'steady_queue_advance_marks must run in a transaction of its own';
  end if;
  select last_value into v_last from steady_queue_positions;
  v_xid := pg_current_xact_id();
  v_nobody_enters := case
    when pg_try_advisory_lock(steady_queue_positions_key())
    then pg_advisory_unlock(steady_queue_positions_key())
    else false
  end;
  -- A statement of its own: it sees what those who entered have committed.
  update steady_queue_lanes l
  set mark = case when l.noted_xid is null then l.mark
      else greatest(l.mark, steady_queue_next_mark(l.id, l.mark, l.noted_position)) end,
    noted_position = v_last,
    -- What was proven of a position stays so.
    noted_xid = case when l.noted_position = v_last then l.noted_xid else v_xid end
  where l.id in (
    select l.id from steady_queue_lanes l
    join (select distinct * from unnest(p_queues, p_priorities)) as c(queue, priority)
      on l.queue = c.queue and l.priority = c.priority
    where (l.noted_position is null or l.noted_position < v_last
        -- Nothing was enqueued since, and some of what was there is gone.
        or l.mark < steady_queue_next_mark(l.id, l.mark, l.noted_position))
      -- Newer than our own: from before a restore into another server. Noted anew, and not trusted.
      and (l.noted_xid is null
        or l.noted_xid < pg_snapshot_xmin(pg_current_snapshot())
        or (v_nobody_enters and l.noted_xid < v_xid))
    for update of l skip locked);
  update steady_queue_lanes set noted_position = null, noted_xid = null where noted_xid > v_xid;
end
$$;
comment on function steady_queue_advance_marks is
  'Lets claims skip the part of each lane that was read already. Called now and then by workers.';


create function steady_queue_pages_of_lanes(p_queues text[], p_priorities smallint[]) returns bigint[]
language sql volatile
begin atomic
  select array_agg((l.ctid::text::point)[0]::bigint order by l.id)
  from unnest(p_queues, p_priorities) as c(queue, priority)
  join steady_queue_lanes l on l.queue = c.queue and l.priority = c.priority;
end;
comment on function steady_queue_pages_of_lanes is 'In which page of the table of lanes each of them is.';


-- steady_queue_advance_marks, and whether one of the lanes has gone to another page: it does when what
-- earlier moves have left in its own cannot be cleared away, because an old transaction may read it.
create function steady_queue_move_marks(p_queues text[], p_priorities smallint[]) returns boolean
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
