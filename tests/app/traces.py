"""Spans as a project's settings would have them sent: in batches, from a thread."""

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter


def write_to(path):
    exporter = ConsoleSpanExporter(
        out=open(path, "a"),  # noqa: SIM115, for as long as the process lives
        formatter=lambda span: span.to_json(indent=None) + "\n",
    )
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=3_600_000))
    trace.set_tracer_provider(provider)
