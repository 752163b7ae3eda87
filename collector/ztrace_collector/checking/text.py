"""Text from peers, made valid for storage.

One idea: stored text is always valid Unicode of a bounded length, whatever bytes were sent.
"""


def is_whole(text: str) -> bool:
    """Return whether SQLite can store a text, which must have no lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def mended(text: str) -> str:
    """Return a text with each lone surrogate replaced, and so each byte that was not UTF-8."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def cut(text: str, length: int) -> str:
    """Return a text truncated to a length, with an ellipsis as the last character."""
    return text if len(text) <= length else text[: length - 1] + "…"
