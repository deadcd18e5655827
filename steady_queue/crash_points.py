"""Named points of a job's life at which a test makes the process fail; in production, nothing.

`STEADY_QUEUE_CRASH_POINTS` names a folder, and a file in it with the name of a point arms that
point: the first process that comes there removes the file and does what it says. Where the variable
is not set when this module is imported, `reach` is an empty function.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg

POINTS = (
    "enqueue.before",
    "enqueue.after",
    "claim.before",
    "claim.after",
    "perform.handed",
    "perform.before",
    "perform.after",
    "finish.before",
    "finish.after",
    "release.after",
    "dispatch.after",
    "recover.after",
    "heartbeat.after",
    "schedule.before_commit",
    "schedule.after_commit",
    "arm.after",
)

DELAY = 1.0
"""Seconds of the action "delay": longer than a test lets a process be silent."""

EXIT_STATUS = 99


class CrashPoint(Exception):
    """Raised by the action "raise": an error that nobody has foreseen."""


FOLDER = os.environ.get("STEADY_QUEUE_CRASH_POINTS")


def _reach_nothing(point: str) -> None:
    pass


def _reach(point: str) -> None:
    assert point in POINTS, point
    action = _disarm(Path(FOLDER or "", point))
    if action:
        ACTIONS[action](point)


reach: Callable[[str], None] = _reach if FOLDER else _reach_nothing


def _disarm(armed: Path) -> str | None:
    """The action, for the one process that gets to rename the file."""
    taken = armed.with_name(f"{armed.name}.{os.getpid()}")
    try:
        armed.rename(taken)
    except FileNotFoundError:
        return None
    action = taken.read_text()
    taken.unlink()
    return action


def _exit(point: str) -> None:
    os._exit(EXIT_STATUS)


def _raise(point: str) -> None:
    raise CrashPoint(point)


def _delay(point: str) -> None:
    time.sleep(DELAY)


def _drop(point: str) -> None:
    """Cut every connection of this process; whoever uses one next finds out."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError), socket.socket(fileno=os.dup(fd)) as end:
            # Nameless ones are the two ends of a pair, which lead nowhere.
            if end.getpeername():
                end.shutdown(socket.SHUT_RDWR)


def _lose(point: str) -> None:
    """As if the connection had been cut before the reply came."""
    _drop(point)
    raise psycopg.OperationalError(f"the connection was lost at {point}")


ACTIONS: dict[str, Callable[[str], None]] = {
    "exit": _exit,
    "raise": _raise,
    "delay": _delay,
    "drop": _drop,
    "lose": _lose,
}
