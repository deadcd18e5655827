-- The last migration of the oldest release whose processes work on this schema as they do on their
-- own: they start on it, while a newer release is deployed or taken back. A migration that breaks
-- that release changes the answer.
create function steady_queue_oldest_release() returns text
language sql immutable parallel safe
begin atomic
  select '0001_queue';
end;
comment on function steady_queue_oldest_release is 'The last migration of the oldest release that works on this schema.';


-- Registers a process and returns its number, which is never given again.
create function steady_queue_register_process(
  p_kind text,
  p_name text,
  p_supervisor bigint,
  p_host text,
  p_pid integer,
  p_queues text[] default '{}',
  p_threads integer default 0
) returns bigint
language sql volatile
begin atomic
  insert into steady_queue_processes (kind, name, supervisor, host, pid, queues, threads)
  values (p_kind, p_name, p_supervisor, p_host, p_pid, p_queues, p_threads)
  returning id;
end;
comment on function steady_queue_register_process is 'Registers a process; returns its number.';


-- Notes the operating system's number of a process that was registered before it lived.
create function steady_queue_note_pid(p_process bigint, p_pid integer) returns void
language sql volatile
begin atomic
  update steady_queue_processes set pid = p_pid where id = p_process;
end;
comment on function steady_queue_note_pid is 'Notes the operating system''s number of a process.';


-- Says that these processes are alive. Returns those that are not registered (any more). A gap of
-- more than half the threshold ends a process's steadiness: after an outage of the database or a
-- laptop's sleep nobody is called dead before everybody had the time to speak.
create function steady_queue_heartbeat(p_processes bigint[], p_alive_threshold interval)
returns setof bigint
language plpgsql
set search_path from current
as $$
declare
  v_alive bigint[];
begin
  with alive as (
    update steady_queue_processes p
    set heartbeat_at = clock_timestamp(),
      steady_since = case
        when clock_timestamp() - p.heartbeat_at > p_alive_threshold / 2 then clock_timestamp()
        else p.steady_since
      end
    where p.id = any (p_processes)
    returning p.id
  )
  select coalesce(array_agg(a.id), '{}') into v_alive from alive a;
  return query select p from unnest(p_processes) as p where p <> all (v_alive);
end
$$;
comment on function steady_queue_heartbeat is 'Keeps processes alive; returns those that were removed.';


-- Ends a process: removes its row and puts its jobs back. p_started lists the jobs whose code had
-- begun to run (null: not known, so all of them). A job that was the only one started is charged
-- with a lost start, and failed when it has p_max_lost_starts of them; when several were, each is
-- a suspect, put back without charge, and runs alone the next time. Jobs that were not started are
-- put back as they were. Returns how many jobs it put back or failed. Never waits: jobs that
-- somebody has locked, or whose limit, stay, and the process with them, and it returns null: call
-- again. The same when somebody has locked the process.
create function steady_queue_recover_jobs(
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


-- Recovers the jobs of processes that were silent for longer than p_alive_threshold, and of those
-- that are no longer registered at all. Does nothing unless p_sweeper itself was steady for that
-- long. Returns the numbers of the processes it removed.
create function steady_queue_sweep(
  p_sweeper bigint,
  p_alive_threshold interval,
  p_max_lost_starts integer default 3
) returns setof bigint
language plpgsql
set search_path from current
as $$
declare
  v_process bigint;
begin
  if not exists (
    select from steady_queue_processes p
    where p.id = p_sweeper and p.steady_since < clock_timestamp() - p_alive_threshold)
  then
    return;
  end if;
  for v_process in
    select p.id from steady_queue_processes p
    where p.heartbeat_at < clock_timestamp() - p_alive_threshold
    order by p.id
    for update skip locked
  loop
    if steady_queue_recover_jobs(
      v_process, null, 'steady_queue.processes.ProcessPrunedError',
      format('process %s was silent for more than %s', v_process, p_alive_threshold),
      p_max_lost_starts) is not null
    then
      return next v_process;
    end if;
  end loop;
  for v_process in
    select distinct r.process from steady_queue_running r
    where not exists (select from steady_queue_processes p where p.id = r.process)
  loop
    if steady_queue_recover_jobs(
      v_process, null, 'steady_queue.processes.ProcessMissingError',
      format('process %s is not registered', v_process), p_max_lost_starts) is not null
    then
      return next v_process;
    end if;
  end loop;
end
$$;
comment on function steady_queue_sweep is 'Puts back the jobs of processes that were silent for too long.';


-- Seconds until the first process will have been silent for too long, if it stays so; negative when one
-- has been already, and could not be removed. Not in SQL, which would be made a part of the statement
-- that speaks and sweeps, and would not see what that has changed.
create function steady_queue_next_silence_in(p_alive_threshold interval) returns double precision
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
