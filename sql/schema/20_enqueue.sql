-- The lane of a queue and priority; 0, unsorted, when there is none yet.
create function steady_queue_lane_of(p_queue text, p_priority smallint, p_express boolean)
returns integer
language sql stable
begin atomic
  select coalesce((
    select l.id from steady_queue_lanes l
    where l.queue = p_queue and l.priority = p_priority and l.express = p_express), 0);
end;
comment on function steady_queue_lane_of is 'The lane of a queue and priority; 0 when there is none yet.';


create function steady_queue_positions_key() returns bigint
language sql immutable parallel safe
begin atomic
  select hashtextextended('steady_queue:positions', 0);
end;
comment on function steady_queue_positions_key is 'The advisory lock that says: a ready row may still appear.';


-- Called by whoever enters ready, before it draws a position: says until the end of its transaction
-- that rows of it may still appear. See the marks in 40_claim.sql.
create function steady_queue_enter_ready() returns void
language sql volatile
begin atomic
  select pg_advisory_xact_lock_shared(steady_queue_positions_key());
end;
comment on function steady_queue_enter_ready is 'Says that this transaction may add ready rows, before it draws their positions.';


-- Enqueues jobs, given as arrays of the same length, in the caller's transaction: they exist when it
-- commits and never otherwise. Returns their ids in the order given. A job goes to scheduled when
-- its p_run_after is in the future, else to ready. Limits are not looked at here: enqueueing waits
-- for no other transaction and locks no key.
create function steady_queue_enqueue_jobs(
  p_backend text,
  p_tasks text[],
  p_queues text[],
  p_priorities smallint[],
  p_arguments json[],
  p_run_after timestamptz[] default null,
  p_limit_keys text[] default null,
  p_limit_to integer[] default null,
  p_limit_for interval[] default null,
  p_limit_conflicts text[] default null
) returns table (id bigint, enqueued_at timestamptz)
language plpgsql
set search_path from current
set plan_cache_mode = force_generic_plan
as $$
begin
  perform pg_current_xact_id();
  perform steady_queue_enter_ready();
  return query
  with asked as (
    select * from unnest(
      p_tasks, p_queues, p_priorities, p_arguments, p_run_after,
      p_limit_keys, p_limit_to, p_limit_for, p_limit_conflicts)
      as a(task, queue, priority, arguments, run_after, limit_key, limit_to, limit_for, limit_conflict)
  ), enqueued as (
    insert into steady_queue_jobs as j (
      task, backend, queue, priority, arguments, run_after,
      limit_key, limit_to, limit_for, limit_conflict)
    select a.task, p_backend, a.queue, a.priority, a.arguments, a.run_after,
      a.limit_key, a.limit_to, a.limit_for, a.limit_conflict
    from asked a
    returning j.id, j.queue, j.priority, j.run_after, j.limit_key, j.enqueued_at
  ), scheduled as (
    insert into steady_queue_scheduled (job, run_after)
    select e.id, e.run_after from enqueued e where e.run_after > e.enqueued_at
  ), ready as (
    insert into steady_queue_ready (lane, position, job, limit_key)
    select coalesce(l.id, 0), e.id, e.id, e.limit_key
    from enqueued e
    left join steady_queue_lanes l on l.queue = e.queue and l.priority = e.priority and not l.express
    where e.run_after is null or e.run_after <= e.enqueued_at
  )
  select e.id, e.enqueued_at from enqueued e;
end
$$;
comment on function steady_queue_enqueue_jobs is
  'Enqueues many jobs in one statement. For one job from psql: select steady_queue_enqueue(''shop.tasks.receipt'', args => ''[1]'').';


-- Enqueues one job, like steady_queue_enqueue_jobs, in a third of its time.
create function steady_queue_enqueue_job(
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


-- Enqueues one job from psql, a trigger or another language. The task's path is not checked: a job
-- whose task is unknown to the worker fails with an error that says so.
create function steady_queue_enqueue(
  task text,
  args json default '[]',
  kwargs json default '{}',
  queue text default 'default',
  priority integer default 0,
  run_after timestamptz default null,
  backend text default 'default'
) returns bigint
language plpgsql
set search_path from current
as $$
begin
  if json_typeof(args) is distinct from 'array' then
    raise exception 'expected args to be a JSON array, got %', coalesce(json_typeof(args), 'null')
      using errcode = 'SQ003', hint = 'steady_queue_enqueue(''shop.tasks.receipt'', args => ''[1]'')';
  end if;
  if json_typeof(kwargs) is distinct from 'object' then
    raise exception 'expected kwargs to be a JSON object, got %', coalesce(json_typeof(kwargs), 'null')
      using errcode = 'SQ003', hint = 'steady_queue_enqueue(''shop.tasks.receipt'', kwargs => ''{"order_id": 1}'')';
  end if;
  return (
    select e.id from steady_queue_enqueue_job(
      backend, task, queue, priority::smallint,
      json_build_object('args', args, 'kwargs', kwargs), run_after) e
  );
end
$$;
comment on function steady_queue_enqueue is
  'Enqueues one job: select steady_queue_enqueue(''shop.tasks.receipt'', args => ''[1]'', queue => ''mail'').';


-- Makes the lanes of these (queue, priority) pairs, plain and express, where they are missing.
-- Called at start and after migrate, never by a producer: two producers in opposite order would
-- deadlock. Serialised by a lock of its own.
create function steady_queue_ensure_lanes(p_queues text[], p_priorities smallint[]) returns void
language plpgsql
set search_path from current
as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('steady_queue:lanes', 0));
  insert into steady_queue_lanes (queue, priority, express)
  select distinct a.queue, a.priority, e.express
  from unnest(p_queues, p_priorities) as a(queue, priority)
  cross join (values (false), (true)) as e(express)
  where not exists (
    select from steady_queue_lanes l
    where l.queue = a.queue and l.priority = a.priority and l.express = e.express);
end
$$;
comment on function steady_queue_ensure_lanes is 'Makes the lanes of known tasks ahead of their first job.';
