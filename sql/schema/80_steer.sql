-- What a person may do, from psql, the admin or the command line. All of it takes effect when the
-- caller commits.

-- Stops claims from a queue. What runs already runs to its end. Slots of limits that its ready jobs
-- were handed go to other queues by maintenance, which is told. Returns false when it was paused.
create function steady_queue_pause_queue(p_queue text) returns boolean
language plpgsql
set search_path from current
as $$
begin
  insert into steady_queue_pauses (queue) values (p_queue) on conflict do nothing;
  if not found then
    return false;
  end if;
  perform steady_queue_announce('limits');
  return true;
end
$$;
comment on function steady_queue_pause_queue is 'Stops claims from a queue: select steady_queue_pause_queue(''mail'').';


-- Lets claims from a queue go on. Its blocked jobs are let into free slots by maintenance, which is
-- told. Returns false when it was not paused.
create function steady_queue_resume_queue(p_queue text) returns boolean
language plpgsql
set search_path from current
as $$
declare
  v_was_paused boolean;
begin
  delete from steady_queue_pauses where queue = p_queue;
  v_was_paused := found;
  perform steady_queue_announce('queue:' || p_queue);
  perform steady_queue_announce('limits');
  return v_was_paused;
end
$$;
comment on function steady_queue_resume_queue is 'Lets claims from a queue go on: select steady_queue_resume_queue(''mail'').';


-- Makes failed or discarded jobs ready again, with their attempts and lost starts counted anew; the
-- errors of earlier attempts stay. Returns how many; others are left alone.
create function steady_queue_retry_jobs(p_jobs bigint[]) returns bigint
language plpgsql
set search_path from current
as $$
declare
  v_count bigint;
begin
  perform steady_queue_enter_ready();
  with retried as (
    delete from steady_queue_outcomes o
    where o.job = any (p_jobs) and o.status <> 'successful'
    returning o.job
  ), ready as (
    insert into steady_queue_ready (lane, position, job, limit_key)
    select r.lane, nextval('steady_queue_positions'), r.job, r.limit_key
    from (
      -- Ordered after the join: positions are given in this order.
      select steady_queue_lane_of(j.queue, j.priority, false) as lane, r.job, j.limit_key
      from retried r
      join steady_queue_jobs j on j.id = r.job
      order by r.job
    ) r
  )
  select count(*) into v_count from retried;
  return v_count;
end
$$;
comment on function steady_queue_retry_jobs is 'Makes failed jobs ready again: select steady_queue_retry_jobs(array[42]).';


-- Ends jobs that wait (ready, scheduled or blocked) without running them. Jobs that run, or ended,
-- are left alone. Slots that they had been handed go to the next by maintenance, which is told.
-- Returns how many.
create function steady_queue_discard_jobs(p_jobs bigint[]) returns bigint
language plpgsql
set search_path from current
as $$
declare
  v_count bigint;
  v_slots bigint;
begin
  with blocked as (
    delete from steady_queue_blocked b where b.job = any (p_jobs)
    returning b.job, b.attempt, b.lost_starts
  ), ready as (
    delete from steady_queue_ready r where r.job = any (p_jobs)
    returning r.job, r.attempt, r.lost_starts, r.holds_until
  ), scheduled as (
    delete from steady_queue_scheduled s where s.job = any (p_jobs)
    returning s.job, s.attempt, s.lost_starts
  ), discarded as (
    insert into steady_queue_outcomes (job, status, attempt, lost_starts, finished_at)
    select w.job, 'discarded', w.attempt, w.lost_starts, clock_timestamp()
    from (
      table blocked
      union all select job, attempt, lost_starts from ready
      union all table scheduled
    ) w
    returning job
  )
  select
    (select count(*) from discarded),
    (select count(*) from ready r where r.holds_until is not null)
  into v_count, v_slots;
  if v_slots > 0 then
    perform steady_queue_announce('limits');
  end if;
  return v_count;
end
$$;
comment on function steady_queue_discard_jobs is 'Ends waiting jobs without running them: select steady_queue_discard_jobs(array[42]).';


-- Lets scheduled jobs run now, ahead of their time: those enqueued for later, and those that wait
-- for another attempt. They go to the end of the line. Others are left alone. Returns how many.
create function steady_queue_run_jobs_now(p_jobs bigint[]) returns bigint
language plpgsql
set search_path from current
as $$
declare
  v_count bigint;
begin
  perform steady_queue_enter_ready();
  with due as (
    delete from steady_queue_scheduled s where s.job = any (p_jobs)
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
  select count(*) into v_count from due;
  return v_count;
end
$$;
comment on function steady_queue_run_jobs_now is 'Lets scheduled jobs run now: select steady_queue_run_jobs_now(array[42]).';


-- Enqueues each of these jobs once more, to run now: the same task, queue, priority, arguments and
-- limit. Returns the numbers of the copies. Numbers of no job are left out.
create function steady_queue_enqueue_copy(p_jobs bigint[]) returns setof bigint
language plpgsql
set search_path from current
as $$
declare
  v_backend text;
begin
  for v_backend in
    select distinct j.backend from steady_queue_jobs j where j.id = any (p_jobs)
  loop
    return query
    select e.id
    from (
      select
        array_agg(j.task order by j.id) as tasks,
        array_agg(j.queue order by j.id) as queues,
        array_agg(j.priority order by j.id) as priorities,
        array_agg(j.arguments order by j.id) as arguments,
        array_agg(j.limit_key order by j.id) as limit_keys,
        array_agg(j.limit_to order by j.id) as limit_to,
        array_agg(j.limit_for order by j.id) as limit_for,
        array_agg(j.limit_conflict order by j.id) as limit_conflicts
      from steady_queue_jobs j
      where j.id = any (p_jobs) and j.backend = v_backend
    ) a
    cross join lateral steady_queue_enqueue_jobs(
      v_backend, a.tasks, a.queues, a.priorities, a.arguments, null,
      a.limit_keys, a.limit_to, a.limit_for, a.limit_conflicts) e;
  end loop;
end
$$;
comment on function steady_queue_enqueue_copy is 'Enqueues jobs once more: select steady_queue_enqueue_copy(array[42]).';
