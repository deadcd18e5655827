"""What a queue under measurement can do, and the command line of its own environment.

A peer is one file beside this one with a class ``Peer``: its class attributes are read by
``compare``, its methods run inside the environment in which it is installed. Nothing of a product's
is imported at the top of the file.
"""

from __future__ import annotations

import importlib
import json
import os
import struct
import sys
import time
from typing import Any


class BasePeer:
    store = "postgres"
    requirements: list[str] = []
    workers: dict[str, Any] = {}
    """Arguments of ``work`` for each process of a configuration: "default" and "best"."""

    jobs = {"default": 20_000, "best": 20_000, "limited": 5000}
    """In a drain of each configuration, and of jobs with one limit key: enough for some seconds."""

    left = ""
    """What the store has to be asked for the number of jobs that have not ended."""

    bulk = True
    """Whether it has a call that enqueues many at once."""

    fast = False
    """Whether a drain of 200,000 jobs takes seconds."""

    limits = False
    """Whether it limits how many jobs of a key run at once."""

    def install(self) -> None:
        """Make its tables in an empty database."""
        raise NotImplementedError

    def connect(self) -> None:
        """Get ready to enqueue."""

    def enqueue(self, number: int) -> None:
        """In a transaction of its own."""
        raise NotImplementedError

    def enqueue_many(self, numbers: range) -> None:
        for number in numbers:
            self.enqueue(number)

    def enqueue_limited(self, numbers: range, to: int) -> None:
        """At most so many of them at once."""
        raise NotImplementedError

    def work(self, *arguments: Any) -> None:
        """Be a worker, until killed."""
        raise NotImplementedError


def record(number: int, file: list[int] = []) -> None:  # noqa: B006, opened once
    """The body of every task: one appended write of its number and the time."""
    if not file:
        file.append(os.open(os.environ["BENCH_RECORDS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT))
    os.write(file[0], struct.pack("<qq", number, time.time_ns()))


def dsn() -> str:
    return os.environ["BENCH_DSN"]


def parameters() -> dict[str, str]:
    return dict(part.split("=", 1) for part in dsn().split())


def _enqueue_for(peer: BasePeer, seconds: float, at_once: int) -> dict[str, float]:
    """Jobs a second, and microseconds of this process's CPU for each."""
    peer.enqueue_many(range(at_once)) if at_once > 1 else peer.enqueue(0)
    began, cpu, count = time.monotonic(), time.process_time(), 0
    while time.monotonic() < began + seconds:
        if at_once > 1:
            peer.enqueue_many(range(at_once))
        else:
            peer.enqueue(count)
        count += at_once
    return {
        "rate": count / (time.monotonic() - began),
        "cpu": (time.process_time() - cpu) / count * 1e6,
    }


def _enqueue_now_and_then(peer: BasePeer, count: int, every: float) -> list[int]:
    """The moment before each call, in nanoseconds."""
    moments = []
    for number in range(count):
        moments.append(time.time_ns())
        peer.enqueue(number)
        # Spread, so that it does not fall in step with anybody's interval.
        time.sleep(every * (0.8 + 0.4 * (number * 7919 % 100) / 100))
    return moments


def main() -> None:
    name, command, *arguments = sys.argv[1:]
    peer: BasePeer = importlib.import_module(name).Peer()
    values = [json.loads(argument) for argument in arguments]
    if command == "work":
        peer.work(*values)
    elif command == "install":
        peer.install()
    else:
        peer.connect()
        if command == "fill":
            for first in range(0, values[0], 1000):
                peer.enqueue_many(range(first, min(first + 1000, values[0])))
        elif command == "fill_limited":
            peer.enqueue_limited(range(values[0]), values[1])
        elif command == "enqueue_for":
            print(json.dumps(_enqueue_for(peer, *values)))
        else:
            print(json.dumps(_enqueue_now_and_then(peer, *values)))


if __name__ == "__main__":
    sys.modules["peer"] = sys.modules["__main__"]
    main()
