"""Where it happens: one PostgreSQL, two nodes, and a proxy between it and each of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg

from steady_queue import embedded
from tests.chaos import history, release
from tests.chaos.proxy import Proxy
from tests.chaos.release import Release
from tests.conftest import PATIENCE
from tests.processes import clock
from tests.processes.conftest import Node
from tests.processes.disk import CannotMountError, SmallDisk
from tests.processes.server import Server, Standby, base_backup, socket_folder

TIMERS = {"TEST_HEARTBEAT": "0.5", "TEST_THRESHOLD": "3", "TEST_SHUTDOWN_TIMEOUT": "2"}
WORKERS = {"threads": 4, "processes": 2}
DISPATCHER = {"concurrency_maintenance_seconds": 2}
SETTINGS = {
    "max_connections": "70",
    # A standby that lost its primary looks for it again after this.
    "wal_retrieve_retry_interval": "500ms",
}
DISK = 256
"""Megabytes for the whole database, of memory and only as it needs them."""

SESSIONS = "select count(*) from pg_stat_activity where application_name = 'steady_queue'"
SYNCHRONOUS = "select from pg_stat_replication where sync_state = 'sync' and state = 'streaming'"


class Field:
    """``server`` is the one that takes writes; ``lacks`` says what cannot be done here."""

    def __init__(self, folder: Path, polling: float = 1) -> None:
        self.folder = folder
        self.present, self.last = release.present(), release.last(folder / "last release")
        self.mishaps: list[str] = []
        self.lacks: list[str] = []
        self.options = {
            "workers": [{**WORKERS, "polling_seconds": polling}],
            "dispatchers": [{**DISPATCHER, "polling_seconds": polling}],
        }
        self.standby: Standby | None = None
        self.disks: dict[str, SmallDisk] = {}
        self.places: list[Place] = []
        self.producing = Producing(self)

    def begin(self) -> None:
        """What has begun when this fails is ended by `close` too."""
        self.server = Server(self.folder / SERVERS[0])
        self._make_disks()
        self.env = {**self.server.env, "DATABASE_URL": self._url()}
        self.url = self.env["DATABASE_URL"]
        self._prepare()
        if not base_backup().exists():
            self.lacks.append("a standby: this wheel of the embedded server has no pg_basebackup")
        if not self.last:
            self.lacks.append("a last release: it is not in the history of this repository")
        # Where clocks can be moved, that of one host is.
        clocks = [None, self.folder / "clock" if clock.LIBRARY else None]
        self.places += [Place(self, f"node {n}", file) for n, file in enumerate(clocks, 1)]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Of the server and its standby, whichever of the two is which."""
        port = int(self.server.entry["PORT"])
        return [(socket_folder(self.folder / name), port) for name in SERVERS]

    def _make_disks(self) -> None:
        """One for each server."""
        try:
            for name in SERVERS:
                self.disks[name] = SmallDisk(DISK, self.server.path / "data")
        except CannotMountError as error:
            self.lacks.append(f"a disk that can be filled: {error}")

    def _url(self) -> str:
        hosts, ports = zip(*self.addresses, strict=True)
        return self.server.url(
            ",".join(hosts), ",".join(map(str, ports)), "postgres", **WHO_TAKES_WRITES
        )

    def through(self, ports: list[int]) -> dict[str, str]:
        """The environment of who reaches the servers by these ports, and waits a second."""
        options = {"sslmode": "disable", "tcp_user_timeout": 1000, **WHO_TAKES_WRITES}
        hosts = ",".join("127.0.0.1" for _ in ports)
        url = self.server.url(hosts, ",".join(map(str, ports)), "postgres", **options)
        return {
            **self.env,
            "DATABASE_URL": url,
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "CHAOS_DIRECT": self.url,
            "CHAOS_BEGAN_AT": str(time.time() - time.monotonic()),
        }

    def _prepare(self) -> None:
        with self.connect() as connection:
            connection.execute("drop function say_change() cascade")
            connection.execute(history.TABLES)
        with self.connect(dbname="postgres") as connection:
            for name, value in SETTINGS.items():
                connection.execute(f"alter system set {name} = '{value}'")
            if self.disk:
                connection.execute(f"create tablespace small location '{self.disk.space}'")
                database = self.server.entry["NAME"]
                connection.execute(f"alter database {database} set tablespace small")
        embedded.stop(self.server.path)
        self.server.start()

    def connect(self, **more: Any) -> psycopg.Connection:
        options = {"autocommit": True, "application_name": "chaos", "connect_timeout": 5, **more}
        return psycopg.connect(self.url, **options)

    def manage(self, *arguments: str) -> None:
        """With this release's code, which knows every migration."""
        command = [sys.executable, "-m", "django", *arguments]
        env = {**os.environ, **self.env, "DJANGO_SETTINGS_MODULE": "tests.chaos.settings"}
        done = subprocess.run(
            command, cwd=self.present.folder, env=env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            self.mishaps.append(f"{' '.join(arguments)} failed: {done.stderr[-500:]}")

    @property
    def disk(self) -> SmallDisk | None:
        """The server's."""
        return self.disks.get(self.server.path.name)

    @property
    def is_well(self) -> bool:
        """PostgreSQL does not come back on a full disk, nor can it be copied."""
        full = any(disk.full for disk in self.disks.values())
        return embedded.status(self.server.path).running and not full

    def follow(self) -> None:
        """Let a new standby have every commit before it is acknowledged."""
        [name] = set(SERVERS) - {self.server.path.name}
        shutil.rmtree(self.folder / name, ignore_errors=True)
        moved = {}
        if self.disk:
            self.disks[name].empty()
            moved[self.disk.space] = self.disks[name].space
        # First: where none is free nothing has happened.
        with self.connect() as connection:
            self.standby = Standby(self.server, self.folder / name, moved)
            connection.execute("alter system set synchronous_standby_names = '*'")
            connection.execute("select pg_reload_conf()")
            deadline = time.monotonic() + PATIENCE
            while not connection.execute(SYNCHRONOUS).fetchall():
                assert time.monotonic() < deadline, "the standby does not follow"
                time.sleep(0.1)

    def fail_over(self) -> float:
        """The server dies, and the standby takes its place; the moment when it was told to."""
        assert self.standby
        self.server.crash()
        self.server, self.standby = self.standby, None
        at = time.time()
        self.server.promote()
        return at

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
        for disk in self.disks.values():
            disk.free()
        if not embedded.status(self.server.path).running:
            self.server.start()
        for place in self.places:
            place.proxy.cuts.clear()
            place.proxy.delay(0)
            place.proxy.silence(False)
            place.proxy.clear()
            place.set_clock(clock.RIGHT)
            for pid in place.pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        self.producing.stop()
        for place in self.places:
            place.node.kill()
            place.proxy.close()
        if self.disks and embedded.status(self.server.path).running:
            self._keep_the_database()
        for name in SERVERS:
            embedded.stop(self.folder / name)
        for disk in self.disks.values():
            disk.close()

    def _keep_the_database(self) -> None:
        """When its disk goes: for whoever wants to look."""
        for disk in self.disks.values():
            disk.free()
        with suppress(psycopg.Error), self.connect(dbname="postgres") as connection:
            database = self.server.entry["NAME"]
            connection.execute(f"alter database {database} set tablespace pg_default")


SERVERS = ["server", "standby"]
WHO_TAKES_WRITES = {"target_session_attrs": "read-write"}


class Place:
    """A node, started again where it was killed, and its way to the server."""

    def __init__(self, ground: Field, name: str, file: Path | None) -> None:
        self.ground = ground
        self.clock = file
        self.set_clock(clock.RIGHT)
        self.log = open(ground.folder / f"{name}.log", "ab")  # noqa: SIM115
        first, second = ground.addresses
        self.proxy = Proxy(*first)
        self.proxy.__enter__()
        self.ports = [self.proxy.port, self.proxy.lead_to(*second)]
        self.release = ground.present
        self.start()

    def pids(self) -> list[int]:
        """The supervisor's, and those of its children."""
        return [self.node.process.pid, *self.node.children()]

    def stop(self) -> None:
        if status := self.node.stop():
            self.ground.mishaps.append(f"a supervisor that was told to stop ended with {status}")

    def set_clock(self, by: str) -> None:
        """Where it cannot be, nothing happens."""
        if self.clock:
            clock.move(self.clock, by)

    def start(self) -> None:
        env = {
            **self.ground.through(self.ports),
            **TIMERS,
            "PYTHONPATH": str(self.release.folder),
            **(clock.environment(self.clock) if self.clock else {}),
        }
        self.node = Node(None, (), self.ground.options, env, log=self.log, root=self.release.folder)


class Producing:
    """The application that enqueues, in a process of its own, behind the first node's proxy."""

    def __init__(self, ground: Field) -> None:
        self.ledger = ground.folder / "ledger.txt"
        self.release = ground.present
        self._ground = ground
        self._starts = 0
        self._arguments: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, *arguments: str) -> None:
        """Anew, with these arguments."""
        self.stop()
        self._arguments = list(arguments)
        self._start()

    def deploy(self, code: Release) -> None:
        self.stop()
        self.release = code
        self._start()

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            status = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        # Or it had not begun.
        if status not in (0, -signal.SIGTERM):
            self._ground.mishaps.append(f"the producer ended with {status}")

    def _start(self) -> None:
        self._starts += 1
        seed, *more = self._arguments
        command = [sys.executable, "-m", "django", "produce", "--ledger", str(self.ledger)]
        place, folder = self._ground.places[0], self.release.folder
        self._process = subprocess.Popen(
            [*command, "--seed", f"{seed} {self._starts}", *more],
            cwd=folder,
            env={
                **os.environ,
                **self._ground.through(place.ports),
                "PYTHONPATH": str(folder),
            },
            stdout=place.log,
            stderr=place.log,
        )
