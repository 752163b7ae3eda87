"""Patching of libraries when the program imports them, in programs of their own."""

from pathlib import Path

import pytest

from tests.ztrace.programs import run_script

pytestmark = pytest.mark.process

START = """
import sys
from ztrace import diagnostics
from ztrace.middleware.importing import call_when_imported
seen = []
"""


def run(folder: Path, code: str, **modules: str) -> str:
    """Run a script beside modules with the given sources, and return its output."""
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    return run_script(folder / "program.py", START + code).stdout


def test_instrumenting_imports_no_library(tmp_path: Path) -> None:
    """`instrument` loads none of the libraries, and they are patched when the program imports them."""
    out = run(
        tmp_path,
        """
before = set(sys.modules)
import ztrace
ztrace.instrument()
added = {name.partition(".")[0] for name in set(sys.modules) - before}
traced = {"zerorpc", "gevent", "zmq", "concurrent", "multiprocessing", "threading", "xmlrpc", "rpyc", "Pyro5"}
print(sorted(added & {*traced, "asyncio", "opentelemetry"}))
import concurrent.futures, multiprocessing.pool, threading, gevent.threadpool, zerorpc
print(hasattr(threading.Thread.start, "__wrapped__"))
print(hasattr(gevent.threadpool.ThreadPool.spawn, "__wrapped__"))
print(hasattr(concurrent.futures.ThreadPoolExecutor.submit, "__wrapped__"))
print(hasattr(multiprocessing.pool.ThreadPool.imap, "__wrapped__"))
print(hasattr(multiprocessing.pool.Pool.imap, "__wrapped__"), diagnostics.counts)
print(len(zerorpc.Context()._middlewares))
""",
    )
    assert out.splitlines() == ["[]", "True", "True", "True", "True", "True {}", "1"]


def test_a_module_is_as_without_the_hook(tmp_path: Path) -> None:
    """The callback runs once, after the module, whose loader and spec are those of the path finder."""
    out = run(
        tmp_path,
        """
call_when_imported("library", lambda: seen.append(sys.modules["library"].value))
call_when_imported("library", lambda: seen.append("second"))
import library
print(seen, type(library.__loader__).__name__, "exec_module" in vars(library.__loader__))
print(library.__spec__.loader is library.__loader__, library.__loader__.get_source("library"))
import importlib
importlib.reload(library)
call_when_imported("library", lambda: seen.append("at once"))
print(seen)
""",
        library="value = 1",
    )
    assert out.splitlines() == [
        "[1, 'second'] SourceFileLoader False",
        "True value = 1",
        "[1, 'second', 'at once']",
    ]


def test_an_import_that_fails_can_be_repeated(tmp_path: Path) -> None:
    """The module's own exception reaches the program, and the callback waits for the import that succeeds."""
    out = run(
        tmp_path,
        """
call_when_imported("library", lambda: seen.append("called"))
for _ in range(2):
    try:
        import library
    except ZeroDivisionError as error:
        print(type(error).__name__, seen)
    else:
        print(library.__name__, seen)
    sys.ready = True
try:
    call_when_imported("missing", seen.clear)
    import missing
except ModuleNotFoundError as error:
    print(error)
""",
        library="import sys\nif not hasattr(sys, 'ready'): 1 / 0\n",
    )
    assert out.splitlines() == [
        "ZeroDivisionError []",
        "library ['called']",
        "No module named 'missing'",
    ]


def test_a_callback_that_fails_is_counted(tmp_path: Path) -> None:
    """A defect of a middleware does not reach the program, nor keep other callbacks from running."""
    out = run(
        tmp_path,
        """
def fail(): raise AttributeError("the library has changed")
call_when_imported("library", fail)
call_when_imported("library", lambda: seen.append("called"))
import library
print(seen, diagnostics.counts)
""",
        library="",
    )
    assert out == "['called'] {'instrument': 1}\n"


def test_modules_may_import_each_other(tmp_path: Path) -> None:
    """Each of two modules that import one another is complete when its callback runs."""
    out = run(
        tmp_path,
        """
call_when_imported("first", lambda: seen.append(("first", sys.modules["first"].done)))
call_when_imported("second", lambda: seen.append(("second", sys.modules["second"].done)))
import first
print(seen)
""",
        first="import second\ndone = True\n",
        second="import first\ndone = True\n",
    )
    assert out == "[('second', True), ('first', True)]\n"


def test_packages_extensions_and_zip_files(tmp_path: Path) -> None:
    """A package, a submodule, an extension module and a module in a zip file are patched as well."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "inner.py").write_text("")
    out = run(
        tmp_path,
        """
import zipfile
with zipfile.ZipFile("zipped.zip", "w") as file:
    file.writestr("zipped.py", "value = 1")
sys.path.append("zipped.zip")
for name in ("package", "package.inner", "_lsprof", "zipped"):
    call_when_imported(name, lambda name=name: seen.append(name))
import package.inner, _lsprof, zipped
print(seen, diagnostics.counts)
""".replace('"zipped.zip"', repr(str(tmp_path / "zipped.zip"))),
    )
    assert out == "['package', 'package.inner', '_lsprof', 'zipped'] {}\n"
