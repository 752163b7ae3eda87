"""Characters that are safe on a terminal, and substitutes for those an encoding lacks.

One idea: everything from the wire passes `clean` before it is displayed, so a span's name can neither move
the cursor nor hide, reverse or forge the text beside it.
"""

import codecs
import re
import sys
from typing import Any

#: C0 and C1 controls, marks that reverse or hide text, line separators, the byte order mark, lone surrogates.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_BLANKS = re.compile(r"[\t\n\r\v\f\u2028\u2029]+")
#: Substitutes where the encoding has no lines and blocks.
_ASCII = str.maketrans(
    "│├└╴─╌░█▉▊▋▌▍▎▏▐▕▁▂▃▄▅▆▇→⇢⇠↑↓·…▸µ✗⋮\u2039\u203a", "||`--.:######||#|_.:-=+*>><^v-~>ux:<>"
)


def clean(text: str) -> str:
    """Return text on one line, without characters that a terminal interprets."""
    return _UNSEEN.sub("", _BLANKS.sub(" ", text))


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
