"""The frame with which a message carries the sender's context, and a reply the callee's answer.

A frame is a marker and a text: the context with the request's name in a second line, or the text of
`ztrace.middleware.replies`. The context of a REQ begins with a question mark: it waits for one reply. The
frame comes before the last frame of a message, behind any envelope, so that a receiver need not know where
the envelope ends. Three places differ:

- REQ and REP have no envelope of the program's, so their frame comes first, and a receiver that reads frame
  by frame has the context before any content.
- A message that DEALER or ROUTER sends whole, with an envelope for REP or REQ, has its frame there as well.
- A message of one frame on PUB has its frame last, since subscriptions are compared with the first.
"""

from collections.abc import Sequence
from typing import Any, Final

import zmq

from ztrace.context import SpanContext
from ztrace.middleware.carriers import MAX_CONTEXT, context_text, read_context_text
from ztrace.middleware.replies import MAX_REPLY
from ztrace.spans import CLIENT, Span

#: First bytes of every frame of ztrace's.
MARKER: Final = b"\x00ztrace\x01"
_LENGTH: Final = len(MARKER)
#: First bytes of a reply's text and of a request's, which no other text has.
_REPLY, _REQUEST = b"d=", b"?"
_REQUEST_MARKER = MARKER + _REQUEST
#: Length of a context that has neither a tracestate nor a name.
_PLAIN_CONTEXT = 55
#: Characters of a name that are sent.
_MAX_NAME = 200
#: Frames among which an envelope's end is looked for: a request that passes more proxies is not joined.
_MAX_ENVELOPE = 16


def context_frame(span: Span, name: str) -> bytes:
    """Return the frame of a request or message; an empty name leaves the naming to the receiver."""
    marker = _REQUEST_MARKER if span.kind == CLIENT else MARKER
    if not name:
        return marker + context_text(span)
    return b"%b%b\n%b" % (marker, context_text(span), name[:_MAX_NAME].encode("utf-8", "replace"))


def reply_frame(text: str) -> bytes:
    """Return the frame of a reply."""
    return MARKER + text.encode("ascii")


def find_text(frame: Any) -> bytes | None:
    """Return the text of a frame of ztrace's, None for any other; of a huge one only its beginning."""
    if type(frame) is bytes:
        return frame[_LENGTH : _LENGTH + MAX_REPLY + 1] if frame.startswith(MARKER) else None
    data = bytes((frame.buffer if isinstance(frame, zmq.Frame) else frame)[: _LENGTH + MAX_REPLY + 1])
    return data[_LENGTH:] if data.startswith(MARKER) else None


def is_reply(text: bytes) -> bool:
    """Return whether a text is a reply's, and no context."""
    return text.startswith(_REPLY)


def is_request(text: bytes) -> bool:
    """Return whether a text is the context of a REQ, which waits for a reply."""
    return text.startswith(_REQUEST)


def read_context(text: bytes) -> tuple[SpanContext | None, str]:
    """Return the context and the name in the text of a request or message."""
    if text.startswith(_REQUEST):
        text = text[len(_REQUEST) :]
    if len(text) == _PLAIN_CONTEXT or len(text) > MAX_CONTEXT + 4 * _MAX_NAME:
        return read_context_text(text), ""
    context, _, name = text.partition(b"\n")
    return read_context_text(context), name.decode("utf-8", "replace") if name else ""


def take_text(frames: Sequence[Any]) -> tuple[Sequence[Any], bytes | None]:
    """Return a message without the frames of ztrace's at their places, and the text of the last of them."""
    found = None
    while len(frames) > 1:
        for place in (0, -2, -1, find_content(frames)):
            text = find_text(frames[place])
            if text is not None:
                break
        else:
            break
        found = text
        kept = list(frames)
        del kept[place]
        frames = kept
    return frames, found


def find_content(frames: Sequence[Any]) -> int:
    """Return the place behind an envelope, which ends with an empty frame; without one, that of the last."""
    for place in range(min(len(frames) - 1, _MAX_ENVELOPE)):
        if not len(frames[place]):
            return place + 1
    return len(frames) - 1
