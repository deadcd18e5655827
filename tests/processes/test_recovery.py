"""Who is dead, who only seemed to be, and what each of them leaves behind."""

import os
import re
import signal
from pathlib import Path

import pytest

from tests.app.tasks import hold_the_interpreter, nap, speak

pytestmark = [pytest.mark.processes, pytest.mark.slow]

SHORT = {"TEST_HEARTBEAT": "0.2", "TEST_THRESHOLD": "1"}


def signal_all(node, number):
    for pid in [node.process.pid, *node.children()]:
        os.kill(pid, number)


def owner(watch):
    """The supervisor of the process that runs the only job."""
    rows = watch.rows(
        "select p.supervisor from steady_queue_running r join steady_queue_processes p "
        "on p.id = r.process"
    )
    return rows[0][0] if rows else None


def test_a_node_that_was_given_up_comes_back_drops_its_claims_and_registers_anew(
    node, watch, capfd
):
    first = node(env=SHORT)
    nap.enqueue(2, "given up")
    watch.hear("given up begins")
    lost_number = owner(watch)
    [(job, worker)] = watch.rows("select job, process from steady_queue_running")
    signal_all(first, signal.SIGSTOP)
    second = node(env=SHORT)
    watch.until_states(successful=1)
    [(process, lost_starts)] = watch.rows("select process, lost_starts from steady_queue_outcomes")
    assert lost_starts == 1
    assert watch.heard() == ["given up begins", "given up begins", "given up ends"]
    signal_all(first, signal.SIGCONT)
    heard = ""

    def is_dropped():
        nonlocal heard
        heard += capfd.readouterr().err
        about = rf"\[{job} tests.app.tasks.nap default 1 {worker}\]"
        return re.search(rf"stale: job={job} .*{about}", heard)

    watch.until(is_dropped, "an outcome that is dropped")
    assert watch.rows("select process from steady_queue_outcomes") == [(process,)]
    assert second.stop() == 0
    speak.enqueue("registered anew")
    watch.hear("registered anew")
    [number] = watch.processes("supervisor")
    assert number > lost_number
    assert first.stop() == 0
    assert watch.value("select count(*) from steady_queue_processes") == 0


def test_a_task_that_keeps_the_interpreter_beyond_the_threshold_keeps_its_job(node, watch):
    one = node(env=SHORT)
    # Others look for silent processes, too.
    node("--only-dispatch", env=SHORT)
    watch.until_idle(5)
    pids = one.worker_pids()
    hold_the_interpreter.enqueue(3, "held")
    watch.until_states(successful=1)
    assert watch.heard() == ["held begins", "held ends"]
    assert watch.rows("select attempt, lost_starts from steady_queue_outcomes") == [(1, 0)]
    assert one.worker_pids() == pids


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts files by way of /proc")
def test_a_hundred_restarts_leave_nothing_behind_in_the_supervisor(node, watch):
    one = node("--only-work", env={"TEST_STEADY_AFTER": "0", "TEST_LOG_LEVEL": "CRITICAL"})
    watch.until_idle(1)

    def held():
        folder = Path("/proc", str(one.process.pid))
        sessions = watch.value(
            "select count(*) from pg_stat_activity where datname = current_database() "
            "and application_name = 'steady_queue'"
        )
        return len(os.listdir(folder / "fd")), len(os.listdir(folder / "task")), sessions

    before = held()
    last = one.children()
    for _ in range(100):
        os.kill(last[0], signal.SIGKILL)
        last = watch.until(
            lambda last=last: [p for p in one.children() if p not in last], "a child"
        )
    speak.enqueue("still there")
    watch.hear("still there")
    watch.until_idle(1)
    watch.until(lambda: held() == before, f"{before} files, threads and sessions")
    assert len(watch.processes("worker")) == 1
    assert one.stop() == 0
