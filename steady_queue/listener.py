"""How a process sleeps until there is something to do, and misses nothing."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg import pq

import steady_queue
from steady_queue import queries
from steady_queue.connections import (
    LOST,
    PatientConnection,
    configure_direct,
    connection_parameters,
)
from steady_queue.crash_points import reach
from steady_queue.line import Line
from steady_queue.queries import Connection

logger = logging.getLogger("steady_queue")

CHANNEL = "steady_queue"

ANY_QUEUE = "queue:*"

LOOKS_BEFORE_ARMING = 2
"""Producers notify only while somebody is armed: an empty look or two saves a notification."""

FIRST_LOOK_AGAIN, LAST_LOOK_AGAIN = 0.005, 0.25
"""Seconds between looks while it is not certain that nothing is there."""

POLLING_WITHOUT_LISTEN = 1.0
"""Seconds between looks where LISTEN does not work, at most."""

ASKED_AFTER = 4
"""Times its patience after which a connection that nothing came by is asked whether it lives."""

LAST_PATIENCE = 1.0
"""Seconds for which a process that ends waits for a reply."""

BUSY_AFTER = 3
"""Looks in a row that filled every slot, after which the process stops asking to be notified."""


class Listener:
    """A LISTEN connection, and the lock on it that says: somebody waits for these topics.

    An armed listener holds the lock, so that producers send NOTIFY. The order is always: LISTEN,
    arm, prove that every producer that looked before has ended, look. ``proven`` is a note of that,
    true for as long as the listener stays armed.

    A worker gives its ``queues``. It stands in line for each topic whose jobs it would all take;
    who waits for a prefix comes whenever one of its queues is announced.
    See docs/explanation/waking-up.md.
    """

    def __init__(self, topics: list[str], queues: Sequence[str] = ()) -> None:
        self.topics = topics
        self.lines = {
            topic: Line(topic)
            for topic in (topics if queues else ())
            if topic != ANY_QUEUE or "*" in queues
        }
        self._prefixes = tuple(f"queue:{queue[:-1]}" for queue in queues if queue.endswith("*"))
        self._lost: list[int] = []
        self._left: set[int] = set()
        self.armed = False
        self.proven = False
        self._heard: set[str] = set()
        self.connection: PatientConnection | None = None
        self._ask_at = 0.0
        self._said_that_it_polls = False

    def arm(self) -> bool:
        """Start to wait. False where LISTEN does not work: the caller has to poll."""
        try:
            if self.connection is None:
                self._connect()
            if self.connection and not self.armed:
                queries.start_waiting(self.connection, self.topics)
                reach("arm.after")
                self.armed = True
                self._stand_in_line(self.connection)
        except (*LOST, psycopg.errors.InsufficientPrivilege) as error:
            self.close()
            self._say_that_it_polls(error)
        return self.armed

    def stand_in_line(self) -> bool:
        """Where it has no place, at the end; where it is unsure who is ahead, it asks.

        False: it is no longer armed.
        """
        try:
            if self.connection:
                self._stand_in_line(self.connection)
        except LOST:
            self.close()
        return self.armed

    def step_aside(self) -> None:
        """Leave the lines to those behind: this process has no room for more."""
        if not (self.connection and (places := self._leave_lines())):
            return
        try:
            queries.leave_lines(self.connection, list(places), list(places.values()))
        except psycopg.Error:
            # With its session its places end for sure.
            self._lost += places.values()
            self.close()

    def disarm(self) -> None:
        """Stop to wait: producers save their notifications while this process is busy."""
        self.step_aside()
        if self.connection and self.armed:
            self.armed = self.proven = False
            try:
                queries.stop_waiting(self.connection, self.topics)
            except LOST:
                self.close()

    def answers(self) -> bool:
        """Whether its silence means that nothing was sent: now and then it asks the server.

        False: it is no longer armed, or something came meanwhile.
        """
        if time.monotonic() >= self._ask_at:
            self.ask(lambda connection: connection.execute(""))
        return self.armed and not self._heard

    def ask[Answer](self, question: Callable[[Connection], Answer]) -> Answer | None:
        """Asks by the connection that notifications come by, which is then known to live.

        None: it is not armed, or no longer.
        """
        if not (self.connection and self.armed):
            return None
        try:
            answer = question(self.connection)
        except LOST as error:
            logger.warning("listening in vain, connecting anew: error=%r", str(error).strip())
            self.close()
            return None
        self._ask_at = time.monotonic() + ASKED_AFTER * self.connection.patience
        return answer

    def drain(self) -> set[str]:
        """The topics, of those waited for, that were announced since the last call."""
        if self.connection:
            try:
                self._read(self.connection.pgconn)
            except LOST:
                # Whatever was sent meanwhile is lost: arm and look again.
                self.close()
                self._heard.update(self.topics)
        now = time.monotonic()
        self._heard.update(line.topic for line in self.lines.values() if line.doubt_at <= now)
        self._left.clear()
        heard, self._heard = self._heard, set()
        return heard

    def until_doubt(self) -> float:
        """Seconds until ``drain`` answers although nothing more was announced."""
        if self._heard:
            # With the reply to a question: the connection shows no more of it.
            return 0.0
        moments = [line.doubt_at for line in self.lines.values()]
        return max(0.0, min(moments, default=float("inf")) - time.monotonic())

    def stands_in_line(self) -> bool:
        """Whether it has its places, and no reason to ask who is ahead."""
        return all(line.ticket and not line.unsure for line in self.lines.values())

    def is_told(self) -> bool:
        """Whether others were told of jobs, that this process has not looked for since."""
        return any(line.is_announced for line in self.lines.values())

    def looked(self, found: bool) -> None:
        """The process has looked for jobs, after ``drain``."""
        for line in self.lines.values():
            line.looked(found)

    def leave(self) -> None:
        """At the end of its process, which has little time: the others need not miss it."""
        if self.connection:
            self.connection.patience = LAST_PATIENCE
        self.step_aside()
        self.close()

    def close(self) -> None:
        self._lost += self._leave_lines().values()
        self.armed = self.proven = False
        if self.connection:
            self.connection.close()
            self.connection = None

    def _connect(self) -> None:
        alias = steady_queue.listen_database or steady_queue.database
        parameters = connection_parameters(alias)
        connection = PatientConnection.connect(**parameters, autocommit=True)
        try:
            if not is_direct(connection):
                raise psycopg.OperationalError(
                    "the address leads to a transaction pooler; give steady_queue.listen_database "
                    "an alias with a direct one"
                )
            configure_direct(connection, alias)
            connection.add_notify_handler(lambda notify: self._hear(notify.payload))
            connection.execute(f"listen {CHANNEL}")
        except BaseException:
            connection.close()
            raise
        self.connection = connection
        self._ask_at = time.monotonic() + ASKED_AFTER * connection.patience
        self._said_that_it_polls = False

    def _read(self, pgconn: pq.abc.PGconn) -> None:
        pgconn.consume_input()
        while notify := pgconn.notifies():
            self._hear(notify.extra.decode(errors="replace"))

    def _stand_in_line(self, connection: PatientConnection) -> None:
        if outside := [topic for topic, line in self.lines.items() if line.ticket is None]:
            for topic, ticket, ahead in queries.join_lines(connection, outside, self._lost):
                self.lines[topic].join(ticket, ahead)
            self._lost.clear()
        for line in self.lines.values():
            if line.unsure and line.ticket:
                line.know(queries.ahead_in_line(connection, line.topic, line.ticket))
        for ticket in self._left:
            # While the answer that still counts them was on its way.
            self._hear_of_leaving(ticket)

    def _leave_lines(self) -> dict[str, int]:
        """The tickets that it had."""
        places = {topic: line.leave() for topic, line in self.lines.items()}
        return {topic: ticket for topic, ticket in places.items() if ticket}

    def _hear(self, payload: str) -> None:
        word, _, ticket = payload.partition(" ")
        if word == "left":
            self._hear_of_leaving(int(ticket) if ticket.isdecimal() else None)
        elif self._awaits(payload) and self._comes(payload):
            self._heard.add(payload)

    def _hear_of_leaving(self, ticket: int | None) -> None:
        if ticket is not None:
            self._left.add(ticket)
        for line in self.lines.values():
            if ticket is None:
                line.unsure = True
                self._heard.add(line.topic)
            elif line.hear_of_leaving(ticket):
                self._heard.add(line.topic)

    def _awaits(self, topic: str) -> bool:
        return topic in self.topics or topic.startswith(self._prefixes)

    def _comes(self, topic: str) -> bool:
        """Whether it is for this process to look: it is the first of a line, or stands in none."""
        topics = {topic, ANY_QUEUE} if topic.startswith("queue:") else {topic}
        come = [self.lines[topic].comes() for topic in topics & self.lines.keys()]
        return not come or any(come)

    def _say_that_it_polls(self, error: Exception) -> None:
        if not self._said_that_it_polls:
            self._said_that_it_polls = True
            logger.warning("listen failed, polling instead: error=%r", str(error).strip())


def is_direct(connection: psycopg.Connection[Any]) -> bool:
    """Session locks taken through a transaction pooler would say "somebody waits" for ever."""
    row = connection.execute("select pg_backend_pid()").fetchone()
    return row is not None and row[0] == connection.info.backend_pid


class Rest:
    """How long a process may sleep after a look, by what the look found."""

    def __init__(self, listener: Listener, polling_interval: float) -> None:
        self._listener = listener
        self._polling_interval = polling_interval
        self._looks = 0
        self._busy = 0
        self._again = FIRST_LOOK_AGAIN

    def after_full(self, told: bool = False) -> None:
        """The look found all that was asked for: no need to be notified.

        ``told``: it was notified, and there may be more than it took.
        """
        if told:
            self._listener.step_aside()
        self.begin_anew()
        self._looks = 0
        self._busy += 1
        if self._busy >= BUSY_AFTER:
            self._listener.disarm()

    def before_sleep(self) -> bool:
        """Whether the process is armed, after a look that left it with nothing more to do.

        False: look again after ``look_again()`` seconds.
        """
        self._busy = 0
        if self._listener.armed:
            return self._listener.stand_in_line() and self._listener.answers()
        self._looks += 1
        return self._looks > LOOKS_BEFORE_ARMING and self._listener.arm()

    def until_proven(self, connection: Connection) -> float | None:
        """Seconds to the next look while something may have been missed; None: nothing can be."""
        if not self.before_sleep():
            return self.look_again()
        if not self._listener.proven:
            topics = self._listener.topics
            self._listener.proven = queries.producers_ended(connection, topics)
            return 0.0 if self._listener.proven else self.look_again()
        return None

    def begin_anew(self) -> None:
        """Something has changed: the next look comes soon."""
        self._again = FIRST_LOOK_AGAIN

    def look_again(self) -> float:
        """Seconds to the next look, while something may be there: 5 ms, rising to 250."""
        if self._cannot_listen():
            return self.poll()
        seconds, self._again = self._again, min(self._again * 2, LAST_LOOK_AGAIN)
        return seconds

    def poll(self) -> float:
        """Seconds to the next look, when nothing is there; with jitter."""
        self.begin_anew()
        self._looks = 0
        interval = self._polling_interval
        if not self._listener.armed:
            interval = min(interval, POLLING_WITHOUT_LISTEN)
        return interval * random.uniform(0.9, 1.1)

    def _cannot_listen(self) -> bool:
        return self._looks > LOOKS_BEFORE_ARMING and not self._listener.armed
