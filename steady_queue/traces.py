"""Spans that go from ``enqueue()`` to the run, with the API of OpenTelemetry.

Imported where ``steady_queue.tracing`` is true, and nowhere else. What the propagator of the
process says of the producer's span travels at the end of the stored arguments, which stay as they
are: ``{"args": [...], "kwargs": {...}, "trace": {"traceparent": "00-..."}}``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

import steady_queue
from steady_queue import arguments
from steady_queue.queries import ClaimedJob, NewJob
from steady_queue.signals import process_stopped

if TYPE_CHECKING:
    from steady_queue.backend import Call, Change
    from steady_queue.result import SteadyQueueResult

try:
    from opentelemetry import context, propagate, trace
    from opentelemetry.trace import SpanKind, StatusCode
except ImportError as error:
    raise ImproperlyConfigured(
        "steady_queue.tracing needs opentelemetry-api: pip install 'steady-queue[opentelemetry]', "
        "or set it to False"
    ) from error

type Store = Callable[[Sequence[Call], Change | None], list[SteadyQueueResult]]
type Attempt = Callable[[ClaimedJob, datetime], str | None]

TRACE = ',"trace":'

FLUSH_WITHIN = 1000
"""Milliseconds that a process which ends gives its spans to be sent."""

tracer = trace.get_tracer("steady_queue", steady_queue.__version__)


def traced_enqueue(calls: Sequence[Call], store: Store) -> list[SteadyQueueResult]:
    """``store(calls)``, in a span that the runs of these jobs go on from."""
    queues = {task.queue_name for task, _, _ in calls}
    with tracer.start_as_current_span(
        f"enqueue {calls[0][0].queue_name}" if len(queues) == 1 else "enqueue",
        kind=SpanKind.PRODUCER,
        attributes=_producer_attributes(calls, queues),
        # What the database says when it refuses a row may quote the arguments.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        try:
            results = store(calls, partial(_carrying, carrier) if carrier else None)
        except BaseException as error:
            kind = type(error)
            span.set_attribute("error.type", f"{kind.__module__}.{kind.__qualname__}")
            span.set_status(StatusCode.ERROR)
            raise
        if len(results) == 1:
            span.set_attribute("messaging.message.id", results[0].id)
        return results


def traced_attempt(attempt: Attempt) -> Attempt:
    """``attempt`` in a span that goes on from where the job was enqueued."""

    def traced(job: ClaimedJob, started_at: datetime) -> str | None:
        # Not detached: the attempt has a context of its own, which ends with it.
        context.attach(propagate.extract(_carrier(job.arguments), context.Context()))
        with tracer.start_as_current_span(
            f"perform {job.queue}", kind=SpanKind.CONSUMER, attributes=_consumer_attributes(job)
        ) as span:
            error = attempt(job, started_at)
            if error:
                _tell(span, json.loads(error))
            return error

    return traced


def _producer_attributes(calls: Sequence[Call], queues: set[str]) -> dict[str, str | int]:
    """By the semantic conventions for messaging, where they have a word."""
    attributes: dict[str, str | int] = {
        "messaging.system": "steady_queue",
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
    }
    if len(queues) == 1:
        attributes["messaging.destination.name"] = calls[0][0].queue_name
    if len(calls) == 1:
        attributes["steady_queue.task"] = calls[0][0].module_path
    else:
        attributes["messaging.batch.message_count"] = len(calls)
    return attributes


def _consumer_attributes(job: ClaimedJob) -> dict[str, str | int]:
    return {
        "messaging.system": "steady_queue",
        "messaging.operation.name": "perform",
        "messaging.operation.type": "process",
        "messaging.destination.name": job.queue,
        "messaging.message.id": str(job.id),
        "steady_queue.task": job.task,
        "steady_queue.attempt": job.attempt + 1,
    }


def _tell(span: trace.Span, error: dict[str, Any]) -> None:
    """As ``record_exception`` would, of an error that was described already."""
    span.set_attribute("error.type", error["exception_class"])
    span.add_event(
        "exception",
        {
            "exception.type": error["exception_class"],
            "exception.message": error["message"],
            "exception.stacktrace": error["traceback"],
        },
    )
    if not error.get("discard"):
        span.set_status(StatusCode.ERROR, error["exception_class"])


def _carrying(carrier: dict[str, str], job: NewJob) -> NewJob:
    """The job with the trace; without it, where the two would be too long together."""
    text = f"{job.arguments[:-1]}{TRACE}{json.dumps(carrier)}}}"
    fits = len(text.encode()) <= arguments.max_arguments_size
    return job._replace(arguments=text) if fits else job


def _carrier(text: str) -> dict[str, str]:
    """What a producer has put at the end of the arguments, if one has."""
    _, found, end = text.rpartition(TRACE)
    try:
        # Elsewhere than at the end of the outermost object there is more than one bracket.
        carrier = json.loads(end[:-1]) if found else {}
    except ValueError:
        return {}
    return carrier if isinstance(carrier, dict) else {}


def _flush(**kwargs: Any) -> None:
    """The interpreter's own end, at which the SDK would do it, does not come."""
    provider: Any = trace.get_tracer_provider()
    if hasattr(provider, "force_flush"):
        provider.force_flush(FLUSH_WITHIN)


process_stopped.connect(_flush)
