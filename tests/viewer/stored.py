"""Databases for the viewer's tests, written by the real collector from publishers' messages."""

import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import msgpack

from ztrace import records, wire
from ztrace_collector.storing.store import Store

MS = 1_000_000
SECOND = 1_000 * MS
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
#: Time at which the tests' services ran: 2026-01-31 12:00:00 UTC.
NOON = 1_769_860_800 * SECOND


def trace_id(number: int, at_ns: int = NOON) -> bytes:
    """Return a trace id as the agent makes one: six bytes of time, ten distinct ones."""
    return (at_ns // MS).to_bytes(6, "big") + number.to_bytes(10, "big")


def span_id(number: int) -> bytes:
    """Return a span id."""
    return number.to_bytes(8, "big")


def span(
    trace: bytes,
    number: int,
    parent: int | None = None,
    *,
    name: str = "work",
    kind: str = "server",
    start_ms: float = 0,
    duration_ms: float | None = 1,
    self_ms: float | None = None,
    at_ns: int = NOON,
    status: int | None = None,
    attributes: dict[str, Any] | None = None,
    exception: records.ExceptionRecord | None = None,
) -> records.Span:
    """Return a span that started ``start_ms`` after ``at_ns``."""
    if status is None:
        status = records.UNFINISHED if duration_ms is None else records.ERROR if exception else records.OK
    duration_ns = None if duration_ms is None else int(duration_ms * MS)
    own_ns = duration_ns if self_ms is None else int(self_ms * MS)
    return records.Span(
        trace_id=trace,
        span_id=span_id(number),
        parent_id=None if parent is None else span_id(parent),
        kind=records.KIND_NUMBERS[kind],
        name=name,
        start_ns=at_ns + int(start_ms * MS),
        duration_ns=duration_ns,
        self_ns=own_ns,
        cpu_ns=None,
        status=status,
        attributes=attributes,
        links=None,
        exception=None if exception is None else list(exception),
    )


def raised(
    type_name: str,
    message: str,
    *,
    frames: Sequence[Sequence[Any]] = (("/srv/shop/db.py", 42, "query", "shop.db", "return a / b", True),),
    causes: Iterable[records.ExceptionRecord] = (),
) -> records.ExceptionRecord:
    """Return an exception at its origin."""
    return records.ExceptionRecord(
        type_name,
        message,
        [records.FrameRecord(*frame) for frame in frames],
        [list(cause) for cause in causes],
        records.RAISED,
        None,
        None,
    )


def travelled(
    type_name: str,
    message: str,
    how: str,
    origin: tuple[bytes, int],
    frames: Sequence[Sequence[Any]] = (),
) -> records.ExceptionRecord:
    """Return an exception whose origin is another span."""
    return records.ExceptionRecord(
        type_name,
        message,
        [records.FrameRecord(*frame) for frame in frames],
        [],
        how,
        origin[0],
        span_id(origin[1]),
    )


def header(service: str, spans: Sequence[records.Span], number: int = 1, **changes: Any) -> wire.Header:
    """Return the header of a publisher's first batch."""
    fields: dict[str, Any] = {
        "kind": wire.DATA,
        "incarnation": number.to_bytes(16, "big"),
        "sequence": 0,
        "floor": 0,
        "covered": 1,
        "span_count": len(spans),
        "created": len(spans),
        "dropped": 0,
        "retired": 0,
        "mended": {},
        "service": service,
        "host": "box",
        "pid": 1000 + number,
        "started_ns": NOON,
    }
    return wire.Header(**{**fields, **changes})


def message(service: str, spans: Sequence[records.Span], number: int = 1, **changes: Any) -> list[bytes]:
    """Return the frames of a message."""
    return [
        wire.TOPIC,
        wire.pack_header(header(service, spans, number, **changes)),
        msgpack.packb(list(spans)),
    ]


def open_message(service: str, spans: Sequence[records.Span], number: int = 1, **changes: Any) -> list[bytes]:
    """Return the frames of a message with unfinished spans, which count in no account."""
    told = {"kind": wire.OPEN, "covered": 0, "created": 0, **changes}
    return message(service, spans, number, **told)


class Sampled:
    """Samples of one process, as the profiles of its publisher."""

    def __init__(self, service: str, *, at_ns: int = NOON) -> None:
        self._service, self._at_ns = service, at_ns
        self._texts: dict[str, int] = {}
        self._frames: dict[tuple[int, int, int], int] = {}
        self._stacks: dict[tuple[int, int], int] = {}
        self._codes: dict[str, int] = {}
        self._methods: dict[tuple[int, int], int] = {}
        self._sums: list[int] = []
        self._spans: list[list[Any]] = []

    def add(self, name: str, code: str, state: int, ms: int, *, kind: str = "server") -> None:
        """Add time of a method in code like ``main:3 load:7``, outermost first, all of ``shop.py``."""
        method = self._method(name, kind)
        self._sums += (method, self._stack(code), state, 1_000 * ms)

    def add_span(
        self, trace: bytes, number: int, *runs: tuple[str, int, int, int], name: str = "work"
    ) -> None:
        """Add a span with its runs: code, state, ms, and the span that ran meanwhile, counted from 1."""
        flat = [
            each for code, state, ms, other in runs for each in (self._stack(code), state, 1_000 * ms, other)
        ]
        self._spans.append([trace, span_id(number), self._method(name, "server"), flat])

    def message(self, number: int = 1, sequence: int = 0) -> list[bytes]:
        """Return the message of a publisher, which is its first one unless it has another sequence number."""
        profile = records.Profile(
            first=0,
            samples=max(1, len(self._sums) // 4),
            start_ns=self._at_ns,
            end_ns=self._at_ns,
            answers=[],
            texts=list(self._texts),
            frames=[each for frame in self._frames for each in frame],
            stacks=[each for stack in self._stacks for each in stack],
            methods=[each for method in self._methods for each in method],
            sums=self._sums,
            spans=self._spans,
        )
        told = {"kind": wire.PROFILE, "created": 0, "sampled": profile.samples, "sequence": sequence}
        head = header(self._service, [], number, **told)
        return [wire.TOPIC, wire.pack_header(head), msgpack.packb(profile)]

    def _text(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))

    def _method(self, name: str, kind: str) -> int:
        key = records.KIND_NUMBERS[kind], self._text(name)
        return self._methods.setdefault(key, len(self._methods))

    def _stack(self, code: str) -> int:
        if code in self._codes:
            return self._codes[code]
        stack = 0
        for line in code.split():
            function, _, number = line.rpartition(":")
            key = self._text("/srv/shop/shop.py"), self._text(function), int(number)
            frame = self._frames.setdefault(key, len(self._frames))
            stack = self._stacks.setdefault((stack, frame), len(self._stacks) + 1)
        self._codes[code] = stack
        return stack


#: Each call of `store` uses new publishers, with none of the small numbers that tests give themselves.
_publishers = count(1_000)


def store(path: Path, spans: Mapping[str, Sequence[records.Span]], *, at_ns: int | None = None) -> Path:
    """Store spans by service, each from a new publisher, which reports unfinished ones as open."""
    messages = []
    for service, batch in spans.items():
        number = next(_publishers)
        ended = [span for span in batch if span.status != records.UNFINISHED]
        messages.append(message(service, ended, number))
        if len(ended) < len(batch):
            running = [span for span in batch if span.status == records.UNFINISHED]
            messages.append(open_message(service, running, number, sequence=1, created=len(ended)))
    with Store(path, clock_ns=time.time_ns if at_ns is None else lambda: at_ns) as opened:
        opened.store(messages)
    return path


#: Frames of the shop's exception at its origin, and of the exception that wrapped it.
QUERY_FRAMES = (
    (
        "/usr/lib/python3/dist-packages/zerorpc/core.py",
        180,
        "_async_task",
        "zerorpc.core",
        "functor(*args)",
        False,
    ),
    ("/srv/shop/stock.py", 31, "Stock.reserve", "stock", "return self._ratio(wanted, left)", True),
    ("/srv/shop/stock.py", 12, "Stock._ratio", "stock", "return wanted / left", True),
)
CHARGE_FRAMES = (
    (
        "/srv/shop/billing.py",
        77,
        "Billing.charge",
        "billing",
        'raise PaymentError("no stock") from error',
        True,
    ),
)
#: Calling lines that the exception passed.
RESERVE_CALL = ("/srv/shop/billing.py", 71, "Billing.charge", "billing", "self.stock.reserve(article)", True)
CHARGE_CALL = ("/srv/shop/shop.py", 40, "Shop.checkout", "shop", "self.billing.charge(card)", True)


def checkout(trace: bytes, at_ns: int = NOON, scale: float = 1.0) -> dict[str, list[records.Span]]:
    """Return a shop's call tree over five services, with an exception wrapped on its path."""

    def call(
        number: int, parent: int | None, kind: str, name: str, start: float, end: float, **more: Any
    ) -> records.Span:
        timing: dict[str, Any] = {"start_ms": start * scale, "duration_ms": (end - start) * scale}
        return span(trace, number, parent, kind=kind, name=name, at_ns=at_ns, **timing, **more)

    origin = (trace, 9)
    missing = raised("ZeroDivisionError", "division by zero", frames=QUERY_FRAMES)
    up = travelled("ZeroDivisionError", "division by zero", records.PASSED, origin, [RESERVE_CALL])
    wrapped = travelled("billing.PaymentError", "no stock", records.WRAPPED, origin, CHARGE_FRAMES)
    wrapped_up = travelled("billing.PaymentError", "no stock", records.PASSED, origin, [CHARGE_CALL])
    return {
        "shop": [
            call(1, None, "server", "checkout", 0, 1240, self_ms=22 * scale),
            call(2, 1, "client", "load", 2, 310),
            call(4, 1, "client", "price", 320, 1100),
            call(6, 1, "client", "charge", 1105, 1235, exception=wrapped_up),
        ],
        "cart": [call(3, 2, "server", "load", 4, 306, attributes={"user": "ada"})],
        "pricing": [call(5, 4, "server", "price", 323, 1096)],
        "billing": [
            call(7, 6, "server", "charge", 1107, 1230, exception=wrapped, self_ms=13 * scale),
            call(8, 7, "client", "reserve", 1110, 1220, exception=up),
        ],
        "stock": [call(9, 8, "server", "reserve", 1112, 1218, exception=missing)],
    }
