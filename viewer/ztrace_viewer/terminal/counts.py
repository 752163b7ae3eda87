"""Numbers of things as people write them: ``1 span``, ``1,200 spans``, ``2 processes``."""


def plural(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural if need be."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"
