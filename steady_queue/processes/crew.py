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

MOST_AHEAD = 1600
"""Jobs claimed ahead at most, however short they are."""

STALLED = 0.25
"""Seconds without a start after which jobs claimed ahead are given back."""

MOST_FOLLOWERS = 20
"""Jobs that follow another in its slot of a limit at most, however short they are."""

FOLLOWS_WITHIN = 1.0
"""Seconds after its claim within which a follower starts, if at all: its guarantee is longer
(steady_queue_follow_jobs)."""


class Followers:
    """Jobs in the slot of a limit that another has: the same thread performs them after it.

    The loop adds them, before the first is handed to a thread, and may give back those that the
    thread has not taken.
    """

    def __init__(self, received_at: float) -> None:
        self._jobs: deque[ClaimedJob] = deque()
        self._until = received_at + FOLLOWS_WITHIN
        self._last_start = received_at

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: ClaimedJob) -> None:
        self._jobs.append(job)

    def note_start(self) -> None:
        """Their thread begins with the job before the next."""
        self._last_start = time.monotonic()

    def next(self) -> ClaimedJob | None:
        """The next one, unless none is left or it is too late."""
        if time.monotonic() > self._until:
            return None
        with suppress(IndexError):
            return self._jobs.popleft()
        return None

    def stalled(self) -> bool:
        """Whether their thread is busy with something long, or will not take them any more."""
        now = time.monotonic()
        return now > self._until or now - self._last_start > STALLED

    def give_back(self) -> list[ClaimedJob]:
        jobs = []
        with suppress(IndexError):
            while True:
                jobs.append(self._jobs.popleft())
        return jobs


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
        self._waiting: SimpleQueue[tuple[ClaimedJob, float, Followers | None]] = SimpleQueue()
        self._followers: list[Followers] = []
        self._outcomes: deque[Outcome] = deque()
        self._suspects: deque[tuple[ClaimedJob, float]] = deque()
        self._overdue: deque[ClaimedJob] = deque()
        self._start_until, self._lapsed_at = float("inf"), 0.0
        self._alone = False
        self._held = 0
        self._jobs: set[int] = set()
        self.seconds_each = 1.0
        self._seconds_each_limited = 1.0
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
        """Whether a job waits for a thread, or an outcome to be taken.

        In this order: a thread leaves the outcome before it takes the follower.
        """
        return not self._waiting.empty() or any(self._followers) or bool(self._outcomes)

    @property
    def jobs(self) -> list[int]:
        """The jobs that count as held."""
        return list(self._jobs)

    def room(self) -> int:
        """How many more jobs could start soon."""
        if self._suspects or self._alone:
            return 0
        return max(0, self.threads + self._ahead() - self._held + len(self._outcomes))

    def followers(self) -> int:
        """How many jobs may follow another in its slot: some when limited tasks are short."""
        return min(MOST_FOLLOWERS, int(SOON / self._seconds_each_limited))

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
        # All of them found before a thread takes the first.
        for job, followers in self._with_followers(jobs, received_at):
            if job.suspect:
                self._suspects.append((job, received_at))
            else:
                self._waiting.put((job, received_at, followers))
        self._start_suspect()

    def _with_followers(
        self, jobs: list[ClaimedJob], received_at: float
    ) -> list[tuple[ClaimedJob, Followers | None]]:
        """The jobs to hand to threads, each with those that follow it in its slot."""
        slots: dict[int, Followers] = {}
        firsts: list[tuple[ClaimedJob, Followers | None]] = []
        for job in jobs:
            if job.slot is None:
                firsts.append((job, None))
            elif job.slot in slots:
                slots[job.slot].add(job)
            else:
                slots[job.slot] = Followers(received_at)
                firsts.append((job, slots[job.slot]))
        self._followers = [left for left in (*self._followers, *slots.values()) if left]
        return firsts

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
            self._jobs.difference_update(outcome.job.id for outcome in outcomes)
            self._learn(outcomes)
            self._start_suspect()
        return outcomes

    def keep(self, outcomes: list[Outcome]) -> None:
        """Take outcomes back that could not be handed in."""
        self._held += len(outcomes)
        self._jobs.update(outcome.job.id for outcome in outcomes)
        self._outcomes.extendleft(reversed(outcomes))

    def hungry(self) -> bool:
        """Whether outcomes should be handed in now, not gathered further."""
        return self._waiting.empty() or self._many_outcomes()

    def _many_outcomes(self) -> bool:
        return len(self._outcomes) > self._ahead() // 2

    def stalled(self) -> list[ClaimedJob]:
        """Jobs claimed ahead, for threads that are busy with something long. No longer held."""
        since_start = time.monotonic() - self._last_start
        if not self._waiting.empty() and since_start > STALLED:
            # Else as many would be claimed ahead again.
            self.seconds_each = max(self.seconds_each, since_start)
            return self.give_back()
        stalled = [left for left in self._followers if left.stalled()]
        jobs = [job for left in stalled for job in left.give_back()]
        if jobs:
            self._seconds_each_limited = max(self._seconds_each_limited, STALLED)
            self._let_go(jobs)
        return jobs

    def give_back(self) -> list[ClaimedJob]:
        """The jobs that no thread has started; they are no longer held."""
        jobs = [job for job, _ in self._suspects]
        self._suspects.clear()
        with suppress(Empty):
            while True:
                jobs.append(self._waiting.get_nowait()[0])
        jobs += [job for left in self._followers for job in left.give_back()]
        self._let_go(jobs)
        return jobs + self.overdue()

    def _let_go(self, jobs: list[ClaimedJob]) -> None:
        self._held -= len(jobs)
        self._jobs.difference_update(job.id for job in jobs)
        self._alone = self._alone and self._held > 0
        self._followers = [left for left in self._followers if left]

    def _start_suspect(self) -> None:
        """Its last process died beside others' jobs: alone, the next death would say which."""
        if self._held == len(self._suspects):
            self._alone = bool(self._suspects)
            if self._suspects:
                self._waiting.put((*self._suspects.popleft(), None))

    def _learn(self, outcomes: list[Outcome]) -> None:
        self.seconds_each = _learned(self.seconds_each, [outcome.ran for outcome in outcomes])
        if limited := [outcome.ran for outcome in outcomes if outcome.job.limit_key is not None]:
            self._seconds_each_limited = _learned(self._seconds_each_limited, limited)

    def _work_or_die(self, thread: int) -> None:
        """A thread that ended alone would keep its job for ever: the process ends with it."""
        try:
            self._work(thread)
        except BaseException:
            logger.exception("thread broken: process=%s", self._worker_id)
            exit_now(EX_SOFTWARE)

    def _work(self, thread: int) -> None:
        performer = Performer(self._worker_id, self.timeouts)
        while True:
            job, received_at, followers = self._waiting.get()
            if self._has_lapsed(received_at):
                self._overdue.append(job)
                self._notice()
                continue
            self._perform(performer, thread, job, received_at, followers)
            while followers and not self._has_lapsed(received_at):
                if not (follower := followers.next()):
                    break
                self._perform(performer, thread, follower, received_at, followers)
            if self.hungry():
                self._notice()

    def _has_lapsed(self, received_at: float) -> bool:
        """Whether others may have what was received then."""
        return time.monotonic() > self._start_until or received_at <= self._lapsed_at

    def _perform(
        self,
        performer: Performer,
        thread: int,
        job: ClaimedJob,
        received_at: float,
        followers: Followers | None,
    ) -> None:
        self._last_start = time.monotonic()
        if followers:
            followers.note_start()
        reach("perform.handed")
        self._started.note(thread, job.id)
        outcome = performer.perform(job, received_at)
        self._started.note(thread, 0)
        self._outcomes.append(outcome)
        if followers and self._many_outcomes():
            self._notice()


def _learned(seconds: float, spans: list[float]) -> float:
    """How long a job takes, after these: a long one is believed at once, short ones by and by."""
    mean = sum(spans) / len(spans)
    weight = 1.0 if mean > seconds else 0.5
    return max(seconds + weight * (mean - seconds), 1e-6)
