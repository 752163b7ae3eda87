"""Values of secrets within a text: ``password=...``, ``{'token': '...'}``, ``--secret ...``.

One idea: signs that can separate a name from a value are searched for from left to right. The name is read
backwards from the sign, up to a limit; the value is read forwards and not read again. So time is linear in
the length of the text. A value without an end, in a truncated text, extends to the end of the text.
"""

import re
from collections.abc import Callable, Iterator

from ztrace.scrubbing.accessors import OWNERS, is_accessor
from ztrace.scrubbing.markup import NAMING, find_content, find_element, find_named

#: Replacement of a secret.
SCRUBBED = "[scrubbed]"

#: Characters that represent placeholders of a text, from Unicode's private use area; a source line has no
#: more placeholders.
PLACEHOLDERS = "".join(map(chr, range(0xE000, 0xE080)))

#: Function that returns whether a name is a secret's.
Judge = Callable[[str], bool]

#: Signs, one of which is in every text with a name and its value.
SIGNS = ("=", ":", ">", "%3", "--")

_SIGN = re.compile(r"[=:]+>?|->|%3[AaDd]|>|--[A-Za-z][\w\-]{0,63}[ \t]{1,4}(?![\s\-])")
#: Longest name, including blanks and quotes after it and a word before it.
_MAX_HEAD = 160
#: Name read backwards, and the word before it.
_NAME_BACKWARDS = re.compile(r"([\w.\-]{1,64})(?: ([\w.\-]{1,64}))?")
_QUOTE = re.compile(r"[bBrRuUfF]{0,2}(\\*)(\"\"\"|'''|[\"'])|(%22)")
_BRACKET = re.compile(r"\\*[\"']|[\[({]|[\])}]")
_CALL = re.compile(r"[\w.]{0,128}[\[({]")
_QUOTED = re.compile(r"(\\*)([\"'])")
_ANNOTATION = re.compile(r"[\w.\[\]|, ]{1,64}=[ \t]{0,4}(?!=)")
_NUMBER = re.compile(r"\d+")
_BLANK = re.compile(r"[ \t\xa0]*+")
#: Line of a name that has its value on the next one: of a file of settings, and not of code.
_SETTING = re.compile(
    r"[\s\"'{\-]{0,64}"
    r"(?!(?:if|elif|else|while|for|with|def|class|return|not|and|or|in|is|except|case|match|lambda)\b)"
    r"(?:[\w.\-]{1,64}[:,]?[ \t]{1,4}){0,3}[\"']{0,2}"
    r"[\w.\-]{1,64}[\s\"'\]\\\xa0]{0,16}[=:]+>?[ \t\xa0]{0,16}\Z"
)
#: Schemes in front of a secret, which are none.
_SCHEME = re.compile(r"(?i:bearer|basic|token|negotiate)[ \t]*+")
#: End of a line behind a sign, the blanks of the next one, and the mark of a block of YAML.
_NEXT_LINE = re.compile(r"\\?\r?\n([ \t]*+)(?=\S)")
_BLOCK = re.compile(r"[|>][+\-\d]{0,3}[ \t]*+\r?\n")
_LINE_END = re.compile(r"[ \t]*+[,;]?[ \t]*+(?=[\r\n]|\Z)")
_PAIR = re.compile(r"[\w.\- ]{1,64}[=:](?![^\s\"'])")
_ALTERNATIVE = re.compile(r"[^\"'#,;]{0,128}?(?<!\w)(?:or|else)[ \t]{1,4}(?=[bBrRuUfF]{0,2}[\"'])")
#: What is between a literal, or a call, and a further literal of the same expression.
_FURTHER = re.compile(
    r"(?:\\*[\"']){0,3}+(?:[ \t]{0,4}\+?[ \t]{0,4}|[^\"'#,;]{0,128}?(?<!\w)(?:or|else)[ \t]{1,4})"
    r"(?=[bBrRuUfF]{0,2}[\"'])"
)
_FUNCTION = re.compile(r"(?:(\w{1,64})\.)?(\w{1,64})\(\Z")
#: Unquoted value, which ends at a blank, a quote, or the next field.
_BARE = re.compile(
    r"(?:(?i:bearer|basic|token|negotiate|apikey|jwt)[ \t]{1,8})?"
    r"(?:[^\s,;&\"'<]|<(?!/)|[,;&](?!\s|\Z|[\w .\-]{1,64}[=:])|[\"'](?![\s,;:)\]}>]|\Z))*+"
)
#: Rest of a header's line, for cookies and schemes with several fields.
_LINE = re.compile(r"(?:[^\r\n\"'\\]|\\(?![rn])|[\"'](?!\s{0,8}(?:[,)\]}]|\Z)))*+")
#: Characters at the end of a value that belong to the sentence or quotation around it.
_CLOSING = ")]}>\"'`.,:; "
_SCHEMES = r"(?i:digest|oauth|signature|hawk|mac|aws4-hmac-sha256)[ \t]"
_FIELDS = re.compile(_SCHEMES)
#: Fields of a scheme: names with quoted or bare values, over several lines if they are folded.
_FIELD_LIST = re.compile(
    _SCHEMES + r"{1,8}(?:,?\s{0,8}[\w\-]{1,64}[ \t]{0,4}=[ \t]{0,4}"
    r"(?:\\*\"[^\"\r\n]*+\"?|'[^'\r\n]*+'?|[^\s,\"']*+)[ \t]{0,8})++"
)
#: Values that reveal nothing, but help to find an error.
_HARMLESS = {"none", "null", "nil", "true", "false", "yes", "no"}


def scrub_pairs(text: str, is_secret: Judge, literals: bool = False) -> str:
    """Replace the values of secrets' names: ``password=...``, ``"token": "..."``, ``<secret>...</secret>``.

    Args:
        text: read once, from left to right.
        is_secret: returns whether a name is a secret's.
        literals: replace literals of a line of Python only, and leave names and calls.
    """
    parts, done, place = [], 0, 0
    while (found := _SIGN.search(text, place)) is not None:
        place = found.end()
        sign = found[0]
        if sign == "::" or (sign == ":" and text.startswith("//", place)):
            continue
        values: Iterator[tuple[int, int]]
        if sign == ">" and (element := find_element(text, found.start())) is not None:
            if not is_secret(element[1]):
                continue
            values = iter([find_content(text, place, element[0])])
        elif _follows_secret(text, found.start(), sign, is_secret):
            values = _values(text, place, sign, literals)
        elif _names_field(text, found.start()) and (named := find_named(text, place)) is not None:
            if not is_secret(named[0]):
                continue
            place = named[1]
            values = _values(text, place, "=", literals)
        else:
            continue
        for start, end in values:
            place = max(place, end)
            value = text[start:end]
            if not (is_harmless(value) or text.startswith(SCRUBBED, start)):
                parts += [text[done:start], SCRUBBED]
                done = end
    return "".join(parts) + text[done:]


def is_harmless(value: str) -> bool:
    """Return whether a value under a secret's name reveals nothing."""
    if (scheme := _SCHEME.match(value)) is not None and scheme[0][-1:].isspace():
        value = value[scheme.end() :]
    return not value.strip(PLACEHOLDERS) or value.lower() in _HARMLESS


def _follows_secret(text: str, end: int, sign: str, is_secret: Judge) -> bool:
    """Return whether the text before a sign is the name of a secret."""
    if sign[:2] == "--":
        return is_secret(sign)
    if sign == ">":
        return False
    match = _NAME_BACKWARDS.match(_head(text, end)[::-1])
    if match is None:
        return False
    name, before = match[1][::-1], (match[2] or "")[::-1]
    return is_secret(name) or (before != "" and is_secret(before.rpartition(".")[2] + name))


def _head(text: str, end: int) -> str:
    """Return the text before a sign, without the blanks and quotes around a name."""
    return text[max(0, end - _MAX_HEAD) : end].rstrip(" \t\xa0\"'`\\]!*+?").removesuffix("%22")


def _names_field(text: str, end: int) -> bool:
    """Return whether the text before a sign is a field that names another one's value."""
    word = _NAME_BACKWARDS.match(_head(text, end)[::-1])
    return word is not None and word[1][::-1].lower() in NAMING


def _values(text: str, place: int, sign: str, literals: bool) -> Iterator[tuple[int, int]]:
    """Yield the start and end of the following value, or of each literal in it."""
    if literals and sign == ":" and (annotation := _ANNOTATION.match(text, place)):
        place = annotation.end()
    place = _BLANK.match(text, place).end()  # type: ignore[union-attr]
    if literals and (other := _ALTERNATIVE.match(text, place)) is not None:
        place = other.end()
    if (below := _value_below(text, place)) is not None:
        yield below
    elif (quoted := quotation(text, place)) is not None:
        yield quoted
        if literals:
            yield from _further(text, quoted[1])
    elif (call := _CALL.match(text, place)) is not None and not text.startswith(SCRUBBED, place):
        if literals and call[0][-1] == "[" and call[0] != "[":
            return  # A lookup by name.
        brackets = list(_brackets(text, call.end()))
        if literals:
            function = _FUNCTION.search(call[0])
            gets = function is not None and ((function[1] or "") in OWNERS or is_accessor(function[2]))
            yield from brackets[gets:-1]  # The first argument of such a function is a name.
            yield brackets[-1][1], brackets[-1][1]  # Continue behind the brackets.
            yield from _further(text, brackets[-1][1])
        else:
            yield place, brackets[-1][1]
    elif literals:
        if (number := _NUMBER.match(text, place)) is not None:
            yield number.span()
    else:
        yield _read_bare(text, place, is_line=sign == ":" and _before_line(text, place))


def _further(text: str, end: int) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each literal that an expression goes on with, behind another or a call."""
    while (more := _FURTHER.match(text, end)) is not None:
        quoted = quotation(text, more.end())
        if quoted is None:
            return
        yield quoted
        end = quoted[1]


def _read_bare(text: str, place: int, *, is_line: bool = False) -> tuple[int, int]:
    """Return the start and end of an unquoted value."""
    if (fields := _FIELD_LIST.match(text, place)) is not None:
        return place, place + len(fields[0].rstrip(" \t,"))
    match = (_LINE if is_line or _FIELDS.match(text, place) else _BARE).match(text, place)
    assert match is not None
    value = match[0].rstrip(_CLOSING)
    return place, place + len(value) + value.endswith(SCRUBBED[:-1])


def _value_below(text: str, place: int) -> tuple[int, int] | None:
    """Return the start and end of a value on the next line, or of a block of YAML; None without one."""
    if (block := _BLOCK.match(text, place)) is not None:
        return _read_block(text, place, block.end())
    line = _NEXT_LINE.match(text, place)
    if line is None or _PAIR.match(text, line.end()):
        return None
    begin = max(0, place - 2 * _MAX_HEAD)
    if not _SETTING.match(text[max(begin, text.rfind("\n", begin, place) + 1) : place]):
        return None
    start = line.end()
    if (quoted := quotation(text, start)) is not None:
        return quoted
    start, end = _read_bare(text, start)
    # A value is all that is on its line; a sentence is more.
    return (start, end) if end > start and _LINE_END.match(text, end) else None


def _read_block(text: str, place: int, start: int) -> tuple[int, int] | None:
    """Return the start and end of the lines that are indented more than the line of a name."""
    line = text[text.rfind("\n", max(0, place - _MAX_HEAD), place) + 1 : place]
    indent = len(line) - len(line.lstrip(" "))
    end = start
    while end < len(text):
        after = text.find("\n", end) + 1 or len(text)
        content = text[end : min(after, end + indent + 1)]
        if content.strip() and len(content) - len(content.lstrip(" ")) <= indent:
            break
        end = after
    value = text[start:end]
    first = start + len(value) - len(value.lstrip())
    return (first, start + len(value.rstrip())) if first < start + len(value.rstrip()) else None


def _before_line(text: str, place: int) -> bool:
    """Return whether the header before a value takes the rest of the line."""
    return text[max(0, place - 12) : place].lower().rstrip().endswith("cookie:")


def quotation(text: str, place: int) -> tuple[int, int] | None:
    """Return the start and end of the quoted text at a place; without a closing quote, the text's end."""
    quote = _QUOTE.match(text, place)
    if quote is None:
        return None
    start = quote.end()
    escape, mark, encoded = quote.groups()
    if encoded or len(mark) == 3:
        end = text.find(encoded or mark, start)
        return start, len(text) if end < 0 else end
    depth = len(escape)
    for other in _QUOTED.finditer(text, start):
        # Each level of quoting doubles the backslashes, and adds one before a quote.
        if other[2] == mark and len(other[1]) % (2 * depth + 2) == depth:
            return start, other.end() - 1 - depth
    return start, len(text)


def _brackets(text: str, place: int) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each quoted text in brackets, and last those of the whole content."""
    opened, depth = place, 1
    while depth and (mark := _BRACKET.search(text, place)) is not None:
        place = mark.end()
        if (quoted := quotation(text, mark.start())) is not None:
            yield quoted
            place = min(len(text), quoted[1] + quoted[0] - mark.start())
        else:
            depth += 1 if mark[0] in "[({" else -1
    yield opened, place if not depth else len(text)
