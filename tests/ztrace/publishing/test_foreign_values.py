"""Values of other people's packages: numpy's scalars, and proxies and lazy objects of several libraries."""

import datetime
from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn

import msgpack
import pytest

from tests.ztrace.recording import make_record
from ztrace import diagnostics
from ztrace.publishing.encoding import encode
from ztrace.publishing.values import REPLACED, fit_value
from ztrace.records import Span

pytestmark = pytest.mark.trouble


@pytest.fixture(autouse=True)
def _counted(counts: dict[str, int]) -> None:
    """Check that no count is left over from or for another test."""


def refuse(*_: object) -> NoReturn:
    """Raise as a method of the program's may."""
    raise SystemExit


def test_scalars_of_numpy_are_sent_by_value() -> None:
    """Each kind of scalar becomes a value of Python, and a subclass is read as its base."""
    np = import_module("numpy")
    metres = type(
        "Metres", (np.float64,), dict.fromkeys(("item", "__float__", "__str__", "__repr__"), refuse)
    )
    expected: list[tuple[Any, object]] = [
        *((kind(5), 5) for kind in (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint64, np.longlong)),
        *((kind(0.5), 0.5) for kind in (np.float16, np.float32, np.float64, np.longdouble, metres)),
        *((kind(1 + 2j), "(1+2j)") for kind in (np.complex64, np.complex128)),
        (np.bool_(True), True),
        (np.str_("pen"), "pen"),
        (np.bytes_(b"pen"), b"pen"),
        (np.void(b"ab"), b"ab"),
        (np.array([(1, "a")], dtype="i4,U1")[0], [1, "a"]),
        (np.datetime64("2026-01-02T03:04"), "2026-01-02T03:04"),
        (np.datetime64("2026-01-02T03:04:05.000000006"), "2026-01-02T03:04:05.000000006"),
        (np.datetime64("NaT", "s"), "NaT"),
        (np.timedelta64(5, "s"), "5 seconds"),
        ([np.int64(1), (np.float32(0.5),)], [1, [0.5]]),
    ]
    for value, plain in expected:
        sent = fit_value(value)
        assert (type(sent), sent) == (type(plain), plain)
    assert diagnostics.counts == {}


def test_other_objects_of_numpy_are_replaced() -> None:
    """Arrays, and scalars for which Python has no value, are replaced by their type."""
    np = import_module("numpy")
    assert fit_value(np.array([1, 2])) == "<ndarray>"
    assert fit_value(np.clongdouble(1)) in ("<clongdouble>", "<complex256>")
    assert diagnostics.counts == {REPLACED: 2}
    diagnostics.counts.clear()


def of_werkzeug(value: object) -> object:
    """Return a local proxy."""
    proxy: object = import_module("werkzeug.local").LocalProxy(lambda: value)
    return proxy


def of_werkzeug_unbound(value: object) -> object:
    """Return a local proxy that stands for nothing."""
    proxy: object = import_module("werkzeug.local").LocalStack()()
    return proxy


def of_wrapt(value: object) -> object:
    """Return an object proxy."""
    proxy: object = import_module("wrapt").ObjectProxy(value)
    return proxy


def of_django(value: object) -> object:
    """Return a lazy object."""
    lazy: object = import_module("django.utils.functional").SimpleLazyObject(lambda: value)
    return lazy


def of_django_text(value: object) -> object:
    """Return a lazy text, as translations are."""
    text: object = import_module("django.utils.functional").lazystr(str(value))
    return text


@pytest.mark.parametrize("value", ["bob", 5, [1], {}, b"a", datetime.date(2026, 1, 2)], ids=repr)
@pytest.mark.parametrize("make", [of_werkzeug, of_werkzeug_unbound, of_wrapt, of_django, of_django_text])
def test_a_proxy_costs_only_itself(make: Callable[[object], object], value: object) -> None:
    """A proxy among the attributes is named by its own class, and a thousand spans are sent."""
    proxy = make(value)
    records = [make_record(number, attributes={"i": number}) for number in range(1000)]
    records[500] = make_record(500, attributes={"user": proxy})
    sent = [Span(*fields) for _, body in encode(records) for fields in msgpack.unpackb(body)]
    assert [span.span_id for span in sent] == [record.span_id for record in records]
    assert sent[500].attributes == {"user": f"<{type(proxy).__name__}>"}
    assert diagnostics.counts == {REPLACED: 1}
    diagnostics.counts.clear()
