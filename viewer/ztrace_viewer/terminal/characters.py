"""Characters that are safe on a terminal, and substitutes for those an encoding lacks.

One idea: everything from the wire passes `clean` before it is displayed, so a span's name can neither move
the cursor nor hide, reverse or forge the text beside it.
"""

import codecs
import json
import re
import sys
from typing import Any
from unicodedata import category

#: Categories of controls, of marks that reverse or hide text, of lone surrogates, and of line separators.
_UNSEEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
#: Letters and marks that have no shape: fillers and joiners.
_SHAPELESS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_BLANKS = re.compile(r"[\t\n\r\v\f\u2028\u2029]+")
#: Substitutes where the encoding has no lines and blocks.
_ASCII = str.maketrans(
    "│├└╴─╌░█▉▊▋▌▍▎▏▐▕▁▂▃▄▅▆▇→⇢⇠↑↓·…▸µ✗⋮\u2039\u203a", "||`--.:######||#|_.:-=+*>><^v-~>ux:<>"
)


def clean(text: str) -> str:
    """Return text on one line, without characters that a terminal interprets."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(filter(is_seen, _BLANKS.sub(" ", text)))


def is_seen(character: str) -> bool:
    """Return whether a character has a shape, and does nothing else on a terminal."""
    return character not in _SHAPELESS and category(character) not in _UNSEEN


def escape_json(text: str) -> str:
    """Return text, such as JSON, whose characters without a shape are escaped; line feeds and tabs stay."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(
        each if each in "\n\t" or is_seen(each) else json.dumps(each)[1:-1].replace("\x7f", "\\u007f")
        for each in text
    )


def clean_lines(text: str) -> list[str]:
    """Return the lines of a text, each without characters that a terminal interprets."""
    return [clean(line) for line in split_lines(text)]


def split_lines(text: str) -> list[str]:
    """Return the lines of a text, with the characters it has."""
    return re.split(r"\r\n|[\n\r\v\f\u2028\u2029]", text)


def draw_plainly() -> None:
    """Replace characters that the encoding of the output lacks by similar ones."""
    codecs.register_error("ztrace-plain", _replace)
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="ztrace-plain")


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_ASCII)
    return "".join(character if character.isascii() else "?" for character in text), error.end
