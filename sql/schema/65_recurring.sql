-- Recurring tasks. What the schedule means is computed in Python (steady_queue/cron.py); that each
-- run is enqueued once, on any number of hosts, is decided here: whoever moves the cursor
-- next_run_at enqueues the job, in the same transaction.
create table steady_queue_recurring_tasks (
  key text primary key check (key <> ''),
  task text not null,
  schedule text not null,
  timezone text not null,
  arguments json not null default '{"args":[],"kwargs":{}}',
  queue text,
  priority smallint check (priority between -100 and 100),
  backend text not null default 'default',
  jitter interval not null default '0' check (jitter >= interval '0'),
  missed text not null default 'latest' check (missed in ('latest', 'skip', 'all')),
  description text not null default '',
  owner text,
  declared_at timestamptz not null default clock_timestamp(),
  paused_at timestamptz,
  removed_at timestamptz,
  next_run_at timestamptz,
  last_run_at timestamptz
);
comment on table steady_queue_recurring_tasks is
  'Schedules, declared in code (owner: by which project) or at run time (owner is null).';
comment on column steady_queue_recurring_tasks.next_run_at is
  'The due cursor; null until a scheduler has worked it out.';
comment on column steady_queue_recurring_tasks.removed_at is
  'When the schedule disappeared from its owner''s code. It no longer runs, and is pruned later.';


create table steady_queue_recurring_executions (
  key text not null,
  run_at timestamptz not null,
  job bigint,
  enqueued_at timestamptz not null default clock_timestamp(),
  primary key (key, run_at)
);
comment on table steady_queue_recurring_executions is
  'Each run of each schedule, once: the job that it became (null when it was skipped).';


-- Takes over what one project's code declares, given as a JSON array of objects with the columns'
-- names. Schedules of this owner that are missing from it are removed; other owners' are left
-- alone. A declaration older than the stored one changes nothing and returns false.
create function steady_queue_sync_recurring_tasks(
  p_owner text,
  p_declared_at timestamptz,
  p_tasks json
) returns boolean
language plpgsql
set search_path from current
as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('steady_queue:recurring', 0));
  if exists (
    select from steady_queue_recurring_tasks t
    where t.owner = p_owner and t.declared_at > p_declared_at)
  then
    return false;
  end if;
  insert into steady_queue_recurring_tasks as t (
    key, task, schedule, timezone, arguments, queue, priority, backend, jitter, missed,
    description, owner, declared_at)
  select d.key, d.task, d.schedule, d.timezone, d.arguments, d.queue, d.priority, d.backend,
    d.jitter, d.missed, d.description, p_owner, p_declared_at
  from json_to_recordset(p_tasks) as d(
    key text, task text, schedule text, timezone text, arguments json, queue text,
    priority smallint, backend text, jitter interval, missed text, description text)
  on conflict (key) do update
  set task = excluded.task, schedule = excluded.schedule, timezone = excluded.timezone,
    arguments = excluded.arguments, queue = excluded.queue, priority = excluded.priority,
    backend = excluded.backend, jitter = excluded.jitter, missed = excluded.missed,
    description = excluded.description, owner = excluded.owner,
    declared_at = excluded.declared_at, removed_at = null,
    -- The cursor stays while the schedule means the same.
    next_run_at = case
      when t.schedule = excluded.schedule and t.timezone = excluded.timezone
        and t.removed_at is null
      then t.next_run_at end;
  update steady_queue_recurring_tasks t
  set removed_at = clock_timestamp()
  where t.owner = p_owner and t.declared_at < p_declared_at and t.removed_at is null;
  perform steady_queue_announce('recurring');
  return true;
end
$$;
comment on function steady_queue_sync_recurring_tasks is 'Takes over the schedules that a project''s code declares.';


-- Makes or changes one schedule at run time. It belongs to no project's code.
create function steady_queue_schedule_task(
  p_key text,
  p_task text,
  p_schedule text,
  p_timezone text default 'UTC',
  p_arguments json default '{"args":[],"kwargs":{}}',
  p_queue text default null,
  p_priority integer default null,
  p_backend text default 'default',
  p_jitter interval default '0',
  p_missed text default 'latest',
  p_description text default ''
) returns void
language plpgsql
set search_path from current
as $$
begin
  if exists (
    select from steady_queue_recurring_tasks t
    where t.key = p_key and t.owner is not null and t.removed_at is null)
  then
    raise exception 'recurring task % is declared in the code of %', p_key,
      (select t.owner from steady_queue_recurring_tasks t where t.key = p_key)
      using errcode = 'SQ002', hint = 'Choose another key, or change the code.';
  end if;
  delete from steady_queue_recurring_tasks t where t.key = p_key;
  insert into steady_queue_recurring_tasks
    (key, task, schedule, timezone, arguments, queue, priority, backend, jitter, missed, description)
  values (p_key, p_task, p_schedule, p_timezone, p_arguments, p_queue, p_priority, p_backend,
    p_jitter, p_missed, p_description);
  perform steady_queue_announce('recurring');
end
$$;
comment on function steady_queue_schedule_task is
  'Makes or changes a schedule: select steady_queue_schedule_task(''nightly'', ''shop.tasks.report'', ''0 3 * * *'', ''Europe/Berlin'').';


-- Removes a schedule that was made at run time. Returns false when there is none.
create function steady_queue_unschedule_task(p_key text) returns boolean
language plpgsql
set search_path from current
as $$
begin
  delete from steady_queue_recurring_tasks t where t.key = p_key and t.owner is null;
  if not found then
    return false;
  end if;
  delete from steady_queue_recurring_executions e
  where e.key = p_key and e.enqueued_at = 'infinity';
  return true;
end
$$;
comment on function steady_queue_unschedule_task is 'Removes a schedule that was made at run time: select steady_queue_unschedule_task(''nightly'').';


-- Stops a schedule; what it enqueued already is not touched. Returns false when nothing changed.
create function steady_queue_pause_recurring_task(p_key text) returns boolean
language plpgsql
set search_path from current
as $$
begin
  update steady_queue_recurring_tasks t set paused_at = clock_timestamp()
  where t.key = p_key and t.paused_at is null;
  return found;
end
$$;
comment on function steady_queue_pause_recurring_task is 'Stops a schedule: select steady_queue_pause_recurring_task(''nightly'').';


-- Lets a schedule go on, from now: runs that fell into the pause are not made up for.
create function steady_queue_resume_recurring_task(p_key text) returns boolean
language plpgsql
set search_path from current
as $$
declare
  v_changed boolean;
begin
  update steady_queue_recurring_tasks t set paused_at = null, next_run_at = null
  where t.key = p_key and t.paused_at is not null;
  v_changed := found;
  perform steady_queue_announce('recurring');
  return v_changed;
end
$$;
comment on function steady_queue_resume_recurring_task is 'Lets a schedule go on: select steady_queue_resume_recurring_task(''nightly'').';


-- Lets a schedule run once more, now. Its cursor does not move. False when there is no such key.
create function steady_queue_run_recurring_task_now(p_key text) returns boolean
language plpgsql
set search_path from current
as $$
begin
  insert into steady_queue_recurring_executions (key, run_at, enqueued_at)
  select t.key, clock_timestamp(), 'infinity'
  from steady_queue_recurring_tasks t
  where t.key = p_key and t.removed_at is null;
  if not found then
    return false;
  end if;
  perform steady_queue_announce('recurring');
  return true;
end
$$;
comment on function steady_queue_run_recurring_task_now is 'Runs a schedule''s task once, now: select steady_queue_run_recurring_task_now(''nightly'').';


-- Moves the cursor of a schedule from p_cursor (null: not worked out yet) to p_next (null: it never
-- runs again) and, when p_run_at is given, records that run. True for exactly one of the callers
-- that saw the same cursor: that one enqueues the job in the same transaction.
create function steady_queue_advance_recurring_task(
  p_key text,
  p_cursor timestamptz,
  p_next timestamptz,
  p_run_at timestamptz default null
) returns boolean
language plpgsql
set search_path from current
as $$
begin
  update steady_queue_recurring_tasks t
  set next_run_at = coalesce(p_next, 'infinity'), last_run_at = coalesce(p_run_at, t.last_run_at)
  where t.key = p_key and t.next_run_at is not distinct from p_cursor
    and t.paused_at is null and t.removed_at is null;
  if not found then
    return false;
  end if;
  if p_run_at is not null then
    insert into steady_queue_recurring_executions (key, run_at) values (p_key, p_run_at)
    on conflict do nothing;
    return found;
  end if;
  return true;
end
$$;
comment on function steady_queue_advance_recurring_task is 'Moves a due cursor; true for the one caller that enqueues the run.';


-- Notes which job a run became.
create function steady_queue_record_execution(p_key text, p_run_at timestamptz, p_job bigint)
returns void
language sql volatile
begin atomic
  update steady_queue_recurring_executions
  set job = p_job, enqueued_at = clock_timestamp()
  where key = p_key and run_at = p_run_at;
end;
comment on function steady_queue_record_execution is 'Notes which job a run of a schedule became.';


-- The schedules that are due, not worked out yet, or asked to run now (run_now_at), and the moment.
create function steady_queue_due_recurring_tasks()
returns table (
  key text, task text, schedule text, timezone text, arguments text, queue text, priority smallint,
  backend text, jitter interval, missed text, next_run_at timestamptz, run_now_at timestamptz,
  now timestamptz
)
language sql volatile
begin atomic
  select t.key, t.task, t.schedule, t.timezone, t.arguments::text, t.queue, t.priority, t.backend,
    t.jitter, t.missed, t.next_run_at, null::timestamptz, clock_timestamp()
  from steady_queue_recurring_tasks t
  where t.paused_at is null and t.removed_at is null
    and (t.next_run_at is null or t.next_run_at <= clock_timestamp())
  union all
  (select t.key, t.task, t.schedule, t.timezone, t.arguments::text, t.queue, t.priority, t.backend,
    t.jitter, t.missed, t.next_run_at, e.run_at, clock_timestamp()
  from steady_queue_recurring_executions e
  join steady_queue_recurring_tasks t on t.key = e.key
  where e.enqueued_at = 'infinity');
end;
comment on function steady_queue_due_recurring_tasks is 'Schedules that a scheduler has to look at now.';


-- Takes a run that was asked for by hand. True for one of the callers.
create function steady_queue_take_run_now(p_key text, p_run_at timestamptz) returns boolean
language plpgsql
set search_path from current
as $$
begin
  update steady_queue_recurring_executions e set enqueued_at = clock_timestamp()
  where e.key = p_key and e.run_at = p_run_at and e.enqueued_at = 'infinity';
  return found;
end
$$;
comment on function steady_queue_take_run_now is 'Takes a run that was asked for by hand; true for one caller.';


-- Seconds until a scheduler has to look at a schedule; 0 when it has to now, null when there is none.
create function steady_queue_next_recurring_run_in() returns double precision
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


-- Deletes the records of runs, and removed schedules, that are older than p_after.
create function steady_queue_prune_recurring(p_after interval) returns void
language sql volatile
begin atomic
  delete from steady_queue_recurring_executions where enqueued_at < clock_timestamp() - p_after;
  delete from steady_queue_recurring_tasks where removed_at < clock_timestamp() - p_after;
end;
comment on function steady_queue_prune_recurring is 'Forgets old runs and removed schedules.';
