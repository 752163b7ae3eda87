"""Profiles as chains of boxes with their time, for pictures and programs that draw flame graphs.

One idea: the time of a path is its critical time, so that calls side by side do not add up to more than their
root. Where the method's code was sampled, this time is divided in proportion to its stacks, which are those
of the method over all paths; a box between method and code says so.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ztrace_viewer.documents.profile import PathProfile, PathStep, ProfileDocument, Stack
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.screen import name_call

#: Boxes above the code of each state.
STATES = {
    "run": "(runs, over all paths)",
    "wait": "(waits, over all paths)",
    "wait_busy": "(waits while other code runs, over all paths)",
}


class Box(NamedTuple):
    """A call, a state, or a line of code.

    Attributes:
        name: display name.
        service: of a call; else empty.
        file: of a line of code; else empty.
        line: of a line of code; else 0.
    """

    name: str
    service: str = ""
    file: str = ""
    line: int = 0


class Chain(NamedTuple):
    """Boxes from the outermost on, and the time of the last one itself.

    Attributes:
        path: the path, of which the first boxes are the steps.
        state: of the code; empty for a path without code.
    """

    path: PathProfile
    boxes: list[Box]
    ns: int
    state: str


def make_chains(document: ProfileDocument) -> Iterator[Chain]:
    """Yield the chains of each path; their times add up to its critical time."""
    for path in document["paths"]:
        whole_ns = path["critical_ns"]
        if not whole_ns:
            continue
        calls = [Box(name_step(step), step["service"]) for step in path["path"]]
        stacks = path["stacks"]
        if not stacks:
            yield Chain(path, calls, whole_ns, "")
        for stack, ns in zip(stacks, _divide(whole_ns, stacks), strict=True):
            if ns:
                code = [
                    Box(clean(frame["function"]), "", clean(frame["file"]), frame["line"])
                    for frame in stack["frames"]
                ]
                state = Box(STATES[stack["state"]])
                yield Chain(path, [*calls, state, *code], ns, stack["state"])


def name_step(step: PathStep) -> str:
    """Return the display name of a call on a path."""
    return name_call(step["service"], step["name"], step["kind"]) if step["service"] else clean(step["name"])


def _divide(whole_ns: int, stacks: Sequence[Stack]) -> Iterator[int]:
    """Yield the part of a time for each stack; the parts add up to the time exactly."""
    sampled_ns = sum(stack["ns"] for stack in stacks)
    seen_ns = given_ns = 0
    for stack in stacks:
        seen_ns += stack["ns"]
        until_ns = whole_ns * seen_ns // sampled_ns
        yield until_ns - given_ns
        given_ns = until_ns
