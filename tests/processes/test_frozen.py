"""How a supervisor sees that a signal has halted a child, and takes nothing from Popen by that."""

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
