"""What deaths leave behind in who stays alive: nothing."""

import os
import signal
from pathlib import Path

import pytest

from tests.app.tasks import speak

pytestmark = [pytest.mark.processes, pytest.mark.slow]

WORKERS = 4


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts files by way of /proc")
def test_a_hundred_restarts_leave_nothing_behind_in_the_supervisor(node, watch):
    one = node(
        "--only-work",
        workers=[{"processes": WORKERS, "threads": 1}],
        env={"TEST_STEADY_AFTER": "0", "TEST_LOG_LEVEL": "CRITICAL"},
    )
    watch.until_idle(WORKERS)

    def held():
        folder = Path("/proc", str(one.process.pid))
        return len(os.listdir(folder / "fd")), len(os.listdir(folder / "task")), watch.sessions()

    before = held()
    killed = set()
    while len(killed) < 100:
        born = watch.until(lambda: set(one.children()) - killed, "a child")
        for pid in born:
            os.kill(pid, signal.SIGKILL)
        killed.update(born)
    speak.enqueue("still there")
    watch.hear("still there")
    watch.until_idle(WORKERS)
    watch.until(lambda: held() == before, f"{before} files, threads and sessions")
    watch.until(lambda: len(watch.processes("worker")) == WORKERS, "numbers of the living only")
    assert one.stop() == 0
