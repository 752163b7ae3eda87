"""Shares as people write them: ``5%`` or ``0.05``."""

import re

from ztrace.errors import SettingsError, quote

#: Bounds of a share: below, so few are kept that nothing can be estimated from them.
LEAST, MOST = 0.0001, 1.0

_SHARE = re.compile(r"(\d{0,3}(?:\.\d{1,15})?)\s*(%?)")


def parse_share(text: str) -> float:
    """Parse a share such as ``5%``, ``0.5 %`` or ``0.05``.

    Returns:
        A number from 0.0001 on, below 1.

    Raises:
        SettingsError: the text is not a share, or out of bounds.
    """
    found = _SHARE.fullmatch(text.strip())
    if found is None or not found[1]:
        raise SettingsError(f"{quote(text)} is not a share", hint="write it like 5% or 0.05")
    share = float(found[1]) / (100 if found[2] else 1)
    if not LEAST <= share < MOST:
        raise SettingsError(f"{quote(text)} is out of bounds", hint="give at least 0.01%, and less than 100%")
    return share
