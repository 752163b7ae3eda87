"""Conditions of questions to a store, as plain data that each store writes in its own SQL."""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from ztrace_viewer.queries.selection import EVERYTHING, Selection

#: Ranges of buckets, of `ztrace_viewer.queries.figures.split_range`.
Ranges: TypeAlias = Sequence[tuple[int, int, int, int]]
#: Orders of exception groups.
NEWEST, FREQUENT = "newest", "frequent"

#: From this length on a number may be stored with an exponent.
_MAX_DIGITS = 16
_ASCII = re.compile(r"[ -~]+")


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions on exception groups, beside a selection of time and names.

    Attributes:
        type_name: name of the exception class, with or without its module.
        text: part of the type or the message, in any case.
        resolved: include resolved groups.
    """

    type_name: str | None = None
    text: str | None = None
    resolved: bool = False


#: Filter that leaves out resolved groups only.
UNRESOLVED = Filter()


class TreeKind(NamedTuple):
    """Kind of trees whose figures are kept apart from others.

    Attributes:
        failed: only those of which a span failed.
        version: only those whose root's service had this version; None for all.
        is_own: the version is that of each path's last service instead.
    """

    failed: bool = False
    version: str | None = None
    is_own: bool = False

    @property
    def column(self) -> str:
        """Column of the version."""
        return "own_version" if self.is_own else "version"


#: All trees.
ALL_TREES = TreeKind()


class Wanted(NamedTuple):
    """Conditions on traces of a search.

    Attributes:
        start_ns: earliest start.
        end_ns: latest start.
        service: one of their services, as JSON; None for any.
        min_ns: shortest time from their first start to their last end.
    """

    start_ns: int
    end_ns: int
    service: str | None = None
    min_ns: int = 0


class Tag(NamedTuple):
    """Texts that the JSON of a span's attributes or details, or of its process, contains all of.

    Attributes:
        of_span: texts in one of the span's own columns.
        of_process: texts in the attributes of the process.
        or_failed: accept each span with status error.
    """

    of_span: list[str]
    of_process: list[str]
    or_failed: bool


class Text(NamedTuple):
    """A text in the attributes, in lower case; accepted too are some methods, and status error."""

    written: str
    methods: Collection[int]


@dataclass(frozen=True, slots=True)
class TreeFilter:
    """Conditions of an export, all of which a tree has to meet.

    Attributes:
        trace_ids: the only trees; empty for all.
        selection: time in which the tree began, and service of one of its spans.
        errors: a span has status error.
        slower_ns: the tree took longer.
        limit: the newest trees, at most so many.
        unfinished: include spans without an end, and trees that have no others.
    """

    trace_ids: tuple[bytes, ...] = ()
    selection: Selection = EVERYTHING
    errors: bool = False
    slower_ns: int | None = None
    limit: int | None = None
    unfinished: bool = False


@dataclass(slots=True)
class SpanFilter:
    """Conditions on the rows of spans, all of which have to hold.

    One idea: the row decides as far as it can without being decoded. Whether a span has a tag is decided on
    the span as it is displayed, by the caller; here only rows that cannot have the tag are left out.

    Attributes:
        methods: ids of the methods; None for all.
        min_ns: shortest duration.
        max_ns: longest duration.
        failed: the status error, or any other; None for all.
    """

    methods: Collection[int] | None = None
    min_ns: int | None = None
    max_ns: int | None = None
    failed: bool | None = None
    tags: list[Tag] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)

    def add_tag(self, key: str, resource_key: str, value: str, *, or_failed: bool) -> None:
        """Require that the JSON of a span or of its process contains a key and a value.

        Args:
            key: in the span's attributes or details.
            resource_key: in the attributes of the process.
            value: as text.
            or_failed: accept each span with status error: its exception has such tags.
        """
        written = _find_written(value)
        self.tags.append(Tag([_quote(key), *written], [_quote(resource_key), *written], or_failed))

    def add_text(self, text: str, methods: Collection[int]) -> None:
        """Require a method, a text in the attributes, or an error, whose exception may have the text.

        Args:
            text: letters match in either case; what is not ASCII is left to the caller.
            methods: ids of the methods whose names contain the text.
        """
        # A store folds the case of ASCII alone, so the longest part of the text in ASCII decides.
        written = _quote(max(_ASCII.findall(text.lower()), key=len, default=""))[1:-1]
        self.texts.append(Text(written, methods))


def _quote(text: str) -> str:
    """Return a text as the collector writes it."""
    return json.dumps(text, ensure_ascii=False)


def _find_written(value: str) -> list[str]:
    """Return the JSON text of a value in a list, empty if the value can be written in several ways."""
    is_one_way = len(value) < _MAX_DIGITS or not value.lstrip("-").isdigit()
    return [_quote(value)[1:-1]] if value and value[0] not in "[{" and is_one_way else []
