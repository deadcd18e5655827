"""The server dies and its standby is promoted: nothing acknowledged is lost, nobody dies of it."""

import os
import subprocess

import psycopg
import pytest

from steady_queue import embedded
from tests.processes.conftest import Node, Watch
from tests.processes.server import Server

pytestmark = [pytest.mark.processes, pytest.mark.slow]

VERSION = int(os.environ.get("TEST_POSTGRES", "18"))


class Standby:
    """A copy of a server that follows it, made by the server's own programs."""

    def __init__(self, primary, path):
        self.primary = primary
        self.path = path
        self.data = path / "data"
        path.mkdir()
        source = embedded.status(primary.path)
        owner = embedded._as_owner(primary.path / "data")
        if owner:
            os.chown(path, owner["user"], owner["group"])
        program = embedded._binaries(VERSION) / "pg_basebackup"
        if not program.exists():
            pytest.skip(f"the wheel of the embedded PostgreSQL {VERSION} has no pg_basebackup")
        with embedded._passage_for_the_server(self.data, program):
            subprocess.run(
                [
                    program,
                    f"--pgdata={self.data}",
                    f"--host={source.host}",
                    f"--port={source.port}",
                    "--username=postgres",
                    "--write-recovery-conf",
                    "--checkpoint=fast",
                ],
                check=True,
                cwd="/",
                **owner,
            )
        # The socket's lock was copied with the rest, and names the primary.
        embedded._unlock_sockets(self.data)
        self.control("start", "-l", "server.log", "-o", embedded._listen_options(self.data))

    def control(self, *arguments):
        done, output = embedded._pg_ctl(VERSION, self.data, *arguments)
        assert done, output

    @property
    def host(self):
        folder = self.data
        return str(folder if embedded._fits_a_socket(folder) else embedded._short_folder(folder))

    def url(self, *hosts, **more):
        """The address of the queue's database on one of these servers."""
        port = self.primary.entry["PORT"]
        options = " ".join(f"{name}={value}" for name, value in more.items())
        return (
            f"host={','.join(hosts)} port={','.join([port] * len(hosts))} "
            f"user=postgres dbname={self.primary.entry['NAME']} {options}"
        )

    def either(self):
        """The address of whichever of the two takes writes."""
        hosts = (self.primary.entry["HOST"], self.host)
        return self.url(*hosts, target_session_attrs="read-write")


@pytest.fixture
def primary(open_folder, request):
    server = Server(open_folder / f"{request.node.name[:20]}-primary")
    yield server
    embedded.stop(server.path)


@pytest.fixture
def standby(primary, open_folder, request):
    one = Standby(primary, open_folder / f"{request.node.name[:20]}-standby")
    yield one
    one.control("stop", "-m", "immediate")


@pytest.fixture
def node(primary):
    """Starts nodes at an address."""
    nodes = []

    def start(address, watch=None):
        env = {**primary.env, "DATABASE_URL": address}
        nodes.append(Node(watch, (), {"workers": [{"threads": 3, "polling_seconds": 3600}]}, env))
        return nodes[-1]

    yield start
    for one in nodes:
        one.kill()


def watch(address):
    connection = psycopg.connect(address, autocommit=True)
    connection.execute("listen changed")
    return Watch(connection)


def follow_synchronously(primary, before):
    """From now on no commit is acknowledged before the standby has it."""
    with primary.connect() as connection:
        connection.execute("alter system set synchronous_standby_names = '*'")
        connection.execute("select pg_reload_conf()")
    before.until(
        lambda: before.value("select count(*) from pg_stat_replication where sync_state = 'sync'"),
        "a synchronous standby",
    )


def enqueue(connection, words):
    """The words whose jobs were acknowledged."""
    acknowledged = []
    try:
        for word in words:
            connection.execute(
                "select steady_queue_enqueue('tests.app.tasks.persist', "
                "args => json_build_array(%s::text))",
                [word],
            )
            acknowledged.append(word)
    except psycopg.OperationalError:
        pass
    return acknowledged


def test_what_was_acknowledged_survives_a_failover_and_the_workers_go_on(
    primary, standby, node, tmp_path
):
    before = watch(standby.either())
    follow_synchronously(primary, before)
    one = node(standby.either(), before)
    before.until_idle(3)
    pids = one.children()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    primary.enqueue("wait_for", str(fifo))
    before.until(lambda: before.states().get("running"), "a running job")
    # Opens only when the task has opened its end.
    writer = open(fifo, "w")  # noqa: SIM115
    acknowledged = enqueue(before.connection, [f"word {number}" for number in range(300)])
    primary.crash()
    writer.close()
    standby.control("promote")
    after = one.watch = watch(standby.either())
    acknowledged += enqueue(after.connection, ["after the failover"])
    after.hear("after the failover")
    after.until(lambda: set(after.states()) == {"successful"}, "the end of every job")
    assert len(acknowledged) == 301
    assert set(acknowledged) <= set(after.heard())
    assert after.value("select count(*) from steady_queue_all_jobs") == 302
    # Not even a start is lost: nobody died, and no claim was.
    assert after.rows("select job from steady_queue_outcomes where lost_starts > 0") == []
    assert one.children() == pids
    assert one.stop() == 0


def test_a_read_only_standby_is_survived_said_and_used_once_it_is_promoted(
    primary, standby, node, capfd
):
    one = node(standby.url(standby.host))
    said = "database read-only: process=supervisor"
    heard = ""

    def is_said():
        nonlocal heard
        heard += capfd.readouterr().err
        return said in heard

    before = watch(standby.url(primary.entry["HOST"]))
    before.until(is_said, said)
    assert one.process.poll() is None
    primary.crash()
    standby.control("promote")
    after = one.watch = watch(standby.url(standby.host))
    enqueue(after.connection, ["on the promoted standby"])
    after.hear("on the promoted standby")
    assert one.stop() == 0
