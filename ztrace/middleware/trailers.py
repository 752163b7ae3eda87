"""Trailers: short texts behind the data of an encoding that says itself where it ends.

``pickle.loads`` and ``brine.load`` ignore what follows their data, so a peer without ztrace does not notice a
trailer. A trailer ends with its length and a marker, so that it is found from the end, without copying or
decoding the data before it, which is left as it is.
"""

from typing import Final

from ztrace import diagnostics

#: Longest text of a trailer: a reply, or a context with its tracestate.
MAX_TRAILER = 8192
#: End of every trailer. Neither data of pickle nor most of brine's end like this.
_MARKER: Final = b"\x00ztrace\x01"
#: Bytes of the length before the marker, and of both.
_LENGTH, _END = 2, 2 + len(_MARKER)
#: Ends of trailers by the length of the text, as most have.
_ENDS = [length.to_bytes(_LENGTH, "big") + _MARKER for length in range(64)]
_LENGTHS = {end: length for length, end in enumerate(_ENDS)}
#: Reason under which trailers are counted whose length is wrong.
UNREADABLE: Final = "peer_trailer"


def make_trailer(text: bytes) -> bytes:
    """Return the trailer of a text, empty if the text is too long."""
    length = len(text)
    if length < len(_ENDS):
        return text + _ENDS[length]
    return b"" if length > MAX_TRAILER else text + length.to_bytes(_LENGTH, "big") + _MARKER


def read_trailer(data: bytes | bytearray | memoryview) -> bytes | None:
    """Return the text of the trailer behind encoded data, None if there is none."""
    end = len(data) - _END
    length = _LENGTHS.get(bytes(data[-_END:]))
    if length is not None and length <= end:
        return bytes(data[end - length : end])
    if data[-len(_MARKER) :] != _MARKER:
        return None
    length = (data[end] << 8) + data[end + 1] if end >= 0 else 0
    if length > MAX_TRAILER or length > end:
        diagnostics.count(UNREADABLE)
        return None
    return bytes(data[end - length : end])
