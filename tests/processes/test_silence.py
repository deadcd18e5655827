"""Processes that are stopped, frozen or alone: who is called dead, when, and what that costs."""

import os
import signal

import pytest

from tests.app.tasks import gated, speak
from tests.processes.conftest import alive

pytestmark = [pytest.mark.processes, pytest.mark.slow]

THRESHOLD = 3
SWEEPING = {"TEST_HEARTBEAT": "0.3", "TEST_THRESHOLD": str(THRESHOLD)}


def until_swept_for(watch, thresholds):
    """Until the node that began last has spoken, and could sweep, for so long."""
    began_at = watch.value("select clock_timestamp()")
    spoke = (
        "select exists (select from steady_queue_processes "
        "where id = (select max(id) from steady_queue_processes where kind = 'supervisor') "
        "and heartbeat_at > %s::timestamptz + %s * interval '1 second' "
        "and steady_since < heartbeat_at - %s * interval '1 second')"
    )
    watch.until(
        lambda: watch.value(spoke, began_at, thresholds * THRESHOLD, THRESHOLD), "a steady sweeper"
    )


def freeze(pids):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)


def thaw(pids):
    for pid in reversed(pids):
        os.kill(pid, signal.SIGCONT)


def held_by(node, watch):
    """A node whose worker performs a job that waits at the gate."""
    watch.close_gate()
    one = node(env={**SWEEPING, "TEST_SHUTDOWN_TIMEOUT": "3600"})
    gated.enqueue("held")
    watch.hear("held begins")
    return one


def test_a_node_that_takes_longer_to_stop_than_the_threshold_is_not_called_dead(node, watch):
    one = held_by(node, watch)
    claim = watch.rows("select process, claim from steady_queue_running")
    node("--only-dispatch", env=SWEEPING)
    watch.until_idle(4)
    one.signal(signal.SIGTERM)
    watch.until(lambda: len(one.children()) == 1, "the end of the idle children")
    until_swept_for(watch, 2)
    assert watch.rows("select process, claim from steady_queue_running") == claim
    watch.open_gate()
    assert one.wait() == 0
    assert watch.rows("select attempt, lost_starts from steady_queue_outcomes") == [(1, 0)]
    assert watch.heard() == ["held begins", "held ends"]


@pytest.mark.parametrize("thresholds", [0, 2])
def test_a_frozen_worker_keeps_its_job_for_as_long_as_its_supervisor_sees_it(
    node, watch, thresholds
):
    one = held_by(node, watch)
    node(env=SWEEPING)
    pids = one.worker_pids()
    freeze(pids)
    watch.open_gate()
    until_swept_for(watch, thresholds)
    assert watch.states() == {"running": 1}
    thaw(pids)
    watch.until_states(successful=1)
    assert watch.heard() == ["held begins", "held ends"]
    assert one.worker_pids() == pids


def test_a_worker_whose_supervisor_is_frozen_is_fenced_and_replaced(node, watch):
    one = held_by(node, watch)
    [pid] = one.worker_pids()
    freeze([one.process.pid])
    node(env=SWEEPING)
    watch.until(lambda: watch.heard() == ["held begins"] * 2, "the second start")
    until_the_first_start_is_dropped(watch, pid)
    thaw([one.process.pid])
    watch.until(lambda: one.worker_pids() not in ([], [pid]), "a new worker")
    watch.until_idle(6)
    assert len(watch.processes("supervisor")) == 2
    assert one.stop() == 0


def test_a_whole_node_that_was_frozen_drops_its_outcome_and_registers_anew(node, watch):
    one = held_by(node, watch)
    [pid] = one.worker_pids()
    pids = [*one.children(), one.process.pid]
    before = set(watch.processes("worker"))
    freeze(pids)
    second = node(env=SWEEPING)
    watch.until(lambda: watch.heard() == ["held begins"] * 2, "the second start")
    thaw(pids)
    until_the_first_start_is_dropped(watch, pid)
    watch.until(lambda: len(watch.processes("supervisor")) == 2, "the supervisor's new number")
    assert second.stop() == 0
    speak.enqueue("anew")
    watch.hear("anew")
    assert before.isdisjoint(watch.processes("worker"))
    assert one.stop() == 0


def until_the_first_start_is_dropped(watch, pid):
    """Its task ends, and so does the worker, which has lost its number; the second start counts."""
    claim = watch.rows("select process, claim from steady_queue_running")
    watch.open_gate(1)
    watch.until(lambda: not alive(pid), "the end of the worker without a number")
    assert watch.heard() == ["held begins", "held begins", "held ends"]
    assert watch.rows("select process, claim from steady_queue_running") == claim
    watch.open_gate(2)
    watch.until_states(successful=1)
    [(process, _)] = claim
    assert watch.rows("select process, attempt, lost_starts from steady_queue_outcomes") == [
        (process, 1, 1)
    ]


def test_what_a_node_without_supervisor_ran_is_put_back_by_another_after_the_threshold(node, watch):
    watch.close_gate()
    one = node(env={**SWEEPING, "TEST_SHUTDOWN_TIMEOUT": "0.2"})
    gated.enqueue("held")
    watch.hear("held begins")
    node(env=SWEEPING)
    watch.until_idle(5)
    children = one.children()
    one.process.kill()
    [spoke_at] = watch.rows(
        "select max(heartbeat_at) from steady_queue_processes p "
        "where exists (select from steady_queue_running r where r.process = p.id)"
    )
    watch.until(lambda: not any(map(alive, children)), "the end of the children")
    watch.until(lambda: watch.heard() == ["held begins"] * 2, "the second start")
    silent = "select extract(epoch from claimed_at - %s) from steady_queue_running"
    assert watch.value(silent, *spoke_at) > THRESHOLD
    watch.open_gate()
    watch.until_states(successful=1)
