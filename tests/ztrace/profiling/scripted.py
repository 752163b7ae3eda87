"""A source of stacks that a test writes, and spans that belong to owners of the test's making."""

from collections import OrderedDict
from collections.abc import Sequence
from types import CodeType
from typing import Any

import ztrace
from ztrace.context import ENDED
from ztrace.profiling.owners import Owner
from ztrace.profiling.sources import View
from ztrace.profiling.stacks import UNKNOWN, Stacks
from ztrace.publishing.unfinished import Watch
from ztrace.spans import Span

#: Thread of owners unless a test says otherwise.
THREAD = 7


def code_named(name: str) -> CodeType:
    """Return a code object of a function of this name."""
    scope: dict[str, Any] = {}
    exec(f"def {name}(): pass", scope)
    code: CodeType = scope[name].__code__
    return code


class Scripted:
    """Source of stacks; see `ztrace.profiling.sources.Source`.

    Attributes:
        views: what each owner does; one that is missing has ended.
        running: the threads that run on after a look.
        looks: how many owners each look asked for.
        children: running code without a span of its own; see `find_children`.
        last: objects to return from the next `let_go`.
        errors: errors to raise from the next looks.
        ending: spans that end while their owners are looked at.
    """

    def __init__(self) -> None:
        self.views: dict[Owner, View] = {}
        self.running: set[int] = set()
        self.looks: list[int] = []
        self.children: list[tuple[object, Owner, View]] = []
        self.last: list[Any] = []
        self.errors: list[Exception] = []
        self.ending: list[Span] = []
        self._codes: dict[str, CodeType] = {}

    def puts(
        self, owner: Owner, standing: int, *stack: str, thread: int = THREAD, behind: bool = False
    ) -> None:
        """Let an owner do something; the stack is names of functions, outermost first."""
        self.views[owner] = (thread, standing, stack, behind)

    def look(self, owners: Sequence[Owner], passed_ns: int) -> Sequence[View | None]:
        """Return the view of each owner."""
        self.looks.append(len(owners))
        if self.errors:
            raise self.errors.pop()
        for span in self.ending:
            span._state = ENDED
        return list(map(self.views.get, owners))

    def find_children(self) -> Sequence[tuple[object, Owner, View]]:
        """Return what the test has put there."""
        return self.children

    def read(self, owner: Owner, view: View, stacks: Stacks) -> int:
        """Return the number of a view's stack."""
        codes = [self._codes.setdefault(name, code_named(name)) for name in reversed(view[2])]
        return stacks.number(codes, [0] * len(codes)) if codes else UNKNOWN

    def has_run(self, thread: int) -> bool:
        """Return whether the test has a thread run on."""
        return thread in self.running

    def let_go(self) -> list[Any]:
        """Return the objects that the test has put there."""
        last, self.last = self.last, []
        return last

    def forget(self) -> None:
        """Do nothing: no number is kept."""


class Register:
    """Open spans, as a publisher has them.

    Attributes:
        open_spans: young spans.
        watched: old spans.
    """

    def __init__(self) -> None:
        self.open_spans: dict[Span, None] = {}
        self.watched: OrderedDict[int, Watch] = OrderedDict()

    def opens(self, owner: Owner | None, start_ns: int = 0, name: str = "work") -> Span:
        """Return a new open span of an owner."""
        span = ztrace.span(name)
        number = len(self.open_spans) + len(self.watched) + 1
        span.trace_id, span.span_id = number.to_bytes(16, "big"), number.to_bytes(8, "big")
        span.start_ns = start_ns
        span._owner = owner
        span._state = None
        span._above = None
        self.open_spans[span] = None
        return span

    def ages(self, span: Span) -> None:
        """Move a span to those that have run for long."""
        del self.open_spans[span]
        self.watched[id(span)] = Watch(span)
