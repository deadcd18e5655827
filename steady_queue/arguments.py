"""Task arguments as JSON text, and back, with nothing changed on the way.

    {"args": [7, {"$": ["date", "2026-01-31"]}], "kwargs": {"note": "plain JSON is itself"}}

- What JSON has (str, int, float, bool, None, list, dict with str keys) is written as itself.
- Anything else is an object whose only key is `$`: `{"$": [tag, *parts]}`, as `_CODECS` says, and
  each part is such a value again.
- A dict that JSON would change, because a key is not a str or is `$` itself, has the tag `dict`
  and its keys and values in turn: `{"$": ["dict", 1, "one", 2, "two"]}`.

What would not come back equal, in value and in type, is refused when it is written. There are two
exceptions: a tzinfo other than ZoneInfo and timezone comes back as a timezone of the same offset,
and a lazy object around a model instance, such as `request.user`, comes back as that instance.

A row names no code to run: a model must be installed, and an enum must be an `enum.Enum` of a
module that is already imported: nothing that a row names is ever imported.

To support another type, add a row to `_CODECS`.
"""

import base64
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, EnumType, Flag
from itertools import chain, repeat
from types import ModuleType, NoneType
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from django.apps import apps
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model, QuerySet
from django.utils.functional import Promise
from django.utils.safestring import SafeString

max_arguments_size = 1_048_576
"""The most bytes, as UTF-8, that the arguments of one job may take."""

max_nesting = 100
"""The most lists, dicts, tuples and sets that may lie around a value, `args` and `kwargs` apart."""

max_integer_digits = 4_000
"""The most decimal digits of an int; Python itself reads no more than 4,300 unless told to."""


class SerializationError(TypeError):
    """The arguments cannot be kept exactly; the message has the place and the way out, no value."""


class DeserializationError(Exception):
    """The arguments cannot be read back: a row or a class is gone, or the text is malformed."""


class Arguments:
    """The arguments of one job as JSON text."""

    @staticmethod
    def serialize(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """Compact JSON text `{"args": [...], "kwargs": {...}}`, for `json` and `jsonb` alike.

        Raises SerializationError for what would not come back equal in value and type, for nesting
        over `max_nesting` levels, and for text over `max_arguments_size` bytes.
        """
        text = _plain_text(args, kwargs)
        if text is None:
            text = _packed_text(args, kwargs)
        size = len(text) if text.isascii() else len(text.encode())
        if size > max_arguments_size:
            raise SerializationError(
                f"args and kwargs take {size:,} bytes as JSON, over the {max_arguments_size:,} of "
                "max_arguments_size; store the data and pass its primary key instead"
            )
        return text

    @staticmethod
    def are_plain(args: Iterable[Sequence[Any]], kwargs: Iterable[Mapping[str, Any]]) -> bool:
        """Whether all of many calls is what JSON has, which runs nobody's code when it is read."""
        return all(map(_is_plain_call, args, kwargs))

    @staticmethod
    def deserialize(text: str) -> tuple[list[Any], dict[str, Any]]:
        """The (args, kwargs) that `serialize` was given; a model instance costs one query.

        Raises DeserializationError for a row or class that is gone and for malformed text. Database
        errors pass through: those arguments may be readable later.
        """
        args, kwargs = _parse(text)
        # The second spelling is never ours, but a job may be enqueued in SQL.
        if '"$"' in text or "\\u0024" in text:
            return _unpack_all(args, kwargs)
        return args, kwargs


class _Refusal(Exception):
    """Why a value cannot be kept or read; the walker that catches it knows the place."""


# Places: `args[0]["order"]` is (("args", 0), "order"), made text only when an error needs it.


class _Mark(Enum):
    """A step of a place that is neither an index nor a key."""

    KEY = "a key of {}"
    MEMBER = "a member of {}"
    PK = "{}.pk"
    PART = "{}"


type _Place = str | tuple[_Place, object]


def _show(place: _Place) -> str:
    steps = []
    while not isinstance(place, str):
        place, step = place
        steps.append(step)
    text = place
    for step in reversed(steps):
        text = step.value.format(text) if isinstance(step, _Mark) else f"{text}[{_show_key(step)}]"
    return text if len(text) <= 300 else f"{text[:140]} ... {text[-140:]}"


def _show_key(key: object) -> str:
    if type(key) is str:
        return json.dumps(key if len(key) <= 60 else key[:57] + "...")
    if type(key) is int and -(10**18) < key < 10**18:
        return str(key)
    return f"<{type(key).__name__}>"


# The fast path: values that JSON keeps exactly go to the C encoder as they are.

_SCALARS = frozenset({str, int, float, bool, NoneType})
_STRINGS = frozenset({str})
_RESERVED = "$"

# Circles cannot reach the encoder: both walks stop at max_nesting.
_encoder = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")
)


def _make_encode() -> Callable[[Any], str]:
    """``_encoder.encode``, which makes a C encoder for each call: three quarters of a short text's
    time. Here it is made once, where this Python has one of that shape."""
    sample = {"é": [1, None]}
    try:
        chunks = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
            None, _encoder.default, json.encoder.encode_basestring, None, ":", ",",
            False, False, False,
        )  # fmt: skip
        is_as_before = "".join(chunks(sample, 0)) == _encoder.encode(sample)
    except (AttributeError, TypeError):
        return _encoder.encode
    return (lambda value: "".join(chunks(value, 0))) if is_as_before else _encoder.encode


_encode = _make_encode()


def _plain_text(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """The text of arguments that need no tags, or None if in doubt."""
    if not _is_plain_call(args, kwargs):
        return None
    try:
        # Most jobs have no kwargs, and leaving the outer dicts to a template saves a sixth.
        if kwargs:
            text = _encode({"args": args, "kwargs": kwargs})
        else:
            text = f'{{"args":{_encode(args)},"kwargs":{{}}}}'
    except ValueError:
        return None
    return None if _is_doubtful(text) else text


def _is_plain_call(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    return (
        (type(args) is tuple or type(args) is list)
        and type(kwargs) is dict
        and _is_plain(args)
        and (not kwargs or (_STRINGS.issuperset(map(type, kwargs)) and _is_plain(kwargs.values())))
    )


def _is_plain(values: Iterable[Any], depth: int = 0) -> bool:
    """Whether JSON has each value's exact type; `map` keeps the common case out of Python loops."""
    if _SCALARS.issuperset(map(type, values)):
        return True
    if depth >= max_nesting:
        return False
    for value in values:
        kind = type(value)
        if kind in _SCALARS:
            continue
        if kind is list:
            inner = value
        elif kind is dict and _has_plain_keys(value):
            inner = value.values()
        else:
            return False
        if not _is_plain(inner, depth + 1):
            return False
    return True


def _has_plain_keys(value: dict[Any, Any]) -> bool:
    return _STRINGS.issuperset(map(type, value)) and _RESERVED not in value


# Searching all of a long text would take as long as writing it. Any run of max_integer_digits shows
# in a sample of its characters; the stride is prime, lest it fall into step with a list of numbers.
_STRIDE = 97
_find_long_integer = re.compile(f"[0-9]{{{max_integer_digits // _STRIDE}}}").search


def _is_doubtful(text: str) -> bool:
    """Whether the text may hold a NUL, a lone surrogate or too long an int."""
    return (
        "\\u0000" in text
        or not (text.isascii() or _is_utf8(text))
        or (len(text) > max_integer_digits and _find_long_integer(text[::_STRIDE]) is not None)
    )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# The full path: each value is looked at, tagged where JSON lacks its type, refused by its place.


def _packed_text(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    for name in kwargs:
        if type(name) is not str:
            raise _refused(("kwargs", _Mark.KEY), f"{type(name).__name__} is not a str; pass a str")
    packed = {
        "args": [_pack(value, ("args", index), 0) for index, value in enumerate(args)],
        "kwargs": {
            _checked(name, ("kwargs", _Mark.KEY)): _pack(value, ("kwargs", name), 0)
            for name, value in kwargs.items()
        },
    }
    return _encode(packed)


def _pack(value: Any, place: _Place, depth: int) -> Any:
    """The value as plain JSON values, with tags where needed."""
    kind = type(value)
    if kind in _SCALARS:
        return _checked(value, place)
    if kind in _CONTAINERS and depth >= max_nesting:
        raise _refused(
            place,
            f"it is over {max_nesting} levels deep, or holds itself; pass a flatter value instead",
        )
    if kind is list:
        return [_pack(item, (place, index), depth + 1) for index, item in enumerate(value)]
    if kind is dict and _has_plain_keys(value):
        return {
            _checked(key, (place, _Mark.KEY)): _pack(item, (place, key), depth + 1)
            for key, item in value.items()
        }
    return _pack_tagged(value, place, depth)


def _pack_tagged(value: Any, place: _Place, depth: int) -> dict[str, Any]:
    try:
        codec = _codec_for(value)
        parts = codec.pack(value)
    except _Refusal as refusal:
        raise _refused(place, str(refusal)) from None
    packed = [
        _pack(part, (place, step), depth + 1)
        for part, step in zip(parts, codec.steps(parts), strict=False)
    ]
    return {_RESERVED: [codec.tag, *packed]}


def _refused(place: _Place, reason: str) -> SerializationError:
    return SerializationError(f"cannot keep {_show(place)} exactly: {reason}")


def _checked(value: Any, place: _Place) -> Any:
    """The scalar itself, if PostgreSQL and Python can both keep it."""
    find_fault = _SCALAR_FAULTS.get(type(value))
    fault = find_fault(value) if find_fault else None
    if fault:
        raise _refused(place, fault)
    return value


def _fault_of_text(value: str) -> str | None:
    if "\x00" in value:
        return "str holds a NUL, which PostgreSQL refuses in text; remove it or pass bytes instead"
    if not _is_utf8(value):
        return (
            "str holds a lone surrogate, which UTF-8 lacks; "
            "pass bytes instead (os.fsencode(value) if it is a file name)"
        )
    return None


def _fault_of_float(value: float) -> str | None:
    if math.isfinite(value):
        return None
    return "float is NaN or infinite, which JSON lacks; pass Decimal(value) or None instead"


_INTEGER_BOUND = 10**max_integer_digits


def _fault_of_int(value: int) -> str | None:
    if -_INTEGER_BOUND < value < _INTEGER_BOUND:
        return None
    return f"int has over {max_integer_digits:,} digits; pass hex(value) instead"


_SCALAR_FAULTS: dict[type, Callable[[Any], str | None]] = {
    str: _fault_of_text,
    float: _fault_of_float,
    int: _fault_of_int,
}


def _unsupported(value: object) -> _Refusal:
    name = type(value).__name__
    for kind, way_out in _WAYS_OUT:
        if isinstance(value, kind):
            return _Refusal(f"{name} {way_out}")
    for kind in (str, int, float, list, *_BY_TYPE):
        if isinstance(value, kind):
            plain = f"plain {kind.__name__}"
            return _Refusal(f"{name} would come back as a {plain}; pass a {plain} instead")
    return _Refusal(f"{name} is not supported; pass its primary key or a JSON value instead")


_WAYS_OUT: tuple[tuple[type, str], ...] = (
    (Promise, "is a lazy text, which each language reads differently; pass str(value) instead"),
    (SafeString, 'would lose its mark, and str(...) leaves that on; pass value + "" instead'),
    (QuerySet, "is not supported; pass list(value) or a list of primary keys instead"),
)


# Reading.


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_constant=_refuse_constant).raw_decode


def _parse(text: str) -> tuple[list[Any], dict[str, Any]]:
    text = text.strip()
    try:
        call, end = _decode(text)
    except (ValueError, RecursionError) as error:
        raise DeserializationError(f"arguments are not readable as JSON: {error}") from error
    if (
        end != len(text)
        or type(call) is not dict
        or type(call.get("args")) is not list
        or type(call.get("kwargs")) is not dict
    ):
        raise DeserializationError('expected arguments as {"args": [...], "kwargs": {...}}')
    return call["args"], call["kwargs"]


def _unpack_all(args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    try:
        return (
            [_unpack(value, ("args", index)) for index, value in enumerate(args)],
            {name: _unpack(value, ("kwargs", name)) for name, value in kwargs.items()},
        )
    except RecursionError as error:
        raise DeserializationError("arguments are nested too deeply to be read") from error


def _unpack(value: Any, place: _Place) -> Any:
    if type(value) is list:
        return [_unpack(item, (place, index)) for index, item in enumerate(value)]
    if type(value) is not dict:
        return value
    if _RESERVED in value:
        return _unpack_tagged(value, place)
    return {key: _unpack(item, (place, key)) for key, item in value.items()}


def _unpack_tagged(value: dict[str, Any], place: _Place) -> Any:
    codec, packed = _codec_of(value, place)
    parts = [
        _unpack(part, (place, step))
        for part, step in zip(packed, codec.steps(packed), strict=False)
    ]
    try:
        return codec.unpack(*parts)
    except _Refusal as refusal:
        raise DeserializationError(f"{refusal} ({_show(place)})") from refusal.__cause__
    except _MALFORMED as error:
        raise DeserializationError(f"malformed {codec.tag} ({_show(place)})") from error


_MALFORMED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    ValidationError,
)


def _codec_of(value: dict[str, Any], place: _Place) -> tuple["_Codec", list[Any]]:
    tagged = value[_RESERVED]
    if len(value) != 1 or type(tagged) is not list or not tagged or type(tagged[0]) is not str:
        raise DeserializationError(f"malformed tag ({_show(place)})")
    tag, *packed = tagged
    if tag not in _BY_TAG:
        raise DeserializationError(f"unknown tag {_show_key(tag)} ({_show(place)})")
    return _BY_TAG[tag], packed


# What each type is written as. `pack` gives the parts and `unpack` takes them.


def _pack_moment(value: datetime | time) -> list[Any]:
    """ISO text, fold, key of the ZoneInfo, name of the timezone; what is not needed is left off."""
    zone = value.tzinfo
    parts = [value.isoformat(), value.fold, None, None]
    if type(zone) is ZoneInfo:
        parts[2] = _key_of_zone(zone)
    elif zone is not None:
        parts[3] = _name_of_offset(zone, value.utcoffset())
    while parts[-1] is None or parts[-1] == 0:
        parts.pop()
    return parts


def _key_of_zone(zone: ZoneInfo) -> str:
    if zone.key is None:
        raise _Refusal("its ZoneInfo has no key; pass a ZoneInfo(key) instead")
    return zone.key


def _name_of_offset(zone: tzinfo, offset: timedelta | None) -> str | None:
    """The name that a timezone was given, None where it has that of its offset."""
    if offset is None:
        raise _Refusal(f"its tzinfo, {type(zone).__name__}, has no offset; pass a ZoneInfo instead")
    # Python reads +00:00:00.000001 as UTC.
    if offset.microseconds:
        raise _Refusal("its offset from UTC has a part of a second; pass whole seconds instead")
    if type(zone) is not timezone or zone.tzname(None) == timezone(offset).tzname(None):
        return None
    return zone.tzname(None)


def _unpack_datetime(
    text: str, fold: int = 0, key: str | None = None, name: str | None = None
) -> datetime:
    moment = datetime.fromisoformat(text).replace(fold=fold)
    if key is None:
        return moment if name is None else moment.replace(tzinfo=_named(moment, name))
    if moment.tzinfo is None:
        raise ValueError("a zone needs an offset")
    zone = _zone(key)
    local = moment.replace(tzinfo=zone)
    # Where the zone's rules differ from the sender's, the instant counts and not the clock.
    return local if local.utcoffset() == moment.utcoffset() else moment.astimezone(zone)


def _unpack_time(text: str, fold: int = 0, key: str | None = None, name: str | None = None) -> time:
    clock = time.fromisoformat(text).replace(fold=fold)
    if key is not None:
        return clock.replace(tzinfo=_zone(key))
    return clock if name is None else clock.replace(tzinfo=_named(clock, name))


def _named(value: datetime | time, name: str) -> timezone:
    offset = value.utcoffset()
    if offset is None:
        raise ValueError("a name needs an offset")
    return timezone(offset, name)


def _zone(key: str) -> ZoneInfo:
    try:
        return ZoneInfo(key)
    except (LookupError, OSError) as error:
        raise _Refusal(f"time zone {_show_key(key)} is not known here; install tzdata") from error


def _pack_model(instance: Model) -> list[Any]:
    """Label, primary key, and the database if it is not the default one."""
    # Not type(): request.user is a lazy object that says it is, and comes back as, a User.
    model = instance.__class__
    label = model._meta.label
    if _model(label) is not model:
        raise _Refusal(f"{label} is not the installed model of that name; pass its primary key")
    keys = instance.pk if isinstance(instance.pk, tuple) else (instance.pk,)
    if instance._state.adding or None in keys:
        raise _Refusal(f"{label} is not saved; save it first")
    alias = instance._state.db or DEFAULT_DB_ALIAS
    return [label, instance.pk] if alias == DEFAULT_DB_ALIAS else [label, instance.pk, alias]


def _unpack_model(label: str, pk: Any, alias: str = DEFAULT_DB_ALIAS) -> Model:
    model = _model(label)
    if model is None:
        raise _Refusal(f"model {label} no longer exists")
    if alias not in connections:
        raise _Refusal(f"database {_show_key(alias)} of {label} is not in DATABASES")
    try:
        return model._base_manager.using(alias).get(pk=pk)
    except ObjectDoesNotExist as error:
        raise _Refusal(f"{label} with pk {pk!s:.100} no longer exists") from error


def _model(label: str) -> type[Model] | None:
    try:
        return apps.get_model(label)
    except LookupError:
        return None


def _pack_enum(member: Enum) -> list[Any]:
    """Module, class and name of the member; for a flag without a name, its value."""
    kind = type(member)
    if _enum(kind.__module__, kind.__qualname__) is not kind:
        raise _Refusal(
            f"a worker could not find {kind.__name__}; define it in a module or class of an app"
        )
    if kind.__members__.get(member._name_) is member:
        return [kind.__module__, kind.__qualname__, member._name_]
    if isinstance(member, Flag):
        return [kind.__module__, kind.__qualname__, member._value_]
    # As some `_missing_` methods make.
    raise _Refusal(f"it is no member of {kind.__name__} that has a name; pass its value instead")


def _unpack_enum(module: str, qualname: str, name: str | int) -> Enum:
    kind = _enum(module, qualname)
    if kind is None:
        raise _Refusal(f"{module}.{qualname} is no enum of an imported module or installed app")
    if isinstance(name, int) and issubclass(kind, Flag):
        return kind(name)
    if name not in kind.__members__:
        raise _Refusal(f"{module}.{qualname} has no member {_show_key(name)}")
    return kind.__members__[str(name)]


def _enum(module: str, qualname: str) -> type[Enum] | None:
    """The class, by plain look-ups: no descriptor or module `__getattr__` runs for a row."""
    found: Any = _module(module)
    for name in qualname.split("."):
        if not issubclass(type(found), (ModuleType, type)):
            return None
        found = vars(found).get(name)
    return found if issubclass(type(found), EnumType) else None


def _module(name: str) -> ModuleType | None:
    # A program's entry point is another module in each process.
    return None if "__main__" in name.split(".") else sys.modules.get(name)


def _only_part(_parts: Sequence[Any]) -> Iterable[object]:
    return repeat(_Mark.PART)


def _each_index(parts: Sequence[Any]) -> Iterable[object]:
    return range(len(parts))


def _each_member(_parts: Sequence[Any]) -> Iterable[object]:
    return repeat(_Mark.MEMBER)


def _each_key_and_value(parts: Sequence[Any]) -> Iterable[object]:
    return chain.from_iterable((_Mark.KEY, key) for key in parts[::2])


def _label_pk_and_alias(_parts: Sequence[Any]) -> Iterable[object]:
    return chain((_Mark.PART, _Mark.PK), repeat(_Mark.PART))


class _Codec(NamedTuple):
    """One type as `{"$": [tag, *pack(value)]}`, and back as `unpack(*parts)`."""

    kind: type
    tag: str
    pack: Callable[[Any], Sequence[Any]]
    unpack: Callable[..., Any]
    steps: Callable[[Sequence[Any]], Iterable[object]] = _only_part
    """The step of each part's place, for errors."""


# A tag is in rows of every release: never change one, nor what its parts mean.
_CODECS = (
    _Codec(datetime, "datetime", _pack_moment, _unpack_datetime),
    _Codec(date, "date", lambda value: [value.isoformat()], date.fromisoformat),
    _Codec(time, "time", _pack_moment, _unpack_time),
    _Codec(
        timedelta,
        "timedelta",
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda days, seconds, microseconds: timedelta(days, seconds, microseconds),
    ),
    _Codec(Decimal, "decimal", lambda value: [str(value)], Decimal),
    _Codec(UUID, "uuid", lambda value: [str(value)], UUID),
    _Codec(
        bytes,
        "bytes",
        lambda value: [base64.b64encode(value).decode("ascii")],
        lambda text: base64.b64decode(text, validate=True),
    ),
    _Codec(tuple, "tuple", lambda value: value, lambda *parts: parts, _each_index),
    _Codec(set, "set", list, lambda *parts: set(parts), _each_member),
    _Codec(frozenset, "frozenset", list, lambda *parts: frozenset(parts), _each_member),
    _Codec(
        dict,
        "dict",
        lambda value: list(chain.from_iterable(value.items())),
        lambda *parts: dict(zip(parts[::2], parts[1::2], strict=True)),
        _each_key_and_value,
    ),
)

# Unlike those above, these stand for all their subclasses.
_FAMILIES = (
    _Codec(Enum, "enum", _pack_enum, _unpack_enum),
    _Codec(Model, "model", _pack_model, _unpack_model, _label_pk_and_alias),
)

_BY_TYPE = {codec.kind: codec for codec in _CODECS}
_BY_TAG = {codec.tag: codec for codec in (*_CODECS, *_FAMILIES)}
_CONTAINERS = frozenset({list, dict, tuple, set, frozenset})


def _codec_for(value: object) -> _Codec:
    codec = _BY_TYPE.get(type(value))
    if codec is None:
        codec = next((family for family in _FAMILIES if isinstance(value, family.kind)), None)
    if codec is None:
        raise _unsupported(value)
    return codec
