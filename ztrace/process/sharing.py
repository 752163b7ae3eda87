"""Threads that run several greenlets or tasks by turns.

One idea: the CPU time of such a thread is that of all of them, so it says nothing about any. The question is
put at each server span, so it costs a look-up for each package that is not imported.
"""

import sys


def shares_thread() -> bool:
    """Return whether the calling thread runs asyncio's tasks or greenlets."""
    get = sys.modules.get
    loops = get("_asyncio")
    if loops is not None and loops._get_running_loop() is not None:
        return True
    hubs = get("gevent._hub_local")
    if hubs is not None:
        return hubs.get_hub_if_exists() is not None
    greenlets = get("greenlet")
    return greenlets is not None and greenlets.getcurrent().parent is not None
