"""Processes that are stopped, frozen or alone: who is called dead, and what that costs.

Nobody waits for a threshold here: a supervisor is seen to speak for its processes, or the rows of
those that do not are made as old as if they had been silent for long. Only a worker that its
supervisor kills has to stay frozen for as long as it takes.
"""

import os
import re
import signal

import pytest

from tests.app.tasks import gated, hold_the_interpreter, speak
from tests.processes.conftest import alive

pytestmark = [pytest.mark.processes, pytest.mark.slow]

SPEAKING = {"TEST_HEARTBEAT": "0.2", "TEST_THRESHOLD": "3600", "TEST_SHUTDOWN_TIMEOUT": "3600"}
"""No machine is so slow that somebody is called dead by this."""
SWEEPING = {"TEST_HEARTBEAT": "0.2", "TEST_THRESHOLD": "1"}

NUMBERS = """
    select id from steady_queue_processes
    where (select id from steady_queue_processes where pid = %s) in (id, supervisor)
"""
HAVE_SPOKEN = """
    select bool_and(p.heartbeat_at > %s) from steady_queue_processes p
    where p.id in (
      select unnest(array[h.id, h.supervisor]) from steady_queue_processes h
      join steady_queue_running r on r.process = h.id)
"""
SILENCE = """
    update steady_queue_processes
    set heartbeat_at = case when id = any (%(silent)s) then '2000-01-01' else heartbeat_at end,
      steady_since = '2000-01-01'
"""
SILENT = """
    select s.heartbeat_at > p.heartbeat_at + interval '1 s'
    from steady_queue_processes p join steady_queue_processes s on s.id = p.supervisor
    where p.kind = 'worker'
"""
AT_THE_GATE = """
    select exists (select from pg_locks join pg_database on pg_database.oid = database
      where locktype = 'advisory' and not granted and datname = current_database())
"""
STARTS = ["held begins", "held begins"]


def until_spoken_for(watch):
    """Until who runs a job, and its supervisor, were said to live, and once more after that."""
    for _ in range(2):
        now = watch.value("select clock_timestamp()")
        watch.until(lambda now=now: watch.value(HAVE_SPOKEN, now), "a heartbeat")


def until_given_up(watch, silent):
    """Until another has begun what these processes hold, which say nothing any more."""

    def begun():
        # Again and again: a last heartbeat may have been on its way.
        watch.connection.execute(SILENCE, {"silent": silent})
        return watch.heard() == STARTS

    watch.until(begun, "the second start")


def freeze(pids):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)


def thaw(pids):
    for pid in reversed(pids):
        os.kill(pid, signal.SIGCONT)


def held_by(node, watch, *arguments, env=SPEAKING, **options):
    """A node one of whose workers performs a job that waits at the gate."""
    watch.close_gate()
    one = node(*arguments, env=env, **options)
    gated.enqueue("held")
    watch.until(lambda: watch.value(AT_THE_GATE), "a start")
    return one


def numbers(node, watch):
    return [number for (number,) in watch.rows(NUMBERS, node.process.pid)]


def test_a_node_that_takes_long_to_stop_says_meanwhile_that_it_lives(node, watch):
    one = held_by(node, watch)
    claim = watch.rows("select process, claim from steady_queue_running")
    one.signal(signal.SIGTERM)
    watch.until(lambda: len(one.children()) == 1, "the end of the idle children")
    until_spoken_for(watch)
    assert watch.rows("select process, claim from steady_queue_running") == claim
    watch.open_gate()
    assert one.wait() == 0
    assert watch.rows("select attempt, lost_starts from steady_queue_outcomes") == [(1, 0)]
    assert watch.heard() == ["held begins", "held ends"]


def test_nobody_speaks_for_a_frozen_worker_which_goes_on_within_the_threshold(node, watch):
    one = held_by(node, watch)
    pids = one.worker_pids()
    freeze(pids)
    watch.open_gate()
    watch.until(lambda: watch.value(SILENT), "a supervisor that no longer speaks for it")
    assert watch.states() == {"running": 1}
    thaw(pids)
    watch.until_states(successful=1)
    watch.until(lambda: not watch.value(SILENT), "a supervisor that speaks for it again")
    assert watch.heard() == ["held begins", "held ends"]
    assert watch.rows("select attempt, lost_starts from steady_queue_outcomes") == [(1, 0)]
    assert one.worker_pids() == pids


def test_a_frozen_worker_is_given_up_by_its_own_supervisor_then_fenced_and_replaced(node, watch):
    one = held_by(node, watch, "--only-work", workers=[{"processes": 2, "threads": 1}])
    [(pid, number)] = watch.rows(
        "select p.pid, p.id from steady_queue_running r "
        "join steady_queue_processes p on p.id = r.process"
    )
    freeze([pid])
    until_given_up(watch, [number])
    thaw([pid])
    until_the_first_start_is_dropped(watch, pid)
    watch.until(lambda: len(one.worker_pids()) == 2, "a worker in its place")
    assert number not in watch.processes("worker")
    assert one.stop() == 0


def test_a_worker_that_stays_frozen_is_killed_and_replaced_by_its_supervisor(node, watch):
    one = held_by(node, watch, "--only-work", env=SWEEPING)
    pids = one.worker_pids()
    freeze(pids)
    watch.until(lambda: not any(map(alive, pids)), "its end")
    watch.until(lambda: watch.heard() == STARTS, "the second start")
    watch.open_gate()
    watch.until_states(successful=1)
    assert watch.rows("select attempt, lost_starts from steady_queue_outcomes") == [(1, 1)]
    assert one.stop() == 0


def test_a_supervisor_speaks_for_a_worker_whose_task_keeps_the_interpreter(node, watch, tmp_path):
    one = node(env=SPEAKING)
    watch.until_idle(3)
    pids = one.worker_pids()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    hold_the_interpreter.enqueue(str(fifo), "held")
    watch.hear("held begins")
    until_spoken_for(watch)
    # Opens only when the task has opened its end.
    open(fifo, "w").close()
    watch.until_states(successful=1)
    assert watch.heard() == ["held begins", "held ends"]
    assert watch.rows("select attempt, lost_starts from steady_queue_outcomes") == [(1, 0)]
    assert one.worker_pids() == pids


def test_a_worker_whose_supervisor_is_frozen_is_fenced_and_replaced(node, watch):
    one = held_by(node, watch)
    [pid] = one.worker_pids()
    freeze([one.process.pid])
    silent = numbers(one, watch)
    node(env=SPEAKING)
    until_given_up(watch, silent)
    until_the_first_start_is_dropped(watch, pid)
    thaw([one.process.pid])
    watch.until(lambda: one.worker_pids() not in ([], [pid]), "a new worker")
    watch.until_idle(6)
    assert len(watch.processes("supervisor")) == 2
    assert one.stop() == 0


def test_a_whole_node_that_was_frozen_drops_its_outcome_and_registers_anew(node, watch, capfd):
    one = held_by(node, watch)
    [pid] = one.worker_pids()
    pids = [*one.children(), one.process.pid]
    silent = numbers(one, watch)
    [(job, worker)] = watch.rows("select job, process from steady_queue_running")
    freeze(pids)
    second = node(env=SPEAKING)
    until_given_up(watch, silent)
    thaw(pids)
    until_the_first_start_is_dropped(watch, pid)
    about = rf"\[{job} tests.app.tasks.gated default 1 {worker}\]"
    assert re.search(rf"stale: job={job} .*{about}", capfd.readouterr().err)
    watch.until(lambda: len(watch.processes("supervisor")) == 2, "the supervisor's new number")
    assert second.stop() == 0
    speak.enqueue("anew")
    watch.hear("anew")
    assert set(silent).isdisjoint(numbers(one, watch))
    assert one.stop() == 0
    assert watch.value("select count(*) from steady_queue_processes") == 0


def until_the_first_start_is_dropped(watch, pid):
    """Its task ends, and so does the worker, which has lost its number; the second start counts."""
    claim = watch.rows("select process, claim from steady_queue_running")
    watch.open_gate(1)
    watch.until(lambda: not alive(pid), "the end of the worker without a number")
    assert watch.heard() == [*STARTS, "held ends"]
    assert watch.rows("select process, claim from steady_queue_running") == claim
    watch.open_gate(2)
    watch.until_states(successful=1)
    [(process, _)] = claim
    assert watch.rows("select process, attempt, lost_starts from steady_queue_outcomes") == [
        (process, 1, 1)
    ]


def test_what_a_node_without_supervisor_ran_is_put_back_by_another_after_the_threshold(node, watch):
    watch.close_gate()
    one = node(env={**SPEAKING, "TEST_SHUTDOWN_TIMEOUT": "0.2"})
    gated.enqueue("held")
    watch.hear("held begins")
    children = one.children()
    one.process.kill()
    one.process.wait()
    [spoke_at] = watch.rows(
        "select heartbeat_at from steady_queue_processes p "
        "where exists (select from steady_queue_running r where r.process = p.id)"
    )
    node(env=SWEEPING)
    watch.until(lambda: not any(map(alive, children)), "the end of the children")
    watch.until(lambda: watch.heard() == STARTS, "the second start")
    silent = "select claimed_at - %s > interval '1 s' from steady_queue_running"
    assert watch.value(silent, *spoke_at)
    assert watch.rows("select lost_starts, suspect from steady_queue_running") == [(1, True)]
    watch.open_gate()
    watch.until_states(successful=1)
