"""Grouping of exceptions that are the same problem, and the common part of their messages.

One idea: the code that raised an exception identifies the problem; the message says what it met. So a group
is identified by service, type and the user's own lines of code, without their numbers and paths; of its
messages, the part is kept that all of them share.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from ztrace.records import WRAPPED
from ztrace_collector.checking.failures import Failure, Frame

#: Placeholder for a variable part of a message.
HOLE = "‹…›"
#: Maximum of words and characters in a template, which is one readable line; it also bounds the time of
#: `widen`.
MAX_WORDS, MAX_TEMPLATE = 100, 1000

#: Pieces of a source line: strings, comments, spaces, words, and others. No piece can fail half way, so any
#: line takes a single pass.
_PIECES = re.compile(
    r"""(?P<string> "(?:[^"\\]|\\.?)*+"? | '(?:[^'\\]|\\.?)*+'? )
      | (?P<comment> \#.* )
      | (?P<space> \s+ )
      | \w+
      | .""",
    re.VERBOSE | re.DOTALL,
)
#: Name of a comprehension's frame, which exists up to Python 3.11.
_COMPREHENSION = re.compile(r"(?:^|\.<locals>\.)<(?:list|set|dict)comp>$")

#: Parts that vary between messages. Each match starts at a run of its characters, or cannot fail once
#: started, so the time is linear.
_VARIABLE = re.compile(
    r"""(?P<quote>(?<!\w)["'])(?: (?<=") [^"\n]* "(?!\w) | (?<=') [^'\n]* '(?!\w) )
      | (?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64})+
      | (?<![0-9a-z])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![0-9a-z])
      | (?<![0-9a-z])0x[0-9a-f]+
      | \d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[ ]?[+-]\d\d:?\d\d)?
      | (?<![\w:.])(?=[a-f:]*\d)(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])
      | (?<![0-9a-z])(?=[a-f]*\d)[0-9a-f]{8,}(?![0-9a-z])
      | (?<![0-9a-z])(?=[a-z]*\d)[0-9a-z]{16,}
      | (?:(?<!\w)[+-])?\d+(?:[.,:/-]\d+)*(?:e[+-]?\d+)?""",
    re.VERBOSE | re.IGNORECASE,
)
#: Lists of variable parts, as in ``[1, 2, 3]``.
_LIST = re.compile(rf"""(["']?){HOLE}\1(?:[\s,;]+\1{HOLE}\1)+""")


def fingerprint(service: str, failure: Failure, name: str = "") -> str:
    """Return 16 hex digits that are equal for occurrences of the same problem.

    The fingerprint covers the service, the type and the user's own lines of code on the way; without any, the
    lines of libraries; without these, the message's `template`. Exceptions it was raised ``from``, and
    members of a group, count in the same way. A failure without an exception is identified by the name of the
    span and the reason.
    """
    identity = _identity(failure, _main_name(failure))
    if not failure.frames:
        identity.append(template(failure.message))
    if not failure.type:
        identity.append(name)
    return hashlib.sha256(json.dumps([service, *identity]).encode()).hexdigest()[:16]


def _identity(failure: Failure, main: str) -> list[Any]:
    causes = [_identity(cause, main) for cause in failure.causes if cause.how == WRAPPED]
    members = [_identity(member, main) for member in failure.members]
    kind = failure.type
    if kind.startswith("__main__."):
        kind = main + kind.removeprefix("__main__")
    return [kind, _lines(failure.frames, main), _distinct(causes), _distinct(members)]


def _distinct(identities: Iterable[list[Any]]) -> list[str]:
    return sorted({json.dumps(identity) for identity in identities})


@lru_cache(maxsize=256)
def _lines(frames: tuple[Frame, ...], main: str) -> list[tuple[str, str, str]]:
    """Return the lines of code that count: the innermost one first, the others sorted.

    Of a function that occurs several times, the innermost line counts, so that neither the depth of a
    recursion nor its entry matters.
    """
    in_app = [frame for frame in frames if frame.in_app] or list(frames)
    last: dict[tuple[str, str], str] = {}
    function = ("", "")
    for frame in in_app:
        name = _COMPREHENSION.sub("", frame.function) or "<module>"
        function = (main if frame.module == "__main__" else frame.module, name)
        last[function] = plain_code(frame.code)
    lines = [(*each, code) for each, code in last.items()]
    return sorted(lines, key=lambda line: (line[:2] != function, line))


def _main_name(failure: Failure) -> str:
    """Return the name by which other modules import ``__main__``, judging by its file name."""
    for frame in failure.frames:
        if frame.module == "__main__":
            return os.path.basename(frame.file).removesuffix(".py")
    return "__main__"


@lru_cache(maxsize=1024)
def plain_code(code: str) -> str:
    """Return a source line without what a formatter may change: spaces, the kind of quotes, a comment.

    Strings and numbers stay, because two lines of one function may differ in nothing else.
    """
    plain: list[str] = []
    spaced = False
    for piece in _PIECES.finditer(code):
        text = piece.group()
        if piece.lastgroup in ("space", "comment"):
            spaced = True
            continue
        if spaced and plain and _is_word(plain[-1][-1]) and _is_word(text[0]):
            plain.append(" ")
        if text[0] == "'" and text[-1] == "'" and '"' not in text and "\\" not in text:
            text = text.replace("'", '"')
        plain.append(text)
        spaced = False
    return "".join(plain)


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def template(message: str) -> str:
    """Return a message as one bounded line, with parts that look like data replaced by `HOLE`.

    Such parts are numbers, ids, times, addresses, and quoted text.
    """
    words = _LIST.sub(rf"\1{HOLE}\1", _VARIABLE.sub(_hole, message)).split()
    kept: list[str] = []
    room = MAX_TEMPLATE
    for word in words:
        room -= len(word) + 1
        if room < 0 or len(kept) == MAX_WORDS:
            kept.append(HOLE)
            break
        kept.append(word)
    return " ".join(word for at, word in enumerate(kept) if word != HOLE or at == 0 or kept[at - 1] != HOLE)


def _hole(found: re.Match[str]) -> str:
    quote = found["quote"] or ""
    return f"{quote}{HOLE}{quote}"


def widen(known: str, message: str) -> str:
    """Return the common part of a template and a message, with each stretch that differs as one `HOLE`.

    A template that covers the message is returned unchanged; otherwise the result has fewer words, so
    repeated calls converge.
    """
    if covers(known, message):
        return known
    marked = template(message)
    if covers(known, marked):
        return known
    ours, theirs = known.split(" "), marked.split(" ")
    common = [pair for pair in _common(ours, theirs) if ours[pair[0]] != HOLE]
    words: list[str] = []
    at, place = -1, -1
    for at_next, place_next in [*common, (len(ours), len(theirs))]:
        if (at_next, place_next) != (at + 1, place + 1):
            words.append(HOLE)
        at, place = at_next, place_next
        words.extend(ours[at : at + 1])
    return " ".join(words)


def covers(known: str, message: str) -> bool:
    """Return whether a message matches a template, with any text, or none, in place of each `HOLE`."""
    text = f" {' '.join(message.split())} "
    first, *others = f" {known} ".split(HOLE)
    if not others:
        return text == first
    if not text.startswith(first):
        return False
    *between, last = others
    before, end = first, len(first)
    for part in between:
        start = text.find(part, end - _overlap(before, part))
        if start < 0:
            return False
        before, end = part, start + len(part)
    return text.endswith(last) and len(text) - len(last) >= end - _overlap(before, last)


def _overlap(before: str, after: str) -> int:
    """Return 1 where a hole stands for whole words: with none, one of the two spaces remains."""
    return int(before.endswith(" ") and after.startswith(" "))


def _common(ours: list[str], theirs: list[str]) -> list[tuple[int, int]]:
    """Return the positions of the longest common subsequence of words."""
    start, ends = 0, (len(ours), len(theirs))
    while start < min(ends) and ours[start] == theirs[start]:
        start += 1
    tail = 0
    while tail < min(ends) - start and ours[-1 - tail] == theirs[-1 - tail]:
        tail += 1
    rows, columns = ends[0] - tail - start, ends[1] - tail - start
    # lengths[i][j]: length of the longest common subsequence of the words from i and from j on.
    lengths = [[0] * (columns + 1) for _ in range(rows + 1)]
    for i in range(rows - 1, -1, -1):
        row, below, word = lengths[i], lengths[i + 1], ours[start + i]
        for j in range(columns - 1, -1, -1):
            same = word == theirs[start + j]
            row[j] = below[j + 1] + 1 if same else max(below[j], row[j + 1])
    pairs = [(at, at) for at in range(start)]
    i = j = 0
    while i < rows and j < columns:
        if ours[start + i] == theirs[start + j]:
            pairs.append((start + i, start + j))
            i, j = i + 1, j + 1
        elif lengths[i + 1][j] >= lengths[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs + [(ends[0] - left, ends[1] - left) for left in range(tail, 0, -1)]
