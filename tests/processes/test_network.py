"""Replies that never come, half-open connections, slow ones: nothing is lost, nothing runs twice.

Commands to the server and what the test looks at go past the proxy.
"""

import os
import signal
from itertools import count, pairwise

import pytest

from steady_queue import embedded
from tests.chaos.proxy import Proxy
from tests.processes.conftest import Node
from tests.processes.server import Server

pytestmark = [pytest.mark.processes, pytest.mark.slow]

SHORT = {"TEST_HEARTBEAT": "0.2", "TEST_THRESHOLD": "0.8", "TEST_SHUTDOWN_TIMEOUT": "1"}
PATIENT = 3600
"""Seconds: a reply that is only slow is no lost one."""
POLLING = {"workers": [{"polling_seconds": 1}], "dispatchers": [{"polling_seconds": 1}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    one = Server(tmp_path_factory.mktemp("network") / "server")
    yield one
    embedded.stop(one.path)


@pytest.fixture
def proxy(server):
    with Proxy(server.entry["HOST"], int(server.entry["PORT"])) as one:
        yield one


@pytest.fixture
def start(server, proxy):
    """Starts a node that reaches the database by the proxy, and is idle."""
    nodes = []

    def start(patience=PATIENT, **options):
        server.empty()
        env = {**server.through(proxy, patience=patience), **SHORT}
        nodes.append(Node(server.watch(), (), options, env))
        nodes[-1].watch.until_idle(3)
        return nodes[-1]

    yield start
    for node in nodes:
        node.kill()


def ended(watch):
    return watch.states().get("successful", 0)


def speak(server, count):
    for number in range(count):
        server.enqueue("speak", str(number))
    return [str(number) for number in range(count)]


def test_a_lost_reply_to_a_workers_commit_loses_nothing_and_repeats_nothing(server, proxy, start):
    # Polling, because a job may be claimed with the outcome that is handed in for a second time,
    # and the cut then waits for the next claim.
    node = start(workers=[{"polling_seconds": 0.2}])
    spoken = []
    # With one job at a time, replies to a claim and to a finish with a claim are lost in turn.
    for number in range(12):
        proxy.cut_reply_to(["queue_claim_jobs", "finish_and_claim_jobs"][number % 2])
        server.enqueue("speak", str(number))
        spoken.append(str(number))
        cuts = number + 1
        node.watch.until(
            lambda cuts=cuts: (ended(node.watch), proxy.cuts_made) == (cuts, cuts), "the end"
        )
    assert sorted(node.watch.heard()) == sorted(spoken)
    outcomes = "select distinct attempt, lost_starts from steady_queue_outcomes"
    assert node.watch.rows(outcomes) == [(1, 0)]
    assert node.stop() == 0
    assert node.watch.value("select count(*) from steady_queue_processes") == 0


PROCESSES = "select kind from steady_queue_processes order by kind"
WHOLE_NODE = [("dispatcher",), ("scheduler",), ("supervisor",), ("worker",)]


@pytest.mark.parametrize(
    "statement", ["register_process", "note_pid", "ensure_lanes", "sync_recurring", "heartbeat"]
)
def test_a_lost_reply_to_a_supervisor_leaves_it_and_its_children_up(
    server, proxy, start, statement
):
    proxy.cut_reply_to(statement, times=2)
    node = start()
    node.watch.until(lambda: not proxy.cuts, "the cuts")
    server.enqueue("speak", "after it")
    node.watch.hear("after it")
    # A number that was registered without its owner's hearing of it is swept.
    node.watch.until(lambda: node.watch.rows(PROCESSES) == WHOLE_NODE, "the sweep")
    assert node.stop() == 0


def test_a_lost_reply_to_a_recovery_charges_once(server, proxy, start):
    node = start()
    server.enqueue("nap", 3600)
    node.watch.hear("nap begins")
    proxy.cut_reply_to("recover_jobs")
    [pid] = node.worker_pids()
    os.kill(pid, signal.SIGKILL)
    node.watch.until(lambda: node.watch.heard() == ["nap begins"] * 2, "the second start")
    assert proxy.cuts_made == 1
    assert node.watch.rows("select lost_starts from steady_queue_running") == [(1,)]


def test_a_lost_reply_to_a_dispatchers_commit_moves_each_job_once(server, proxy, start):
    node = start()
    with server.connect() as connection:
        for number in range(5):
            proxy.cut_reply_to("dispatch_jobs")
            connection.execute(
                "select steady_queue_enqueue('tests.app.tasks.speak', args => %s, "
                "run_after => clock_timestamp() + interval '0.1 s')",
                [f'["{number}"]'],
            )
            node.watch.until(
                lambda done=number + 1: ended(node.watch) == done and not proxy.cuts, "the end"
            )
    assert node.watch.heard() == list("01234")
    assert node.stop() == 0


def test_a_lost_reply_to_a_schedulers_commit_repeats_no_run_and_skips_none(server, proxy, start):
    node = start()
    watch = node.watch
    runs = "select run_at, job from steady_queue_recurring_executions order by run_at"
    watch.rows(
        "select steady_queue_schedule_task('tick', 'tests.app.tasks.speak', '* * * * * * *', "
        """p_arguments => '{"args": ["tick"], "kwargs": {}}', p_missed => 'all')"""
    )
    for seen in (1, 2, 3):
        watch.until(lambda seen=seen: len(watch.rows(runs)) > seen, "a run")
        proxy.cut_reply_to("^commit")
        watch.until(lambda: not proxy.cuts, "the cut")
    seen = len(watch.rows(runs))
    watch.until(lambda: len(watch.rows(runs)) > seen, "one more run")
    watch.rows("select steady_queue_unschedule_task('tick')")
    made = watch.rows(runs)
    assert {(b - a).total_seconds() for (a, _), (b, _) in pairwise(made)} == {1.0}
    assert sorted(job for _, job in made) == [
        job for (job,) in watch.rows("select id from steady_queue_jobs order by id")
    ]
    assert node.stop() == 0


def test_half_open_connections_are_given_up_and_replaced(server, proxy, start):
    node = start(patience=1, **POLLING)
    pids = node.children()
    for number in range(3):
        assert proxy.strand() >= 1
        server.enqueue("speak", f"half open {number}")
        node.watch.hear(f"half open {number}")
    assert node.children() == pids
    assert node.stop() == 0


def test_a_claim_into_a_half_open_connection_is_put_back(server, proxy, start):
    node = start(patience=1, **POLLING)
    node.watch.close_gate()
    server.enqueue("gated", "held")
    node.watch.hear("held begins")
    # Its outcome will be handed in by a connection that is deaf.
    assert proxy.strand("finish_jobs|claim_jobs") >= 1
    node.watch.open_gate()
    node.watch.until_states(successful=1)
    assert node.watch.heard() == ["held begins", "held ends"]


def enqueue_after_short_ones(calls, server, watch):
    """All at once, to a worker that now claims ahead, unless the machine was slow."""
    for _ in range(10):
        server.enqueue("noop")
        watch.until(lambda: set(watch.states()) == {"successful"}, "the end of a short one")
    with server.connect() as connection, connection.transaction():
        for task, argument in calls:
            connection.execute(
                "select steady_queue_enqueue(%s, args => json_build_array(%s::text))",
                (f"tests.app.tasks.{task}", str(argument)),
            )


def test_a_lost_reply_to_a_release_costs_no_running_task(server, proxy, start):
    node = start(workers=[{"threads": 1}])
    watch, pids = node.watch, node.children()
    proxy.cut_reply_to("release_jobs")
    tries = count(1)
    while not proxy.cuts_made:
        word = f"held {next(tries)}"
        behind = [f"behind {word}, {number}" for number in range(3)]
        watch.close_gate()
        calls = [("gated", word), *(("speak", one) for one in behind)]
        enqueue_after_short_ones(calls, server, watch)
        watch.hear(f"{word} begins")
        if watch.value("select count(*) from steady_queue_running") > 1 or not proxy.cuts:
            watch.until(lambda: proxy.cuts_made, "the release")
        watch.open_gate()
        watch.hear(f"{word} ends", *behind)
    assert len(watch.heard()) == len(set(watch.heard())) == 5 * (next(tries) - 1)
    assert node.children() == pids
    assert node.stop() == 0


RUNNING = "select job from steady_queue_running"
GIVE_UP = """
    with worker as (select id from steady_queue_processes where kind = 'worker')
    select steady_queue_recover_jobs(id, '{}', 'E', 'm') from worker
"""
THRESHOLD_OVER = "select clock_timestamp() - %s > interval '0.8 s'"


def test_who_was_cut_off_for_long_does_not_start_what_it_had_claimed_ahead(
    server, proxy, start, tmp_path
):
    node = start(patience=1, workers=[{"threads": 1}])
    watch, first, second, noted = node.watch, *(tmp_path / name for name in ("a", "b", "noted"))
    for fifo in (first, second):
        os.mkfifo(fifo)
    calls = [("wait_for", first), ("wait_for", second), ("note", noted)]
    enqueue_after_short_ones(calls, server, watch)
    # Opens only when the task has opened its end.
    writer = open(first, "w")  # noqa: SIM115
    proxy.silence()
    claimed_ahead = len(watch.rows(RUNNING)) == 3
    # Its outcome keeps the worker from giving back what waits behind the second.
    writer.close()
    if claimed_ahead:
        cut_off_at = watch.value("select clock_timestamp()")
        writer = open(second, "w")  # noqa: SIM115
        watch.until(lambda: watch.value(THRESHOLD_OVER, cut_off_at), "the threshold")
        assert watch.rows(GIVE_UP) == [(3,)]
        writer.close()
    proxy.silence(False)
    for fifo in (first, second) if claimed_ahead else (second,):
        open(fifo, "w").close()
    watch.until(lambda: ended(watch) == 13, "all of them")
    assert noted.read_text() == "noted\n"
    assert node.stop() == 0


def test_a_half_open_listen_connection_is_noticed_and_replaced(server, proxy, start):
    node = start(patience=1, **POLLING)
    accepted = proxy.accepted
    stranded = proxy.strand("^listen")
    assert stranded >= 1
    server.enqueue("speak", "polled for")
    node.watch.hear("polled for")
    node.watch.until(lambda: proxy.accepted >= accepted + stranded, "new listeners")
    assert node.stop() == 0


def test_a_network_that_was_silent_for_a_while_is_used_again(server, proxy, start):
    node = start(patience=1, **POLLING)
    pids = node.children()
    accepted = proxy.accepted
    proxy.silence()
    server.enqueue("speak", "after the silence")
    node.watch.until(lambda: proxy.accepted > accepted + 3, "new tries")
    proxy.silence(False)
    node.watch.hear("after the silence")
    assert node.children() == pids
    assert node.stop() == 0


def test_a_slow_network_slows_and_no_more(server, proxy, start):
    node = start()
    pids = node.children()
    proxy.delay(0.2)
    spoken = speak(server, 10)
    node.watch.until(lambda: ended(node.watch) == 10, "all of them")
    assert sorted(node.watch.heard()) == sorted(spoken)
    assert node.children() == pids
    assert node.stop() == 0


def test_resets_again_and_again_lose_nothing_and_repeat_nothing(server, proxy, start):
    node = start()
    spoken = []
    for number in range(10):
        server.enqueue("speak", str(number))
        spoken.append(str(number))
        proxy.reset("steady_queue")
        node.watch.until(lambda done=number // 3: ended(node.watch) >= done, "some of them")
    node.watch.until(lambda: ended(node.watch) == 10, "all of them")
    assert sorted(node.watch.heard()) == sorted(spoken)
    assert node.stop() == 0
