"""JSON values one after another in a file, read in chunks.

One idea: a value ends where its JSON ends, so lines, documents of many lines and documents without anything
between them are read alike. A line that is broken costs itself, if the values before it had lines of their
own.
"""

import io
import json
import re
from typing import Any, cast

from ztrace_collector.otlp.mapping.json_form import read_integer

#: Bytes read at a time.
CHUNK = 1 << 18
#: Characters in which a pattern has to match.
LOOKAHEAD = 128
#: Lines that a broken line can seem to have: the parser may notice only in the second line after it.
BROKEN_LINES = 2

_BLANK = re.compile(r"[\s\ufeff\x1e]*")
_BETWEEN = re.compile(r"[\s,]*")
_COMMENT = re.compile(r"#|//")


class Broken(Exception):
    """Text that is not JSON.

    Attributes:
        line: line of the mistake.
        what: description of the mistake.
    """

    def __init__(self, line: int, what: str) -> None:
        super().__init__(f"line {line}: {what}")
        self.line = line
        self.what = what


class JsonStream:
    """Text of JSON values.

    Attributes:
        line: number of the line at which the next value starts.
    """

    def __init__(self, stream: io.BufferedIOBase, encoding: str) -> None:
        """Read a stream from its position; `detach` leaves it open."""
        self.line = 1
        # Bytes that are not of the encoding become lone surrogates, which readers replace and count.
        self._text = io.TextIOWrapper(cast("io.BytesIO", stream), encoding, "surrogateescape", newline="")
        self._decoder = json.JSONDecoder(parse_int=read_integer)
        self._buffer = ""
        self._at = 0
        self._is_all = False

    def detach(self) -> None:
        """Leave the stream to its owner, who may have closed it after an interrupt."""
        if not self._text.closed:
            self._text.detach()

    def is_at_end(self) -> bool:
        """Skip blanks and marks, and return whether nothing follows."""
        return self._skip(_BLANK)

    def skip_comment(self) -> bool:
        """Skip a line that is a comment; return whether there was one."""
        if not self.starts_with(_COMMENT):
            return False
        self.skip_line()
        return True

    def skip_line(self) -> None:
        """Skip the rest of the line."""
        while (end := self._buffer.find("\n", self._at)) < 0 and self._more():
            pass
        self._move(end if end >= 0 else len(self._buffer))

    def starts_with(self, pattern: re.Pattern[str]) -> bool:
        """Return whether the text at the position matches, and if so continue behind the match."""
        while len(self._buffer) - self._at < LOOKAHEAD and self._more():
            pass
        match = pattern.match(self._buffer, self._at)
        if match:
            self._move(match.end())
        return match is not None

    def next_element(self) -> bool:
        """Skip to the next element of a list; at its end, continue behind it, and return False."""
        if self._skip(_BETWEEN) or self._buffer[self._at] != "]":
            return True
        self._move(self._at + 1)
        return False

    def end_object(self) -> None:
        """Read the rest of the object that the list was in; one that is cut off there has lost nothing."""
        self._buffer, self._at = '{"":0' + self._buffer[self._at :], 0
        try:
            self.value()
        except Broken:
            self._move(len(self._buffer))
            self._is_all = True

    def value(self) -> Any:
        """Read the value at the position, and continue behind it.

        Raises:
            Broken: the text there is not JSON; the position is unchanged.
        """
        while True:
            try:
                content, end = self._decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                # Twice as much each time, so parsing again takes no longer than parsing once.
                if _may_go_on(error) and self._more(len(self._buffer) - self._at):
                    continue
                line = self.line + self._buffer.count("\n", self._at, error.pos)
                what = f"is not JSON: {error.msg.removesuffix(' at')} at column {error.colno}"
                raise Broken(line, what) from None
            except RecursionError:
                raise Broken(self.line, "is nested too deeply") from None
            if end == len(self._buffer) and not isinstance(content, (dict, list, str)) and self._more():
                continue  # The digits of a number may go on.
            self._move(end)
            return content

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        """Skip what matches; return whether the text has ended."""
        while True:
            match = pattern.match(self._buffer, self._at)
            if match is not None:
                self._move(match.end())
            if self._at < len(self._buffer):
                return False
            if not self._more():
                return True

    def _move(self, end: int) -> None:
        self.line += self._buffer.count("\n", self._at, end)
        self._at = end

    def _more(self, size: int = 0) -> bool:
        """Read more text; return whether there was any."""
        if self._is_all:
            return False
        try:
            text = self._text.read(max(CHUNK, size))
        except UnicodeDecodeError as error:
            raise Broken(self.line, f"is not text: {error.reason}") from None
        self._is_all = not text
        self._buffer = self._buffer[self._at :] + text
        self._at = 0
        return bool(text)


def _may_go_on(error: json.JSONDecodeError) -> bool:
    """Return whether an error may be due to the end of the text read so far."""
    # The text may end within a word or an escape.
    return error.pos >= len(error.doc) - 16 or error.msg.startswith("Unterminated string")
