"""Spans of real workers."""

import json

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

import steady_queue
from tests.app.tasks import speak

pytestmark = pytest.mark.processes

REQUEST = SpanContext(0xA1, 0xB2, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def test_the_spans_of_a_worker_are_sent_before_it_ends(node, watch, tmp_path, monkeypatch):
    monkeypatch.setattr(steady_queue, "tracing", True)
    written = tmp_path / "spans"
    one = node("--only-work", env={"TEST_TRACES": str(written)})
    with trace.use_span(NonRecordingSpan(REQUEST)):
        result = speak.enqueue("traced")
    watch.until_states(successful=1)
    assert one.stop() == 0
    [span] = map(json.loads, written.read_text().splitlines())
    assert int(span["context"]["trace_id"], 16) == REQUEST.trace_id
    assert span["attributes"]["messaging.message.id"] == result.id
