"""Text that came over the wire, made fit to be stored.

One idea: what is stored is always valid Unicode of a bounded length, whatever bytes were sent.
"""


def is_whole(text: str) -> bool:
    """Tell whether SQLite can store the text: it has no lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def mended(text: str) -> str:
    """Return the text with each lone surrogate, and so each byte that is not UTF-8, replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def cut(text: str, length: int) -> str:
    """Return the text at most this long, the last character saying that it was longer."""
    return text if len(text) <= length else text[: length - 1] + "…"
