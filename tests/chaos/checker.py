"""Looks every few seconds whether what must be true at any time is true."""

from __future__ import annotations

import threading
import time
from collections import Counter
from datetime import timedelta

import psycopg

EVERY = 5.0

THRESHOLD, MAINTAINED_EVERY = timedelta(seconds=3), timedelta(seconds=2)

TAKE_TIME = (
    "a free slot is handed over",
    "a running job has a live process",
    "a due job is dispatched",
    "a ready job is claimed",
)
"""What may be late while faults go on: a violation when it is found in three looks in a row."""

CHECK = "select invariant, subject, found from steady_queue_check(%s, %s)"
SILENT = """
    select s.pid from steady_queue_processes s
    where s.kind = 'supervisor' and s.heartbeat_at < clock_timestamp() - %s::interval
      -- Where everybody is silent, nobody is called dead for it.
      and exists (
        select from steady_queue_processes o
        where o.kind = 'supervisor' and o.heartbeat_at > clock_timestamp() - interval '2 s')
"""


class Checker(threading.Thread):
    """Collects ``violations``; and ``silences``, pid and moment, of supervisors in a live database.

    A busy machine may keep a supervisor from its heartbeats: the others are then right to call it
    dead, although nobody did it any harm.
    """

    def __init__(self, url: str) -> None:
        super().__init__(name="checker", daemon=True)
        self.violations: list[str] = []
        self.silences: list[tuple[int, float]] = []
        self.looks = 0
        self.stopped = threading.Event()
        self._url = url
        self._late: Counter[tuple[str, str]] = Counter()
        self._connection: psycopg.Connection | None = None
        self._up_since = 0.0

    def run(self) -> None:
        look_at = time.monotonic()
        while not self.stopped.wait(0.5):
            try:
                self._listen_for_silence()
                if time.monotonic() >= look_at:
                    look_at = time.monotonic() + EVERY
                    self.look()
            except psycopg.Error:
                self._connection = None

    def connection(self) -> psycopg.Connection:
        if self._connection is None:
            self._connection = psycopg.connect(
                self._url, autocommit=True, application_name="checker"
            )
            self._up_since = time.monotonic()
        return self._connection

    def look(self) -> None:
        connection = self.connection()
        with connection.transaction():
            connection.execute("set transaction isolation level repeatable read read only")
            # A table that the killer has locked is no violation.
            connection.execute("set local statement_timeout = '4s'")
            found = connection.execute(CHECK, [THRESHOLD, MAINTAINED_EVERY]).fetchall()
        self.looks += 1
        late = {(i, subject) for i, subject, _ in found if i in TAKE_TIME}
        self._late = Counter({one: self._late[one] + 1 for one in late})
        for invariant, subject, what in found:
            if invariant not in TAKE_TIME or self._late[invariant, subject] == 3:
                self.violations.append(f"{invariant}: {subject}: {what}")

    def _listen_for_silence(self) -> None:
        connection = self.connection()
        connection.execute("set statement_timeout = '4s'")
        silent = connection.execute(SILENT, [THRESHOLD]).fetchall()
        # Nor after an outage.
        if time.monotonic() - self._up_since > 2 * THRESHOLD.total_seconds():
            self.silences += [(pid, time.time()) for (pid,) in silent]
