"""The one shape of every process: look, do, rest, until told to stop."""

from __future__ import annotations

import logging
import os
import random
import selectors
import signal
import socket
import sys
from contextlib import suppress
from types import FrameType
from typing import Any, ClassVar

import psycopg
from django.dispatch import Signal

from steady_queue import signals
from steady_queue.connections import LOST, Database

logger = logging.getLogger("steady_queue")

FIRST_BACK_OFF, LAST_BACK_OFF = 0.05, 2.0
"""Seconds between tries while the database is away."""

EX_SOFTWARE = 70
"""Exit status of a process that met an error which nobody had foreseen."""

EX_TEMPFAIL = 75
"""Exit status of a process that was stopped while tasks still ran."""


class Sender:
    """Sender of the signals in ``steady_queue.signals``."""


class Loop:
    """Looks for something to do, does it, and sleeps until an event or a moment.

    Subclasses say what in ``step``, which returns how many seconds to sleep at most, and how to
    end in ``shut_down``. A database that is away never ends the loop.
    """

    kind: ClassVar[str]

    def __init__(self, name: str, process_id: int = 0, lifeline: int | None = None) -> None:
        self.name = name
        self.process_id = process_id
        self.stopping = False
        self._began = False
        self.database = Database()
        self._back_off = FIRST_BACK_OFF
        self._selector = selectors.DefaultSelector()
        self._ear, self._bell = socket.socketpair()
        self._ear.setblocking(False)
        self._bell.setblocking(False)
        self._selector.register(self._ear, selectors.EVENT_READ)
        self._rung = False
        self._lifeline = lifeline
        if lifeline is not None:
            self._selector.register(lifeline, selectors.EVENT_READ)

    def step(self) -> float:
        """Do what there is to do; seconds to sleep at most. May raise psycopg.Error."""
        raise NotImplementedError

    def shut_down(self) -> int:
        """End gracefully; the exit status of the process."""
        return 0

    def run(self) -> int:
        """Run until told to stop; the exit status of the process."""
        self._listen_to_signals()
        while not self.stopping:
            self.wait(self._step())
        status = self.shut_down()
        self._tell(signals.process_stopped)
        return status

    def _step(self) -> float:
        try:
            seconds = self.step()
        except psycopg.Error as error:
            return self.back_off(error)
        self._back_off = FIRST_BACK_OFF
        if not self._began:
            self._began = True
            self._tell(signals.process_started)
        return seconds

    def back_off(self, error: Exception) -> float:
        """Drop the connection; seconds until the next try."""
        logger.warning(
            f"{_trouble(error)}: process=%s error=%s reason=%r",
            self.name,
            type(error).__name__,
            str(error).strip()[:300],
        )
        self.database.drop()
        self._back_off = min(self._back_off * 2, LAST_BACK_OFF)
        return self._back_off * random.uniform(0.5, 1.0)

    def wait(self, seconds: float) -> None:
        """Sleep until the bell rings, a watched file is readable, or the time is over."""
        for key, _ in self._selector.select(max(seconds, 0)):
            if key.fileobj is self._ear:
                with suppress(BlockingIOError):
                    self._ear.recv(4096)
                # Before the step looks: whoever rings after this look rings again.
                self._rung = False
            elif key.fileobj == self._lifeline:
                # The supervisor has died: its end of the pipe is closed.
                self._selector.unregister(key.fileobj)
                self._lifeline = None
                self.stop()

    def ring(self) -> None:
        """Wake the loop, from any thread or signal handler."""
        if not self._rung:
            self._rung = True
            with suppress(BlockingIOError):
                self._bell.send(b"\0")

    def watch(self, connection: psycopg.Connection[Any] | None) -> None:
        """Let ``wait`` end when this connection can be read, too (None: none can).

        Told apart as objects: a new connection often has the number of the file just closed.
        """
        own = (self._ear, self._lifeline)
        for key in [k for k in self._selector.get_map().values() if k.fileobj not in own]:
            if key.fileobj is connection:
                return
            self._selector.unregister(key.fd)
        if connection is not None:
            self._selector.register(connection, selectors.EVENT_READ)

    def stop(self) -> None:
        self.stopping = True
        self.ring()

    def quit(self) -> None:
        """End at once, from a signal handler: what runs is put back, without charge."""
        os._exit(EX_TEMPFAIL)

    def _listen_to_signals(self) -> None:
        # Bytes of the signals' own make a select() return that had started before they came.
        signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGQUIT, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGQUIT:
            self.quit()
        self.stop()

    def _tell(self, sent: Signal, **more: object) -> None:
        sent.send_robust(
            Sender,
            kind=self.kind,
            name=self.name,
            process_id=self.process_id,
            pid=os.getpid(),
            **more,
        )
        logger.info(
            "%s: process=%s id=%s pid=%s", _verb(sent), self.name, self.process_id, os.getpid()
        )


def _trouble(error: Exception) -> str:
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        # A standby: it is promoted one day, or the next connection leads elsewhere.
        return "database read-only"
    if isinstance(error, LOST):
        return "database away"
    return "database refused" if isinstance(error, psycopg.Error) else "broken"


def _verb(sent: Signal) -> str:
    names = {
        id(signals.process_started): "started",
        id(signals.process_stopped): "stopped",
        id(signals.process_restarted): "restarted",
    }
    return names[id(sent)]


def exit_now(status: int) -> None:
    """End the process without waiting for threads that a task may hold up."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
