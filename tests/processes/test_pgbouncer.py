"""The queue's calls go through PgBouncer in transaction mode; LISTEN goes past it, or polls."""

import os
import shutil
import subprocess

import psycopg
import pytest

from steady_queue import embedded
from tests.processes.conftest import Node, Watch
from tests.processes.test_outage import Server

# Debian keeps it where only root has a PATH to.
PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")

pytestmark = [
    pytest.mark.processes,
    pytest.mark.slow,
    pytest.mark.skipif(PGBOUNCER is None, reason="there is no pgbouncer on PATH or in /usr/sbin"),
]

PORT = 6432
POOL_SIZE = 1
CONFIGURATION = """
[databases]
* = host={host} port={port} user=postgres
[pgbouncer]
pool_mode = transaction
default_pool_size = {pool_size}
unix_socket_dir = {folder}
listen_port = {pooler_port}
auth_type = any
log_connections = 0
log_disconnections = 0
log_stats = 0
"""


class Pooler:
    """A PgBouncer before a server, reached by a socket in a folder of its own."""

    def __init__(self, server, folder):
        self.owner = embedded._as_owner(server.path / "data")
        self.folder = folder
        self.folder.mkdir()
        file = self.folder / "pgbouncer.ini"
        file.write_text(
            CONFIGURATION.format(
                host=server.entry["HOST"],
                port=server.entry["PORT"],
                folder=self.folder,
                pooler_port=PORT,
                pool_size=POOL_SIZE,
            )
        )
        if self.owner:
            for path in (self.folder, file):
                os.chown(path, self.owner["user"], self.owner["group"])
        self.url = f"host={self.folder} port={PORT} user=postgres dbname={server.entry['NAME']}"
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [PGBOUNCER, self.folder / "pgbouncer.ini"],
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            **self.owner,
        )
        for line in self.process.stderr:
            if "process up" in line:
                return
        pytest.fail(f"pgbouncer ended with {self.process.wait()}")

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()

    def close(self):
        self.end()
        shutil.rmtree(self.folder)


@pytest.fixture(scope="module")
def server(open_folder):
    one = Server(open_folder / "server")
    yield one
    embedded.stop(one.path)


@pytest.fixture
def pooler(server, open_folder):
    one = Pooler(server, open_folder / "pooler")
    yield one
    one.close()


@pytest.fixture
def watch(server):
    with server.connect() as connection:
        connection.execute("truncate heard, steady_queue_jobs, steady_queue_outcomes")
        connection.execute("listen changed")
        yield Watch(connection)


@pytest.fixture
def node(server, pooler, watch):
    """Starts nodes whose only address is the pooler's, but for what ``env`` says."""
    nodes = []

    def start(*arguments, **env):
        env = {**server.env, "DATABASE_URL": pooler.url, "TEST_POOLED": "1", **env}
        workers = [{"threads": 3, "polling_seconds": 3600}]
        nodes.append(Node(watch, arguments, {"workers": workers}, env))
        return nodes[-1]

    yield start
    for one in nodes:
        one.kill()


def enqueue(pooler, task, *words):
    """As an application behind the pooler does."""
    with psycopg.connect(pooler.url, prepare_threshold=None, autocommit=True) as connection:
        for word in words:
            connection.execute(
                "select steady_queue_enqueue(%s, args => json_build_array(%s::text))",
                [f"tests.app.tasks.{task}", word],
            )


def waiting(watch):
    return watch.value("select count(*) from pg_locks where locktype = 'advisory'")


def test_work_goes_through_the_pooler_and_listen_past_it(server, pooler, node, watch, capfd):
    one = node(TEST_DIRECT_HOST=server.entry["HOST"])
    # Nobody polls for an hour: what happens from here on is due to a notification.
    watch.until_idle(3)
    words = [f"pooled {number}" for number in range(100)]
    enqueue(pooler, "persist", *words)
    server.enqueue("ask_again")
    watch.until_states(successful=101)
    assert sorted(word for word in watch.heard() if word in words) == sorted(words)
    # Only the three that listen came past the pooler, which shares out one connection.
    sessions = "select count(*) from pg_stat_activity where application_name = 'steady_queue'"
    assert watch.value(sessions) <= 3 + POOL_SIZE
    # Nor did anything have to be tried again.
    assert "database refused" not in capfd.readouterr().err
    assert one.stop() == 0
    assert watch.value("select count(*) from steady_queue_processes") == 0


def test_without_a_direct_address_a_worker_says_once_that_it_polls(pooler, node, watch, capfd):
    one = node("--only-work")
    for word in ("first", "second", "third"):
        enqueue(pooler, "persist", word)
        watch.hear(word)
    assert one.stop() == 0
    said = [line for line in capfd.readouterr().err.splitlines() if "polling instead" in line]
    assert len(said) == 1
    assert "the address leads to a transaction pooler" in said[0]
    assert "steady_queue.listen_database" in said[0]
    # Nor does anybody seem to wait who is not there.
    assert waiting(watch) == 0


def test_a_pooler_that_dies_and_comes_back_loses_nothing(server, pooler, node, watch):
    one = node(TEST_DIRECT_HOST=server.entry["HOST"])
    watch.until_idle(3)
    pids = one.children()
    enqueue(pooler, "persist", *(f"before {number}" for number in range(50)))
    pooler.end()
    pooler.start()
    enqueue(pooler, "persist", "after")
    watch.until_states(successful=51)
    assert one.children() == pids
    assert one.stop() == 0
