"""Cron schedules across clock changes.

The oracle is a walker: it looks at the clock on the wall at every minute of a window and decides
by the rules alone whether a schedule fires. It reads expressions with a parser of its own.
"""

import contextlib
import io
import itertools
import pickle
import struct
import sys
import warnings
from datetime import UTC, datetime, timedelta
from functools import cache
from operator import contains
from zoneinfo import ZoneInfo

import pytest
from crontab import CronTab
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from steady_queue.cron import Cron

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

# Each for a habit of its own: half an hour (Lord Howe), two hours (Troll), three (Casey), summer
# time below standard time (Dublin), Ramadan (Casablanca, Gaza), changes at midnight (Beirut,
# Cairo, Havana, Santiago, Nuuk), odd offsets (Chatham, St Johns), a new offset for good (Almaty,
# Amman, Juba, Volgograd).
ZONES = [
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/Juba",
    "America/Asuncion",
    "America/Havana",
    "America/New_York",
    "America/Nuuk",
    "America/Santiago",
    "America/St_Johns",
    "Antarctica/Casey",
    "Antarctica/Troll",
    "Asia/Almaty",
    "Asia/Amman",
    "Asia/Beirut",
    "Asia/Gaza",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Dublin",
    "Europe/Volgograd",
    "Pacific/Chatham",
]
DECADE = range(2020, 2030)
PERIODS = [(zone, DECADE) for zone in ZONES] + [
    ("Pacific/Apia", range(2011, 2013)),
    ("America/Sao_Paulo", range(2015, 2020)),
]

EXPRESSIONS = [
    "17 4 * * *",
    "30 2 * * *",
    "0,30 2 * * *",
    "0 0 * * *",
    "30 0 * * *",
    "@daily",
    "0,30 1-3 * * *",
    "0-30/10 1 * * *",
    "59 23 * * sat,sun",
    "15 0-3 * * fri-sat",
    "*/5 * * * *",
    "0 * * * *",
    "30 */2 * * *",
    "*/20 0-2 * * sun",
]


def walk(expression, zone, start, end):
    """The runs in start < t <= end, found by looking at the clock at every minute.

    A schedule by elapsed time fires if the clock shows one of its times. A fixed one fires if the
    clock has, since the latest time it ever showed, come to or jumped over one of its times.
    """
    fields = parse(expression)
    shown, reached = wall_clock(zone, start, end)
    elapsed = any(mark in part for part in clock_fields(expression) for mark in "*/")
    times = shown if elapsed else reached
    # The minute first, to be quick: it settles most.
    return sorted({at for at, clock in times if clock[0] in fields[0] and matches(fields, clock)})


@cache
def wall_clock(zone, start, end):
    """What the clock shows at every minute, and what it comes to or jumps over.

    Both as pairs of the instant and the time. The second has none for a second pass, where the
    clock shows nothing that it had not shown.
    """
    shown, reached, latest = [], [], None
    # From before the start, so that the latest time is known even if that is in a second pass.
    for at in minutes(start - 4 * HOUR, end):
        wall = at.astimezone(zone).replace(tzinfo=None)
        if at > start:
            shown.append((at, hands(wall)))
            reached += [(at, hands(each)) for each in minutes(latest + MINUTE, wall)]
        latest = max(latest or wall, wall)
    return shown, reached


def hands(wall):
    return wall.minute, wall.hour, wall.day, wall.month, wall.isoweekday() % 7


def minutes(start, end):
    return [start + MINUTE * step for step in range((end - start) // MINUTE + 1)]


def clock_fields(expression):
    return ["0", "0"] if expression == "@daily" else expression.split()[:2]


NAMES = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}


@cache
def parse(expression):
    if expression == "@daily":
        expression = "0 0 * * *"
    limits = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)]
    return [
        {value for item in text.split(",") for value in parse_item(item, *limit)}
        for text, limit in zip(expression.split(), limits, strict=True)
    ]


def parse_item(item, low, high):
    span, _, step = item.partition("/")
    first, _, last = span.partition("-")
    if first != "*":
        low, high = number(first), number(last or (str(high) if step else first))
    return range(low, high + 1, int(step or 1))


def number(text):
    return NAMES[text] if text in NAMES else int(text)


def matches(fields, shown):
    return all(map(contains, fields, shown))


@cache
def clock_changes(zone, years):
    """The hours at whose end the offset is another than at their start."""
    hours = (
        datetime(years[0], 1, 1, tzinfo=UTC) + HOUR * step for step in range(len(years) * 8766)
    )
    pairs = itertools.pairwise((at, at.astimezone(zone).utcoffset()) for at in hours)
    return [at for (at, before), (_, after) in pairs if before != after]


def utc(*fields):
    return datetime(*fields, tzinfo=UTC)


def local_runs(expression, zone, start, end):
    """The runs in start < t <= end, given in and returned as wall time, with offset."""
    zone = ZoneInfo(zone)
    start, end = (datetime.fromisoformat(text).replace(tzinfo=zone) for text in (start, end))
    runs = Cron(expression, zone).between(start.astimezone(UTC), end.astimezone(UTC))
    return [run.astimezone(zone).isoformat(timespec="minutes") for run in runs]


# Against the walker


@pytest.mark.parametrize(("key", "years"), PERIODS, ids=[key for key, _ in PERIODS])
def test_runs_around_every_clock_change_are_those_of_the_minute_walker(key, years):
    zone = ZoneInfo(key)
    changes = clock_changes(zone, years)
    assert changes, "a zone without a change tests nothing"
    for change in changes:
        start, end = change - 5 * HOUR, change + 25 * HOUR
        for expression in EXPRESSIONS:
            cron, walked = Cron(expression, zone), walk(expression, zone, start, end)
            assert list(cron.between(start, end)) == walked, (expression, str(change))
            # In an overlap these are in the first pass and in the second.
            for asked in (change + 20 * MINUTE, change + 65 * MINUTE):
                expected = [run for run in walked if run > asked][:1]
                assert not expected or [cron.next(asked)] == expected, (expression, str(asked))
        wall_clock.cache_clear()


def test_walker_reaches_gaps_overlaps_and_the_skipped_day():
    moved = set()
    for key, years in PERIODS:
        zone = ZoneInfo(key)
        for change in clock_changes(zone, years):
            before, after = (at.astimezone(zone).utcoffset() for at in (change, change + HOUR))
            moved.add((after - before) / HOUR)
    assert {-3, -2, -1, -0.5, 0.5, 1, 2, 3, 24} <= moved


# Single days, by name


def test_fixed_time_in_the_spring_gap_runs_at_the_first_instant_after_it():
    runs = local_runs("30 2 * * *", "Europe/Berlin", "2025-03-29T12:00", "2025-03-31T12:00")
    assert runs == ["2025-03-30T03:00+02:00", "2025-03-31T02:30+02:00"]


@pytest.mark.parametrize("expression", ["0,30 2 * * *", "0-30 2,3 30 3 *", "0 2-3 * * *"])
def test_fixed_times_of_one_gap_run_once_at_its_end(expression):
    runs = local_runs(expression, "Europe/Berlin", "2025-03-30T01:00", "2025-03-30T03:00")
    assert runs == ["2025-03-30T03:00+02:00"]


def test_fixed_time_in_the_autumn_overlap_runs_at_the_first_occurrence_only():
    runs = local_runs("30 2 * * *", "Europe/Berlin", "2025-10-25T12:00", "2025-10-27T12:00")
    assert runs == ["2025-10-26T02:30+02:00", "2025-10-27T02:30+01:00"]


def test_fixed_schedule_asked_within_the_second_pass_waits_for_the_next_day():
    cron = Cron("0-59 2 * * *", ZoneInfo("Europe/Berlin"))
    assert cron.next(utc(2025, 10, 26, 0, 59)) == utc(2025, 10, 27, 1)
    assert cron.next(utc(2025, 10, 26, 1)) == utc(2025, 10, 27, 1)
    assert cron.next(utc(2025, 10, 26, 1, 10)) == utc(2025, 10, 27, 1)


def test_run_at_the_end_of_the_overlap_is_found_from_within_the_second_pass():
    cron = Cron("0 3 * * *", ZoneInfo("Europe/Berlin"))
    assert cron.next(utc(2025, 10, 26, 1, 10)) == utc(2025, 10, 26, 2)


def test_five_minute_schedule_runs_every_five_real_minutes_through_the_overlap():
    cron = Cron("*/5 * * * *", ZoneInfo("Europe/Berlin"))
    start, end = utc(2025, 10, 25, 23), utc(2025, 10, 26, 3)
    assert list(cron.between(start, end)) == minutes(start, end)[5::5]


def test_second_pass_is_found_from_a_fraction_of_a_second_in_the_first():
    cron = Cron("0 * * * *", ZoneInfo("Europe/Berlin"))
    assert cron.next(utc(2025, 10, 26, 0, 30, 0, 300_000)) == utc(2025, 10, 26, 1)


def test_five_minute_schedule_jumps_over_the_gap():
    runs = local_runs("*/5 * * * *", "Europe/Berlin", "2025-03-30T01:50", "2025-03-30T03:05")
    assert runs == ["2025-03-30T01:55+01:00", "2025-03-30T03:00+02:00", "2025-03-30T03:05+02:00"]


def test_every_second_hour_runs_at_both_occurrences_and_not_in_the_gap():
    runs = local_runs("0 */2 * * *", "Europe/Berlin", "2025-10-26T01:00", "2025-10-26T05:00")
    assert [run[11:] for run in runs] == ["02:00+02:00", "02:00+01:00", "04:00+01:00"]
    runs = local_runs("0 */2 * * *", "Europe/Berlin", "2025-03-29T23:00", "2025-03-30T05:00")
    assert [run[11:] for run in runs] == ["00:00+01:00", "04:00+02:00"]


@pytest.mark.parametrize("expression", ["*/10 2 * * *", "0/10 2 * * *", "1,*/10 2 * * *"])
def test_step_in_the_minute_of_a_fixed_hour_goes_by_elapsed_time(expression):
    cron = Cron(expression, ZoneInfo("Europe/Berlin"))
    assert cron.next(utc(2025, 3, 30, 0)) == utc(2025, 3, 31, 0)
    assert utc(2025, 10, 26, 1, 10) in cron.between(utc(2025, 10, 26), utc(2025, 10, 26, 2))


@pytest.mark.parametrize("expression", ["* * * * * * *", "* 30 2 * * * *", "*/20 30 2 * * * *"])
def test_wildcard_or_step_in_the_seconds_goes_by_elapsed_time(expression):
    cron = Cron(expression, ZoneInfo("Europe/Berlin"))
    assert cron.next(utc(2025, 10, 26, 1, 29, 59)) == utc(2025, 10, 26, 1, 30)


def test_second_wildcard_jumps_over_a_skipped_day_at_once():
    cron = Cron("* * 2 * * * *", ZoneInfo("Pacific/Apia"))
    assert cron.next(utc(2011, 12, 29, 12, 59, 59)) == utc(2011, 12, 30, 12)


def test_fixed_seconds_run_once_in_gap_and_overlap():
    cron = Cron("15,45 30 2 * * * *", ZoneInfo("Europe/Berlin"))
    assert cron.next(utc(2025, 3, 29, 12)) == utc(2025, 3, 30, 1)
    assert cron.next(utc(2025, 3, 30, 1)) == utc(2025, 3, 31, 0, 30, 15)
    assert cron.next(utc(2025, 10, 26, 0, 30, 45)) == utc(2025, 10, 27, 1, 30, 15)


def test_daily_runs_at_one_where_midnight_is_left_out():
    runs = local_runs("@daily", "Asia/Beirut", "2025-03-29T12:00", "2025-03-31T12:00")
    assert runs == ["2025-03-30T01:00+03:00", "2025-03-31T00:00+03:00"]


def test_daily_runs_once_where_midnight_comes_twice():
    runs = local_runs("@daily", "America/Havana", "2025-11-01T12:00", "2025-11-03T12:00")
    assert runs == ["2025-11-02T00:00-04:00", "2025-11-03T00:00-05:00"]


def test_last_hour_of_a_saturday_that_comes_twice_runs_once_if_fixed_and_twice_if_not():
    window = ("America/Sao_Paulo", "2018-02-17T22:45", "2018-02-18T01:00")
    assert local_runs("30 23 * * sat", *window) == ["2018-02-17T23:30-02:00"]
    assert local_runs("30 * * * sat", *window) == [
        "2018-02-17T23:30-02:00",
        "2018-02-17T23:30-03:00",
    ]


def test_skipped_day_has_its_fixed_run_at_the_start_of_the_next():
    runs = local_runs("0 12 * * fri", "Pacific/Apia", "2011-12-22T00:00", "2012-01-07T00:00")
    assert runs == ["2011-12-23T12:00-10:00", "2011-12-31T00:00+14:00", "2012-01-06T12:00+14:00"]


def test_change_by_44_minutes_and_30_seconds_is_met_to_the_second():
    cron = Cron("0 0 * * *", ZoneInfo("Africa/Monrovia"))
    assert cron.upcoming(utc(1972, 1, 6), 3) == [
        utc(1972, 1, 6, 0, 44, 30),
        utc(1972, 1, 7, 0, 44, 30),
        utc(1972, 1, 8),
    ]


def test_repeated_day_has_its_fixed_runs_once_and_its_hourly_ones_twice():
    change = utc(2024, 5, 2)
    zone = zone_with_change(change, before=12 * HOUR, after=-12 * HOUR)
    start, end = change - DAY, change + 2 * DAY
    for expression in EXPRESSIONS:
        assert list(Cron(expression, zone).between(start, end)) == walk(
            expression, zone, start, end
        ), expression
    assert len(list(Cron("0 12 * * *", zone).between(start, end))) == 2
    assert len(list(Cron("0 * * * *", zone).between(start, end))) == 72


def zone_with_change(instant, before, after):
    """A zone with one clock change, from a file after RFC 8536 (version 1)."""
    header = b"TZif" + b"\0" * 16 + struct.pack(">6L", 0, 0, 0, 1, 2, 8)
    kinds = [struct.pack(">lbB", int(offset / timedelta(seconds=1)), 0, at)
             for offset, at in ((before, 0), (after, 4))]  # fmt: skip
    body = struct.pack(">lB", int(instant.timestamp()), 1) + b"".join(kinds) + b"OLD\0NEW\0"
    return ZoneInfo.from_file(io.BytesIO(header + body), key="Test/Zone")


# Any schedule, any zone


def fields(low, high, names=()):
    value = st.integers(low, high).map(str) | (st.sampled_from(names) if names else st.nothing())
    # Of two values: the library takes 0-0 for 0-7, so that sat-sun may be read.
    span = st.lists(st.integers(low, high), min_size=2, max_size=2, unique=True).map(sorted)
    ranges = span.map(lambda ends: f"{ends[0]}-{ends[1]}")
    steps = st.integers(1, high - low).map(lambda step: f"*/{step}")
    listed = st.lists(value | ranges, min_size=1, max_size=3).map(",".join)
    return st.just("*") | steps | listed


# Most days match, so that most windows have runs.
some_days = st.just("*") | fields(1, 31)
some_months = st.just("*") | fields(1, 12)
some_weekdays = st.just("*") | fields(0, 6, tuple(NAMES))
expressions = st.tuples(
    fields(0, 59), fields(0, 23), some_days, some_months, some_weekdays
).map(" ".join)  # fmt: skip
zones = st.sampled_from(ZONES).map(ZoneInfo)
instants = st.datetimes(datetime(1970, 1, 3), datetime(2098, 1, 1), timezones=st.just(UTC))


@st.composite
def zones_and_instants(draw):
    """A zone and an instant, more often than not near a change."""
    zone = draw(zones)
    if draw(st.integers(0, 3)) == 0:
        return zone, draw(instants)
    change = draw(st.sampled_from(clock_changes(zone, DECADE)))
    return zone, change + timedelta(seconds=draw(st.integers(-3 * 86400, 86400)))


light = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


@light
@given(expressions, zones_and_instants())
def test_any_schedule_runs_as_the_minute_walker_says(expression, where):
    zone, start = where[0], where[1].replace(second=0, microsecond=0)
    end = start + 30 * HOUR
    assert list(Cron(expression, zone).between(start, end)) == walk(expression, zone, start, end)
    wall_clock.cache_clear()


@light
@given(expressions, zones_and_instants())
def test_runs_are_in_utc_strictly_increasing_and_on_a_matching_or_a_changing_clock(
    expression, where
):
    zone, start = where
    runs = Cron(expression, zone).upcoming(start, 20)
    assert all(run.tzinfo is UTC for run in runs)
    assert all(earlier < later for earlier, later in itertools.pairwise([start, *runs]))
    for run in runs:
        at_change = offset(run, zone) > offset(run - timedelta(seconds=1), zone)
        wall = run.astimezone(zone).replace(tzinfo=None)
        assert at_change or matches(parse(expression), hands(wall))


def offset(instant, zone):
    return instant.astimezone(zone).utcoffset()


@light
@given(expressions, zones_and_instants(), st.integers(1, 20))
def test_between_and_upcoming_agree_with_repeated_next(expression, where, count):
    zone, start = where
    cron = Cron(expression, zone)
    repeated, run = [], cron.next(start)
    while run and len(repeated) < count:
        repeated.append(run)
        run = cron.next(run)
    assert cron.upcoming(start, count) == repeated
    if repeated:
        assert list(cron.between(start, repeated[-1])) == repeated


@light
@given(expressions, zones_and_instants(), st.floats(0, 1))
def test_next_is_the_same_from_any_instant_before_it(expression, where, part):
    zone, start = where
    cron = Cron(expression, zone)
    run = cron.next(start)
    if run:
        assert cron.next(start + (run - start - timedelta(microseconds=1)) * part) == run


library_days = some_days | st.sampled_from(["l", "L", "z2", "z1-3", "15,l", "?"])
library_weekdays = some_weekdays | st.sampled_from(["l5", "L0-2", "7", "5-7", "?", "sat-sun"])
library_years = st.just("*") | st.sampled_from(["2024", "2020-2030/3", "*/4", "1999"])
library_expressions = (
    st.tuples(
        fields(0, 59), fields(0, 59), fields(0, 23),
        library_days, some_months, library_weekdays, library_years,
    ).map(" ".join)
)  # fmt: skip


@light
@given(library_expressions, instants)
@example("59 59 23 31 12 * 2098", utc(2020, 1, 1))
@example("0 0 0 29 2 * *", utc(2021, 1, 1))
def test_without_clock_changes_runs_are_those_of_the_library(expression, start):
    wall = start.replace(tzinfo=None)
    expected = CronTab(expression).next(wall, default_utc=True, return_datetime=True)
    expected = expected if expected and expected.year < 2100 else None
    assert Cron(expression, ZoneInfo("UTC")).next(start) == (
        expected and expected.replace(tzinfo=UTC)
    )


# The edges


def test_next_is_strictly_after_the_instant_to_the_microsecond():
    cron = Cron("* * * * *", ZoneInfo("UTC"))
    at = utc(2025, 6, 1, 12)
    tick = timedelta(microseconds=1)
    assert [cron.next(at - tick), cron.next(at), cron.next(at + tick)] == [
        at, at + MINUTE, at + MINUTE,
    ]  # fmt: skip


def test_instant_may_be_given_in_any_zone():
    cron = Cron("30 2 * * *", ZoneInfo("Europe/Berlin"))
    at = utc(2025, 10, 26, 0, 30)
    assert cron.next(at.astimezone(ZoneInfo("Asia/Tokyo"))) == cron.next(at)


def test_naive_instant_is_refused():
    with pytest.raises(ValueError, match="expected a datetime with a time zone, got datetime"):
        Cron("* * * * *", ZoneInfo("UTC")).next(datetime(2025, 6, 1))


def test_schedule_that_has_ended_has_no_next_run():
    cron = Cron("0 0 1 1 * 2024", ZoneInfo("Europe/Berlin"))
    assert cron.upcoming(utc(2023, 6, 1), 5) == [utc(2023, 12, 31, 23)]
    assert list(cron.between(utc(2024, 6, 1), utc(2030, 1, 1))) == []


def test_schedule_that_ends_in_an_overlap_has_its_second_pass():
    cron = Cron("*/30 2 26 10 * 2025", ZoneInfo("Europe/Berlin"))
    start = utc(2025, 10, 26)
    assert cron.upcoming(utc(2025, 1, 1), 9) == [start + 30 * MINUTE * step for step in range(4)]


def test_date_that_never_comes_has_no_next_run():
    assert Cron("0 0 30 2 *", ZoneInfo("Europe/Berlin")).next(utc(2025, 1, 1)) is None


@pytest.mark.parametrize("key", ["Pacific/Kiritimati", "America/Los_Angeles", "UTC"])
@pytest.mark.parametrize("expression", ["* * * * *", "0 0 * * *"])
def test_runs_keep_to_the_years_of_the_library(expression, key):
    zone = ZoneInfo(key)
    cron = Cron(expression, zone)
    first = cron.next(datetime.min.replace(tzinfo=zone))
    assert utc(1970, 1, 1) <= first < utc(1970, 1, 2)
    assert cron.next(utc(2099, 12, 30)).astimezone(zone).year == 2099
    assert cron.next(datetime(2099, 12, 31, 23, 59, tzinfo=zone)) is None
    assert cron.next(datetime.max.replace(tzinfo=zone)) is None


def test_day_and_weekday_have_to_match_both():
    assert Cron("0 0 13 * fri", ZoneInfo("UTC")).upcoming(utc(2025, 1, 1), 2) == [
        utc(2025, 6, 13),
        utc(2026, 2, 13),
    ]


def test_sixth_field_is_the_year_and_a_seventh_puts_the_second_first():
    assert Cron("1 2 3 4 * 2030", ZoneInfo("UTC")).next(utc(2025, 1, 1)) == utc(2030, 4, 3, 2, 1)
    assert Cron("9 1 2 3 4 * 2030", ZoneInfo("UTC")).next(utc(2025, 1, 1)) == utc(
        2030, 4, 3, 2, 1, 9
    )


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("61 * * * *", "minute '61' (item value 61 out of range [0, 59])"),
        ("0 24 * * *", "hour '24'"),
        ("0 0 1-2-3 * *", "day '1-2-3'"),
        ("0 0 * * fri-mon", "weekday 'fri-mon'"),
        ("x 0 0 1 1 * 2030", "second 'x'"),
        ("0 0 1 1 * 1969", "year '1969'"),
        ("R * * * *", "minute 'R'"),
        ("* * * *", "got 4 need 5 to 7"),
        ("@reboot", "got 1 need 5 to 7"),
        ("", "got 0 need 5 to 7"),
        (None, "NoneType"),
    ],
)
def test_bad_expression_is_refused_with_its_name_the_fault_and_an_example(expression, wrong):
    with pytest.raises(ValueError, match="expected a cron expression such as") as error:
        Cron(expression, ZoneInfo("UTC"))
    for part in ("'*/5 * * * *'", f"got {expression!r}", wrong):
        assert part in str(error.value)


TEXT = st.text("0123456789*/-,lzLZ? ²%@a\n", max_size=12)


@light
@given(TEXT | TEXT.map("{} 0 1 * *".format))
def test_any_text_is_a_schedule_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        Cron(text, ZoneInfo("UTC"))


def test_equal_schedules_are_equal_keys_and_survive_a_pickle():
    berlin, utc_zone = ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")
    cron = Cron("@daily", berlin)
    assert {cron: 1}[Cron("@daily", ZoneInfo("Europe/Berlin"))] == 1
    assert cron != Cron("@daily", utc_zone)
    copy = pickle.loads(pickle.dumps(cron))
    assert copy == cron
    assert copy.next(utc(2025, 1, 1)) == cron.next(utc(2025, 1, 1))
    with pytest.raises(AttributeError):
        cron.expression = "@hourly"


@pytest.mark.parametrize("expression", ["*/5 * * * *", "59 12 * * *", "@hourly", "0 9 * * mon"])
def test_next_is_found_in_a_few_steps_and_warns_of_nothing(expression):
    cron = Cron(expression, ZoneInfo("Europe/Berlin"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert calls_in(lambda: cron.next(utc(2025, 6, 11, 13, 37))) < 1000


def calls_in(call):
    """How many functions it calls: less than a microsecond each."""
    calls = []
    sys.setprofile(lambda frame, event, _: calls.append(event))
    try:
        call()
    finally:
        sys.setprofile(None)
    return calls.count("call") + calls.count("c_call")
