"""Secrets recognized by their form within a text: tokens, credentials in URLs, private keys.

One idea: time is linear in the length of the text, whatever the text is. Python's `re` backtracks, so each
pattern begins with a fixed word, nests no repetition, and uses possessive quantifiers. A text may be
truncated: a secret that begins and does not end is a secret too.
"""

import functools
import re
from collections.abc import Callable
from typing import NamedTuple

from ztrace.scrubbing.pairs import SCRUBBED, is_harmless, quotation

#: Last character of a truncated text.
CUT_MARK = "…"


class Kind(NamedTuple):
    """One kind of secret.

    Attributes:
        needles: groups of lower-case words; every text with such a secret has one of each group.
        scrub: returns a text without such secrets.
    """

    needles: tuple[tuple[str, ...], ...]
    scrub: Callable[[str], str]

    def may_be_in(self, lowered: str) -> bool:
        """Return whether a text may have such a secret, in far less time than a search takes."""
        for group in self.needles:
            for needle in group:
                if needle in lowered:
                    break
            else:
                return False
        return True


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern when first needed, which most never are."""
    return re.compile(pattern, re.ASCII)


def _replacing(pattern: str) -> Callable[[str], str]:
    """Return a function that replaces each match of a pattern, except for the pattern's groups."""

    def replace(match: re.Match[str]) -> str:
        before, after = (*match.groups(""), "", "")[:2]
        return f"{before}{SCRUBBED}{after}"

    return lambda text: _compiled(pattern).sub(replace, text)


def _token(start: str, characters: str, least: int) -> str:
    """Return a pattern for a token with a fixed start and a least length, or up to a truncated text's end."""
    return (
        rf"(?<![A-Za-z0-9]){start}"
        rf"(?:{characters}{{{least},}}+|{characters}{{1,{least}}}+(?={CUT_MARK}\Z))"
    )


#: Keys with an issuer's prefix: needle, prefix, characters of the rest, and its least length.
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

#: Words of sentences about bearer tokens. Any other word counts as a token, which may have letters only.
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
#: Schemes with encoded credentials, which have more than lower-case letters.
_BASIC = _credentials("basic|negotiate", "[A-Za-z]?[a-z]{0,18}")
#: JSON in base64, the beginning of a JWT, with the parts after its dots.
_JWT = r"(?<![A-Za-z0-9])eyJ[\w-]{13,}+(?:\.[\w-]*+){0,4}"
_PEM = (
    r"(-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----)"
    r"[\s\S]*?(?:(-----END [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----)|\Z)"
)
_PEM_END = r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY"
_WEBHOOK = r"(hooks\.slack\.com/services/)[\w/-]++"
#: Words before a quoted password, in sentences and in SQL.
_SPOKEN = r"(?i:password|passwd|passphrase|pwd|identified by)[ \t]{1,4}"


def _scrub_pem(text: str) -> str:
    text = _replacing(_PEM)(text)
    end = _compiled(_PEM_END).search(text)
    if end is not None and "-----BEGIN" not in text[: end.start()]:
        return SCRUBBED + text[end.start() :]  # The beginning is missing.
    return text


#: ``scheme://user:``, but no IPv6 address and no port.
_URL_HEAD = r"://(?!\[)[^\s/?#@:\"'<>]{0,256}:(?!//|\d{1,5}(?:[/?#\s\"',;)\]}>]|\Z))"
#: Longest password in a URL, including the text after it.
_MAX_PASSWORD = 1024


def _scrub_urls(text: str) -> str:
    """Replace the password of ``scheme://user:password@host``, even with unescaped characters."""
    parts, done = [], 0
    for head in _compiled(_URL_HEAD).finditer(text):
        start = head.end()
        if head.start() < done or is_harmless(text[start : (end := _password_end(text, start))]):
            continue
        parts += [text[done:start], SCRUBBED]
        done = end
    return "".join(parts) + text[done:]


def _password_end(text: str, start: int) -> int:
    """Return the place of the @ before the host, or ``start`` if there is none."""
    rest = text[start : start + _MAX_PASSWORD]
    gap = _compiled(r"[\s\"<>]").search(rest)
    if gap is not None:
        rest = rest[: gap.start()]
    at = rest.rfind("@")
    if at < 0:
        return start + (len(rest) if rest.endswith(CUT_MARK) else 0)
    # It is the last @ of the authority; if the authority has none, the password contains a / or ?.
    for ends in (r"[/?#]", r"[?#]"):
        end = _compiled(ends).search(rest)
        if end is not None and (before := rest.rfind("@", 0, end.start())) >= 0:
            return start + before
    return start + at


#: Key in the place of a URL's user, without a password.
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
    # The search for a single character is ten times as fast as for a word, and often fails.
    signs = [sign for sign in "_.-" if sign in needle]
    needles = ((signs[0],), (needle,)) if signs else ((needle,),)
    return Kind(needles, _replacing(_token(start, characters, least)))


#: All kinds except ``name=value``, which needs names; the rarest first.
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
