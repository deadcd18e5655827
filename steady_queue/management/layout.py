"""How the subcommands lay text out. Names and errors may hold anything: no escape gets through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import OutputWrapper
from django.utils import timezone

WIDEST = 60
"""Characters of a cell, at most."""

BAR = 30
"""Characters of a full bar."""

CLEAR_LINE = "\r\033[K"


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for the names of the columns, and one for each row."""
    if not rows:
        return
    cells = [[name.replace("_", " ") for name in rows[0]]]
    cells += [[cell(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numbers = [isinstance(value, int | float) for value in rows[0].values()]
    for line in cells:
        columns = zip(line, widths, numbers, strict=True)
        yield "  ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in columns).rstrip()


def cell(value: Any) -> str:
    """One line, and not too long."""
    text = plain(value)
    return text if len(text) <= WIDEST else text[: WIDEST - 3] + "..."


def plain(value: Any) -> str:
    match value:
        case None | "" | []:
            return "-"
        case bool():
            return "yes" if value else "no"
        case timedelta():
            return span(value)
        case datetime():
            return moment(value)
        case list():
            return printable(", ".join(map(str, value)))
    return printable(str(value))


def span(value: timedelta) -> str:
    """In its two largest units: ``3 h 5 min``."""
    seconds = value.total_seconds()
    if seconds < 0:
        return "-" + span(-value)
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s")]
    first = next(i for i, (number, _) in enumerate(units) if number)
    return " ".join(f"{number:.0f} {unit}" for number, unit in units[first : first + 2] if number)


def moment(value: datetime) -> str:
    """In the project's time zone."""
    local = timezone.localtime(value) if timezone.is_aware(value) else value
    return f"{local:%Y-%m-%d %H:%M:%S %Z}".rstrip()


def printable(text: str, lines: bool = False) -> str:
    """The text with its control characters written out; with ``lines`` its line ends are kept."""
    return "".join(c if c.isprintable() or (lines and c == "\n") else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def for_json(value: timedelta | datetime) -> float | str:
    """For ``json.dumps``: spans as seconds, moments in ISO 8601."""
    return value.total_seconds() if isinstance(value, timedelta) else value.isoformat()


@contextmanager
def patience(out: OutputWrapper, doing: str) -> Iterator[None]:
    """Says what is being done for as long as it takes; nothing unless on a terminal."""
    if not out.isatty():
        yield
        return
    out.write(f"{doing} ...", ending="")
    out.flush()
    try:
        yield
    finally:
        out.write(CLEAR_LINE, ending="")


class Progress:
    """How far something has come, on a line that is written over; nothing unless on a terminal."""

    def __init__(self, out: OutputWrapper, what: str, total: int | None = None) -> None:
        self._out, self._what, self._total = out, what, total

    def show(self, done: int) -> None:
        if self._out.isatty():
            self._out.write(f"\r{self._bar(done)}{done:,} {self._what}", ending="")
            self._out.flush()

    def end(self) -> None:
        if self._out.isatty():
            self._out.write(CLEAR_LINE, ending="")

    def _bar(self, done: int) -> str:
        if not self._total:
            return ""
        full = BAR * done // self._total
        return f"[{'#' * full}{' ' * (BAR - full)}] "
