"""The server dies and its standby is promoted: nothing acknowledged is lost, nobody dies of it."""

import os

import psycopg
import pytest

from steady_queue import embedded
from tests.processes.conftest import Node, Watch
from tests.processes.server import VERSION, Server, Standby, base_backup

pytestmark = [pytest.mark.processes, pytest.mark.slow]


@pytest.fixture
def primary(open_folder, request):
    server = Server(open_folder / f"{request.node.name[:20]}-primary")
    yield server
    embedded.stop(server.path)


@pytest.fixture
def standby(primary, open_folder, request):
    if not base_backup().exists():
        pytest.skip(f"the wheel of the embedded PostgreSQL {VERSION} has no pg_basebackup")
    one = Standby(primary, open_folder / f"{request.node.name[:20]}-standby")
    yield one
    embedded.stop(one.path)


def address(*servers):
    """Of whichever of these takes writes."""
    hosts = ",".join(one.entry["HOST"] for one in servers)
    ports = ",".join(one.entry["PORT"] for one in servers)
    more = {"target_session_attrs": "read-write"} if len(servers) > 1 else {}
    return servers[0].url(hosts, ports, "postgres", **more)


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
    before = watch(address(primary, standby))
    follow_synchronously(primary, before)
    one = node(address(primary, standby), before)
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
    standby.promote()
    after = one.watch = watch(address(primary, standby))
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
    one = node(address(standby))
    said = "database read-only: process=supervisor"
    heard = ""

    def is_said():
        nonlocal heard
        heard += capfd.readouterr().err
        return said in heard

    before = watch(address(primary))
    before.until(is_said, said)
    assert one.process.poll() is None
    primary.crash()
    standby.promote()
    after = one.watch = watch(address(standby))
    enqueue(after.connection, ["on the promoted standby"])
    after.hear("on the promoted standby")
    assert one.stop() == 0
