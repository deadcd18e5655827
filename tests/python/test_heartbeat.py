"""When a supervisor speaks and sweeps next."""

import pytest

from steady_queue import queries


@pytest.mark.parametrize(
    ("silence_in", "seconds"),
    [(30.0, 7.5), (float("inf"), 7.5), (5.0, 5.0), (1.0, 3.75), (-20.0, 3.75)],
)
def test_it_comes_when_another_will_have_been_silent_for_too_long(
    supervisor, clock, monkeypatch, silence_in, seconds
):
    monkeypatch.setattr(queries, "heartbeat_and_sweep", lambda *_: ([], [], silence_in))
    supervisor._heartbeat()
    assert supervisor._heartbeat_at == clock.now + seconds
