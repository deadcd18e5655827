"""Where peers keep their jobs while they are measured: in PostgreSQL, or in Redis."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import psycopg

from steady_queue import embedded

STATEMENT = re.compile(rb"LOG:  (?:statement|execute [^:]*): ")

TRANSACTIONS = """
    select xact_commit + xact_rollback from pg_stat_database where datname = current_database()
"""


class Store(Protocol):
    address: str
    unit: str
    """What ``answered`` counts."""

    pid: int
    """Of the server."""

    def install(self, install: Callable[[], object]) -> None:
        """Once, before the first run."""

    def begin(self) -> None:
        """Be empty, as after the installation."""

    def settle(self) -> None:
        """Do now what filling left to be done."""

    def left(self, question: str) -> int:
        """Jobs that have not ended, by what the peer says is to be asked."""

    def answered(self) -> int:
        """How often the server was asked so far, by this call, too."""

    def snapshot(self) -> AbstractContextManager[object]:
        """Hold one meanwhile."""

    def log_statements(self) -> Callable[[], int] | None:
        """Log those of new sessions; counts them. None where there are none."""

    def close(self) -> None: ...


class Postgres:
    """A database of the peer's own for each run, in a server that others share."""

    unit = "transactions"

    def __init__(self, server: embedded.Server, folder: Path, name: str) -> None:
        self._server, self._name = server, name
        self.address = self._dsn(name)
        self.pid = int((folder / "server" / "data" / "postmaster.pid").read_text().split()[0])
        self._log = server.log
        self._session: psycopg.Connection[Any] | None = None

    def _dsn(self, database: str) -> str:
        server = self._server
        return f"host={server.host} port={server.port} user={embedded.USER} dbname={database}"

    def _steer(self, *statements: str) -> None:
        with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def install(self, install: Callable[[], object]) -> None:
        """In a database that those of the runs are copied from."""
        empty = f"{self._name}_empty"
        drop = "drop database if exists {} with (force)"
        self._steer(drop.format(self._name), drop.format(empty), f"create database {self._name}")
        install()
        self._steer(f"alter database {self._name} rename to {empty}")

    def begin(self) -> None:
        self.close()
        self._steer(
            f"drop database if exists {self._name} with (force)",
            f"create database {self._name} template {self._name}_empty",
            "checkpoint",
        )
        self._session = psycopg.connect(self.address, autocommit=True)

    def settle(self) -> None:
        assert self._session
        self._session.execute("vacuum analyze")
        self._session.execute("checkpoint")

    def left(self, question: str) -> int:
        return self._value(question)

    def answered(self) -> int:
        return self._value(TRANSACTIONS)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        with psycopg.connect(self.address) as session:
            session.execute("set transaction isolation level repeatable read")
            session.execute("select count(*) from pg_class")
            yield

    def log_statements(self) -> Callable[[], int]:
        self._steer(f"alter database {self._name} set log_statement = 'all'")
        return lambda: len(STATEMENT.findall(self._log.read_bytes()))

    def _value(self, statement: str) -> int:
        assert self._session
        [(value,)] = self._session.execute(statement).fetchall()
        return int(value)

    def close(self) -> None:
        if self._session:
            self._session.close()


class Redis:
    """A server of the peer's own on a socket, with the settings that it has without a file of them.

    Debian's file says the same of durability: a snapshot now and then, nothing for each job.
    """

    unit = "commands"
    program = "redis-server"

    def __init__(self, folder: Path) -> None:
        home = folder / "redis"
        home.mkdir(exist_ok=True)
        self._socket = str(home / "socket")
        self.address = f"redis+socket://{self._socket}"
        with open(home / "log", "ab") as log:
            self._server = subprocess.Popen(
                [self.program, "--port", "0", "--unixsocket", self._socket, "--dir", home],
                stdout=log,
                stderr=log,
            )
        self.pid = self._server.pid
        self._until_it_answers(home / "log")

    def _until_it_answers(self, log: Path) -> None:
        while self._cli("ping") != "PONG":
            if self._server.poll() is not None:
                raise SystemExit(f"{self.program} ended: see {log}")
            time.sleep(0.1)

    def _cli(self, *words: str) -> str:
        said = subprocess.run(
            ["redis-cli", "-s", self._socket, *words], capture_output=True, text=True
        )
        return said.stdout.strip()

    def install(self, install: Callable[[], object]) -> None:
        install()

    def begin(self) -> None:
        self._cli("flushall")

    def settle(self) -> None:
        pass

    def left(self, question: str) -> int:
        """``question``: commands, one a line, whose numbers are added."""
        return sum(int(self._cli(*line.split())) for line in question.splitlines())

    def answered(self) -> int:
        stats = dict(line.split(":") for line in self._cli("info", "stats").splitlines()[1:])
        return int(stats["total_commands_processed"])

    def snapshot(self) -> AbstractContextManager[object]:
        return nullcontext()

    def log_statements(self) -> None:
        return None

    def close(self) -> None:
        self._server.terminate()
        self._server.wait()
