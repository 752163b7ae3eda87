"""Values of attributes: objects with a plain value are sent by it, and others are named by their class."""

import datetime
import decimal
import enum
import pathlib
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any, NoReturn
from unittest import mock

import msgpack
import pytest

from tests.ztrace.programs import run_program
from tests.ztrace.recording import make_record
from ztrace import diagnostics
from ztrace.publishing import encoding
from ztrace.publishing.encoding import encode
from ztrace.publishing.values import MAX_TEXT, REPLACED, fit_value
from ztrace.records import Span

UTC = datetime.UTC
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


@pytest.fixture(autouse=True)
def _counted(counts: dict[str, int]) -> None:
    """Check that no count is left over from or for another test."""


class Colour(enum.Enum):
    """Enum with values of several types."""

    RED = "red"
    SIZE = (1, 2)
    SINCE = datetime.date(2026, 1, 2)
    OBJECT = object()


class Mode(enum.Flag):
    """Flags, whose values are integers."""

    READ = 1
    WRITE = 2


def refuse(*_: object, **__: object) -> NoReturn:
    """Raise as any method of the program's may."""
    raise SystemExit


def hostile(base: type, *names: str) -> Any:
    """Return a subclass whose methods and properties all raise."""
    methods: dict[str, Any] = dict.fromkeys(
        ("__str__", "__repr__", "__format__", "__eq__", "__hash__", "__bool__", "__getattr__"), refuse
    )
    methods |= {name: property(refuse) for name in (*names, "__class__")}
    return type("Hostile", (base,), methods)


class Zone(datetime.tzinfo):
    """Zone of the program's own, with an offset that must not be asked for."""

    utcoffset = dst = tzname = refuse


class Slow(zoneinfo.ZoneInfo):
    """Zone that derives from one of the standard library."""

    utcoffset = refuse


VALUES: list[tuple[object, object]] = [
    (decimal.Decimal("12.50"), "12.50"),
    (decimal.Decimal("NaN"), "NaN"),
    (hostile(decimal.Decimal, "as_tuple")("1e3"), "1E+3"),
    (datetime.date(2026, 1, 2), "2026-01-02"),
    (datetime.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
    (datetime.datetime(2026, 1, 2, 3, 4, 5, 6, UTC), "2026-01-02T03:04:05.000006+00:00"),
    (datetime.datetime(2026, 7, 2, tzinfo=BERLIN), "2026-07-02T00:00:00+02:00"),
    (datetime.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN), "2026-10-25T02:30:00+01:00"),
    (datetime.datetime(1890, 1, 1, tzinfo=BERLIN), "1890-01-01T00:00:00+00:53:28"),
    (datetime.datetime(2026, 1, 2, tzinfo=Slow("Europe/Berlin")), "2026-01-02T00:00:00+01:00"),
    (datetime.datetime(2026, 1, 2, tzinfo=Zone()), f"2026-01-02T00:00:00 <{__name__}.Zone>"),
    (
        datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=-5, minutes=-30))),
        "2026-01-02T00:00:00-05:30",
    ),
    (hostile(datetime.datetime, "year", "tzinfo")(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
    (datetime.time(1, 2, 3), "01:02:03"),
    (datetime.time(1, 2, tzinfo=UTC), "01:02:00+00:00"),
    (datetime.time(1, 2, tzinfo=BERLIN), "01:02:00"),
    (datetime.timedelta(1, 2, 500_000), "1 day, 0:00:02.500000"),
    (uuid.UUID("12345678-1234-5678-1234-567812345678"), "12345678-1234-5678-1234-567812345678"),
    (hostile(uuid.UUID, "hex")(int=1), "00000000-0000-0000-0000-000000000001"),
    (pathlib.Path("/a/b/../c.txt"), "/a/b/../c.txt"),
    (pathlib.PureWindowsPath("c:/a"), "c:\\a"),
    (hostile(pathlib.PurePosixPath, "parts", "drive", "root")("a", "b"), "a/b"),
    (Colour.RED, "red"),
    (Colour.SIZE, [1, 2]),
    (Colour.SINCE, "2026-01-02"),
    (Mode.READ | Mode.WRITE, 3),
    (1 + 2j, "(1+2j)"),
    ([decimal.Decimal(1), (Colour.RED,)], ["1", ["red"]]),
]


@pytest.mark.parametrize("number", range(len(VALUES)))
def test_objects_with_a_plain_value_are_sent_by_it(number: int) -> None:
    """Decimals, times, UUIDs, paths and members of enums are sent by value, and subclasses as their base."""
    value, expected = VALUES[number]
    assert fit_value(value) == expected
    assert diagnostics.counts == {}


def test_a_long_decimal_is_cut() -> None:
    """The text of a plain value is truncated as every text is."""
    text = fit_value(decimal.Decimal("1" * 10_000))
    assert text == "1" * (MAX_TEXT - 1) + "…"
    diagnostics.counts.clear()


def test_the_value_of_an_enum_may_be_anything() -> None:
    """A member of an enum whose value cannot be sent is replaced by the class of the value."""
    assert fit_value(Colour.OBJECT) == "<object>"
    assert diagnostics.counts == {REPLACED: 1}
    diagnostics.counts.clear()


def test_objects_that_are_half_made_are_replaced() -> None:
    """An object of a known class without the state of its class is replaced by its class."""
    for cls in (uuid.UUID, pathlib.PurePosixPath):
        empty = object.__new__(cls)
        assert fit_value(empty) in (f"<{cls.__name__}>", ".")
    member = object.__new__(Colour)
    assert fit_value(member) == "<Colour>"
    diagnostics.counts.clear()


class Proxy:
    """Object that stands for another: its class lies, and asking it for anything raises."""

    def __init__(self, target: object) -> None:
        object.__setattr__(self, "target", target)

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return type(object.__getattribute__(self, "target"))
        raise SystemExit(name)

    __str__ = __repr__ = __len__ = __iter__ = __int__ = __float__ = __bool__ = refuse
    __eq__ = __hash__ = __index__ = __getitem__ = __bytes__ = refuse


def make_unasked() -> Any:
    """Return a class that cannot be asked for anything."""
    methods = ("__getattribute__", "__hash__", "__eq__", "__instancecheck__", "__subclasscheck__")
    return type("Meta", (type,), dict.fromkeys(methods, refuse))("Unasked", (), {})


LIARS: dict[str, Callable[[], object]] = {
    "mock": lambda: mock.Mock(spec=int),
    "mock of text": lambda: mock.MagicMock(spec=str),
    "mock of list": lambda: mock.MagicMock(spec=list),
    "proxy of text": lambda: Proxy("bob"),
    "proxy of number": lambda: Proxy(7),
    "proxy of bytes": lambda: Proxy(b"bob"),
    "proxy of list": lambda: Proxy([1]),
    "proxy of dictionary": lambda: Proxy({}),
    "proxy of path": lambda: Proxy(pathlib.Path()),
    "class": make_unasked,
    "object of a class": lambda: object.__new__(make_unasked()),
    "slots": lambda: object.__new__(type("Empty", (), {"__slots__": ("a",)})),
}


@pytest.mark.parametrize("kind", LIARS)
@pytest.mark.parametrize("place", ["value", "item", "name", "attributes"])
def test_one_liar_costs_no_other_span(kind: str, place: str) -> None:
    """An object whose class lies is named by its own class, wherever it is, and the batch is sent."""
    liar: Any = LIARS[kind]()
    if place == "name":
        odd = make_record(500, name=liar)
    elif place == "attributes":
        odd = make_record(500, attributes=liar)
    else:
        odd = make_record(500, attributes={"user": [liar] if place == "item" else liar})
    records = [make_record(number, attributes={"i": number}) for number in range(1000)]
    records[500] = odd
    sent = [
        Span(*fields) for _, body in encode(records) for fields in msgpack.unpackb(body, strict_map_key=False)
    ]
    assert [span.span_id for span in sent] == [record.span_id for record in records]
    kept = sent[500]
    name = f"<{type.__dict__['__name__'].__get__(type(liar))}>"
    if place == "name":
        assert kept.name == name
    elif place == "attributes":
        assert kept.attributes == {"ztrace.replaced": name}
    else:
        assert kept.attributes == {"user": name if place == "value" else [name]}
    assert diagnostics.counts == {REPLACED: 1}
    diagnostics.counts.clear()


def test_a_dictionary_that_changes_costs_no_span(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attributes that the program changes after they were found to be plain are looked at again."""
    shared: dict[str, Any] = {"user": "bob"}
    suspects = encoding._suspects

    def change(*arguments: Any) -> Any:
        shared["late"] = {1}
        return suspects(*arguments)

    monkeypatch.setattr(encoding, "_suspects", change)
    records = [make_record(number, attributes=shared) for number in range(10)]
    sent = [Span(*fields) for _, body in encode(records) for fields in msgpack.unpackb(body)]
    assert [span.attributes for span in sent] == [{"user": "bob", "late": "<set>"}] * 10
    assert diagnostics.counts == {REPLACED: 10}
    diagnostics.counts.clear()


_IMPORTS = """
import sys
from ztrace.publishing.values import fit_value
class Path: pass
fit_value(Path()), fit_value(object()), fit_value([{}])
known = {"numpy", "decimal", "uuid", "pathlib", "datetime", "enum", "zoneinfo"}
print(sorted(known & set(sys.modules) - set(sys.argv[1].split(","))))
"""


@pytest.mark.process
def test_no_module_is_imported_for_a_value() -> None:
    """Looking for a plain value imports none of the modules whose values are known."""
    started = run_program("import sys, msgpack, zmq; print(','.join(sys.modules))").stdout.strip()
    assert run_program(_IMPORTS, started).stdout.strip() == "[]"
