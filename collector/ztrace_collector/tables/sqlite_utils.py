"""sqlite-utils without pandas and numpy.

One idea: sqlite-utils imports both where they are installed, for their types. The collector has none of them,
and the two would cost each of its processes 90 MB of memory and 0.4 s at its start.
"""

import sys

_HEAVY = [name for name in ("pandas", "numpy") if name not in sys.modules]
# None makes an import fail as if the package were not installed.
sys.modules.update(dict.fromkeys(_HEAVY))  # type: ignore[arg-type]
try:
    from sqlite_utils import Database, Migrations
finally:
    for _name in _HEAVY:
        del sys.modules[_name]

__all__ = ["Database", "Migrations"]
