-- What workers have done, summed up: charts and metrics read these few rows, never the history.
-- Workers append what they counted since they last did (steady_queue/processes/figures.py), so that
-- no row is fought over; dispatchers make fewer rows of many. What a worker had counted and not yet
-- written is lost when it is killed, a few seconds of figures; no job is.

-- A row stands for what was counted in the minute, ten minutes or hour that begins at minute, or,
-- at -infinity, ever before: the sum over all rows of a queue and task never falls. waits and runs
-- count attempts, by the bounds of steady_queue_figure_bounds; an empty array counts none.
create table steady_queue_figures (
  id bigint primary key generated always as identity,
  minute timestamptz not null,
  queue text not null,
  task text not null,
  finished bigint not null default 0,
  failed bigint not null default 0,
  waited double precision not null default 0,
  ran double precision not null default 0,
  waits bigint[] not null default '{}',
  runs bigint[] not null default '{}'
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
  autovacuum_vacuum_cost_delay = 0);
comment on table steady_queue_figures is
  'What workers have done, by minute, queue and task. Read it by: select * from steady_queue_throughput.';
comment on column steady_queue_figures.finished is
  'Jobs that have run and ended: successful, failed or discarded by their task.';
comment on column steady_queue_figures.failed is 'Those of them that failed for good.';
comment on column steady_queue_figures.waited is
  'Seconds that jobs waited, from when they could run to their first start, in all.';
comment on column steady_queue_figures.ran is 'Seconds that attempts ran, in all.';
comment on column steady_queue_figures.waits is
  'How many of these waits were as long as each bound, and longer than the one before.';
comment on column steady_queue_figures.runs is 'The same for the seconds that attempts ran.';
-- steady_queue_throughput_of, steady_queue_compact_figures
create index steady_queue_figures_minute on steady_queue_figures (minute);


-- The upper bounds, in seconds, of what waits and runs count; their last count is of what took
-- longer than all of these. steady_queue/processes/figures.py counts by the same bounds.
create function steady_queue_figure_bounds() returns double precision[]
language sql immutable parallel safe
begin atomic
  select array[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100,
    200, 500, 1000, 2000, 5000]::double precision[];
end;
comment on function steady_queue_figure_bounds is 'The bounds, in seconds, by which waits and runs are counted.';


-- Adds what a worker has counted, given as a JSON array of objects with the columns' names, to the
-- minute that it is. Returns false when somebody keeps the table locked: call again later. Waits
-- for 50 ms at most.
create function steady_queue_add_figures(p_figures json) returns boolean
language plpgsql
set search_path from current
set lock_timeout = '50ms'
as $$
begin
  insert into steady_queue_figures (
    minute, queue, task, finished, failed, waited, ran, waits, runs)
  select date_trunc('minute', clock_timestamp()), f.queue, f.task, f.finished, f.failed, f.waited,
    f.ran, f.waits, f.runs
  from json_to_recordset(p_figures) as f(
    queue text, task text, finished bigint, failed bigint, waited double precision,
    ran double precision, waits bigint[], runs bigint[]);
  return true;
exception when lock_not_available then
  return false;
end
$$;
comment on function steady_queue_add_figures is 'Adds what a worker has counted.';


-- The row in which what was counted at p_minute stands, once it is p_now: minutes for two hours,
-- ten minutes for 26 hours, hours for eight days. Each is kept for longer than a chart shows it.
create function steady_queue_figure_row(p_minute timestamptz, p_now timestamptz)
returns timestamptz
language sql immutable parallel safe
begin atomic
  select case
    when p_minute > p_now - interval '2 hours' then p_minute
    when p_minute > p_now - interval '26 hours'
      then date_bin('10 minutes', p_minute, timestamptz '2000-01-01 00:00:00+00')
    when p_minute > p_now - interval '192 hours'
      then date_bin('1 hour', p_minute, timestamptz '2000-01-01 00:00:00+00')
    else '-infinity'
  end;
end;
comment on function steady_queue_figure_row is 'In which row what was counted in a minute stands later.';


-- Makes one row of many: of each minute past, then of ten minutes, of an hour, at last of all that
-- was. The sums stay as they are. Returns how many rows it took, p_count at most. Never waits.
create function steady_queue_compact_figures(p_count integer default 5000) returns bigint
language plpgsql
set search_path from current
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_taken bigint;
begin
  with crowded as materialized (
    select steady_queue_figure_row(f.minute, v_now) as row, f.queue, f.task
    from steady_queue_figures f
    -- Workers still add to the last minute.
    where f.minute < v_now - interval '2 minutes'
    group by 1, 2, 3
    having count(*) > 1 or min(f.minute) <> steady_queue_figure_row(min(f.minute), v_now)
    limit p_count
  ), taken as materialized (
    delete from steady_queue_figures f
    where f.ctid = any (array(
      select f.ctid
      from steady_queue_figures f
      join crowded c on c.row = steady_queue_figure_row(f.minute, v_now)
        and c.queue = f.queue and c.task = f.task
      where f.minute < v_now - interval '2 minutes'
      -- Those of one row together: one of each would be made one of each again.
      order by c.row, c.queue, c.task
      limit p_count
      for update of f skip locked))
    returning steady_queue_figure_row(f.minute, v_now) as row, f.*
  ), waits as (
    select w.row, w.queue, w.task, array_agg(w.count order by w.place) as counts
    from (
      select t.row, t.queue, t.task, w.place, sum(w.count)::bigint as count
      from taken t
      cross join unnest(t.waits) with ordinality as w(count, place)
      group by 1, 2, 3, 4
    ) w
    group by 1, 2, 3
  ), runs as (
    select r.row, r.queue, r.task, array_agg(r.count order by r.place) as counts
    from (
      select t.row, t.queue, t.task, r.place, sum(r.count)::bigint as count
      from taken t
      cross join unnest(t.runs) with ordinality as r(count, place)
      group by 1, 2, 3, 4
    ) r
    group by 1, 2, 3
  ), compacted as (
    insert into steady_queue_figures (
      minute, queue, task, finished, failed, waited, ran, waits, runs)
    select t.row, t.queue, t.task, t.finished, t.failed, t.waited, t.ran,
      coalesce(w.counts, '{}'), coalesce(r.counts, '{}')
    from (
      select t.row, t.queue, t.task, sum(t.finished) as finished, sum(t.failed) as failed,
        sum(t.waited) as waited, sum(t.ran) as ran
      from taken t
      group by 1, 2, 3
    ) t
    left join waits w on (w.row, w.queue, w.task) = (t.row, t.queue, t.task)
    left join runs r on (r.row, r.queue, r.task) = (t.row, t.queue, t.task)
  )
  select count(*) into v_taken from taken;
  return v_taken;
end
$$;
comment on function steady_queue_compact_figures is 'Makes few rows of many in steady_queue_figures; the sums stay.';


-- The span under which p_fraction of what was counted lies, estimated within the bounds between
-- which it fell; null when nothing was counted.
create function steady_queue_quantile(p_counts bigint[], p_fraction double precision)
returns interval
language sql immutable parallel safe
begin atomic
  select make_interval(secs => c.lower + (c.upper - c.lower)
    * (p_fraction * c.total - (c.upto - c.count)) / c.count)
  from (
    select c.count,
      coalesce(b.bounds[c.place - 1], 0) as lower,
      -- What took longer than all bounds took as long as the last, or more.
      coalesce(b.bounds[c.place], b.bounds[cardinality(b.bounds)]) as upper,
      (sum(c.count) over (order by c.place))::double precision as upto,
      (sum(c.count) over ())::double precision as total,
      c.place
    from unnest(p_counts) with ordinality as c(count, place)
    cross join (select steady_queue_figure_bounds() as bounds) as b
  ) c
  where c.count > 0 and c.upto >= p_fraction * c.total
  order by c.place
  limit 1;
end;
comment on function steady_queue_quantile is 'The median (0.5), say, of what waits or runs count.';


-- What was done in each p_step of the last p_span, of one queue or (null) of all together: jobs
-- that ended, those of them that failed, and for how long they waited and ran. Steps in which
-- nothing ended are left out. For a p_span of up to two hours a p_step of a minute, of up to a day
-- ten minutes, of up to a week an hour is the least that is still known.
create function steady_queue_throughput_of(
  p_span interval,
  p_step interval,
  p_queue text default null
) returns table (
  at timestamptz, finished bigint, failed bigint,
  wait_p50 interval, wait_p95 interval, run_p50 interval, run_p95 interval
)
language sql stable
begin atomic
  with figures as materialized (
    select date_bin(p_step, f.minute, timestamptz '2000-01-01 00:00:00+00') as at,
      f.finished, f.failed, f.waits, f.runs
    from steady_queue_figures f
    where f.minute >= date_bin(
        p_step, statement_timestamp() - p_span, timestamptz '2000-01-01 00:00:00+00')
      and (p_queue is null or f.queue = p_queue)
  ), waits as (
    select w.at, array_agg(w.count order by w.place) as counts
    from (
      select f.at, w.place, sum(w.count)::bigint as count
      from figures f
      cross join unnest(f.waits) with ordinality as w(count, place)
      group by 1, 2
    ) w
    group by 1
  ), runs as (
    select r.at, array_agg(r.count order by r.place) as counts
    from (
      select f.at, r.place, sum(r.count)::bigint as count
      from figures f
      cross join unnest(f.runs) with ordinality as r(count, place)
      group by 1, 2
    ) r
    group by 1
  )
  select t.at, t.finished, t.failed,
    steady_queue_quantile(w.counts, 0.5), steady_queue_quantile(w.counts, 0.95),
    steady_queue_quantile(r.counts, 0.5), steady_queue_quantile(r.counts, 0.95)
  from (
    select f.at, sum(f.finished)::bigint as finished, sum(f.failed)::bigint as failed
    from figures f
    group by 1
  ) t
  left join waits w on w.at = t.at
  left join runs r on r.at = t.at
  order by t.at;
end;
comment on function steady_queue_throughput_of is
  'What was done, step by step: select * from steady_queue_throughput_of(''1 day'', ''10 minutes'', ''mail'').';


create view steady_queue_throughput as
select t.at as minute, q.queue, t.finished, t.failed, t.wait_p50, t.wait_p95, t.run_p50, t.run_p95
from (
  select distinct f.queue from steady_queue_figures f
  where f.minute > statement_timestamp() - interval '1 hour'
) q
cross join lateral steady_queue_throughput_of('1 hour', '1 minute', q.queue) t
order by t.at desc, q.queue;
comment on view steady_queue_throughput is
  'What each queue did in each minute of the last hour: jobs finished, those of them that failed, how long they waited and ran.';


create view steady_queue_totals as
select t.queue, t.task, t.finished, t.failed, t.waited, t.ran,
  coalesce(c.waits, '{}') as waits, coalesce(c.runs, '{}') as runs
from (
  select f.queue, f.task, sum(f.finished)::bigint as finished, sum(f.failed)::bigint as failed,
    sum(f.waited) as waited, sum(f.ran) as ran
  from steady_queue_figures f
  group by f.queue, f.task
) t
left join (
  select s.queue, s.task, array_agg(s.waits order by s.place) as waits,
    array_agg(s.runs order by s.place) as runs
  from (
    select f.queue, f.task, c.place, coalesce(sum(c.waits), 0)::bigint as waits,
      coalesce(sum(c.runs), 0)::bigint as runs
    from steady_queue_figures f
    cross join unnest(f.waits, f.runs) with ordinality as c(waits, runs, place)
    group by f.queue, f.task, c.place
  ) s
  group by s.queue, s.task
) c on (c.queue, c.task) = (t.queue, t.task)
order by t.queue, t.task;
comment on view steady_queue_totals is
  'What was ever done of each task in each queue, with the columns of steady_queue_figures: counters for metrics.';
