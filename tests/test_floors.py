"""Floors of the three packages, and the imports between them.

The table below is the only place that orders the rooms. A room is a module or a folder directly within a
package. The imports of every module are read from its code, those for types and within functions included.
"""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "ztrace_viewer": ROOT / "viewer/ztrace_viewer",
    "ztrace_collector": ROOT / "collector/ztrace_collector",
    "ztrace": ROOT / "ztrace",
}

#: Rooms from the top floor of the viewer down to the lowest of the agent. A room imports from its own floor
#: and from those below; `__init__` is the package's own file.
FLOORS = (
    ("ztrace_viewer", "entry cli"),
    ("ztrace_viewer", "commands demo"),
    ("ztrace_viewer", "web events"),
    ("ztrace_viewer", "mcp read"),
    ("ztrace_viewer", "render export"),
    ("ztrace_viewer", "queries"),
    ("ztrace_viewer", "trees"),
    ("ztrace_viewer", "terminal documents json_text lifeline interrupts __init__"),
    ("ztrace_collector", "service"),
    ("ztrace_collector", "otlp receiving settling clickhouse"),
    ("ztrace_collector", "forwarding"),
    ("ztrace_collector", "storing"),
    ("ztrace_collector", "tables"),
    ("ztrace_collector", "sealing"),
    ("ztrace_collector", "checking"),
    ("ztrace_collector", "layout refusals files __init__"),
    ("ztrace", "rpc"),
    ("ztrace", "__init__ otel running"),
    ("ztrace", "agent"),
    ("ztrace", "middleware decorating logs"),
    ("ztrace", "spooling profiling"),
    ("ztrace", "publishing"),
    ("ztrace", "fused"),
    ("ztrace", "propagation spans"),
    ("ztrace", "exceptions lifecycle"),
    ("ztrace", "context process records scrubbing settings wire"),
    ("ztrace", "libraries addresses identifiers diagnostics interpreter native errors enrolment"),
)
LEVELS = {
    f"{package}.{room}": level for level, (package, rooms) in enumerate(FLOORS) for room in rooms.split()
}

#: Most modules directly within a package, `__init__` aside
MOST_LOOSE = {"ztrace": 16, "ztrace_collector": 4, "ztrace_viewer": 6}

#: Most lines of a module
MOST_LINES = 400

#: File of every module by the module's name; a folder's name stands for its `__init__`
MODULES = {
    ".".join((package, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__"): path
    for package, folder in PACKAGES.items()
    for path in sorted(folder.rglob("*.py"))
}


def read_imports(path: Path) -> set[str]:
    """Return the modules of the three packages that a file imports, wherever in its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in names}
    return found & set(MODULES)


IMPORTS = {name: read_imports(path) for name, path in MODULES.items()}


def room_of(module: str) -> str:
    """Return the room that a module is in, or is."""
    package, *inside = module.split(".")
    return f"{package}.{inside[0] if inside else '__init__'}"


def find_circle(imports: dict[str, set[str]]) -> list[str]:
    """Return the names along one circle of imports, or nothing where there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_room_has_a_floor() -> None:
    """The table has each room of the three packages, and no other."""
    assert set(LEVELS) == {room_of(module) for module in MODULES}


def test_no_import_runs_up_a_floor() -> None:
    """A module imports from the floor of its room and from those below."""
    upward = [
        f"{module} imports {target}"
        for module, targets in IMPORTS.items()
        for target in sorted(targets)
        if LEVELS[room_of(target)] < LEVELS[room_of(module)]
    ]
    assert upward == []


def test_no_modules_import_in_a_circle() -> None:
    """No module imports, directly or through others, a module that imports it."""
    assert find_circle(IMPORTS) == []


@pytest.mark.parametrize("depth", range(2, 1 + max(name.count(".") for name in MODULES)))
def test_no_folders_import_in_a_circle(depth: int) -> None:
    """There is no circle between rooms (depth 2), nor between the folders within a room."""
    imports: dict[str, set[str]] = {}
    for module, targets in IMPORTS.items():
        here, *there = (".".join(name.split(".")[:depth]) for name in (module, *targets))
        imports.setdefault(here, set()).update(set(there) - {here})
    assert find_circle(imports) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_few_modules_are_loose(package: str) -> None:
    """A package's folder lists rooms, and few single modules."""
    loose = {path.stem for path in PACKAGES[package].glob("*.py")} - {"__init__"}
    assert len(loose) <= MOST_LOOSE[package], sorted(loose)


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_short(module: str) -> None:
    """A module has one subject, and at most 400 lines."""
    assert len(MODULES[module].read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("module", [name for name, path in MODULES.items() if path.stem == "__init__"])
def test_folders_say_what_they_are_for(module: str) -> None:
    """A folder's `__init__` opens with a docstring of at least eight words."""
    docstring = ast.get_docstring(ast.parse(MODULES[module].read_text()))
    assert docstring is not None
    assert len(docstring.split()) >= 8
