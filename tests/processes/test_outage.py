"""The database goes away and comes back: nothing is lost, nothing runs twice, nobody dies."""

import os

import pytest

from steady_queue import embedded
from tests.processes.conftest import Node
from tests.processes.server import Server

pytestmark = [pytest.mark.processes, pytest.mark.slow]


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
    cut = (
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where application_name = 'steady_queue' and datname = current_database()"
    )
    for number in range(20):
        server.enqueue("speak", f"cut {number}")
        watch.rows(cut)
    watch.until(lambda: watch.states().get("successful", 0) == before + 20, "all of them")
    # A cut between the start of a task and the record of its end costs no second start.
    words = [word for word in watch.heard() if word.startswith("cut ")]
    assert sorted(words) == sorted(f"cut {number}" for number in range(20))
    assert node.stop() == 0
