"""Memory of the exceptions that spans have seen, kept beside the exceptions.

One idea: an entry is found by the exception's address, and the form of the exception's ``__dict__`` proves
that the address still belongs to the same exception. Builtin exceptions take no weak reference, and a key in
``__dict__`` would be serialized, compared and sent to peers with the rest. But a dictionary that has ever
held a key other than a str keeps a larger table after the key is gone, until the dictionary is cleared or
freed: a new exception at the same address has a new dictionary.

Source: CPython's Objects/dictobject.c: a table of str keys is turned into a general one, and never back.
"""

from typing import NamedTuple

from ztrace.exceptions.tracebacks import Heads, is_known_below, traceback_of

#: Exceptions seen after the last use of an entry before it is dropped: more than are under way at a time, in
#: 5 MB at most, without their messages. Freed ones count, since nothing tells when one is freed.
MAX_ENTRIES = 2048

#: Key put into an exception's dictionary and taken out at once: no program has the same.
_KEY = object()
_size_of = dict.__sizeof__
#: Sizes of dictionaries with a general table, for up to 170 attributes; one of str keys has none of these.
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
    """What is remembered of one exception.

    Attributes:
        mark: None for an exception that has left no span.
        message: its text, once it was asked for.
        asked: its text is being made.
        described: message to record in place of the text.
        remote: type and message of the exception of another process that it stands for.
    """

    __slots__ = ("asked", "described", "mark", "message", "remote")

    def __init__(self) -> None:
        self.mark: Mark | None = None
        self.message: str | None = None
        self.asked = False
        self.described: str | None = None
        self.remote: tuple[str, str] | None = None

    def put_mark(self, mark: Mark) -> None:
        """Replace the mark; an exception that has had one is raised anew, and its text is made again."""
        if self.mark is not None and not self.asked:
            self.message = None
        self.mark = mark


#: Entries by address: those used since the last change of generations, and those used before.
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
    if _size_of(dictionary_of(exception)) not in _GENERAL:
        # Its dictionary is new, but may have replaced or lost the one of before.
        if entry.mark is None or not is_known_below(traceback_of(exception), entry.mark.heads):
            return None
        _stamp(exception)
    recent[address] = entry
    return entry


def remember(exception: BaseException) -> Entry:
    """Return the entry of an exception, a new one if there is none."""
    global recent, _older
    entry = recall(exception)
    if entry is None:
        if len(recent) >= MAX_ENTRIES:
            recent, _older = {}, recent
        _stamp(exception)
        entry = recent[id(exception)] = Entry()
    return entry


def _stamp(exception: BaseException) -> None:
    """Give an exception's dictionary a general table, and leave its content as it is."""
    attributes = dictionary_of(exception)
    if type(attributes) is dict:
        # Between two statements without a call no other thread runs, and no signal is handled.
        attributes[_KEY] = None
        del attributes[_KEY]
