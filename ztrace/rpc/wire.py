"""Events of zerorpc's wire, version 3, as bytes: ``[header, name, args]`` in msgpack.

Headers have keys of zerorpc (``message_id``, ``response_to``, ``v``), the W3C trace context, and ztrace's
own `OWN`, a map that zerorpc ignores:

    v        version of ztrace's additions
    ms       milliseconds that remain until the caller's deadline
    credit   items that a stream may send before the first grant; the first item's header confirms it
    meta     metadata of the call, text by text
    error    details of an exception, beside the three texts of zerorpc's ERR
    tc, ts   trace context of the caller: ids and flags in 25 bytes, and the W3C state
    ns       duration of the served call, while it is traced

Source: https://github.com/0rpc/zerorpc-python/blob/master/doc/protocol.md, corrected by the behaviour of
zerorpc 0.6.3.
"""

from collections.abc import Callable
from functools import partial
from itertools import count
from os import urandom
from typing import Any, Final

import msgpack

from ztrace.rpc.errors import ProtocolError

#: Version of zerorpc's protocol.
PROTOCOL: Final = 3
#: Version of ztrace's additions.
VERSION: Final = 1
#: Key of ztrace's additions in a header.
OWN: Final = "zt"

#: Key of the duration and origin in the reply of a traced server of zerorpc, as its middleware writes it.
REPLY: Final = "ztrace"

OK: Final = "OK"
ERR: Final = "ERR"
STREAM: Final = "STREAM"
STREAM_DONE: Final = "STREAM_DONE"
HEARTBEAT: Final = "_zpc_hb"
MORE: Final = "_zpc_more"
#: Several items of a stream in one event, for clients of ztrace.
ITEMS: Final = "_zt_items"
#: Event that ends a call early; both old servers ignore one a channel.
CANCEL: Final = "_zt_cancel"
#: Method that takes ``[name, args, kwargs]``; an old server refuses it with NameError.
CALL: Final = "_zt_call"

#: Largest message that a socket accepts, in bytes.
MAX_MESSAGE: Final = 64 << 20

#: Integers beyond 64 bits do not fit msgpack.
_INTEGERS: Final = (-(1 << 63), (1 << 64) - 1)
#: Containers within containers that are searched for a value that cannot be sent.
_MAX_DEPTH: Final = 400

#: ``unpack(data)`` returns an event. Timestamps become aware datetimes: their hashes cannot be chosen.
unpack: Callable[[bytes], Any] = partial(msgpack.unpackb, raw=False, strict_map_key=False, timestamp=3)


def make_packer() -> Callable[[object], bytes]:
    """Return a function that packs one event; two threads must not call it at once."""
    pack: Callable[[object], bytes] = msgpack.Packer(use_bin_type=True, datetime=True).pack
    return pack


def make_ids() -> Callable[[], bytes]:
    """Return a function that returns a new message id, unique among all processes."""
    prefix = urandom(8).hex().encode()
    return map((prefix + b"%016x").__mod__, count(int.from_bytes(urandom(4), "big"))).__next__


def read_id(data: bytes, key: str = "message_id") -> bytes | str | int | None:
    """Return an id in the header of an event that `unpack` refused, None if it cannot be read."""
    try:
        unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, timestamp=3)
        unpacker.feed(data[:1024])
        unpacker.read_array_header()
        return take_id(unpacker.unpack(), key)
    except Exception:
        return None


def take_id(header: object, key: str = "message_id") -> bytes | str | int | None:
    """Return the message id of a header, None if there is none that can be answered."""
    found = header.get(key) if type(header) is dict else None
    return found if type(found) in (bytes, str, int) else None


def check_event(event: object) -> None:
    """Check the shape of a request.

    Raises:
        ProtocolError: the event is not ``[header, name, args]``, with the reason.
    """
    if type(event) is not list or len(event) != 3:
        raise ProtocolError("an event is an array of header, name and arguments")
    header, name, args = event
    if type(header) is not dict:
        raise ProtocolError("the header is not a map")
    if type(args) is not list:
        raise ProtocolError(f"the arguments are {_kind(args)}, not an array")
    if type(name) is not str:
        raise ProtocolError(f"the name is {_kind(name)}, not text")


def write_context(context: bytes, state: str) -> dict[str, str]:
    """Return the keys of a header with a trace context as W3C writes it, for peers of other kinds."""
    text = f"00-{context[:16].hex()}-{context[16:24].hex()}-{context[24]:02x}"
    return {"traceparent": text, "tracestate": state} if state else {"traceparent": text}


def explain_unreadable(error: Exception) -> str:
    """Return why `unpack` has refused a message, without repeating the message."""
    if isinstance(error, msgpack.ExtraData):
        return "there is more behind the event"
    if isinstance(error, msgpack.StackError):
        return "it is nested too deep"
    if isinstance(error, UnicodeError):
        return "its text is not UTF-8"
    return "it is incomplete or damaged"


def refuse_size(what: str, data: bytes) -> TypeError:
    """Return the error for a message that is larger than its recipient accepts."""
    return TypeError(f"{what} cannot be sent: {len(data):,} bytes, and a message has {MAX_MESSAGE:,} at most")


def find_unpackable(value: object) -> str:
    """Return the place and type of the first part of a value that msgpack cannot pack."""
    return _find(value, "", 0) or "the value cannot be packed"


def _find(value: object, place: str, depth: int) -> str:
    if depth > _MAX_DEPTH:
        return f"the value is nested more than {_MAX_DEPTH} deep"
    if isinstance(value, dict):
        for key, item in value.items():
            found = _find(key, f"{place} key", depth + 1) or _find(item, f"{place}[{_short(key)}]", depth + 1)
            if found:
                return found
        return ""
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            if found := _find(item, f"{place}[{index}]", depth + 1):
                return found
        return ""
    try:
        msgpack.packb(value, use_bin_type=True, datetime=True)
    except Exception as error:
        where = f" at {place.strip()}" if place else ""
        if isinstance(value, int) and not _INTEGERS[0] <= value <= _INTEGERS[1]:
            return f"an integer beyond 64 bits{where}"
        if isinstance(error, UnicodeError):
            return f"text with a lone surrogate{where}"
        return f"{_kind(value)}{where}"
    return ""


def _short(key: object) -> str:
    text = ascii(key)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"
