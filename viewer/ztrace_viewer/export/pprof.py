"""Profiles by call path and code in pprof's format, compressed.

One idea: a file of pprof is nine kinds of messages of numbers, so its encoding stands here and needs no
generated code.

Source: https://github.com/google/pprof/blob/main/proto/profile.proto
"""

import gzip

from ztrace_viewer.documents.profile import ProfileDocument
from ztrace_viewer.export.chains import Box, make_chains

#: Fields of ``Profile``, and of the messages in it.
_SAMPLE_TYPE, _SAMPLE, _LOCATION, _FUNCTION, _STRING, _DEFAULT = 1, 2, 4, 5, 6, 14
_TYPE, _UNIT = 1, 2
_LOCATION_IDS, _VALUES, _LABEL = 1, 2, 3
_KEY, _TEXT = 1, 2
_ID, _LINE = 1, 4
_FUNCTION_ID, _NUMBER = 1, 2
_NAME, _SYSTEM_NAME, _FILE = 2, 3, 4


def write_pprof(document: ProfileDocument) -> bytes:
    """Return a profile whose samples are the critical time of paths, with code below them.

    A call is a function without a file. The label ``state`` has what code did.
    """
    texts: dict[str, int] = {"": 0}
    functions: dict[tuple[str, str], int] = {}
    locations: dict[Box, int] = {}

    def number(text: str) -> int:
        return texts.setdefault(text, len(texts))

    def locate(box: Box) -> int:
        functions.setdefault((box.name, box.file), len(functions) + 1)
        return locations.setdefault(box, len(locations) + 1)

    parts = [_bytes(_SAMPLE_TYPE, _int(_TYPE, number("critical")) + _int(_UNIT, number("nanoseconds")))]
    for chain in make_chains(document):
        ids = [locate(box) for box in reversed(chain.boxes)]  # The innermost first.
        sample = _ints(_LOCATION_IDS, ids) + _ints(_VALUES, [chain.ns])
        if chain.state:
            sample += _bytes(_LABEL, _int(_KEY, number("state")) + _int(_TEXT, number(chain.state)))
        parts.append(_bytes(_SAMPLE, sample))
    for box, location in locations.items():
        function = functions[box.name, box.file]
        line = _int(_FUNCTION_ID, function) + _int(_NUMBER, box.line)
        parts.append(_bytes(_LOCATION, _int(_ID, location) + _bytes(_LINE, line)))
    for (name, file), function in functions.items():
        named = _int(_NAME, number(name)) + _int(_SYSTEM_NAME, number(name)) + _int(_FILE, number(file))
        parts.append(_bytes(_FUNCTION, _int(_ID, function) + named))
    parts.append(_int(_DEFAULT, number("critical")))
    parts += [_bytes(_STRING, text.encode("utf-8", "replace")) for text in texts]
    return gzip.compress(b"".join(parts), mtime=0)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _int(field: int, value: int) -> bytes:
    """Return a field with a number that is not negative."""
    return _varint(field << 3) + _varint(value)


def _ints(field: int, values: list[int]) -> bytes:
    """Return a field with packed numbers."""
    return _bytes(field, b"".join(map(_varint, values)))


def _bytes(field: int, content: bytes) -> bytes:
    """Return a field with a message or a text."""
    return _varint(field << 3 | 2) + _varint(len(content)) + content
