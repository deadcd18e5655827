-- Records how jobs ended, given as arrays of the same length: job, claim number, seconds from claim
-- to start, seconds from start to end, and null for success or, for an error, a JSON object with
-- exception_class, message, traceback and, for another attempt, retry_in (seconds), or, to end it
-- as discarded instead of failed, discard (true). p_limit_keys
-- are the limit keys among the jobs: their freed slots go to the next blocked jobs at once.
-- Without p_keep, jobs that succeeded are deleted instead of kept as history.
-- Returns the jobs that it did not finish: 'stale' when the claim is no longer the current one (the
-- job belongs to another now: drop the outcome), 'busy' when somebody has locked it, or its limit
-- (call again). Never waits for a limit; for jobs that a person has locked, 50 ms in all.
create function steady_queue_finish_jobs(
  p_jobs bigint[],
  p_claims bigint[],
  p_waited double precision[],
  p_ran double precision[],
  p_errors json[] default null,
  p_limit_keys text[] default null,
  p_keep boolean default true
) returns table (job bigint, refusal text)
language plpgsql
set search_path from current
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set lock_timeout = '50ms'
as $$
declare
  v_keys text[];
  v_free bigint[];
  v_ended bigint[];
begin
  if p_limit_keys is not null then
    v_keys := steady_queue_lock_keys(p_limit_keys);
  end if;

  for v_try in 1 .. 2 loop
    begin
      with ended as (
        delete from steady_queue_running r
        using unnest(p_jobs, p_claims, p_waited, p_ran, p_errors) as g(job, claim, waited, ran, error)
        where r.job = g.job and r.claim = g.claim
          and (r.limit_key is null or r.limit_key = any (v_keys))
          and (v_free is null or r.job = any (v_free))
        returning r.job, r.process, least(r.attempt + 1, 32767)::smallint as attempt, r.lost_starts, r.claimed_at,
          r.claimed_at + g.waited * interval '1 second' as started_at,
          r.claimed_at + (g.waited + g.ran) * interval '1 second' as finished_at,
          g.error, (g.error ->> 'retry_in')::double precision as retry_in
      ), recorded as (
        insert into steady_queue_outcomes
          (job, status, attempt, lost_starts, process, claimed_at, started_at, finished_at)
        select e.job,
          case
            when e.error is null then 'successful'
            when (e.error ->> 'discard')::boolean then 'discarded'
            else 'failed'
          end,
          e.attempt,
          e.lost_starts, e.process, e.claimed_at, e.started_at, e.finished_at
        from ended e
        where e.retry_in is null and (p_keep or e.error is not null)
      ), explained as (
        insert into steady_queue_errors
          (job, attempt, process, failed_at, exception_class, message, traceback)
        select e.job, e.attempt, e.process, e.finished_at,
          e.error ->> 'exception_class', e.error ->> 'message', e.error ->> 'traceback'
        from ended e
        where e.error is not null
      ), retried as (
        insert into steady_queue_scheduled (job, run_after, attempt, lost_starts)
        select e.job, clock_timestamp() + e.retry_in * interval '1 second', e.attempt, e.lost_starts
        from ended e
        where e.retry_in is not null
      ), forgiven as (
        delete from steady_queue_errors f using ended e
        where f.job = e.job and e.error is null and not p_keep
      ), forgotten as (
        delete from steady_queue_jobs j using ended e
        where j.id = e.job and e.error is null and not p_keep
      )
      select array_agg(e.job) into v_ended from ended e;
      exit;
    exception when lock_not_available then
      -- Locked here, so that the second try waits for none.
      v_free := array(
        select r.job from steady_queue_running r
        where r.job = any (p_jobs)
        order by r.job
        for update skip locked);
    end;
  end loop;

  if v_keys is not null then
    perform steady_queue_hand_over(v_keys);
  end if;

  if cardinality(v_ended) is distinct from cardinality(p_jobs) then
    return query
    select g.job, case when r.job is null then 'stale' else 'busy' end
    from unnest(p_jobs, p_claims) as g(job, claim)
    left join steady_queue_running r on r.job = g.job and r.claim = g.claim
    where g.job <> all (coalesce(v_ended, '{}'));
  end if;
end
$$;
comment on function steady_queue_finish_jobs is
  'Records how jobs ended. A stale claim number changes nothing and is reported back.';


-- Announces the queues in which jobs wait that were handed a slot.
create function steady_queue_announce_handed_over() returns void
language plpgsql
set search_path from current
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
  v_queue text;
begin
  for v_queue in
    select distinct l.queue from steady_queue_lanes l
    where l.express
      and not exists (select from steady_queue_pauses p where p.queue = l.queue)
      and exists (select from steady_queue_ready r where r.lane = l.id and r.position >= l.mark)
  loop
    perform steady_queue_announce('queue:' || v_queue);
  end loop;
end
$$;
comment on function steady_queue_announce_handed_over is 'Announces jobs that were handed a slot and wait.';


-- Finishes, then claims, in one call and one commit: the parameters are those of
-- steady_queue_finish_jobs and of steady_queue_claim_jobs. Returns the refused outcomes first, with
-- the refusal as task and without a claim, then the claimed jobs. Slots that the finish hands over
-- are mostly claimed in the same call, so that only the rest is announced; with p_followers each job
-- that got one brings up to so many blocked ones along, which run after it in the same slot. They come
-- last, in the order in which they should start, and are among p_count.
create function steady_queue_finish_and_claim_jobs(
  p_jobs bigint[],
  p_claims bigint[],
  p_waited double precision[],
  p_ran double precision[],
  p_errors json[],
  p_limit_keys text[],
  p_keep boolean,
  p_process bigint,
  p_queues text[],
  p_count integer,
  p_followers integer default 0
) returns setof steady_queue_claimed_job
language plpgsql
set search_path from current
as $$
declare
  v_claimed bigint;
begin
  if p_limit_keys is not null then
    perform set_config('steady_queue.announce', 'later', true);
  end if;
  return query
  select f.job, null::bigint, f.refusal, null::text, null::text, null::smallint, null::text,
    null::smallint, null::smallint, null::boolean, null::text, null::bigint, null::timestamptz,
    null::timestamptz, null::timestamptz, null::json, null::text[]
  from steady_queue_finish_jobs(
    p_jobs, p_claims, p_waited, p_ran, p_errors, p_limit_keys, p_keep) f;
  return query
  select * from steady_queue_claim_jobs(p_process, p_queues, p_count);
  get diagnostics v_claimed = row_count;
  if p_limit_keys is not null and p_followers > 0 and v_claimed > 0 then
    return query
    -- Under the number that the claim has just drawn.
    select * from steady_queue_follow_jobs(
      currval('steady_queue_claims'), p_limit_keys, p_queues, p_followers, p_count - v_claimed::integer);
  end if;
  if p_limit_keys is not null then
    perform set_config('steady_queue.announce', '', true);
    perform steady_queue_announce_handed_over();
  end if;
end
$$;
comment on function steady_queue_finish_and_claim_jobs is
  'Hands in what has finished and takes what is next, in one commit.';


-- Puts claimed jobs that were not started back to ready, behind what waits there. A job in a slot of a
-- limit keeps it; of several in one slot the first does, once none of them is left to run. Returns
-- those it did not put back, because the claim is no longer the current one or somebody has locked
-- the job. Never waits.
create function steady_queue_release_jobs(p_jobs bigint[], p_claims bigint[])
returns setof bigint
language plpgsql
set search_path from current
as $$
declare
  v_locked bigint[];
  v_released bigint[];
begin
  perform steady_queue_enter_ready();
  v_locked := array(
    select r.job from steady_queue_running r
    join unnest(p_jobs, p_claims) as g(job, claim) on g.job = r.job and g.claim = r.claim
    order by r.job
    for update of r skip locked);

  with released as (
    delete from steady_queue_running r
    where r.job = any (v_locked)
    returning r.job, r.attempt, r.lost_starts, r.suspect, r.limit_key,
      case when not exists (
        select from steady_queue_running s
        where s.limit_key = r.limit_key and s.slot = r.slot
          and (s.job < r.job or s.job <> all (v_locked)))
      then r.holds_until end as holds_until
  ), ready as (
    insert into steady_queue_ready
      (lane, position, job, attempt, lost_starts, suspect, limit_key, holds_until)
    select r.lane, nextval('steady_queue_positions'), r.job, r.attempt, r.lost_starts, r.suspect,
      r.limit_key, r.holds_until
    from (
      -- Ordered after the join: positions are given in this order.
      select steady_queue_lane_of(j.queue, j.priority, r.holds_until is not null) as lane, r.*
      from released r
      join steady_queue_jobs j on j.id = r.job
      order by r.job
    ) r
  )
  select array_agg(r.job) into v_released from released r;
  return query select g.job from unnest(p_jobs) as g(job) where g.job <> all (coalesce(v_released, '{}'));
end
$$;
comment on function steady_queue_release_jobs is 'Puts claimed jobs that were not started back to ready.';


-- Puts back to ready what this process claimed without ever hearing of it: its running jobs that are
-- not among p_known. For the process itself, after a call whose reply was lost. Returns how many, or
-- null when somebody has locked one of them: call again. Never waits.
create function steady_queue_disown_jobs(p_process bigint, p_known bigint[]) returns bigint
language plpgsql
set search_path from current
as $$
declare
  v_jobs bigint[];
  v_claims bigint[];
begin
  select array_agg(r.job), array_agg(r.claim) into v_jobs, v_claims
  from steady_queue_running r
  where r.process = p_process and r.job <> all (p_known);
  if exists (select from steady_queue_release_jobs(v_jobs, v_claims)) then
    return null;
  end if;
  return coalesce(cardinality(v_jobs), 0);
end
$$;
comment on function steady_queue_disown_jobs is 'Puts back what a process claimed without hearing of it.';
