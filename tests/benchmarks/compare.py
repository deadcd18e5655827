"""This project beside its peers, on one server, one after the other: ``make bench``.

Each peer has an environment of its own under ``.benchmarks``. Every run begins with a new database
and a checkpoint, or an emptied Redis; the peers take turns, so that whatever else the machine does
meets all of them. The body of every task appends its number and the time to a file: each job has to
be in it once.
``--write`` puts the table and the picture into docs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from steady_queue import embedded
from tests.benchmarks import machine, stores, table
from tests.benchmarks.workloads import ONCE, QUICK, WORKLOADS

ROOT = Path(__file__).parents[2]
PEERS = Path(__file__).parent / "peers"
FOLDER = ROOT / ".benchmarks"
OURS = "steady_queue_peer"
BESIDE = "plain_sql,pgqueuer,procrastinate,celery,dj_queue,predecessor"
SERVER = {"shared_buffers": "1GB", "max_connections": "200"}
"""Beside these, PostgreSQL's defaults: every commit reaches the disk."""

CAP = 60.0
"""Seconds that a drain may take."""


class Peer:
    """One product: its environment, and its store."""

    def __init__(self, name: str, store: stores.Store) -> None:
        self.name, self.store = name, store
        self.kind = _kind(name)
        self._python = _environment(name, self.kind.requirements)
        self.records = FOLDER / f"{name}.records"
        store.install(lambda: self.call("install"))

    def __str__(self) -> str:
        return self.name.removesuffix("_peer")

    def begin(self) -> None:
        """With an empty store, as after its installation."""
        self.store.begin()
        self.records.unlink(missing_ok=True)
        self.records.touch()

    def start(self, command: str, *arguments: Any) -> subprocess.Popen[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "PYTHONPATH": str(PEERS),
            "BENCH_PEER": self.name,
            "BENCH_DSN": self.store.address,
            "BENCH_RECORDS": str(self.records),
        }
        values = [json.dumps(argument) for argument in arguments]
        with open(FOLDER / f"{self.name}.log", "ab") as log:
            return subprocess.Popen(
                [self._python, PEERS / "peer.py", self.name, command, *values],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def call(self, command: str, *arguments: Any) -> Any:
        return self.answer(self.start(command, *arguments))

    def answer(self, process: subprocess.Popen[str]) -> Any:
        said, _ = process.communicate(timeout=600)
        if process.returncode:
            raise SystemExit(f"{self} failed: see {FOLDER / self.name}.log")
        return json.loads(said) if said else None

    @contextmanager
    def working(self, configuration: str) -> Iterator[list[int]]:
        """With its workers started; their process ids."""
        processes = [self.start("work", *a) for a in self.kind.workers[configuration]]
        try:
            yield [process.pid for process in processes]
        finally:
            for process in processes:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    def recorded(self) -> list[tuple[int, int]]:
        """Numbers and moments, in nanoseconds, of the tasks' bodies."""
        return list(struct.iter_unpack("<qq", self.records.read_bytes()))

    def until_recorded(self, count: int) -> None:
        deadline = time.monotonic() + CAP
        while self.records.stat().st_size < 16 * count:
            if time.monotonic() > deadline:
                raise SystemExit(f"{self}: {len(self.recorded())} of {count} jobs in {CAP} s")
            time.sleep(0.002)


def _kind(name: str) -> Any:
    """The class of a peer's file."""
    if str(PEERS) not in sys.path:
        sys.path.insert(0, str(PEERS))
    return importlib.import_module(name).Peer


def _environment(name: str, requirements: list[str]) -> str:
    """The Python of the peer's own environment; this project's is the one that runs."""
    if not requirements:
        return sys.executable
    folder = FOLDER / "environments" / name
    python = str(folder / "bin" / "python")
    if not (folder / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *requirements], check=True)
        (folder / "installed").touch()
    return python


def run(peers: list[Peer], workloads: list[str], rounds: int) -> dict[str, Any]:
    """Figures by workload, peer and name, one for each round."""
    figures: dict[str, Any] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for workload in workloads:
        for _ in range(1 if workload in ONCE else rounds):
            for peer in peers:
                busy, began = machine.busy_seconds(), time.monotonic()
                found = WORKLOADS[workload](peer)
                load = (machine.busy_seconds() - busy) / (time.monotonic() - began)
                shown = ", ".join(f"{name} {value:,.4g}" for name, value in found.items()) or "none"
                print(f"{workload}: {peer}: {shown} (processors busy: {load:.1f})", flush=True)
                kept = figures[workload][str(peer)]
                for name, value in found.items():
                    kept[name].append(value)
    return figures


@contextmanager
def server() -> Iterator[embedded.Server]:
    folder = FOLDER / "server"
    embedded.start(folder)
    started = embedded.status(folder)
    dsn = f"host={started.host} port={started.port} user={embedded.USER} dbname=postgres"
    with psycopg.connect(dsn, autocommit=True) as connection:
        for name, value in SERVER.items():
            connection.execute(f"alter system set {name} = '{value}'")
    embedded.stop(folder)
    try:
        yield embedded.start(folder)
    finally:
        embedded.stop(folder)


def _stores(
    names: list[str], server: embedded.Server, opened: ExitStack
) -> dict[str, stores.Store]:
    """By peer; one whose store is not on this machine is left out."""
    found: dict[str, stores.Store] = {}
    for name in names:
        if _kind(name).store == "postgres":
            found[name] = stores.Postgres(server, FOLDER, name)
        elif shutil.which(stores.Redis.program):
            found[name] = stores.Redis(FOLDER)
        else:
            print(
                f"{name.removesuffix('_peer')} left out: no {stores.Redis.program} on PATH",
                flush=True,
            )
            continue
        opened.callback(found[name].close)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default=BESIDE)
    parser.add_argument("--workloads", help="how their names begin, a semicolon between")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a minute or two, two peers")
    parser.add_argument("--write", action="store_true", help="put the results into docs")
    given = parser.parse_args()
    names = ["plain_sql", "dj_queue"] if given.quick else given.peers.split(",")
    workloads = QUICK if given.quick else list(WORKLOADS)
    if given.workloads:
        begun = tuple(given.workloads.split(";"))
        workloads = [name for name in WORKLOADS if name.startswith(begun)]
    FOLDER.mkdir(exist_ok=True)
    with server() as started, ExitStack() as opened:
        found = {path.stem.removesuffix("_peer"): path.stem for path in PEERS.glob("*.py")}
        files = [OURS, *(found[name] for name in names)]
        peers = [Peer(*each) for each in _stores(files, started, opened).items()]
        figures = run(peers, list(workloads), 1 if given.quick else given.rounds)
    print(table.text(figures))
    if given.write:
        table.write(figures)


if __name__ == "__main__":
    main()
