"""Limits as they hold between real threads, processes and nodes."""

import os
import signal

import pytest
from django.tasks import default_task_backend

from steady_queue.concurrency import limits_concurrency
from tests.app.tasks import (
    gated,
    limited_gated,
    limited_gated_by_key,
    nap,
    noop,
    only_one_gated,
)

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


def enqueue_short(*more, count=60, to=1):
    """Jobs that say k, with others amid them."""
    short, *others = (
        limits_concurrency(key="k", group="short", to=to)(task) for task in (nap, *more)
    )
    calls = [(short, [0, "k"], {}) for _ in range(count)]
    default_task_backend.enqueue_all(
        [*calls, *((other, [other.name], {}) for other in others), *calls]
    )
    return 2 * count + len(others)


def heard_of_k(watch):
    return [watch.heard().count(f"k {verb}") for verb in ("begins", "ends")]


def test_short_jobs_of_one_key_come_to_share_a_slot(node, watch):
    node("--only-work")
    task = limits_concurrency(key="k")(noop)
    before = watch.value("select nextval('steady_queue_slot_numbers')")

    def shared():
        if not watch.states().keys() - {"successful"}:
            default_task_backend.enqueue_all([(task, [], {})] * 20)
        return watch.value(
            "select count(*) > (select last_value - %s from steady_queue_slot_numbers) "
            "from steady_queue_outcomes",
            before,
        )

    watch.until(shared, "a slot with several jobs")


@pytest.mark.parametrize("to", [1, 2])
def test_short_jobs_share_slots_on_two_processes_and_keep_the_limit(node, watch, to):
    node("--only-work", workers=[{"processes": 2, "threads": 4}])
    watch.until_idle(2)
    count = enqueue_short(count=100, to=to)
    watch.until_states(successful=count)
    assert dict(watch.rows(MOST_AT_ONCE))["k"] <= to
    assert heard_of_k(watch) == [count, count]


def test_those_that_stand_behind_a_long_job_run_in_another_slot(node, watch):
    watch.close_gate()
    node("--only-work", workers=[{"processes": 2, "threads": 2}])
    watch.until_idle(2)
    count = enqueue_short(gated, to=2)
    watch.until_states(successful=count - 1, running=1)
    watch.open_gate()
    watch.until_states(successful=count)
    assert dict(watch.rows(MOST_AT_ONCE))["k"] <= 2


def test_what_a_killed_worker_had_in_one_slot_runs_under_the_limit(node, watch):
    watch.close_gate()
    one = node("--only-work", workers=[{"threads": 2}])
    count = enqueue_short(gated)
    watch.hear("gated begins")
    [pid] = one.worker_pids()
    os.kill(pid, signal.SIGKILL)
    watch.open_gate()
    watch.until_states(successful=count)
    assert dict(watch.rows(MOST_AT_ONCE))["k"] == 1
    charged = "select task, lost_starts from steady_queue_all_jobs where lost_starts > 0"
    assert watch.rows(charged) == [("tests.app.tasks.gated", 1)]


def test_a_stopped_worker_gives_back_what_it_had_in_one_slot(node, watch):
    one = node("--only-work")
    count = enqueue_short()
    watch.hear("k ends")
    assert one.stop() == 0
    ended = watch.states().get("successful", 0)
    assert heard_of_k(watch) == [ended, ended]
    assert watch.rows("select * from steady_queue_running") == []
    node("--only-work")
    watch.until_states(successful=count)
    assert heard_of_k(watch) == [count, count]
