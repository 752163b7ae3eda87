"""A profile in columns, for the page.

One idea: the page draws every path and lists the first ones, so each path is a number below that of its
caller, and only those listed have all their figures. 50,000 paths are 2 MB in place of 40.
"""

from typing import TypedDict

from ztrace_viewer.documents.profile import PathProfile, PathStep, ProfileDocument, Stack

#: Paths that are listed.
LISTED = 200


class CodeOfMethod(PathStep):
    """Sampled code of a method, over all its paths."""

    stacks: list[Stack]


class ProfileColumns(TypedDict):
    """``/data/profile?columns=1``: a profile in columns; row 0 is above the roots.

    Of each row: the row of its caller, which comes before it, the place of its last call in ``calls`` (place
    of the service in ``services``, name and kind), and own and critical time in nanoseconds. ``paths`` are
    the first ones in full, without code; ``code`` has the code of methods.
    """

    traces: int
    p50_ns: int | None
    p95_ns: int | None
    unsettled_spans: int
    paths: list[PathProfile]
    code: list[CodeOfMethod]
    services: list[str]
    calls: list[tuple[int, str, str]]
    caller: list[int]
    call: list[int]
    own: list[int]
    critical: list[int]


def make_profile_columns(profile: ProfileDocument) -> ProfileColumns:
    """Return a profile in columns."""
    services: dict[str, int] = {}
    calls: dict[tuple[int, str, str], int] = {(services.setdefault("", 0), "", ""): 0}
    rows: dict[tuple[int, int], int] = {}
    columns: ProfileColumns = {
        "traces": profile["traces"],
        "p50_ns": profile["p50_ns"],
        "p95_ns": profile["p95_ns"],
        "unsettled_spans": profile["unsettled_spans"],
        "paths": [{**path, "stacks": []} for path in profile["paths"][:LISTED]],
        "code": _list_code(profile),
        "services": [],
        "calls": [],
        "caller": [0],
        "call": [0],
        "own": [0],
        "critical": [0],
    }
    for path in profile["paths"]:
        row = 0
        for step in path["path"]:
            service = services.setdefault(step["service"], len(services))
            call = calls.setdefault((service, step["name"], step["kind"]), len(calls))
            caller, row = row, rows.setdefault((row, call), len(rows) + 1)
            if row == len(columns["call"]):
                columns["caller"].append(caller)
                columns["call"].append(call)
                columns["own"].append(0)
                columns["critical"].append(0)
        columns["own"][row] += path["self_ns"]
        columns["critical"][row] += path["critical_ns"]
    return {**columns, "services": list(services), "calls": list(calls)}


def _list_code(profile: ProfileDocument) -> list[CodeOfMethod]:
    """Return the code of methods, once for each, since samples know the method alone."""
    code: dict[tuple[str, str, str], CodeOfMethod] = {}
    for path in profile["paths"]:
        last = path["path"][-1]
        key = last["service"], last["name"], last["kind"]
        if path["stacks"] and key not in code:
            code[key] = {**last, "stacks": path["stacks"]}
    return list(code.values())
