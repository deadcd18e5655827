"""What is accepted comes back exactly; what would not is refused, by its place."""

import enum
import json
import math
import sys
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import TZPATH, ZoneInfo

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.contrib.sessions.models import Session
from django.db import connection, connections, models
from django.test.utils import isolate_apps
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy
from hypothesis import given, settings
from hypothesis import strategies as st

from steady_queue import arguments
from steady_queue.arguments import Arguments, DeserializationError, SerializationError

PRAGUE = ZoneInfo("Europe/Prague")


class Color(enum.Enum):
    RED = 1
    CRIMSON = 1
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1


class Status(models.TextChoices):
    OPEN = "open"
    CLOSED = "closed"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Code(enum.IntEnum):
    OK = 200

    @classmethod
    def _missing_(cls, value: object) -> "Code":
        assert isinstance(value, int)
        unknown = int.__new__(cls, value)
        unknown._name_, unknown._value_ = "UNKNOWN", value
        return unknown


class Drawing:
    class Tool(enum.StrEnum):
        PEN = "pen"


class Text(str):
    pass


class Number(int):
    pass


class Moment(datetime):
    pass


class Odd(tzinfo):
    """A tzinfo of a project's own."""

    def __init__(self, offset: timedelta | None) -> None:
        self.offset = offset

    def utcoffset(self, _moment: datetime | None) -> timedelta | None:
        return self.offset

    def dst(self, _moment: datetime | None) -> timedelta | None:
        return None

    def tzname(self, _moment: datetime | None) -> str:
        return "odd"


Point = namedtuple("Point", "x y")


def round_trip(value: Any) -> Any:
    """The value after a journey as a positional and as a keyword argument."""
    args, kwargs = Arguments.deserialize(Arguments.serialize([value], {"value": value}))
    assert shape(args[0]) == shape(kwargs["value"])
    return args[0]


def shape(value: Any) -> str:
    """A text that differs wherever type, value, order, fold, zone or sign of zero differ."""
    kind = type(value).__qualname__
    match value:
        case dict():
            inner = ", ".join(f"{shape(key)}: {shape(item)}" for key, item in value.items())
        case list() | tuple():
            inner = ", ".join(shape(item) for item in value)
        case set() | frozenset():
            inner = ", ".join(sorted(shape(item) for item in value))
        case datetime() | time():
            inner = f"{value.isoformat()}, {value.fold}, {value.tzinfo!r}"
        case Decimal():
            inner = str(value.as_tuple())
        case _:
            inner = repr(value)
    return f"{kind}({inner})"


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def refusal(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(SerializationError) as caught:
        Arguments.serialize(args, kwargs)
    return str(caught.value)


def failure(*args: Any) -> str:
    """The error of a row whose args are these JSON values."""
    with pytest.raises(DeserializationError) as caught:
        Arguments.deserialize(json.dumps({"args": args, "kwargs": {}}))
    return str(caught.value)


# Plain JSON.


def test_plain_arguments_are_compact_json_with_both_keys() -> None:
    assert Arguments.serialize([7], {}) == '{"args":[7],"kwargs":{}}'
    assert Arguments.serialize((), {"a": "é"}) == '{"args":[],"kwargs":{"a":"é"}}'


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -(10**3999),
        10**4000 - 1,
        0.1,
        -0.0,
        5e-324,
        1.7976931348623157e308,
        "",
        "$",
        "\\u0000",
        "\\u0024",
        "\x01\x1f\x7f\u2028\uffff😀",
        [],
        {},
        [[1, "a"], {"b": [None, {"": 2}]}],
    ],
)
def test_json_values_come_back_exactly(value: Any) -> None:
    assert shape(round_trip(value)) == shape(value)


def test_plain_arguments_take_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "_packed_text", None)
    values = [1, "é", [2.5, {"a": [None, True]}], "x" * 5000, [123456789] * 1000, nested(99)]
    assert Arguments.deserialize(Arguments.serialize(values, {"a": values})) == (
        values,
        {"a": values},
    )


def test_a_python_without_the_encoder_in_c_writes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = arguments._make_encode()
    monkeypatch.setattr(json.encoder, "c_make_encoder", None)
    assert arguments._make_encode()([1, "é"]) == quick([1, "é"]) == '[1,"é"]'


def test_any_sequence_and_mapping_are_taken() -> None:
    text = Arguments.serialize(range(2), MappingProxyType({"a": 1}))
    assert Arguments.deserialize(text) == ([0, 1], {"a": 1})


def test_keyword_argument_named_as_the_reserved_key_comes_back() -> None:
    text = Arguments.serialize([], {"$": ["date", "2026-01-31"], "when": date(2026, 1, 31)})
    assert Arguments.deserialize(text) == (
        [],
        {"$": ["date", "2026-01-31"], "when": date(2026, 1, 31)},
    )


def test_input_is_never_changed() -> None:
    value = {1: [(2, {"$": {3}})], "a": {"b": [date(2026, 1, 31)]}}
    before = deepcopy(value)
    Arguments.serialize([value], {"value": value})
    assert shape(value) == shape(before)


# Dates and times.


@pytest.mark.parametrize(
    "zone",
    [
        UTC,
        timezone(timedelta(hours=-3, minutes=-30)),
        timezone(-timedelta(hours=1, seconds=2)),
        timezone(timedelta(hours=2), "CEST"),
        timezone(timedelta(hours=2), ""),
        ZoneInfo("UTC"),
        PRAGUE,
    ],
)
def test_aware_datetimes_keep_instant_offset_and_zone(zone: tzinfo) -> None:
    moment = datetime(2026, 7, 31, 12, 30, 15, 123456, zone)
    found = round_trip(moment)
    assert shape(found) == shape(moment)
    assert found == moment
    assert found.utcoffset() == moment.utcoffset()
    assert found.tzname() == moment.tzname()


def test_zone_info_comes_back_as_the_same_zone() -> None:
    assert round_trip(datetime(2026, 1, 1, tzinfo=PRAGUE)).tzinfo is PRAGUE


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize("day", [datetime(2026, 10, 25, 2, 30), datetime(2026, 3, 29, 2, 30)])
def test_fold_is_kept_in_overlap_and_gap(day: datetime, fold: int) -> None:
    for zone in (PRAGUE, UTC, None):
        moment = day.replace(tzinfo=zone, fold=fold)
        found = round_trip(moment)
        assert shape(found) == shape(moment)
        assert found.utcoffset() == moment.utcoffset()


def test_naive_datetimes_stay_naive() -> None:
    for moment in (datetime.min, datetime.max, datetime(2026, 1, 31, 1, 2, 3, 4)):
        assert shape(round_trip(moment)) == shape(moment)


def test_other_tzinfo_comes_back_as_its_offset() -> None:
    moment = datetime(2026, 1, 31, tzinfo=Odd(timedelta(hours=5)))
    found = round_trip(moment)
    assert found == moment
    assert shape(found) == shape(moment.replace(tzinfo=timezone(timedelta(hours=5))))


def test_tzinfo_without_offset_is_refused() -> None:
    assert "args[0] exactly: its tzinfo, Odd, has no offset" in refusal(
        datetime(2026, 1, 31, tzinfo=Odd(None))
    )


def test_offsets_with_a_part_of_a_second_are_refused() -> None:
    zone = timezone(timedelta(microseconds=1))
    assert "args[0] exactly: its offset from UTC has a part of a second" in refusal(
        time(tzinfo=zone)
    )


def test_zone_info_without_key_is_refused() -> None:
    path = next(path for path in _zone_files("Europe/Prague"))
    with path.open("rb") as file:
        zone = ZoneInfo.from_file(file)
    assert "ZoneInfo has no key" in refusal(datetime(2026, 1, 31, tzinfo=zone))


def _zone_files(key: str) -> Iterator[Path]:
    for folder in TZPATH:
        if (Path(folder) / key).is_file():
            yield Path(folder) / key
    pytest.skip("no zone files outside of the tzdata package")


def test_instant_wins_where_the_rules_of_a_zone_have_changed() -> None:
    row = '{"args":[{"$":["datetime","2026-01-31T12:00:00+05:00",0,"Europe/Prague"]}],"kwargs":{}}'
    (moment,), _ = Arguments.deserialize(row)
    assert shape(moment) == shape(datetime(2026, 1, 31, 8, tzinfo=PRAGUE))


def test_zone_unknown_to_the_worker_is_an_error_with_its_name() -> None:
    row = {"$": ["datetime", "2026-01-31T12:00:00+01:00", 0, "Mars/Olympus"]}
    assert failure(row) == 'time zone "Mars/Olympus" is not known here; install tzdata (args[0])'


@pytest.mark.parametrize(
    "value",
    [
        date(2026, 1, 31),
        date.min,
        time(1, 2, 3, 4),
        time(2, 30, fold=1),
        time(1, tzinfo=UTC),
        time(1, tzinfo=timezone(timedelta(hours=2), "CEST")),
        time(1, tzinfo=PRAGUE),
        time(1, tzinfo=ZoneInfo("UTC"), fold=1),
        timedelta.min,
        timedelta.max,
        timedelta(microseconds=-1),
        timedelta(days=1, microseconds=999_999),
    ],
)
def test_dates_times_and_timedeltas_come_back_exactly(value: Any) -> None:
    found = round_trip(value)
    assert shape(found) == shape(value)
    assert found == value


# Other values.


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "-0",
        "0.00",
        "1E+400",
        "-1.50E-7",
        "NaN",
        "-NaN",
        "NaN123",
        "sNaN",
        "-sNaN7",
        "-Infinity",
    ],
)
def test_decimals_keep_sign_exponent_and_kind_of_nan(text: str) -> None:
    assert shape(round_trip(Decimal(text))) == shape(Decimal(text))


@pytest.mark.parametrize(
    "value",
    [
        UUID("12345678123456781234567812345678"),
        b"",
        bytes(range(256)),
        (),
        (1, "a", (None,)),
        set(),
        {1, "a", (2,), frozenset({3})},
        frozenset({date(2026, 1, 31)}),
        {1: "a", "1": "b", None: "c", 2.5: "d", (1, 2): "e"},
        {True: 1, "b": {0: 2}},
        {"$": 1},
        {"$": ["date", "2026-01-31"]},
        {"a": {"$": {"$": {"$": []}}, "b": 1}},
        [{"b": 1, "$": 2, "a": 3}],
    ],
)
def test_other_values_come_back_exactly(value: Any) -> None:
    assert shape(round_trip(value)) == shape(value)


@pytest.mark.parametrize(
    "member",
    [*Color, Level.LOW, Status.OPEN, Drawing.Tool.PEN, *Access, ~Access(0), Access(0)],
)
def test_enum_members_come_back_as_themselves(member: enum.Enum) -> None:
    assert round_trip(member) is member
    assert round_trip({member: [member]}) == {member: [member]}


def test_enum_that_a_worker_could_not_find_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Local(enum.Enum):
        ONE = 1

    assert "args[0] exactly: a worker could not find Local" in refusal(Local.ONE)
    monkeypatch.setattr(Color, "__module__", "__main__")
    monkeypatch.setitem(vars(sys.modules["__main__"]), "Color", Color)
    assert "could not find Color" in refusal(Color.RED)


def test_enum_member_without_a_name_is_refused() -> None:
    assert "it is no member of Code that has a name" in refusal(Code(404))


# Refusals.


def test_errors_name_the_place_the_type_and_the_way_out() -> None:
    class Secret:
        def __repr__(self) -> str:
            raise AssertionError("values are never shown")

    assert refusal([0, {"when": Secret()}]) == (
        'cannot keep args[0][1]["when"] exactly: Secret is not supported; '
        "pass its primary key or a JSON value instead"
    )
    assert 'keep kwargs["order"][<tuple>] exactly' in refusal(order={(1, 2): Secret()})
    assert "keep args[1][7][0] exactly" in refusal(None, {7: (Secret(),)})
    assert "keep a key of args[0] exactly" in refusal({Secret(): 1})
    assert "keep a member of args[0] exactly" in refusal({Secret()})


def test_long_places_are_cut() -> None:
    value: Any = object()
    for _ in range(90):
        value = {"k" * 1000: value}
    assert len(refusal(value)) < 500


def test_refusals_are_type_errors_as_of_django() -> None:
    with pytest.raises(TypeError):
        Arguments.serialize([object()], {})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Text("a"), "Text would come back as a plain str; pass a plain str"),
        (Number(1), "Number would come back as a plain int"),
        (OrderedDict(a=1), "OrderedDict would come back as a plain dict"),
        (defaultdict(list), "defaultdict would come back as a plain dict"),
        (Point(1, 2), "Point would come back as a plain tuple"),
        (Moment(2026, 1, 31), "Moment would come back as a plain datetime"),
        (gettext_lazy("Yes"), "pass str(value) instead"),
        (mark_safe("a"), 'pass value + "" instead'),
        (User.objects.none(), "QuerySet is not supported; pass list(value)"),
        (bytearray(b"a"), "bytearray is not supported"),
        (1j, "complex is not supported"),
        (User, "ModelBase is not supported"),
        (Color, "EnumType is not supported"),
        (SimpleLazyObject(AnonymousUser), "SimpleLazyObject is not supported"),
        (SimpleLazyObject(lambda: "a"), "SimpleLazyObject would come back as a plain str"),
    ],
)
def test_what_would_change_its_type_is_refused_with_the_way_out(value: Any, words: str) -> None:
    assert words in refusal(value)
    assert 'keep args[0]["a"] exactly: ' in refusal({"a": value})


def test_ways_out_of_safe_and_lazy_text_lead_out() -> None:
    assert type(str(SafeString("a"))) is SafeString
    assert round_trip(SafeString("a") + "") == "a"
    assert round_trip(str(gettext_lazy("Yes"))) == "Yes"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_floats_that_json_lacks_are_refused(value: float) -> None:
    assert "keep args[0][0] exactly: float is NaN or infinite" in refusal([value])
    assert shape(round_trip(Decimal(value))) == shape(Decimal(value))


def test_text_that_postgresql_lacks_is_refused() -> None:
    assert 'keep kwargs["a"] exactly: str holds a NUL' in refusal(a="x\x00y")
    assert "keep args[0] exactly: str holds a lone surrogate" in refusal("x\ud800")
    assert "keep a key of args[0] exactly: str holds a NUL" in refusal({"\x00": 1})
    assert "keep a key of args[0] exactly: str holds a lone" in refusal({"\udfff": 1})
    assert "keep a key of kwargs exactly: str holds a NUL" in refusal(**{"\x00": 1})
    assert "holds a NUL" in refusal(datetime(1, 1, 1, tzinfo=timezone(timedelta(0), "\x00")))


def test_keyword_names_that_are_not_text_are_refused() -> None:
    with pytest.raises(SerializationError, match="a key of kwargs exactly: int is not a str"):
        Arguments.serialize([], {1: 2})  # type: ignore[dict-item]


@pytest.mark.parametrize("digits", [4001, 4300, 5000, 100_000])
def test_longer_integers_are_refused(digits: int) -> None:
    limit = sys.get_int_max_str_digits()
    for sign in (1, -1):
        assert "keep args[0][1] exactly: int has over 4,000 digits" in refusal(
            ["1" * 4500, sign * 10 ** (digits - 1)]
        )
    try:
        sys.set_int_max_str_digits(0)
        assert "int has over 4,000 digits" in refusal("x" * 99, 10 ** (digits - 1))
    finally:
        sys.set_int_max_str_digits(limit)


def test_long_texts_of_digits_are_kept() -> None:
    assert round_trip("7" * 9000) == "7" * 9000


@pytest.mark.parametrize("levels", [101, 10_000])
def test_nesting_over_the_limit_is_refused(levels: int) -> None:
    assert "over 100 levels deep" in refusal(nested(levels))
    value: Any = 0
    for _ in range(levels):
        value = {"a": (value,)}
    assert "over 100 levels deep" in refusal(value)


def test_nesting_up_to_the_limit_comes_back() -> None:
    assert round_trip(nested(100)) == nested(100)
    value: Any = date(2026, 1, 31)
    for level in range(50):
        value = {level: (value,)}
    assert round_trip(value) == value


def test_circles_are_refused() -> None:
    circle: list[Any] = []
    circle += [circle, circle]
    ring: dict[Any, Any] = {}
    ring[1] = ring
    assert "holds itself" in refusal(circle)
    assert "holds itself" in refusal(ring)


def test_arguments_up_to_the_cap_are_taken_and_over_it_refused() -> None:
    room = arguments.max_arguments_size - len(Arguments.serialize([""], {}))
    assert len(Arguments.serialize(["x" * room], {})) == 1_048_576
    assert refusal("x" * (room + 1)).startswith(
        "args and kwargs take 1,048,577 bytes as JSON, over the 1,048,576 of max_arguments_size"
    )


def test_the_cap_counts_bytes_of_utf8() -> None:
    assert Arguments.serialize(["é" * 500_000], {})
    assert "1,200,025 bytes" in refusal("é" * 600_000)
    assert "bytes as JSON" in refusal(b"x" * 1_000_000)


# Rows that cannot be read.


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '{"args":[]}',
        '{"args":{},"kwargs":{}}',
        '{"args":[],"kwargs":[]}',
        '{"args":[],"kwargs":{}} x',
        '{"args":[NaN],"kwargs":{}}',
        '{"args":[' + "9" * 5000 + '],"kwargs":{}}',
        '{"args":' + "[" * 200_000,
        '{"args":[' + "[" * 5000 + "]" * 5000 + ',"$"],"kwargs":{}}',
    ],
)
def test_malformed_texts_are_deserialization_errors(text: str) -> None:
    with pytest.raises(DeserializationError):
        Arguments.deserialize(text)


def test_rows_written_by_hand_may_have_spaces_and_escapes() -> None:
    text = ' {"kwargs": {}, "args": [{ "\\u0024" : ["date", "2026-01-31"] }]}\n'
    assert Arguments.deserialize(text) == ([date(2026, 1, 31)], {})


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        ({"$": ["dat", 1]}, 'unknown tag "dat" (args[1]["a"])'),
        ({"$": []}, 'malformed tag (args[1]["a"])'),
        ({"$": [["date"]]}, 'malformed tag (args[1]["a"])'),
        ({"$": "date"}, 'malformed tag (args[1]["a"])'),
        ({"$": ["date", "2026-01-31"], "b": 1}, 'malformed tag (args[1]["a"])'),
        ({"$": ["date", "2026-13-31"]}, 'malformed date (args[1]["a"])'),
        ({"$": ["date"]}, 'malformed date (args[1]["a"])'),
        ({"$": ["datetime", "2026-01-31", 0, "UTC"]}, 'malformed datetime (args[1]["a"])'),
        ({"$": ["timedelta", 10**10, 0, 0]}, 'malformed timedelta (args[1]["a"])'),
        ({"$": ["decimal", "x"]}, 'malformed decimal (args[1]["a"])'),
        ({"$": ["uuid", 7]}, 'malformed uuid (args[1]["a"])'),
        ({"$": ["bytes", "?"]}, 'malformed bytes (args[1]["a"])'),
        ({"$": ["set", []]}, 'malformed set (args[1]["a"])'),
        ({"$": ["dict", 1]}, 'malformed dict (args[1]["a"])'),
        ({"$": ["dict", [], 1]}, 'malformed dict (args[1]["a"])'),
        ({"$": ["tuple", 1, {"$": ["date", 2]}]}, 'malformed date (args[1]["a"][1])'),
        ({"$": ["dict", 7, {"$": ["date", 2]}]}, 'malformed date (args[1]["a"][7])'),
        ({"$": ["model", 1, 2]}, 'malformed model (args[1]["a"])'),
        ({"$": ["model", "user", 2]}, 'malformed model (args[1]["a"])'),
    ],
)
def test_malformed_tags_are_errors_with_their_place(packed: Any, message: str) -> None:
    assert failure(None, {"a": packed}) == message


# Enums of rows: no code is run that a row names.


def enum_row(module: Any, qualname: Any, name: Any) -> dict[str, Any]:
    return {"$": ["enum", module, qualname, name]}


@pytest.mark.parametrize(
    ("module", "qualname"),
    [
        ("os", "system"),
        ("enum", "EnumType"),
        ("builtins", "eval"),
        ("decimal", "Decimal"),
        (__name__, "Color.RED"),
        (__name__, "Color.name"),
        (__name__, "Nothing"),
        (__name__, ""),
        ("", "Color"),
        ("__main__", "Color"),
        ("antigravity", "Color"),
    ],
)
def test_only_enum_classes_are_found(module: str, qualname: str) -> None:
    assert failure(enum_row(module, qualname, "RED")) == (
        f"{module}.{qualname} is no enum of an imported module or installed app (args[0])"
    )
    assert "antigravity" not in sys.modules


def test_enum_member_that_is_gone_is_an_error() -> None:
    message = f'{__name__}.Color has no member "BLUE" (args[0])'
    assert failure(enum_row(__name__, "Color", "BLUE")) == message
    assert failure(enum_row(__name__, "Color", "__class__")).endswith("(args[0])")
    assert failure(enum_row(__name__, "Color", 1)).endswith("(args[0])")
    assert failure(enum_row(__name__, "Access", 64)) == "malformed enum (args[0])"


@pytest.mark.parametrize("module", ["antigravity", "steady_queue.absent", "__main__"])
def test_a_module_that_a_row_names_is_never_imported(module: str) -> None:
    assert "no enum of an imported module" in failure(enum_row(module, "Toy", "CAR"))
    assert module == "__main__" or module not in sys.modules


# Model instances.


@pytest.mark.django_db
def test_model_instances_come_back_from_the_database() -> None:
    user = User.objects.create(username="ann")
    session = Session.objects.create(session_key="k'%\"", expire_date=datetime.now(UTC))
    found = round_trip({"who": [user], session: (session,)})
    assert found == {"who": [user], session: (session,)}
    assert type(found["who"][0]) is User
    assert found["who"][0]._state.db == "default"


@pytest.mark.django_db
def test_deferred_instances_come_back_whole() -> None:
    User.objects.create(username="ann")
    found = round_trip(User.objects.only("pk").get())
    assert found.get_deferred_fields() == set()
    assert found.username == "ann"


@pytest.mark.django_db
def test_rows_keep_the_label_and_the_key_alone() -> None:
    group = Group.objects.create(name="staff")
    tagged = f'{{"$":["model","auth.Group",{group.pk}]}}'
    assert Arguments.serialize([group], {}) == f'{{"args":[{tagged}],"kwargs":{{}}}}'


@pytest.mark.django_db
def test_lazy_request_user_comes_back_as_the_user() -> None:
    user = User.objects.create(username="ann")
    found = round_trip(SimpleLazyObject(lambda: user))
    assert type(found) is User
    assert found == user


@pytest.mark.django_db
def test_row_that_is_gone_is_an_error_with_model_key_and_place() -> None:
    group = Group.objects.create(name="staff")
    text = Arguments.serialize([], {"groups": [group]})
    Group.objects.all().delete()
    with pytest.raises(DeserializationError) as caught:
        Arguments.deserialize(text)
    assert str(caught.value) == (
        f'auth.Group with pk {group.pk} no longer exists (kwargs["groups"][0])'
    )


def test_model_that_is_gone_is_an_error() -> None:
    for label in ("auth.Order", "shop.Order"):
        message = f"model {label} no longer exists (args[0])"
        assert failure({"$": ["model", label, 7]}) == message


@pytest.mark.django_db
def test_key_of_another_type_is_an_error() -> None:
    assert failure({"$": ["model", "auth.User", "seven"]}) == "malformed model (args[0])"
    assert failure({"$": ["model", "auth.User", 1, "default", 2]}) == "malformed model (args[0])"


@pytest.mark.django_db
def test_unsaved_and_deleted_instances_are_refused() -> None:
    group = Group.objects.create(name="staff")
    group.delete()
    for instance in (Group(name="new"), Group(pk=7), group):
        assert refusal([instance]) == (
            "cannot keep args[0][0] exactly: auth.Group is not saved; save it first"
        )


@pytest.mark.django_db
def test_database_alias_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections.settings, "replica", connections.settings["default"])
    connections["replica"] = connections["default"]
    try:
        Group.objects.create(name="staff")
        group = Group.objects.using("replica").get()
        assert '"replica"' in Arguments.serialize([group], {})
        found = round_trip(group)
        assert (found, found._state.db) == (group, "replica")
    finally:
        del connections["replica"]


@pytest.mark.django_db
def test_database_that_is_gone_is_an_error() -> None:
    group = Group.objects.create(name="staff")
    group._state.db = "old"
    with pytest.raises(DeserializationError, match='database "old" of auth'):
        Arguments.deserialize(Arguments.serialize([group], {}))


@pytest.mark.django_db
def test_proxies_come_back_as_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    with isolate_apps("django.contrib.auth") as registry:

        class Person(User):
            class Meta:
                app_label = "auth"
                proxy = True

    User.objects.create(username="ann")
    person = Person.objects.get()
    assert "auth.Person is not the installed model of that name" in refusal(person)
    monkeypatch.setattr(arguments, "apps", registry)
    assert type(round_trip(person)) is Person


@pytest.mark.django_db
def test_uuid_and_composite_keys_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with isolate_apps("django.contrib.auth") as registry:

        class Parcel(models.Model):
            id = models.UUIDField(primary_key=True, default=uuid4)

            class Meta:
                app_label = "auth"

        class Shelf(models.Model):
            pk = models.CompositePrimaryKey("hall", "parcel")
            hall = models.IntegerField()
            parcel = models.UUIDField()

            class Meta:
                app_label = "auth"

    monkeypatch.setattr(arguments, "apps", registry)
    make_table(Parcel)
    make_table(Shelf)
    assert "auth.Parcel is not saved" in refusal(Parcel())
    parcel = Parcel._default_manager.create()
    shelf = Shelf._default_manager.create(hall=1, parcel=parcel.pk)
    assert round_trip([parcel, shelf]) == [parcel, shelf]
    assert failure({"$": ["model", "auth.Parcel", "x"]}) == "malformed model (args[0])"


def make_table(model: type[models.Model]) -> None:
    """The table of a test's own model, until the transaction of the test is rolled back."""
    columns = ", ".join(
        f"{field.column} {field.db_type(connection)}"
        for field in model._meta.local_concrete_fields
        if field.column
    )
    with connection.cursor() as cursor:
        cursor.execute(f"create table {model._meta.db_table} ({columns})")


# Properties.

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=5)
offsets = st.integers(-86_399, 86_399).map(lambda seconds: timedelta(seconds=seconds))
zones = st.one_of(
    st.none(),
    st.just(UTC),
    st.timezones(),
    st.builds(timezone, offsets),
    st.builds(timezone, offsets, texts),
)
hashables = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
    st.just("$"),
    st.binary(max_size=5),
    st.decimals().filter(lambda value: not value.is_snan()),
    st.uuids(),
    st.dates(),
    st.timedeltas(),
    st.builds(datetime.replace, st.datetimes(timezones=zones), fold=st.sampled_from([0, 1])),
    st.builds(time.replace, st.times(timezones=zones), fold=st.sampled_from([0, 1])),
    st.sampled_from([Color.RED, Status.OPEN, Access.READ | Access.WRITE, Drawing.Tool.PEN]),
)
keys = st.recursive(
    hashables,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)
    ),
    max_leaves=4,
)
values = st.recursive(
    st.one_of(keys, st.just(Decimal("sNaN")), st.sets(keys, max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(texts, st.just("$")), inner, max_size=4),
        st.dictionaries(keys, inner, max_size=4),
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(st.lists(values, max_size=3), st.dictionaries(st.one_of(texts, st.just("$")), values))
def test_whatever_is_accepted_comes_back_exactly(args: list[Any], kwargs: dict[str, Any]) -> None:
    before = shape([args, kwargs])
    text = Arguments.serialize(args, kwargs)
    assert shape([args, kwargs]) == before
    assert shape(list(Arguments.deserialize(text))) == before
    json.dumps(json.loads(text, parse_constant=pytest.fail), allow_nan=False)


tags = st.sampled_from(
    [
        "datetime",
        "date",
        "time",
        "timedelta",
        "decimal",
        "uuid",
        "bytes",
        "tuple",
        "set",
        "frozenset",
        "dict",
        "enum",
        "model",
        "x",
    ]
)
rows = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        texts,
        st.sampled_from(["2026-01-31", "01:00+01:00", "UTC", "enum", "Flag", "Europe", "auth.X"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["$", "a"]), inner, max_size=2),
        st.builds(lambda tag, parts: {"$": [tag, *parts]}, tags, st.lists(inner, max_size=4)),
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.lists(rows, max_size=2))
def test_any_row_is_read_or_refused_and_nothing_else(args: list[Any]) -> None:
    with suppress(DeserializationError):
        Arguments.deserialize(json.dumps({"args": args, "kwargs": {}}))
