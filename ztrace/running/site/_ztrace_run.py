"""Start-up hook of a program under ``ztrace-run``: traces it from its first import of a traced library on.

One idea: until then nothing of ztrace is imported, and no module but ``sys`` and ``os``, so that the start of
a program that uses none of the libraries takes as long as before. Children inherit the variables, and so the
hook.
"""

import os
import sys

TYPE_CHECKING = False  # `typing` takes longer to import than all that is done here.
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from ztrace.middleware.importing import Finder


class _Trigger:
    """Finder in front of all others that finds nothing, and sees the first import of a traced library."""

    def __init__(self, modules: "Iterable[str]") -> None:
        self._modules = frozenset(modules)

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        """Start tracing if the module is a traced library; the other finders then find it."""
        if name not in self._modules:
            return None
        try:
            sys.meta_path.remove(self)
        except ValueError:  # Another thread has come first.
            return None
        if name == "ztrace":
            return _configure_after_import(path, target)
        finder = _start()
        # The import that is under way asks no finder that has just been put in front.
        return None if finder is None else finder.find_spec(name, path, target)


def _configure_after_import(path: "Sequence[str] | None", target: "ModuleType | None") -> "ModuleSpec | None":
    """Return ztrace's own spec, with a loader that also starts tracing."""
    specs = (finder.find_spec("ztrace", path, target) for finder in list(sys.meta_path))
    spec = next((spec for spec in specs if spec is not None), None)
    if spec is None or spec.loader is None:
        return spec
    loader, original = spec.loader, spec.loader.exec_module

    def exec_module(module: "ModuleType") -> None:
        del vars(loader)["exec_module"]
        original(module)
        _start()

    vars(loader)["exec_module"] = exec_module
    return spec


def _start() -> "Finder | None":
    """Configure ztrace and instrument all libraries; return the finder that patches them."""
    try:
        import ztrace
        from ztrace.middleware.importing import patching_finder
    except ImportError as error:
        sys.stderr.write(
            f"ztrace-run: not tracing: {sys.executable} has no ztrace ({error}); install it there\n"
        )
        return None
    ztrace.configure()
    ztrace.instrument()
    return patching_finder


if os.environ.get("ZTRACE_RUN") and os.environ.get("ZTRACE_RUN_MODULES"):
    sys.meta_path.insert(0, _Trigger(os.environ["ZTRACE_RUN_MODULES"].split(",")))
