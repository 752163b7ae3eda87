"""Characters: which ones may reach a terminal, and what stands in for those an encoding lacks.

One idea: nothing that came over the wire is shown but through `clean`: a span's name can neither move the
cursor nor hide, turn or forge what is beside it.
"""

import codecs
import re
import sys
from typing import Any

#: C0 and C1 controls, marks that turn or hide text, line separators, the byte order mark, lone surrogates.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_BLANKS = re.compile(r"[\t\n\r\v\f\u2028\u2029]+")
#: What is drawn where the encoding has no lines and blocks.
_ASCII = str.maketrans("│├└╴─╌█▉▊▋▌▍▎▏▐▕▁▂▃▄▅▆▇→⇢⇠↑↓·…▸µ\u2039\u203a", "||`--.######||#|_.:-=+*>><^v-~>u<>")


def clean(text: str) -> str:
    """Return text on one line, without anything that a terminal would act on."""
    return _UNSEEN.sub("", _BLANKS.sub(" ", text))


def clean_lines(text: str) -> list[str]:
    """Return the lines of a text, each clean."""
    return [clean(line) for line in re.split(r"\r\n|[\n\r\v\f\u2028\u2029]", text)]


def draw_plainly() -> None:
    """Let characters that the output's encoding lacks become similar ones instead of an error."""
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
