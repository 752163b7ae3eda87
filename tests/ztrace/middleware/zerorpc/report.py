"""How a traced process stands: asked for after every scenario."""

import sys
from typing import Any

import ztrace
from ztrace import diagnostics


def report_state() -> dict[str, Any]:
    """Have everything stored that has ended; tell what failed, and what the middleware still holds.

    A service that is not traced has not even imported the middleware.
    """
    stored = ztrace.flush(10.0)
    middleware = sys.modules.get("ztrace.middleware.zerorpc.calls")
    return {
        "stored": stored,
        "failures": dict(diagnostics.counts),
        "open_calls": len(middleware.open_calls) if middleware else 0,
        "unread_streams": len(middleware.unread_streams) if middleware else 0,
    }
