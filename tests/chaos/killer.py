"""Does the harm, by the seed, and keeps a journal of what it did to whom and when."""

from __future__ import annotations

import heapq
import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.chaos.field import Field, Place
from tests.chaos.release import Release
from tests.processes.clock import RIGHT, WRONG_BY
from tests.processes.server import base_backup

MOMENT = 0.5
"""Seconds of the short stop, and of what is done again at once."""

SILENCE = 6.0
"""Seconds of the long stop and of a silent network: more than the threshold."""


@dataclass
class Fault:
    """``pids`` are of those who ended or may end of it."""

    kind: str
    at: float
    pids: list[int]


class Journal:
    """``faults``; ``returns``, the moments when the server was there again; ``promotions``."""

    def __init__(self, file: Any) -> None:
        self.faults: list[Fault] = []
        self.returns: list[float] = []
        self.promotions: list[float] = []
        self._file = file

    def note(self, kind: str, pids: list[int] | None = None) -> None:
        """Before it is done, so that nothing that follows of it is earlier."""
        fault = Fault(kind, time.time(), pids or [])
        self.faults.append(fault)
        self._file.write(f"{fault}\n")
        self._file.flush()

    def counts(self) -> Counter[str]:
        return Counter(fault.kind for fault in self.faults)


class NobodyThereError(Exception):
    """What was to be harmed is gone already."""


class NotNowError(Exception):
    """Another fault has to be over first."""


class Killer:
    """One phase of faults. Each has a period; what has to be undone later waits in ``_plan``."""

    def __init__(
        self, phase: str, seconds: float, random: random.Random, ground: Field, journal: Journal
    ) -> None:
        self.random = random
        self.ground = ground
        self.journal = journal
        self.seconds = seconds
        self.errors: list[str] = []
        self._numbers = itertools.count()
        self._plan: list[tuple[float, int, Callable[[], None]]] = []
        self._network_faults = itertools.cycle(
            self.random.sample([self.silence, self.strand, self.reset, self.slow, self.cut], 5)
        )
        self._deployment = self._steps()
        self.deployed = True
        for period, fault in PHASES[phase]:
            least = 1 if fault in RARE else 3
            self._repeat(min(period, seconds / least), getattr(self, fault))

    def run(self) -> None:
        end = time.monotonic() + self.seconds
        while self._plan[0][0] < end:
            at, _, act = heapq.heappop(self._plan)
            time.sleep(max(0.0, at - time.monotonic()))
            act()
        # What is still undone: the end of a silence, the start of a server.
        for at, _, act in sorted(self._plan):
            if getattr(act, "heals", False):
                time.sleep(max(0.0, at - time.monotonic()))
                act()
        while not self.deployed:
            self.deploy()
        self.ground.heal()

    def _repeat(self, period: float, fault: Callable[[], None]) -> None:
        def act() -> None:
            try:
                fault()
            except NotNowError:
                self._in(MOMENT, act)
                return
            except (psycopg.Error, ProcessLookupError, NobodyThereError):
                self.errors.append(fault.__name__)
            self._in(period * self.random.uniform(0.7, 1.3), act)

        self._in(period * self.random.random(), act)

    def _in(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._plan, (time.monotonic() + seconds, next(self._numbers), act))

    def _undo_in(self, seconds: float, undo: Callable[[], Any]) -> None:
        def act() -> None:
            with suppress(ProcessLookupError, psycopg.Error):
                undo()

        act.heals = True  # type: ignore[attr-defined]
        self._in(seconds, act)

    def _one_of(self, pids: list[int]) -> int:
        if not pids:
            raise NobodyThereError
        return self.random.choice(pids)

    def _place(self) -> Place:
        return self.random.choice(self.ground.places)

    def _busy_place(self) -> Place:
        """Where something long has begun, if anywhere."""
        with self.ground.connect() as connection:
            parents = connection.execute(LONG_RUNS, [time.time() - MOMENT]).fetchall()
        busy = [p for p in self.ground.places if (p.node.process.pid,) in parents[:1]]
        return busy[0] if busy else self._place()

    # Processes.

    def kill_child(self) -> None:
        self._signal_child("child killed", signal.SIGKILL)

    def term_child(self) -> None:
        self._signal_child("child terminated", signal.SIGTERM)

    def kill_scheduler(self) -> None:
        pids = [pid for place in self.ground.places for pid in place.node.pids("scheduler")]
        pid = self._one_of(pids)
        self.journal.note("scheduler killed", pids=[pid])
        os.kill(pid, signal.SIGKILL)

    def storm(self) -> None:
        pid = self._one_of(self._place().node.children())
        self.journal.note("signal storm", pids=[pid])
        for _ in range(20):
            os.kill(pid, self.random.choice(STORM))

    def stop_child(self) -> None:
        pid = self._one_of(self._place().node.children())
        seconds = self.random.choice([MOMENT, SILENCE])
        # Its supervisor kills one that is frozen for long.
        self.journal.note("child stopped", pids=[pid] if seconds == SILENCE else [])
        os.kill(pid, signal.SIGSTOP)
        self._undo_in(seconds, lambda: os.kill(pid, signal.SIGCONT))

    def stop_supervisor(self) -> None:
        self._stop_supervisor(self.random.choice([MOMENT, SILENCE]))

    def stop_supervisor_long(self) -> None:
        self._stop_supervisor(SILENCE)

    def _stop_supervisor(self, seconds: float) -> None:
        pid = self._busy_place().node.process.pid
        self.journal.note("supervisor stopped")
        os.kill(pid, signal.SIGSTOP)
        self._undo_in(seconds, lambda: os.kill(pid, signal.SIGCONT))

    def move_clock(self) -> None:
        place = self.ground.places[-1]
        if place.clock is None:
            raise NobodyThereError
        self.journal.note("clock of a host moved")
        place.set_clock(self.random.choice(CLOCKS))

    def kill_node(self) -> None:
        """The supervisor; its children are to end by themselves."""
        place = self._place()
        pids = place.pids()
        self.journal.note("supervisor killed", pids=pids)
        for pid in pids:
            # One that is stopped would not notice, and go on later.
            os.kill(pid, signal.SIGCONT)
        place.node.process.kill()
        place.node.process.wait()
        place.start()

    def deploy(self) -> None:
        """The next step of a deployment; after the last one all are of this release again."""
        next(self._deployment)

    def _steps(self) -> Iterator[None]:
        last, places = self.ground.last, self.ground.places
        while True:
            if last:
                self._roll_back(last)
                self.deployed = False
                yield
                self._migrate()
                yield
            yield self._replace(places[0])
            self._replace(places[1])
            if last:
                self.ground.producing.deploy(self.ground.present)
            self.deployed = True
            yield

    def _roll_back(self, last: Release) -> None:
        """The last release refuses to start on a newer schema: all nodes go, and come back."""
        places = self.ground.places
        pids = [pid for place in places for pid in place.pids()]
        self.journal.note("last release deployed", pids=pids)
        self.ground.producing.deploy(last)
        for place in places:
            place.stop()
        self.ground.manage("migrate", "-v0", "steady_queue", last.schema)
        for place in places:
            place.release = last
            place.start()

    def _migrate(self) -> None:
        """While the nodes of the last release work."""
        self.journal.note("schema migrated")
        self.ground.manage("migrate", "-v0")

    def _replace(self, place: Place) -> None:
        """By one of this release, gracefully."""
        self.journal.note("node deployed", pids=place.pids())
        place.stop()
        place.release = self.ground.present
        place.start()

    def _signal_child(self, kind: str, number: int) -> None:
        pid = self._one_of(self._place().node.children())
        self.journal.note(kind, pids=[pid])
        os.kill(pid, number)

    # The database.

    def cut_session(self) -> None:
        self._signal_session("session terminated", "pg_terminate_backend(pid)")

    def _signal_session(self, kind: str, act: str) -> int:
        with self.ground.connect() as connection:
            pids = [pid for (pid,) in connection.execute(SESSIONS)]
            pid = self._one_of(pids)
            self.journal.note(kind)
            connection.execute(f"select {act} from pg_stat_activity where pid = %s", [pid])
            return pid

    def cut_listeners(self) -> None:
        """Of all that wait to be notified."""
        self.journal.note("listening sessions terminated")
        with self.ground.connect() as connection:
            connection.execute(f"select pg_terminate_backend(pid) from ({LISTENERS}) l")

    def kill_backend(self) -> None:
        self._expect_a_well_server()
        pid = self._signal_session("backend killed", "pid")
        os.kill(pid, signal.SIGKILL)

    def restart(self) -> None:
        self._expect_a_well_server()
        self.journal.note("server crashed and restarted")
        self.ground.server.crash()
        self._undo_in(self.random.uniform(1, min(10, self.seconds / 10)), self._start_server)

    def _start_server(self) -> None:
        self.ground.server.start()
        self.journal.returns.append(time.time())

    def _expect_a_well_server(self) -> None:
        if self.ground.standby or not self.ground.is_well:
            raise NotNowError
        try:
            self.ground.connect().close()
        except psycopg.OperationalError as error:
            raise NotNowError from error

    def promote(self) -> None:
        """A standby follows synchronously, and takes the place of the server that then dies."""
        if not base_backup().exists():
            raise NobodyThereError
        self._expect_a_well_server()
        self.ground.follow()
        self._undo_in(self.random.uniform(2, 5), self._fail_over)

    def _fail_over(self) -> None:
        self.journal.note("synchronous standby promoted")
        self.journal.promotions.append(self.ground.fail_over())

    def fill_disk(self) -> None:
        disk = self.ground.disk
        if disk is None:
            raise NobodyThereError
        self._expect_a_well_server()
        self.journal.note("disk full")
        disk.fill()
        self._undo_in(8, disk.free)

    def network(self) -> None:
        next(self._network_faults)()

    def silence(self) -> None:
        place = self._place()
        self.journal.note("network silent")
        place.proxy.silence()
        self._undo_in(SILENCE, lambda: place.proxy.silence(False))

    def strand(self) -> None:
        place = self._place()
        self.journal.note("connections half open")
        place.proxy.strand(WHAT_NODES_SAY)

    def reset(self) -> None:
        self.journal.note("connections reset")
        self._place().proxy.reset()

    def slow(self) -> None:
        proxy = self._place().proxy
        self.journal.note("latency of 200 ms")
        proxy.delay(0.2)
        self._undo_in(SILENCE, lambda: proxy.delay(0))

    def cut(self) -> None:
        self.journal.note("replies to COMMIT lost")
        for place in self.ground.places:
            for statement in CUTS:
                place.proxy.cut_reply_to(statement)

    def exhaust(self) -> None:
        self.journal.note("connections exhausted")
        taken: list[psycopg.Connection] = []
        with self.ground.connect() as connection:
            for _ in range(3):
                with suppress(psycopg.OperationalError):
                    while True:
                        taken.append(self.ground.connect())
                connection.execute(f"select pg_terminate_backend(pid) from ({SESSIONS}) s")
        self._undo_in(8, lambda: [one.close() for one in taken])

    def lock_table(self) -> None:
        table = self.random.choice(["ready", "running", "jobs", "processes", "scheduled"])
        connection = self.ground.connect(autocommit=False)
        connection.execute("set lock_timeout = '2s'")
        self.journal.note("table locked")
        connection.execute(f"lock table steady_queue_{table} in access exclusive mode")
        self._undo_in(5, connection.close)


CLOCKS = [*WRONG_BY, RIGHT]
STORM = [signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGCONT, signal.SIGWINCH]
CUTS = ["claim_jobs", "finish_jobs", "heartbeat", "dispatch_jobs", "^commit", "recover_jobs"]
WHAT_NODES_SAY = r"steady_queue_(?!enqueue)\w+\(|^listen"
"""And the producer does not: nobody would tell it that its connection is lost."""

LONG_RUNS = """
    select parent from chaos_runs where ended is null and started < %s order by started desc
"""
LISTENERS = "select distinct pid from pg_locks where locktype = 'advisory' and mode = 'ShareLock'"
SESSIONS = "select pid from pg_stat_activity where application_name = 'steady_queue'"

PHASES = {
    "processes": [
        (5, "kill_child"),
        (20, "term_child"),
        (30, "stop_child"),
        (60, "stop_supervisor"),
        (60, "storm"),
        (120, "kill_node"),
    ],
    "database": [
        (2, "cut_session"),
        (12, "network"),
        (60, "lock_table"),
        (90, "exhaust"),
        (90, "kill_backend"),
        (90, "fill_disk"),
        (120, "restart"),
        (200, "promote"),
    ],
    "sessions": [(0.5, "cut_session")],
    "listeners": [(4, "cut_listeners")],
    "terms": [(3, "term_child")],
    "silences": [(11, "stop_supervisor_long")],
    "limits": [
        (4, "kill_child"),
        (15, "kill_scheduler"),
        (10, "move_clock"),
        (60, "kill_node"),
    ],
    "deploy": [
        (8, "deploy"),
        (15, "kill_child"),
    ],
}
"""Seconds between two of a kind, about, and at most a third of the phase."""

RARE = {"fill_disk", "promote"}
"""Of these one in the phase is enough."""
