"""What the tasks did, as they say themselves: one row a run, on connections of its own.

The connections go past the proxies, and what they write is written again until it stands.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

TABLES = """
    create table chaos_runs (
      run uuid primary key,
      job bigint not null,
      token text not null,
      attempt integer not null,
      process bigint not null,
      limit_key text,
      limit_to integer,
      pid integer not null,
      parent integer not null,
      started double precision not null,
      ended double precision,
      died double precision
    );
    create table chaos_effects (token text primary key);
    create table chaos_releases (
      job bigint, process bigint, at double precision, steady_since double precision);
    create function chaos_note_release() returns trigger language plpgsql as $$
    begin
      insert into public.chaos_releases
      values (old.job, old.process, extract(epoch from clock_timestamp()), (
        select extract(epoch from min(steady_since)) from public.steady_queue_processes
        where kind = 'supervisor' and heartbeat_at > clock_timestamp() - interval '2 s'));
      return null;
    end $$;
    create trigger chaos_note_release after delete on steady_queue_running
      for each row execute function chaos_note_release();
    create table chaos_removals (process bigint, silent_for double precision, at double precision);
    create function chaos_note_removal() returns trigger language plpgsql as $$
    begin
      insert into public.chaos_removals
      values (old.id, extract(epoch from clock_timestamp() - old.heartbeat_at),
        extract(epoch from clock_timestamp()));
      return null;
    end $$;
    create trigger chaos_note_removal after delete on steady_queue_processes
      for each row execute function chaos_note_removal();
"""
START = """
    insert into chaos_runs
      (run, job, token, attempt, process, limit_key, limit_to, pid, parent, started)
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing
"""
END = "update chaos_runs set ended = %s where run = %s"
DEATH = "update chaos_runs set died = %s where run = %s"
EFFECT = "insert into chaos_effects (token) values (%s) on conflict do nothing"

# The clock on the wall of a host may be moved, but not this one, which all hosts here share.
BEGAN_AT = float(os.environ.get("CHAOS_BEGAN_AT", "0"))

_own = threading.local()


def now() -> float:
    return BEGAN_AT + time.monotonic()


def pause(seconds: float) -> None:
    """What time.sleep() does, unless the clock can be moved: then that raises OSError."""
    threading.Event().wait(seconds)


def write(statement: str, *arguments: Any) -> None:
    """Until it is written, however often the server goes away."""
    while True:
        try:
            if getattr(_own, "connection", None) is None:
                url = os.environ["CHAOS_DIRECT"]
                _own.connection = psycopg.connect(url, autocommit=True, application_name="history")
            _own.connection.execute(statement, arguments)
            return
        except psycopg.OperationalError:
            _own.connection = None
            pause(0.1)


@contextmanager
def noted(context: Any, token: str, key: str | None = None, to: int | None = None) -> Iterator[str]:
    """A run, from its first line to its last, with the moments of the code, not of the rows."""
    run = uuid.uuid4().hex
    job = int(context.task_result.id)
    process = int(context.task_result.worker_ids[-1])
    me = (os.getpid(), os.getppid(), now())
    write(START, run, job, token, context.attempt, process, key, to, *me)
    try:
        yield run
    finally:
        write(END, now(), run)
