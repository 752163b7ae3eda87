"""Sizes as people write them: ``10GB``, ``500MB``, ``1GiB``."""

import re

from ztrace.errors import SettingsError, quote

#: Bytes per unit, in lower case.
UNITS = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
}

#: Digits are bounded so that a pasted number cannot cost time.
_SIZE = re.compile(r"(\d{1,15})(?:\.(\d{1,15}))?\s*([KMGT]?I?B)", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Parse a size such as ``10GB``, ``1.5 GiB`` or ``500MB``.

    Returns:
        Bytes.

    Raises:
        SettingsError: the text is not a size.
    """
    found = _SIZE.fullmatch(text.strip())
    unit = UNITS.get(found[3].lower()) if found else None
    if found is None or unit is None:
        raise SettingsError(f"{quote(text)} is not a size", hint="write it like 500MB, 10GB or 1GiB")
    # In integers, since at most fifteen decimals are accepted.
    return int(found[1] + (found[2] or "").ljust(15, "0")) * unit // 10**15


def format_size(byte_count: int) -> str:
    """Return a size in the largest decimal unit of which there is one: ``512 B``, ``12.3 MB``."""
    for unit in ("TB", "GB", "MB", "kB"):
        if byte_count >= UNITS[unit.lower()]:
            return f"{byte_count / UNITS[unit.lower()]:.1f} {unit}"
    return f"{byte_count} B"
