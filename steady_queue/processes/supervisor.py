from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, BinaryIO

import psycopg

import steady_queue
from steady_queue import queries, recurring_task, signals
from steady_queue.configuration import Dispatcher, Options, Worker
from steady_queue.crash_points import reach
from steady_queue.processes.child import Assignment
from steady_queue.processes.loop import Loop
from steady_queue.processes.started import StartedJobs
from steady_queue.task import known_lanes

logger = logging.getLogger("steady_queue")

LONGEST_RESPAWN = 30.0
"""Seconds at most between the death of a child that cannot live and its next start."""

QUIT_WITHIN = 2
"""Whole seconds that a supervisor has after QUIT to put jobs back."""

LEAVE_WITHIN = 10.0
"""Seconds for which a supervisor that ends tries to put jobs back: the database may be away."""

RECOVER_AGAIN = 0.1
"""Seconds until a recovery that found a limit locked is tried again."""

STEADY_AFTER = 10.0
"""Seconds of life after which a child's death counts as its first."""


@dataclass
class Child:
    """A place in the configuration, and the process that fills it."""

    kind: str
    options: Worker | Dispatcher | None
    name: str
    process_id: int = 0
    process: subprocess.Popen[bytes] | None = None
    started: StartedJobs | None = None
    started_file: BinaryIO | None = None
    born_at: float = 0.0
    frozen_at: float | None = None
    given_up: bool = False
    deaths: int = 0
    respawn_at: float = 0.0
    reason: str = ""

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else 0

    @property
    def frozen_for(self) -> timedelta:
        since = time.monotonic() if self.frozen_at is None else self.frozen_at
        return timedelta(seconds=time.monotonic() - since)

    @property
    def is_silent(self) -> bool:
        """Whether it has not run for a whole interval: nobody is to say that it lives."""
        return self.frozen_for >= steady_queue.process_heartbeat_interval


@dataclass
class Lost:
    """A process that ended, and whose jobs have to be put back."""

    process_id: int
    reason: str
    started: list[int] = field(default_factory=list)


class Supervisor(Loop):
    """Starts the children, replaces those that die, and says that the others live.

    Puts the jobs of a dead child back at once: it knows of the death by its wait status, and what
    the child had started by the memory that they share.
    """

    kind = "supervisor"

    def __init__(self, options: Options, autoload: bool = True) -> None:
        host = socket.gethostname()
        super().__init__(name=f"supervisor-{host}-{os.getpid()}")
        self.host = host
        self.autoload = autoload
        self.children = list(_children(options))
        self.lost: list[Lost] = []
        self._lifeline_read, self._lifeline_write = os.pipe()
        self._heartbeat_at = 0.0
        self._recover_at = 0.0
        self._prepared = self._quitting = False
        self._born_at = time.monotonic()
        self._recurring_tasks = options.recurring_tasks
        self._recurring = not (options.only_work or options.skip_recurring)

    def step(self) -> float:
        self._bury()
        if not self._prepared:
            self._prepare()
        self._heartbeat()
        self._recover()
        for child in self.children:
            if child.process is None and time.monotonic() >= child.respawn_at:
                self._spawn(child)
        return self._until_next()

    def _step(self) -> float:
        try:
            return super()._step()
        except Exception as error:
            # Nobody stands above it to replace it: what nobody has foreseen is tried again, too.
            logger.exception("broken: process=%s", self.name)
            return self.back_off(error)

    def shut_down(self) -> int:
        """Stop the children gracefully, kill those that do not stop, put back what they held."""
        self._signal_children(signal.SIGTERM)
        patience = 0.0 if self._quitting else steady_queue.shutdown_timeout.total_seconds() + 2
        deadline = time.monotonic() + patience
        while self._living() and (left := deadline - time.monotonic()) > 0:
            self.wait(min(left, self._vouch()))
            self._bury()
        self._signal_children(signal.SIGKILL)
        for child in self._living():
            child.process.wait()  # type: ignore[union-attr]
        self._bury(charge=False)
        self._leave()
        return 128 + signal.SIGQUIT if self._quitting else 0

    def quit(self) -> None:
        """Called in a signal handler, perhaps amid a query: only what is safe there."""
        self._quitting = True
        self._signal_children(signal.SIGKILL)
        self.stop()
        # If the database keeps us waiting, others will find the numbers silent.
        signal.alarm(QUIT_WITHIN)

    def _signal_children(self, number: int) -> None:
        for child in self._living():
            child.process.send_signal(number)  # type: ignore[union-attr]

    def _vouch(self) -> float:
        """Keep the children's numbers alive while they stop; seconds to the next time."""
        try:
            self._heartbeat()
        except psycopg.Error as error:
            return self.back_off(error)
        return max(0.0, self._heartbeat_at - time.monotonic())

    def _listen_to_signals(self) -> None:
        super()._listen_to_signals()
        # Only so that the wake-up file is written to.
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def _living(self) -> list[Child]:
        return [c for c in self.children if c.process is not None and c.process.returncode is None]

    def _bury(self, charge: bool = True) -> None:
        """Notice children that ended."""
        for child in self.children:
            if child.process is not None and child.process.poll() is not None:
                self._mourn(child, charge)

    def _mourn(self, child: Child, charge: bool) -> None:
        assert child.process is not None
        status = child.process.returncode
        reason = f"{child.name} (pid {child.pid}) {_cause(status)}"
        if child.given_up:
            reason += f", frozen for longer than {steady_queue.process_alive_threshold}"
        started = child.started.jobs() if child.started and charge else []
        child.reason = reason
        self.lost.append(Lost(child.process_id, reason, started))
        lived = time.monotonic() - child.born_at
        child.deaths = 1 if lived > STEADY_AFTER else child.deaths + 1
        wait = 0.0 if child.deaths == 1 else min(2.0 ** (child.deaths - 2), LONGEST_RESPAWN)
        child.respawn_at = time.monotonic() + wait
        child.process, child.frozen_at, child.given_up = None, None, False
        self._close_memory(child)
        if status and not self.stopping:
            logger.error(
                "died: process=%s jobs_started=%s next_start_in=%.1fs", reason, len(started), wait
            )

    def _recover(self) -> None:
        for lost in self.lost.copy():
            count = queries.recover_jobs(
                self.database.connection(),
                lost.process_id,
                lost.started,
                "steady_queue.processes.ProcessExitError",
                lost.reason,
                steady_queue.max_lost_starts,
            )
            reach("recover.after")
            if count is None:
                self._recover_at = time.monotonic() + RECOVER_AGAIN
                continue
            self.lost.remove(lost)
            if count:
                logger.warning("recovered: process_id=%s jobs=%s", lost.process_id, count)

    def _notice_frozen(self) -> None:
        """Kill who has been frozen for so long that its jobs are given away: it may stay so.

        Time in which this process was silent does not count: it may have been frozen, too.
        """
        threshold = steady_queue.process_alive_threshold
        silent_for = timedelta(seconds=time.monotonic() - self._heartbeat_at)
        for child in self._living():
            if not is_frozen(child.pid):
                self._go_on_with(child)
            elif child.frozen_at is None or silent_for > threshold / 2:
                child.frozen_at = time.monotonic()
            elif child.frozen_for > threshold and not child.given_up:
                logger.error("frozen: process=%s pid=%s; killed", child.name, child.pid)
                child.given_up = True
                child.process.kill()  # type: ignore[union-attr]

    def _go_on_with(self, child: Child) -> None:
        if child.is_silent:
            # It has lived until now: a shorter time than the threshold changes nothing.
            self._heartbeat_at = time.monotonic()
        child.frozen_at = None

    def _heartbeat(self) -> None:
        self._notice_frozen()
        if time.monotonic() < self._heartbeat_at:
            return
        connection = self.database.connection()
        threshold = steady_queue.process_alive_threshold
        numbers = [self.process_id, *(c.process_id for c in self._living() if not c.is_silent)]
        gone, removed, silence_in = queries.heartbeat_and_sweep(
            connection, numbers, self.process_id, threshold, steady_queue.max_lost_starts
        )
        reach("heartbeat.after")
        if self.process_id in gone:
            logger.warning("unregistered: process=%s; registering anew", self.name)
            self._register()
        for child in self._living():
            if child.process_id in gone:
                child.process.terminate()  # type: ignore[union-attr]
        if removed:
            logger.warning("swept: processes=%s", removed)
        interval = steady_queue.process_heartbeat_interval.total_seconds()
        # Sooner, to sweep in time, where another is silent.
        self._heartbeat_at = time.monotonic() + min(interval, max(silence_in, interval / 2))

    def _register(self) -> None:
        self.process_id = queries.register_process(
            self.database.connection(), self.kind, self.name, None, self.host, os.getpid()
        )

    def _prepare(self) -> None:
        """What a supervisor does once, when it starts, however often it has to begin anew."""
        if not self.process_id:
            self._register()
        self._ensure_lanes()
        self._sync_recurring_tasks()
        self._prepared = True

    def _ensure_lanes(self) -> None:
        connection = self.database.connection()
        queries.ensure_lanes(connection.cursor(), known_lanes)
        connection.commit()

    def _sync_recurring_tasks(self) -> None:
        """Once, when a supervisor starts. Its declaration is as old as itself."""
        if self._recurring and self.autoload:
            age = timedelta(seconds=time.monotonic() - self._born_at)
            queries.sync_recurring_tasks(
                self.database.connection(),
                recurring_task.owner(),
                age,
                recurring_task.declared_tasks(self._recurring_tasks),
            )

    def _spawn(self, child: Child) -> None:
        queues, threads = _capacity(child.options)
        # Registered before it lives: a child is never without a number, nor a number without us.
        process_id = queries.register_process(
            self.database.connection(),
            child.kind,
            child.name,
            self.process_id,
            self.host,
            os.getpid(),
            queues,
            threads,
        )
        if threads:
            child.started_file = StartedJobs.file(threads)
            child.started = StartedJobs(child.started_file.fileno(), threads)
        restarted = child.deaths > 0
        child.process_id = process_id
        try:
            child.process = self._start(child)
        except OSError as error:
            # No memory, no process numbers: as if it had died at once.
            logger.error("cannot start: process=%s reason=%r", child.name, str(error))
            child.respawn_at = time.monotonic() + LONGEST_RESPAWN
            self.lost.append(Lost(process_id, str(error)))
            self._close_memory(child)
            return
        child.born_at = time.monotonic()
        queries.note_pid(self.database.connection(), process_id, child.pid)
        if restarted:
            self._tell_restarted(child)

    def _start(self, child: Child) -> subprocess.Popen[bytes]:
        started = child.started_file.fileno() if child.started_file else None
        assignment = Assignment(
            kind=child.kind,
            name=child.name,
            process_id=child.process_id,
            lifeline=self._lifeline_read,
            started=started,
            options=_plain(child.options),
            settings=os.environ["DJANGO_SETTINGS_MODULE"],
            path=sys.path,
            autoload=self.autoload,
        )
        return subprocess.Popen(
            [sys.executable, "-m", "steady_queue.processes.child", assignment.to_json()],
            pass_fds=[fd for fd in (self._lifeline_read, started) if fd is not None],
            stdin=subprocess.DEVNULL,
            # Ctrl-C in the terminal is for the supervisor, which then stops them gracefully.
            process_group=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )

    def _close_memory(self, child: Child) -> None:
        if child.started and child.started_file:
            child.started.close()
            child.started_file.close()
            child.started = child.started_file = None

    def _tell_restarted(self, child: Child) -> None:
        signals.process_restarted.send_robust(
            type(self),
            kind=child.kind,
            name=child.name,
            process_id=child.process_id,
            pid=child.pid,
            reason=child.reason,
        )

    def _leave(self) -> None:
        """Put back what the children held, and deregister.

        In the end others will find the numbers silent and put the jobs back.
        """
        if self.process_id:
            self.lost.append(Lost(self.process_id, self.name))
        deadline = time.monotonic() + LEAVE_WITHIN
        while self.lost and (left := deadline - time.monotonic()) > 0:
            try:
                self._recover()
                again = RECOVER_AGAIN
            except psycopg.Error as error:
                again = self.back_off(error)
            if self.lost:
                self.wait(min(again, left))

    def _until_next(self) -> float:
        now = time.monotonic()
        moments = [c.respawn_at for c in self.children if c.process is None]
        if self.lost:
            moments.append(self._recover_at)
        return max(0.0, min([self._heartbeat_at, *moments]) - now)


def _children(options: Options) -> list[Child]:
    children = []
    if not options.only_dispatch:
        for number, worker in enumerate(options.workers, 1):
            for copy in range(1, worker.processes + 1):
                children.append(Child("worker", worker, f"worker-{number}.{copy}"))
    if not options.only_work:
        for number, dispatcher in enumerate(options.dispatchers, 1):
            children.append(Child("dispatcher", dispatcher, f"dispatcher-{number}"))
        if not options.skip_recurring:
            children.append(Child("scheduler", None, "scheduler-1"))
    return children


def _capacity(options: Worker | Dispatcher | None) -> tuple[list[str], int]:
    return (list(options.queues), options.threads) if isinstance(options, Worker) else ([], 0)


def _plain(options: Worker | Dispatcher | None) -> dict[str, Any]:
    if options is None:
        return {}
    return {
        name: value.total_seconds() if isinstance(value, timedelta) else value
        for name, value in asdict(options).items()
    }


def is_frozen(pid: int) -> bool:
    """Whether a signal (STOP, TSTP) has halted this child, and none has let it go on.

    One that a debugger halts is not: whoever looks at it is not to lose it.
    """
    if not hasattr(os, "waitid"):
        # macOS, before Python 3.13.
        return False
    with suppress(ChildProcessError):
        # A look that takes nothing: Popen is still to find out how the child ended.
        return os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
    return False


def _cause(status: int) -> str:
    """A wait status in words."""
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
