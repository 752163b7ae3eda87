"""Loads the hook of ``ztrace-run``, and then the ``sitecustomize`` that Python would have run without it."""

import os
import sys

_folder = os.path.dirname(os.path.abspath(__file__))

import _ztrace_run  # type: ignore[import-not-found]  # noqa: E402, F401

sys.path[:] = [path for path in sys.path if os.path.abspath(path) != _folder]
_own = sys.modules.pop("sitecustomize")
try:
    import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "sitecustomize":
        raise
finally:
    # Python looks the module up when it has run, so there has to be one.
    sys.modules.setdefault("sitecustomize", _own)
