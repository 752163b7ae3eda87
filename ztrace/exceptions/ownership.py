"""Distinction between the user's own code, libraries and ztrace itself.

One idea: code outside the folders of libraries is the user's own, and inside them the code of the
distribution that the process was started for: that of the console script, of the module that ``python -m``
runs, of the application that a server was given, or of the caller of `ztrace.configure`. Its packages are
read from its RECORD, once, when an exception first passes through a library.
"""

import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from types import ModuleType
from typing import Any

from ztrace.libraries import LAUNCHERS
from ztrace.native import monotonic

#: Bytes read of a script; installers write a few hundred.
_MAX_SCRIPT = 2048
#: Time limit of the search for a file's RECORD, for which the program waits.
_MAX_SEARCH_S = 0.1
#: Script written by an installer for an entry point, with the module that it imports.
_WRAPPER = rb"(?ms)^from ([\w.]+) import (\w+)$.*?^\s+sys\.exit\(\2\b"
#: Application in a server's arguments, and the options that introduce it.
_TARGET = r"([A-Za-z_][\w.]*)(:[\w.]+(\(.*\))?)?\Z"
_OPTIONS = ("-A", "-m", "--app", "--application", "--wsgi")
#: Environment variables that name a module of the application.
_VARIABLES = ("DJANGO_SETTINGS_MODULE", "FLASK_APP")
#: Options of uWSGI that name a module; the module ``uwsgi`` has their values.
_UWSGI_OPTIONS = ("module", "wsgi", "w")

_namespace_of = vars(ModuleType)["__dict__"].__get__
#: Class of ``__spec__``, obtained without an import.
_SPEC = type(sys.__spec__)

#: Module that called `ztrace.configure`, and its file; set by `ztrace.agent`.
_configuring: tuple[str, str] | None = None


@lru_cache(maxsize=4096)
def is_in_app(filename: str, module: str = "") -> bool:
    """Return whether code is the user's own.

    Args:
        filename: of the code. Compiled extensions have relative names, of the sources they were built from,
            and so has code imported from a relative path or out of an archive.
        module: ``__name__`` of the code, whose file decides if the file name is no absolute path.
    """
    if not os.path.isabs(filename):
        if filename.startswith("<frozen "):
            return False
        file = _file_of(module)
        return file is None or not os.path.isabs(file) or is_in_app(file)
    folder = _library_of(filename)
    if folder is None:
        return filename != _wrapper()[0]
    return any(_is_within(_name_at(filename, folder), package) for package in own_packages())


def note_configuring(namespace: dict[str, Any]) -> None:
    """Note the module that calls `ztrace.configure`: its distribution is the user's own."""
    global _configuring
    name, file = namespace.get("__name__"), namespace.get("__file__")
    if type(name) is str and type(file) is str and not _is_within(name, "ztrace"):
        _configuring = name, os.path.abspath(file)
    is_in_app.cache_clear()
    own_packages.cache_clear()


@lru_cache(maxsize=1)
def own_packages() -> tuple[str, ...]:
    """Return the dotted names of the installed packages that are the user's own."""
    found: set[str] = set()
    for name, file in _entries():
        folder = _library_of(file)
        if folder is not None and _library_folders()[folder]:
            found.add(_package_of(name))
            found.update(_packages_beside(file, folder))
    return tuple(sorted(found))


def _entries() -> Iterator[tuple[str, str]]:
    """Yield the modules for which the process was started, with their files."""
    main = _names_of("__main__")
    spec = main.get("__spec__")
    started, file = _wrapper()[1], main.get("__file__")
    if started:
        file = _file_of(started)
    elif spec is not None and type(spec) is _SPEC and type(spec.name) is str:
        started = spec.name
    elif type(file) is str and (folder := _library_of(file)) is not None:
        started = _name_at(file, folder)
    is_launched = started.partition(".")[0] in LAUNCHERS
    if started and type(file) is str and not is_launched:
        yield started, os.path.abspath(file)
    if _configuring is not None:
        yield _configuring
    if is_launched or "uwsgi" in sys.modules:
        for name in _launched():
            file = _file_of(name)
            if file is not None and name.partition(".")[0] not in LAUNCHERS:
                yield name, file


def _launched() -> Iterator[str]:
    """Yield possible module names from everything that can name a server's application."""
    import re  # Its import takes as long as that of the agent.

    told = [os.environ.get(variable, "") for variable in _VARIABLES]
    arguments = ["", "", *sys.orig_argv]
    for before, argument in pairwise(arguments):
        option, _, value = argument.partition("=")
        if option in _OPTIONS and value:
            told.append(value)
        elif before in _OPTIONS or ":" in argument or "." in argument:
            told.append(argument)
    if not arguments[-2].startswith("-"):
        told.append(arguments[-1])
    options = _names_of("uwsgi").get("opt")
    if type(options) is dict:
        given = [options.get(name) for name in _UWSGI_OPTIONS]
        told += [value.decode("utf-8", "replace") for value in given if type(value) is bytes]
    for text in told:
        if match := re.match(_TARGET, text):
            yield match[1]


@lru_cache(maxsize=1)
def _wrapper() -> tuple[str, str]:
    """Return the running script and its entry point's module if an installer wrote it, else empty texts."""
    main = _names_of("__main__")
    file = main.get("__file__")
    if type(file) is not str or main.get("__spec__") is not None:
        return "", ""
    import re  # Its import takes as long as that of the agent.

    try:
        with open(file, "rb") as script:
            text = script.read(_MAX_SCRIPT)
    except OSError:
        return "", ""
    match = re.search(_WRAPPER, text)
    return ("", "") if match is None else (file, match[1].decode("ascii", "replace"))


def _packages_beside(file: str, folder: str) -> Iterator[str]:
    """Yield the packages of the distribution that installed a file into a folder of libraries."""
    path = file.removeprefix(folder).replace(os.sep, "/")
    name = path.partition("/")[0].partition(".")[0].lower()
    try:
        infos = [entry.path for entry in os.scandir(folder) if entry.name.endswith(".dist-info")]
    except OSError:
        return
    # A distribution is usually named as its package.
    infos.sort(key=lambda info: not info.removeprefix(folder).lower().startswith(name))
    begun_s = monotonic()
    for info in infos:
        if monotonic() - begun_s > _MAX_SEARCH_S:
            return
        try:
            with open(os.path.join(info, "RECORD"), "rb") as record:
                text = record.read()
        except OSError:  # Packages of Linux distributions have none.
            continue
        if f"\n{path},".encode() in b"\n" + text:
            yield from _packages_of(text.decode("utf-8", "replace"))
            return


def _packages_of(record: str) -> Iterator[str]:
    """Yield the packages and modules in a RECORD, and for a namespace those inside it."""
    files = [line.partition(",")[0] for line in record.splitlines()]
    folders = {file.removesuffix("/__init__.py") for file in files if file.endswith("/__init__.py")}
    for file in files:
        *above, name = file.split("/")
        if not name.endswith((".py", ".so", ".pyd")) or ".." in above or "__pycache__" in above:
            continue
        parents = ("/".join(above[: depth + 1]) for depth in range(len(above)))
        package = next((parent for parent in parents if parent in folders), None)
        yield (package or "/".join((*above, name.partition(".")[0]))).replace("/", ".")


def _package_of(name: str) -> str:
    """Return the outermost package of a module that is no namespace package."""
    parts = name.split(".")
    for depth in range(1, len(parts)):
        package = ".".join(parts[:depth])
        if _file_of(package) is not None:
            return package
    return name


def _is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _name_at(file: str, folder: str) -> str:
    """Return the dotted name of the module in a file in a folder of libraries."""
    above, name = os.path.split(file.removeprefix(folder))
    return os.path.join(above, name.partition(".")[0]).replace(os.sep, ".").removesuffix(".__init__")


def _names_of(module: str) -> dict[str, Any]:
    """Return the namespace of a loaded module, without running the module's code."""
    loaded = sys.modules.get(module)
    names: dict[str, Any] = _namespace_of(loaded) if issubclass(type(loaded), ModuleType) else {}
    return names


def _file_of(module: str) -> str | None:
    file = _names_of(module).get("__file__")
    return file if type(file) is str else None


def _library_of(file: str) -> str | None:
    """Return the innermost folder of libraries that contains a file."""
    return next((folder for folder in _library_folders() if file.startswith(folder)), None)


@lru_cache(maxsize=1)
def _library_folders() -> dict[str, bool]:
    """Return the folders of libraries, innermost first, and whether distributions are installed there."""
    import sysconfig

    paths = sysconfig.get_paths()
    found = {paths["stdlib"]: False, paths["platstdlib"]: False}
    found |= dict.fromkeys((paths["purelib"], paths["platlib"]), True)
    found |= {path: True for path in sys.path if path.endswith(("site-packages", "dist-packages"))}
    found[os.path.dirname(os.path.dirname(__file__))] = False  # All of ztrace.
    return {f"{path}{os.sep}": found[path] for path in sorted(found, key=len, reverse=True)}
