"""Plain values of objects of the standard library and numpy: decimals, times, UUIDs, paths, enum members.

One idea: an object is identified by the name of a class that it derives from, and read by the methods and
slots of that class. So no module is imported for it, and a subclass of the program's runs none of its code.
The form of each is documented in docs/reference/api.md.
"""

from collections.abc import Callable
from typing import Any

from ztrace.exceptions.locals import bases_of, name_class

#: Result for an object of which no plain value is known.
UNKNOWN = object()


def plain_value(value: object) -> object:
    """Return the plain value of an object, UNKNOWN if there is none; an enum's value may be any object."""
    for base in bases_of(type(value)):
        read = _READERS.get(name_class(base))
        if read is not None:
            return read(value, base)
    return UNKNOWN


def _write(value: object, base: Any) -> str:
    text: str = base.__str__(value)
    return text


def _write_date(value: object, base: Any) -> str:
    text: str = base.isoformat(value)
    return text


def _write_datetime(value: object, base: Any) -> str:
    # The method of the original calls its zone, which may be the program's.
    moment = _copy(value, base, ("year", "month", "day", "hour", "minute", "second", "microsecond"))
    return f"{moment.isoformat()}{_write_zone(base.tzinfo.__get__(value), moment)}"


def _write_time(value: object, base: Any) -> str:
    time = _copy(value, base, ("hour", "minute", "second", "microsecond"))
    return f"{time.isoformat()}{_write_zone(base.tzinfo.__get__(value), None)}"


def _copy(value: object, base: Any, names: tuple[str, ...]) -> Any:
    """Return an object of the base class with the fields of another, and without its zone."""
    return base(*(getattr(base, name).__get__(value) for name in names), fold=base.fold.__get__(value))


def _write_zone(zone: object, moment: object) -> str:
    """Return the offset of a zone in ISO 8601, or the name of its class if that is the program's."""
    if zone is None:
        return ""
    for base in bases_of(type(zone)):
        if name_class(base) in _ZONES:
            return _write_offset(base.utcoffset(zone, moment))
    return f" <{name_class(type(zone))}>"


def _write_offset(offset: Any) -> str:
    if offset is None:
        return ""
    seconds = 86400 * offset.days + offset.seconds
    minutes, rest = divmod(abs(seconds), 60)
    text = f"{'-' if seconds < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"
    return f"{text}:{rest:02}" if rest else text


def _write_uuid(value: object, base: Any) -> str:
    digits = f"{base.int.__get__(value):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _write_path(value: object, base: Any) -> str:
    """Return the text of a path, through a copy of a class of the standard library."""
    own = [cls for cls in bases_of(type(value)) if name_class(cls).startswith("pathlib.")]
    copy = object.__new__(own[0])
    for cls in own:
        for name in cls.__dict__.get("__slots__", ()):
            slot = cls.__dict__[name]
            try:
                slot.__set__(copy, slot.__get__(value))
            except AttributeError:  # Filled on demand.
                continue
    return str(copy)


def _read_enum(value: object, base: Any) -> object:
    return object.__getattribute__(value, "__dict__")["_value_"]


def _read_numpy(value: object, base: Any) -> object:
    item = base.item(value)
    return UNKNOWN if type(item) is type(value) else item


def _read_float(value: object, base: Any) -> object:
    return base.__float__(value)


#: Classes of zones whose offset is computed without the program's code.
_ZONES = ("datetime.timezone", "zoneinfo.ZoneInfo")

_READERS: dict[str, Callable[[object, Any], object]] = {
    "complex": _write,
    "datetime.date": _write_date,
    "datetime.datetime": _write_datetime,
    "datetime.time": _write_time,
    "datetime.timedelta": _write,
    "decimal.Decimal": _write,
    "enum.Enum": _read_enum,
    "numpy.datetime64": _write,
    "numpy.generic": _read_numpy,
    "numpy.longdouble": _read_float,
    "numpy.timedelta64": _write,
    "pathlib.PurePath": _write_path,
    "pathlib._local.PurePath": _write_path,
    "uuid.UUID": _write_uuid,
}
