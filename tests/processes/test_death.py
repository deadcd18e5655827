"""Tasks and signals that kill; what it costs the job, and that it costs its neighbours nothing."""

import os
import signal

import pytest
from django.contrib.auth.models import Group

from tests.app.tasks import (
    gated,
    give_in,
    limited_neighbour,
    limited_poison,
    poison,
    return_this,
    speak,
    stubborn_nap,
)

pytestmark = pytest.mark.processes

KILLERS = {
    "exit": "ended with exit status 7",
    "exit as if all were well": "ended with exit status 0",
    "exit as if told to": "ended with exit status 75",
    "kill": "was killed by SIGKILL",
    "segfault": "was killed by SIGSEGV",
}
RAISERS = {
    "sys.exit": "builtins.SystemExit",
    "interrupt": "builtins.KeyboardInterrupt",
    "generator exit": "builtins.GeneratorExit",
    "cancelled": "asyncio.exceptions.CancelledError",
    "own base exception": "tests.app.tasks.Rude",
    "memory": "builtins.MemoryError",
    "recursion": "builtins.RecursionError",
    "unspeakable": "tests.app.tasks.Unspeakable",
    "ten megabytes": "builtins.ValueError",
    "nul": "builtins.ValueError",
}


LEAVERS = ["transaction", "aborted transaction", "closed connection", "thread", "fork"]

on_any_threads = pytest.mark.parametrize("threads", [1, 4])
with_and_without_a_limit = pytest.mark.parametrize(
    "task", [poison, limited_poison], ids=["no limit", "limit 1"]
)


@on_any_threads
@with_and_without_a_limit
def test_tasks_that_kill_their_process_are_failed_and_take_no_neighbour_along(
    node, watch, threads, task
):
    """Each kind with a worker of its own; the neighbours run beside it, and wait for its slot."""
    kinds = KILLERS if (threads, task) == (1, poison) else ["exit", "kill", "segfault"]
    node("--only-work", workers=[{"threads": threads, "queues": [kind]} for kind in kinds])
    beside = [f"{kind} {number}" for kind in kinds for number in range(threads - 1)]
    watch.close_gate()
    for word in beside:
        gated.using(queue_name=word[:-2]).enqueue(word)
    watch.hear(*(f"{word} begins" for word in beside))
    # They are there when the first poison is taken, and end when they are started again.
    watch.open_gate(2)
    for kind in kinds:
        task.using(queue_name=kind).enqueue(kind)
        limited_neighbour.using(queue_name=kind).enqueue(kind)
    for kind in kinds:
        [(lost_starts, attempt, error, message)] = until_failed(watch, kind)
        assert (lost_starts, attempt) == (3, 0)
        assert error == "steady_queue.processes.ProcessExitError"
        assert KILLERS[kind] in message
        # Beside others it is a suspect only, and charged when it has been alone.
        assert watch.heard().count(f"{kind} taken") == (3 if threads == 1 else 4)
    watch.until_states(failed=len(kinds), successful=len(kinds) + len(beside))
    charged = "select count(*) from steady_queue_outcomes where lost_starts > 0"
    assert watch.value(charged) == len(kinds)


def until_failed(watch, queue):
    failed = (
        "select lost_starts, attempt, exception_class, message from steady_queue_failed_jobs "
        "where queue = %s"
    )
    return watch.until(lambda: watch.rows(failed, queue), f"the failure in {queue}")


@on_any_threads
@with_and_without_a_limit
def test_whatever_a_task_raises_or_leaves_behind_is_its_own_and_nobody_elses(
    node, watch, threads, task
):
    one = node("--only-work", workers=[{"threads": threads}])
    watch.until_idle()
    pids = one.worker_pids()
    kinds = [*RAISERS, *LEAVERS]
    for kind in kinds:
        task.enqueue(kind)
        limited_neighbour.enqueue(kind)
    watch.until_states(failed=len(RAISERS), successful=len(LEAVERS) + len(kinds))
    failed = "select arguments -> 'args' ->> 0, exception_class from steady_queue_failed_jobs"
    assert dict(watch.rows(failed)) == RAISERS
    assert watch.value("select max(char_length(message)) < 100000 from steady_queue_failed_jobs")
    assert "never committed" not in watch.heard()
    assert one.worker_pids() == pids


@pytest.mark.parametrize("kind", ["big", "not json"])
def test_a_result_that_nobody_can_fetch_is_no_failure(node, watch, kind):
    node("--only-work")
    return_this.enqueue(kind)
    watch.until_states(successful=1)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("tests.app.tasks.renamed", "tests.app.tasks.renamed is not a task"),
        ("tests.app.tasks.say", "tests.app.tasks.say is not a task"),
        ("tests.app.gone.task", "tests.app.gone.task is not a task: no module tests.app.gone"),
        ("antigravity.fly", "antigravity.fly is outside the installed apps"),
        ("nonsense", "nonsense is outside the installed apps"),
    ],
)
def test_a_path_that_is_no_task_is_a_failure_that_says_so(node, watch, path, message):
    node("--only-work")
    watch.rows("select steady_queue_enqueue(%s)", path)
    watch.until_states(failed=1)
    [(error, said)] = watch.rows("select exception_class, message from steady_queue_failed_jobs")
    assert error == "steady_queue.task.UnknownTaskClassError"
    assert message in said


def test_a_model_that_was_deleted_is_a_failure_that_says_so(node, watch):
    group = Group.objects.create(name="gone")
    speak.enqueue(group)
    group.delete()
    node("--only-work")
    watch.until_states(failed=1)
    error = watch.value("select exception_class from steady_queue_failed_jobs")
    assert error == "steady_queue.arguments.DeserializationError"


def test_arguments_that_do_not_fit_the_signature_are_a_failure(node, watch):
    node("--only-work")
    watch.rows("""select steady_queue_enqueue('tests.app.tasks.speak', args => '[1, 2, 3]')""")
    watch.until_states(failed=1)
    assert (
        watch.value("select exception_class from steady_queue_failed_jobs") == "builtins.TypeError"
    )


def test_a_lost_start_is_no_attempt(node, watch):
    one = node()
    stubborn_nap.enqueue()
    watch.hear("attempt 1")
    [pid] = one.worker_pids()
    os.kill(pid, signal.SIGKILL)
    watch.until_states(successful=1)
    assert watch.heard() == ["attempt 1", "attempt 1", "attempt 2"]
    assert watch.rows("select attempt, lost_starts from steady_queue_outcomes") == [(2, 1)]
    assert watch.rows("select attempt from steady_queue_errors order by id") == [(0,), (1,)]


def test_a_retry_by_hand_counts_attempts_anew(node, watch):
    node("--only-work")
    give_in.enqueue()
    watch.until_states(failed=1)
    watch.rows("select steady_queue_retry_jobs(array(select id from steady_queue_failed_jobs))")
    watch.until(lambda: len(watch.heard()) == 2, "the second run")
    assert watch.heard() == ["attempt 1", "attempt 1"]


def test_a_killed_worker_is_replaced_and_its_job_runs_again(node, watch):
    watch.close_gate()
    one = node("--only-work")
    gated.enqueue("interrupted")
    watch.hear("interrupted begins")
    [pid] = one.worker_pids()
    assert watch.rows("select pid from steady_queue_running_jobs") == [(pid,)]
    os.kill(pid, signal.SIGKILL)
    watch.open_gate(2)
    watch.until_states(successful=1)
    assert watch.heard() == ["interrupted begins"] * 2 + ["interrupted ends"]
    assert one.worker_pids() != [pid]


def test_one_signal_to_one_worker_does_not_take_the_node_down(node, watch):
    one = node("--only-work")
    watch.until_idle(1)
    [pid] = one.worker_pids()
    os.kill(pid, signal.SIGTERM)
    watch.until(lambda: one.worker_pids() not in ([], [pid]), "a new worker")
    speak.enqueue("alive")
    watch.hear("alive")
    assert one.stop() == 0


def test_a_worker_whose_row_was_deleted_registers_anew(node, watch):
    node("--only-work")
    watch.until_idle()
    watch.rows("delete from steady_queue_processes where kind = 'worker' returning id")
    speak.enqueue("registered anew")
    watch.hear("registered anew")


def test_a_task_that_deletes_its_own_row_is_dropped(node, watch):
    watch.close_gate()
    node("--only-work")
    gated.enqueue("erased")
    watch.hear("erased begins")
    assert watch.rows("delete from steady_queue_running returning attempt") == [(0,)]
    watch.open_gate()
    watch.hear("erased ends")
    speak.enqueue("next")
    watch.hear("next")
