"""Signals at bad moments: amid a query, by the hundred, to everybody at once."""

import os
import random
import signal

import pytest

from tests.app.tasks import gated, nap, speak
from tests.conftest import connect
from tests.processes.conftest import ROOT, alive

pytestmark = [pytest.mark.processes, pytest.mark.slow]

SHORT = {"TEST_HEARTBEAT": "0.2", "TEST_THRESHOLD": "1"}
PATIENT = {"TEST_SHUTDOWN_TIMEOUT": "3600"}
"""As long as a task that ends can take."""
DIE_AT_IMPORT = """
import os, sys, time
if '"kind": "dispatcher"' in " ".join(sys.orig_argv):
    with open({path!r}, "a") as starts:
        starts.write(f"{{time.monotonic()}}\\n")
    os._exit(3)
"""


def until_waits_for(watch, table):
    """Until a process of the queue waits for a lock on the table."""
    watch.until(
        lambda: watch.value(
            "select exists (select from pg_locks join pg_stat_activity using (pid) "
            "where relation = %s::regclass and not granted and application_name = 'steady_queue')",
            table,
        ),
        f"a wait for {table}",
    )


def test_a_worker_told_to_quit_amid_a_query_is_replaced(node, watch):
    # Its backend may claim for it even after its end: a sweep puts that back.
    one = node("--only-work", env=SHORT)
    watch.until_idle(1)
    [pid] = one.worker_pids()
    with connect() as connection:
        connection.execute("lock table steady_queue_running in exclusive mode")
        speak.enqueue("claimed later")
        until_waits_for(watch, "steady_queue_running")
        os.kill(pid, signal.SIGQUIT)
        watch.until(lambda: not alive(pid), "the end of the worker")
    watch.until_states(successful=1)
    assert watch.heard() == ["claimed later"]
    assert one.worker_pids() != [pid]


def test_a_supervisor_told_to_quit_amid_a_query_ends_and_others_put_back_what_ran(node, watch):
    one = node(env=SHORT)
    nap.enqueue(3600)
    watch.hear("nap begins")
    children = one.children()
    with connect() as connection:
        connection.execute("lock table steady_queue_processes in exclusive mode")
        until_waits_for(watch, "steady_queue_processes")
        one.signal(signal.SIGQUIT)
        # It may not end by itself while the database keeps it waiting.
        assert one.wait() == -signal.SIGALRM
    watch.until(lambda: not any(map(alive, children)), "the end of the children")
    node(env=SHORT)
    watch.until(lambda: watch.heard() == ["nap begins"] * 2, "the second start")


@pytest.mark.parametrize("seed", [1, 2])
def test_two_hundred_mixed_signals_to_the_children_lose_nothing(node, watch, seed):
    chosen = random.Random(seed)
    # However many of their processes a slow machine lets the signals meet.
    one = node(workers=[{"processes": 2, "threads": 4}], env={"TEST_MAX_LOST_STARTS": "1000"})
    watch.until_idle(4)
    for number in range(40):
        nap.enqueue(0.05, f"nap{number}")
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGSTOP, signal.SIGCONT]
    for _ in range(200):
        if pids := one.children():
            _send(chosen.choice(pids), chosen.choice([*numbers, signal.SIGKILL, signal.SIGUSR2]))
        one.signal(chosen.choice([signal.SIGCHLD, signal.SIGCONT]))
    for pid in one.children():
        _send(pid, signal.SIGCONT)
    watch.until_states(successful=40)
    assert one.process.poll() is None
    assert one.stop() == 0
    assert watch.value("select count(*) from steady_queue_processes") == 0


def _send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def test_two_hundred_mixed_signals_to_the_supervisor_are_one_graceful_stop(node, watch):
    watch.close_gate()
    one = node(env=PATIENT)
    watch.until_idle(3)
    gated.enqueue("held")
    watch.hear("held begins")
    children = one.children()
    for number in range(200):
        one.signal([signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGCONT][number % 4])
    watch.until(lambda: len(one.children()) == 1, "the end of the idle children")
    watch.open_gate()
    assert one.wait() == 0
    assert watch.heard() == ["held begins", "held ends"]
    assert watch.states() == {"successful": 1}
    assert not any(map(alive, children))


def test_ctrl_c_for_the_whole_group_lets_running_tasks_end(node, watch):
    watch.close_gate()
    one = node(env=PATIENT)
    gated.enqueue("held")
    watch.hear("held begins")
    # Only the supervisor is in it: the children are for it to stop.
    assert one.process.pid not in map(os.getpgid, one.children())
    os.killpg(one.process.pid, signal.SIGINT)
    watch.until(lambda: len(one.children()) == 1, "the end of the idle children")
    watch.open_gate()
    assert one.wait() == 0
    assert watch.states() == {"successful": 1}
    assert watch.value("select count(*) from steady_queue_processes") == 0


def test_a_child_that_dies_at_import_is_started_ever_later_and_harms_nobody(node, watch, tmp_path):
    starts = tmp_path / "starts"
    (tmp_path / "sitecustomize.py").write_text(DIE_AT_IMPORT.format(path=str(starts)))
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    one = node(env={"PYTHONPATH": path, "TEST_STEADY_AFTER": "3600"})
    watch.until_idle(2)
    [pid] = one.worker_pids()
    for number in range(4):
        speak.enqueue(number)
        count = number + 1
        watch.until(
            lambda count=count: starts.exists() and len(starts.read_text().split()) >= count,
            f"start {count}",
        )
    watch.until_states(successful=4)
    moments = [float(moment) for moment in starts.read_text().split()]
    # The first death is answered at once; 1 s after the second, 2 s after the third.
    assert moments[2] - moments[1] >= 1
    assert moments[3] - moments[2] >= 2
    assert one.worker_pids() == [pid]
    assert len(watch.processes("scheduler")) == 1
    assert one.stop() == 0
