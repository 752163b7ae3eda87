"""Memory of the exceptions that spans have seen, kept beside the exceptions.

One idea: an entry is found by the exception's address, and the form of the exception's ``__dict__`` proves
that the address still belongs to the same exception. Builtin exceptions take no weak reference, and a key in
``__dict__`` would be serialized, compared and sent to peers with the rest. But a dictionary that has ever
held a key other than a str keeps a larger table after the key is gone, until the dictionary is cleared or
freed: a new exception at the same address has a new dictionary.

Source: CPython's Objects/dictobject.c: a table of str keys is turned into a general one, and never back.
"""

from itertools import repeat
from operator import is_
from typing import Any, NamedTuple

from ztrace.exceptions.tracebacks import Heads, is_known_below, traceback_of

#: Entries used after an entry before it is dropped: more than there are exceptions under way, and at most
#: 5 MB without the messages. Entries of freed exceptions count, because nothing shows when one is freed.
MAX_ENTRIES = 2048

#: Key that is put into an exception's dictionary and removed at once; no program uses it.
_KEY = object()
_size_of = dict.__sizeof__
#: Sizes of dictionaries with a general table, up to 170 attributes; none is that of a table of str keys.
_GENERAL = frozenset(_size_of(dict.fromkeys(range((1 << bits) * 2 // 3))) for bits in range(3, 9))

dictionary_of = BaseException.__dict__["__dict__"].__get__


class Mark(NamedTuple):
    """Origin of an exception, and its way since.

    Attributes:
        trace_id: of the origin.
        span_id: of the origin.
        via: ids of the spans it is known to come up through: those around its origin and around each span it
            passed, in this process.
        heads: steps at which its traceback began when it left a span.
    """

    trace_id: bytes
    span_id: bytes
    via: set[bytes]
    heads: Heads


class Entry:
    """Memory of one exception.

    Attributes:
        mark: None for an exception that has left no span.
        message: text of the exception, once made.
        asked: whether ``__str__`` is running.
        described: message to record instead of the text.
        named: name to record instead of the class's.
        remote: type and message of the remote exception that the exception stands for.
    """

    __slots__ = ("asked", "described", "mark", "message", "named", "remote")

    def __init__(self) -> None:
        self.mark: Mark | None = None
        self.message: str | None = None
        self.asked = False
        self.described: str | None = None
        self.named: str | None = None
        self.remote: tuple[str, str] | None = None

    def put_mark(self, mark: Mark) -> None:
        """Replace the mark; the text of an exception that is raised again is made again."""
        if self.mark is not None and not self.asked:
            self.message = None
        self.mark = mark


#: Entries by address: those used since the last change of generations, and older ones.
recent: dict[int, Entry] = {}
_older: dict[int, Entry] = {}


def recall(exception: BaseException) -> Entry | None:
    """Return the entry of an exception, None if there is none."""
    address = id(exception)
    entry = recent.get(address)
    if entry is None:
        entry = _older.get(address)
        if entry is None:
            return None
    if not _is_stamped(dictionary_of(exception)):
        # Another exception's dictionary, unless the program has replaced or cleared this one's.
        if entry.mark is None or not is_known_below(traceback_of(exception), entry.mark.heads):
            return None
        _stamp(exception)
    recent[address] = entry
    return entry


def remember(exception: BaseException) -> Entry:
    """Return the entry of an exception, a new one if there is none."""
    global recent, _older
    address = id(exception)
    if address in recent or address in _older:
        entry = recall(exception)
        if entry is not None:
            return entry
    if len(recent) >= MAX_ENTRIES:
        recent, _older = {}, recent
    _stamp(exception)
    recent[address] = entry = Entry()
    return entry


def _is_stamped(attributes: dict[Any, Any]) -> bool:
    """Return whether a dictionary has a general table, and only keys for which it needs none."""
    return _size_of(attributes) in _GENERAL and all(map(is_, map(type, dict.keys(attributes)), repeat(str)))


def _stamp(exception: BaseException) -> None:
    """Give an exception's dictionary a general table, without changing its content."""
    attributes = dictionary_of(exception)
    if type(attributes) is dict:
        # No other thread runs, and no signal is handled, between two statements without a call.
        attributes[_KEY] = None
        del attributes[_KEY]
