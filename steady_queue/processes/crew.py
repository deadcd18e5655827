"""The threads of a worker: they perform jobs, and nothing of the queue's is theirs."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from steady_queue.crash_points import reach
from steady_queue.performer import Performer
from steady_queue.processes.loop import EX_SOFTWARE, exit_now
from steady_queue.processes.started import StartedJobs
from steady_queue.queries import ClaimedJob, Outcome
from steady_queue.timeouts import Timeouts

logger = logging.getLogger("steady_queue")

SOON = 0.05
"""Seconds within which a job that was claimed ahead should start."""

MOST_AHEAD = 400
"""Jobs claimed ahead at most, however short they are."""

STALLED = 0.25
"""Seconds without a start after which jobs claimed ahead are given back."""


class Crew:
    """Threads that perform jobs handed to ``start`` and keep their outcomes for ``finished``.

    ``notice`` is called, from one of the threads, when the worker should look: a thread has
    nothing to do, or half a batch of outcomes has gathered.
    """

    def __init__(
        self, threads: int, worker_id: str, started: StartedJobs, notice: Callable[[], None]
    ) -> None:
        self.threads = threads
        self._worker_id = worker_id
        self._started = started
        self._notice = notice
        self.timeouts = Timeouts(notice)
        self._waiting: SimpleQueue[tuple[ClaimedJob, float]] = SimpleQueue()
        self._outcomes: deque[Outcome] = deque()
        self._suspects: deque[tuple[ClaimedJob, float]] = deque()
        self._overdue: deque[ClaimedJob] = deque()
        self._start_until, self._lapsed_at = float("inf"), 0.0
        self._alone = False
        self._held = 0
        self._jobs: set[int] = set()
        self.seconds_each = 1.0
        self._last_start = time.monotonic()
        for number in range(threads):
            threading.Thread(
                target=self._work_or_die, args=(number,), name=f"{worker_id}-{number}", daemon=True
            ).start()

    @property
    def held(self) -> int:
        """Jobs that were started or wait for a thread, and whose outcome was not taken yet."""
        return self._held

    @property
    def waiting(self) -> bool:
        """Whether a job waits for a thread."""
        return not self._waiting.empty()

    @property
    def jobs(self) -> list[int]:
        """The jobs that count as held."""
        return list(self._jobs)

    def room(self) -> int:
        """How many more jobs could start soon."""
        if self._suspects or self._alone:
            return 0
        return max(0, self.threads + self._ahead() - self._held + len(self._outcomes))

    def _ahead(self) -> int:
        """Jobs to hold beyond the threads: some when tasks are short, none when they are long."""
        return min(MOST_AHEAD, int(self.threads * SOON / self.seconds_each))

    def start(self, jobs: list[ClaimedJob]) -> None:
        """Hand jobs to the threads. A suspect waits until it can run alone."""
        if not jobs:
            return
        received_at = self._last_start = time.monotonic()
        self._held += len(jobs)
        self._jobs.update(job.id for job in jobs)
        for job in jobs:
            if job.suspect:
                self._suspects.append((job, received_at))
            else:
                self._waiting.put((job, received_at))
        self._start_suspect()

    def lease(self, until: float) -> None:
        """Jobs may be started until then; those that wait, unless an earlier lease has run out."""
        if (now := time.monotonic()) > self._start_until:
            self._lapsed_at = now
        self._start_until = until

    def overdue(self) -> list[ClaimedJob]:
        """The jobs whose thread found no lease: others may have them. They are no longer held."""
        jobs = [self._overdue.popleft() for _ in range(len(self._overdue))]
        if jobs:
            self._let_go(jobs)
            self._start_suspect()
        return jobs

    def finished(self) -> list[Outcome]:
        """The outcomes since the last call. The jobs no longer count as held."""
        outcomes = [self._outcomes.popleft() for _ in range(len(self._outcomes))]
        if outcomes:
            self._held -= len(outcomes)
            self._jobs.difference_update(outcome.job for outcome in outcomes)
            self._learn(outcomes)
            self._start_suspect()
        return outcomes

    def keep(self, outcomes: list[Outcome]) -> None:
        """Take outcomes back that could not be handed in."""
        self._held += len(outcomes)
        self._jobs.update(outcome.job for outcome in outcomes)
        self._outcomes.extendleft(reversed(outcomes))

    def hungry(self) -> bool:
        """Whether outcomes should be handed in now, not gathered further."""
        return not self.waiting or len(self._outcomes) > self._ahead() // 2

    def stalled(self) -> bool:
        """Whether jobs claimed ahead wait for threads that are busy with something long."""
        since_start = time.monotonic() - self._last_start
        if not self.waiting or since_start <= STALLED:
            return False
        # Else as many would be claimed ahead again.
        self.seconds_each = max(self.seconds_each, since_start)
        return True

    def give_back(self) -> list[ClaimedJob]:
        """The jobs that no thread has started; they are no longer held."""
        jobs = [job for job, _ in self._suspects]
        self._suspects.clear()
        with suppress(Empty):
            while True:
                jobs.append(self._waiting.get_nowait()[0])
        self._let_go(jobs)
        return jobs + self.overdue()

    def _let_go(self, jobs: list[ClaimedJob]) -> None:
        self._held -= len(jobs)
        self._jobs.difference_update(job.id for job in jobs)
        self._alone = self._alone and self._held > 0

    def _start_suspect(self) -> None:
        """Its last process died beside others' jobs: alone, the next death would say which."""
        if self._held == len(self._suspects):
            self._alone = bool(self._suspects)
            if self._suspects:
                self._waiting.put(self._suspects.popleft())

    def _learn(self, outcomes: list[Outcome]) -> None:
        mean = sum(outcome.ran for outcome in outcomes) / len(outcomes)
        # A long task is believed at once, short ones only by and by.
        weight = 1.0 if mean > self.seconds_each else 0.5
        self.seconds_each += weight * (mean - self.seconds_each)
        self.seconds_each = max(self.seconds_each, 1e-6)

    def _work_or_die(self, slot: int) -> None:
        """A thread that ended alone would keep its job for ever: the process ends with it."""
        try:
            self._work(slot)
        except BaseException:
            logger.exception("thread broken: process=%s", self._worker_id)
            exit_now(EX_SOFTWARE)

    def _work(self, slot: int) -> None:
        performer = Performer(self._worker_id, self.timeouts)
        while True:
            job, received_at = self._waiting.get()
            now = time.monotonic()
            if now > self._start_until or received_at <= self._lapsed_at:
                self._overdue.append(job)
                self._notice()
                continue
            self._last_start = now
            reach("perform.handed")
            self._started.note(slot, job.id)
            outcome = performer.perform(job, received_at)
            self._started.note(slot, 0)
            self._outcomes.append(outcome)
            if self.hungry():
                self._notice()
