from __future__ import annotations

import logging
import time
from collections import deque
from typing import Any

import psycopg

import steady_queue
from steady_queue import queries
from steady_queue.configuration import Worker as WorkerOptions
from steady_queue.crash_points import reach
from steady_queue.listener import LAST_LOOK_AGAIN, Listener, Rest
from steady_queue.logs import about
from steady_queue.performer import timed_out, unrecordable
from steady_queue.processes.crew import STALLED, Crew
from steady_queue.processes.figures import Figures
from steady_queue.processes.loop import EX_TEMPFAIL, Loop
from steady_queue.processes.marks import Marks
from steady_queue.processes.started import StartedJobs
from steady_queue.queries import ClaimedJob, Outcome

logger = logging.getLogger("steady_queue")

GATHER = 0.01
"""Seconds for which outcomes may gather, and within which short tasks are waited for."""

REFUSED = (psycopg.DataError, psycopg.IntegrityError)
"""What PostgreSQL answers to values that it cannot keep."""

REPLY_LOST_FOR = 25.0
"""Seconds after which a statement whose connection was lost has ended, one way or the other."""


def silent_for() -> float:
    """Seconds without a reply for which nobody calls this process dead.

    Its supervisor's last heartbeat may be older than the last reply.
    """
    threshold = steady_queue.process_alive_threshold
    since_heartbeat = min(steady_queue.process_heartbeat_interval, threshold / 2)
    return (threshold - since_heartbeat).total_seconds()


class Worker(Loop):
    """Claims jobs, lets its threads perform them, and hands in how they ended.

    One thread, the loop's, talks to the database: it hands in what has finished and takes what is
    next in one call and one commit.
    """

    kind = "worker"

    def __init__(self, options: WorkerOptions, started: StartedJobs, **process: Any) -> None:
        super().__init__(**process)
        self.queues = list(options.queues)
        self.started = started
        self.listener = Listener(queries.topics_to_wait_for(self.queues), self.queues)
        self.rest = Rest(self.listener, options.polling_interval.total_seconds())
        self.crew = Crew(options.threads, str(self.process_id), started, self.ring)
        self.figures = Figures(self.database)
        self.marks = Marks(self.database)
        self._busy: list[Outcome] = []
        self._told = False
        self._last_try_in = 0.0
        self._look_at = 0.0
        self._disown_at: list[float] = []

    def step(self) -> float:
        self.crew.timeouts.enforce()
        if self._is_stuck():
            self.stop()
            return 0.0
        return min(
            self._look(),
            self.listener.until_doubt(),
            self.crew.timeouts.left(),
            self.figures.write_when_due(),
        )

    def back_off(self, error: Exception) -> float:
        # What was announced to it is for those behind, until it can claim again.
        self.listener.step_aside()
        return super().back_off(error)

    def _look(self) -> float:
        woken, finished = self.listener.drain(), self.crew.finished()
        self._told |= bool(woken)
        if self.crew.overdue():
            self._disown_soon()
        elif not (woken or finished):
            if (early := self._look_at - time.monotonic()) > 0:
                return early
            if self._is_still_quiet():
                return self._sleep(self.rest.poll())
        # Due until all of it has been done: an error on the way leaves it so.
        self._look_at = 0.0
        room = self.crew.room()
        jobs = self.hand_in_and_claim(finished, room)
        self.crew.start(jobs)
        self._disown()
        self.marks.move_when_due(jobs)
        self._told |= self.listener.is_told()
        self.listener.looked(found=bool(jobs))
        seconds = self._rest_after(len(jobs), room)
        self.watch(self.listener.connection)
        return self._sleep(seconds)

    def _sleep(self, seconds: float) -> float:
        self._look_at = time.monotonic() + seconds
        return seconds

    def _is_still_quiet(self) -> bool:
        """Without a claim: one question for what is ready, and whether notifications would come."""
        if self.crew.held or self._disown_at or not self.listener.stands_in_line():
            return False
        return bool(self.listener.ask(lambda connection: queries.is_quiet(connection, self.queues)))

    def hand_in_and_claim(self, finished: list[Outcome], room: int) -> list[ClaimedJob]:
        """One round trip. Outcomes that the database did not take are kept for the next."""
        if not finished and not room:
            return []
        call, asked_at = "finish" if finished else "claim", time.monotonic()
        try:
            reach(f"{call}.before")
            refused, jobs = queries.finish_and_claim_jobs(
                self.database.connection(),
                self.process_id,
                finished,
                steady_queue.preserve_finished_jobs,
                self.queues,
                room,
                self.crew.followers(),
            )
            reach(f"{call}.after")
        except BaseException as error:
            self.crew.keep(finished)
            self._stop_if_unregistered(error)
            if isinstance(error, REFUSED):
                self._hand_in_one_by_one()
            if room:
                # The claim may have been committed, or be so yet: its reply is lost.
                self._disown_soon()
            raise
        self.crew.lease(asked_at + silent_for())
        self._look_at_refused(finished, refused)
        return jobs

    def shut_down(self) -> int:
        """Give back what was not started, wait for what runs, hand in how it ended."""
        deadline = time.monotonic() + steady_queue.shutdown_timeout.total_seconds()
        self.listener.leave()
        try:
            self._release(self.crew.give_back())
        except psycopg.Error as error:
            # Not lost: the supervisor puts them back when this process has ended.
            self.back_off(error)
        while self._hand_in_last() and (patience := deadline - time.monotonic()) > 0:
            self.crew.timeouts.enforce()
            if self.crew.held == len(self.crew.timeouts.stuck()):
                break
            self.wait(min(patience, self._last_try_in, self.crew.timeouts.left()))
        self._hand_in_stuck()
        self.figures.write_last()
        if not self.crew.held:
            return 0
        self.started.clear()
        return EX_TEMPFAIL

    def quit(self) -> None:
        self.started.clear()
        super().quit()

    def _disown_soon(self) -> None:
        """Now, and once more when a statement whose reply was lost has ended."""
        now = time.monotonic()
        self._disown_at = [now, now + REPLY_LOST_FOR]

    def _disown(self) -> None:
        """Put back what an earlier call has claimed, if its reply never came."""
        if self._disown_at and time.monotonic() >= self._disown_at[0]:
            connection = self.database.connection()
            count = queries.disown_jobs(connection, self.process_id, self.crew.jobs)
            if count is None:
                self._disown_at[0] = time.monotonic() + LAST_LOOK_AGAIN
                return
            self._disown_at.pop(0)
            if count:
                logger.warning("disowned: process=%s jobs=%s", self.name, count)

    def _rest_after(self, claimed: int, room: int) -> float:
        self._release(self.crew.stalled())
        seconds = self.rest.look_again() if self._busy else self._until_event(claimed, room)
        if self.crew.waiting:
            seconds = min(seconds, STALLED)
        if self._disown_at:
            seconds = min(seconds, max(0.0, self._disown_at[0] - time.monotonic()))
        return seconds

    def _until_event(self, claimed: int, room: int) -> float:
        # Until a look has left room: what was announced may be more than this process took.
        told, self._told = self._told, False
        if claimed == room:
            self.rest.after_full(told)
            return self._until_finished()
        if claimed and self.crew.seconds_each < GATHER:
            # An outcome is near, and the next look with it.
            return GATHER
        if not self.rest.before_sleep():
            return self.rest.look_again()
        if not queries.is_quiet(self.database.connection(), self.queues):
            return self.rest.look_again()
        return self.rest.poll()

    def _until_finished(self) -> float:
        """Every thread has work: the next event is an outcome."""
        if self.crew.room():
            return 0 if self.crew.hungry() else GATHER
        return self.rest.poll()

    def _hand_in_last(self) -> bool:
        """Whether jobs are still held after their outcomes were handed in, or not taken."""
        self._last_try_in = self.rest.poll()
        try:
            self.hand_in_and_claim(self.crew.finished(), 0)
        except psycopg.Error as error:
            self._last_try_in = self.back_off(error)
        return self.crew.held > 0

    def _is_stuck(self) -> bool:
        """Whether a task did not stop when told to: a thread cannot be ended, a process can."""
        for deadline in (stuck := self.crew.timeouts.stuck()):
            logger.error(
                "stuck: job=%s process=%s timeout=%s; a new process takes its place",
                deadline.job.id,
                self.name,
                deadline.timeout,
                extra=self._about(deadline.job),
            )
        return bool(stuck)

    def _hand_in_stuck(self) -> None:
        """Last of all: the process ends with it, and the tasks that are still running in it."""
        if stuck := self.crew.timeouts.stuck():
            self.crew.keep([timed_out(deadline) for deadline in stuck])
            self._hand_in_last()

    def _release(self, jobs: list[ClaimedJob]) -> None:
        if not jobs:
            return
        try:
            left = queries.release_jobs(self.database.connection(), jobs)
            reach("release.after")
            if left:
                # Somebody has locked them: put back when they are free.
                self._disown_at.insert(0, time.monotonic() + LAST_LOOK_AGAIN)
        except psycopg.Error:
            # Nobody here knows them any more: they are disowned.
            self._disown_soon()
            raise

    def _hand_in_one_by_one(self) -> None:
        """PostgreSQL would not record one of the outcomes: the others are not to wait for it."""
        self.database.connection().rollback()
        outcomes = deque(self.crew.finished())
        try:
            while outcomes:
                self._hand_in_alone(outcomes[0])
                outcomes.popleft()
        finally:
            self.crew.keep(list(outcomes))

    def _hand_in_alone(self, outcome: Outcome) -> None:
        connection, keep = self.database.connection(), steady_queue.preserve_finished_jobs
        try:
            refusals, _ = queries.finish_and_claim_jobs(
                connection, self.process_id, [outcome], keep, self.queues, 0
            )
            self._look_at_refused([outcome], refusals)
        except REFUSED as error:
            connection.rollback()
            logger.error(
                "outcome refused: job=%s reason=%r",
                outcome.job.id,
                str(error).strip(),
                extra=self._about(outcome.job),
            )
            self.crew.keep([unrecordable(outcome, error)])

    def _look_at_refused(self, finished: list[Outcome], refused: dict[int, str]) -> None:
        for outcome in finished if refused else ():
            if refused.get(outcome.job.id) == "stale":
                logger.warning(
                    "stale: job=%s process=%s; another has it, or its outcome stands already",
                    outcome.job.id,
                    self.name,
                    extra=self._about(outcome.job),
                )
        self.figures.count(finished, refused)
        self._busy = [o for o in finished if refused.get(o.job.id) == "busy"]
        self.crew.keep(self._busy)
        if len(self._busy) < len(finished):
            self.rest.begin_anew()

    def _about(self, job: ClaimedJob) -> dict[str, Any]:
        return about(job, str(self.process_id))

    def _stop_if_unregistered(self, error: BaseException) -> None:
        if isinstance(error, psycopg.Error) and error.sqlstate == "SQ001":
            logger.warning("unregistered: process=%s; a new one takes its place", self.name)
            self.stop()
