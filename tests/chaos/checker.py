"""Looks every few seconds whether what must be true at any time is true."""

from __future__ import annotations

import threading
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
"""What may be late while faults go on: a violation when it is found in many looks in a row."""

IDLE = """
    select 'no transaction is idle', pid::text, format('for %s', clock_timestamp() - state_change)
    from pg_stat_activity
    where application_name = 'steady_queue' and state like 'idle in transaction%'
      and state_change < clock_timestamp() - interval '10 s'
"""
CHECK = "select invariant, subject, found from steady_queue_check(%s, %s)"


class Checker(threading.Thread):
    """Collects ``violations``. ``patience`` is in seconds."""

    def __init__(self, url: str, patience: float) -> None:
        super().__init__(name="checker", daemon=True)
        self.violations: list[str] = []
        self.looks = 0
        self.stopped = threading.Event()
        self._url = url
        self._too_many = int(patience / 4 / EVERY)
        self._late: Counter[tuple[str, str]] = Counter()
        self._connection: psycopg.Connection | None = None

    def run(self) -> None:
        while not self.stopped.wait(EVERY):
            try:
                self.look()
            except psycopg.Error:
                self._connection = None

    def connection(self) -> psycopg.Connection:
        if self._connection is None:
            self._connection = psycopg.connect(
                self._url, autocommit=True, application_name="checker"
            )
        return self._connection

    def look(self) -> None:
        connection = self.connection()
        with connection.transaction():
            connection.execute("set transaction isolation level repeatable read read only")
            # A table that the killer has locked is no violation.
            connection.execute("set local statement_timeout = '4s'")
            found = connection.execute(CHECK, [THRESHOLD, MAINTAINED_EVERY]).fetchall()
            found += connection.execute(IDLE).fetchall()
        self.looks += 1
        late = {(i, subject) for i, subject, _ in found if i in TAKE_TIME}
        self._late = Counter({one: self._late[one] + 1 for one in late})
        for invariant, subject, what in found:
            if invariant not in TAKE_TIME or self._late[invariant, subject] == self._too_many:
                self.violations.append(f"{invariant}: {subject}: {what}")
