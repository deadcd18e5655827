"""The database goes away and comes back: nothing is lost, nothing runs twice, nobody dies."""

import os
import re
import signal
from itertools import islice

import pytest

from steady_queue import embedded
from tests.chaos.proxy import Proxy
from tests.processes.conftest import Node
from tests.processes.disk import CannotMountError, SmallDisk
from tests.processes.server import Server

pytestmark = [pytest.mark.processes, pytest.mark.slow]


TRIES = 12
"""Connections that four processes try to make: each of them again and again, ever later."""


def ended(watch):
    return watch.states().get("successful", 0)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    one = Server(tmp_path_factory.mktemp("outage") / "server")
    yield one
    embedded.stop(one.path)


@pytest.fixture
def node(server):
    one = Node(server.watch(), (), {}, server.env)
    one.watch.until_idle(3)
    yield one
    one.kill()


def test_an_outcome_reached_while_the_database_is_away_is_recorded_once_it_is_back(
    server, node, tmp_path
):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    pids = node.children()
    server.enqueue("wait_for", str(fifo))
    node.watch.until(lambda: node.watch.states().get("running") == 1, "the start")
    # Opens only when the task has opened its end.
    writer = open(fifo, "w")  # noqa: SIM115
    server.crash()
    writer.close()
    server.start()
    watch = node.watch = server.watch()
    watch.until_states(successful=1)
    assert watch.rows("select attempt, lost_starts from steady_queue_outcomes") == [(1, 0)]
    # Nobody died of it.
    assert node.children() == pids
    server.enqueue("speak", "after the outage")
    watch.hear("after the outage")
    assert node.stop() == 0
    assert watch.value("select count(*) from steady_queue_processes") == 0


def test_a_supervisor_started_while_the_database_is_away_begins_when_it_is_back(server):
    server.crash()
    node = Node(None, (), {}, {**server.env, "TEST_LOG_LEVEL": "INFO"})
    try:
        server.start()
        watch = server.watch()
        server.enqueue("speak", "from the start")
        watch.hear("from the start")
        assert node.stop() == 0
    finally:
        node.kill()


def test_cutting_every_session_again_and_again_loses_nothing(server, node):
    watch = node.watch
    before = watch.states().get("successful", 0)
    for number in range(20):
        server.enqueue("speak", f"cut {number}")
        watch.cut_sessions()
    watch.until(lambda: watch.states().get("successful", 0) == before + 20, "all of them")
    # A cut between the start of a task and the record of its end costs no second start.
    words = [word for word in watch.heard() if word.startswith("cut ")]
    assert sorted(words) == sorted(f"cut {number}" for number in range(20))
    assert node.stop() == 0


@pytest.fixture
def proxy(server):
    with Proxy(server.entry["HOST"], int(server.entry["PORT"])) as one:
        yield one


@pytest.fixture
def start(server):
    nodes = []

    def start(env, log=None, **options):
        server.empty()
        nodes.append(Node(server.watch(), (), options, env, log=log))
        nodes[-1].watch.until_idle(3)
        return nodes[-1]

    yield start
    for one in nodes:
        one.kill()


def test_an_outage_of_many_tries_is_survived(server, proxy, start):
    node = start(server.through(proxy))
    pids = node.children()
    server.crash()
    assert proxy.wait_for_arrivals(TRIES)
    server.start()
    watch = server.watch()
    server.enqueue("speak", "after many tries")
    watch.hear("after many tries")
    assert node.children() == pids
    assert node.stop() == 0


def read(log, count, pattern):
    """Whether so many lines match before the end, which comes with that of the node."""
    return len(list(islice(filter(re.compile(pattern).search, log), count))) == count


def test_a_node_that_ends_during_an_outage_leaves_nothing_once_the_database_is_back(server, start):
    patient = {"TEST_SHUTDOWN_TIMEOUT": "3600", "TEST_LEAVE_WITHIN": "3600"}
    out, into = os.pipe()
    with open(out) as log:
        node = start({**server.env, **patient, "TEST_LOG_LEVEL": "INFO"}, into)
        os.close(into)
        server.crash()
        node.signal(signal.SIGTERM)
        assert read(log, 3, "stopped: process=(worker|dispatcher|scheduler)")
        assert read(log, 4, "database away: process=supervisor")
        server.start()
        assert node.wait() == 0
    assert server.watch().value("select count(*) from steady_queue_processes") == 0


def waiting_for_locks(watch):
    return watch.value(
        "select count(*) from pg_stat_activity "
        "where application_name = 'steady_queue' and wait_event_type = 'Lock'"
    )


@pytest.mark.parametrize("settings", [{}, {"statement_timeout": "500ms"}])
def test_a_table_that_somebody_locks_is_waited_for(server, start, settings, tmp_path):
    node = start(server.as_role(**settings))
    watch = node.watch
    pids = node.children()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with server.connect() as locker:
        for number, table in enumerate(["running", "ready", "processes", "jobs"]):
            server.enqueue("wait_for", str(fifo))
            # Opens only when the task has opened its end.
            writer = open(fifo, "w")  # noqa: SIM115
            with locker.transaction():
                locker.execute(f"lock table steady_queue_{table} in access exclusive mode")
                writer.close()
                watch.until(lambda: waiting_for_locks(watch), "one that waits")
            watch.until(lambda done=number + 1: ended(watch) == done, "its end")
    outcomes = "select distinct attempt, lost_starts from steady_queue_outcomes"
    assert watch.rows(outcomes) == [(1, 0)]
    assert node.children() == pids
    assert node.stop() == 0


def test_a_server_without_a_free_connection_is_waited_for(server, proxy, start):
    server.as_role()
    node = start(server.through(proxy, user="node"))
    watch = node.watch
    pids = node.children()
    with server.connect() as connection:
        connection.execute("alter role node connection limit 0")
        try:
            watch.cut_sessions()
            watch.until(lambda: watch.sessions() == 0, "the end of all sessions")
            server.enqueue("speak", "when there is room")
            assert proxy.wait_for_arrivals(TRIES)
            assert watch.heard() == []
        finally:
            connection.execute("alter role node connection limit -1")
    watch.hear("when there is room")
    assert node.children() == pids
    assert node.stop() == 0


@pytest.mark.parametrize("isolation", ["serializable", "repeatable read"])
def test_the_default_isolation_is_the_applications_affair(server, start, isolation, tmp_path):
    role = server.as_role(default_transaction_isolation=isolation)
    with open(tmp_path / "log", "wb") as log:
        node = start(role, log, workers=[{"processes": 3}])
    watch = node.watch
    for number in range(30):
        server.enqueue("noop", number)
        server.enqueue_limited("noop", f"key {number % 3}", 2)
    watch.until(lambda: ended(watch) == 60, "all of them")
    watch.rows("select steady_queue_schedule_task('tick', 'tests.app.tasks.noop', '* * * * * * *')")
    watch.until(lambda: ended(watch) >= 62, "two runs of a schedule")
    watch.rows("select steady_queue_unschedule_task('tick')")
    assert watch.value("select count(*) from steady_queue_errors") == 0
    assert node.stop() == 0
    # Tried again, all would end well even so, later.
    assert "SerializationFailure" not in (tmp_path / "log").read_text()


@pytest.fixture
def small_disk(server):
    """A file system of 16 MB that holds the table of outcomes."""
    try:
        disk = SmallDisk(16, server.path / "data")
    except CannotMountError as error:
        pytest.skip(str(error))
    try:
        with server.connect() as connection:
            connection.execute(f"create tablespace small location '{disk.space}'")
            connection.execute("alter table steady_queue_outcomes set tablespace small")
            yield disk
            connection.execute("alter table steady_queue_outcomes set tablespace pg_default")
            connection.execute("drop tablespace small")
    finally:
        disk.close()


def refused(watch):
    return watch.value(
        "select xact_rollback from pg_stat_database where datname = current_database()"
    )


def test_a_full_disk_is_waited_for(server, start, small_disk):
    node = start(server.env)
    watch = node.watch
    pids = node.children()
    before = refused(watch)
    small_disk.fill()
    with server.connect() as connection:
        for _ in range(500):
            connection.execute("select steady_queue_enqueue('tests.app.tasks.noop')")
    watch.until(lambda: refused(watch) > before, "an outcome that finds no room")
    small_disk.free()
    watch.until_states(successful=500)
    assert watch.value("select count(*) from steady_queue_outcomes where lost_starts > 0") == 0
    assert node.children() == pids
    assert node.stop() == 0
