create or replace function steady_queue_next_mark(p_lane integer, p_mark bigint, p_noted bigint) returns bigint
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


create or replace function steady_queue_advance_marks(p_queues text[], p_priorities smallint[]) returns void
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
