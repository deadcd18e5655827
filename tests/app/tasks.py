"""Tasks of the test suite. Where a task ran elsewhere, the table ``heard`` has what it said."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

from django.db import DatabaseError, ProgrammingError, connection
from django.tasks import task

from steady_queue.concurrency import limits_concurrency
from steady_queue.retries import Retry, discard_on, retry_on
from steady_queue.timeouts import TaskTimeout, times_out
from tests.app import GATE


def say(word: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("insert into heard (word) values (%s)", [str(word)])
        cursor.execute("notify changed")


@task()
def noop(*args, **kwargs):
    pass


@task()
def speak(word):
    say(word)


@task()
def tell_time():
    say(datetime.now(UTC).isoformat())


@task()
def fail(message="boom"):
    raise ValueError(message)


@task()
def nap(seconds, word="nap"):
    say(f"{word} begins")
    time.sleep(seconds)
    say(f"{word} ends")


@task(takes_context=True)
def tell_context(context, word):
    say(f"{word} attempt {context.attempt} of {context.task_result.id}")


@limits_concurrency(key=lambda key, *args: key, to=2)
@task()
def limited(key, seconds=0.0):
    say(f"{key} begins")
    time.sleep(seconds)
    say(f"{key} ends")


@limits_concurrency(key="one")
@task()
def one_at_a_time(word="one"):
    say(word)


@limits_concurrency(key="only", on_conflict="discard")
@task()
def only_one(word="only"):
    say(word)


def pass_gate(word, seconds=0.0):
    say(f"{word} begins")
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from heard where word = %s", [f"{word} begins"])
        gate = GATE - 1 + cursor.fetchone()[0]
        cursor.execute("select pg_advisory_lock(%s), pg_advisory_unlock(%s)", [gate, gate])
    time.sleep(seconds)
    say(f"{word} ends")


@task()
def gated(word):
    pass_gate(word)


@limits_concurrency(key="gated", to=2)
@task()
def limited_gated(word):
    pass_gate(word)


@limits_concurrency(key=lambda key, *args: key, to=2)
@task()
def limited_gated_by_key(key, seconds):
    pass_gate(key, seconds)


@limits_concurrency(key="only gated", on_conflict="discard")
@task()
def only_one_gated(word):
    pass_gate(word)


class Rude(BaseException):
    pass


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no")


@task()
def poison(kind):
    say(f"{kind} taken")
    POISONS[kind]()


@limits_concurrency(key=lambda kind: kind, group="poison")
@task()
def limited_poison(kind):
    poison.func(kind)


@limits_concurrency(key=lambda kind: kind, group="poison")
@task()
def limited_neighbour(kind):
    say(f"{kind} neighbour")


def raise_(error):
    def run():
        raise error

    return run


def leave_transaction_open():
    connection.set_autocommit(False)
    with connection.cursor() as cursor:
        cursor.execute("insert into heard (word) values ('never committed')")


def abort_transaction():
    leave_transaction_open()
    with connection.cursor() as cursor, contextlib.suppress(ProgrammingError):
        cursor.execute("select nothing")


def fork_and_return():
    """In the child, the task returns as if it were the parent's."""
    if pid := os.fork():
        os.waitpid(pid, 0)


def recurse():
    recurse()


POISONS = {
    "exit": lambda: os._exit(7),
    "exit as if all were well": lambda: os._exit(0),
    "exit as if told to": lambda: os._exit(75),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: ctypes.string_at(0),
    "sys.exit": lambda: sys.exit(3),
    "interrupt": raise_(KeyboardInterrupt()),
    "generator exit": raise_(GeneratorExit()),
    "cancelled": raise_(asyncio.CancelledError()),
    "own base exception": raise_(Rude("rude")),
    "memory": raise_(MemoryError()),
    "recursion": recurse,
    "unspeakable": raise_(Unspeakable()),
    "ten megabytes": raise_(ValueError("x" * 10_000_000)),
    "nul": raise_(ValueError("a\x00b\ud800c")),
    "transaction": leave_transaction_open,
    "aborted transaction": abort_transaction,
    "fork": fork_and_return,
    "closed connection": lambda: connection.connection.close(),
    "thread": lambda: threading.Thread(target=threading.Event().wait, daemon=True).start(),
}


@task()
def return_this(kind):
    return {"big": "x" * 100_000_000, "not json": object()}[kind]


@task(queue_name="mail", priority=7)
def urgent():
    pass


@retry_on(OSError, attempts=4, wait=timedelta(0))
@task(takes_context=True)
def stubborn(context, succeeds_at):
    say(f"attempt {context.attempt}, {len(context.task_result.errors)} errors")
    if context.attempt < succeeds_at:
        raise OSError("not yet")


@discard_on(LookupError)
@task()
def give_up():
    raise LookupError


@task(takes_context=True)
def ask_again(context):
    say(f"attempt {context.attempt}")
    if context.attempt == 1:
        raise Retry(after=timedelta(milliseconds=1))


@retry_on(OSError, wait=timedelta(hours=1))
@limits_concurrency(key="flaky")
@task()
def limited_flaky(word, fails):
    if fails:
        raise OSError
    say(word)


@task()
def wait_for(path):
    """Ends when somebody writes to the FIFO; touches no database."""
    with open(path) as fifo:
        fifo.read()


@task()
def note(path):
    """Adds a line to a file; touches no database."""
    with open(path, "a") as file:
        file.write("noted\n")


@retry_on(OSError, wait=timedelta(0))
@task(takes_context=True)
def stubborn_nap(context):
    """Long the first time it starts, and fails once."""
    say(f"attempt {context.attempt}")
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from heard")
        [starts] = cursor.fetchone()
    if starts == 1:
        time.sleep(3600)
    if context.attempt == 1:
        raise OSError


@task(takes_context=True)
def give_in(context):
    say(f"attempt {context.attempt}")
    raise ValueError


@retry_on(Exception, attempts=3, wait=timedelta(0))
@task()
def persist(word):
    say(word)


@retry_on(Exception, attempts=3, wait=timedelta(0))
@limits_concurrency(key="persist")
@task()
def persist_alone(word):
    say(word)


@retry_on(Exception, attempts=3, wait=timedelta(0))
@task()
def persist_nap(seconds, word="nap"):
    say(f"{word} begins")
    time.sleep(seconds)


@task()
def hold_the_interpreter(path, word):
    """No other thread of the process runs until somebody opens the FIFO for writing."""
    say(f"{word} begins")
    os.close(ctypes.PyDLL(None).open(os.fsencode(path), os.O_RDONLY))
    say(f"{word} ends")


@task()
def leave_a_thread(word):
    """One that the interpreter would wait for at its end."""
    threading.Thread(target=threading.Event().wait, daemon=False).start()
    say(word)


def turn():
    while True:
        pass


def say_even_late(word):
    """Its timeout may come before it is said."""
    while True:
        try:
            return say(word)
        except (TaskTimeout, DatabaseError):
            connection.close()


def swallow():
    while True:
        try:
            turn()
        except TaskTimeout:
            say("swallowed")


def query(seconds):
    with connection.cursor() as cursor:
        cursor.execute("select pg_sleep(%s)", [seconds])


ENDLESS = {
    "loop": turn,
    "query": lambda: query(3600),
    "sleep": lambda: time.sleep(3600),
    "swallow": swallow,
    "nothing": lambda: None,
}


@times_out(after=timedelta(seconds=0.5))
@task()
def endless(kind):
    """Of what does not stop the beginning is always said."""
    (say_even_late if kind in ("sleep", "swallow") else say)(f"{kind} begins")
    ENDLESS[kind]()


@limits_concurrency(key="endless")
@times_out(after=timedelta(seconds=0.5))
@task()
def limited_endless(kind):
    endless.func(kind)


@task()
def loop_forever():
    turn()


@retry_on(TaskTimeout, attempts=3, wait=timedelta(0))
@times_out(after=timedelta(seconds=0.5))
@task(takes_context=True)
def endless_twice(context):
    say(f"attempt {context.attempt}")
    if context.attempt < 3:
        turn()


@times_out(after=timedelta(milliseconds=20))
@task()
def just_in_time(seconds):
    """Ends about when its timeout comes."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
