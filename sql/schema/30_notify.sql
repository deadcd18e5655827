-- Waking up. A topic is what a process can wait for: 'queue:' and a queue's name, 'queue:*' for any
-- queue, 'scheduled' for earlier due times. NOTIFY takes a lock that is shared by the whole server,
-- so one is sent only when somebody waits for the topic.
--
-- "Somebody waits" is a shared session lock on the waiting process's LISTEN connection: visible at
-- once at every isolation level, no dead rows, gone with the connection. A producer holds a second
-- lock, shared, from before it looks until its transaction has ended. Who waits therefore has a
-- proof that nothing was missed: it sets its lock, then gets the producers' lock exclusively for a
-- moment. Whoever looked before has ended by then, and whoever looks after sees the lock.

create function steady_queue_waiting_key(p_topic text) returns bigint
language sql immutable strict parallel safe
begin atomic
  select hashtextextended('steady_queue:waiting:' || p_topic, 0);
end;
comment on function steady_queue_waiting_key is 'The advisory lock that says: somebody waits for this topic.';

create function steady_queue_producing_key(p_topic text) returns bigint
language sql immutable strict parallel safe
begin atomic
  select hashtextextended('steady_queue:producing:' || p_topic, 0);
end;
comment on function steady_queue_producing_key is 'The advisory lock that producers of this topic share until their transactions end.';


-- True when a process waits for the topic. Two callers that collide both see true: one notification
-- too many, which is harmless. (Not strict: it could not be inlined.)
create function steady_queue_is_awaited(p_topic text) returns boolean
language sql volatile
begin atomic
  select case
    when pg_try_advisory_lock(steady_queue_waiting_key(p_topic))
    then not pg_advisory_unlock(steady_queue_waiting_key(p_topic))
    else true
  end;
end;
comment on function steady_queue_is_awaited is 'Whether a process waits for this topic: only then is NOTIFY worth its lock.';


-- Tells whoever waits for the topic, at commit. Never waits for another transaction. One expression,
-- read in its order: PostgreSQL makes it a part of the caller's statement, which saves each enqueue a
-- call.
create function steady_queue_announce(p_topic text) returns void
language sql volatile
begin atomic
  select case
    when pg_advisory_xact_lock_shared(steady_queue_producing_key(p_topic)) is null then null
    when steady_queue_is_awaited(p_topic)
      or (p_topic like 'queue:%' and steady_queue_is_awaited('queue:*'))
    then pg_notify('steady_queue', p_topic)
  end;
end;
comment on function steady_queue_announce is 'Sends NOTIFY steady_queue with this topic at commit, if somebody waits for it.';


-- Ready rows of a queue without a lane are announced under 'queue:*' too: a process that waits for
-- any queue cannot know the name yet. Who says 'later' announces itself what
-- there is to say (steady_queue_enqueue_job, steady_queue_finish_and_claim_jobs).
create function steady_queue_announce_ready() returns trigger
language plpgsql
set search_path from current
set plan_cache_mode = force_generic_plan
as $$
declare
  v_topic text;
begin
  for v_topic in
    select 'queue:' || l.queue
    from (select distinct a.lane from added a) a
    join steady_queue_lanes l on l.id = a.lane
  loop
    perform steady_queue_announce(v_topic);
  end loop;
  -- Apart, because reading jobs would make serializable producers conflict with each other.
  if exists (select from added a where a.lane = 0) then
    for v_topic in
      select distinct unnest(array['queue:' || j.queue, 'queue:*'])
      from added a
      join steady_queue_jobs j on j.id = a.job
      where a.lane = 0
    loop
      perform steady_queue_announce(v_topic);
    end loop;
  end if;
  return null;
end
$$;
comment on function steady_queue_announce_ready is 'Announces each queue that got ready jobs, once a statement.';

create trigger steady_queue_announce_ready
after insert on steady_queue_ready
referencing new table as added
for each statement
when (current_setting('steady_queue.announce', true) is distinct from 'later')
execute function steady_queue_announce_ready();


create function steady_queue_announce_scheduled() returns trigger
language plpgsql
set search_path from current
as $$
begin
  if exists (select from added) then
    perform steady_queue_announce('scheduled');
  end if;
  return null;
end
$$;
comment on function steady_queue_announce_scheduled is 'Announces that the next due time may have moved.';

create trigger steady_queue_announce_scheduled
after insert on steady_queue_scheduled
referencing new table as added
for each statement execute function steady_queue_announce_scheduled();


-- Says, on a LISTEN connection, that its process waits for these topics. Session locks: they end
-- with the connection, or with steady_queue_stop_waiting. Call it once for each set of topics.
create function steady_queue_start_waiting(p_topics text[]) returns void
language sql volatile strict
begin atomic
  select pg_advisory_lock_shared(steady_queue_waiting_key(t)) from unnest(p_topics) as t;
end;
comment on function steady_queue_start_waiting is 'From now on producers of these topics send NOTIFY.';

create function steady_queue_stop_waiting(p_topics text[]) returns void
language sql volatile strict
begin atomic
  select pg_advisory_unlock_shared(steady_queue_waiting_key(t)) from unnest(p_topics) as t;
end;
comment on function steady_queue_stop_waiting is 'Undoes steady_queue_start_waiting.';


-- True when every producer that may have looked before the caller started to wait has ended.
-- False says nothing: ask again soon.
create function steady_queue_producers_ended(p_topics text[]) returns boolean
language sql volatile strict
begin atomic
  select coalesce(bool_and(case
    when pg_try_advisory_lock(steady_queue_producing_key(t))
    then pg_advisory_unlock(steady_queue_producing_key(t))
    else false
  end), true)
  from unnest(p_topics) as t;
end;
comment on function steady_queue_producers_ended is 'The proof that a process which waits has missed no announcement.';


-- The line. All that wait for a topic hear of it, and one of them is enough: whoever waits longest
-- comes, and the others only if it does not (steady_queue/line.py). A ticket says since when a
-- process waits; it is a session lock on its LISTEN connection, too. No ticket is given twice until
-- the sequence begins anew, after two thousand million.
create sequence steady_queue_tickets as integer cycle;
comment on sequence steady_queue_tickets is
  'Tickets of processes that wait in line, one each time that one joins it.';

create function steady_queue_line_key(p_topic text) returns integer
language sql immutable strict parallel safe
begin atomic
  select hashtext('steady_queue:line:' || p_topic) & 2147483647;
end;
comment on function steady_queue_line_key is 'The first half of the advisory locks that are the tickets of a topic''s line.';


-- The tickets in the line of a topic that came before this one.
create function steady_queue_ahead_in_line(p_topic text, p_ticket integer) returns integer[]
language sql volatile strict
begin atomic
  select coalesce(array_agg(l.objid::bigint::integer), '{}')
  from pg_locks l
  where l.locktype = 'advisory'
    and l.database = (select d.oid from pg_database d where d.datname = current_database())
    and l.classid::bigint = steady_queue_line_key(p_topic)
    and l.objsubid = 2
    and l.objid::bigint < p_ticket;
end;
comment on function steady_queue_ahead_in_line is 'Who waits for this topic for longer than the holder of this ticket.';


-- Takes a ticket for each of these topics, on a LISTEN connection; returns them with those ahead of
-- them. p_lost are tickets of the caller's that it lost with an earlier connection: the others are
-- told. Waits for nobody but others who join at the same moment.
create function steady_queue_join_lines(p_topics text[], p_lost integer[] default '{}')
returns table (topic text, ticket integer, ahead integer[])
language plpgsql
set search_path from current
as $$
begin
  perform pg_notify('steady_queue', 'left ' || t) from unnest(p_lost) as t;
  for topic in select t from unnest(p_topics) as t order by t loop
    -- Else two that join at once might each be ahead of the other in its own eyes, or neither.
    perform pg_advisory_xact_lock(hashtextextended('steady_queue:line:' || topic, 0));
    ticket := nextval('steady_queue_tickets');
    perform pg_advisory_lock(steady_queue_line_key(topic), ticket);
    ahead := steady_queue_ahead_in_line(topic, ticket);
    return next;
  end loop;
end
$$;
comment on function steady_queue_join_lines is 'Takes a place at the end of each topic''s line of waiting processes.';


-- Gives up these tickets of the connection's, and tells the others.
create function steady_queue_leave_lines(p_topics text[], p_tickets integer[]) returns void
language plpgsql
set search_path from current
as $$
begin
  perform pg_advisory_unlock(steady_queue_line_key(l.topic), l.ticket),
    pg_notify('steady_queue', 'left ' || l.ticket)
  from unnest(p_topics, p_tickets) as l(topic, ticket);
end
$$;
comment on function steady_queue_leave_lines is 'Leaves the lines of waiting processes, and says so to those behind.';
