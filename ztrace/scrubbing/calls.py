"""Values of secrets behind their names in calls: ``getenv("PASSWORD", "...")``, ``("password", "...")``.

One idea: a quoted name, a comma and a quoted value are a secret where the function gets or sets a value by
its name. Where there is no function, the two have to be a pair alone, and the value no word that may be a
name as well.
"""

import re
from collections.abc import Iterator

from ztrace.scrubbing.accessors import OWNERS, is_accessor
from ztrace.scrubbing.pairs import SCRUBBED, Judge, is_harmless, quotation

#: Owner and name of the function, as far as there are any, its bracket, and the quoted name.
_BEGIN = re.compile(
    r"(?<!\w)(?:(\w{1,64})\.)?(\w{0,64})([(\[])\s{0,8}(?:[\w.]{1,64},\s{0,8})?"
    r"[bBrRuU]{0,2}(\\*[\"'])([\w.\- ]{1,64})\4\s{0,8}"
)
#: What is between the name and the value: a comma and a keyword, or the end of a call and an alternative.
_DEFAULT = re.compile(r",\s{0,8}(?:(?:default|value|fallback|\w{0,32}default)\s{0,4}=\s{0,4})?")
_OTHERWISE = re.compile(r"[\])]\s{0,8}(?:or|else|\|\||\?\?)\s{0,8}")
_CLOSE = re.compile(r"\\*[\"']{1,3}\s{0,8},?\s{0,8}[)\]]")
_NUMBER = re.compile(r"\d+")
#: Value of a pair that is rather the name of another field.
_FIELD = re.compile(r"(?:[A-Za-z]?[a-z_]{0,32}|[A-Z_]{1,32})\Z")


def scrub_calls(text: str, is_secret: Judge, *, literals: bool = False) -> str:
    """Replace the values behind secrets' names in calls and pairs.

    Args:
        text: read once, from left to right.
        is_secret: returns whether a name is a secret's.
        literals: replace numbers, too, as in a line of Python.
    """
    parts, done = [], 0
    for begin in _BEGIN.finditer(text):
        if begin.start() < done or not is_secret(begin[5]):
            continue
        for start, end in _values(text, begin, literals):
            value = text[start:end]
            if not (is_harmless(value) or value.startswith(SCRUBBED)):
                parts += [text[done:start], SCRUBBED]
                done = end
    return "".join(parts) + text[done:]


def _values(text: str, begin: re.Match[str], literals: bool) -> Iterator[tuple[int, int]]:
    """Yield the start and end of the value behind a name, if there is one."""
    function, bracket, place = begin[2], begin[3], begin.end()
    gets = is_accessor(function) or (begin[1] or "") in OWNERS
    if (default := _DEFAULT.match(text, place)) is not None:
        quoted = quotation(text, default.end())
        if quoted is None:
            number = _NUMBER.match(text, default.end()) if gets and literals else None
            if number is not None:
                yield number.span()
        elif (gets if function else _is_pair(text, quoted)) and not text.startswith("-", quoted[0]):
            yield quoted  # And not another name of an option.
    elif gets or bracket == "[":
        other = _OTHERWISE.match(text, place)
        if other is not None and (quoted := quotation(text, other.end())) is not None:
            yield quoted


def _is_pair(text: str, quoted: tuple[int, int]) -> bool:
    """Return whether a value ends a pair, and is more than the name of another field."""
    return bool(_CLOSE.match(text, quoted[1])) and not _FIELD.match(text[slice(*quoted)])
