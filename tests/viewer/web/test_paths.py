"""A profile in columns: every path is a row below that of its caller, with the same times."""

from ztrace_viewer.documents.profile import PathProfile, ProfileDocument, Stack
from ztrace_viewer.web.paths import LISTED, make_profile_columns

STACK: Stack = {"frames": [], "state": "run", "ns": 5}


def path(names: str, self_ns: int, critical_ns: int, stacks: tuple[Stack, ...] = ()) -> PathProfile:
    """Return the figures of a path; each letter is a call, in upper case of another service."""
    return {
        "path": [{"service": find_service(name), "name": name, "kind": "server"} for name in names],
        "root_calls": 3,
        "root_ns": 100,
        "calls": 3,
        "errors": 0,
        "total_ns": 10,
        "self_ns": self_ns,
        "critical_ns": critical_ns,
        "p50_ns": 1,
        "p95_ns": 2,
        "run_share": None,
        "wait_share": None,
        "stacks": [*stacks],
    }


def find_service(name: str) -> str:
    """Return the service of a call."""
    return "shop" if name.islower() else "bank"


def make(*paths: PathProfile) -> ProfileDocument:
    """Return a profile of paths."""
    return {
        "traces": 3,
        "p50_ns": 1,
        "p95_ns": 2,
        "unsettled_spans": 4,
        "late_spans": 0,
        "left_out": 0,
        "paths": [*paths],
        "uncounted": [],
    }


def test_each_path_is_a_row() -> None:
    """Rows have the calls and times of their paths, in any order; a caller that is not listed has 0."""
    paths = path("aBc", 7, 5), path("a", 1, 2), path("ad", 3, 0), path("xB", 8, 9)
    columns = make_profile_columns(make(*paths))
    found = {}
    for row in range(1, len(columns["call"])):
        names, at = "", row
        while at:
            service, name, kind = columns["calls"][columns["call"][at]]
            assert (columns["services"][service], kind) == (find_service(name), "server")
            assert columns["caller"][at] < at
            names, at = name + names, columns["caller"][at]
        found[names] = columns["own"][row], columns["critical"][row]
    assert found == {"aBc": (7, 5), "aB": (0, 0), "a": (1, 2), "ad": (3, 0), "x": (0, 0), "xB": (8, 9)}
    assert (columns["own"][0], columns["critical"][0]) == (0, 0)
    assert columns["services"].count("shop") == 1


def test_the_first_paths_are_listed_and_code_comes_once() -> None:
    """Only the first paths have all their figures, and the code of a method is beside them, once."""
    many = [path(f"a{chr(0x4E00 + number)}", 1, 1) for number in range(LISTED + 5)]
    columns = make_profile_columns(make(path("ab", 1, 1, (STACK,)), path("xb", 1, 1, (STACK,)), *many))
    assert len(columns["paths"]) == LISTED
    assert all(each["stacks"] == [] for each in columns["paths"])
    assert columns["code"] == [{"service": "shop", "name": "b", "kind": "server", "stacks": [STACK]}]
    assert len(columns["call"]) == LISTED + 5 + 5


def test_a_profile_without_paths_has_the_row_above_the_roots() -> None:
    """An empty profile has one row, which is above the roots."""
    columns = make_profile_columns(make())
    assert (columns["caller"], columns["call"], columns["paths"]) == ([0], [0], [])
