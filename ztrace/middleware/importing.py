"""Patching of libraries when the program imports them, so that ztrace itself imports none.

One idea: a finder in front of ``sys.meta_path`` finds nothing itself. It asks the finders behind it, and
shadows ``exec_module`` of the loader that they return with a function that removes itself, runs the original
and then calls back. The module's loader and spec are the same objects as without ztrace.

`importlib.abc` and `importlib.util` are not imported: they take longer than all of the agent.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ztrace import diagnostics

#: Callbacks by the name of the module after whose import they are called, once each.
_waiting: dict[str, list[Callable[[], None]]] = {}
#: Modules whose code has run, though the import system still has them as being initialized.
_loaded: set[str] = set()


def call_when_imported(module: str, callback: Callable[[], None]) -> None:
    """Call back when a module has been imported: now, if it has been, or else after its import.

    Exceptions of the callback are counted and do not reach the program.
    """
    if is_imported(module):
        _call(callback)
        return
    callbacks = _waiting.setdefault(module, [])
    if callback not in callbacks:
        callbacks.append(callback)
    if patching_finder not in sys.meta_path:
        sys.meta_path.insert(0, patching_finder)


def is_imported(name: str) -> bool:
    """Return whether a module is loaded, and not still running its code."""
    if name in _loaded:
        return True
    module = sys.modules.get(name)
    return module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False)


def _call(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception:
        diagnostics.contain("instrument")


class Finder:
    """Finder of the modules that callbacks wait for; it leaves all finding to the finders behind it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec that the finders behind find, with a loader that calls back after its module."""
        if name not in _waiting:
            return None
        spec = _find_behind(name, path, target)
        if spec is not None and spec.loader is not None:
            _shadow(spec.loader, name)
        return spec


#: The finder that stands in ``sys.meta_path`` from the first wait on.
patching_finder = Finder()


def _find_behind(name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
    for finder in list(sys.meta_path):
        if finder is patching_finder:
            continue
        spec = finder.find_spec(name, path, target)
        if spec is not None:
            return spec
    return None


def _shadow(loader: Any, name: str) -> None:
    """Call back after a loader has run its module."""
    try:
        original = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            loader.__dict__.pop("exec_module", None)
            original(module)
            _loaded.add(name)
            for callback in _waiting.pop(name, ()):
                _call(callback)

        loader.__dict__["exec_module"] = exec_module
    except (AttributeError, TypeError):  # A class that serves as a loader, as of frozen modules.
        diagnostics.contain("instrument")
