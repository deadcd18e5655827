-- Whether the queue is served, and what around it will make it slow: each function returns what it
-- finds, with what to do about it.

-- What is wrong right now, as a monitor asks it: no live worker, or ready jobs of a queue that is
-- served, and not paused, that have waited for longer than p_max_wait (null: however long). When a
-- job entered is known of those that were ready from the start; others entered before the first
-- job was enqueued behind them.
create function steady_queue_health(
  p_alive_threshold interval default '30 seconds',
  p_max_wait interval default null
) returns table (problem text)
language sql stable
begin atomic
  with alive as materialized (
    select p.queues from steady_queue_processes p
    where p.kind = 'worker' and p.heartbeat_at > clock_timestamp() - p_alive_threshold
  )
  select format('no worker was heard from within %s', p_alive_threshold)
  where not exists (select from alive)
  union all
  (select format('a ready job of queue %s has waited for %s', w.queue, max(w.waited))
  from (
    select j.queue, clock_timestamp() - case
      when r.position = j.id then j.enqueued_at
      else (select n.enqueued_at from steady_queue_jobs n where n.id > r.position order by n.id limit 1)
    end as waited
    from (select 0 as lane, 0::bigint as mark union all select l.id, l.mark from steady_queue_lanes l) l
    cross join lateral (
      select r.job, r.position from steady_queue_ready r
      where r.lane = l.lane and r.position >= l.mark and p_max_wait is not null
      order by r.position
      -- Lane 0 holds any queue's.
      limit case l.lane when 0 then 100 else 1 end
    ) r
    join steady_queue_jobs j on j.id = r.job
    where not exists (select from steady_queue_pauses p where p.queue = j.queue)
      and exists (
        select from alive a
        cross join unnest(a.queues) as q(pattern)
        where j.queue = q.pattern
          or (right(q.pattern, 1) = '*' and starts_with(j.queue, left(q.pattern, -1))))
  ) w
  where w.waited > p_max_wait
  group by w.queue
  order by max(w.waited) desc);
end;
comment on function steady_queue_health is
  'What is wrong right now, nothing when all is well: select * from steady_queue_health(p_max_wait => ''5 minutes'').';


-- The tables whose rows live for moments: what is dead in them must go soon.
create function steady_queue_hot_tables() returns table (name regclass)
language sql stable
begin atomic
  select h.name
  from (values
    ('steady_queue_ready'::regclass), ('steady_queue_scheduled'::regclass),
    ('steady_queue_blocked'::regclass), ('steady_queue_running'::regclass),
    ('steady_queue_semaphores'::regclass), ('steady_queue_lanes'::regclass),
    ('steady_queue_processes'::regclass), ('steady_queue_figures'::regclass)) as h(name);
end;
comment on function steady_queue_hot_tables is 'The tables whose rows live for moments.';


-- Hot tables with more dead rows than autovacuum leaves, or with far more space than their rows need.
create function steady_queue_bloated_tables(
  p_dead_rows bigint default 20000,
  p_bytes bigint default 67108864
) returns table (finding text, remedy text)
language sql stable
begin atomic
  select format('%s has %s dead rows', h.name, pg_stat_get_dead_tuples(h.name)),
    format('autovacuum does not keep up: end old transactions, then vacuum %s', h.name)
  from steady_queue_hot_tables() h
  where pg_stat_get_dead_tuples(h.name) > p_dead_rows
  union all
  select format('%s takes %s for %s rows', h.name, pg_size_pretty(pg_total_relation_size(h.name)),
      pg_stat_get_live_tuples(h.name)),
    format('at a quiet moment, it locks for seconds: vacuum full %s', h.name)
  from steady_queue_hot_tables() h
  where pg_total_relation_size(h.name) > p_bytes
    -- A row of theirs takes a hundred bytes or two, with its place in the indexes.
    and pg_total_relation_size(h.name) > pg_stat_get_live_tuples(h.name) * 1000;
end;
comment on function steady_queue_bloated_tables is 'Hot tables with too many dead rows, or too much space.';


-- What keeps dead rows in the tables: transactions open for longer than p_open_for, in this database,
-- prepared ones, and replication slots that nobody reads.
create function steady_queue_old_snapshots(p_open_for interval default '5 minutes')
returns table (finding text, remedy text)
language sql stable
begin atomic
  select format('session %s (%s, application %s) is %s, its transaction open for %s', a.pid, a.usename,
      coalesce(nullif(a.application_name, ''), 'unnamed'), a.state,
      date_trunc('second', clock_timestamp() - a.xact_start)),
    format('dead rows stay as long as it is open: select pg_terminate_backend(%s)', a.pid)
  from pg_stat_activity a
  where a.datname = current_database() and a.backend_type = 'client backend'
    and a.pid <> pg_backend_pid() and a.xact_start < clock_timestamp() - p_open_for
  union all
  select format('transaction %s was prepared %s ago', quote_literal(x.gid),
      date_trunc('second', clock_timestamp() - x.prepared)),
    format('commit prepared %1$s, or rollback prepared %1$s', quote_literal(x.gid))
  from pg_prepared_xacts x
  where x.database = current_database() and x.prepared < clock_timestamp() - p_open_for
  union all
  select format('replication slot %s is not read, and keeps dead rows', s.slot_name),
    format('start its reader, or select pg_drop_replication_slot(%L)', s.slot_name)
  from pg_replication_slots s
  where not s.active and s.xmin is not null
  union all
  select format('what other sessions do is hidden from %s', current_user),
    format('to see their transactions: grant pg_read_all_stats to %I', current_user)
  where exists (
    select from pg_stat_activity a
    where a.datname = current_database() and a.query = '<insufficient privilege>');
end;
comment on function steady_queue_old_snapshots is 'Old transactions and slots, which keep dead rows in the tables.';


-- Settings with which autovacuum cannot keep the hot tables small.
create function steady_queue_lax_vacuum() returns table (finding text, remedy text)
language sql stable
begin atomic
  select format('%s is off', s.name), format('set %s = on in postgresql.conf, and reload', s.name)
  from pg_settings s
  where s.name in ('autovacuum', 'track_counts') and s.setting = 'off'
  union all
  select format('autovacuum is off for %s', h.name),
    format('alter table %s reset (autovacuum_enabled)', h.name)
  from steady_queue_hot_tables() h
  join pg_class c on c.oid = h.name
  cross join unnest(c.reloptions) as o(option)
  where o.option like 'autovacuum_enabled=%' and not split_part(o.option, '=', 2)::boolean
  union all
  select format('autovacuum of %s waits for a share of its rows', h.name),
    format('alter table %s set (autovacuum_vacuum_scale_factor = 0)', h.name)
  from steady_queue_hot_tables() h
  join pg_class c on c.oid = h.name
  where not exists (
    select from unnest(c.reloptions) as o(option)
    where o.option = 'autovacuum_vacuum_scale_factor=0');
end;
comment on function steady_queue_lax_vacuum is 'Settings with which autovacuum cannot keep the hot tables small.';


-- Too few connections: in use are more than p_share of them, or the registered processes may need
-- more than there are: one each, one more for those that listen, and one for each thread. Not
-- counted when p_pooled: a pooler needs fewer.
create function steady_queue_scarce_connections(
  p_pooled boolean default false,
  p_share double precision default 0.8
) returns table (finding text, remedy text)
language sql stable
begin atomic
  with budget as (
    select current_setting('max_connections')::integer
      - current_setting('superuser_reserved_connections')::integer
      - coalesce(current_setting('reserved_connections', true)::integer, 0) as available,
      (select count(*) from pg_stat_activity a where a.backend_type = 'client backend') as used,
      (select coalesce(sum(p.threads + case p.kind when 'supervisor' then 1 else 2 end), 0)
       from steady_queue_processes p) as needed
  )
  select format('%s of %s connections are in use', b.used, b.available),
    'fewer clients, a pooler, or a higher max_connections'
  from budget b
  where b.used > b.available * p_share
  union all
  select format('the processes of the queue may need %s connections, there are %s', b.needed, b.available),
    'fewer threads or processes, a pooler with steady_queue.listen_database, or a higher max_connections'
  from budget b
  where not p_pooled and b.needed > b.available;
end;
comment on function steady_queue_scarce_connections is 'Whether the connections of the server are enough for the queue.';


-- Whether notifications pile up because a session listens and does not read. When there is no more
-- room for them, commits that notify fail.
create function steady_queue_unread_notifications(p_share double precision default 0.1)
returns table (finding text, remedy text)
language sql stable
begin atomic
  select format('the queue of notifications is %s%% full', round(u.usage * 100)),
    'a session that listens has a transaction open: end it, or see the DETAIL of the server''s warning'
  from (select pg_notification_queue_usage()::numeric) as u(usage)
  where u.usage > p_share;
end;
comment on function steady_queue_unread_notifications is 'Whether notifications pile up.';


-- All of the above, but for the health: what makes the queue slow, or will, and what to do.
create function steady_queue_doctor(
  p_open_for interval default '5 minutes',
  p_pooled boolean default false
) returns table (finding text, remedy text)
language sql stable
begin atomic
  select f.finding, f.remedy from steady_queue_bloated_tables() f
  union all
  select f.finding, f.remedy from steady_queue_old_snapshots(p_open_for) f
  union all
  select f.finding, f.remedy from steady_queue_lax_vacuum() f
  union all
  select f.finding, f.remedy from steady_queue_scarce_connections(p_pooled) f
  union all
  select f.finding, f.remedy from steady_queue_unread_notifications() f;
end;
comment on function steady_queue_doctor is
  'What makes the queue slow, or will, and what to do about it: select * from steady_queue_doctor().';
