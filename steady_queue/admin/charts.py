"""Charts as numbers: the template draws them as SVG, which looks the same without JavaScript."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import floor, log10

from django.utils import timezone

from steady_queue.queries import Throughput

WIDTH, HEIGHT = 340, 120
"""Of the part within the axes, in the units of the SVG."""


@dataclass(frozen=True)
class Span:
    """What the charts reach back to, and in which steps."""

    name: str
    long: timedelta
    step: timedelta
    ticks: timedelta
    format: str


SPANS = {
    span.name: span
    for span in (
        Span("hour", timedelta(hours=1), timedelta(minutes=1), timedelta(minutes=10), "%H:%M"),
        Span("day", timedelta(days=1), timedelta(minutes=10), timedelta(hours=4), "%H:%M"),
        Span("week", timedelta(days=7), timedelta(hours=1), timedelta(days=1), "%a %d"),
    )
}


@dataclass(frozen=True)
class Line:
    """``pieces`` are the points of a polyline each; nothing is drawn where nothing is known."""

    name: str
    kind: str
    pieces: list[str]


@dataclass(frozen=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True)
class Chart:
    title: str
    lines: list[Line]
    across: list[Tick]
    up: list[Tick]
    summary: str
    width: int = WIDTH
    height: int = HEIGHT


type Values = list[float | None]


def draw(rows: Sequence[Throughput], span: Span, now: datetime) -> list[Chart]:
    """Throughput, waits and failures of the span that ends ``now``."""
    moments = list(_moments(span, now))
    known = {row.at: row for row in rows}
    steps = [known.get(moment) for moment in moments]
    minutes = [_minutes(moment, span, now) for moment in moments]

    def a_minute(count: Callable[[Throughput], int]) -> Values:
        return [count(row) / m if row else 0.0 for row, m in zip(steps, minutes, strict=True)]

    finished = a_minute(lambda row: row.finished)
    failed = a_minute(lambda row: row.failed)
    half = [_seconds(row.wait_p50) if row else None for row in steps]
    most = [_seconds(row.wait_p95) if row else None for row in steps]
    across = list(_across(moments, span))
    return [
        _chart("Finished per minute", across, _number, [("finished", "finished", finished)]),
        _chart(
            "Waited", across, brief, [("half (p50)", "half", half), ("95 % (p95)", "most", most)]
        ),
        _chart("Failed per minute", across, _number, [("failed", "failed", failed)]),
    ]


def _moments(span: Span, now: datetime) -> Iterator[datetime]:
    """The begins of the steps. The last one has begun, if not just now."""
    origin = datetime(2000, 1, 1, tzinfo=UTC)
    last = now - (now - origin) % span.step
    if now - last < span.step / 4:
        last -= span.step
    first = last - span.long + span.step
    for number in range(int(span.long / span.step)):
        yield first + number * span.step


def _minutes(moment: datetime, span: Span, now: datetime) -> float:
    """How long the step has lasted: the last one is not over."""
    return min(span.step, now - moment) / timedelta(minutes=1)


def _seconds(wait: timedelta | None) -> float | None:
    return None if wait is None else wait.total_seconds()


def _across(moments: list[datetime], span: Span) -> Iterator[Tick]:
    every = int(span.ticks / span.step)
    for number in range(len(moments) - 1, -1, -every):
        local = timezone.localtime(moments[number])
        yield Tick(_x(number, len(moments)), local.strftime(span.format))


def _chart(
    title: str,
    across: list[Tick],
    say: Callable[[float], str],
    lines: list[tuple[str, str, Values]],
) -> Chart:
    top = _round_up(max((v for _, _, values in lines for v in values if v is not None), default=0))
    up = [Tick(HEIGHT * (1 - part), say(top * part)) for part in (0, 0.5, 1)]
    drawn = [Line(name, kind, list(_pieces(values, top))) for name, kind, values in lines]
    said = "; ".join(f"{name}: {_said(values, say)}" for name, _, values in lines)
    return Chart(title, drawn, across, up, said)


def _said(values: Values, say: Callable[[float], str]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "nothing"
    return f"last {say(known[-1])}, most {say(max(known))}"


def _pieces(values: Values, top: float) -> Iterator[str]:
    piece: list[str] = []
    for number, value in enumerate([*values, None]):
        if value is not None:
            piece.append(f"{_x(number, len(values)):g},{HEIGHT * (1 - value / top):.1f}")
        elif piece:
            # A point alone would not be seen.
            yield " ".join(piece * 2 if len(piece) == 1 else piece)
            piece = []


def _x(number: int, count: int) -> float:
    return round(WIDTH * number / (count - 1), 1)


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20 ...; of fractions, too."""
    if value <= 0:
        return 1.0
    power = 10.0 ** floor(log10(value))
    return float(next(step * power for step in (1, 2, 5, 10) if value <= step * power * 1.000001))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def brief(seconds: float) -> str:
    """A span in one unit: ``250 ms``, ``2.5 s``, ``10 min``."""
    if seconds == 0:
        return "0"
    for unit, size in (("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1000:.3g} ms"
