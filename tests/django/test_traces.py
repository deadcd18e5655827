"""A trace goes from ``enqueue()`` to the run."""

import json
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connections
from django.tasks import default_task_backend, task
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import steady_queue
from steady_queue import arguments, queries
from steady_queue.arguments import Arguments
from steady_queue.performer import Performer
from steady_queue.queries import ClaimedJob
from tests.app.tasks import fail, give_up, noop, speak, urgent
from tests.django.test_performer import job

exporter = InMemorySpanExporter()
seen = []


@task()
def tell_trace():
    seen.append((trace.get_current_span().get_span_context(), dict(baggage.get_all())))


@pytest.fixture(scope="session", autouse=True)
def _provider():
    # There is one for the whole process, and it stays.
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        trace.set_tracer_provider(TracerProvider())
    trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))


@pytest.fixture(autouse=True)
def _tracing(monkeypatch):
    monkeypatch.setattr(steady_queue, "tracing", True)
    exporter.clear()
    seen.clear()


@pytest.fixture
def perform_all(transactional_db, queue):
    """Claims what is ready and performs it."""

    def run():
        claim = "select * from steady_queue_claim_jobs(%s, '{*}', 10)"
        claimed = [ClaimedJob._make(row) for row in queue.run(claim, queue.process())]
        performer = Performer("18")
        return [performer.perform(one, performer._ended_at) for one in claimed]

    return run


def spans(kind):
    return [span for span in exporter.get_finished_spans() if span.kind == kind]


def the_span(kind):
    [span] = spans(kind)
    return span


def perform(task, **changes):
    connections.close_all()
    Performer("18").perform(job(task, **changes), 0.0)
    return the_span(SpanKind.CONSUMER)


def stored(queue):
    return [text for (text,) in queue.run("select arguments::text from steady_queue_jobs")]


# From enqueue() to the run.


def test_the_run_goes_on_from_where_the_job_was_enqueued(perform_all):
    with trace.get_tracer("a request").start_as_current_span("request") as request:
        result = urgent.enqueue()
    perform_all()
    enqueued, performed = the_span(SpanKind.PRODUCER), the_span(SpanKind.CONSUMER)
    assert enqueued.parent.span_id == request.get_span_context().span_id
    assert performed.parent.span_id == enqueued.context.span_id
    assert performed.context.trace_id == request.get_span_context().trace_id
    shared = {
        "messaging.system": "steady_queue",
        "messaging.destination.name": "mail",
        "messaging.message.id": result.id,
        "steady_queue.task": urgent.module_path,
    }
    assert (enqueued.name, performed.name) == ("enqueue mail", "perform mail")
    assert enqueued.attributes == {
        **shared, "messaging.operation.name": "enqueue", "messaging.operation.type": "send",
    }  # fmt: skip
    assert performed.attributes == {
        **shared, "messaging.operation.name": "perform", "messaging.operation.type": "process",
        "steady_queue.attempt": 1,
    }  # fmt: skip


def test_many_jobs_are_enqueued_in_one_span_that_all_runs_go_on_from(perform_all):
    default_task_backend.enqueue_all([(speak, ["a"], {}), (speak, ["b"], {}), (urgent, [], {})])
    perform_all()
    enqueued = the_span(SpanKind.PRODUCER)
    assert enqueued.name == "enqueue"
    assert enqueued.attributes["messaging.batch.message_count"] == 3
    parents = {span.parent.span_id for span in spans(SpanKind.CONSUMER)}
    assert (len(spans(SpanKind.CONSUMER)), parents) == (3, {enqueued.context.span_id})


def test_a_task_runs_in_its_span_with_the_baggage_of_who_enqueued_it(perform_all):
    token = context.attach(baggage.set_baggage("shop", "berlin"))
    tell_trace.enqueue()
    context.detach(token)
    noop.enqueue()
    tell_trace.enqueue()
    perform_all()
    first, _, second = spans(SpanKind.CONSUMER)
    assert seen == [(first.context, {"shop": "berlin"}), (second.context, {})]
    assert not baggage.get_all()
    assert not trace.get_current_span().get_span_context().is_valid


def test_the_trace_stands_beside_the_arguments_which_stay_as_they_are(perform_all, queue):
    speak.enqueue(word='{"trace":{}}')
    [text] = stored(queue)
    traced = json.loads(text)
    assert traced.keys() == {"args", "kwargs", "trace"}
    assert traced["trace"].keys() == {"traceparent"}
    assert Arguments.deserialize(text) == ([], {"word": '{"trace":{}}'})
    [outcome] = perform_all()
    assert outcome.error is None


def test_arguments_for_which_there_is_just_room_are_enqueued_without_the_trace(
    perform_all, queue, monkeypatch
):
    monkeypatch.setattr(arguments, "max_arguments_size", len(Arguments.serialize(["a" * 99], {})))
    speak.enqueue("a" * 99)
    assert stored(queue) == [Arguments.serialize(["a" * 99], {})]
    perform_all()
    assert the_span(SpanKind.CONSUMER).parent is None


def test_what_could_not_be_enqueued_is_told_without_what_the_database_quotes(db, monkeypatch):
    def refuse(*arguments):
        raise IntegrityError("a check failed\nDETAIL:  Failing row contains (secret)")

    monkeypatch.setattr(queries, "enqueue_job", refuse)
    with pytest.raises(IntegrityError):
        urgent.enqueue()
    span = the_span(SpanKind.PRODUCER)
    assert span.status.status_code == StatusCode.ERROR
    assert span.attributes["error.type"] == "django.db.utils.IntegrityError"
    assert "secret" not in span.to_json()


PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "text",
    [
        Arguments.serialize([], {}),
        Arguments.serialize([], {"a": 1, "trace": {"traceparent": PARENT}}),
        Arguments.serialize([{"a": 1, "trace": {"traceparent": PARENT}}], {}),
        '{"args":[],"kwargs":{},"trace":7}',
        '{"args":[],"kwargs":{},"trace":{"traceparent":"odd"}}',
        '{"args":[],"kwargs":{},"trace":',
    ],
)
def test_what_is_no_trace_begins_one(text):
    assert perform(noop, arguments=text).parent is None


@pytest.mark.parametrize("kwargs", [{}, {"a": 1, "trace": {"traceparent": "other"}}])
def test_a_trace_is_read_where_it_stands(kwargs):
    text = Arguments.serialize([], kwargs)[:-1] + f',"trace":{{"traceparent":"{PARENT}"}}}}'
    assert f"{perform(noop, arguments=text).parent.span_id:x}" == "b7ad6b7169203331"


# How it ended.


def test_a_failure_is_told_with_its_traceback():
    span = perform(fail, arguments=Arguments.serialize(["boom"], {}))
    assert span.status.status_code == StatusCode.ERROR
    assert span.attributes["error.type"] == "builtins.ValueError"
    [event] = span.events
    assert event.name == "exception"
    assert event.attributes["exception.message"] == "boom"
    assert "Traceback (most recent call last)" in event.attributes["exception.stacktrace"]


def test_a_job_that_leads_to_no_task_is_told_too():
    span = perform(noop, path="tests.app.tasks.renamed")
    assert span.attributes["error.type"] == "steady_queue.task.UnknownTaskClassError"


def test_a_discarded_job_is_no_error():
    span = perform(give_up)
    assert span.attributes["error.type"] == "builtins.LookupError"
    assert span.status.status_code == StatusCode.UNSET


# Unless asked for, nothing.


def test_without_the_setting_nothing_is_traced(perform_all, queue, monkeypatch):
    monkeypatch.setattr(steady_queue, "tracing", False)
    with trace.get_tracer("a request").start_as_current_span("request"):
        urgent.enqueue()
    assert stored(queue) == [Arguments.serialize([], {})]
    perform_all()
    assert spans(SpanKind.PRODUCER) == spans(SpanKind.CONSUMER) == []


def test_with_the_setting_and_without_the_package_it_is_said_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "steady_queue.traces", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ImproperlyConfigured, match=r"pip install 'steady-queue\[opentelemetry\]'"):
        urgent.enqueue()
