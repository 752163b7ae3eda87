"""The frame with which a message carries the sender's context, and a reply the callee's answer.

A frame is a marker and a text, whose first byte tells the kind. The text is a context, of a request by REQ,
which waits for one reply, or of a message, with its name behind a line break if the sender gives one; or it
is a reply of `ztrace.middleware.replies`. The frame comes before the last frame of a message, behind any
envelope, so that a receiver need not know where the envelope ends. Three places differ:

- REQ and REP have no envelope of the program's, so their frame comes first, and a receiver that reads frame
  by frame has the context before any content.
- A message that DEALER or ROUTER sends whole, with an envelope for REP or REQ, has its frame there as well.
- A message of one frame on PUB has its frame last, since subscriptions are compared with the first.
"""

from collections.abc import Sequence
from typing import Any, Final

import zmq

from ztrace import diagnostics
from ztrace.middleware.carriers import CONTEXT_BYTES, MAX_CONTEXT, UNREADABLE, read_bytes
from ztrace.middleware.replies import DURATION_BYTES, MAX_REPLY
from ztrace.propagation import Caller

#: First bytes of every frame of ztrace's.
MARKER: Final = b"\x00ztrace\x01"
_LENGTH: Final = len(MARKER)
#: First byte of the texts of a request, of a message, of a reply that is a duration, and of one in words.
_REQUEST, _MESSAGE, _DURATION, _REPLY = b"?", b"!", b"=", b"d"
#: First bytes of the frames of a request, a message and a reply.
REQUEST, MESSAGE, DURATION = MARKER + _REQUEST, MARKER + _MESSAGE, MARKER + _DURATION
#: Length of the text of a context that has neither a tracestate nor a name.
_PLAIN_CONTEXT = 1 + CONTEXT_BYTES
#: Characters of a name that are sent.
_MAX_NAME = 200
#: Frames among which an envelope's end is looked for: a request that passes more proxies is not joined.
_MAX_ENVELOPE = 16


def context_frame(start: bytes, context: bytes, name: str) -> bytes:
    """Return the frame of a request or message; an empty name leaves the naming to the receiver."""
    if not name:
        return start + context
    return b"%b%b\n%b" % (start, context, name[:_MAX_NAME].encode("utf-8", "replace"))


def reply_frame(reply: bytes) -> bytes:
    """Return the frame of a reply."""
    return (DURATION if len(reply) == DURATION_BYTES else MARKER) + reply


def find_text(frame: Any) -> bytes | None:
    """Return the text of a frame of ztrace's, None for any other; of a huge one only its beginning."""
    if type(frame) is bytes:
        return frame[_LENGTH : _LENGTH + MAX_REPLY + 1] if frame.startswith(MARKER) else None
    data = bytes((frame.buffer if isinstance(frame, zmq.Frame) else frame)[: _LENGTH + MAX_REPLY + 1])
    return data[_LENGTH:] if data.startswith(MARKER) else None


def read_reply(text: bytes) -> bytes | None:
    """Return the reply in a text, None if the text is a context."""
    kind = text[:1]
    if kind == _DURATION:
        return text[1:]
    return text if kind == _REPLY else None


def is_request(text: bytes) -> bool:
    """Return whether a text is the context of a REQ, which waits for a reply."""
    return text.startswith(_REQUEST)


def read_context(text: bytes) -> tuple[Caller | None, str]:
    """Return the sender's span and the name in the text of a request or message."""
    if text[:1] not in (_REQUEST, _MESSAGE) or len(text) > MAX_CONTEXT + 4 * _MAX_NAME:
        if text:
            diagnostics.count(UNREADABLE)
        return None, ""
    if len(text) == _PLAIN_CONTEXT:
        return read_bytes(text[1:]), ""
    state, _, name = text[_PLAIN_CONTEXT:].partition(b"\n")
    return read_bytes(text[1:_PLAIN_CONTEXT] + state), name.decode("utf-8", "replace")


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
