"""Spans that have not ended yet, published so that people see what hangs.

One idea: a span registers itself while it runs, in a dictionary ordered by start, at a cost of some fifty
nanoseconds. The register holds only young spans: the background thread moves each span that has run for long,
once, from there to a weak reference. So a span that the program drops without ending it is noticed the moment
it is gone, even in a cycle of references, and no number of open spans has to be searched for it.
"""

import sys
from collections import OrderedDict, deque
from itertools import islice
from typing import Any
from weakref import ref

from ztrace import diagnostics
from ztrace.context import LocalContext, link_ids
from ztrace.native import perf_counter_ns
from ztrace.records import ABANDONED, UNFINISHED, Record
from ztrace.records import Span as Fields
from ztrace.spans import Span

#: Age from which a span is published and no longer kept by the register; most never reach it.
AGE_NS = 1_000_000_000
#: Longest pause before it is published again; until then its age doubles each time.
REPEAT_NS = 60_000_000_000
#: Spans in the register above which the oldest are moved at any age: some 10 MB.
CROWD = 20_000
#: Spans looked at and moved in one turn: a move allocates three objects, see `ztrace.process.collection`.
MAX_LOOKED, MAX_MOVED = 20_000, 2_000
#: Old spans examined at once, in turn: examining more would burden the program.
MAX_WATCHED = 10_000
#: Spans published at once.
MAX_PUBLISHED = 1_000
#: Abandoned spans kept to be published; further ones are counted only.
MAX_ABANDONED = 10_000

#: Reason under which abandoned spans are counted.
DROPPED_OPEN = "span_abandoned"

#: Position of the attributes in a record.
_ATTRIBUTES = Fields._fields.index("attributes")

_PLAIN = frozenset((str, int, float, bool, type(None), bytes))


def _count_own_references() -> int:
    """Return how many references `Unfinished.look` itself holds to a span that it examines."""
    register = {object(): None}
    spans = list(register)
    count = 0
    while spans:
        span = spans.pop()
        count = sys.getrefcount(span)
    return count


#: Counted, because it depends on the version of Python.
_OWN_REFERENCES = _count_own_references()


class Watch(ref[Span]):
    """Weak reference to a span that has run for long.

    Attributes:
        key: ``id`` of the span.
        record: fields of the span for its publication once it is gone.
        due_ns: time of its next publication, by the monotonic clock.
    """

    __slots__ = ("due_ns", "key", "record")

    key: int
    record: Record
    due_ns: int


class Unfinished:
    """Open spans of a publisher, watched for the moment in which the program drops one."""

    def __init__(self, register: dict[Span, None], watched: "OrderedDict[int, Watch]") -> None:
        """Watch the spans of a register.

        Args:
            register: young spans, oldest first.
            watched: the others by ``id``; a span that ends removes itself.
        """
        self._register = register
        self._watched = watched
        #: Records of abandoned spans to be published, the oldest first.
        self._abandoned: deque[Record] = deque()
        #: Watches of spans that are gone: C code appends them, in whatever thread drops the span.
        self._gone: deque[Watch] = deque()

    @property
    def is_crowded(self) -> bool:
        """Whether the register has so many spans that they are moved at any age."""
        return len(self._register) > CROWD

    def look(self, objects: list[Any]) -> bool:
        """Move spans that have run for long out of the register, and count those that are gone.

        Args:
            objects: list to which spans are added whose release may run code of the program's.

        Returns:
            True if there are more to move at once.
        """
        self._count_gone()
        now_ns, crowded, room = perf_counter_ns(), self.is_crowded, MAX_MOVED
        spans = self._oldest(MAX_LOOKED)[::-1]
        while spans and room:
            span = spans.pop()
            if span.ended:  # It starts or ends just now.
                continue
            if not crowded and now_ns - span.start_ns < AGE_NS:
                return False
            inert = _is_inert(span)
            if inert and sys.getrefcount(span) <= _OWN_REFERENCES:
                self._note_abandoned(_make_record(span, span.attributes) if self._has_room else None)
                self._register.pop(span, None)
                continue
            if not inert:
                objects.append(span)
            self._watch(span, max(now_ns, span.start_ns + AGE_NS))
            room -= 1
        return crowded or not room

    def take_due(self, objects: list[Any]) -> list[Record]:
        """Return the records of spans that are due, and schedule their next publication.

        Args:
            objects: list to which spans are added whose release may run code of the program's.
        """
        now_ns = perf_counter_ns()
        due: list[Record] = []
        for _ in range(min(len(self._watched), MAX_WATCHED)):
            if len(due) == MAX_PUBLISHED:
                break
            try:
                key = next(iter(self._watched))
                watch = self._watched[key]
                self._watched.move_to_end(key)
            except (KeyError, StopIteration, RuntimeError):  # A span has ended meanwhile.
                continue
            if now_ns < watch.due_ns:
                continue
            span = watch()
            if span is not None and (record := _make_record(span, span.attributes)) is not None:
                due.append(record)
                watch.due_ns = now_ns + min(now_ns - span.start_ns, REPEAT_NS)
                if not _is_inert(span):
                    objects.append(span)
        return due

    def list_abandoned(self, objects: list[Any]) -> list[Record]:
        """Return the records of abandoned spans, as many as are published at once."""
        return list(islice(self._abandoned, MAX_PUBLISHED))

    def forget_abandoned(self) -> None:
        """Discard the records of the last list, which are published."""
        for _ in range(min(len(self._abandoned), MAX_PUBLISHED)):
            self._abandoned.popleft()

    def take_all(self, objects: list[Any]) -> list[Record]:
        """Return the records of all spans, as the program exits.

        Args:
            objects: list to which spans are added whose release may run code of the program's.
        """
        self.look(objects)
        spans = [span for watch in list(self._watched.values())[:MAX_PUBLISHED] if (span := watch())]
        spans += self._oldest(MAX_PUBLISHED - len(spans))
        objects += spans
        open_spans = [record for span in spans if (record := _make_record(span, span.attributes)) is not None]
        return self.list_abandoned(objects) + open_spans

    def _oldest(self, count: int) -> list[Span]:
        """Return the spans of the register that started first."""
        try:
            return list(islice(self._register, count))
        except RuntimeError:  # A span started or ended meanwhile; the next look is soon.
            return []

    def _watch(self, span: Span, due_ns: int) -> None:
        """Move a span from the register to a watch, which keeps none of the program's objects alive."""
        record = _make_record(span, _copy_plain(span.attributes))
        if record is None:
            return
        watch = Watch(span, self._gone.append)
        watch.key, watch.record, watch.due_ns = id(span), record, due_ns
        if watch.key in self._watched:  # Of a span that is gone just now, and had this place in memory.
            self._count_gone()
        self._watched[watch.key] = watch
        self._register.pop(span, None)
        if span.ended:  # Meanwhile, and without the watch.
            self._watched.pop(watch.key, None)

    def _count_gone(self) -> None:
        """Count the watched spans that are gone and have not ended."""
        while self._gone:
            watch = self._gone.popleft()
            if self._watched.get(watch.key) is watch:
                del self._watched[watch.key]
                self._note_abandoned(watch.record)

    @property
    def _has_room(self) -> bool:
        return len(self._abandoned) < MAX_ABANDONED

    def _note_abandoned(self, record: Record | None) -> None:
        diagnostics.count(DROPPED_OPEN)
        if record is not None and self._has_room:
            fields = list(record)
            fields[_ATTRIBUTES] = {**(record[_ATTRIBUTES] or {}), ABANDONED: True}
            self._abandoned.append(tuple(fields))


def _make_record(span: Span, attributes: dict[str, Any]) -> Record | None:
    """Return the record of a span so far, or None if the span has ended meanwhile."""
    links, target = span.links, span._publisher
    record = (
        span.trace_id,
        span.span_id,
        span.parent_id,
        span.kind,
        span.name,
        span.start_ns + target.offset_ns,
        None,
        None,
        None,
        UNFINISHED,
        dict.copy(attributes) or None,
        None if links is None else link_ids(links),
        None,
        None,
    )
    # Checked last: a span clears its fields only after it is marked as ended.
    return None if span.ended else record


def _copy_plain(attributes: object) -> dict[str, Any]:
    """Return the attributes that hold no object of the program's."""
    if type(attributes) is not dict:
        return {}
    return {key: value for key, value in dict.copy(attributes).items() if type(value) in _PLAIN}


def _is_inert(span: Span) -> bool:
    """Return whether the release of a span runs no code of the program's, such as a finalizer."""
    above = span._above
    if type(span.name) is not str or getattr(span, "_apart", None) is not None:
        return False
    if isinstance(above, LocalContext) and above.ended:
        return False  # The span may have the last reference to its parent.
    return all(
        type(attributes) is dict and set(map(type, dict.copy(attributes).values())) <= _PLAIN
        for attributes in (span.attributes, span._given)
    )
