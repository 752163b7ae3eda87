"""Values of secrets in markup: ``<password>...</password>``, ``<add key="password" value="..."/>``.

One idea: an element's value extends to its end tag, and a field called ``name`` or ``key`` names the value of
the field ``value`` behind it, in XML as in JSON and YAML. Both are looked for within a bounded distance, so
time is linear in the length of the text.
"""

import re

#: Names of the fields that name a secret in their value, and of those with the secret.
NAMING = frozenset(("name", "key", "id", "field", "property", "header"))
_VALUE = re.compile(r"(?<![\w\-])(?i:value|content|val|data)(?:\\*[\"'])?[ \t]{0,8}[=:][ \t]{0,8}")
#: Name in the field's value, which ends the field.
_NAMED = re.compile(
    r"[ \t]{0,8}(?:\\*[\"'])?([\w.\-]{1,64})"
    r"(?=\\*[\"']|[ \t]{0,8}(?:[,;\r\n]|(?<=[ \t])(?i:value|content|val|data)[ \t]{0,8}[=:]))"
)
#: Start of an element without its ``>``: the name behind its namespace, and attributes.
_ELEMENT = re.compile(
    r"<((?:[\w.\-]{1,64}:)?([\w.\-]{1,64}))"
    r"(?:\s{1,64}[\w.:\-]{1,64}\s{0,8}=\s{0,8}(?:\\*\"[^\"<>]*+\"|\\*'[^'<>]*+'|[^\s<>\"'=]++))*+\s{0,64}\Z"
)
_CDATA = "<![CDATA["
#: Distance up to which the start and the end of an element, and the field with a value, are looked for.
_MAX_HEAD, MAX_ELEMENT, _MAX_GAP = 256, 4096, 160
_OTHER_OBJECT = re.compile(r"[<>{}]|\n[ \t]*-")


def find_element(text: str, end: int) -> tuple[str, str] | None:
    """Return the qualified and the bare name of the element whose start tag ends before a place."""
    if text.endswith("/", 0, end):
        return None
    begin = text.rfind("<", max(0, end - _MAX_HEAD), end)
    element = None if begin < 0 else _ELEMENT.match(text[begin:end])
    return None if element is None else (element[1], element[2])


def find_content(text: str, place: int, qualified: str) -> tuple[int, int]:
    """Return the start and end of an element's content, without blanks around a section of characters."""
    end = text.find(f"</{qualified}", place, place + MAX_ELEMENT)
    if end < 0:
        if text.startswith(_CDATA, place):
            end = text.find("]]>", place, place + MAX_ELEMENT)
        else:
            end = text.find("<", place)
    return place, len(text) if end < 0 else end


def find_named(text: str, place: int) -> tuple[str, int] | None:
    """Return the name in a field's value, and the place of the value that it names; None without one."""
    named = _NAMED.match(text, place)
    if named is None:
        return None
    gap = text[named.end() : named.end() + _MAX_GAP]
    value = _VALUE.search(gap)
    if value is None or _OTHER_OBJECT.search(gap, 0, value.start()):
        return None
    return named[1], named.end() + value.end()
