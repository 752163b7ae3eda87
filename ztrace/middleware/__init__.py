"""Middleware for the servers and libraries people already run, one file each.

Each module has an ``install`` that patches its library once, for the contexts that exist and those to come.
"""

from importlib import import_module
from importlib.util import find_spec

from ztrace import diagnostics
from ztrace.libraries import LIBRARIES


def instrument(*libraries: str) -> None:
    """Trace calls through the named libraries; without a name, through every supported one installed.

    May be called before or after `configure`, and more than once.

    Args:
        libraries: names from `ztrace.libraries.LIBRARIES`.
    """
    for library in libraries or LIBRARIES:
        try:
            if library not in LIBRARIES:
                diagnostics.warn(f"cannot trace {library!r}: supported are {', '.join(sorted(LIBRARIES))}")
            elif find_spec(library) is None:
                if libraries:
                    diagnostics.warn(f"cannot trace {library!r}: it is not installed")
            else:
                import_module(LIBRARIES[library].middleware).install()
        except Exception:
            diagnostics.count_failure("instrument")
