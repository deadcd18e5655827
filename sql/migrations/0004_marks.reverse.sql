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
  set mark = case when l.noted_xid is null then l.mark else greatest(l.mark, least(
      l.noted_position + 1,
      (select r.position from steady_queue_ready r
       where r.lane = l.id and r.position >= l.mark
       order by r.position limit 1))) end,
    noted_position = v_last,
    noted_xid = v_xid
  where l.id in (
    select l.id from steady_queue_lanes l
    join (select distinct * from unnest(p_queues, p_priorities)) as c(queue, priority)
      on l.queue = c.queue and l.priority = c.priority
    where (l.noted_position is null or l.noted_position < v_last)
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


drop function steady_queue_next_mark;
