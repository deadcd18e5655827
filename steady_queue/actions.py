"""What people may do to jobs and queues, in the words of the admin and of the command line.

Each is one function of ``sql/schema/80_steer.sql``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import steady_queue
from steady_queue import queries, signals

WAITING = ("ready", "scheduled", "blocked")
UNFINISHED = (*WAITING, "running")
STATES = (*UNFINISHED, "successful", "failed", "discarded")

BATCH = 1000
"""Jobs that are acted upon in one transaction."""


@dataclass(frozen=True)
class Action:
    """Something that is done to jobs in some states; ``act`` says to how many it was done.

    ``done`` is the word for the admin's log, ``said`` what has become of the jobs.
    """

    act: Callable[[str, Sequence[int]], int]
    states: tuple[str, ...]
    done: str
    said: str


RETRY = Action(queries.retry_jobs, ("failed", "discarded"), "retried", "are ready again")
DISCARD = Action(queries.discard_jobs, WAITING, "discarded", "were discarded")
RUN_NOW = Action(queries.run_jobs_now, ("scheduled",), "run now", "are ready now")


def pause_queue(sender: type, queue: str) -> bool:
    """False when it was paused already."""
    changed = queries.pause_queue(steady_queue.database, queue)
    signals.queue_paused.send_robust(sender, queue_name=queue, changed=changed)
    return changed


def resume_queue(sender: type, queue: str) -> bool:
    """False when it was not paused."""
    changed = queries.resume_queue(steady_queue.database, queue)
    signals.queue_resumed.send_robust(sender, queue_name=queue, changed=changed)
    return changed
