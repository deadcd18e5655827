"""Limits as they hold between real threads, processes and nodes."""

import os
import signal

import pytest
from django.tasks import default_task_backend

from tests.app.tasks import limited_gated, limited_gated_by_key, only_one_gated

pytestmark = pytest.mark.processes

MOST_AT_ONCE = """
    with said as (
      select split_part(word, ' ', 1) as key, at, split_part(word, ' ', 2) = 'begins' as begins
      from heard
    ), running as (
      select key, sum(case when begins then 1 else -1 end) over (
        partition by key order by at, begins rows unbounded preceding) as count
      from said
    )
    select key, max(count) from running group by key
"""
ALONE = {"TEST_THRESHOLD": "3600"}
"""Nobody is swept: what is handed over was handed over by who saw the death."""


@pytest.mark.parametrize(("nodes", "processes"), [(1, 2), (2, 1)])
def test_a_limit_holds_on_sixteen_threads_and_is_reached(node, watch, nodes, processes):
    for _ in range(nodes):
        node("--only-work", workers=[{"processes": processes, "threads": 8}])
    watch.until_idle(2)
    watch.close_gate()
    keys = [f"key{number % 3}" for number in range(24)]
    default_task_backend.enqueue_all([(limited_gated_by_key, [key, 0.02], {}) for key in keys])
    # As many as may wait at the gate; the others never do.
    watch.until_states(running=6, blocked=18)
    watch.until(lambda: len(watch.heard()) == 6, "the first of each key")
    watch.open_gate()
    watch.until_states(successful=24)
    assert dict(watch.rows(MOST_AT_ONCE)) == {"key0": 2, "key1": 2, "key2": 2}


def test_a_slot_counts_on_every_node_and_that_of_a_killed_worker_is_handed_on(node, watch):
    watch.close_gate()
    first = node("--only-work", workers=[{"threads": 1}], env=ALONE)
    limited_gated.enqueue("one")
    watch.hear("one begins")
    node("--only-work", workers=[{"threads": 2}], env=ALONE)
    watch.until_idle(1)
    limited_gated.enqueue("two")
    limited_gated.enqueue("three")
    watch.until_states(running=2, blocked=1)
    [pid] = first.worker_pids()
    os.kill(pid, signal.SIGKILL)
    watch.hear("three begins")
    watch.open_gate()
    watch.until_states(successful=3)
    assert sorted(watch.heard()) == sorted(
        [
            "one begins",
            *(f"{word} {verb}" for word in ("one", "two", "three") for verb in ("begins", "ends")),
        ]
    )


def test_a_job_that_finds_no_slot_is_discarded_and_never_runs(node, watch):
    watch.close_gate()
    node(workers=[{"threads": 4}])
    only_one_gated.enqueue("first")
    watch.hear("first begins")
    only_one_gated.enqueue("second")
    watch.until_states(running=1, discarded=1)
    watch.open_gate()
    watch.until_states(successful=1, discarded=1)
    only_one_gated.enqueue("third")
    watch.until_states(successful=2, discarded=1)
    assert watch.heard() == ["first begins", "first ends", "third begins", "third ends"]
