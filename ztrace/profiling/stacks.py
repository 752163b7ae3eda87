"""Stacks of code, by numbers, as the sampler has seen them since its profile began.

One idea: a stack is known by the identities of its code objects, which takes a third of the time that their
contents take. The table keeps the objects alive, because Python gives the identity of a dead one to the next,
and lives no longer than a profile.
"""

from collections.abc import Iterable
from types import CodeType, FrameType
from typing import NamedTuple

#: Number of a stack that is unknown.
UNKNOWN = 0
#: Innermost frames kept of a stack.
MAX_DEPTH = 128
#: Characters kept of a file's and a function's name.
MAX_TEXT = 256


class Location(NamedTuple):
    """Line of code in a stack.

    Attributes:
        file: file name of the code.
        function: qualified name.
        line: line number, from 1; 0 if it is unknown.
    """

    file: str
    function: str
    line: int


class Stacks:
    """Table of stacks.

    Attributes:
        frames: frames of all stacks, a bound of the table's size.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._numbers: dict[tuple[int, ...], int] = {}
        #: Code objects and positions in their bytecode, innermost first; the number is the place.
        self._stacks: list[tuple[list[CodeType], list[int]]] = [([], [])]
        self._locations: dict[tuple[int, int], Location] = {}

    def add(self, frame: FrameType | None, outermost: FrameType | None = None) -> int:
        """Return the number of the stack whose innermost frame is given.

        Args:
            frame: innermost frame.
            outermost: frame with which the stack ends; None for the end of the thread's stack.
        """
        codes: list[CodeType] = []
        places: list[int] = []
        left = MAX_DEPTH
        while frame is not None and left:
            codes.append(frame.f_code)
            places.append(frame.f_lasti)
            if frame is outermost:
                break
            frame = frame.f_back
            left -= 1
        return self.number(codes, places)

    def add_frames(self, frames: Iterable[FrameType]) -> int:
        """Return the number of a stack of frames that are not linked, innermost first."""
        codes: list[CodeType] = []
        places: list[int] = []
        for frame in frames:
            codes.append(frame.f_code)
            places.append(frame.f_lasti)
        return self.number(codes[:MAX_DEPTH], places[:MAX_DEPTH])

    def number(self, codes: list[CodeType], places: list[int]) -> int:
        """Return the number of a stack, innermost code first; UNKNOWN if it is empty."""
        key = (*map(id, codes), *places)
        number = self._numbers.get(key)
        if number is None:
            if not codes:
                return UNKNOWN
            number = self._numbers[key] = len(self._stacks)
            self._stacks.append((codes, places))
            self.frames += len(codes)
        return number

    def locate(self, number: int) -> list[Location]:
        """Return the lines of a stack, outermost first."""
        codes, places = self._stacks[number]
        return [self._locate(*at) for at in zip(reversed(codes), reversed(places), strict=True)]

    def _locate(self, code: CodeType, place: int) -> Location:
        key = id(code), place
        location = self._locations.get(key)
        if location is None:
            location = self._locations[key] = Location(
                fit(code.co_filename), fit(code.co_qualname), _find_line(code, place)
            )
        return location


def fit(text: str) -> str:
    """Return a text truncated and in UTF-8, which names of code need not be in."""
    return text[:MAX_TEXT].encode("utf-8", "replace").decode("utf-8")


def _find_line(code: CodeType, place: int) -> int:
    """Return the line of a position in bytecode; the code's first one where there is none."""
    for start, end, line in code.co_lines():
        if start <= place < end and line is not None:
            return line
    return max(0, code.co_firstlineno)
