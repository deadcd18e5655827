"""Tasks of the test suite. Those that run in other processes say what they did in table ``heard``."""

import time

from django.db import connection
from django.tasks import task

from steady_queue.concurrency import limits_concurrency


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
