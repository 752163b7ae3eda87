"""Secrets within a line of Python: string literals and the comment are scrubbed as messages are.

One idea: names and calls of the code stay readable, and so do placeholders in its texts. A placeholder
reveals nothing, so during the search it is represented by one character that does not count as a secret.
"""

import re
from collections.abc import Callable

from ztrace.scrubbing.pairs import PLACEHOLDERS, quotation

#: Start of a literal, with its prefix, or of the comment.
_BEGIN = re.compile(r"(?<!\w)([bBrRuUfF]{0,2})(\"\"\"|'''|[\"'])|[\"'#]")
#: Placeholders of ``%`` and of `str.format`, and expressions of an f-string.
_FORMAT = re.compile(r"%(?:\(\w{1,64}\))?[srd]|\{\d?\}")
_EXPRESSION = re.compile(r"\{[^{}]{1,256}\}")
_TAKEN = re.compile(f"[{PLACEHOLDERS}]")

Scrub = Callable[[str], str]


def scrub_line(line: str, scrub_text: Scrub, scrub_code: Scrub) -> str:
    """Return a line of source without secrets.

    Args:
        line: read once, from left to right; an unterminated text extends to the end.
        scrub_text: returns a text without secrets; called for each text of the line.
        scrub_code: returns code without secrets; called for the line after its texts.
    """
    hidden: list[str] = []
    if _TAKEN.search(line):
        hidden += PLACEHOLDERS  # Nothing can be hidden.

    def hide(placeholder: re.Match[str]) -> str:
        if len(hidden) == len(PLACEHOLDERS):
            return placeholder[0]
        hidden.append(placeholder[0])
        return PLACEHOLDERS[len(hidden) - 1]

    parts, done, place = [], 0, 0
    while (begin := _BEGIN.search(line, place)) is not None:
        prefix, mark = begin[1] or "", begin[2] or begin[0]
        start, end = begin.end(), len(line)
        if mark != "#":
            start, end = quotation(line, begin.start()) or (start, end)
        pattern = _EXPRESSION if "f" in prefix.lower() else _FORMAT
        parts += [line[done:start], scrub_text(pattern.sub(hide, line[start:end]))]
        done, place = end, min(len(line), end + len(mark))
    clean = scrub_code("".join(parts) + line[done:])
    for sign, placeholder in zip(PLACEHOLDERS, hidden, strict=False):
        clean = clean.replace(sign, placeholder)
    return clean
