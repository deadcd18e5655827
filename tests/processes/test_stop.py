import signal

import pytest

from tests.app.tasks import gated, nap, noop, speak
from tests.processes.conftest import alive

pytestmark = pytest.mark.processes

PATIENT = {"TEST_SHUTDOWN_TIMEOUT": "3600"}
"""As long as a task that ends can take."""


def nothing_is_left(watch):
    return watch.value("select count(*) from steady_queue_processes") == 0 and (
        watch.value("select count(*) from steady_queue_running") == 0
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_graceful_stop_lets_running_tasks_end_and_leaves_nothing(node, watch, number):
    watch.close_gate()
    one = node(env=PATIENT)
    gated.enqueue("held")
    watch.hear("held begins")
    one.signal(number)
    watch.until(lambda: len(one.children()) == 1, "the end of the idle children")
    watch.open_gate()
    assert one.wait() == 0
    assert watch.states() == {"successful": 1}
    assert nothing_is_left(watch)


def test_what_was_not_started_is_given_back(node, watch):
    watch.close_gate()
    one = node("--only-work", workers=[{"threads": 1}], env=PATIENT)
    watch.until_idle(1)
    gated.enqueue("held")
    watch.hear("held begins")
    for _ in range(5):
        noop.enqueue()
    one.signal(signal.SIGTERM)
    # A worker that stops no longer listens.
    watch.until(lambda: watch.sessions() == 2, "the end of claims")
    watch.open_gate()
    assert one.wait() == 0
    assert watch.states() == {"successful": 1, "ready": 5}


def test_a_task_that_outlasts_the_grace_is_put_back_without_charge(node, watch):
    one = node(env={"TEST_SHUTDOWN_TIMEOUT": "0.2"})
    nap.enqueue(3600)
    watch.hear("nap begins")
    assert one.stop() == 0
    assert watch.states() == {"ready": 1}
    assert watch.rows("select lost_starts, attempt, suspect from steady_queue_ready") == [
        (0, 0, False)
    ]
    assert nothing_is_left(watch)


def test_quit_ends_at_once_and_puts_back_what_ran(node, watch):
    one = node(env={"TEST_QUIT_WITHIN": "3600"})
    nap.enqueue(3600)
    watch.hear("nap begins")
    one.signal(signal.SIGQUIT)
    assert one.wait() == 128 + signal.SIGQUIT
    assert watch.states() == {"ready": 1}
    assert nothing_is_left(watch)


def test_the_children_end_when_their_supervisor_is_killed(node, watch):
    one = node()
    watch.until_idle(3)
    children = one.children()
    assert len(children) == 3
    one.process.kill()
    watch.until(lambda: not any(map(alive, children)), "the end of the children")


def test_a_stopped_worker_does_not_hold_up_another(node, watch):
    first, second = node(), node()
    watch.until_idle(6)
    assert first.stop() == 0
    speak.enqueue("still here")
    watch.hear("still here")
    assert second.stop() == 0


def test_a_second_supervisor_with_the_same_pid_file_is_refused(node, watch, tmp_path):
    env = {"TEST_PIDFILE": str(tmp_path / "supervisor.pid")}
    first = node(env=env)
    watch.until_idle()
    assert node(env=env).wait() == 1
    assert first.stop() == 0
    # The file of a supervisor that was killed is taken over.
    (tmp_path / "supervisor.pid").write_text("1")
    third = node(env=env)
    watch.until_idle()
    assert third.stop() == 0


def test_only_work_and_only_dispatch_start_what_they_say(node, watch):
    kinds = "select kind from steady_queue_processes where kind <> 'supervisor' order by 1"
    worker = node("--only-work")
    watch.until(lambda: watch.rows(kinds) == [("worker",)])
    worker.stop()
    dispatcher = node("--only-dispatch")
    watch.until(lambda: watch.rows(kinds) == [("dispatcher",), ("scheduler",)])
    dispatcher.stop()
