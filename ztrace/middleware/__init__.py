"""Middleware for RPC libraries and servers, one module or folder for each.

Each has an ``install`` that patches its library once, for existing and for future clients and servers;
`ztrace.libraries` lists them.
"""

from importlib import import_module
from importlib.util import find_spec

from ztrace import diagnostics
from ztrace.libraries import LIBRARIES


def instrument(*libraries: str) -> None:
    """Trace calls made through the named libraries, by default through every supported library installed.

    May be called before or after `configure`, and repeatedly.

    Args:
        libraries: names from `ztrace.libraries.LIBRARIES`.
    """
    for name in libraries or LIBRARIES:
        try:
            row = LIBRARIES.get(name)
            if row is None:
                diagnostics.warn(f"cannot trace {name!r}: supported are {', '.join(sorted(LIBRARIES))}")
            elif find_spec(row.needs) is None:
                if libraries:
                    diagnostics.warn(f"cannot trace {name!r}: it is not installed")
            else:
                for each in (name, *row.together):
                    import_module(LIBRARIES[each].middleware).install()
        except Exception:
            diagnostics.count_failure("instrument")
