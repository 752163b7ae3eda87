"""Numbers of things as people write them: ``1 span``, ``1,200 spans``, ``2 processes``, ``2.5/s``."""

#: Units of rates, each with its minutes: the first in which a rate is at least one is taken.
_RATES = (("s", 1 / 60), ("min", 1.0), ("h", 60.0))


def plural(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural if need be."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"


def format_rate(count: int, minutes: int) -> str:
    """Return a count as rate over some minutes, a second, minute or hour; a dash if the time is unknown."""
    if not minutes:
        return "-"
    rates = [(count / minutes * size, unit) for unit, size in _RATES]
    rate, unit = next((each for each in rates if each[0] >= 1), rates[-1])
    return f"{rate:,.1f}/{unit}" if 0 < rate < 10 else f"{rate:,.0f}/{unit}"
