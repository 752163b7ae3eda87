"""Things to serve, by ``MODULE[:NAME]``."""

import sys
import traceback
from functools import reduce
from importlib import import_module
from pathlib import Path

from ztrace.errors import SettingsError, quote


def load(target: str, folder: Path) -> object:
    """Import a module, or a thing in it, also from a folder.

    Args:
        target: ``MODULE`` or ``MODULE:NAME``, both with dots or without.
        folder: searched before all others.

    Raises:
        SettingsError: the module cannot be imported, or has no such name.
    """
    name, colon, path = target.partition(":")
    if not all(part.isidentifier() for part in name.split(".")) or (colon and not path):
        raise SettingsError(f"{quote(target)} is not MODULE or MODULE:NAME", hint="write shop or shop:Orders")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        module = import_module(name)
    except Exception as error:
        raise SettingsError(
            f"cannot import {quote(name)}: {type(error).__name__}: {error}{_tell_place(error, folder)}",
            hint=f"run this in the folder of {name}, or correct it",
        ) from error
    try:
        return reduce(getattr, path.split("."), module) if path else module
    except AttributeError as error:
        raise SettingsError(
            f"{name} has no {quote(path)}", hint="NAME is a class, object or mapping"
        ) from error


def _tell_place(error: Exception, folder: Path) -> str:
    """Return where in the program's own files an exception was raised, empty if it was raised elsewhere."""
    if isinstance(error, SyntaxError):
        return ""  # Its text has the place.
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(folder)
    ]
    return f" at {Path(own[-1].filename).relative_to(folder)}:{own[-1].lineno}" if own else ""
