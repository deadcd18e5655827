"""How a supervisor sees that a signal has halted a child, and what it does by and by."""

import os
import signal
import subprocess
import sys

import pytest

from steady_queue.processes.supervisor import is_frozen

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not hasattr(os, "waitid"), reason="macOS has it from Python 3.13 on"),
]

HALT = """
import ctypes, os, sys
pid, ptrace = int(sys.argv[1]), ctypes.CDLL(None).ptrace
SEIZE, INTERRUPT = 0x4206, 0x4207
if ptrace(SEIZE, pid, None, None) or ptrace(INTERRUPT, pid, None, None):
    print("may not", flush=True)
else:
    os.waitpid(pid, 0x40000000)
    print("halted", flush=True)
sys.stdin.read()
"""
"""What a debugger does; 0x40000000: of whatever parent."""


@pytest.fixture
def child():
    """Reads what never comes."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def until(child, event):
    os.waitid(os.P_PID, child.pid, event | os.WNOWAIT)


def test_a_child_is_frozen_from_stop_to_continue_however_often_one_looks(child):
    assert not is_frozen(child.pid)
    for _ in range(2):
        child.send_signal(signal.SIGSTOP)
        until(child, os.WSTOPPED)
        assert [is_frozen(child.pid), is_frozen(child.pid)] == [True, True]
        child.send_signal(signal.SIGCONT)
        until(child, os.WCONTINUED)
        assert not is_frozen(child.pid)


def test_a_child_that_was_killed_while_it_was_frozen_ends_as_such(child):
    child.send_signal(signal.SIGSTOP)
    until(child, os.WSTOPPED)
    assert is_frozen(child.pid)
    assert child.poll() is None
    child.kill()
    until(child, os.WEXITED)
    assert not is_frozen(child.pid)
    assert child.poll() == -signal.SIGKILL
    assert not is_frozen(child.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="halts as a debugger on Linux does")
def test_a_child_that_a_debugger_halts_is_not_frozen(child):
    command = [sys.executable, "-c", HALT, str(child.pid)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as debugger:
        if debugger.stdout.readline() != b"halted\n":
            pytest.skip("no debugger is allowed here")
        assert not is_frozen(child.pid)
        debugger.stdin.close()
    child.send_signal(signal.SIGSTOP)
    until(child, os.WSTOPPED)
    assert is_frozen(child.pid)


class Watched:
    """A supervisor of one child, which it looks at when the clock was moved, and its heartbeats."""

    def __init__(self, process, supervisor, clock):
        self.clock, self.supervisor = clock, supervisor
        self.supervisor.children = self.supervisor.children[:1]
        [self.child] = self.supervisor.children
        self.child.process = process
        self.look_after(0)

    def look_after(self, seconds, speaks=True):
        self.clock.now += seconds
        if speaks:
            self.supervisor._heartbeat_at = self.clock.now + 5
        self.supervisor._notice_frozen()


@pytest.fixture
def watched(child, supervisor, clock):
    child.send_signal(signal.SIGSTOP)
    until(child, os.WSTOPPED)
    return Watched(child, supervisor, clock)


def test_a_frozen_child_is_killed_after_the_threshold_and_not_before(watched, child):
    for _ in range(6):
        watched.look_after(5)
        assert not watched.child.given_up
    watched.look_after(0.1)
    assert watched.child.given_up
    assert child.wait() == -signal.SIGKILL


def test_time_in_which_the_supervisor_was_silent_does_not_count(watched):
    watched.look_after(100, speaks=False)
    watched.look_after(29)
    assert not watched.child.given_up
    watched.look_after(2)
    assert watched.child.given_up


def test_a_frozen_child_is_spoken_for_once_more_and_again_when_it_goes_on(watched, child):
    watched.look_after(7.4)
    assert not watched.child.is_silent
    watched.look_after(10)
    assert watched.child.is_silent
    child.send_signal(signal.SIGCONT)
    until(child, os.WCONTINUED)
    watched.look_after(1)
    assert not watched.child.is_silent
    assert watched.supervisor._heartbeat_at == watched.clock.now
