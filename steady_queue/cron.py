"""When a cron schedule runs.

The crontab library reads the expression and walks its calendar, in wall time only: it is never
shown a time zone. From wall time to instants, and so across clock changes, this module decides, in
the way of Debian's cron (its manual page cron(8), "Local time changes"): what has a fixed time of
day runs right after a gap that swallowed it, and once where an hour is repeated; what runs every so
often is not affected.

A change of any size is handled so here, not only one of less than three hours: a date that a
zone leaves out (Pacific/Apia, 2011-12-30) is a gap like any other.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from itertools import islice
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from crontab import CronTab  # type: ignore[import-untyped]

# The years the library knows. At the edges its answers depend on the field that moves.
FIRST = datetime(1970, 1, 1, tzinfo=UTC) - timedelta(seconds=1)
LAST_YEAR = 2099
# Past the last year on every wall clock.
END = datetime(LAST_YEAR + 1, 1, 2, tzinfo=UTC)

SECOND = timedelta(seconds=1)
FIELDS = ("second", "minute", "hour", "day", "month", "weekday", "year")


@dataclass(frozen=True)
class Cron:
    """A cron expression on the wall clock of a time zone.

    The expression has five fields (minute, hour, day of the month, month, weekday), six (a year
    at the end) or seven (a second at the start as well), or is one of `@hourly`, `@daily`,
    `@weekly`, `@monthly`, `@yearly` and `@annually`. Unlike in crontab(5), a run has to match
    both the day of the month and the weekday: `0 0 13 * fri` is Friday the 13th.

    A schedule is *by elapsed time* if its second, minute or hour has a `*` or a `/` anywhere:
    `*/5 * * * *`, `0 */2 * * *`, `5/10 2 * * *`, `* * * * * * *`. It runs whenever the clock on
    the wall shows a matching time: twice where an hour is repeated, not at all where it is left
    out.

    Every other schedule is *fixed*, lists and ranges such as `0-30 2 * * *` and `0 1-3 * * *`
    included. Each of its times happens once: where it is repeated, the first time; where it is
    left out, at the first instant after the gap, once for all that fall there.

    Raises ValueError for an expression that the library cannot read.
    """

    expression: str
    zone: ZoneInfo
    _calendar: _Calendar = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_calendar", _Calendar.read(self.expression))

    def next(self, after: datetime) -> datetime | None:
        """The first run strictly after the instant `after`, in UTC; None if there is none.

        Runs lie in the years 1970 to 2099. Raises ValueError if `after` has no time zone.
        """
        if after.utcoffset() is None:
            raise ValueError(f"expected a datetime with a time zone, got {after!r}")
        local = min(max(after, FIRST), END).astimezone(self.zone)
        return self._next_elapsed(local) if self._calendar.elapsed else self._next_fixed(local)

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The runs after `after` up to and including `until`, oldest first."""
        for run in self._runs(after):
            if run > until:
                return
            yield run

    def upcoming(self, after: datetime, count: int) -> list[datetime]:
        """The first `count` runs after `after`; fewer if the schedule ends."""
        return list(islice(self._runs(after), count))

    def _runs(self, after: datetime) -> Iterator[datetime]:
        run = self.next(after)
        while run is not None:
            yield run
            run = self.next(run)

    def _next_fixed(self, local: datetime) -> datetime | None:
        wall = local.replace(tzinfo=None)
        if local.fold:
            # The clock shows these times again; up to the change, all of them have had their run.
            wall = _require(_change_at(wall, self.zone)).leaves - SECOND
        run = self._calendar.after(wall)
        if run is None:
            return None
        change = _change_at(run, self.zone)
        return change.instant if change and change.is_gap else _instant(run, self.zone)

    def _next_elapsed(self, local: datetime) -> datetime | None:
        wall = local.replace(tzinfo=None)
        run = self._calendar.after(wall)
        change = _change_at(wall, self.zone)
        if change and not local.fold and (run is None or run >= change.leaves):
            # Before the clock gets there, it goes back.
            run = self._calendar.after(change.lands - SECOND)
        while run and (change := _change_at(run, self.zone)) and change.is_gap:
            run = self._calendar.after(change.lands - SECOND)
        if run is None:
            return None
        first = _instant(run, self.zone)
        return first if first > local.astimezone(UTC) else _instant(run, self.zone, fold=1)


@dataclass(frozen=True)
class _Calendar:
    """The wall times that an expression names; it knows of no time zone.

    The library steps through hours, minutes and seconds one by one (400 µs for `30 2 * * *`), so
    it is asked for days only, and the times of a day are looked up.
    """

    days: Any
    hours: list[int]
    minutes: list[int]
    seconds: list[int]
    elapsed: bool

    @classmethod
    def read(cls, expression: str) -> _Calendar:
        fields = _parse(expression).matchers
        clock = (fields.second, fields.minute, fields.hour)
        days = (fields.day, fields.month, fields.weekday, fields.year)
        return cls(
            days=CronTab("0 0 0 " + " ".join(day.input for day in days)),
            hours=_allowed(fields.hour, 24),
            minutes=_allowed(fields.minute, 60),
            seconds=_allowed(fields.second, 60),
            elapsed=any("*" in part.input or "/" in part.input for part in clock),
        )

    def after(self, wall: datetime) -> datetime | None:
        """The first of the wall times after `wall`."""
        if wall.year > LAST_YEAR:
            return None
        if self.days.test(datetime.combine(wall, time.min)):
            clock = self._clock_after(wall)
            if clock:
                return datetime.combine(wall, clock)
        day = self._day_after(wall)
        if day is None or day.year > LAST_YEAR:
            return None
        return day.replace(hour=self.hours[0], minute=self.minutes[0], second=self.seconds[0])

    def _day_after(self, wall: datetime) -> datetime | None:
        # From the day's last second the library has one step to the next midnight. A naive
        # datetime with default_utc keeps it from asking for a time zone, and from its warning.
        evening = wall.replace(hour=23, minute=59, second=59, microsecond=0)
        day: datetime | None = self.days.next(evening, default_utc=True, return_datetime=True)
        return day

    def _clock_after(self, wall: datetime) -> time | None:
        """The first time of day after that of `wall`; None if it was the last."""
        if wall.hour in self.hours:
            if wall.minute in self.minutes:
                second = _above(self.seconds, wall.second)
                if second is not None:
                    return time(wall.hour, wall.minute, second)
            minute = _above(self.minutes, wall.minute)
            if minute is not None:
                return time(wall.hour, minute, self.seconds[0])
        hour = _above(self.hours, wall.hour)
        return None if hour is None else time(hour, self.minutes[0], self.seconds[0])


class _Change(NamedTuple):
    """A clock change: at `instant` the wall clock leaves `leaves` and lands on `lands`."""

    instant: datetime
    leaves: datetime
    lands: datetime

    @property
    def is_gap(self) -> bool:
        return self.lands > self.leaves


def find_zone(name: str) -> ZoneInfo:
    """Raises ValueError when there is no such zone."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        # OSError: "Europe" is a folder in the package tzdata.
        raise ValueError(f"expected timezone to name a time zone, got {name!r}") from error


def _change_at(wall: datetime, zone: ZoneInfo) -> _Change | None:
    """The change that repeats or leaves out `wall`; None if the wall clock shows it once.

    By PEP 495, fold 0 has the offset from before such a change and fold 1 the one from after it.
    """
    before, after = _offset(wall, zone, fold=0), _offset(wall, zone, fold=1)
    if before == after:
        return None
    start = wall.replace(microsecond=0, tzinfo=UTC) - max(before, after)
    seconds = range(abs(after - before) // SECOND)
    instant = start + SECOND * bisect_left(
        seconds, True, key=lambda second: _offset_at(start + SECOND * second, zone) == after
    )
    naive = instant.replace(tzinfo=None)
    return _Change(instant, leaves=naive + before, lands=naive + after)


def _instant(wall: datetime, zone: ZoneInfo, fold: int = 0) -> datetime:
    return wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)


def _offset(wall: datetime, zone: ZoneInfo, fold: int) -> timedelta:
    return _require(wall.replace(tzinfo=zone, fold=fold).utcoffset())


def _offset_at(instant: datetime, zone: ZoneInfo) -> timedelta:
    return _require(instant.astimezone(zone).utcoffset())


def _require[T](value: T | None) -> T:
    assert value is not None
    return value


def _above(values: list[int], limit: int) -> int | None:
    index = bisect_right(values, limit)
    return values[index] if index < len(values) else None


def _allowed(matcher: Any, count: int) -> list[int]:
    # Only the fields of the day look at the date.
    return [value for value in range(count) if matcher(value, None)]


def _parse(expression: str) -> Any:
    try:
        return CronTab(expression)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            "expected a cron expression such as '*/5 * * * *' or '@daily', "
            f"got {expression!r}: {_fault(expression) or error}"
        ) from error


def _fault(expression: str) -> str | None:
    """Which field the library refuses, and why; None if it is not a field."""
    texts = str(expression).split()
    if not 5 <= len(texts) <= 7:
        return None
    names = FIELDS if len(texts) == 7 else FIELDS[1:]
    for name, text in zip(names, texts, strict=False):
        try:
            CronTab(" ".join(text if name == other else "*" for other in FIELDS))
        except ValueError as error:
            return f"{name} {text!r} ({error})"
    return None
