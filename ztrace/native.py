"""Python's own threads and locks, also where gevent has put its own in their place.

A greenlet cannot send while the program computes, and a lock of gevent's cannot be shared with a real thread.
"""

import importlib
import sys
from typing import Any


def original(module: str, name: str) -> Any:
    """Return a module's function as Python made it."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(importlib.import_module(module), name)
