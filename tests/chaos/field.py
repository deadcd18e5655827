"""Where it happens: one PostgreSQL, two nodes, and a proxy between it and each of them."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg

from steady_queue import embedded
from tests.chaos import history
from tests.chaos.proxy import Proxy
from tests.processes import clock
from tests.processes.conftest import Node
from tests.processes.server import Server

TIMERS = {"TEST_HEARTBEAT": "0.5", "TEST_THRESHOLD": "3", "TEST_SHUTDOWN_TIMEOUT": "2"}
WORKERS = {"threads": 4, "processes": 2}
DISPATCHER = {"concurrency_maintenance_seconds": 2}
MOST_CONNECTIONS = 70

SESSIONS = "select count(*) from pg_stat_activity where application_name = 'steady_queue'"


class Field:
    def __init__(self, folder: Path, polling: float = 1) -> None:
        self.folder = folder
        self.mishaps: list[str] = []
        self.options = {
            "workers": [{**WORKERS, "polling_seconds": polling}],
            "dispatchers": [{**DISPATCHER, "polling_seconds": polling}],
        }
        self.server = Server(folder / "server")
        self.url = self.server.env["DATABASE_URL"]
        with self.connect() as connection:
            connection.execute("drop function say_change() cascade")
            connection.execute(f"alter system set max_connections = {MOST_CONNECTIONS}")
            connection.execute(history.TABLES)
        embedded.stop(folder / "server")
        self.server.start()
        # Where clocks can be moved, that of one host is.
        clocks = [None, folder / "clock" if clock.LIBRARY else None]
        self.places = [Place(self, f"node {n}", file) for n, file in enumerate(clocks, 1)]

    def connect(self, **more: Any) -> psycopg.Connection:
        options = {"autocommit": True, "application_name": "chaos", "connect_timeout": 5, **more}
        return psycopg.connect(self.url, **options)

    def holdings(self) -> dict[str, int]:
        """What a supervisor has open, at most, and how many sessions all processes have."""
        with self.connect() as connection:
            [(sessions,)] = connection.execute(SESSIONS).fetchall()
        return {
            "files of a supervisor": self._most("fd"),
            "threads of a supervisor": self._most("task"),
            "sessions": sessions,
        }

    def _most(self, folder: str) -> int:
        living = [p.node.process.pid for p in self.places if p.node.process.poll() is None]
        return max((len(os.listdir(f"/proc/{pid}/{folder}")) for pid in living), default=0)

    def heal(self) -> None:
        """No fault goes on after this."""
        if not embedded.status(self.server.path).running:
            self.server.start()
        for place in self.places:
            place.proxy.cuts.clear()
            place.proxy.delay(0)
            place.proxy.silence(False)
            place.proxy.clear()
            place.set_clock(clock.RIGHT)
            for pid in [place.node.process.pid, *place.node.children()]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        for place in self.places:
            place.node.kill()
            place.proxy.close()
        embedded.stop(self.server.path)


class Place:
    """A node, started again where it was killed, and its way to the server."""

    def __init__(self, ground: Field, name: str, file: Path | None) -> None:
        self.ground = ground
        self.clock = file
        self.set_clock(clock.RIGHT)
        self.log = open(ground.folder / f"{name}.log", "ab")  # noqa: SIM115
        server = ground.server
        self.proxy = Proxy(server.entry["HOST"], int(server.entry["PORT"]))
        self.proxy.__enter__()
        self.start()

    def deploy(self) -> None:
        if status := self.node.stop():
            self.ground.mishaps.append(f"a supervisor that was told to stop ended with {status}")
        self.ground.server.manage("migrate", "-v0")
        self.start()

    def set_clock(self, by: str) -> None:
        """Where it cannot be, nothing happens."""
        if self.clock:
            clock.move(self.clock, by)

    def start(self) -> None:
        env = {
            **self.ground.server.through(self.proxy),
            **TIMERS,
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "CHAOS_DIRECT": self.ground.url,
            "CHAOS_BEGAN_AT": str(time.time() - time.monotonic()),
            **(clock.environment(self.clock) if self.clock else {}),
        }
        self.node = Node(None, (), self.ground.options, env, log=self.log)
