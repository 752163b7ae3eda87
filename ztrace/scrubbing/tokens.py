"""What a secret looks like within a text, whatever its name: tokens, credentials in URLs, private keys.

One idea: time grows with the length of the text and no faster, whatever the text is. Python's `re` goes
back and tries again, so each pattern begins with a word that is searched for, repeats nothing twice over, and
does not give back what it has taken. A text may have been cut: what has begun and not ended is a secret too.
"""

import functools
import re
from collections.abc import Callable
from typing import NamedTuple

from ztrace.scrubbing.pairs import SCRUBBED, is_harmless, quotation

#: At the end of texts that were cut.
CUT_MARK = "…"


class Kind(NamedTuple):
    """One kind of secret.

    Attributes:
        needles: of each group at least one is in every text with such a secret, in small letters.
        scrub: returns the text without them.
    """

    needles: tuple[tuple[str, ...], ...]
    scrub: Callable[[str], str]

    def may_be_in(self, lowered: str) -> bool:
        """Tell whether it is worth looking, in far less time than looking takes."""
        for group in self.needles:
            for needle in group:
                if needle in lowered:
                    break
            else:
                return False
        return True


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern when it is first needed, which for most is never."""
    return re.compile(pattern, re.ASCII)


def _replacing(pattern: str) -> Callable[[str], str]:
    """Return a function that keeps what the pattern's groups hold, and replaces the rest of a match."""

    def replace(match: re.Match[str]) -> str:
        before, after = (*match.groups(""), "", "")[:2]
        return f"{before}{SCRUBBED}{after}"

    return lambda text: _compiled(pattern).sub(replace, text)


def _token(start: str, characters: str, least: int) -> str:
    """Return a pattern for what begins like this and goes on so long, or to where the text was cut."""
    return (
        rf"(?<![A-Za-z0-9]){start}"
        rf"(?:{characters}{{{least},}}+|{characters}{{1,{least}}}+(?={CUT_MARK}\Z))"
    )


#: Keys that tell by their first letters whose they are: a needle, the beginning, what follows and how much.
_TOKENS = (
    ("akia", "AKIA", "[0-9A-Z]", 12),
    ("asia", "ASIA", "[0-9A-Z]", 12),
    ("aiza", "AIza", r"[\w-]", 30),
    ("ya29.", r"ya29\.", r"[\w.-]", 20),
    ("ghp_", "ghp_", "[A-Za-z0-9]", 16),
    ("gho_", "gho_", "[A-Za-z0-9]", 16),
    ("ghu_", "ghu_", "[A-Za-z0-9]", 16),
    ("ghs_", "ghs_", "[A-Za-z0-9]", 16),
    ("ghr_", "ghr_", "[A-Za-z0-9]", 16),
    ("github_pat_", "github_pat_", r"\w", 16),
    ("glpat-", "glpat-", r"[\w.-]", 16),
    ("xox", "xox[a-z]-", r"[\w-]", 8),
    ("xapp-", "xapp-", r"[\w-]", 8),
    ("k_live_", "[srp]k_live_", r"\w", 8),
    ("k_test_", "[sr]k_test_", r"\w", 8),
    ("whsec_", "whsec_", r"[\w+/=]", 16),
    ("sk-", r"sk-(?=[A-Za-z_-]{0,64}\d)", r"[\w-]", 16),
    ("hf_", "hf_", "[A-Za-z0-9]", 24),
    ("hvs.", r"hvs\.", r"[\w-]", 16),
    ("npm_", "npm_", "[A-Za-z0-9]", 24),
    ("pypi-", "pypi-", r"[\w-]", 32),
    ("sg.", r"SG\.", r"[\w.-]", 32),
    ("ztrace1.", r"ztrace1\.", r"[\w.-]", 16),
    ("dop_v1_", "dop_v1_", "[a-f0-9]", 32),
)

#: Words of sentences about bearer tokens. A token may have letters only, so any other word is taken for one.
_ABOUT_BEARER = (
    "access|auth|authenticated|authentication|authorisation|authorization|authorized|certificate|challenge|"
    "credential|credentials|denied|error|expected|expired|failed|failure|format|header|headers|instead|invalid|"
    "method|missing|prefix|realm|rejected|required|scheme|schema|security|should|string|support|supported|"
    "token|tokens|unsupported|without"
)


def _credentials(schemes: str, words: str) -> str:
    """Return a pattern for a scheme and the credentials after it, unless a word of a sentence follows."""
    return (
        rf"((?<![A-Za-z0-9])(?i:{schemes})(?:[ \t]{{1,8}}|%20))"
        rf"(?!{words}(?![\w.~+/=-]))"
        rf"(?:[\w.~+/=-]{{6,}}+|[\w.~+/=-]++(?={CUT_MARK}\Z))"
    )


_BEARER = _credentials("bearer", f"(?i:{_ABOUT_BEARER})")
#: What these send is encoded, and has more than small letters.
_BASIC = _credentials("basic|negotiate", "[A-Za-z]?[a-z]{0,18}")
#: JSON in base64, which begins a JWT; what belongs to it follows after dots.
_JWT = r"(?<![A-Za-z0-9])eyJ[\w-]{13,}+(?:\.[\w-]*+){0,4}"
_PEM = (
    r"(-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----)"
    r"[\s\S]*?(?:(-----END [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----)|\Z)"
)
_PEM_END = r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY"
_WEBHOOK = r"(hooks\.slack\.com/services/)[\w/-]++"
#: What follows these words in quotes is a password, in sentences and in SQL.
_SPOKEN = r"(?i:password|passwd|passphrase|pwd|identified by)[ \t]{1,4}"


def _scrub_pem(text: str) -> str:
    text = _replacing(_PEM)(text)
    end = _compiled(_PEM_END).search(text)
    if end is not None and "-----BEGIN" not in text[: end.start()]:
        return SCRUBBED + text[end.start() :]  # The beginning was cut.
    return text


#: ``scheme://user:``, but for an IPv6 address or a port.
_URL_HEAD = r"://(?!\[)[^\s/?#@:\"'<>]{0,256}:(?!//|\d{1,5}(?:[/?#\s\"',;)\]}>]|\Z))"
#: As long as a password in a URL may be, with what is after it.
_MAX_PASSWORD = 1024


def _scrub_urls(text: str) -> str:
    """Replace the password of ``scheme://user:password@host``, with whatever unescaped characters in it."""
    parts, done = [], 0
    for head in _compiled(_URL_HEAD).finditer(text):
        start = head.end()
        if head.start() < done or is_harmless(text[start : (end := _password_end(text, start))]):
            continue
        parts += [text[done:start], SCRUBBED]
        done = end
    return "".join(parts) + text[done:]


def _password_end(text: str, start: int) -> int:
    """Return where the @ before the host is, or ``start`` if there is none."""
    rest = text[start : start + _MAX_PASSWORD]
    gap = _compiled(r"[\s\"<>]").search(rest)
    if gap is not None:
        rest = rest[: gap.start()]
    at = rest.rfind("@")
    if at < 0:
        return start + (len(rest) if rest.endswith(CUT_MARK) else 0)
    # It is the last one of the authority; where that has none, a / or ? is in the password.
    for ends in (r"[/?#]", r"[?#]"):
        end = _compiled(ends).search(rest)
        if end is not None and (before := rest.rfind("@", 0, end.start())) >= 0:
            return start + before
    return start + at


#: A long first half of a URL's authority without a second one: a key in the place of the user.
_URL_KEY = r"(://)(?=[A-Za-z_-]{0,32}\d)[\w-]{20,256}+(?=@)"


def _scrub_spoken(text: str) -> str:
    parts, done = [], 0
    for word in _compiled(_SPOKEN).finditer(text):
        if word.start() < done or (quoted := quotation(text, word.end())) is None:
            continue
        if not is_harmless(text[slice(*quoted)]):
            parts += [text[done : quoted[0]], SCRUBBED]
            done = quoted[1]
    return "".join(parts) + text[done:]


def _token_kind(needle: str, start: str, characters: str, least: int) -> Kind:
    # A single character is looked for ten times as fast as a word, and often is not there.
    signs = [sign for sign in "_.-" if sign in needle]
    needles = ((signs[0],), (needle,)) if signs else ((needle,),)
    return Kind(needles, _replacing(_token(start, characters, least)))


#: Every kind but ``name=value``, for which names are needed. What is looked for first is rarest.
KINDS = (
    Kind((("-----",), ("-----begin", "-----end")), _scrub_pem),
    Kind((("@", CUT_MARK), ("://",)), lambda text: _replacing(_URL_KEY)(_scrub_urls(text))),
    Kind((("/",), ("hooks.slack.com",)), _replacing(_WEBHOOK)),
    Kind((("eyj",),), _replacing(_JWT)),
    Kind(((" ", "\t", "%20"), ("bearer",)), _replacing(_BEARER)),
    Kind(((" ", "\t", "%20"), ("basic", "negotiate")), _replacing(_BASIC)),
    *(_token_kind(*token) for token in _TOKENS),
    Kind((("'", '"'), ("password", "passwd", "passphrase", "pwd", "identified")), _scrub_spoken),
)
