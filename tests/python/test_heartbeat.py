"""When a supervisor speaks and sweeps next."""

import os
from types import SimpleNamespace

import pytest

from steady_queue import queries
from steady_queue.configuration import Options
from steady_queue.processes import loop, supervisor
from steady_queue.processes.supervisor import Supervisor


@pytest.fixture
def one(monkeypatch):
    monkeypatch.setattr(loop, "Database", lambda: SimpleNamespace(connection=lambda: None))
    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    one = Supervisor(Options())
    yield one
    os.close(one._lifeline_read)
    os.close(one._lifeline_write)


@pytest.mark.parametrize(
    ("silence_in", "seconds"),
    [(30.0, 7.5), (float("inf"), 7.5), (5.0, 5.0), (1.0, 3.75), (-20.0, 3.75)],
)
def test_it_comes_when_another_will_have_been_silent_for_too_long(
    one, monkeypatch, silence_in, seconds
):
    monkeypatch.setattr(queries, "heartbeat_and_sweep", lambda *_: ([], [], silence_in))
    one._heartbeat()
    assert one._heartbeat_at == 1000.0 + seconds
