"""Numbers of things as people write them: ``1 span``, ``1,200 spans``."""


def plural(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural if need be."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
