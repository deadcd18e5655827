"""The work of the chaos run. Every job has a token, by which the ledger knows it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import threading
from datetime import timedelta

from django.tasks import task

from steady_queue.concurrency import limits_concurrency
from steady_queue.retries import retry_on
from tests.chaos import history


@task(takes_context=True)
def work(context, token, seconds):
    with history.noted(context, token):
        history.pause(seconds)
        history.write(history.EFFECT, token)


@limits_concurrency(key=lambda token, seconds, key: key, to=1)
@task(takes_context=True)
def limited_to_1(context, token, seconds, key):
    _limited(context, token, seconds, f"1 {key}", 1)


@limits_concurrency(key=lambda token, seconds, key: key, to=2)
@task(takes_context=True)
def limited_to_2(context, token, seconds, key):
    _limited(context, token, seconds, f"2 {key}", 2)


@limits_concurrency(key=lambda token, seconds, key: key, to=5, group="five")
@task(takes_context=True)
def limited_to_5(context, token, seconds, key):
    _limited(context, token, seconds, f"5 {key}", 5)


@limits_concurrency(key=lambda token, seconds, key: key, to=2, group="five")
@task(takes_context=True)
def lowered_to_2(context, token, seconds, key):
    _limited(context, token, seconds, f"5 {key}", 2)


def _limited(context, token, seconds, key, to):
    with history.noted(context, token, key, to):
        history.pause(seconds)
        history.write(history.EFFECT, token)


@retry_on(OSError, attempts=3, wait=timedelta(milliseconds=200))
@task(takes_context=True)
def flaky(context, token, seconds):
    with history.noted(context, token):
        history.pause(seconds)
        if context.attempt == 1:
            raise OSError("not yet")
        history.write(history.EFFECT, token)


@task(takes_context=True)
def poison(context, token, kind):
    with history.noted(context, token) as run:
        if kind in KILLERS:
            history.write(history.DEATH, history.now(), run)
            KILLERS[kind]()
        if kind == "leaks":
            # A thread that the end of the process must not wait for.
            threading.Thread(target=threading.Event().wait, daemon=False).start()
        raise RAISERS.get(kind, ValueError(kind))


@task(takes_context=True)
def tick(context, key):
    with history.noted(context, key):
        pass


class Rude(BaseException):
    pass


RAISERS = {
    "value": ValueError("x" * 100_000),
    "exit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
    "generator": GeneratorExit(),
    "cancelled": asyncio.CancelledError(),
    "rude": Rude(),
    "memory": MemoryError(),
    "recursion": RecursionError(),
    "nul": ValueError("a\x00b\ud800c"),
}
KILLERS = {
    "exits": lambda: os._exit(7),
    "kills": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfaults": lambda: ctypes.string_at(0),
}

LIMITED = {1: limited_to_1, 2: limited_to_2, 5: limited_to_5}
LOWERED = {**LIMITED, 5: lowered_to_2}
"""After a release that lowers a limit."""
