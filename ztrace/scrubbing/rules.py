"""Removal of secrets from spans before they leave the process, by name and by form.

One idea: a batch is searched as a whole. Most names and texts are known to be harmless from earlier batches;
the others are joined and searched for a few words at once. Only spans with a finding are processed singly.

Rules do not change once made; their caches are bounded, and not shared.
"""

import re
from collections.abc import Collection, Sequence
from typing import Any

from ztrace import diagnostics
from ztrace.errors import SettingsError, quote
from ztrace.records import MAX_CODE, ExceptionRecord, FrameRecord
from ztrace.scrubbing.calls import scrub_calls
from ztrace.scrubbing.literals import scrub_line
from ztrace.scrubbing.names import Names
from ztrace.scrubbing.pairs import SCRUBBED, SIGNS, scrub_pairs
from ztrace.scrubbing.tokens import CUT_MARK, KINDS, Kind

#: Reason under which scrubbed values are counted.
REASON = "scrubbed"

#: Harmless texts cached, and their greatest length: at most 1 MiB together.
_MAX_KNOWN, _MAX_KNOWN_TEXT = 4096, 256
#: Length from which bytes may be truncated: `ztrace.publishing.values.MAX_TEXT`.
MAX_BYTES = 4096


class Rules:
    """Rules that define secrets; `make_rules` makes them."""

    def __init__(self, keys: Sequence[str] = (), values: Sequence[re.Pattern[str]] = ()) -> None:
        self._names = Names(keys)
        self._further = tuple(values)
        pairs = Kind((SIGNS, self._names.stems), self._scrub_pairs)
        calls = Kind((("(", "["), ("'", '"'), self._names.stems), self._scrub_calls)
        self._kinds = (*KINDS, calls, pairs)
        self._code_kinds = (
            *KINDS,
            calls._replace(scrub=self._scrub_called_literals),
            pairs._replace(scrub=self._scrub_literals),
        )
        self._known: set[str] = set()
        self._known_code: dict[str, str] = {}
        #: Frame records without a secret by address; they are kept alive, and the agent shares one per frame.
        self._known_frames: dict[int, Sequence[Any]] = {}

    def find_names(self, names: Collection[str]) -> set[str]:
        """Return the names whose values are secret."""
        return {name for name in names if self._names.are_secret(name)}

    def find_texts(self, texts: Collection[str]) -> dict[str, str]:
        """Return the texts that contain a secret, with their replacements."""
        fresh = [text for text in texts if text not in self._known] if self._known else list(texts)
        if not fresh:
            return {}
        lowered = "\n".join(fresh).lower()
        kinds = [kind for kind in self._kinds if kind.may_be_in(lowered)]
        found = {}
        if kinds or self._further:
            for text in fresh:
                clean = self._scrub(text, kinds)
                if clean != text:
                    found[text] = clean
        if len(self._known) + len(fresh) > _MAX_KNOWN:
            self._known.intersection_update(texts)  # Keep texts that every batch repeats.
        self._remember([text for text in fresh if text not in found])
        return found

    def scrub(self, text: str) -> str:
        """Return a text without secrets, and count it if it had any."""
        if text in self._known:
            return text
        clean = self._scrub(text, self._kinds)
        if clean == text:
            self._remember([text])
            return text
        diagnostics.count(REASON)
        return clean

    def scrub_code(self, line: str) -> str:
        """Return a line of Python without the secrets in its literals, texts and comment."""
        clean = self._known_code.get(line)
        if clean is None:
            # A truncated line has no ellipsis.
            text = line if len(line) < MAX_CODE else line + CUT_MARK
            clean = scrub_line(
                text,
                lambda part: self._scrub(part, self._kinds),
                lambda whole: self._scrub(whole, self._code_kinds),
            )
            clean = clean if text is line else clean.removesuffix(CUT_MARK)
            if len(self._known_code) >= _MAX_KNOWN:
                self._known_code.clear()
            self._known_code[line] = clean
        if clean != line:
            diagnostics.count(REASON)
        return clean

    def scrub_attributes(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Return attributes without secrets; keys and values have the types of `ztrace.records.Span`."""
        return {
            self._scrub_name(name): self._scrub_value(
                value, type(name) is str and self._names.are_secret(name)
            )
            for name, value in attributes.items()
        }

    def knows_frames(self, exception: Sequence[Any]) -> bool:
        """Return whether an exception has no texts but its message and frames known to be harmless."""
        record = ExceptionRecord(*exception)
        if record.causes or record.notes or record.members:
            return False
        return all(map(self._known_frames.__contains__, map(id, record.frames)))

    def scrub_exception(self, exception: Sequence[Any]) -> ExceptionRecord:
        """Return an exception without secrets in texts, source lines, causes and members."""
        record = ExceptionRecord(*exception)
        return record._replace(
            message=self.scrub(str.__str__(record.message)),
            frames=[self._scrub_frame(frame) for frame in record.frames],
            causes=[self.scrub_exception(cause) for cause in record.causes],
            notes=[self.scrub(str.__str__(note)) for note in record.notes],
            members=[self.scrub_exception(member) for member in record.members],
        )

    def _scrub_frame(self, fields: Sequence[Any]) -> Sequence[Any]:
        if id(fields) in self._known_frames:
            return fields
        frame = FrameRecord(*fields)
        clean = self.scrub_code(str.__str__(frame.code))
        is_agents = type(fields) is FrameRecord and type(frame.code) is str  # Never changed later.
        if is_agents and clean == frame.code and frame.locals is None:
            if len(self._known_frames) >= _MAX_KNOWN:
                self._known_frames.clear()
            self._known_frames[id(fields)] = fields
        return frame._replace(code=clean, locals=frame.locals and self.scrub_attributes(frame.locals))

    def _scrub_name(self, name: Any) -> Any:
        return self.scrub(name) if type(name) is str else name

    def _scrub_value(self, value: Any, is_secret: bool, depth: int = 0) -> Any:
        if value is None or value is True or value is False:
            return value  # Reveals at most that there is a secret.
        if is_secret:
            diagnostics.count(REASON)
            return SCRUBBED
        if type(value) is str:
            return self.scrub(value)
        if type(value) is bytes:
            # Each byte is one character, so the patterns apply. Truncated bytes have no ellipsis.
            text = value.decode("latin-1") + CUT_MARK * (len(value) >= MAX_BYTES)
            clean = self.scrub(text)
            return value if clean is text else clean.removesuffix(CUT_MARK).encode("latin-1")
        if type(value) is list:
            return self._scrub_items(value, depth)
        if type(value) is dict:
            return self.scrub_attributes(value)
        return value

    def _scrub_items(self, items: list[Any], depth: int) -> list[Any]:
        """Scrub each item; the item after ``--password`` and the second of a header's pair are secrets."""
        before = [None, *items]
        return [
            self._scrub_value(item, self._announces(name, depth == 1 and len(items) == 2), depth + 1)
            for name, item in zip(before, items, strict=False)
        ]

    def _announces(self, name: Any, is_pair: bool) -> bool:
        if type(name) is bytes:
            name = name.decode("latin-1")
        return (
            type(name) is str
            and (is_pair or (name[:2] == "--" and "=" not in name))
            and self._names.are_secret(name)
        )

    def _scrub(self, text: str, kinds: Sequence[Kind]) -> str:
        lowered = text.lower()
        for kind in kinds:
            if kind.may_be_in(lowered):
                text = kind.scrub(text)
        for pattern in self._further:
            text = pattern.sub(SCRUBBED, text)
        return text

    def _remember(self, innocent: Sequence[str]) -> None:
        if len(self._known) + len(innocent) > _MAX_KNOWN:
            self._known.clear()
        self._known.update(text for text in innocent[:_MAX_KNOWN] if len(text) <= _MAX_KNOWN_TEXT)

    def _scrub_pairs(self, text: str) -> str:
        return scrub_pairs(text, self._names.are_secret)

    def _scrub_calls(self, text: str) -> str:
        return scrub_calls(text, self._names.are_secret)

    def _scrub_called_literals(self, text: str) -> str:
        return scrub_calls(text, self._names.are_secret, literals=True)

    def _scrub_literals(self, text: str) -> str:
        return scrub_pairs(text, self._names.are_secret, literals=True)


#: Default rules of a process.
DEFAULT_RULES = Rules()


def make_rules(keys: Sequence[str] = (), values: Sequence[str] = (), enabled: bool = True) -> Rules | None:
    """Return the rules of a process.

    Args:
        keys: further names of secrets, in any spelling: ``customer_number``, ``customerNumber``.
        values: further regular expressions, whose matches are replaced in all texts.
        enabled: whether to scrub.

    Returns:
        None if scrubbing is disabled.

    Raises:
        SettingsError: an expression is invalid.
    """
    if not enabled:
        return None
    if not keys and not values:
        return DEFAULT_RULES
    return Rules(keys, [_compile(value) for value in values])


def _compile(value: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(value)
    except (re.error, RecursionError, OverflowError) as error:
        raise SettingsError(
            f"cannot scrub by {quote(value)}: {error}", hint="give a regular expression of Python's re"
        ) from error
    if pattern.match("") is not None:
        raise SettingsError(
            f"cannot scrub by {quote(value)}: it matches the empty text",
            hint="give one that needs a character",
        )
    return pattern
